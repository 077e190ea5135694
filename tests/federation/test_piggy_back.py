"""Piggy-back: contributors judge the candidate of the round before, and train from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.by_hand import (
    DELTAS,
    accepted_models,
    all_but_the_count,
    changed,
    pending,
    plain,
    play,
    policy,
    published,
    records,
    start,
    updates,
    vector,
    vote,
)
from support.federation import Federation, one_thread  # noqa: F401 - a fixture

from fedjury import rules
from fedjury.judges.judgements import Judgements
from fedjury.judges.pooled import Pool
from fedjury.protocol.counts import packed
from fedjury.protocol.logs import RoundRepeated
from fedjury.protocol.messages import (
    Candidate,
    History,
    Model,
    Phase,
    Reason,
    Round,
    RoundLog,
    Update,
)
from fedjury.protocol.pooled import Pooled
from fedjury.protocol.record import Ballot
from fedjury.round.effects import Clear, CountInvalid, Persist, Publish
from fedjury.round.machine import step
from fedjury.round.state import InvalidMessage, Tick, Waiting

pytestmark = pytest.mark.usefixtures("one_thread")

PIGGY = policy(piggy_back=True, quorum=2)
"""Three agents; two of them reject the candidate of the round before."""

SCORES = {"score": 1.125, "threshold": 1.25, "size": 500}


def answers(state, names="abc", deltas=DELTAS):
    """Make the updates of some agents who find the candidate clean, and have trained from it."""
    some = {name: deltas[name] for name in names}
    version = state.version + (state.phase.name is Phase.JUDGE_AND_TRAIN)
    return [replace(u, version=version, **SCORES) for u in updates(state, some)]


def second(said=PIGGY):
    """Bring a run to round 2, with (2, 2) as the candidate; returns the state and the effects."""
    state, _ = start(said)
    return play(state, said, *updates(state), Tick(1.0, set("abc")))


def against(state, names):
    """Make votes against the candidate."""
    return [vote(name, state.round, state.attempt, poisoned=True) for name in names]


# The way through the rounds


def test_the_first_round_has_nothing_to_judge():
    """Its candidate is put aside, durably, and before the contributors of the second round."""
    state, effects = second()
    (record,) = records(effects)
    candidate = vector(2, 2)
    assert plain(effects) == plain(
        [
            Persist(record, None, candidate),
            Publish(RoundLog(record)),
            Publish(Candidate(2, 1, 0, candidate)),
            Publish(Round(2, 1, Phase.JUDGE_AND_TRAIN, 0, "all", (), 10)),
        ]
    )
    assert (record.judged, record.version, record.votes.asked) == (None, 0, 0)
    assert record.accepted is None
    assert (record.updates, record.votes.voters, record.why) == (3, {}, "")
    assert record.candidate is None
    assert (state.version, state.weights.tolist(), state.deadline) == (0, [0, 0], 11.0)


def test_an_accepted_candidate_is_what_the_next_one_stands_on():
    """(2, 2) passes and is version 1; what was learnt from it makes (4, 4) the next candidate."""
    state, _ = second()
    state, effects = play(state, PIGGY, *answers(state), Tick(2.0, set("abc")))
    (record,) = records(effects)
    model, candidate = Model(1, vector(2, 2)), vector(4, 4)
    assert plain(effects) == plain(
        [
            Persist(record, model, candidate),
            Publish(model),
            Publish(History(model.version, model.weights)),
            Clear(Candidate(2, 1, 0, vector(2, 2))),
            Publish(RoundLog(record)),
            Publish(Candidate(3, 1, 1, candidate)),
            Publish(Round(3, 1, Phase.JUDGE_AND_TRAIN, 1, "all", (), 10)),
        ]
    )
    assert (record.judged, record.version, record.accepted) == (1, 1, True)
    assert (record.model.accuracy, record.candidate.accuracy) == (2.0, 2.0)


def test_an_update_is_a_clean_vote():
    """Everybody who sends one has voted; score, threshold and bytes are those of the vote."""
    state, _ = second()
    _, effects = play(state, PIGGY, *answers(state), Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert record.votes.counts == (0, 3, 0)
    assert record.votes.voters == {name: Ballot(False, 1.125, 1.25, 500) for name in "abc"}
    assert (record.updates, record.missing) == (3, 0)


def test_votes_of_contributors_count():
    """One of three against it is below q = 2: it passes, and two updates make the next one."""
    state, _ = second()
    events = [*answers(state, "ac"), *against(state, "b")]
    state, effects = play(state, PIGGY, *events, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert record.votes.counts == (1, 2, 0)
    assert record.votes.voters["b"] == Ballot(True, 1.5, 1.25, 300)
    assert (record.updates, record.missing, record.accepted) == (2, 0, True)
    assert pending(state).tolist() == [2 + (1 + 2) / 2, 2 + (0 + 6) / 2]


def test_a_rejected_candidate_takes_the_updates_with_it():
    """Two against it: nothing is accepted, what stands on it is lost, the old version goes on."""
    state, _ = second()
    events = [*against(state, "ab"), *answers(state, "c")]
    state, effects = play(state, PIGGY, *events, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert plain(effects) == plain(
        [
            Persist(record, None),
            Clear(Candidate(2, 1, 0, vector(0, 0))),
            Publish(RoundLog(record)),
            Publish(Round(3, 1, Phase.TRAIN, 0, "all", (), 10)),
        ]
    )
    assert (record.why, record.judged, record.updates) == ("voted down", 1, 1)
    assert (record.candidate.accuracy, record.model.accuracy) == (2.0, None)
    assert (pending(state), state.weights.tolist()) == (None, [0, 0])
    state, _ = play(state, PIGGY, *updates(state), Tick(3.0, set("abc")))
    assert (state.round, state.phase.name) == (4, Phase.JUDGE_AND_TRAIN)
    assert pending(state).tolist() == [2, 2]


def test_after_a_rejection_there_is_again_nothing_to_judge():
    """The record of the plain round says so."""
    state, _ = second()
    state, _ = play(state, PIGGY, *against(state, "abc"), Tick(2.0, set("abc")))
    _, effects = play(state, PIGGY, *updates(state), Tick(3.0, set("abc")))
    (record,) = records(effects)
    assert (record.round, record.judged, record.votes.asked) == (3, None, 0)


def test_the_last_candidate_is_dropped():
    """Nobody is left to judge it: the run ends with the last model that was accepted."""
    said = changed(PIGGY, rounds=2)
    state, _ = second(said)
    state, effects = play(state, said, *answers(state), Tick(2.0, set("abc")))
    assert effects[-1] == Publish(Round(2, 1, Phase.DONE, 1, "all", (), 10))
    assert not published(effects, Candidate)
    assert (state.phase.name, state.version, state.weights.tolist()) == (Phase.DONE, 1, [2, 2])
    assert [model.version for model in accepted_models(effects)] == [1]


def test_nobody_judges_in_the_warm_up():
    """With a warm-up of two rounds two candidates pass unseen; the third round's is judged."""
    said = changed(PIGGY, warm_up=2)
    state, _ = start(said)
    for number in (1, 2):
        state, effects = play(state, said, *updates(state), Tick(float(number), set("abc")))
        assert (records(effects)[0].judged, records(effects)[0].votes.asked) == (number, 0)
        assert (state.version, state.phase.name, pending(state)) == (number, Phase.TRAIN, None)
    state, effects = play(state, said, *updates(state), Tick(3.0, set("abc")))
    assert (state.version, state.phase.name) == (2, Phase.JUDGE_AND_TRAIN)
    assert published(effects, Candidate)[0].base == 2


