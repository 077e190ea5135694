"""Votes of members: what they cost on the wire, what liars make of them, and piggy-back."""

from __future__ import annotations

from dataclasses import astuple, replace
from operator import attrgetter

import numpy as np
import pytest
import torch
from scipy import stats
from support.federation import Federation, one_thread, settings_of, simulated_agents_of  # noqa: F401 - a fixture
from support.worlds import TASK

from fedjury import judges
from fedjury.agents.agent import Contribute, Judge, Train
from fedjury.agents.batch_assembly import assemble
from fedjury.aggregator.assembly import build
from fedjury.attacks.validators import Turn
from fedjury.judges import prediction
from fedjury.judges.judgements import Judgements
from fedjury.learning.error_profiles import error_profile
from fedjury.learning.evaluation import predict
from fedjury.learning.models import build as build_model
from fedjury.learning.partition import partition, partition_spec_of
from fedjury.learning.shards import sample_order
from fedjury.learning.training import Training, train_alone
from fedjury.protocol import checks, codec
from fedjury.protocol.checks import MAX_EVIDENCE
from fedjury.protocol.compression import as_received
from fedjury.protocol.counts import unpacked
from fedjury.protocol.fields import SERVER
from fedjury.protocol.messages import Phase, Round, Update, Vote
from fedjury.protocol.topics import USUAL

pytestmark = pytest.mark.usefixtures("one_thread")


def members(**changes):
    """Assemble twenty agents who hold version 0; returns the cohort and its weights."""
    given = settings_of(**{"validation__look_back": 2, "validation__minimum_history": 3} | changes)
    parts = build(given)
    population = simulated_agents_of(given)
    made = assemble(population, population.check(), range(20), parts.manifest)
    weights = parts.model.read()
    made.keep(0, weights)
    return made, weights


def steps(weights, count, seed=0):
    """Make models that wander off from the first, a little at a time."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.05, (count, len(weights))).astype(np.float32)
    return list(weights + noise.cumsum(axis=0))


def ready(**changes):
    """Let the members hold versions 0 to 2; returns cohort, weights and a candidate."""
    made, weights = members(**changes)
    first, second, candidate = steps(weights, 3)
    made.keep(1, first)
    made.keep(2, second)
    return made, weights, candidate


THREE = (0, 1, 2)


def both(number=3, attempt=1, version=2, contributors="all"):
    return Round(number, attempt, Phase.JUDGE_AND_TRAIN, version, contributors, (), 9.0)


# What a vote costs


def bytes_of(folder, **changes):
    """Run six rounds; returns the run, voters' bytes by round, and sizes as in ``weighed``."""
    run = Federation(folder, agents__n=6, collect__agents=6, run__rounds=6, run__seed=1, **changes)
    candidates, history = weighed(run)
    run.whole()
    return run, spent_in(run), candidates, history


def weighed(run):
    """Keep the sizes of candidates, in order, and of past models, by version."""
    candidates, history = [], {}

    def weigh(topic, payload):
        if payload and topic.endswith("/candidate"):
            candidates.append(len(payload))
        if payload and "/history/" in topic:
            history[int(topic.rpartition("/")[2])] = len(payload)

    run.broker.listeners.append(weigh)
    return candidates, history


def spent_in(run):
    """Return what voters say they received, in each round that had votes."""
    judged = [r for r in run.records if r.votes.asked]
    return [{vote.size for vote in r.votes.voters.values()} for r in judged]


