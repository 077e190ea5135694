"""Groups of a round: how they are drawn, what a group's mean is, and what votes on them do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.by_hand import (
    accepted_models,
    changed,
    play,
    policy,
    published,
    records,
    start,
    updates,
    vector,
)

from fedjury.aggregator.rule import checked_rule
from fedjury.config.section import SettingsError
from fedjury.config.settings import load
from fedjury.learning.contributions import Contributions
from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import (
    BadMessage,
    Decline,
    GroupCandidate,
    GroupHistory,
    GroupVotes,
    History,
    Metrics,
    Phase,
    Reason,
    Round,
    Vote,
    turn_of,
)
from fedjury.protocol.record import read, to_json
from fedjury.protocol.topics import USUAL
from fedjury.randomness import Purpose, draw_groups, stream
from fedjury.round.effects import Clear, CountInvalid
from fedjury.round.machine import step
from fedjury.round.state import Tick

SIX = {"a": (1, 0), "b": (3, 0), "c": (2, 6), "d": (0, 0), "e": (4, 0), "f": (2, 0)}
"""Six updates whose mean is (2, 1)."""


def rng(round_=1, seed=0):
    return stream(seed, Purpose.GROUPS, round_)


def on_groups(on="groups", size=2, **how):
    """Make the policy of votes on groups of two: three validators, two of whom reject."""
    usual = {"validators": 3, "quorum": 2, "validation.on": on, "groups.size": size}
    return changed(policy(), **usual | how)


def judging(said, deltas=SIX):
    """Bring a run to the votes on the groups of round 1."""
    state, _ = start(said, online=deltas)
    return play(state, said, *updates(state, deltas), Tick(3.0, set(deltas)))


def votes(agent, poisoned=(), groups=(0, 1, 2), round_=1, attempt=1):
    """Make a validator's votes on these groups."""
    return GroupVotes.of(
        {
            group: Vote(
                agent, round_, attempt, group in poisoned, 2.0 * (group in poisoned), 1.0, 4
            )
            for group in groups
        }
    )


def refused(effects):
    return [effect.reason for effect in effects if isinstance(effect, CountInvalid)]


# Drawing


