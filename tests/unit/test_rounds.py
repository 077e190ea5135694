"""The round: hand-made events in, lists of effects out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.by_hand import (
    DELTAS,
    accepted_models,
    all_but_the_count,
    changed,
    plain,
    play,
    policy,
    published,
    records,
    start,
    updates,
    validating,
    vector,
    vote,
)

from fedjury import rules
from fedjury.config.sections import Validation
from fedjury.detection.state import DetectionPolicy
from fedjury.protocol.harm import Harm
from fedjury.protocol.logs import RoundRepeated
from fedjury.protocol.messages import (
    Candidate,
    Decline,
    History,
    Metrics,
    Model,
    Phase,
    Reason,
    Round,
    RoundLog,
    Update,
)
from fedjury.protocol.record import Ballot, Figures, Quality, RoundRecord, Timing, Traffic
from fedjury.randomness import Purpose, draw
from fedjury.round import machine
from fedjury.round.effects import Clear, CountInvalid, Persist, Publish
from fedjury.round.machine import step
from fedjury.round.state import GlobalModel, InvalidMessage, State, Tick

# The way through a round


def test_the_first_tick_opens_the_first_round():
    """Before it there is no phase; with it everyone online is called and told so."""
    state, effects = start(policy(), online="cab")
    assert (state.round, state.attempt, state.phase.name) == (1, 1, Phase.TRAIN)
    assert state.selected == {"a", "b", "c"}
    assert effects == [Publish(Round(1, 1, Phase.TRAIN, 0, "all", (), 10))]


def test_an_update_has_no_effect_but_being_kept():
    """Nobody is told of an update, and nothing is done before the next tick."""
    state, _ = start(policy())
    first, *_ = updates(state)
    state, effects = step(state, first, policy())
    assert effects == []
    assert list(state.updates) == ["a"]
    assert step(state, Tick(9.9, set("abc")), policy()) == (state, [])


def test_a_round_without_validators_by_hand():
    """(0, 0) plus the mean (2, 2) is version 1; it is durable first, then told, then round 2."""
    said = policy()
    state, _ = start(said, now=100.0)
    state, effects = play(state, said, *updates(state), Tick(102.0, set("abc"), 900, 60))
    record = RoundRecord(
        round=1,
        run="fedjury",
        version=1,
        accepted=True,
        judged=1,
        selected=3,
        updates=3,
        model=Quality(2.0),
        candidate=Quality(2.0),
        harm=Harm(None, 2.0, 0.0),
        traffic=Traffic({}, 900, 60, 0),
        timing=Timing(2.0, 1.5, 0.0),
    )
    model = Model(1, vector(2, 2))
    assert plain(effects) == plain(
        [
            Persist(record, model),
            Publish(model),
            Publish(RoundLog(record)),
            Publish(Round(2, 1, Phase.TRAIN, 1, "all", (), 10)),
        ]
    )
    assert (state.round, state.version, state.phase.name, len(state.updates)) == (
        2,
        1,
        Phase.TRAIN,
        0,
    )


def test_a_candidate_is_put_before_the_validators():
    """With validators the mean is published as a candidate on version 0, then the vote opens."""
    state, effects = validating(policy(validators=3))
    assert plain(effects) == plain(
        [
            Publish(Candidate(1, 1, 0, vector(2, 2))),
            Publish(Round(1, 1, Phase.VALIDATE, 0, "all", ("a", "b", "c"), 5)),
        ]
    )
    assert (state.phase.name, state.deadline) == (Phase.VALIDATE, 8.0)


def test_an_accepted_candidate_by_hand():
    """One "poisoned" of three is below the quorum of two: persist, model, history, clear, next."""
    said = policy(validators=3)
    state, _ = validating(said)
    ballots = [vote("c"), vote("a", poisoned=True), vote("b")]
    state, effects = play(state, said, *ballots, Tick(4.0, set("abc")))
    (record,) = records(effects)
    model = Model(1, vector(2, 2))
    assert plain(effects) == plain(
        [
            Persist(record, model),
            Publish(model),
            Publish(History(1, vector(2, 2))),
            Clear(Candidate(1, 1, 0, vector(2, 2))),
            Publish(RoundLog(record)),
            Publish(Round(2, 1, Phase.TRAIN, 1, "all", ("a", "b", "c"), 10)),
        ]
    )
    assert record.votes.counts == (1, 2, 0)
    assert record.accepted
    said = Ballot(poisoned=False, score=1.5, threshold=1.25, size=300)
    assert list(record.votes.voters.items()) == [
        ("a", replace(said, poisoned=True)),
        ("b", said),
        ("c", said),
    ]
    assert (record.judged, record.votes.pooled) == (1, None)


def test_a_rejected_candidate_by_hand():
    """The quorum keeps version and weights, sends no model and clears the candidate."""
    said = policy(validators=3)
    state, _ = validating(said)
    ballots = [vote("b", poisoned=True), vote("a", poisoned=True), vote("c")]
    state, effects = play(state, said, *ballots, Tick(4.0, set("abc")))
    (record,) = records(effects)
    assert plain(effects) == plain(
        [
            Persist(record, None),
            Clear(Candidate(1, 1, 0, vector(0, 0))),
            Publish(RoundLog(record)),
            Publish(Round(2, 1, Phase.TRAIN, 0, "all", ("a", "b", "c"), 10)),
        ]
    )
    assert (record.accepted, record.why, record.version) == (False, "voted down", 0)
    assert (record.model.accuracy, record.candidate.accuracy) == (None, 2.0)
    assert (state.version, state.weights.tolist()) == (0, [0, 0])


def test_the_last_round_ends_the_run():
    """After the last round the agents are told that it is done, and later events do nothing."""
    said = policy(rounds=1)
    state, _ = start(said)
    late = updates(state)[0]
    state, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    assert effects[-1] == Publish(Round(1, 1, Phase.DONE, 1, "all", (), 10))
    assert (state.phase.name, state.failure) == (Phase.DONE, "")
    assert step(state, Tick(1e9, set("abc")), said) == (state, [])
    assert step(state, late, said)[1] == [CountInvalid("a", Reason.WRONG_PHASE, {"wrong_phase": 1})]


@pytest.mark.parametrize(
    ("votes", "min_votes", "why"),
    [
        ({}, 0, "too few votes: 0 of 3 came, 2 are needed"),
        ({"a": False}, 0, "too few votes: 1 of 3 came, 2 are needed"),
        ({"a": True}, 0, "too few votes: 1 of 3 came, 2 are needed"),
        ({"a": False}, 1, ""),
        ({"a": False, "b": True}, 0, ""),
        ({"a": False, "b": True}, 3, "too few votes: 2 of 3 came, 3 are needed"),
        ({"a": True, "b": True}, 3, "voted down"),
    ],
)
def test_silence_is_no_consent(votes, min_votes, why):
    """At the deadline, and not before, most of those asked must have voted, or as many as is set.

    Enough "poisoned" votes reject a candidate however few have come.
    """
    said = policy(validators=3, min_votes=min_votes)
    state, _ = validating(said)
    state, _ = play(state, said, *(vote(a, poisoned=bad) for a, bad in votes.items()))
    assert step(state, Tick(7.9, set("abc")), said) == (state, [])
    state, effects = step(state, Tick(8.0, set("abc")), said)  # there is nobody else to ask
    (record,) = records(effects)
    assert (record.why, record.accepted, state.version) == (why, not why, int(not why))
    bad = sum(votes.values())
    assert record.votes.counts == (bad, len(votes) - bad, 3 - len(votes))


def test_others_are_asked_once_in_place_of_the_silent():
    """Of three asked one votes; two others are asked, who count, and the late ones do not."""
    said = policy(validators=3)
    state, _ = validating(said, "abcdef")
    first, *silent = state.validators
    state, _ = step(state, vote(first), said)
    state, effects = step(state, Tick(8.0, set("abcdef")), said)
    (told,) = effects
    assert (told.message.phase, told.message.attempt) == (Phase.VALIDATE, 1)
    others = sorted(set(told.message.validators) - {first})
    assert len(others) == 2
    assert not {*silent} & {*others}
    assert state.deadline == 13.0
    state, effects = step(state, vote(silent[0], poisoned=True), said)
    assert effects == [CountInvalid(silent[0], Reason.NOT_SELECTED, {"not_selected": 1})]
    state, effects = play(state, said, *map(vote, others), Tick(9.0, set("abcdef")))
    (record,) = records(effects)
    assert (record.accepted, record.votes.replaced) == (True, tuple(silent))
    assert record.votes.counts == (0, 3, 0)


def test_others_are_asked_only_once():
    """Nobody says anything, twice: the candidate is rejected, and the next round opens."""
    said = policy(validators=3)
    state, _ = validating(said, "abcdef")
    state, effects = step(state, Tick(8.0, set("abcdef")), said)
    assert not records(effects)
    state, effects = step(state, Tick(13.0, set("abcdef")), said)
    (record,) = records(effects)
    assert record.why == "too few votes: 0 of 3 came, 2 are needed"
    assert record.votes.counts == (0, 0, 3)
    assert (state.round, state.version) == (2, 0)


@pytest.mark.parametrize(("asked", "quorum"), [(1, 1), (2, 1), (3, 2), (10, 5), (11, 6), (40, 20)])
def test_half_of_those_asked_reject_unless_a_quorum_is_set(asked, quorum):
    """With q = 0, ten validators reject with five votes, BAFFLE's own number, and eleven with six.

    A quorum of more than there are to ask, where few are online, is all of them.
    """
    assert Validation(validators=0).rejects(asked) == quorum
    assert Validation(quorum=7).rejects(asked) == min(7, asked)


# Messages that do not fit


def test_updates_that_do_not_fit():
    """Each reason is counted and told; nothing else of the state changes."""
    said = policy(validators=3)
    before, _ = start(said)
    collecting, _ = step(before, updates(before)[0], said)
    voting, _ = validating(said)
    fresh = State(GlobalModel(0, vector(0, 0)), 0)
    fitting = Update("b", 1, 0, 4, vector(9, 9))
    cases = [
        (fresh, fitting, Reason.WRONG_PHASE),
        (voting, fitting, Reason.WRONG_PHASE),
        (collecting, replace(fitting, round=0), Reason.WRONG_ROUND),
        (collecting, replace(fitting, round=2), Reason.WRONG_ROUND),
        (collecting, replace(fitting, version=1), Reason.WRONG_VERSION),
        (collecting, replace(fitting, agent="z"), Reason.NOT_SELECTED),
        (collecting, replace(fitting, agent="a"), Reason.DUPLICATE),
        (collecting, InvalidMessage("b", Reason.NOT_FINITE), Reason.NOT_FINITE),
        (collecting, InvalidMessage("", Reason.UNKNOWN_TOPIC), Reason.UNKNOWN_TOPIC),
    ]
    for state, event, reason in cases:
        after, effects = step(state, event, said)
        assert effects == [CountInvalid(event.agent, reason, {reason.value: 1})]
        assert after.invalid == {reason.value: 1}
        assert all_but_the_count(after) == all_but_the_count(state)


def test_votes_that_do_not_fit():
    """A vote counts in its phase, round and attempt only, from those asked, and once."""
    said = policy(validators=3)
    training, _ = start(said)
    voting, _ = validating(said)
    voting, _ = step(voting, vote("a"), said)
    cases = [
        (training, vote("b"), Reason.WRONG_PHASE),
        (voting, vote("b", round_=2), Reason.WRONG_ROUND),
        (voting, vote("b", attempt=2), Reason.WRONG_ROUND),
        (voting, vote("z", poisoned=True), Reason.NOT_SELECTED),
        (voting, vote("a", poisoned=True), Reason.DUPLICATE),
    ]
    for state, event, reason in cases:
        after, effects = step(state, event, said)
        assert effects == [CountInvalid(event.agent, reason, {reason.value: 1})]
        assert all_but_the_count(after) == all_but_the_count(state)


def test_only_some_contributors_may_vote():
    """An agent that is called to train but not drawn as a validator has no vote."""
    said = policy(validators=1)
    state, _ = validating(said)
    (drawn,) = state.validators
    (other, *_) = sorted(set("abc") - {drawn})
    state, effects = step(state, vote(other, poisoned=True), said)
    assert effects == [CountInvalid(other, Reason.NOT_SELECTED, {"not_selected": 1})]
    state, _ = play(state, said, vote(drawn), Tick(3.1, set("abc")))
    assert state.version == 1


def test_counts_add_up_and_end_with_the_round():
    """Refusals are counted per reason into the round's record; the next round counts again."""
    said = policy()
    state, _ = start(said)
    doubled = [message for message in updates(state) for _ in range(3)]
    state, effects = play(
        state, said, InvalidMessage("a", Reason.MALFORMED), *doubled, Tick(1.0, "abc")
    )
    assert [e.invalid for e in effects if isinstance(e, CountInvalid)][-1] == {
        "malformed": 1,
        "duplicate": 6,
    }
    assert records(effects)[0].traffic.invalid_messages == {"malformed": 1, "duplicate": 6}
    assert state.invalid == {}