@pytest.mark.parametrize(("candidates", "accepted"), [((3, 4, 5), True), ((3, 4, 6), False)])
def test_pooled_counts_may_decide_here_too(candidates, accepted):
    """What two updates and a vote counted is added up: 10 errors more than 3 are too many."""

    def judge(profiles, found):
        rises = found[:, 0] - profiles[:, -1, 0]
        return Judgements(rises > 9, rises * 1.0, np.full(1, 9.0), np.zeros((1, 0)))

    pool = Pool(judge, malicious=0, look_back=2, history=1, most=8)
    said = changed(PIGGY, decide="pooled", quorum=1, pool=pool)
    state, _ = second(said)
    saw = {a: packed(np.array([1, c])) for a, c in zip("abc", candidates, strict=True)}
    trained = [replace(u, counts=saw[u.agent]) for u in answers(state, "ab")]
    refused = [replace(v, counts=saw["c"], samples=6) for v in against(state, "c")]
    state, effects = play(state, said, *trained, *refused, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert record.votes.pooled == Pooled(not accepted, sum(candidates) - 3, 9.0, 3, 0)
    assert (record.accepted, state.version) == (accepted, int(accepted))
    assert record.why == ("" if accepted else "voted down")


def test_an_update_with_counts_that_do_not_fit_is_refused():
    """Two models are looked at; three numbers are not of two models, and the update is none."""
    pool = Pool(lambda *_: None, malicious=0, look_back=2, history=9, most=8)
    said = changed(PIGGY, decide="pooled", pool=pool)
    state, _ = second(said)
    odd = replace(answers(state, "a")[0], counts=packed(np.array([1, 2, 3])))
    state, _ = play(state, said, odd)
    assert (dict(state.invalid), len(state.updates)) == ({"wrong_length": 1}, 0)


# Messages that do not fit


def test_messages_that_do_not_fit_a_round_that_judges_and_trains():
    """One answer each, update or vote, of those called, from the candidate and on it."""
    before, _ = second()
    state, _ = play(before, PIGGY, answers(before, "a")[0], *against(before, "b"))
    good = answers(state, "c")[0]
    cases = [
        (replace(good, version=0), Reason.WRONG_VERSION),
        (replace(good, version=2), Reason.WRONG_VERSION),
        (replace(good, round=1), Reason.WRONG_ROUND),
        (replace(good, agent="z"), Reason.NOT_SELECTED),
        (replace(good, agent="a"), Reason.DUPLICATE),
        (replace(good, agent="b"), Reason.DUPLICATE),
        (vote("c", 1), Reason.WRONG_ROUND),
        (vote("c", 2, attempt=2), Reason.WRONG_ROUND),
        (vote("z", 2, poisoned=True), Reason.NOT_SELECTED),
        (vote("a", 2, poisoned=True), Reason.DUPLICATE),
        (vote("b", 2), Reason.DUPLICATE),
    ]
    for event, reason in cases:
        after, effects = step(state, event, PIGGY)
        assert effects == [CountInvalid(event.agent, reason, {reason.value: 1})]
        assert all_but_the_count(after) == all_but_the_count(state)


def test_a_plain_round_takes_no_votes():
    """In the first round there is no candidate, and a vote is out of its phase."""
    state, _ = start(PIGGY)
    assert step(state, vote("a"), PIGGY)[1] == [
        CountInvalid("a", Reason.WRONG_PHASE, {"wrong_phase": 1})
    ]
    assert step(state, replace(answers(state)[0], version=1), PIGGY)[1][0].reason == (
        Reason.WRONG_VERSION
    )


# When a round closes


def test_a_round_waits_for_all_answers_of_either_kind():
    """Two updates and a vote against it are three answers; two are not."""
    state, _ = second()
    state, effects = play(state, PIGGY, *answers(state, "ab"), Tick(10.9, set("abc")))
    assert effects == []
    _, effects = play(state, PIGGY, *against(state, "c"), Tick(10.91, set("abc")))
    assert len(records(effects)) == 1


def test_a_threshold_counts_answers_of_either_kind():
    """With threshold 2, an update and a vote close the round; who is missing is silent."""
    said = changed(PIGGY, threshold=2)
    state, _ = second(said)
    events = [*answers(state, "a"), *against(state, "b")]
    _, effects = play(state, said, *events, Tick(1.5, set("abc")))
    (record,) = records(effects)
    assert (record.missing, record.votes.silent, record.accepted) == (1, 1, True)


def test_the_deadline_closes_with_who_answered():
    """At the deadline most must have answered, and one update is enough for the next."""
    said = changed(PIGGY, min_votes=1)
    state, _ = second(said)
    state, _ = play(state, said, *answers(state, "b"), Tick(11.0, set("abc")))
    assert (state.version, pending(state).tolist()) == (1, [5, 2])


def test_where_most_are_silent_they_are_asked_again_then_the_candidate_is_rejected():
    """One of three answers by the deadline, twice: silence is no consent."""
    state, _ = second()
    state, effects = play(state, PIGGY, *answers(state, "b"), Tick(11.0, set("abc")))
    why = "too few votes: 1 of 3 came, 2 are needed"
    assert effects[0] == Publish(RoundLog(RoundRepeated(2, 2, why)))
    state, effects = play(state, PIGGY, *answers(state, "b"), Tick(21.0, set("abc")))
    assert (records(effects)[0].why, state.version, state.round) == (why, 0, 3)


def test_too_few_updates_repeat_the_round_with_its_candidate():
    """One of two needed: the same candidate at attempt 2, and everybody is asked again."""
    said = changed(PIGGY, min_updates=2)
    state, _ = second(said)
    events = [*answers(state, "b"), *against(state, "c")]
    state, effects = play(state, said, *events, Tick(11.0, set("abc")))
    why = "1 of 3 selected agents sent a valid update, 2 needed"
    assert plain(effects) == plain(
        [
            Publish(RoundLog(RoundRepeated(2, 2, why))),
            Publish(Candidate(2, 2, 0, vector(2, 2))),
            Publish(Round(2, 2, Phase.JUDGE_AND_TRAIN, 0, "all", (), 10)),
        ]
    )
    assert (len(state.votes), len(state.updates)) == (0, 0)
    state, _ = play(state, said, *answers(state), Tick(12.0, set("abc")))
    assert (state.round, state.version) == (3, 1)


def test_a_candidate_is_voted_down_however_few_updates_there_are():
    """A quorum against it ends the round, although nobody sent an update."""
    said = changed(PIGGY, min_updates=2)
    state, _ = second(said)
    state, effects = play(state, said, *against(state, "ab"), Tick(11.0, set("abc")))
    assert records(effects)[0].why == "voted down"
    assert (state.round, state.phase.name) == (3, Phase.TRAIN)


@pytest.mark.parametrize(
    "changes", [{"quorum": 5}, {"quorum": 4, "min_updates": 2}, {"decide": "pooled", "quorum": 4}]
)
def test_a_candidate_that_all_refuse_is_rejected_whatever_the_quorum(changes):
    """Three are called and none would train from it: less than q, but no attempt would help."""
    said = changed(PIGGY, **changes)
    state, _ = second(said)
    state, effects = play(state, said, *against(state, "abc"), Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert plain(effects) == plain(
        [
            Persist(record, None),
            Clear(Candidate(2, 1, 0, vector(0, 0))),
            Publish(RoundLog(record)),
            Publish(Round(3, 1, Phase.TRAIN, 0, "all", (), 10)),
        ]
    )
    assert (record.accepted, record.why) == (False, "voted down")
    assert record.votes.counts == (3, 0, 0)
    assert list(record.votes.voters) == [*"abc"]
    assert (record.judged, record.updates, record.votes.pooled) == (1, 0, None)
    assert (state.version, state.weights.tolist(), pending(state)) == (0, [0, 0], None)
    state, _ = play(state, said, *updates(state), Tick(3.0, set("abc")))
    assert (state.round, state.phase.name) == (4, Phase.JUDGE_AND_TRAIN)


def test_where_nobody_answers_the_round_is_repeated():
    """No vote and no update is no rejection: the same candidate is asked about again."""
    said = changed(PIGGY, quorum=5)
    state, _ = second(said)
    state, effects = play(state, said, Tick(11.0, set("abc")))
    assert not records(effects)
    assert (state.round, state.attempt, state.phase.name) == (2, 2, Phase.JUDGE_AND_TRAIN)


def test_one_who_would_train_from_it_keeps_it():
    """Of three two refuse it, less than q = 5: it passes, on the one update that there is."""
    said = changed(PIGGY, quorum=5)
    state, _ = second(said)
    events = [*against(state, "ac"), *answers(state, "b")]
    state, effects = play(state, said, *events, Tick(2.0, set("abc")))
    assert (records(effects)[0].accepted, state.version) == (True, 1)
    assert pending(state).tolist() == [5, 2]


def test_the_first_to_answer_do_not_refuse_for_all():
    """With threshold 1 of three, and q = 2, one vote against it is no quorum."""
    said = changed(PIGGY, threshold=1)
    state, _ = second(said)
    state, effects = play(state, said, *against(state, "b"), Tick(2.0, set("abc")))
    assert not any(record.why for record in records(effects))


def test_a_rule_that_cannot_work_with_the_updates_repeats_the_round():
    """Trimming one at each end leaves nothing of two updates; the candidate stays in question."""
    said = changed(PIGGY, rule=rules.build("trimmed_mean", count=1))
    state, _ = second(said)
    state, effects = play(state, said, *answers(state, "ab"), Tick(11.0, set("abc")))
    assert "leaves nothing of 2 updates" in published(effects, RoundLog)[0].record.why
    assert (state.attempt, state.version, state.phase.name) == (2, 0, Phase.JUDGE_AND_TRAIN)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rule": rules.build("trimmed_mean", count=1)}, "leaves nothing of 2 updates"),
        ({"min_updates": 3}, "2 of 3 selected agents sent a valid update, 3 needed"),
    ],
)
def test_where_all_have_answered_asking_again_would_change_nothing(changes, why):
    """Two updates are too few and no third will come: the verdict stands, what was learnt is lost.

    The next round trains from what was accepted.
    """
    said = changed(PIGGY, **changes)
    before, _ = second(said)
    events = [*answers(before, "ab"), *against(before, "c")]
    state, effects = play(before, said, *events, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record.accepted, record.judged, record.updates) == (True, 1, 2)
    assert why in record.lost
    assert (state.round, state.version, state.weights is pending(before)) == (3, 1, True)
    assert (state.phase.name, pending(state), effects[0].pending) == (Phase.TRAIN, None, None)


