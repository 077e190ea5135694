"""Bursts of newcomers, dissenting validators, and Sybils whose histories are alike."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedjury import detection
from fedjury.detection import SUSPECT, Observation

NOTHING = np.zeros((0, 3), dtype=np.float32), np.zeros(3, dtype=np.float32)


def suspects(scores):
    return {name for name, score in scores.items() if score >= SUSPECT}


# Bursts


def joining(round_, **counts):
    """Make a round in which so many are online who joined before rounds 1, 7 and so on."""
    joined = {
        f"{since}-{i}": int(since[1:]) for since, count in counts.items() for i in range(count)
    }
    return Observation(round_, (), *NOTHING, joined, {})


def test_bursts_by_hand():
    """Six in one of ten rounds and nobody else: at a rate of 1/9, exp(-(6 ln 54 - 6 + 1/9))."""
    scores, _ = detection.build("burst")(joining(11, r1=50, r8=6), {})
    rarity = 6 * math.log(54) - 6 + 1 / 9
    assert scores["r8-0"] == pytest.approx(min(1, 0.5 * rarity / math.log(1e4)))
    assert scores["r1-0"] == 0


def test_those_who_come_one_by_one_are_not_suspected():
    """A trickle is no burst, nor is a fleet that starts; a crowd in the trickle is."""
    burst = detection.build("burst")
    trickle = {f"r{t}": 3 for t in range(2, 21)}
    assert not suspects(burst(joining(20, r1=900, **trickle), {})[0])
    scores, _ = burst(joining(20, r1=900, **trickle | {"r15": 30}), {})
    assert suspects(scores) == {f"r15-{i}" for i in range(30)}


def test_a_burst_is_forgiven_after_its_probation():
    """They may be a fleet that was switched on late: their updates will tell."""
    burst = detection.build("burst", probation=4)
    assert suspects(burst(joining(18, r1=9, r15=30), {})[0])
    assert not suspects(burst(joining(19, r1=9, r15=30), {})[0])


def test_four_are_no_crowd():
    """However rare, a few who join together are flagged of nothing."""
    assert not suspects(detection.build("burst")(joining(99, r1=9, r98=4), {})[0])


# Dissent


def ballot(round_, against, along, accepted=True):
    """Make a round in which these voted against the outcome, and those for it."""
    said = dict.fromkeys(against, accepted) | dict.fromkeys(along, not accepted)
    return Observation(round_, (), *NOTHING, dict.fromkeys([*against, *along], 1), said, accepted)


def judged(detector, ballots):
    memory, scores = {}, {}
    for seen in ballots:
        scores, memory = detector(seen, memory)
    return scores


def test_dissent_by_hand():
    """Each vote against counts ln(.9/.4) = .811, and ln 1000 = 6.91 is nine of them, not eight."""
    dissent = detection.build("dissent")
    ballots = [ballot(t, ["z"], "abcde", accepted=t % 2 == 0) for t in range(9)]
    scores = judged(dissent, ballots[:8])
    assert scores["z"] == pytest.approx(8 * math.log(0.9 / 0.4) / (2 * math.log(1000)))
    assert suspects(scores) == set()
    assert suspects(judged(dissent, ballots)) == {"z"}


def test_a_vote_along_takes_back_two_against():
    """ln(.1/.6) = -1.79: who contradicts two times of three is no liar by this test."""
    ballots = [ballot(t, *(("z", "abcde") if t % 3 else ("", "abcdez"))) for t in range(60)]
    assert judged(detection.build("dissent"), ballots)["z"] == 0


def test_who_errs_with_the_others_is_not_suspected():
    """Where most validators contradict what the loop decided, that says nothing of one of them."""
    ballots = [ballot(t, "abcdefghi", "z") for t in range(60)]
    assert not suspects(judged(detection.build("dissent"), ballots))


def test_no_vote_changes_nothing():
    """Without votes or an outcome the tally stays, and is still shown of those online."""
    dissent, memory = detection.build("dissent"), {}
    for t in range(9):
        before, memory = dissent(ballot(t, ["z"], "abcde"), memory)
    silent = ballot(9, ["z"], "abcde")._replace(votes={}, accepted=None)
    assert dissent(silent, memory)[0] == before
    undecided = ballot(9, ["z"], "abcde")._replace(accepted=None)
    assert dissent(undecided, memory)[0] == before


@pytest.mark.parametrize("shared", [False, True])
def test_liars_are_found_among_validators_who_often_err(shared):
    """Ten of 100 vote in a round, 40 % of the honest wrongly, alone or all in the same rounds.

    Twenty liars always contradict; after 400 rounds all of them and no honest one are flagged.
    """
    rng = np.random.default_rng(0)
    names = [f"{i:03d}" for i in range(100)]
    liars = set(names[:20])
    dissent, memory, ever, scores = detection.build("dissent"), {}, set(), {}
    for t in range(400):
        voters = [names[i] for i in rng.choice(100, 10, replace=False)]
        errs = rng.random(10) < (rng.choice([0.2, 0.6]) if shared else 0.4)
        against = [v for v, err in zip(voters, errs, strict=True) if err or v in liars]
        along = [v for v in voters if v not in against]
        seen = ballot(t, against, along)._replace(joined=dict.fromkeys(names, 1))
        scores, memory = dissent(seen, memory)
        ever |= suspects(scores)
    assert ever == liars


# Similar histories


def histories(count, noise):
    """Play rounds of twelve agents of whom the last two are of one master, with their own noise."""
    rng = np.random.default_rng(5)
    names, ends = tuple("abcdefghijkl"), rng.standard_normal((12, 200))
    ends[11] = ends[10]
    joined = dict.fromkeys(names, 1)
    for t in range(1, count + 1):
        updates = (ends + noise * rng.standard_normal(ends.shape)).astype(np.float32)
        yield Observation(t, names, updates, np.zeros(200, dtype=np.float32), joined, {})


def test_noise_that_hides_sybils_in_a_round_does_not_hide_them_for_long():
    """Of noise, a tenth of each update, a sum over many rounds keeps little."""
    similarity, memory, found = detection.build("similarity"), {}, []
    for seen in histories(20, 0.1):
        scores, memory = similarity(seen, memory)
        found.append(suspects(scores))
    assert found[0] == set()
    assert found[-1] == {"k", "l"}


def test_sybils_called_in_different_rounds_are_compared_all_the_same():
    """A sum is compared with those of all who are remembered."""
    [seen] = histories(1, 0)
    similarity = detection.build("similarity")
    first, second = [0, 1, 2, 3, 10], [4, 5, 6, 7, 11]
    memory = {}
    for t, some in enumerate([first, second], start=1):
        names = tuple(seen.names[i] for i in some)
        called = seen._replace(round=t, names=names, updates=seen.updates[some])
        scores, memory = similarity(called, memory)
    assert suspects(scores) == {"l"}