def test_what_was_refused_before_the_first_round_is_in_its_record():
    """Messages that come while agents gather are not forgotten."""
    said = policy()
    state, _ = step(
        State(GlobalModel(0, vector(0, 0)), 0), InvalidMessage("a", Reason.MALFORMED), said
    )
    state, _ = step(state, Tick(0.0, set("abc")), said)
    _, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    assert records(effects)[0].traffic.invalid_messages == {"malformed": 1}


def test_the_first_message_wins():
    """A second update of an agent is a duplicate and does not replace the first."""
    said = policy()
    state, _ = start(said)
    again = Update("a", 1, 0, 4, vector(1e6, 1e6))
    state, _ = play(state, said, updates(state)[0], again, *updates(state)[1:], Tick(1.0, "abc"))
    assert state.weights.tolist() == [2, 2]


def test_the_first_vote_wins():
    """Who has called a candidate clean cannot turn round."""
    said = policy(validators=3, quorum=1)
    state, _ = validating(said)
    ballots = [vote("a"), vote("a", poisoned=True), vote("b"), vote("c")]
    state, effects = play(state, said, *ballots, Tick(3.1, set("abc")))
    assert state.version == 1
    assert records(effects)[0].traffic.invalid_messages == {"duplicate": 1}


# When a round closes


