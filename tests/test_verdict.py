"""The verdict: quorums and liars in numbers, evidence, and who votes in which configuration."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from by_hand import play, policy, published, records, start, updates, vector, vote
from hypothesis import given
from hypothesis import strategies as st

from aggregator import closing, verdict
from aggregator.own_vote import NAME, OwnVote, own_vote
from aggregator.state import Persist, State, Tick
from learning import models
from learning.datasets.dataset import Dataset
from learning.validation.opinions import Opinions
from learning.weights import flatten
from protocol import topics
from protocol.messages import Candidate, Phase, Vote

# Counting


def test_votes_are_counted_by_hand():
    """Of five asked two say poisoned, one clean, and two nothing."""
    ballots = [vote("a", poisoned=True), vote("b"), vote("c", poisoned=True)]
    assert verdict.count(ballots, 5) == (2, 1, 2)
    assert verdict.count([], 3) == (0, 0, 3)


@pytest.mark.parametrize(("poisoned", "passes"), [(0, True), (4, True), (5, False), (10, False)])
def test_the_quorum_is_the_least_number_that_rejects(poisoned, passes):
    """With q = 5 of ten, four are not enough and five are; silent ones do not count."""
    silent = 10 - poisoned
    assert verdict.accepts(verdict.Verdict(poisoned, 0, silent), 5) is passes
    assert verdict.accepts(verdict.Verdict(poisoned, silent, 0), 5) is passes


# Liars that can be withstood


@pytest.mark.parametrize(
    ("voters", "errs", "most"),
    [
        (10, 0.4, 3),  # 3.75
        (10, 0.5, 3),  # 3.33
        (10, 0.0, 4),  # 5: as many liars as honest ones are too many
        (9, 0.0, 4),  # 4.5
        (16, 0.4, 5),  # 6: the bound itself is not tolerated
        (9, 0.5, 2),  # 3
        (3, 0.5, 0),  # 1
        (2, 0.0, 0),  # 1
        (1, 0.0, 0),
        (0, 0.4, 0),
        (10, 1.0, 0),  # nobody judges rightly
    ],
)
def test_how_many_liars_are_tolerated(voters, errs, most):
    """Fewer than (1 - r) n / (2 - r): of ten voters three, whether .4 or .5 of the others err."""
    assert verdict.tolerated(voters, errs) == most


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
    assert list(verdict.safe_quorums(voters, liars, errs)) == safe


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20))
def test_a_safe_quorum_is_one_that_liars_cannot_turn(voters, liars, twentieths):
    """It is safe exactly if liars alone reject nothing, and cannot save what is poisoned."""
    liars, errs = min(liars, voters), twentieths / 20
    right = (20 - twentieths) * (voters - liars) // 20  # honest ones who judge rightly
    safe = verdict.safe_quorums(voters, liars, errs)
    for quorum in range(1, voters + 2):
        clean = verdict.accepts(verdict.Verdict(liars, voters - liars, 0), quorum)
        poisoned = verdict.accepts(verdict.Verdict(right, voters - right, 0), quorum)
        assert (quorum in safe) is (clean and not poisoned)
    assert not safe or liars <= verdict.tolerated(voters, errs)


@pytest.mark.parametrize("quorum", [3, 4, 5])
def test_the_advice_warns_of_a_quorum_that_is_not_safe(quorum):
    """With three liars of ten only 4 is safe; any other quorum is called by its number."""
    lines = verdict.advice(10, 3, 0.4, quorum)
    assert lines[0] == (
        "10 voters, 3 of them liars, 40% of the others wrong: safe quorums: 4 to 4; "
        "as many as 3 liars can be withstood"
    )
    warning = f"warning: the quorum {quorum} is not safe against that"
    assert lines[1:] == ([] if quorum == 4 else [warning])


def test_the_advice_says_when_no_quorum_is_safe():
    """Five liars of ten can always have their way."""
    first, second = verdict.advice(10, 5, 0.0, 5)
    assert "safe quorums: none" in first
    assert second == "warning: the quorum 5 is not safe against that"


# Evidence


def margins(*values):
    """Make votes whose scores exceed their thresholds by these."""
    return [Vote(f"v{i}", 1, 1, value > 0, 1 + value, 1.0, 4) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "liars", "found"),
    [
        ((2, -1, 100, 0.5), 0, 25.375),
        ((2, -1, 100, 0.5), 1, 1.25),
        ((2, -1, 100, 0.5), 2, None),
        ((2, -1, 100, 0.5), 3, None),
        ((3, 7, 5), 1, 5),
        ((-0.25,), 0, -0.25),
        ((), 0, None),
        ((), 2, None),
    ],
)
def test_evidence_by_hand(values, liars, found):
    """The mean of what is left when the largest and the smallest are out, if anything is."""
    assert verdict.evidence(margins(*values), liars) == found


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9),
    st.lists(st.floats(-1e300, 1e300), max_size=3),
)
def test_liars_do_not_push_the_evidence_beyond_the_honest(honest, lies):
    """With as many left out at each end as there are liars, some honest ones bracket it."""
    found = verdict.evidence(margins(*honest, *lies), len(lies))
    if found is not None:
        low, high = (min(honest), max(honest)) if lies else (min(honest) - 1, max(honest) + 1)
        assert low - 1e-9 <= found <= high + 1e-9


def test_one_huge_lie_does_nothing():
    """1e300 against four who find the candidate clean: with one liar left out it is clean."""
    said = [-1.0, -1.0, -0.5, -0.5]
    assert verdict.evidence(margins(*said, 1e300), 1) == pytest.approx(-2 / 3)
    assert verdict.evidence(margins(*said, 1e300), 0) > 0


@pytest.mark.parametrize("liars", [0, 1])
def test_the_largest_scores_that_can_be_sent_break_nothing(liars):
    """What a decoder lets in, up to 1e308, must not stop the aggregator when it is added up."""
    for first, second in ((1e308, -1e308), (-1e308, 1e308)):
        huge = Vote("v", 1, 1, first > second, first, second, 4)
        found = verdict.evidence([huge._replace(agent=f"v{i}") for i in range(4)], liars)
        assert (found > 0) is (first > second)
    both = [Vote("a", 1, 1, True, 1e308, -1e308, 4), Vote("b", 1, 1, False, -1e308, 1e308, 4)]
    assert not math.isnan(verdict.evidence(both, 0))


# The server's own vote


def opinion(*, poisoned):
    return Opinions(np.array([poisoned]), np.array([3.0]), np.array([2.5]))


def server(*, poisoned=False, models_=3):
    """Make a server that finds in a model its weights, and always votes the same way."""
    return OwnVote(
        profile=lambda weights: weights.astype(np.float64),
        judge=lambda profiles, candidates, samples: opinion(poisoned=poisoned),
        samples=70,
        models=models_,
    )


def test_the_server_judges_as_one_validator():
    """It asks its judge about one row: what it found in the accepted models and the candidate."""
    asked = []

    def judge(profiles, candidates, samples):
        asked.append((profiles.tolist(), candidates.tolist(), samples))
        return opinion(poisoned=True)

    own = server()._replace(judge=judge)
    known = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    said = own.cast(known, np.array([5.0, 6.0]), (7, 2))
    assert asked == [([[[1, 2], [3, 4]]], [[5, 6]], 70)]
    assert said == Vote(NAME, 7, 2, poisoned=True, score=3.0, threshold=2.5, samples=70)
    assert [type(value) for value in said[3:6]] == [bool, float, float]


def test_the_server_looks_at_the_samples_it_kept():
    """Of a model that calls everything 1, on labels 0 1 1 2: a quarter each of 0 and 2 is wrong."""
    model = models.build("mlp", (1, 8, 8), 3, seed=0)
    weights = np.zeros_like(flatten(model))
    weights[-2] = 1  # the last layer's bias of class 1
    rng = np.random.default_rng(0)
    x = rng.random((9, 1, 8, 8), dtype=np.float32)
    y = np.array([0, 0, 1, 2, 2, 1, 0, 2, 1])
    data = Dataset("some", 3, x, y, x[:1], y[:1])
    own = own_vote(model, data, np.array([1, 2, 5, 7]), lambda *_: None, look_back=6)
    np.testing.assert_array_equal(own.profile(weights), [0.25, 0, 0.25, 0, 0.5, 0])
    assert (own.samples, own.models) == (4, 7)


def test_no_agent_can_be_called_as_the_server_is():
    """Its name in the record cannot be taken: it has a colon in it."""
    assert not topics.NAME.fullmatch(NAME)


# Who votes in which configuration

SERVER, CLIENTS, BOTH = "server", "clients", "both"


def decided(who, poisoned, own=False, quorum=2, **more):
    """Play one round in which these of three agents, and the server maybe, say "poisoned"."""
    asked = 0 if who == SERVER else 3
    said = policy(validators=asked, quorum=1 if who == SERVER else quorum, **more)
    if who != CLIENTS:
        said = replace(said, own=server(poisoned=own))
    state, _ = start(said)
    state = state._replace(profiles=(np.zeros(2),))
    state, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    if asked:
        assert state.phase is Phase.VALIDATE
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
    assert record["votes"] == dict(zip(("poisoned", "clean", "silent"), counted, strict=True))
    assert (record["accepted"], record["why"]) == (accepted, "" if accepted else "voted down")
    names = {SERVER: [NAME], CLIENTS: [*"abc"], BOTH: [NAME, *"abc"]}[who]
    assert list(record["voters"]) == names
    if who != CLIENTS:
        mine = {"poisoned": own, "score": 3.0, "threshold": 2.5, "bytes": 0}
        assert record["voters"][NAME] == mine
    assert record["version"] == int(accepted)


def test_where_the_server_judges_alone_nobody_is_asked():
    """No candidate is published and no vote opened: the round closes at once."""
    said = policy(own=server(poisoned=True), quorum=1)
    state, _ = start(said)
    state = state._replace(profiles=(np.zeros(2),))
    state, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    assert (state.round, state.version, state.phase) == (2, 0, Phase.TRAIN)
    assert not published(effects, Candidate)
    assert records(effects)[0]["judged"] == 1


def test_silent_clients_are_silent_beside_the_server():
    """Of three clients and the server two say nothing by the deadline: one of four is silent."""
    said = policy(validators=3, own=server(), quorum=2)
    state, _ = start(said)
    state = state._replace(profiles=(np.zeros(2),))
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    _, effects = play(state, said, vote("a"), vote("b"), Tick(6.0, set("abc")))
    assert records(effects)[0]["votes"] == {"poisoned": 0, "clean": 3, "silent": 1}


@pytest.mark.parametrize(("warm_up", "voters"), [(0, [NAME, *"abc"]), (1, [])])
def test_nobody_votes_in_the_warm_up(warm_up, voters):
    """In a round of the warm-up neither clients nor server vote, and every candidate passes."""
    said = policy(validators=3, own=server(poisoned=True), quorum=1, warm_up=warm_up)
    state, _ = start(said)
    state = state._replace(profiles=(np.zeros(2),))
    state, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    if not warm_up:
        ballots = [vote(name) for name in "abc"]
        state, effects = play(state, said, *ballots, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert list(record["voters"]) == voters
    assert record["accepted"] is bool(warm_up)
    assert len(state.profiles) == 1 + warm_up


def test_the_server_remembers_what_it_found_in_accepted_models():
    """The last l + 1 = 3 of them, oldest first; nothing of a candidate that was rejected."""
    said = policy(own=server(), quorum=1, look_back=2)
    down = replace(said, own=server(poisoned=True))
    state, _ = start(said)
    state = state._replace(profiles=(vector(0, 0),))
    for number, now in enumerate([said, said, down, said], start=1):
        state, _ = play(state, now, *updates(state), Tick(float(number), set("abc")))
    assert state.version == 3
    assert [found.tolist() for found in state.profiles] == [[2, 2], [4, 4], [6, 6]]


def test_no_vote_is_cast_on_what_is_not_finite():
    """The server does not look at a candidate of infinities either."""
    said = policy(own=server(), quorum=1, server_lr=2.0)
    state, _ = start(said)
    huge = float(np.finfo(np.float32).max)
    sent = updates(state, dict.fromkeys("abc", (huge, huge)))
    state, effects = play(state, said, *sent, Tick(1.0, set("abc")))
    (record,) = records(effects)
    assert (record["why"], record["voters"]) == ("the candidate is not finite", {})
    assert state.profiles == ()


SCORES = {
    "one lies": ((-1.0, -1.0, 1e300), 1, -1.0, True),
    "the one in the middle decides": ((-9.0, 0.5, 0.7), 1, 0.5, False),
    "zero is no evidence": ((-9.0, 0.0, 9.0), 1, 0.0, True),
    "nobody is left": ((9.0, 9.0, 9.0), 2, None, True),
    "all are added up": ((-1.0, -1.0, 5.0), 0, 1.0, False),
}


@pytest.mark.parametrize("case", SCORES)
def test_scores_decide_where_they_are_to(case):
    """By score the trimmed mean of the margins rejects above 0, whatever heads would say."""
    values, liars, found, accepted = SCORES[case]
    said = policy(validators=3, by_score=True, liars=liars, quorum=1)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    ballots = [
        ballot._replace(agent=name) for name, ballot in zip("abc", margins(*values), strict=True)
    ]
    state, effects = play(state, said, *ballots, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record["evidence"], record["accepted"]) == (found, accepted)
    assert record["why"] == ("" if accepted else "voted down")


def test_the_server_s_score_is_one_of_them():
    """Both: margins -1, -1 and -1 of clients and the server's 0.5 have the mean -0.625."""
    said = policy(validators=3, by_score=True, own=server(poisoned=True))
    state, _ = start(said)
    state = state._replace(profiles=(np.zeros(2),))
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    ballots = [
        ballot._replace(agent=name) for name, ballot in zip("abc", margins(-1, -1, -1), strict=True)
    ]
    _, effects = play(state, said, *ballots, Tick(2.0, set("abc")))
    assert records(effects)[0]["evidence"] == pytest.approx(-0.625)


def test_a_backdoor_s_success_is_in_every_record():
    """Of the candidate and of the model after the round: rejected, the old one stays."""
    said = policy(validators=1, quorum=1, backdoor=lambda weights: float(weights[1]) / 10)
    state, _ = start(said)
    seen = []
    for number, bad in enumerate([False, True, False]):
        state, _ = play(state, said, *updates(state), Tick(float(number), set("abc")))
        (judge,) = state.validators
        ballot = vote(judge, state.round, poisoned=bad)
        state, effects = play(state, said, ballot, Tick(float(number), set("abc")))
        seen += [(r["backdoor"], r["candidate_backdoor"]) for r in records(effects)]
    assert seen == [(0.2, 0.2), (0.2, 0.4), (0.4, 0.4)]


def test_closing_writes_down_first():
    """Whoever judges, the record and the model are durable before anything is told."""
    state = State(0, vector(0, 0), 1, called=frozenset("a"), phase=Phase.TRAIN)
    _, effects = closing.conclude(state, Tick(1.0), policy(), vector(1, 1))
    assert isinstance(effects[0], Persist)