def test_who_sent_rubbish_is_waited_for_a_little():
    """All have answered but one whose update was refused: two seconds, then without it."""
    said = changed(PIGGY, invalid_seconds=2)
    state, _ = second(said)
    rubbish = InvalidMessage("c", Reason.NOT_FINITE, update=True)
    events = [*answers(state, "a"), *against(state, "b"), rubbish, Tick(2.0), Tick(3.9)]
    state, effects = play(state, said, *events)
    assert not records(effects)
    _, effects = play(state, said, Tick(4.0, set("abc")))
    assert records(effects)[0].missing == 1


def test_what_is_not_finite_is_not_put_before_anybody():
    """The candidate in question is decided on; what was to follow is lost, and nothing else."""
    huge = float(np.finfo(np.float32).max)
    state, _ = second()
    sent = answers(state, deltas=dict.fromkeys("abc", (huge, 0)))
    twice = changed(PIGGY, server_lr=2.0)
    state, effects = play(state, twice, *sent, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record.accepted, record.judged, record.version) == (True, 1, 1)
    assert record.lost == "the candidate is not finite"
    assert (state.phase.name, state.version, state.weights.tolist()) == (Phase.TRAIN, 1, [2, 2])
    assert (pending(state), effects[0].pending) == (None, None)
    assert not published(effects, Candidate)