def test_a_threshold_closes_early():
    """With threshold 2, two updates of three are enough: (1 + 3) / 2 = 2 and 0."""
    said = policy(threshold=2)
    state, _ = start(said)
    a, b, c = updates(state)
    state, effects = play(state, said, a, Tick(0.1, "abc"), b)
    assert effects == []
    state, effects = step(state, Tick(0.2, "abc"), said)
    assert (state.round, state.weights.tolist()) == (2, [2, 0])
    assert records(effects)[0].missing == 1
    assert step(state, c, said)[1] == [CountInvalid("c", Reason.WRONG_ROUND, {"wrong_round": 1})]


def test_a_threshold_above_the_number_of_agents_waits_for_all():
    """A threshold that can never be reached does not hold the round up."""
    said = policy(threshold=100)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(0.1, "abc"))
    assert state.version == 1


def test_the_deadline_closes_with_enough():
    """At the deadline at_least updates will do; before it they will not."""
    said = policy(min_updates=2)
    state, _ = start(said)
    state, effects = play(state, said, *updates(state)[:2], Tick(9.9, "abc"))
    assert effects == []
    state, effects = step(state, Tick(10.0, "abc"), said)
    assert state.weights.tolist() == [2, 0]
    assert (records(effects)[0].updates, records(effects)[0].missing) == (2, 1)


def test_too_few_updates_repeat_the_round():
    """One update of two needed: the same round opens again as attempt 2, and says why."""
    said = policy(min_updates=2)
    state, _ = start(said)
    state, effects = play(state, said, updates(state)[0], Tick(10.0, set("ab")))
    why = "1 of 3 selected agents sent a valid update, 2 needed"
    assert effects == [
        Publish(RoundLog(RoundRepeated(1, 2, why))),
        Publish(Round(1, 2, Phase.TRAIN, 0, "all", (), 10)),
    ]
    assert (list(state.updates), state.deadline, state.selected) == ([], 20.0, {"a", "b"})


def test_a_repeated_round_goes_on_as_any_other():
    """Updates do not name the attempt, so that they need not be made again; the record does."""
    said = policy(min_updates=2, validators=1, quorum=1)
    state, _ = start(said)
    state, _ = play(state, said, InvalidMessage("a", Reason.MALFORMED), Tick(10.0, set("abc")))
    state, effects = play(state, said, *updates(state), Tick(12.0, set("abc")))
    assert published(effects, Candidate)[0].attempt == 2
    (drawn,) = state.validators
    state, effects = play(state, said, vote(drawn, attempt=2), Tick(14.0, set("abc")))
    (record,) = records(effects)
    assert (record.attempt, record.timing.seconds, record.traffic.invalid_messages) == (
        2,
        14.0,
        {"malformed": 1},
    )
    assert (state.round, state.attempt) == (2, 1)


def test_a_run_is_given_up_after_its_attempts():
    """The third deadline of three without updates ends the run with a word why."""
    said = policy(attempts=3)
    state, _ = start(said)
    state, effects = play(state, said, *(Tick(now, set("abc")) for now in (10.0, 20.0, 30.0)))
    assert [m.attempt for m in published(effects, Round)] == [2, 3, 3]
    assert effects[-1] == Publish(Round(1, 3, Phase.DONE, 0, "all", (), 10))
    assert state.failure == (
        "round 1 was given up after 3 attempts: 0 of 3 selected agents sent a valid update, "
        "1 needed"
    )
    assert not records(effects)


def test_a_round_whose_updates_are_all_refused_is_lost_not_repeated():
    """All three answer, and none with what counts: asked again they would send the same."""
    said = policy()
    state, _ = start(said)
    refused = [InvalidMessage(name, Reason.NOT_FINITE, update=True) for name in "abc"]
    state, _ = play(state, said, *refused, Tick(1.0, set("abc")))
    state, effects = step(state, Tick(3.0, set("abc")), said)
    (record,) = records(effects)
    assert (record.accepted, record.attempt, record.updates) == (False, 1, 0)
    assert record.why == (
        "0 of 3 selected agents sent a valid update, 1 needed; invalid: 3 not finite"
    )
    assert (state.round, state.attempt, state.version) == (2, 1, 0)


def test_a_rule_that_cannot_work_with_complete_updates_loses_the_round():
    """All say they hold no samples, and a mean weighted by them has nothing to divide by."""
    said = policy(rule=rules.build("mean", weighted=True))
    state, _ = start(said)
    none = [replace(update, samples=0) for update in updates(state)]
    state, effects = play(state, said, *none, Tick(3.0, set("abc")))
    (record,) = records(effects)
    assert (record.accepted, record.why) == (False, "the samples of 3 updates add up to 0")
    assert (state.round, state.version, state.failure) == (2, 0, "")


def test_nobody_online_is_not_a_round():
    """With no agents there is nothing to aggregate, and the round is tried again."""
    said = policy()
    state, _ = start(said, online="")
    state, _ = play(state, said, Tick(1.0), Tick(10.0, set("ab")))
    assert (state.attempt, state.selected) == (2, {"a", "b"})


def test_a_flood_does_not_hold_back_a_deadline():
    """With a tick after every message the round closes on time, however many are refused."""
    said = policy()
    state, _ = start(said)
    state, _ = step(state, updates(state)[0], said)
    flood = (
        event
        for n in itertools.count(1)
        for event in (InvalidMessage("b", Reason.MALFORMED), Tick(n / 100, set("abc")))
    )
    taken = 0
    while state.round == 1:
        state, effects = play(state, said, next(flood), next(flood))
        taken += 1
    assert taken == 1000  # 1000 / 100 = 10 seconds
    assert records(effects)[0].traffic.invalid_messages == {"malformed": 1000}


def test_a_rule_that_cannot_repeats_the_round():
    """Trimming one at each end leaves nothing of two updates: the rule's own words are told."""
    said = policy(rule=rules.build("trimmed_mean", count=1), threshold=2)
    state, _ = start(said)
    state, effects = play(state, said, *updates(state)[:2], Tick(1.0, set("abc")))
    (log,) = published(effects, RoundLog)
    assert "leaves nothing of 2 updates" in log.record.why
    assert (state.attempt, state.deadline, state.version) == (2, 11.0, 0)


