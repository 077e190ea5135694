"""The verdict: quorums and liars in numbers, evidence, and who votes in which configuration."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.by_hand import (
    changed,
    evidence,
    play,
    policy,
    published,
    records,
    start,
    updates,
    vector,
    vote,
)

from fedjury.config.sections import Validation
from fedjury.judges import evidence as scores
from fedjury.judges.judgements import Judgements
from fedjury.judges.server_validator import ServerValidator, server_validator
from fedjury.learning import models
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.task import task_of
from fedjury.learning.weights import flatten
from fedjury.protocol import fields, topics
from fedjury.protocol.harm import Harm
from fedjury.protocol.messages import Candidate, Phase, Vote
from fedjury.protocol.record import VOTED_DOWN, Ballot, Quality
from fedjury.reports import jury as quorums
from fedjury.round import verdict
from fedjury.round.collect.update_buffer import UpdateBuffer
from fedjury.round.state import Aggregated, GlobalModel, Persist, State, Tick, Training

# Counting


def test_votes_are_counted_by_hand():
    """Of five asked two say poisoned, one clean, and two nothing."""
    ballots = {"a": vote("a", poisoned=True), "b": vote("b"), "c": vote("c", poisoned=True)}
    votes = verdict.decide(ballots, Validation(), 5).votes
    assert votes.counts == (2, 1, 2)
    assert str(votes) == "2 poisoned, 1 clean, 2 silent"
    assert verdict.decide({}, Validation(), 3).votes.counts == (0, 0, 3)


def passes(poisoned, clean, asked, quorum):
    """Return whether a candidate with these votes is not voted down."""
    ballots = {f"p{i}": vote(f"p{i}", poisoned=True) for i in range(poisoned)}
    ballots |= {f"c{i}": vote(f"c{i}") for i in range(clean)}
    given = Validation().model_copy(update={"quorum": quorum})
    return verdict.decide(ballots, given, asked).why != VOTED_DOWN


@pytest.mark.parametrize(("poisoned", "stays"), [(0, True), (4, True), (5, False), (10, False)])
def test_the_quorum_is_the_least_number_that_rejects(poisoned, stays):
    """With q = 5 of ten, four are not enough and five are; silent ones do not count."""
    assert passes(poisoned, 0, 10, 5) is stays
    assert passes(poisoned, 10 - poisoned, 10, 5) is stays


# Liars that can be withstood


@pytest.mark.parametrize(
    ("voters", "errs", "found"),
    [
        (10, 0.4, 3.75),
        (10, 0.5, 10 / 3),
        (10, 0.0, 5),  # as many liars as honest ones are too many
        (9, 0.0, 4.5),
        (16, 0.4, 6),
        (3, 0.5, 1),
        (1, 0.0, 0.5),
        (0, 0.4, 0),
        (10, 1.0, 0),  # nobody judges rightly
    ],
)
def test_the_bound_by_hand(voters, errs, found):
    """It is (1 - r) n / (2 - r): .6 * 10 / 1.6 of ten voters where .4 of the honest err."""
    assert quorums.bound(voters, errs) == pytest.approx(found)


@pytest.mark.parametrize(
    ("voters", "liars", "errs", "safe"),
    [
        (10, 0, 0.4, [1, 2, 3, 4, 5, 6]),  # .6 of 10
        (10, 1, 0.4, [2, 3, 4, 5]),  # .6 of 9 is 5.4
        (10, 2, 0.4, [3, 4]),  # .6 of 8 is 4.8
        (10, 3, 0.4, [4]),  # .6 of 7 is 4.2
        (10, 4, 0.4, []),  # .6 of 6 is 3.6
        (10, 3, 0.5, []),  # 3.5: no whole number is above 3 and not above that
        (10, 4, 0.0, [5, 6]),
        (10, 5, 0.0, []),
        (5, 0, 0.4, [1, 2, 3]),
        (1, 0, 0.0, [1]),
        (1, 0, 0.4, []),
    ],
)
def test_safe_quorums_by_hand(voters, liars, errs, safe):
    """More than the liars, and no more than the honest ones who judge rightly."""
    assert list(quorums.safe_quorums(voters, liars, errs)) == safe


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20))
def test_a_safe_quorum_is_one_that_liars_cannot_turn(voters, liars, twentieths):
    """It is safe exactly if liars alone reject nothing, and cannot save what is poisoned."""
    liars, errs = min(liars, voters), twentieths / 20
    right = (20 - twentieths) * (voters - liars) // 20  # honest ones who judge rightly
    safe = quorums.safe_quorums(voters, liars, errs)
    for quorum in range(1, voters + 2):
        clean, poisoned = liars < quorum, right < quorum
        assert (quorum in safe) is (clean and not poisoned)
    assert not safe or liars < quorums.bound(voters, errs)


@pytest.mark.parametrize("quorum", [3, 4, 5])
def test_the_advice_warns_of_a_quorum_that_is_not_safe(quorum):
    """With three liars of ten only 4 is safe; any other quorum is called by its number."""
    lines = quorums.advice(10, 3, 0.4, quorum)
    assert lines[0] == (
        "10 voters, 3 of them malicious (validation.tolerated_malicious), 40% of the others wrong: "
        "safe quorums: 4 to 4; fewer than 3.75 malicious ones are tolerated"
    )
    warning = f"warning: the quorum {quorum} is not safe against that"
    assert lines[1:] == ([] if quorum == 4 else [warning])


def test_the_advice_says_when_no_quorum_is_safe():
    """Five liars of ten can always have their way."""
    first, second = quorums.advice(10, 5, 0.0, 5)
    assert first.endswith("safe quorums: none; fewer than 5.00 malicious ones are tolerated")
    assert second == "warning: the quorum 5 is not safe against that"


# Evidence


ROWS = (1, 2, 3, 5), (9, 6, 3, 300), (2, 4, 6, 12)
"""What three validators measured of three accepted models and of the candidate. By hand:

Each in units of its own s = 1, 3, 2 around its mean 2, 6, 4:  -1 0 1 | 3,  1 0 -1 | 98,  -1 0 1 | 4
All of them: the means are -1/3 0 1/3 | 35, s = 1/3, less than the 1 / √3 of three independent
votes, which counts instead: the score is 35 / (2/3) = 52.5
Without the largest and the smallest candidate, the third alone: 4 / √(4/3) = 2 √3
"""

LARGEST = float(np.finfo(np.float32).max)


def limit(false_alarm):
    """Return Student's quantile with two degrees of freedom, which has a closed form."""
    return (1 - 2 * false_alarm) / np.sqrt(2 * false_alarm * (1 - false_alarm))


def saw(*rows):
    """Make votes of validators who measured these."""
    return [vote(f"v{i}", seen=row) for i, row in enumerate(rows)]


def three(*scores):
    """Make votes whose averages of accepted models vary by 1 around 0, scoring the candidate.

    0, 1 and -1 came before: s = 1, and 2 / √3 times a score of it is the candidate's number.
    """
    return saw(*((0, 1, -1, score * 2 / np.sqrt(3)) for score in scores))


@pytest.mark.parametrize("false_alarm", [0.02, 0.2, 0.5])
@pytest.mark.parametrize(("liars", "score"), [(0, 52.5), (1, 2 * np.sqrt(3)), (2, 2 * np.sqrt(3))])
def test_evidence_by_hand(liars, score, false_alarm):
    """The score of the averages of those who are left, less Student's quantile; one is left."""
    found = scores.evidence(saw(*ROWS), liars, false_alarm)
    assert found == pytest.approx(score - limit(false_alarm))
    assert limit(0.02) == pytest.approx(4.84873, abs=1e-5)
    assert limit(0.2) == pytest.approx(1.06066, abs=1e-5)


def test_evidence_of_one_validator_is_its_own():
    """Two accepted models, 0 and 2, are the fewest: s = √2, (5 - 1) / (√2 √(3/2)) = 4 / √3."""
    found = scores.evidence(saw((0, 2, 5)), 0, 0.25)
    assert found == pytest.approx(4 / np.sqrt(3) - 1)  # Cauchy: tan(π / 4) is 1


def test_evidence_of_one_validator_whose_models_were_all_alike():
    """Its s is raised to .1, once: the candidate scores what the calibrated judge itself says."""
    still = scores.evidence(saw((1, 1, 1, 1, 1.25)), 0, 0.1)
    assert still == pytest.approx(0.25 / (0.1 * np.sqrt(5 / 4)) - stats.t.isf(0.1, 3))


