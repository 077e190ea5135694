"""Group testing: bets are fair to honest agents, fakes are named soon, and honest ones are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedjury import detection
from fedjury.aggregator.advice import advice
from fedjury.config.section import SettingsError
from fedjury.config.settings import load
from fedjury.detection import SUSPECT, GroupVerdict, Observation
from fedjury.detection.group_testing import payoffs
from fedjury.detection.registry_arrays import from_arrays, to_arrays
from fedjury.detection.state import AgentRegistry, DetectionResult, group_verdicts
from fedjury.protocol.groups import Group, Groups

NOTHING = np.zeros((0, 1), np.float32), np.zeros(1, np.float32)

AGENTS = tuple(f"agent-{i:03d}" for i in range(100))
FAKES = frozenset(AGENTS[:5])
HONEST_DOWN, SPOILED_DOWN = 0.02, 0.9
"""How often a group without fakes is voted down, and how often one with any."""


def shown(round_, groups, names=AGENTS):
    """Make a round before which these groups were voted on: members -> whether voted down."""
    verdicts = tuple(GroupVerdict(tuple(members), down) for members, down in groups)
    return Observation(round_, (), *NOTHING, dict.fromkeys(names, 1), {}, groups=verdicts)


def drawn(there, size, rng):
    """Put agents into groups by lot."""
    places, count = rng.permutation(len(there)), max(1, len(there) // size)
    return [[there[i] for i in places[first::count]] for first in range(count)]


def history(seed, size=10, rounds=60, fakes=FAKES, striking=lambda _group: True, **options):
    """Play rounds with quarantine, until all fakes are named: agent -> after how many it was."""
    rng, named = np.random.default_rng(seed), {}
    detect, memory, there = detection.build("group_testing", **options), {}, list(AGENTS)
    for t in range(1, rounds + 1):
        groups = drawn(there, size, rng)
        rates = [
            SPOILED_DOWN if fakes.intersection(group) and striking(group) else HONEST_DOWN
            for group in groups
        ]
        down = rng.random(len(groups)) < rates
        if not any(down):  # says nothing: see below
            continue
        scores, memory = detect(shown(t + 1, zip(groups, down, strict=True)), memory)
        flagged = {name for name, score in scores.items() if score >= SUSPECT}
        named |= {name: t for name in sorted(flagged) if name not in named}
        there = [name for name in AGENTS if name not in flagged]
        if fakes and fakes <= set(named):
            break
    return named


# The bet


def test_a_first_round_by_hand():
    """Three pairs, one voted down, nobody known: it pays 2.764, and .118 to those in the others.

    A companion is malicious with .05, and 1/3 of places down means that fakes strike in half of the
    rounds at least: an honest group is down with .02 + .98 · .5 · .05 = .0445. The ratio is
    1 + .5 · .9555 / .0445 = 11.736 there and .5 elsewhere, its mean (11.736 + .5 + .5) / 3 = 4.245.
    """
    down = np.array([True, False, False])
    paid = payoffs(np.ones(6), np.array([0, 0, 1, 1, 2, 2]), down)
    assert paid == pytest.approx([2.7645, 2.7645, 0.11778, 0.11778, 0.11778, 0.11778], rel=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_a_bet_is_fair_wherever_the_lot_puts_an_agent(seed):
    """Over all places that agents above suspicion leave it, an agent's bet pays 1 in the mean.

    So it is for any, suspected or not, whoever else is suspected and whichever groups are down.
    """
    rng = np.random.default_rng(seed)
    stakes = np.exp(rng.normal(0, 2, 24))
    group, down = rng.permutation(24) % 6, rng.random(6) < 0.4
    for one in range(0, 24, 3):
        paid = []
        for other in {one, *np.flatnonzero(stakes <= 1).tolist()}:
            swapped = group.copy()
            swapped[[one, other]] = group[[other, one]]
            paid.append(payoffs(stakes, swapped, down)[one])
        assert np.mean(paid) == pytest.approx(1)


def test_an_uneven_bet_is_fair_to_one_that_is_in_groups_voted_down_more_often():
    """With ``uneven`` 2 an agent loses that is as others, and breaks even at twice the odds."""
    group, down = np.arange(12) // 2, np.array([True, True, False, False, False, False])
    paid = payoffs(np.ones(12), group, down, 2.0)
    assert paid.mean() < 1
    assert np.average(paid, weights=np.where(down[group], 2, 1)) == pytest.approx(1)


def test_companions_of_a_suspect_are_hardly_blamed():
    """Of two pairs voted down, one holds an agent under strong suspicion: its companion is spared.

    And the suspect is not cleared by that companion, who is above suspicion.
    """
    stakes = np.array([1000.0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    down = np.array([True, True, False, False, False])
    paid = payoffs(stakes, np.arange(10) // 2, down)
    assert paid[1] < 1.1
    assert min(paid[0], paid[2]) > 2


@pytest.mark.parametrize("down", [[False] * 10, [True] * 10])
def test_a_round_in_which_all_groups_have_the_same_verdict_says_nothing(down):
    """Neither agents nor what is remembered change: not by a broken judge, nor in calm rounds."""
    rng = np.random.default_rng(0)
    detect = detection.build("group_testing")
    groups = drawn(AGENTS, 10, rng)
    first = [i < 2 for i in range(10)]
    before, memory = detect(shown(1, zip(groups, first, strict=True)), {})
    after, kept = detect(shown(2, zip(drawn(AGENTS, 10, rng), down, strict=True)), memory)
    assert after == before
    assert all(np.array_equal(kept[key], memory[key]) for key in memory)


def test_who_strikes_late_is_found_too():
    """Honest for 100 rounds with false alarms, then in each group voted down: named in 30 more."""
    late = 101
    rng, detect, memory = np.random.default_rng(1), detection.build("group_testing"), {}
    for t in range(1, late + 31):
        groups = drawn(AGENTS, 10, rng)
        on = t >= late
        down = [
            bool(rng.random() < (SPOILED_DOWN if on and FAKES & {*g} else HONEST_DOWN))
            for g in groups
        ]
        scores, memory = detect(shown(t, zip(groups, down, strict=True)), memory)
    assert {name for name, score in scores.items() if score >= SUSPECT} == FAKES


def test_evidence_fades():
    """With a half-life of four rounds a score of .6 is half of it after four calm rounds."""
    detect, memory = detection.build("group_testing", half_life=4), {}
    for t in range(1, 8):
        groups = [(name, t % 8 and name == "z") for name in "abcdefghijz"]
        scores, memory = detect(shown(t, groups, tuple("abcdefghijz")), memory)
    first = scores["z"]
    assert first > 0.3
    for t in range(8, 12):
        scores, memory = detect(shown(t, [], tuple("abcdefghijz")), memory)
    assert scores["z"] == pytest.approx(first / 2)


def test_a_score_by_hand():
    """Ten agents on their own, one voted down: ln of what its stake is, by 2 ln(10 / .01)."""
    names = tuple("abcdefghij")
    seen = shown(1, [(name, name == "a") for name in names], names)
    scores, _ = detection.build("group_testing", uneven=1)(seen, {})
    [paid] = payoffs(np.ones(10), np.arange(10), np.arange(10) == 0)[:1]
    assert scores["a"] == pytest.approx(math.log(0.5 + 0.5 * paid) / (2 * math.log(1000)))
    assert scores["b"] == 0


# How soon, and how surely


@pytest.mark.parametrize(("size", "rounds"), [(5, 20), (10, 30)])
@pytest.mark.parametrize("seed", range(4))
def test_five_fakes_of_a_hundred_are_named(size, rounds, seed):
    """All five within 20 rounds in groups of five, and 30 in groups of ten; nobody else ever is."""
    named = history(seed, size, rounds)
    assert set(named) == FAKES


def test_honest_agents_are_named_no_more_often_than_stated():
    """Of 200 histories without fakes, at a chance of .05 and no allowance, at most 10 name anyone.

    They are 60 rounds long, in ten groups of which each is voted down with .02.
    """
    wrong = [seed for seed in range(200) if history(seed, fakes=frozenset(), chance=0.05, uneven=1)]
    assert len(wrong) <= 10


def test_fakes_that_foresee_their_companions_can_have_another_blamed():
    """Striking only beside one honest agent, which a secret draw prevents, names that agent."""
    victim = AGENTS[-1]
    assert victim in history(0, striking=lambda group: victim in group)


# What detectors are shown


def test_groups_without_a_verdict_are_not_shown():
    """Those nobody was asked about or too few voted on; unusable ones count as voted down."""
    groups = Groups(
        {
            "0": Group(("a",), poisoned=1, clean=2),
            "1": Group(("b", "c"), poisoned=3, why="voted down"),
            "2": Group(("d",), clean=1, silent=2, why="too few votes: 1 of 3 came, 2 are needed"),
            "3": Group(("e",), why="the candidate is not finite"),
            "4": Group(("f",)),
        }
    )
    seen = group_verdicts(groups)
    assert seen == (
        GroupVerdict(("a",), False),
        GroupVerdict(("b", "c"), True),
        GroupVerdict(("e",), True),
    )


def test_verdicts_survive_the_disk_and_are_shown_once():
    """Written and read again they are the same; a round without any shows none."""
    verdicts = GroupVerdict(("a", "b"), True), GroupVerdict(("c",), False)
    registry = DetectionResult(AgentRegistry()).after_votes({}, None, verdicts)
    assert from_arrays(to_arrays(registry)).groups == verdicts
    assert DetectionResult(registry).after_votes({}, None).groups == ()
    assert "groups" not in to_arrays(AgentRegistry())


# Settings

ON_GROUPS = {
    "detection.detectors": ["group_testing"],
    "validation.on": "groups",
    "groups.size": 5,
}


def test_it_is_refused_without_votes_on_groups():
    """The sentence names the setting that is missing."""
    with pytest.raises(SettingsError, match=r"validation\.on = 'candidate' must be groups or both"):
        load(overrides={"detection.detectors": ["group_testing"]})


@pytest.mark.parametrize(
    ("change", "told"),
    [({}, True), ({"groups.secret": True}, False), ({"groups.size": 1}, False)],
)
def test_people_are_told_where_agents_can_foresee_their_companions(change, told):
    """With a secret draw, or where nobody has companions, there is nothing to be said."""
    notes = advice(load(overrides=ON_GROUPS | change))
    assert any("groups.secret = true" in note for note in notes) == told