# What becomes of the updates


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(list(DELTAS)))
def test_arrival_order_changes_nothing(order):
    """A rule that looks at rows by place sees them by name: 100 a + 10 b + c, bit for bit."""

    def by_place(rows, samples, context):
        assert context.round == 1
        assert samples.tolist() == [1, 2, 3]
        return np.array([100, 10, 1], dtype=np.float32) @ rows

    said = policy(rule=by_place)
    state, _ = start(said)
    sent = {u.agent: replace(u, samples=i) for i, u in enumerate(updates(state), start=1)}
    state, _ = play(state, said, *(sent[name] for name in order), Tick(1.0, set("abc")))
    assert state.weights.tolist() == [132, 6]


def test_arrival_order_does_not_touch_the_last_bit():
    """Thirty random updates in twenty orders give the same bytes under every rule."""
    rng = np.random.default_rng(0)
    names = [f"agent-{i:02d}" for i in range(30)]
    deltas = rng.standard_normal((30, 50)).astype(np.float32) * 10.0 ** rng.integers(-6, 6, (30, 1))
    sent = [Update(n, 1, 0, 4, d.astype(np.float32)) for n, d in zip(names, deltas, strict=True)]
    for name in rules.RULES:
        own = lambda weights, _: np.ones_like(weights)  # noqa: E731 - for rules that trust it
        said = policy(
            rule=rules.build(name),
            rule_state=rules.Need.STATE in rules.RULES.facts(name).needs,
            server_update=own,
            detection=DetectionPolicy(update_sums=True),
        )
        opened, _ = step(
            State(GlobalModel(0, np.zeros(50, np.float32)), 0), Tick(0.0, set(names)), said
        )
        outcomes = set()
        for _ in range(20):
            order = rng.permutation(30)
            state, _ = play(opened, said, *(sent[i] for i in order), Tick(1.0, set(names)))
            assert state.version == 1
            outcomes.add(state.weights.tobytes())
        assert len(outcomes) == 1


def test_the_server_takes_its_own_step():
    """With a server learning rate of 1/2, half of the mean (2, 2) is added."""
    said = policy(server_lr=0.5)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, "abc"))
    assert state.weights.tolist() == [1, 1]
    assert state.weights.dtype == np.float32


def test_samples_are_capped():
    """An agent that claims a billion samples weighs as three: (1 * 0 + 3 * 4) / 4 = 3."""
    said = policy(rule=rules.build("mean", weighted=True), samples_cap=3)
    state, _ = start(said, online="ab")
    sent = [Update("a", 1, 0, 1, vector(0, 0)), Update("b", 1, 0, 10**9, vector(4, 8))]
    state, _ = play(state, said, *sent, Tick(1.0, "ab"))
    assert state.weights.tolist() == [3, 6]


def test_a_candidate_that_is_not_finite_is_rejected():
    """Two finite updates whose effect overflows: the round is rejected, without a vote."""
    huge = float(np.finfo(np.float32).max)
    said = policy(server_lr=2.0, validators=2)
    state, _ = start(said)
    sent = [Update(name, 1, 0, 4, vector(huge, 1)) for name in "abc"]
    state, effects = play(state, said, *sent, Tick(1.0, "abc"))
    (record,) = records(effects)
    assert (record.accepted, record.why) == (False, "the candidate is not finite")
    assert record.candidate.accuracy == np.inf
    assert accepted_models(effects) == [None]
    assert not published(effects, Candidate)
    assert (state.version, state.round, state.weights.tolist()) == (0, 2, [0, 0])


def test_a_candidate_with_unusable_answers_goes_before_no_validator():
    """Its weights are numbers, its answers are not: rejected with the reason, unless wanted."""
    said = policy(validators=2, flaw=lambda weights: "it answers NaN" if weights[0] > 1 else "")
    state, _ = start(said)
    after, effects = play(state, said, *updates(state), Tick(1.0, "abc"))
    (record,) = records(effects)
    assert not record.accepted
    assert record.why == "the candidate is unusable: it answers NaN"
    assert not published(effects, Candidate)
    assert after.version == 0
    wanted = policy(flaw=said.flaw, finite=False)
    state, _ = start(wanted)
    _, effects = play(state, wanted, *updates(state), Tick(1.0, "abc"))
    assert records(effects)[0].accepted


def test_no_step_takes_a_variance_below_zero():
    """The mean of -1, -3 and -2 ends at 0 where a variance is, and at -2 elsewhere."""
    said = policy(variances=np.array([1]))
    state, _ = start(said)
    sent = updates(state, {"a": (-1, -1), "b": (-3, -3), "c": (-2, -2)})
    state, _ = play(state, said, *sent, Tick(1.0, "abc"))
    np.testing.assert_array_equal(state.weights, [-2, 0])


def test_a_candidate_that_is_not_finite_is_accepted_where_that_is_wanted():
    """With finite off, inf and NaN become the model: inf, and inf - inf."""
    said = policy(finite=False)
    state, _ = start(said, online="ab")
    sent = [
        Update("a", 1, 0, 4, vector(np.inf, np.inf)),
        Update("b", 1, 0, 4, vector(np.inf, -np.inf)),
    ]
    state, effects = play(state, said, *sent, Tick(1.0, "ab"))
    np.testing.assert_array_equal(state.weights, [np.inf, np.nan])
    assert records(effects)[0].accepted


# Histories, samples of agents, warm-up


def test_the_broker_keeps_the_latest_models_only():
    """With l = 2 the last three accepted models are retained, whatever was rejected between."""
    said = policy(validators=2, rounds=9)
    state, _ = start(said)
    retained = set()
    for n, bad in enumerate([False, False, True, False, False, False]):
        state, _ = play(state, said, *updates(state), Tick(n, set("abc")))
        ballots = [vote(name, state.round, poisoned=bad) for name in state.validators]
        state, effects = play(state, said, *ballots, Tick(n, set("abc")))
        retained |= {m.version for m in published(effects, History)}
        retained -= {
            e.message.version
            for e in effects
            if isinstance(e, Clear) and isinstance(e.message, History)
        }
        newest = state.version
        assert retained == set(range(max(1, newest - 2), newest + 1))
    assert newest == 5


def test_version_0_leaves_the_broker_too():
    """Version l + 1 pushes out version 0, which the aggregator published when it began."""
    state = State(GlobalModel(2, vector(0, 0)), 2)
    said = policy(validators=1)
    state, _ = step(state, Tick(0.0, {"a"}), said)
    state, _ = play(state, said, *updates(state, {"a": (1, 1)}), Tick(0.0, {"a"}))
    _, effects = play(state, said, vote("a", 3), Tick(0.0, {"a"}))
    assert plain([e for e in effects if isinstance(e, Clear)]) == plain(
        [
            Clear(History(0, vector(1, 1))),
            Clear(Candidate(3, 1, 0, vector(1, 1))),
        ]
    )


def test_no_history_without_validators():
    """Where nobody votes, accepted models are published once."""
    said = policy()
    state, _ = start(said)
    _, effects = play(state, said, *updates(state), Tick(1.0, "abc"))
    assert not published(effects, History)