@given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 9))
def test_everybody_is_in_one_group_and_no_group_is_too_small(agents, size, round_):
    """As many groups as can hold ``size`` each; with fewer agents than that, one of all."""
    names = [f"agent-{i}" for i in range(agents)]
    groups = draw_groups(names, size, rng(round_))
    assert sorted(name for group in groups for name in group) == sorted(names)
    assert len(groups) == (max(1, agents // size) if size else 1)
    lengths = [len(group) for group in groups]
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= size or len(groups) == 1


def test_groups_are_drawn_anew_in_each_round_whatever_the_order_of_names():
    """Ten agents in pairs: the same for any order of the names, others in the next round."""
    names = [f"agent-{i}" for i in range(10)]
    assert draw_groups(names, 2, rng(1)) == draw_groups(names[::-1], 2, rng(1))
    assert draw_groups(names, 2, rng(1)) != draw_groups(names, 2, rng(2))


def test_a_groups_mean_by_hand():
    """Weights 1 and 3 of (0, 0) and (4, 8) make (3, 6), of weight 4; the absent add nothing."""
    rows = Contributions.of_agents(
        ("a", "b", "c"),
        np.array([[0, 0], [4, 8], [5, 5]], np.float32),
        np.array([1, 3, 2]),
    )
    made = rows.in_groups([("b", "a"), ("absent",), ("away", "c")])
    assert made.vectors.tolist() == [[3, 6], [5, 5]]
    assert made.weights.tolist() == [4, 2]
    assert [made.members(row) for row in range(len(made))] == [("a", "b"), ("c",)]


def test_members_without_weight_count_alike():
    """Two updates that say they come of no samples have their plain mean."""
    rows = Contributions.of_agents(("a", "b"), np.eye(2, dtype=np.float32), np.zeros(2, np.int64))
    assert rows.in_groups([("a", "b")]).vectors.tolist() == [[0.5, 0.5]]


def test_groups_without_votes_are_what_the_rule_gets():
    """One group of all six is their mean; its members and the verdict are in the record."""
    said = changed(policy(), **{"groups.size": 0})
    _, effects = judging(said)
    (record,) = records(effects)
    assert record.accepted
    assert record.groups.groups["0"].members == tuple("abcdef")
    assert accepted_models(effects)[0].weights.tolist() == [2, 1]


def test_equal_groups_have_the_mean_of_all_agents():
    """Three pairs of six: the mean of their means is the mean of all."""
    _, effects = judging(changed(policy(), **{"groups.size": 2}))
    assert accepted_models(effects)[0].weights.tolist() == pytest.approx([2, 1])


def test_a_secret_key_draws_other_groups_than_the_seed():
    """Nobody who knows the seed, and not the key, can tell who is with whom."""

    def members(said):
        (record,) = records(judging(said)[1])
        return [group.members for group in record.groups.groups.values()]

    seed = changed(policy(), **{"groups.size": 2})
    drawn = [members(replace(seed, group_key=key)) for key in (b"", b"one", b"two", b"one")]
    assert drawn[1] == drawn[3]
    assert len({str(groups) for groups in drawn}) == 3


# Votes on groups


def test_each_groups_candidate_is_put_before_the_validators():
    """Three pairs: what (0, 0) becomes by the mean of each, then the vote on three groups opens."""
    said = on_groups()
    state, effects = judging(said)
    candidates = published(effects, GroupCandidate)
    assert [c.group for c in candidates] == [0, 1, 2]
    groups = draw_groups(SIX, 2, rng())
    for candidate, group in zip(candidates, groups, strict=True):
        assert candidate.weights.tolist() == np.mean([SIX[name] for name in group], axis=0).tolist()
    (opened,) = published(effects, Round)
    assert (opened.phase, opened.groups, opened.each) == (Phase.VALIDATE_GROUPS, 3, 0)
    assert state.deadline == 8.0


def test_a_group_voted_down_is_left_out_and_the_round_is_kept():
    """Two of three reject group 1: the model is the mean of the other two groups, four agents."""
    said = on_groups()
    state, _ = judging(said)
    who = state.validators
    ballots = [votes(who[0], {1}), votes(who[1], {1, 2}), votes(who[2])]
    _, effects = play(state, said, *ballots, Tick(4.0, set(SIX)))
    (record,) = records(effects)
    assert record.accepted
    assert record.groups.left_out == ("1",)
    assert [group.poisoned for group in record.groups.groups.values()] == [0, 2, 1]
    assert record.groups.voters[who[1]].poisoned == (1, 2)
    kept = [name for i, group in enumerate(draw_groups(SIX, 2, rng())) if i != 1 for name in group]
    mean = np.mean([SIX[name] for name in kept], axis=0)
    assert accepted_models(effects)[0].weights.tolist() == pytest.approx(mean.tolist())
    cleared = [
        e.message.group for e in effects if isinstance(e, Clear) and hasattr(e.message, "group")
    ]
    assert cleared == [0, 1, 2]


def test_with_both_the_rest_is_put_before_the_validators_once_more():
    """Group 0 goes, then the candidate of the others is voted on; both votes are in the record."""
    said = on_groups("both")
    state, _ = judging(said)
    who = state.validators
    state, effects = play(
        state, said, votes(who[0], {0}), votes(who[1], {0}), votes(who[2]), Tick(4.0, set(SIX))
    )
    (opened,) = published(effects, Round)
    assert (opened.phase, opened.groups, state.validators) == (Phase.VALIDATE, 0, who)
    ballots = [Vote(name, 1, 1, True, 2.0, 1.0, 4) for name in who]
    _, effects = play(state, said, *ballots, Tick(5.0, set(SIX)))
    (record,) = records(effects)
    assert (record.accepted, record.why) == (False, "voted down")
    assert (record.groups.left_out, record.votes.poisoned) == (("0",), 3)


def test_a_round_whose_groups_are_all_voted_down_is_rejected():
    """No group is left: the model stays, and the record says why."""
    said = on_groups()
    state, _ = judging(said)
    ballots = [votes(name, {0, 1, 2}) for name in state.validators]
    state, effects = play(state, said, *ballots, Tick(4.0, set(SIX)))
    (record,) = records(effects)
    assert (record.accepted, record.why) == (False, "no group is left: voted down")
    assert (state.round, state.version) == (2, 0)


def test_silence_is_no_consent_to_any_group():
    """One vote of three is too few for each group: others are asked once, then all groups go."""
    said = on_groups()
    state, _ = judging(said)
    first, *silent = state.validators
    state, effects = play(state, said, votes(first), Tick(8.0, set(SIX)))
    (again,) = published(effects, Round)
    assert again.validators[0] == first
    assert not {*silent} & {*again.validators}
    state, effects = play(state, said, Tick(13.0, set(SIX)))
    (record,) = records(effects)
    assert record.why == "no group is left: too few votes: 1 of 3 came, 2 are needed"
    assert [group.silent for group in record.groups.groups.values()] == [2, 2, 2]


def test_validators_take_turns_at_groups():
    """Three validators with two of three groups each: each group is judged by two of them."""
    assert [turn_of(place, 3, 2) for place in range(3)] == [(0, 1), (0, 2), (1, 2)]
    assert turn_of(5, 3, 0) == turn_of(5, 3, 4) == (0, 1, 2)
    said = on_groups(**{"validation.groups_each": 2, "quorum": 1})
    state, effects = judging(said)
    assert published(effects, Round)[0].each == 2
    turns = zip(state.validators, [(0, 1), (0, 2), (1, 2)], strict=True)
    ballots = [votes(name, {2}, groups=groups) for name, groups in turns]
    _, effects = play(state, said, *ballots, Tick(4.0, set(SIX)))
    groups = records(effects)[0].groups.groups
    assert [(g.poisoned, g.clean, g.silent) for g in groups.values()] == [
        (0, 2, 0),
        (0, 2, 0),
        (2, 0, 0),
    ]


def test_votes_that_were_not_asked_for_are_refused_by_reason():
    """Other groups than one's own, too many, twice, of a stranger, of another attempt."""
    said = on_groups(**{"validation.groups_each": 2})
    state, _ = judging(said)
    one, other, _ = state.validators
    stranger = next(name for name in SIX if name not in state.validators)
    for ballot, reason in (
        (votes(one, groups=(0, 2)), Reason.WRONG_GROUPS),
        (votes(one, groups=(0,)), Reason.WRONG_GROUPS),
        (votes(one, groups=(0, 1, 2)), Reason.WRONG_GROUPS),
        (votes(one, groups=(0, 7)), Reason.WRONG_GROUPS),
        (votes(stranger, groups=(0, 1)), Reason.NOT_SELECTED),
        (votes(one, groups=(0, 1), attempt=2), Reason.WRONG_ROUND),
        (votes(one, groups=(0, 1), round_=2), Reason.WRONG_ROUND),
    ):
        after, effects = step(state, ballot, said)
        assert refused(effects) == [reason]
        assert after.phase == state.phase
    state, _ = step(state, votes(one, groups=(0, 1)), said)
    assert refused(step(state, votes(one, groups=(0, 1)), said)[1]) == [Reason.DUPLICATE]
    for early in (Vote(other, 1, 1, False, 0.0, 1.0, 4), Metrics(other, 1, 1, 4, {})):
        assert refused(step(state, early, said)[1]) == [Reason.WRONG_PHASE]


def test_votes_on_groups_outside_their_phase_are_refused():
    """While agents train, or where nobody votes on groups, such a message is counted as invalid."""
    said = on_groups()
    state, _ = start(said, online=SIX)
    assert refused(step(state, votes("a"), said)[1]) == [Reason.WRONG_PHASE]


def test_who_declines_to_judge_groups_is_not_waited_for():
    """Two vote and one declines: the groups are decided before the deadline."""
    said = on_groups()
    state, _ = judging(said)
    one, two, three = state.validators
    _, effects = play(
        state, said, votes(one), votes(two), Decline(three, 1, 1), Tick(3.5, set(SIX))
    )
    assert records(effects)[0].accepted


def test_a_group_whose_members_all_left_has_no_candidate():
    """Two of six never answer; if they are a group, two groups are judged, else one is smaller."""
    said = on_groups()
    group = draw_groups(SIX, 2, rng())[0]
    there = {name: delta for name, delta in SIX.items() if name not in group}
    state, _ = start(said, online=SIX)
    state, effects = play(state, said, *updates(state, there), Tick(11.0, set(SIX)))
    assert [c.group for c in published(effects, GroupCandidate)] == [0, 1]
    ballots = [votes(name, groups=(0, 1)) for name in state.validators]
    record = records(play(state, said, *ballots, Tick(12.0, set(SIX)))[1])[0]
    assert sorted(n for g in record.groups.groups.values() for n in g.members) == sorted(there)


def test_a_group_whose_candidate_is_not_finite_is_left_out_without_a_vote():
    """The largest float32 twice added to a model of the same: infinity, which nobody judges."""
    most = float(np.finfo(np.float32).max)
    said = on_groups(size=1)
    state, _ = start(said, online="abc")
    state = state.but(model=replace(state.model, weights=vector(most, 0)))
    deltas = {"a": (most, 0), "b": (0, 0), "c": (0, 0)}
    state, effects = play(state, said, *updates(state, deltas), Tick(3.0, set("abc")))
    assert len(published(effects, GroupCandidate)) == 2
    ballots = [votes(name, groups=(0, 1)) for name in state.validators]
    record = records(play(state, said, *ballots, Tick(4.0, set("abc")))[1])[0]
    assert record.groups.groups["2"].why == "the candidate is not finite"
    assert record.groups.groups["2"].members == ("a",)


def test_one_group_of_each_accepted_model_is_remembered():
    """Groups' history is of groups: one kept candidate a version, and none of whole models."""
    said = on_groups()
    state, effects = judging(said)
    candidates = {tuple(c.weights.tolist()) for c in published(effects, GroupCandidate)}
    ballots = [votes(name, {0}) for name in state.validators]
    left_out = tuple(published(effects, GroupCandidate)[0].weights.tolist())
    _, effects = play(state, said, *ballots, Tick(4.0, set(SIX)))
    (kept,) = published(effects, GroupHistory)
    assert tuple(kept.weights.tolist()) in candidates - {left_out}
    assert published(effects, History) == []


# On the wire and in files


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("groups", b"\1\0\0\0\0\0\0\0", Reason.OUT_OF_RANGE),
        ("groups", b"\1\0\0\0\1\0\0\0", Reason.OUT_OF_RANGE),
        ("groups", b"\1\0\0", Reason.OUT_OF_RANGE),
        ("groups", b"", Reason.OUT_OF_RANGE),
        ("groups", b"\0\0\0\0", Reason.WRONG_LENGTH),
        ("poisoned", b"\0\2", Reason.OUT_OF_RANGE),
        ("poisoned", b"\0", Reason.WRONG_LENGTH),
        ("scores", np.array([np.nan, 0], "<f4").tobytes(), Reason.NOT_FINITE),
        ("thresholds", np.array([np.inf, 0], "<f4").tobytes(), Reason.NOT_FINITE),
        ("scores", bytes(12), Reason.WRONG_LENGTH),
    ],
)
def test_votes_on_groups_that_cannot_be_are_refused(key, value, reason):
    """Repeats, disorder, NaN, half numbers and lengths that do not fit are told apart."""
    ballot = replace(votes("a", groups=(0, 1)), **{key: value})
    payload = codec.encode(ballot)
    with pytest.raises(BadMessage) as why:
        codec.decode(USUAL.of("run", ballot), payload, Limits())
    assert why.value.reason is reason