def test_a_first_candidate_that_is_not_finite_is_rejected():
    """It is in the record as what it is, and the next round trains from the old version."""
    huge = float(np.finfo(np.float32).max)
    said = changed(PIGGY, server_lr=2.0)
    state, _ = start(said)
    sent = updates(state, dict.fromkeys("abc", (huge, 0)))
    state, effects = play(state, said, *sent, Tick(1.0, set("abc")))
    (record,) = records(effects)
    assert (record.why, record.judged) == ("the candidate is not finite", 1)
    assert (state.phase.name, pending(state), effects[0].pending) == (Phase.TRAIN, None, None)


def test_only_those_called_judge():
    """With two thirds called, the third has no say; others are called in the next round."""
    said = changed(PIGGY, client_fraction=0.67)
    state, _ = start(said)
    state, _ = play(state, said, *answers(state, sorted(state.selected)), Tick(1.0, set("abc")))
    assert len(state.selected) == 2
    (other,) = set("abc") - state.selected
    assert step(state, *against(state, [other]), said)[1][0].reason is Reason.NOT_SELECTED
    state, effects = play(
        state, said, *answers(state, sorted(state.selected)), Tick(2.0, set("abc"))
    )
    assert records(effects)[0].votes.counts == (0, 2, 0)


def test_a_resumed_round_goes_on_with_its_candidate():
    """From what was persisted the first tick opens the round as it was, candidate and all."""
    before, effects = second()
    kept = effects[0]
    resumed = before.but(phase=Waiting(kept.pending), round=kept.record.round)
    state, effects = step(resumed, Tick(50.0, set("abc")), PIGGY)
    assert plain(effects) == plain(
        [
            Publish(Candidate(2, 1, 0, vector(2, 2))),
            Publish(Round(2, 1, Phase.JUDGE_AND_TRAIN, 0, "all", (), 10)),
        ]
    )
    assert (state.attempt, state.selected, len(state.votes)) == (1, before.selected, 0)