@pytest.mark.parametrize("seed", range(20))
def test_which_of_equal_votes_is_left_out_is_not_for_rounding_to_say(seed):
    """Votes say the same in other units; ties among them stay ties: the evidence is the same."""
    rng = np.random.default_rng(seed)
    rows = rng.permuted(np.tile([0.0, 1, 2, 5], (7, 1)), axis=1)  # many alike, s far above .1
    rows = np.column_stack([rows, rng.integers(3, 5, 7)])
    scaled = rng.choice([1, 3, 7], (7, 1)) * rows
    found = scores.evidence(saw(*scaled), 2, 0.1)
    assert found == pytest.approx(scores.evidence(saw(*rows), 2, 0.1))


@pytest.mark.parametrize("times", [3, 7, 11, 13])
def test_evidence_that_is_nothing_but_rounding_is_none(times):
    """Two who see as much in opposite directions, in other units, cancel out: 2 / s - 2 / s."""
    votes = saw((0, 1, 5, 4), (0, times, 5 * times, 0))
    assert scores.evidence(votes, 0, 0.5) == 0


NOTHING = {
    "nobody voted": ([], 0),
    "nobody voted, liars": ([], 2),
    "nobody saw anything": ([(), (), ()], 0),
    "one number": ([(7,), (8,), (9,)], 0),
    "one accepted model": ([(0, 9), (0, 9), (0, 9)], 0),
    "most saw nothing": ([(), *ROWS[:1], ()], 0),
    "one accepted model, liars": ([(0, 9), (0, 9), (0, 9)], 1),
}


@pytest.mark.parametrize("case", NOTHING)
def test_where_there_is_no_evidence(case):
    """Too short a history, or nobody at all, says nothing."""
    rows, liars = NOTHING[case]
    assert scores.evidence(saw(*rows), liars, 0.02) is None


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        (ROWS[:2], ROWS[:2]),
        (ROWS[:1], ROWS[:1]),
        ([*ROWS, (0, 1, 2, 2)], (ROWS[0], ROWS[2])),
        ([*ROWS[:2], (1, 2, 3)], ROWS[:2]),
    ],
)
def test_one_or_two_are_always_left(rows, left):
    """More liars than there are to leave out at each end leave the middle: one, or two of even."""
    assert scores.evidence(saw(*rows), 9, 0.1) == scores.evidence(saw(*left), 0, 0.1)


def test_evidence_of_another_length_is_left_out():
    """Most have seen three accepted models; who has seen two, or none, is not looked at."""
    alone = scores.evidence(saw(*ROWS), 0, 0.1)
    others = (9, 9, -50), (), (1, 2, 3, 4, -50), tuple(range(101))
    for where in range(4):
        rows = list(ROWS)
        rows.insert(where, others[where])
        assert scores.evidence(saw(*rows), 0, 0.1) == alone
    assert scores.evidence(saw(others[0], *ROWS, others[1]), 0, 0.1) == alone


@given(st.permutations("abcde"), st.data(), st.integers(0, 2))
def test_the_order_in_which_votes_come_does_not_matter(order, data, liars):
    """To the last bit, for the same seed gives the same models."""
    rows = st.lists(st.floats(-LARGEST, LARGEST, width=32), min_size=4, max_size=4)
    votes = {name: vote(name, seen=data.draw(rows)) for name in "abcde"}
    said = policy(validators=5, decide="score", tolerated_malicious=liars)
    state, _ = start(said, "abcde")
    sent = updates(state, dict.fromkeys("abcde", (1, 1)))
    state, _ = play(state, said, *sent, Tick(1.0, set("abcde")))
    found = set()
    for names in ("abcde", order):
        ballots = [votes[name] for name in names]
        _, effects = play(state, said, *ballots, Tick(2.0, set("abcde")))
        found |= {record.votes.evidence for record in records(effects)}
    assert len(found) == 1
    assert math.isfinite(found.pop())