ASKED = {"validation__validators": 6, "validation__quorum": 6, "validation__look_back": 2}
PIGGY = {"validation__piggy_back": True, "validation__quorum": 6, "validation__look_back": 2}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("asked", [ASKED, PIGGY], ids=["asked", "piggy-back"])
def test_who_remembers_receives_the_candidate_alone(tmp_path, shared, asked):
    """Through downlinks of their own or a shared one, a steady validator has all it needs else."""
    _, spent, candidates, _ = bytes_of(tmp_path, shared=shared, **asked)
    assert spent == [{size} for size in candidates[: len(spent)]]
    assert len(spent) == (6 if asked is ASKED else 5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("asked", [ASKED, PIGGY], ids=["asked", "piggy-back"])
def test_who_does_not_remember_receives_the_look_back_each_time(tmp_path, shared, asked):
    """The candidate of version v, and the history of v - 2 to v, or from 0 on."""
    run, spent, candidates, history = bytes_of(
        tmp_path, shared=shared, agents__remember=False, **asked
    )
    expected = []
    for version, size in enumerate(candidates[: len(spent)]):
        versions = range(max(0, version - 2), version + 1)
        expected.append({size + sum(history[v] for v in versions)})
    assert spent == expected
    first = None if asked is PIGGY else True  # there is no candidate to decide on yet
    assert [r.accepted for r in run.records] == [first, *[True] * 5]


def test_remembering_changes_no_model(tmp_path):
    """What is fetched again is what was there before: votes and models are the same."""
    one, *_ = bytes_of(tmp_path / "remembers", **ASKED)
    other, *_ = bytes_of(tmp_path / "forgets", agents__remember=False, **ASKED)
    assert other.models == one.models
    for mine, theirs in zip(one.records, other.records, strict=True):
        for name, vote in mine.votes.voters.items():
            assert replace(vote, size=0) == replace(theirs.votes.voters[name], size=0)


def test_a_newcomer_receives_what_it_lacks(tmp_path):
    """Agents who start again before round 5 hold version 4 alone: two more and the candidate."""
    run = Federation(tmp_path, agents__n=6, collect__agents=6, run__rounds=6, **ASKED)
    candidates, history = weighed(run)
    run.begin()
    run.run(lambda state: state.round == 5 and not len(state.updates))
    run.join()
    run.run()
    spent = spent_in(run)
    assert spent[3] == {candidates[3]}
    assert spent[4] == {candidates[4] + history[2] + history[3]}
    assert spent[5] == {candidates[5]}


def test_only_validators_receive_a_candidate(tmp_path):
    """Two of twenty fetch it; nobody else hears of it, and no bytes are spent on them."""
    run = Federation(tmp_path, run__rounds=2, validation__validators=2, validation__quorum=2)
    heard = []
    receive = run.fleets[0].transport.receive

    def listening(timeout=0.0):
        delivery = receive(timeout)
        if delivery is not None and type(delivery.message).__name__ == "Candidate":
            heard.append((delivery.message.round, delivery.to))
        return delivery

    run.fleets[0].transport.receive = listening
    run.whole()
    assert heard == [(r.round, name) for r in run.records for name in sorted(r.votes.voters)]
    assert len(heard) == 4


# The server among them


@pytest.mark.parametrize("codec", ["int7+zstd", "int8"])
@pytest.mark.parametrize("crash", [False, True], ids=["whole", "resumed"])
def test_the_server_judges_what_arrives(tmp_path, codec, crash):
    """Its votes are those of a client with its samples, who gets all models from the network.

    That holds for the candidate and the look-back, and after a crash, when the server has the exact
    models from its disk. Exact models give other scores.
    """
    run = Federation(
        tmp_path,
        run__rounds=9,
        agents__n=6,
        collect__agents=6,
        data__server=0.3,
        validation__judged_by="both",
        validation__validators=2,
        validation__quorum=3,
        validation__judge="calibrated",
        validation__look_back=4,
        validation__minimum_history=5,
        wire__history=codec,
    )
    run.begin()
    if crash:
        run.run(lambda state: state.round == 7 and not len(state.updates))
        run.crash()
        run.begin()
    run.run()
    votes = [record.votes.voters[SERVER] for record in run.records]
    assert all(record.accepted for record in run.records)
    arrived = votes_of_a_client(run, lambda weights: as_received(weights, codec))
    assert [(vote.poisoned, vote.score) for vote in votes[4:]] == arrived
    assert arrived != votes_of_a_client(run, lambda weights: weights)


def votes_of_a_client(run, arrives):
    """Judge every candidate from version 5 on with the samples that the server keeps."""
    data = simulated_agents_of(run.settings).check()
    held = partition(partition_spec_of(run.settings), data).server
    x, y = torch.from_numpy(data.x_train[held]), data.y_train[held]
    model = build_model("mlp", (1, 8, 8), 10, seed=5)
    found = np.stack(
        [
            error_profile(
                predict(model, arrives(np.frombuffer(run.models[v], "<f4")), x, TASK), y, 10
            )
            for v in sorted(run.models)
        ]
    )
    judge = judges.build("calibrated", minimum_history=5)
    votes = [judge(found[None, v - 5 : v], found[None, v]) for v in range(5, len(found))]
    return [(bool(vote.poisoned[0]), round(vote.score.item(), 6)) for vote in votes]


# Many at once


def test_votes_of_many_are_votes_of_each():
    """Judged together or one by one, by one cohort or by fresh ones: the same votes."""
    setup = {
        "agents__malicious": 0.2,
        "agents__vote_attack": "deny",
        "agents__malicious_validators": 0.1,
    }
    made, _, candidate = ready(**setup)
    names = [f"agent-{i:02d}" for i in range(20)]
    task = Judge(3, 1, THREE)
    together = made.votes(names, task, candidate)
    assert [vote.agent for vote in together] == names
    for name, vote in zip(names, together, strict=True):
        alone, _, _ = ready(**setup)
        assert alone.votes([name], task, candidate) == [vote]
        assert made.votes([name], task, candidate) == [vote]
    some = names[3:17:2]
    assert made.votes(some[::-1], task, candidate) == [together[names.index(n)] for n in some[::-1]]
    assert {vote.poisoned for vote in together} == {False, True}
    assert len({vote.score for vote in together}) > 5


def measured(seen):
    """Read evidence as it travels."""
    return np.frombuffer(seen, "<f4")


def measuring(evidence):
    """Make a judge that finds everything clean and has measured this, (m, N + 1)."""

    def judge(accepted, candidates):
        many = len(candidates)
        return Judgements(
            np.zeros(many, np.bool_), np.ones(many), np.full(many, 2.0), evidence[:many]
        )

    return judge


def test_votes_carry_what_the_judge_measured():
    """Each validator's own row, as float32; a vote holds the last 101 numbers of more."""
    made, _, candidate = ready(agents__malicious=0.0)
    names = ["agent-07", "agent-03", "agent-11"]
    for length in (0, 3, MAX_EVIDENCE, MAX_EVIDENCE + 5):
        saw = np.random.default_rng(length).normal(size=(3, length))
        made.members = made.members._replace(judge=measuring(saw))
        votes = made.votes(names, Judge(3, 1, THREE), candidate)
        assert [vote.agent for vote in votes] == names
        for row, vote in zip(saw, votes, strict=True):
            last = row[-MAX_EVIDENCE:].astype(np.float32)
            np.testing.assert_array_equal(measured(vote.evidence), last)
            topic = USUAL.of("lab", vote)
            assert codec.decode(topic, codec.encode(vote), checks.Limits()) == vote


@pytest.mark.parametrize("decide", ["count", "pooled"])
def test_votes_carry_what_was_counted_where_that_is_asked_for(decide):
    """The profiles of the accepted models and of the candidate; a liar's are made up, and fit.

    They are counted on 40 samples, of which nobody says that more are wrong.
    """
    made, _, candidate = ready(
        agents__malicious=0.2, agents__vote_attack="always_reject", validation__decide=decide
    )
    names = [f"agent-{i:02d}" for i in range(20)]
    votes = made.votes(names, Judge(3, 1, THREE), candidate)
    if decide == "count":
        assert {vote.counts for vote in votes} == {b""}
        return
    counts = np.stack([unpacked(vote.counts).reshape(4, 20) for vote in votes])
    assert counts.max() <= 40
    rows = np.arange(3)
    honest = [names.index(member.name) for member in made.members.holders[:3]]
    np.testing.assert_array_equal(counts[honest, -1], made.profiles.candidate(rows, candidate))
    np.testing.assert_array_equal(counts[honest, :-1], made.profiles.history(rows, THREE, {}))
    assert len(np.unique(counts, axis=0)) == 20


def test_who_has_no_data_moves_nobody_else():
    """Asked with others, it changes no vote of theirs, and sends the same as asked alone."""
    made, _, candidate = ready(agents__malicious=0.2, agents__vote_attack="always_reject")
    fakes = [member.name for member in made.members.malicious]
    able = [member.name for member in made.members.holders[:2]]
    task = Judge(3, 1, THREE)
    together = made.votes([able[0], *fakes, able[1]], task, candidate)
    alone = made.votes(able, task, candidate), made.votes(fakes, task, candidate)
    assert (together[::5], together[1:5]) == alone


def test_nobody_asked_is_no_vote():
    """An empty list of validators is fine."""
    made, _, candidate = ready()
    assert made.votes([], Judge(3, 1, THREE), candidate) == []


# Liars


def listening(made):
    """Note what the cohort's liars are told, and let them say the opposite."""
    told = []

    def lie(own, turn):
        told.append((own.tolist(), turn))
        return ~own

    made.members = made.members._replace(vote_attack=lie)
    return told


def test_liars_alone_are_asked_to_lie():
    """They get their honest verdicts, in the order in which they were called, and their turn."""
    setup = {"agents__malicious_validators": 0.2}
    made, _, candidate = ready(**setup, agents__malicious=0.0)
    honest = {
        vote.agent: vote
        for vote in ready(**setup, agents__malicious=0.0, agents__vote_attack="honest")[0].votes(
            [f"agent-{i:02d}" for i in range(20)], Judge(5, 2, THREE), candidate
        )
    }
    told = listening(made)
    liars = sorted(made.members.malicious_validators, reverse=True)
    names = [*liars, *sorted(honest.keys() - set(liars))]
    votes = made.votes(names, Judge(5, 2, THREE), candidate)
    ((own, turn),) = told
    numbers = tuple(int(name.removeprefix("agent-")) for name in liars)
    assert turn._replace(doubts=()) == Turn(5, 2, numbers, 0, attacked=False)
    assert len(turn.doubts) == 4
    assert len(liars) == 4
    assert own == [honest[name].poisoned for name in liars]
    assert [vote.poisoned for vote in votes[:4]] == [not said for said in own]
    # The threshold comes of the accepted models alone: a lie has the true one.
    assert [vote.threshold for vote in votes[:4]] == [honest[name].threshold for name in liars]
    assert votes[4:] == [honest[name] for name in names[4:]]


def test_without_liars_nobody_lies():
    """A cohort of honest ones never asks."""
    made, _, candidate = ready(agents__malicious=0.0)
    told = listening(made)
    made.votes(["agent-03"], Judge(3, 1, THREE), candidate)
    assert told == []


def test_fakes_find_everything_clean():
    """Who has no data finds a candidate clean, whatever it is."""
    made, _, candidate = ready(agents__malicious=0.2)
    told = listening(made)
    fake = made.members.malicious[0].name
    for ruined in (1, -100):
        made.votes([fake], Judge(3, 1, THREE), candidate * np.float32(ruined))
    assert [own for own, _ in told] == [[False], [False]]


def told_apart(some, others):
    """Return how well the best limit on a number tells two groups apart: 0 not at all, 1 always."""
    return stats.ks_2samp(some, others).statistic


@pytest.mark.parametrize("judge", ["lof", "calibrated"])
def test_numbers_do_not_tell_fakes_without_data_apart(tmp_path, judge):
    """Before the history is full they send what all send, and after it numbers as others do.

    Of 24 validators 8 have no data and call everything clean. Compared are clean votes.
    """
    run = Federation(
        tmp_path,
        agents__n=24,
        collect__agents=24,
        agents__malicious=1 / 3,
        agents__start=99,
        run__rounds=18,
        validation__judge=judge,
        validation__look_back=10,
        validation__minimum_history=11,
        validation__validators=24,
        validation__quorum=24,
    )
    votes = heard_votes(run)
    fakes = {
        simulated_agents_of(run.settings).spec.name(i)
        for i in simulated_agents_of(run.settings).without_data
    }
    early = {astuple(vote)[3:9] for vote in votes if vote.round < 11}
    assert len(fakes) == 8
    assert early == {(False, 0.0, 0.0, 40, b"", 0)}
    late = [vote for vote in votes if vote.round >= 11]
    theirs = [vote for vote in late if vote.agent in fakes]
    honest = [vote for vote in late if vote.agent not in fakes and not vote.poisoned]
    assert len(theirs) == 64
    for vote in late:
        assert (vote.score > vote.threshold * (1 + 1e-9)) is vote.poisoned
        assert (vote.score, vote.threshold) != (0, 0)
        assert consistent(judge, vote)
    assert len({vote.score for vote in theirs}) > 32
    steady = [fake for fake in fakes if len({v.score for v in theirs if v.agent == fake}) == 1]
    assert len(steady) < 3
    assert {len(vote.evidence) for vote in theirs} == {len(vote.evidence) for vote in honest}
    for name in ("score", "threshold", "changed", "changed_errors"):
        number = attrgetter(name)
        assert told_apart([*map(number, theirs)], [*map(number, honest)]) < 0.5


def heard_votes(run):
    """Run a federation; returns all votes, the bytes that each took left out."""
    heard = []
    run.broker.listeners.append(lambda topic, payload: heard.append((topic, payload)))
    run.whole()
    votes = [codec.decode(*each, checks.Limits()) for each in heard if "/vote/" in each[0]]
    return [replace(vote, size=0) for vote in votes]


def consistent(judge, vote):
    """Say whether a vote's score and threshold are those that its evidence makes."""
    *past, new = measured(vote.evidence).astype(np.float64)
    if judge == "lof":
        made = np.exp(new), np.mean(np.exp(past))
    else:
        made = prediction.scores(np.array([past]), np.array([new]))[0], vote.threshold
    return np.allclose(made, (vote.score, vote.threshold), rtol=1e-4, atol=1e-4)


BACKDOOR = {"agents__malicious": 0.1, "agents__attack": "backdoor", "backdoor__inject": [3, 6]}
STRUCK = {
    "fakes from round 4 on": ({"agents__malicious": 0.2, "agents__start": 4}, [4, 5, 6, 7]),
    "fakes from the first on": ({"agents__malicious": 0.2}, [1, 2, 3, 4, 5, 6, 7]),
    "injections": (BACKDOOR, [3, 6]),
    "adaptive injections": (BACKDOOR | {"agents__attack": "adaptive"}, [3, 6]),
    "liars who attack nothing": (
        {"agents__malicious": 0.0, "agents__malicious_validators": 0.3},
        [],
    ),
    "injections of nobody": (
        BACKDOOR | {"agents__malicious": 0.0, "agents__malicious_validators": 0.3},
        [],
    ),
}


@pytest.mark.parametrize("case", STRUCK)
def test_liars_know_when_their_own_side_strikes(case):
    """Fakes strike from their start on, attackers with a backdoor in its rounds, others never."""
    changes, rounds = STRUCK[case]
    made, _, candidate = ready(**changes)
    told = listening(made)
    liar = min(made.members.malicious_validators)
    for number in range(1, 8):
        made.votes([liar], Judge(number, 1, THREE), candidate)
    assert [turn.round for _, turn in told if turn.attacked] == rounds
    assert [turn.round for _, turn in told] == list(range(1, 8))


@pytest.mark.parametrize(("number", "struck"), [(3, False), (4, True), (6, False), (7, True)])
def test_with_piggy_back_the_strike_is_that_of_the_round_before(number, struck):
    """In round 4 the candidate of round 3 is judged, in which the attackers struck."""
    made, _, candidate = ready(**BACKDOOR)
    told = listening(made)
    message = both(number)
    made.contribute(message, Contribute(number, 1, THREE), candidate)
    ((_, turn),) = told
    assert (turn.round, turn.attacked) == (number, struck)


@pytest.mark.parametrize("liars", ["hide", "deny"])
def test_lies_reach_the_aggregator(tmp_path, liars):
    """In a federation those who hide call their own attack clean; deniers all else poisoned."""
    setup = {
        "agents__malicious": 0.2,
        "agents__scale": 1e3,
        "agents__start": 3,
        "agents__vote_attack": liars,
        "agents__malicious_validators": 0.1,
        "validation__validators": 20,
        "validation__quorum": 20,
        "validation__look_back": 2,
        "run__rounds": 4,
    }
    run = Federation(tmp_path, **setup).whole()
    plan = simulated_agents_of(run.settings).spec
    for r in run.records:
        liars_say = {r.votes.voters[plan.name(i)].poisoned for i in plan.malicious_validators}
        fakes_say = {r.votes.voters[plan.name(i)].poisoned for i in plan.malicious_agents}
        if r.round in (1, 2):  # too short a history: the honest opinion is "clean"
            assert liars_say == {liars == "deny"}
        else:
            assert fakes_say == {False}
            if liars == "hide":
                assert liars_say == {False}


# Piggy-back in a cohort


def judging(poisoned):
    """Make a judge that finds the candidate poisoned for these rows, of those who are asked."""

    def judge(accepted, candidates):
        many = len(candidates)
        said = np.array([row in poisoned for row in range(many)])
        scores = np.arange(many) + 0.5
        return Judgements(said, scores, np.full(many, 7.0), np.column_stack([said, scores]))

    return judge


def contributed(made, message, candidate, poisoned=()):
    """Let a cohort judge and train; returns what each member sends, and who was trained."""
    made.members = made.members._replace(judge=judging(set(poisoned)))
    task = Contribute(message.round, message.attempt, THREE)
    made.contribute(message, task, candidate)
    trained = []
    while some := made.train_chunk():
        trained += some
    names = [f"agent-{i:02d}" for i in range(20)]
    return {name: said for name in names if (said := made.update(name, task))}, trained


def test_who_finds_it_clean_trains_from_the_candidate():
    """The update is torch's own SGD from the candidate; its version is the candidate's to be."""
    made, _, candidate = ready(agents__malicious=0.0, wire__history="float32")
    sent, trained = contributed(made, both(), candidate)
    assert len(trained) == len(sent) == 20
    model = build_model("mlp", (1, 8, 8), 10, seed=5)
    for number in (0, 7, 19):
        shards = made.profiles.data
        own = shards._replace(indices=shards.indices[number : number + 1])
        order = sample_order(0, 3, (number,), 1, 40)
        alone = train_alone(model, candidate, own, Training(1, 10, 0.2, 0.0), order, TASK)[0]
        update = sent[f"agent-{number:02d}"]
        assert (update.round, update.version, update.samples) == (3, 3, 40)
        assert (update.score, update.threshold) == (number + 0.5, 7.0)
        assert measured(update.evidence).tolist() == [0, number + 0.5]
        np.testing.assert_allclose(update.delta, alone, rtol=1e-3, atol=1e-5)


def without_changes(vote):
    """Return a vote without what it says that the candidate changes."""
    return replace(vote, changed=None, changed_errors=None)


def test_who_finds_it_poisoned_sends_its_vote_and_trains_nothing():
    """Of twenty, three say so: seventeen are trained, and three votes are sent."""
    made, _, candidate = ready(agents__malicious=0.0)
    sent, trained = contributed(made, both(), candidate, poisoned=(2, 3, 11))
    against = [name for name, said in sent.items() if isinstance(said, Vote)]
    assert against == ["agent-02", "agent-03", "agent-11"]
    saw = np.array([1, 3.5], "<f4").tobytes()
    assert without_changes(sent["agent-03"]) == Vote("agent-03", 3, 1, True, 3.5, 7.0, 40, saw)
    assert len(trained) == 17
    assert set(trained) == {name for name, said in sent.items() if isinstance(said, Update)}


def test_only_the_called_judge_and_train():
    """Who is not called answers nothing."""
    made, _, candidate = ready(agents__malicious=0.0)
    called = ("agent-04", "agent-09", "else")
    sent, trained = contributed(made, both(contributors=called), candidate, poisoned=(1,))
    assert {name: type(said) for name, said in sent.items()} == {
        "agent-04": Update,
        "agent-09": Vote,
    }
    assert trained == ["agent-04"]


def test_a_second_attempt_judges_again_and_trains_nothing_twice():
    """The same deltas are sent with votes of the new attempt; who is new to it trains."""
    made, _, candidate = ready(agents__malicious=0.0)
    first, trained = contributed(made, both(contributors=("agent-04", "agent-09")), candidate)
    message = both(attempt=2, contributors=("agent-04", "agent-05", "agent-09"))
    second, later = contributed(made, message, candidate.copy(), poisoned=(2,))
    assert (trained, later) == (["agent-04", "agent-09"], ["agent-05"])
    assert second["agent-04"].delta.tobytes() == first["agent-04"].delta.tobytes()
    saw = np.array([1, 2.5], "<f4").tobytes()
    assert without_changes(second["agent-09"]) == Vote("agent-09", 3, 2, True, 2.5, 7.0, 40, saw)


def test_a_member_that_hears_late_changes_nothing():
    """All called members judge when the first hears of it; the others' news is old."""
    made, _, candidate = ready(agents__malicious=0.0)
    first, trained = contributed(made, both(), candidate)
    again, later = contributed(made, both(), candidate, poisoned=range(20))
    assert (len(trained), later) == (20, [])
    assert {name: type(said) for name, said in again.items()} == dict.fromkeys(first, Update)


def test_after_a_rejection_members_train_from_the_model_again():
    """A plain round of the same version starts from it, not from the candidate."""
    plain, _, candidate = ready(agents__malicious=0.0)
    message = Round(4, 1, Phase.TRAIN, 2, "all", (), 9.0)

    def learnt(made):
        made.begin(message)
        while made.train_chunk():
            pass
        return {
            name: made.update(name, Train(4, 1, 2)).delta.tobytes()
            for name in ("agent-03", "agent-12")
        }

    expected = learnt(plain)
    made, _, _ = ready(agents__malicious=0.0)
    contributed(made, both(), candidate)
    assert learnt(made) == expected


def everybody_trained(made, names=("agent-03", "agent-12")):
    """Train to the end; returns the deltas of some."""
    while made.train_chunk():
        pass
    return {name: made.deltas[name].tobytes() for name in names}


def test_a_round_of_the_same_version_begun_from_another_start_begins_anew():
    """Plain after a candidate, a candidate after plain, another candidate: each from its own."""
    one, _, candidate = ready(agents__malicious=0.0)
    other = candidate + np.float32(0.5)
    plain = Round(3, 1, Phase.TRAIN, 2, "all", (), 9.0)
    one.members = one.members._replace(judge=judging(set()))

    def fresh(start):
        made, *_ = ready(agents__malicious=0.0)
        made.members = made.members._replace(judge=judging(set()))
        begin(made, start)
        return everybody_trained(made)

    def begin(made, start):
        if start is None:
            made.begin(plain)
        else:
            made.contribute(both(), Contribute(3, 1, THREE), start)

    expected = {
        name: fresh(start)
        for name, start in {"plain": None, "candidate": candidate, "other": other}.items()
    }
    assert len({tuple(found.values()) for found in expected.values()}) == 3
    for name, start in (("plain", None), ("candidate", candidate), ("plain", None)):
        begin(one, start)
        assert everybody_trained(one) == expected[name]
    begin(one, candidate)
    assert everybody_trained(one) == expected["candidate"]
    one.contribute(both(attempt=2), Contribute(3, 2, THREE), other)
    assert everybody_trained(one) == expected["other"]


def test_nobody_contributes_to_a_candidate_whose_predecessors_are_gone():
    """A process that was held up hears of newer models first: no answer, and no error."""
    made, weights, candidate = ready(agents__malicious=0.0)
    for version, model in enumerate(steps(weights, 3, seed=4), start=3):
        made.keep(version, model)
    sent, trained = contributed(made, both(), candidate)
    assert (sent, trained) == ({}, [])


def test_attackers_see_the_candidate_as_the_latest_model():
    """What they know of the past ends with what they train from, as with any other round."""
    made, _, candidate = ready(**BACKDOOR)
    seen = []

    def attack(weights, called):
        seen.append((weights, called))
        return np.zeros((len(called.members), len(weights)), np.float32)

    made.members = made.members._replace(attack=attack)
    contributed(made, both(), candidate)
    ((weights, called),) = seen
    assert weights is candidate
    assert called.history[-1] is candidate
    assert called.contributors == 20
    np.testing.assert_array_equal(called.previous, made.models[2])
    assert len(called.history) == 3  # l + 1: what validators will compare the next candidate with


def test_a_candidate_is_judged_as_it_travelled():
    """Profiles are of what the codec leaves of a candidate, as of the models before it."""
    made, _, candidate = ready(agents__malicious=0.0)
    received = as_received(candidate, "int7+zstd")
    assert not np.array_equal(received, candidate)
    rows = np.arange(20)
    of_candidate = made.profiles.candidate(rows, received)
    made.keep(3, candidate)
    accepted = made.profiles.history(rows, (1, 2, 3), made.models)
    np.testing.assert_array_equal(accepted[:, -1], of_candidate)


# What a vote says that the candidate changes


def answers_of(made, name, weights):
    """Return what a model says of a member's samples, and what they are."""
    row = [member.name for member in made.members.holders].index(name)
    held = made.profiles.data.indices[row]
    x, y = made.profiles.data.x[held], made.profiles.data.y[held].numpy()
    model = TASK.build("mlp", (1, 8, 8), seed=0)
    return predict(model, weights, x, TASK), y


def test_a_vote_says_how_many_answers_and_errors_the_candidate_changes():
    """Counted one by one: beside the last accepted model, as both have travelled."""
    made, _, candidate = ready(agents__malicious=0.0)
    names = ["agent-03", "agent-11"]
    seen = as_received(candidate, "int7+zstd")
    said = made.votes(names, Judge(3, 1, THREE), seen)
    for name, vote in zip(names, said, strict=True):
        before, y = answers_of(made, name, as_received(made.models[2], "int7+zstd"))
        after, _ = answers_of(made, name, seen)
        moved = error_profile(before, y, 10) - error_profile(after, y, 10)
        assert vote.changed == sum(before != after) > 0
        assert vote.changed_errors == abs(moved).sum()


def test_what_changed_is_known_of_a_model_that_was_the_candidate():
    """A validator that saw the last accepted model as a candidate compares with what it saw."""
    made, _, candidate = ready(agents__malicious=0.0)
    made.votes(["agent-03"], Judge(3, 1, THREE), as_received(candidate, "int7+zstd"))
    made.keep(3, candidate)
    same = as_received(candidate, "int7+zstd")
    (vote,) = made.votes(["agent-03"], Judge(4, 1, (1, 2, 3)), same)
    assert (vote.changed, vote.changed_errors) == (0, 0)
    (late,) = made.votes(["agent-07"], Judge(4, 1, (1, 2, 3)), same)
    assert (late.changed, late.changed_errors) == (0, 0)


def test_fakes_make_up_what_a_candidate_changes():
    """Who holds no data says numbers as well: no more answers than samples, nor too few."""
    made, _, candidate = ready(agents__malicious=0.2)
    fake = made.members.malicious[0].name
    (vote,) = made.votes([fake], Judge(3, 1, THREE), candidate)
    assert 0 <= vote.changed_errors / 2 <= vote.changed <= vote.samples