def test_a_vote_that_says_clean_is_counted_without_an_update():
    """Who finds the candidate clean and has nothing to send is a voter all the same."""
    state, _ = second()
    events = [vote("a", 2), *answers(state, "bc")]
    state, effects = play(state, PIGGY, *events, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record.votes.clean, record.updates) == (3, 2)
    assert pending(state).tolist() == [2 + (3 + 2) / 2, 2 + (0 + 6) / 2]


# Whole federations

RUN = {
    "validation__piggy_back": True,
    "validation__quorum": 8,
    "validation__look_back": 6,
    "validation__judge": "calibrated",
    "agents__malicious": 0.2,
    "agents__attack": "mpaf",
    "agents__scale": 1e6,
    "agents__start": 9,
    "run__rounds": 14,
}
"""Four fakes of twenty, who strike from round 9 on and find every candidate clean.

The judge is ours, for the paper's would say a false "poisoned" now and then.
"""


@pytest.fixture(scope="module")
def piggy(tmp_path_factory):
    """Hold an undisturbed run."""
    return Federation(tmp_path_factory.mktemp("piggy"), **RUN).whole()


def test_contributors_are_the_jury(piggy):
    """Most of the honest reject what the fakes did in the round before; the old model stays."""
    before = [r for r in piggy.records if r.round <= 9]
    assert [r.judged for r in before] == [None, *range(1, 9)]
    assert [r.accepted for r in before] == [None, *8 * [True]]
    assert all(r.updates == 20 for r in before)
    assert [r.version for r in before] == list(range(9))
    after = piggy.records[9:]
    assert [r.judged for r in after] == [9, None, 11, None, 13]
    assert [r.accepted for r in after] == [False, None, False, None, False]
    for r in after:
        if r.judged:
            assert (r.why, r.votes.poisoned + r.updates) == ("voted down", 20)
            assert r.votes.poisoned > 9
        assert r.version == 8
        assert r.model.accuracy == before[-1].model.accuracy > 0.5
    assert max(piggy.models) == 8