@given(
    st.lists(
        st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4), min_size=1, max_size=6
    ),
    st.lists(st.lists(st.floats(-LARGEST, LARGEST, width=32), min_size=4, max_size=4), max_size=3),
)
def test_liars_hide_nothing_that_every_honest_one_sees(honest, lies):
    """Whatever they claim, the evidence is that of the honest one who is the least sure, or more.

    An average of rows of which each varies by 1 varies by 1 at most, however they are made.
    """
    sure = min((row[-1] - np.mean(row[:-1])) / max(np.std(row[:-1], ddof=1), 0.1) for row in honest)
    if len(lies) < len(honest) and sure > 0:
        found = scores.evidence(saw(*honest, *lies), len(lies), 0.02)
        assert found >= sure / np.sqrt(4 / 3) - limit(0.02) - 1e-6


CALM = [[1.0, 1.1, 1.2], [1.1, 1.2, 1.3], [1.2, 1.1, 1.2], [1.0, 1.2, 1.1]]
"""What four honest ones measured of three accepted models."""

CLAIMS = list(itertools.product([-LARGEST, 1.1, LARGEST], repeat=4))
"""What a liar may say it measured."""


def with_one_liar(candidate, claims):
    """Return the evidence of four honest ones and one liar, of whom one is left out at each end."""
    honest = [(*row, candidate + i / 100) for i, row in enumerate(CALM)]
    return [scores.evidence(saw(*honest, claim), 1, 0.02) for claim in claims]


OTHERS = [(), (LARGEST,), (0, 0, LARGEST), (0, 0, 0, 0, LARGEST)]
"""Claims of another length."""


def test_one_liar_cannot_hide():
    """With one left out at each end, no claim about any of the models saves what four have seen."""
    assert min(with_one_liar(3.0, [*CLAIMS, *OTHERS])) > 0


@pytest.mark.parametrize("claim", [(1.1, 1.1, 1.1, LARGEST), (0, 0, 0, LARGEST), *OTHERS])
def test_one_liar_cannot_reject_with_a_huge_number(claim):
    """With one left out at each end the largest number that there is counts for nothing."""
    assert with_one_liar(1.1, [claim])[0] < 0


def test_one_liar_cannot_reject():
    """No claim does, not even one about accepted models alone."""
    assert max(with_one_liar(1.1, CLAIMS)) < 0


def test_one_liar_among_those_who_are_not_ready_for_it_does_both():
    """With nobody left out one huge number rejects a clean candidate, and hides a poisoned one."""
    clean, poison = ([(*row, candidate) for row in CALM] for candidate in (1.2, 3.0))
    assert scores.evidence(saw(*clean, (1.1, 1.1, 1.1, LARGEST)), 0, 0.02) > 0
    assert scores.evidence(saw(*poison, (1.1, 1.1, 1.1, -LARGEST)), 0, 0.02) < 0


@pytest.mark.parametrize("liars", [0, 1])
@pytest.mark.parametrize("length", [3, 101])
def test_the_largest_numbers_that_can_be_sent_break_nothing(liars, length):
    """What a decoder lets in must not stop the aggregator when it is added up, or be no number."""
    rng = np.random.default_rng(length)
    for _ in range(20):
        rows = rng.choice([-LARGEST, 0.0, LARGEST], (4, length))
        assert math.isfinite(scores.evidence(saw(*rows), liars, 0.02))
    steady = np.full((4, length), -LARGEST)
    steady[:, -1] = LARGEST
    assert scores.evidence(saw(*steady), liars, 0.02) > 1e30


def test_scores_and_heads_are_no_evidence():
    """What a vote says beside its evidence does not touch it."""
    ballots = saw(*ROWS)
    claims = [replace(b, poisoned=True, score=1e308, threshold=-1e308) for b in ballots]
    assert scores.evidence(claims, 1, 0.02) == scores.evidence(ballots, 1, 0.02)


# The server's own vote


def opinion(*, poisoned, saw=(1, 2, 3, 6)):
    return Judgements(
        np.array([poisoned]), np.array([3.0]), np.array([2.5]), np.array([saw], dtype=float)
    )


def server(*, poisoned=False, models_=3):
    """Make a server that finds in a model its weights, and always votes the same way."""
    return ServerValidator(
        profile=lambda weights: weights.astype(np.float64),
        judge=lambda profiles, candidates: opinion(poisoned=poisoned),
        samples=70,
        models=models_,
    )