def test_every_finished_round_is_durable_before_anything_is_told():
    """Whether accepted, voted down or not finite, Persist is the first effect of closing."""
    endings = []
    for bad, delta in itertools.product((True, False), ((1.0, 1.0), (np.inf, 1.0))):
        said = policy(validators=1, quorum=1)
        state, _ = start(said, online="a")
        state, effects = play(state, said, Update("a", 1, 0, 4, vector(*delta)), Tick(0.0, {"a"}))
        if state.phase.name is Phase.VALIDATE:
            _, effects = play(state, said, vote("a", poisoned=bad), Tick(0.0, {"a"}))
        assert isinstance(effects[0], Persist)
        assert len(records(effects)) == 1
        endings.append(records(effects)[0].why)
    assert sorted(set(endings)) == ["", "the candidate is not finite", "voted down"]


def test_who_is_called_depends_on_seed_and_round_alone():
    """Neither the clock nor the order in which agents came nor an attempt changes a draw."""
    names = [f"agent-{i}" for i in range(40)]
    one = policy(client_fraction=0.25, validators=10, seed=7)
    first, effects = step(State(GlobalModel(0, vector(0, 0)), 0), Tick(0.0, names), one)
    second, _ = step(State(GlobalModel(0, vector(0, 0)), 0), Tick(9.0, names[::-1]), one)
    repeated, _ = step(first, Tick(99.0, names), one)
    assert len(first.selected) == len(first.validators) == 10
    assert first.selected != set(first.validators)
    assert effects[0].message.contributors == tuple(sorted(first.selected))
    assert repeated.attempt == 2
    for other in (second, repeated):
        assert (other.selected, other.validators) == (first.selected, first.validators)
    another_seed, _ = step(
        State(GlobalModel(0, vector(0, 0)), 0), Tick(0.0, names), changed(one, seed=8)
    )
    another_round, _ = step(State(GlobalModel(0, vector(0, 0)), 1), Tick(0.0, names), one)
    for other in (another_seed, another_round):
        assert other.selected != first.selected
        assert other.validators != first.validators


def test_contributors_and_validators_are_drawn_independently():
    """Over 2,000 rounds an agent is both with share 1/2 * 1/2, as independent draws give it."""
    names = "abcdefgh"
    both = dict.fromkeys(names, 0)
    for number in range(1, 2001):
        trained = draw(names, 4, 3, number, Purpose.CONTRIBUTORS)
        judged = draw(names, 4, 3, number, Purpose.VALIDATORS)
        for name in set(trained) & set(judged):
            both[name] += 1
    # Binomial(2000, 1/4) has mean 500 and a deviation of 19.4.
    assert all(abs(count - 500) < 4 * 19.4 for count in both.values())


def test_fewer_agents_than_wanted_are_all_drawn():
    """Asking for more than there are gives everybody, sorted."""
    assert draw({"c", "a", "b"}, 5, 0, 1, Purpose.CONTRIBUTORS) == ("a", "b", "c")
    assert draw(set(), 5, 0, 1, Purpose.CONTRIBUTORS) == ()


def test_nobody_votes_during_warm_up():
    """With a warm-up of one round the second is the first that validators judge."""
    said = policy(validators=2, warm_up=1)
    state, _ = start(said)
    assert state.validators == ()
    state, effects = play(state, said, *updates(state), Tick(1.0, "abc"))
    assert (state.version, len(state.validators)) == (1, 2)
    assert [m.version for m in published(effects, History)] == [1]
    state, _ = play(state, said, *updates(state), Tick(2.0, "abc"))
    assert state.phase.name is Phase.VALIDATE


# Rubbish


def test_who_sent_rubbish_is_not_waited_for_until_the_deadline():
    """Once all are in but those whose update was refused, the round waits a little, then closes."""
    said = policy(invalid_seconds=2)
    state, _ = start(said)
    a, b, _ = updates(state)
    rubbish = InvalidMessage("c", Reason.NOT_FINITE, update=True)
    state, _ = play(state, said, a, b, rubbish, Tick(1.0), Tick(2.9))
    assert (state.round, len(state.updates)) == (1, 2)
    state, _ = play(state, said, Tick(3.0))
    assert state.round == 2
    np.testing.assert_array_equal(state.weights, vector(2, 0))  # the mean of (1, 0) and (3, 0)


def test_rubbish_under_another_s_name_does_not_shut_it_out():
    """An honest update that comes within the little wait counts as if nothing had been."""
    said = policy(invalid_seconds=2)
    state, _ = start(said)
    a, b, c = updates(state)
    rubbish = InvalidMessage("c", Reason.MALFORMED, update=True)
    state, _ = play(state, said, a, b, rubbish, Tick(1.0), c)
    state, _ = play(state, said, Tick(1.1, set("abc")))
    assert state.round == 2
    np.testing.assert_array_equal(state.weights, vector(2, 2))


@pytest.mark.parametrize("agent", ["stranger", "c"])
def test_rubbish_of_strangers_or_votes_closes_nothing(agent):
    """Only an update under a called agent's name can end the wait for it."""
    said = policy(invalid_seconds=2)
    state, _ = start(said)
    a, b, _ = updates(state)
    refused = InvalidMessage(agent, Reason.MALFORMED, update=agent == "stranger")
    state, _ = play(state, said, a, b, refused, Tick(1.0), Tick(9.0))
    assert state.round == 1


# A broker that is gone, and a run that has come to its end

PIGGY = policy(piggy_back=True, quorum=2)


def waiting(phase):
    """Bring a run to a phase that waits for agents, of whom one has answered; what is missing."""
    match phase:
        case Phase.TRAIN:
            said = policy(min_updates=2)
            state, _ = start(said)
            first, *rest = updates(state)
        case Phase.VALIDATE:
            said = policy(validators=3)
            state, _ = validating(said)
            first, *rest = map(vote, "abc")
        case _:
            said = PIGGY
            state, _ = start(said)
            state, _ = play(state, said, *updates(state), Tick(3.0, set("abc")))
            first, *rest = (replace(u, version=1) for u in updates(state))
    assert state.phase.name is phase
    state, _ = step(state, first, said)
    return said, state, rest


@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.VALIDATE, Phase.JUDGE_AND_TRAIN])
def test_without_a_broker_no_deadline_comes_nearer(phase):
    """While it cannot be reached nothing is said or closed; then the whole time begins again."""
    said, state, rest = waiting(phase)
    long = (said.validation if phase is Phase.VALIDATE else said.collect).seconds
    at = state.deadline
    for now in (at - 1, at, at + 1000):
        gone = Tick(now, set("abc"), reachable=False)
        state, effects = step(state, gone, said)
        assert effects == []
        assert (state.phase.name, state.deadline) == (phase, now + long)
    back = at + 1000
    state, effects = step(state, Tick(back + long - 0.1, set("abc")), said)
    assert (state.phase.name, effects) == (phase, [])
    assert step(state, Tick(back + long, set("abc")), said)[1] != []
    # Who answers in the time that is left is taken as ever.
    state, _ = play(state, said, *rest)
    state, effects = step(state, Tick(back + long - 0.05, set("abc")), said)
    assert len(records(effects)) == 1