def test_everybody_answers_once(piggy):
    """Nobody is silent, nobody is refused, and no round is repeated."""
    for r in piggy.records:
        assert (r.missing, r.traffic.invalid_messages, r.attempt) == (0, {}, 1)
        assert r.votes.asked == (20 if r.judged else 0)
        assert r.timing.seconds < 2
    assert piggy.said == []


@pytest.mark.parametrize("order", [1, 2])
def test_arrival_order_does_not_change_a_model(tmp_path, piggy, order):
    """With the inbox shuffled before every turn each accepted model has the same bits."""
    again = Federation(tmp_path, **RUN)
    again.inbox_order = np.random.default_rng(order)
    assert again.whole().models == piggy.models
    assert [r.votes.voters for r in again.records] == [r.votes.voters for r in piggy.records]


@pytest.mark.parametrize(("fleets", "shared"), [(3, False), (2, True)])
def test_processes_and_downlinks_change_nothing(tmp_path, piggy, fleets, shared):
    """In three processes, or through two shared downlinks, the run is the same."""
    again = Federation(tmp_path, fleets=fleets, shared=shared, **RUN).whole()
    assert again.models == piggy.models
    assert [r.votes.counts for r in again.records] == [r.votes.counts for r in piggy.records]


def at_first_training(state):
    return state.round == 1 and len(state.updates) == 7