def test_the_server_judges_as_one_validator():
    """It asks its judge about one row: what it found in the accepted models and the candidate."""
    asked = []

    def judge(profiles, candidates):
        asked.append((profiles.tolist(), candidates.tolist()))
        return opinion(poisoned=True)

    own = server()._replace(judge=judge)
    known = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    said = own.cast(known, np.array([5.0, 6.0]), (7, 2))
    assert asked == [([[[1, 2], [3, 4]]], [[5, 6]])]
    assert said == Vote(
        fields.SERVER,
        7,
        2,
        poisoned=True,
        score=3.0,
        threshold=2.5,
        samples=70,
        evidence=evidence(1, 2, 3, 6),
    )
    assert [type(value) for value in (said.poisoned, said.score, said.threshold)] == [
        bool,
        float,
        float,
    ]


def test_the_server_looks_at_the_samples_it_kept():
    """Of a model that calls everything 1, on labels 0 1 1 2: one each of 0 and 2 is wrong."""
    model = models.build("mlp", (1, 8, 8), 3, seed=0)
    weights = np.zeros_like(flatten(model))
    weights[-2] = 1  # the last layer's bias of class 1
    rng = np.random.default_rng(0)
    x = rng.random((9, 1, 8, 8), dtype=np.float32)
    y = np.array([0, 0, 1, 2, 2, 1, 0, 2, 1])
    data = Dataset("some", 3, x, y, x[:1], y[:1])
    own = server_validator(
        model, task_of(data), data, np.array([1, 2, 5, 7]), lambda *_: None, 6, "float32"
    )
    np.testing.assert_array_equal(own.profile(weights), [1, 0, 1, 0, 2, 0])
    assert (own.samples, own.models) == (4, 7)


def test_no_agent_can_be_called_as_the_server_is():
    """Its name in the record cannot be taken: it has a colon in it."""
    assert not topics.NAME.fullmatch(fields.SERVER)


# Who votes in which configuration

SERVER, CLIENTS, BOTH = "server", "clients", "both"


def decided(who, poisoned, own=False, quorum=2, **more):
    """Play one round in which these of three agents, and the server maybe, say "poisoned"."""
    asked = 0 if who == SERVER else 3
    said = policy(validators=asked, quorum=1 if who == SERVER else quorum, **more)
    if who != CLIENTS:
        said = changed(said, server_validator=server(poisoned=own))
    state, _ = start(said)
    state = state.but(model=replace(state.model, profiles=(np.zeros(2),)))
    state, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    if asked:
        assert state.phase.name is Phase.VALIDATE
        ballots = [vote(name, poisoned=name in poisoned) for name in "abc"]
        state, effects = play(state, said, *ballots, Tick(2.0, set("abc")))
    return records(effects)[0]


@pytest.mark.parametrize(
    ("who", "poisoned", "own", "counted", "accepted"),
    [
        (CLIENTS, "a", False, (1, 2, 0), True),
        (CLIENTS, "ac", False, (2, 1, 0), False),
        (SERVER, "", False, (0, 1, 0), True),
        (SERVER, "", True, (1, 0, 0), False),
        (BOTH, "", True, (1, 3, 0), True),
        (BOTH, "b", False, (1, 3, 0), True),
        (BOTH, "b", True, (2, 2, 0), False),
        (BOTH, "bc", False, (2, 2, 0), False),
        (BOTH, "abc", True, (4, 0, 0), False),
    ],
)
def test_votes_of_each_configuration(who, poisoned, own, counted, accepted):
    """With q = 2: clients are counted, both are n + 1 voters, and the server alone decides."""
    record = decided(who, poisoned, own)
    assert record.votes.counts == counted
    assert (record.accepted, record.why) == (accepted, "" if accepted else "voted down")
    names = {SERVER: [fields.SERVER], CLIENTS: [*"abc"], BOTH: [fields.SERVER, *"abc"]}[who]
    assert list(record.votes.voters) == names
    if who != CLIENTS:
        mine = Ballot(own, 3.0, 2.5, 0)
        assert record.votes.voters[fields.SERVER] == mine
    assert record.version == int(accepted)


def test_where_the_server_judges_alone_nobody_is_asked():
    """No candidate is published and no vote opened: the round closes at once."""
    said = policy(server_validator=server(poisoned=True), quorum=1)
    state, _ = start(said)
    state = state.but(model=replace(state.model, profiles=(np.zeros(2),)))
    state, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    assert (state.round, state.version, state.phase.name) == (2, 0, Phase.TRAIN)
    assert not published(effects, Candidate)
    assert records(effects)[0].judged == 1