def test_without_a_broker_nothing_begins_or_ends():
    """Neither is the first round opened nor a full one closed before somebody can hear of it."""
    said = policy()
    state, effects = step(
        State(GlobalModel(0, vector(0, 0)), 0), Tick(5.0, set("abc"), reachable=False), said
    )
    assert (state.phase.name, effects) == (None, [])
    state, _ = start(said)
    state, _ = play(state, said, *updates(state))
    full, effects = step(state, Tick(1.0, set("abc"), reachable=False), said)
    assert (len(full.updates), effects) == (3, [])
    assert len(records(step(full, Tick(1.1, set("abc")), said)[1])) == 1


def test_patience_with_the_spoilt_begins_anew_too():
    """The two seconds for who sent something unusable do not pass while nobody can send."""
    said = policy(min_updates=2)
    state, _ = start(said)
    state, _ = play(
        state, said, *updates(state)[1:], InvalidMessage("a", Reason.NOT_FINITE, update=True)
    )
    state, _ = step(state, Tick(1.0, set("abc")), said)
    assert state.phase.settled == 1.0
    state, effects = step(state, Tick(5.0, set("abc"), reachable=False), said)
    state, effects = step(state, Tick(6.0, set("abc")), said)
    assert (state.phase.settled, effects) == (6.0, [])
    state, effects = step(state, Tick(7.9, set("abc")), said)
    assert effects == []
    assert len(records(step(state, Tick(8.0, set("abc")), said)[1])) == 1


def test_the_record_says_who_was_missing():
    """Names in order, of a thousand the first hundred; with piggy-back those who did not vote."""
    said = policy(min_updates=1)
    state, _ = start(said, online="dcba")
    state, effects = play(state, said, updates(state)[1], Tick(10.0, set("abcd")))
    assert (records(effects)[0].absent, records(effects)[0].missing) == (("a", "c", "d"), 3)
    crowd = {f"agent-{i:03d}" for i in range(1000)}
    state, _ = step(State(GlobalModel(0, vector(0, 0)), 0), Tick(0.0, crowd), said)
    one = replace(updates(state)[0], agent="agent-005")
    state, effects = play(state, said, one, Tick(10.0, crowd))
    record = records(effects)[0]
    assert record.absent == tuple(sorted(crowd - {"agent-005"})[:100])
    assert record.missing == 999
    said, state, _ = waiting(Phase.JUDGE_AND_TRAIN)
    state, effects = play(state, said, vote("c", 2), Tick(state.deadline, set("abc")))
    assert records(effects)[0].absent == ("b",)


def test_the_record_says_what_the_broker_dropped():
    """It is what was thrown away since the round opened, at whatever attempt."""
    said = policy(min_updates=3)
    state, _ = step(State(GlobalModel(0, vector(0, 0)), 0), Tick(0.0, set("abc"), dropped=7), said)
    state, _ = step(state, Tick(10.0, set("abc"), dropped=9), said)
    assert state.attempt == 2
    state, effects = play(state, said, *updates(state), Tick(11.0, set("abc"), dropped=12))
    assert records(effects)[0].traffic.dropped == 5
    state, effects = play(state, said, *updates(state), Tick(12.0, set("abc"), dropped=12))
    assert records(effects)[0].traffic.dropped == 0


def test_a_run_whose_rounds_are_all_done_says_so_and_ends():
    """Killed before it could tell its agents, it tells them, once, and opens nothing."""
    said = policy(rounds=3)
    state = State(GlobalModel(2, vector(1, 1)), 3)
    gone = Tick(0.0, set("abc"), reachable=False)
    assert step(state, gone, said)[0].phase.name is None
    state, effects = step(state, Tick(1.0, set("abc")), said)
    assert effects == [Publish(Round(3, 1, Phase.DONE, 2, "all", (), 10))]
    assert (state.phase.name, state.failure) == (Phase.DONE, "")
    assert step(state, Tick(2.0, set("abc")), said) == (state, [])


def test_the_table_in_the_docs_is_the_machines():
    """``docs/architecture.md`` shows which function takes which event in which phase."""
    docs = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
    assert f"{machine.table()}\n<!-- end -->" in docs.read_text(encoding="utf-8")


# Who sits a round out


def test_a_round_does_not_wait_for_who_declines():
    """Of three, one declines: with the updates of the two others the round is closed at once."""
    said = policy()
    state, _ = start(said)
    state, _ = play(state, said, Decline("c", 1, 1), *updates(state, {"a": (1, 0), "b": (3, 0)}))
    state, effects = play(state, said, Tick(0.1, set("abc")))
    [record] = [effect.record for effect in effects if isinstance(effect, Persist)]
    assert (record.updates, record.accepted, state.round) == (2, True, 2)


@pytest.mark.parametrize(
    ("decline", "reason"),
    [
        (Decline("c", 2, 1), "wrong_round"),
        (Decline("c", 1, 2), "wrong_round"),
        (Decline("mallory", 1, 1), "not_selected"),
    ],
)
def test_who_declines_what_was_not_asked_is_counted(decline, reason):
    """Another round, another attempt, or an agent that was not selected: nothing else changes."""
    said = policy()
    state, _ = start(said)
    after, _ = play(state, said, decline)
    assert after.invalid == {reason: 1}
    assert after.phase == state.phase


def test_an_update_after_declining_counts_all_the_same():
    """Who finds its data after all is as welcome as any."""
    said = policy()
    state, _ = start(said)
    state, _ = play(state, said, Decline("c", 1, 1), *updates(state))
    _, effects = play(state, said, Tick(0.1, set("abc")))
    [record] = [effect.record for effect in effects if isinstance(effect, Persist)]
    assert record.updates == 3


def test_who_cannot_vote_says_so_and_another_is_asked_at_once():
    """Two of four are asked; one votes, the other declines: a third is asked in its place."""
    said = policy(validators=2, **{"validation.min_votes": 2})
    state, _ = validating(said, online="abcd")
    first, second = state.validators
    after, _ = play(state, said, vote(first), Decline(second, 1, 1))
    after, effects = play(after, said, Tick(3.5, set("abcd")))
    [asked] = published(effects, Round)
    assert second not in asked.validators
    assert first in asked.validators
    assert len(asked.validators) == 2


def test_who_sits_out_is_counted_and_not_missing():
    """Of four, c declines and d says nothing: one sat out, one is missing."""
    said = policy(collect_seconds=10)
    state, _ = start(said, online="abcd")
    heard = updates(state, {"a": (1, 0), "b": (3, 0)})
    _, effects = play(state, said, Decline("c", 1, 1), *heard, Tick(10.0, set("abcd")))
    [record] = records(effects)
    assert (record.declined, record.missing, record.absent) == (1, 1, ("d",))