def test_votes_on_groups_travel_whole():
    """What one validator says of three groups is read as it was written, with its price."""
    ballot = replace(votes("a", {1}), size=500, cpu=120)
    assert codec.decode(USUAL.of("run", ballot), codec.encode(ballot), Limits()) == ballot
    said = ballot.votes()
    assert [vote.poisoned for vote in said.values()] == [False, True, False]
    assert said[1].score == 2.0


def test_a_record_with_groups_is_read_as_it_was_written():
    """Members, votes, reasons and prices of groups come back, with their numbers."""
    said = on_groups()
    state, _ = judging(said)
    ballots = [replace(votes(name, {1}), size=9, cpu=7) for name in state.validators]
    (record,) = records(play(state, said, *ballots, Tick(4.0, set(SIX)))[1])
    assert read(to_json(record)).groups == record.groups
    assert record.groups.cost == (9, 7)
    assert str(record.groups) == "1 of 3 groups left out (1)"
    assert record.short().groups.groups == {}


# What cannot be is refused at start


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"validation.on": "groups", "validation.piggy_back": True}, "validation.piggy_back"),
        ({"validation.on": "groups", "validation.decide": "pooled"}, "validation.decide"),
        ({"validation.on": "both", "validation.validators": 0}, "validation.validators"),
        ({"validation.on": "groups", "groups.size": 0}, "one group of all is the candidate"),
        ({"groups.size": 5, "validation.piggy_back": True}, "groups.size"),
        ({"groups.size": 21, "agents.n": 20}, "0 to the agents that a round calls (20)"),
        ({"groups.size": 11, "agents.n": 20, "sampling.client_fraction": 0.5}, "calls (10)"),
    ],
)
def test_what_cannot_be_had_of_groups_is_refused(given, words):
    """Piggy-back, pooled counts, nobody to vote, one group of all, more than are called."""
    with pytest.raises(SettingsError, match=words.replace("(", r"\(").replace(")", r"\)")):
        load(overrides=given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"aggregation.rule": "foolsgold", "groups.size": 4}, "no update stands alone in groups"),
        ({"aggregation.rule": "median", "groups.size": 0}, "'median' compares updates"),
        (
            {"aggregation.rule": "fedavgm", "aggregation.options": {"base": "median"}},
            "'fedavgm' compares updates",
        ),
        ({"aggregation.pre_aggregation": {"nnm": 3}, "groups.size": 0}, "'nnm' compares updates"),
        (
            {"aggregation.rule": "krum", "aggregation.options": {"count": 1}, "groups.size": 5},
            "at least 5 updates",
        ),
        (
            {"agents.n": 20_002, "groups.size": 2, "validation.on": "groups"},
            "10,001 groups are more than can be voted on",
        ),
    ],
)
def test_a_rule_that_cannot_work_with_groups_is_refused(given, words):
    """One that knows single agents, one that compares what is alone, one for more rows."""
    usual = {"agents.n": 20, "aggregation.rule": "mean", "groups.size": 0}
    settings = load(overrides=usual | given)
    with pytest.raises(ValueError, match=words):
        checked_rule(settings)


@pytest.mark.parametrize("rule", ["mean", "fedavgm", "fedadam"])
def test_rules_that_need_only_the_sum_take_one_group_of_all(rule):
    """They say so, and work with one row."""
    checked_rule(load(overrides={"agents.n": 20, "aggregation.rule": rule, "groups.size": 0}))