def test_silent_clients_are_silent_beside_the_server():
    """Of three clients and the server two say nothing by the deadline: one of four is silent."""
    said = policy(validators=3, server_validator=server(), quorum=2)
    state, _ = start(said)
    state = state.but(model=replace(state.model, profiles=(np.zeros(2),)))
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    _, effects = play(state, said, vote("a"), vote("b"), Tick(6.0, set("abc")))
    assert records(effects)[0].votes.counts == (0, 3, 1)


@pytest.mark.parametrize(("warm_up", "voters"), [(0, [fields.SERVER, *"abc"]), (1, [])])
def test_nobody_votes_in_the_warm_up(warm_up, voters):
    """In a round of the warm-up neither clients nor server vote, and every candidate passes."""
    said = policy(validators=3, server_validator=server(poisoned=True), quorum=1, warm_up=warm_up)
    state, _ = start(said)
    state = state.but(model=replace(state.model, profiles=(np.zeros(2),)))
    state, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    if not warm_up:
        ballots = [vote(name) for name in "abc"]
        state, effects = play(state, said, *ballots, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert list(record.votes.voters) == voters
    assert record.accepted is bool(warm_up)
    assert len(state.model.profiles) == 1 + warm_up


def test_the_server_remembers_what_it_found_in_accepted_models():
    """The last l + 1 = 3 of them, oldest first; nothing of a candidate that was rejected."""
    said = policy(server_validator=server(), quorum=1, look_back=2)
    down = changed(said, server_validator=server(poisoned=True))
    state, _ = start(said)
    state = state.but(model=replace(state.model, profiles=(vector(0, 0),)))
    for number, now in enumerate([said, said, down, said], start=1):
        state, _ = play(state, now, *updates(state), Tick(float(number), set("abc")))
    assert state.version == 3
    assert [found.tolist() for found in state.model.profiles] == [[2, 2], [4, 4], [6, 6]]


def test_no_vote_is_cast_on_what_is_not_finite():
    """The server does not look at a candidate of infinities either."""
    said = policy(server_validator=server(), quorum=1, server_lr=2.0)
    state, _ = start(said)
    huge = float(np.finfo(np.float32).max)
    sent = updates(state, dict.fromkeys("abc", (huge, huge)))
    state, effects = play(state, said, *sent, Tick(1.0, set("abc")))
    (record,) = records(effects)
    assert (record.why, record.votes.voters) == ("the candidate is not finite", {})
    assert state.model.profiles == ()


SCORES = {
    "one lies": (three(0, 1, 1e38), 1, 0.2, 1.0, True),
    "the one in the middle decides": (three(-9, 2, 3), 1, 0.2, 2.0, False),
    "all are added up": (three(-1, -1, 50), 0, 0.2, 16.0, False),
    "a rare false alarm takes more": (three(-1, -1, 8), 0, 0.2, 2.0, False),
    "as much is usual": (three(-1, -1, 8), 0, 0.02, 2.0, True),
    "zero is no evidence": (three(0, 0, 0), 1, 0.5, 0.0, True),
    "one is left": (three(-50, 2, 50), 2, 0.2, 2.0, False),
}
"""Votes, liars, the rate of false alarms, the score, and whether the candidate passes."""


@pytest.mark.parametrize("case", SCORES)
@pytest.mark.parametrize("heads", [False, True])
def test_evidence_decides_where_it_is_to(case, heads):
    """Above 0 it rejects, whatever heads would say."""
    votes, liars, false_alarm, score, accepted = SCORES[case]
    found = pytest.approx(score - limit(false_alarm), abs=1e-6)
    said = policy(
        validators=3, decide="score", tolerated_malicious=liars, quorum=1, false_alarm=false_alarm
    )
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    ballots = [
        replace(ballot, agent=name, poisoned=heads)
        for name, ballot in zip("abc", votes, strict=True)
    ]
    state, effects = play(state, said, *ballots, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record.votes.evidence, record.accepted) == (found, accepted)
    assert record.why == ("" if accepted else "voted down")


@pytest.mark.parametrize("heads", ["", "a", "ab"])
def test_where_nobody_saw_enough_heads_decide(heads):
    """With one accepted model there is no evidence: q = 2 of three reject, whatever they saw."""
    said = policy(validators=3, decide="score", tolerated_malicious=1)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    ballots = [vote(name, poisoned=name in heads, seen=(0, 9)) for name in "abc"]
    _, effects = play(state, said, *ballots, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record.votes.evidence, record.accepted) == (None, len(heads) < 2)


def test_where_heads_decide_there_is_no_evidence_in_the_record():
    """A quorum looks at nothing else."""
    state, _ = start(policy(validators=3))
    state, _ = play(state, policy(validators=3), *updates(state), Tick(1.0, set("abc")))
    ballots = [replace(b, agent=n) for n, b in zip("abc", three(50, 50, 50), strict=True)]
    _, effects = play(state, policy(validators=3), *ballots, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record.votes.evidence, record.accepted) == (None, True)


def test_what_the_server_saw_is_one_of_them():
    """Both: clients' candidates at 0 and the server's at 8 √3 are 2 √3 on average, scoring 3."""
    judge = lambda *_: opinion(poisoned=False, saw=(0, 1, -1, 8 * np.sqrt(3)))  # noqa: E731
    own = server()._replace(judge=judge)
    said = policy(validators=3, decide="score", server_validator=own, false_alarm=0.2)
    state, _ = start(said)
    state = state.but(model=replace(state.model, profiles=(np.zeros(2),)))
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    ballots = [replace(b, agent=name) for name, b in zip("abc", three(0, 0, 0), strict=True)]
    _, effects = play(state, said, *ballots, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert record.votes.evidence == pytest.approx(3 - limit(0.2), abs=1e-6)
    assert record.why == "voted down"
    assert list(record.votes.voters) == [fields.SERVER, *"abc"]


def test_a_backdoor_s_success_is_in_every_record():
    """Of the candidate and of the model after the round: rejected, the old one stays."""
    measure = lambda weights: Quality(None, float(weights[1]) / 10)  # noqa: E731
    said = policy(validators=1, quorum=1, measure=measure)
    state, _ = start(said)
    seen = []
    for number, bad in enumerate([False, True, False]):
        state, _ = play(state, said, *updates(state), Tick(float(number), set("abc")))
        (judge,) = state.validators
        ballot = vote(judge, state.round, poisoned=bad)
        state, effects = play(state, said, ballot, Tick(float(number), set("abc")))
        seen += [(r.model.backdoor, r.candidate.backdoor) for r in records(effects)]
    assert seen == [(0.2, 0.2), (0.2, 0.4), (0.4, 0.4)]


def test_the_largest_backdoor_let_in_and_the_accuracy_lost_stay_in_every_record():
    """Four candidates by hand, of which the worst is rejected: it was not let in, and cost nothing.

    The accuracy of the first model counts, its backdoor was let in by nobody.
    """
    qualities = [Quality(0.6, 0.1), Quality(0.2, 0.9), Quality(0.5, 0.25), Quality(0.55, 0.125)]
    made = iter(qualities)
    said = policy(validators=1, quorum=1, measure=lambda _: next(made))
    state, _ = start(said)
    first = Harm().after(0.7)
    state = state.but(model=replace(state.model, harm=first))
    seen = []
    for number, bad in enumerate([False, True, False, False]):
        state, _ = play(state, said, *updates(state), Tick(float(number), set("abc")))
        (judge,) = state.validators
        ballot = vote(judge, state.round, poisoned=bad)
        state, effects = play(state, said, ballot, Tick(float(number), set("abc")))
        seen += [r.harm for r in records(effects)]
    assert seen == [
        Harm(0.1, 0.7, 0.1),
        Harm(0.1, 0.7, 0.1),
        Harm(0.25, 0.7, 0.2),
        Harm(0.25, 0.7, 0.15),
    ]


def test_closing_writes_down_first():
    """Whoever judges, the record and the model are durable before anything is told."""
    model, training = GlobalModel(0, vector(0, 0)), Training(UpdateBuffer.of("a"))
    state = State(model, 1, training, selected=frozenset("a"))
    result = verdict.RoundResult(Aggregated(vector(1, 1)), candidate=vector(1, 1))
    _, effects = verdict.finish(state, Tick(1.0), policy(), result)
    assert isinstance(effects[0], Persist)