def test_who_sat_out_is_not_missing_after_a_vote_either():
    """The declines of the training are still known once the validators have voted."""
    said = policy(validators=2)
    state, _ = start(said, online="abc")
    heard = updates(state, {"a": (1, 0), "b": (3, 0)})
    state, _ = play(state, said, Decline("c", 1, 1), *heard, Tick(1.0, set("abc")))
    _, effects = play(state, said, *map(vote, state.validators), Tick(2.0, set("abc")))
    [record] = records(effects)
    assert (record.declined, record.missing, record.accepted) == (1, 0, True)


def test_who_declined_and_found_its_data_has_not_sat_out():
    """Its update came after all."""
    said = policy()
    state, _ = start(said)
    _, effects = play(state, said, Decline("c", 1, 1), *updates(state), Tick(1.0, set("abc")))
    [record] = records(effects)
    assert (record.declined, record.missing) == (0, 0)


def test_who_is_not_waited_for_any_more_stays_missing():
    """After three silent rounds nobody waits for c, but it has not said that it sits out."""
    said = policy(collect_seconds=10)
    state, _ = start(said)
    for number in range(1, 5):
        begun = state.opened.now
        heard = updates(state, {"a": (1, 0), "b": (3, 0)})
        state, effects = play(state, said, *heard, Tick(begun + 1, set("abc")))
        if state.round == number:
            state, effects = play(state, said, Tick(begun + 10, set("abc")))
    [record] = records(effects)
    assert (record.round, record.declined, record.absent) == (4, 0, ("c",))


def judging(online="abcde", **changes):
    """Bring a run with piggy-back to its second round, where agents judge and train at once."""
    said = policy(piggy_back=True, quorum=0, **changes)
    state, _ = start(said, online=online)
    state, _ = play(state, said, *updates(state), Tick(10.0, set(online)))
    assert state.phase.name is Phase.JUDGE_AND_TRAIN
    return said, state


def test_with_piggy_back_who_sits_out_is_no_silent_vote():
    """Of five, c, d and e decline: the two others are all who were asked, and all have voted."""
    said, state = judging()
    heard = [replace(u, version=1) for u in updates(state, {"a": (1, 0), "b": (3, 0)})]
    out = [Decline(name, 2, 1) for name in "cde"]
    _, effects = play(state, said, *heard, *out, Tick(11.0, set("abcde")))
    [record] = records(effects)
    assert record.votes.counts == (0, 2, 0)
    assert (record.accepted, record.declined, record.missing) == (True, 3, 0)


def test_with_piggy_back_the_silent_are_still_no_consent():
    """Of four that do not sit out two stay silent: two votes of four are no majority."""
    said, state = judging(attempts=1)
    heard = [replace(u, version=1) for u in updates(state, {"a": (1, 0), "b": (3, 0)})]
    _, effects = play(state, said, *heard, Decline("e", 2, 1), Tick(20.0, set("abcde")))
    [record] = records(effects)
    assert record.votes.counts == (0, 2, 2)
    assert record.why == "too few votes: 2 of 4 came, 3 are needed"
    assert (record.declined, record.missing) == (1, 2)


def test_with_piggy_back_nothing_is_accepted_where_all_sit_out():
    """There is no vote, so there is no consent."""
    said, state = judging(online="abc", attempts=1)
    out = [Decline(name, 2, 1) for name in "abc"]
    _, effects = play(state, said, *out, Tick(20.0, set("abc")))
    [record] = records(effects)
    assert (record.accepted, record.why) == (False, "too few votes: all 3 sat out")


def first():
    """Return a run of which no round is open yet."""
    return State(GlobalModel(0, vector(0, 0)), 0)


def test_who_says_that_it_cannot_vote_is_not_asked():
    """Of four, two cannot judge: the two others are the validators."""
    said = policy(validators=2)
    state, _ = play(first(), said, Tick(0, "abcd", cannot_vote="ad"))
    assert state.validators == ("b", "c")


# Who never answers


def test_after_three_rounds_without_an_answer_nobody_waits_any_more():
    """Round 1 to 3 last until their deadline, for c is silent; round 4 ends with a and b."""
    said = policy(collect_seconds=10)
    state, _ = start(said)
    ends = []
    for number in range(1, 5):
        begun = state.opened.now
        answers = updates(state, {"a": (1, 0), "b": (3, 0)})
        state, _ = play(state, said, *answers, Tick(begun + 1, set("abc")))
        if state.round == number:
            state, _ = play(state, said, Tick(begun + 10, set("abc")))
        ends.append(state.opened.now - begun)
    assert ends == [10, 10, 10, 1]
    assert state.missed == {"c": 4}


def test_who_answers_once_more_is_waited_for_again():
    """After four missed rounds c answers in time: it is counted, and the next round waits."""
    said = policy(**{"collect.missed": 1})
    state, _ = start(said)
    state, _ = play(state, said, *updates(state, {"a": (1, 0), "b": (3, 0)}), Tick(11, set("abc")))
    assert state.missed == {"c": 1}
    state, effects = play(state, said, *updates(state, DELTAS), Tick(12, set("abc")))
    assert [record.updates for record in records(effects)] == [3]
    assert state.missed == {}
    state, _ = play(state, said, *updates(state, {"a": (1, 0), "b": (3, 0)}), Tick(13, set("abc")))
    assert state.round == 3


# A run that waits for its agents


def test_a_run_waits_until_enough_agents_are_there():
    """Two of the three that a round needs are there: none is opened before the third comes."""
    said = policy(min_updates=3, wait=True)
    state, effects = start(said, online="ab")
    assert (state.round, effects) == (0, [])
    state, effects = play(state, said, Tick(3600, set("abc")))
    assert state.round == 1
    assert published(effects, Round)[0].phase is Phase.TRAIN


def test_a_run_is_not_given_up_while_a_device_is_off():
    """One leaves: the round waits for it, for days, and goes on when it is back."""
    said = policy(min_updates=3, attempts=1, wait=True)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state, {"a": (1, 0), "b": (3, 0)}))
    state, effects = play(state, said, Tick(10, set("ab")))
    assert "waiting for more agents" in published(effects, RoundLog)[0].record.why
    state, effects = play(state, said, Tick(1e6, set("ab")))
    assert (state.done, effects) == (False, [])
    state, effects = play(state, said, Tick(1e6 + 1, set("abc")))
    assert (state.round, state.attempt) == (1, 2)
    state, _ = play(state, said, *updates(state), Tick(1e6 + 2, set("abc")))
    assert (state.round, state.version) == (2, 1)


def test_silent_agents_are_asked_for_ever_in_a_run_that_waits():
    """All are there and nobody answers: one attempt follows another, beyond ``attempts``."""
    said = policy(attempts=2, wait=True)
    state, _ = start(said)
    for attempt in range(1, 8):
        assert (state.round, state.attempt) == (1, attempt)
        state, _ = play(state, said, Tick(state.deadline, set("abc")))