def at_first_judging(state):
    return state.round == 2 and len(state.votes) == 0


def at_judging(state):
    return state.round == 6 and len(state.updates) == 7


def at_all_but_one(state):
    return state.round == 7 and len(state.updates) == 19


def at_a_rejection(state):
    return state.round == 10 and len(state.votes) == 12


def after_a_rejection(state):
    return state.round == 11 and len(state.updates) == 2


MOMENTS = [
    at_first_training,
    at_first_judging,
    at_judging,
    at_all_but_one,
    at_a_rejection,
    after_a_rejection,
]


def same_run(run, piggy):
    """Check that a run went as the undisturbed one did."""
    assert run.models == piggy.models
    assert [r.round for r in run.records] == list(range(1, 15))
    assert {r.attempt for r in run.records} == {1}
    assert [essence(r) for r in run.records] == [essence(r) for r in piggy.records]


def essence(record):
    """Return what a resumed run has to come to as well."""
    verdict = record.judged, record.accepted, record.version
    return *verdict, record.votes.counts, record.updates, record.candidate


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_resumed_run_is_the_same_run(tmp_path, piggy, moment):
    """Killed in the middle and started again from its folder, it judges the same candidate."""
    run = Federation(tmp_path, **RUN)
    run.begin()
    assert moment(run.run(moment))
    run.crash()
    run.whole()
    same_run(run, piggy)


@pytest.mark.parametrize("moment", [at_judging, at_a_rejection])
def test_a_run_whose_agents_vanish_with_it_is_the_same_run(tmp_path, piggy, moment):
    """Aggregator and agents killed together: newcomers fetch candidate and history."""
    run = Federation(tmp_path, **RUN)
    run.begin()
    run.run(moment)
    run.crash()
    run.join(2)
    run.whole()
    same_run(run, piggy)


def test_agents_who_start_anew_catch_up(tmp_path, piggy):
    """Agents killed in mid-round know nothing, and answer as those before them did."""
    run = Federation(tmp_path, **RUN)
    run.begin()
    run.run(at_judging)
    run.join()
    run.run()
    assert run.models == piggy.models


@pytest.mark.parametrize("kind", [Model, Candidate, RoundLog])
def test_a_crash_between_disk_and_network_loses_nothing(tmp_path, piggy, monkeypatch, kind):
    """What was persisted in round 5, but not told of, is told of on resuming."""
    run = Federation(tmp_path, **RUN)
    aggregator = run.begin()
    publish = aggregator.connection.publish

    def fail(message):
        told = {Model: "version", Candidate: "base"}.get(kind)
        at = message.record.round if kind is RoundLog else getattr(message, told, None)
        if isinstance(message, kind) and at == (5 if kind is RoundLog else 4):
            raise InterruptedError
        publish(message)

    monkeypatch.setattr(
        aggregator.connection, "publish", lambda m: fail(m) if isinstance(m, kind) else publish(m)
    )
    with pytest.raises(InterruptedError):
        run.run()
    run.crash()
    run.whole()
    same_run(run, piggy)


def test_a_run_that_goes_on_judges_the_candidate_it_ended_with(tmp_path, piggy):
    """Four rounds and then ten more are fourteen: the last candidate waits on disk."""
    run = Federation(tmp_path, **RUN | {"run__rounds": 4}).whole()
    assert max(run.models) == 3
    run.settings = run.settings.replaced(run=run.settings.run.replaced(rounds=14))
    run.join()
    run.whole()
    same_run(run, piggy)


def test_a_contributor_that_trained_from_the_model_is_refused(tmp_path):
    """An update from the old version, sent while a candidate is judged, does not count."""
    run = Federation(tmp_path, **RUN | {"run__rounds": 3})
    run.begin()
    run.run(at_first_judging)
    size = len(run.state.weights)
    run.fleets[0].transport.send(
        "agent-00", Update("agent-00", 2, 0, 40, np.zeros(size, np.float32))
    )
    run.run()
    assert [r.traffic.invalid_messages for r in run.records] == [{}, {"wrong_version": 1}, {}]
    assert [r.updates for r in run.records] == [20, 20, 20]