def test_rounds_begin_as_far_apart_as_is_asked():
    """With a round an hour, the next one opens 3,600 s after this one did, not earlier."""
    said = policy(**{"collect.every": 3600.0})
    state, _ = start(said, now=100.0)
    state, effects = play(state, said, *updates(state), Tick(102, set("abc")))
    assert (state.round, state.version) == (1, 1)
    assert not published(effects, Round)
    state, effects = play(state, said, Tick(3699.9, set("abc")))
    assert effects == []
    state, effects = play(state, said, Tick(3700, set("abc")))
    assert state.round == 2


def test_a_paused_run_ends_its_round_and_opens_no_other():
    """What was asked for still counts; the next round waits until it goes on."""
    said = policy()
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1, set("abc"), paused=True))
    assert (state.round, state.version) == (1, 1)
    state, _ = play(state, said, Tick(500, set("abc"), paused=True))
    assert state.round == 1
    state, _ = play(state, said, Tick(501, set("abc")))
    assert state.round == 2


def test_no_more_agents_are_selected_than_allowed():
    """Of nine agents, at most four are asked."""
    said = policy(**{"sampling.most": 4})
    state, _ = start(said, online="abcdefghi")
    assert len(state.selected) == 4


# What agents measure


def test_evaluators_measure_a_candidate_by_hand():
    """10 samples with an error of 1, 30 with 2: (10 + 60) / 40 = 1.75; then it is accepted."""
    said = policy(**{"evaluation.fraction": 1.0})
    state, _ = start(said)
    there = {"online": set("abc"), "can_evaluate": {"a", "b"}}
    state, _ = play(state, said, *updates(state), Tick(1, **there))
    state, effects = play(state, said, *updates(state), Tick(2, **there))
    [asked] = published(effects, Round)
    assert (asked.phase, asked.evaluators, asked.validators) == (Phase.VALIDATE, ("a", "b"), ())
    assert published(effects, Candidate)
    heard = Metrics("a", 2, 1, 10, {"rmse": 1.0}), Metrics("b", 2, 1, 30, {"rmse": 2.0})
    state, _ = play(state, said, heard[0], Tick(3, **there))
    assert state.phase.name is Phase.VALIDATE
    state, effects = play(state, said, heard[1], Tick(4, **there))
    [record] = records(effects)
    assert record.model.metrics == {"rmse": 1.75}
    assert record.evaluated == {"a": Figures(10, {"rmse": 1.0}), "b": Figures(30, {"rmse": 2.0})}


def test_a_candidate_does_not_wait_for_an_evaluator_beyond_the_deadline():
    """B never says: after the time for votes what a measured is what counts."""
    said = policy(**{"evaluation.fraction": 1.0})
    there = {"online": set("abc"), "can_evaluate": {"a", "b"}}
    state, _ = play(first(), said, Tick(0, **there))
    state, _ = play(state, said, *updates(state), Tick(1, **there))
    state, _ = play(state, said, Metrics("a", 1, 1, 10, {"rmse": 1.0}), Tick(2, **there))
    state, effects = play(state, said, Tick(7, **there))
    [record] = records(effects)
    assert (record.accepted, record.model.metrics) == (True, {"rmse": 1.0})


def test_a_candidate_does_not_wait_for_an_evaluator_that_still_trains():
    """One has left the training unanswered; what it measures still counts, if it comes."""
    said = policy(**{"evaluation.fraction": 1.0})
    there = {"online": set("abc"), "can_evaluate": {"a", "b"}}
    state, _ = play(first(), said, Tick(0, **there))
    trained = [update for update in updates(state) if update.agent != "b"]
    state, _ = play(state, said, *trained, Tick(state.deadline, **there))
    assert state.phase.name is Phase.VALIDATE
    assert state.evaluators == {"a", "b"}
    late, _ = play(state, said, Metrics("b", 1, 1, 30, {"rmse": 2.0}))
    for before, expected in ((state, 1.0), (late, 1.75)):
        measured = Metrics("a", 1, 1, 10, {"rmse": 1.0})
        _, effects = play(before, said, measured, Tick(state.opened.now + 1, **there))
        [record] = records(effects)
        assert record.model.metrics == {"rmse": expected}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Metrics("a", 2, 1, 10, {}), "wrong_round"),
        (Metrics("a", 1, 2, 10, {}), "wrong_round"),
        (Metrics("c", 1, 1, 10, {}), "not_selected"),
        (Metrics("b", 1, 1, 10, {}), "duplicate"),
    ],
)
def test_metrics_that_nobody_asked_for_are_counted(message, reason):
    """Another round or attempt, no evaluator, or a second time: nothing else changes."""
    said = policy(**{"evaluation.fraction": 1.0})
    there = {"online": set("abc"), "can_evaluate": {"a", "b"}}
    state, _ = play(first(), said, Tick(0, **there))
    state, _ = play(state, said, *updates(state), Tick(1, **there), Metrics("b", 1, 1, 5, {}))
    after, _ = play(state, said, message)
    assert (after.invalid, after.phase) == ({reason: 1}, state.phase)


def test_what_agents_measure_while_they_train_is_recorded():
    """Losses 1 and 2 on 10 and 30 samples are 1.75 together; one agent counts as 20 at the most."""
    said = policy(samples_cap=20, **{"evaluation.by_agent": True})
    state, _ = start(said, online="ab")
    sent = [
        Update("a", 1, 0, 10, vector(1, 0), metrics={"loss": 1.0}),
        Update("b", 1, 0, 30, vector(1, 0), metrics={"loss": 2.0}),
    ]
    state, effects = play(state, said, *sent, Tick(1, set("ab")))
    [record] = records(effects)
    assert record.training == {"loss": (10 + 40) / 30}
    assert record.trained["b"] == Figures(30, {"loss": 2.0})


def test_where_all_sit_out_the_round_is_over_at_once():
    """No deadline is waited for, and nobody is asked again: they would say the same."""
    said = policy(wait=True)
    state, _ = start(said)
    state, _ = play(state, said, *(Decline(name, 1, 1) for name in "abc"))
    state, effects = play(state, said, Tick(0.1, set("abc")))
    [record] = records(effects)
    assert (record.accepted, record.declined, state.round) == (False, 3, 2)
    assert record.why == "0 of 3 selected agents sent a valid update, 1 needed; 3 sat out"


def test_a_round_that_can_no_longer_have_enough_updates_is_over():
    """Three are needed; one sits out: with the two others' updates it is rejected, and goes on."""
    said = policy(wait=True, min_updates=3)
    state, _ = start(said)
    state, _ = play(state, said, Decline("c", 1, 1), *updates(state, {"a": (1, 0), "b": (3, 0)}))
    state, effects = play(state, said, Tick(0.1, set("abc")))
    assert records(effects)[0].why.startswith(
        "2 of 3 selected agents sent a valid update, 3 needed"
    )
    assert state.round == 2
