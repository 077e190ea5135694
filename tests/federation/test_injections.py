"""Backdoors in whole federations: they land where nobody defends, and are voted down elsewhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.by_hand import play, policy, start, updates
from support.federation import Federation, one_thread, settings_of, simulated_agents_of  # noqa: F401 - a fixture

from fedjury.agents import agent_batch
from fedjury.aggregator.advice import advice
from fedjury.aggregator.assembly import build, forced
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.fields import SERVER
from fedjury.protocol.messages import History, Model
from fedjury.protocol.topics import USUAL
from fedjury.randomness import Purpose, draw
from fedjury.round.state import Tick

pytestmark = pytest.mark.usefixtures("one_thread")

INJECT = [20, 23]
ATTACK = {
    "run__seed": 1,
    "run__rounds": 24,
    "agents__n": 10,
    "collect__agents": 10,
    "agents__samples": 90,
    "data__server": 0.25,
    "sampling__client_fraction": 0.6,
    "training__epochs": 2,
    "agents__malicious": 0.2,
    "agents__attack": "backdoor",
    "backdoor__inject": INJECT,
    "backdoor__learning_rate": 0.1,
    "backdoor__epochs": 10,
    "backdoor__share": 0.5,
}
"""Two of ten agents call one class another, in rounds 20 and 23; six are called each round."""

DEFENCE = {
    "validation__validators": 8,
    "validation__quorum": 4,
    "validation__look_back": 10,
    "validation__judge": "calibrated",
}


def swept(cases, *always):
    """Leave most cases to the long sweep."""
    return [
        case if case in always else pytest.param(case, marks=pytest.mark.chaos) for case in cases
    ]


@pytest.fixture(scope="module")
def undefended(tmp_path_factory):
    return Federation(tmp_path_factory.mktemp("undefended"), **ATTACK).whole()


@pytest.fixture(scope="module")
def defended(tmp_path_factory):
    return Federation(tmp_path_factory.mktemp("defended"), **ATTACK, **DEFENCE).whole()


# Landing and being caught


def test_a_backdoor_lands_where_nobody_defends(undefended):
    """Right after each injection nine in ten of the source class are called the target."""
    for r in undefended.records:
        assert r.accepted
        assert r.model.backdoor == r.candidate.backdoor
        assert r.model.backdoor > 0.9 if r.round in INJECT else r.model.backdoor < 0.1
        assert r.updates == r.selected == 6
    last_before = undefended.records[INJECT[0] - 2]
    assert last_before.model.accuracy > 0.9
    assert undefended.records[INJECT[0] - 1].model.accuracy > 0.75  # all but one class still works


POOLED = {"validation__decide": "pooled", "validation__judge": "robust"}
CONFIGURATIONS = {
    "clients": ({}, 8),
    "server": ({"validation__judged_by": "server"}, 1),
    "both": ({"validation__judged_by": "both"}, 9),
    "pooled": (POOLED | {"validation__tolerated_malicious": 2}, 8),
    "pooled, both": (
        POOLED | {"validation__tolerated_malicious": 2, "validation__judged_by": "both"},
        9,
    ),
    "paper": ({"validation__judge": "lof", "validation__quorum": 6}, 8),
}


@pytest.mark.parametrize("case", swept(CONFIGURATIONS, "clients", "pooled"))
def test_an_injection_is_voted_down(tmp_path, case):
    """In each configuration both injections are rejected, and the model stays what it was."""
    changes, voters = CONFIGURATIONS[case]
    done = Federation(tmp_path, **ATTACK | DEFENCE | changes).whole()
    down = [r.round for r in done.records if not r.accepted]
    assert set(down) >= set(INJECT)
    assert len(down) <= 3  # the paper's judge now and then calls an honest candidate poisoned
    for r in done.records:
        assert r.votes.asked == len(r.votes.voters) == voters
        assert (SERVER in r.votes.voters) is ("judged_by" in str(changes))
        pooled = case.startswith("pooled") and r.round > 10  # l + 1 = 11 models are there
        assert (r.votes.pooled is not None) is pooled
        assert r.model.backdoor < 0.1
        if r.round in INJECT:
            assert (r.why, r.judged) == ("voted down", r.round)
            assert r.candidate.backdoor > 0.9
            assert r.version == done.records[r.round - 2].version
    assert done.accuracies[-1] > 0.9


HARD = {
    "run__seed": 3,
    "run__rounds": 13,
    "agents__malicious": 0.05,
    "agents__attack": "backdoor",
    "backdoor__inject": [11, 13],
    "training__learning_rate": 0.5,
    "data__server": 0.2,
    "validation__judged_by": "both",
    "validation__validators": 8,
    "validation__quorum": 4,
    "validation__look_back": 6,
    "validation__judge": "calibrated",
    "validation__tolerated_malicious": 2,
}
"""One attacker of twenty, each of whom has so few samples that few are sure of themselves."""


def test_pooled_counts_tell_what_heads_do_not(tmp_path):
    """On the same votes a quorum of all nine lets an injection through that their counts reject."""
    setup = HARD | {"validation__judge": "robust", "validation__quorum": 9}
    heads, pooled = (
        Federation(tmp_path / decide, **setup, validation__decide=decide).whole()
        for decide in ("count", "pooled")
    )
    votes = [
        [(name, v.poisoned, v.score) for name, v in run.records[10].votes.voters.items()]
        for run in (heads, pooled)
    ]
    assert votes[0] == votes[1]
    assert sum(poisoned for _, poisoned, _ in votes[0]) < 9
    assert [r.round for r in heads.records if not r.accepted] == []
    assert [r.round for r in heads.records if r.model.backdoor > 0.6] == [11, 13]
    assert [r.round for r in pooled.records if not r.accepted] == [11, 13]
    assert all(r.candidate.backdoor > 0.6 for r in pooled.records if not r.accepted)
    assert max(r.model.backdoor for r in pooled.records) < 0.1
    assert pooled.accuracies[-1] > heads.accuracies[-1] + 0.1
    for r in pooled.records:
        assert (r.votes.pooled is not None) == (r.round > 6)  # l + 1 = 7 models are there
        found = r.votes.pooled
        assert found is None or found.poisoned == (not r.accepted)
        assert found is None or (found.validators, found.left_out) == (9, 2)  # and the server
    assert {r.votes.pooled for r in heads.records} == {None}


def test_liars_do_not_turn_pooled_counts(tmp_path):
    """Three lie about what they counted; where as many are left out, it is as if they did not."""
    setup = (
        ATTACK
        | DEFENCE
        | {
            "run__seed": 3,
            "agents__vote_attack": "invert",
            "agents__malicious_validators": 0.1,
        }
        | POOLED
    )
    ready, naive = (
        Federation(tmp_path / str(liars), **setup, validation__tolerated_malicious=liars).whole()
        for liars in (3, 0)
    )
    assert len(simulated_agents_of(ready.settings).spec.malicious_validators) == 3
    assert [r.round for r in ready.records if not r.accepted] == INJECT
    assert [r.round for r in naive.records if not r.accepted] != INJECT


def test_contributors_vote_an_injection_down(tmp_path):
    """With piggy-back the verdict comes a round later; the model never had the backdoor."""
    setup = ATTACK | DEFENCE | {"validation__piggy_back": True, "validation__quorum": 3}
    setup |= {"run__seed": 4}  # where nobody calls an honest candidate poisoned
    done = Federation(tmp_path, **setup).whole()
    down = {r.judged: r for r in done.records if r.accepted is False}
    assert sorted(down) == INJECT
    assert all(r.candidate.backdoor > 0.9 for r in down.values())
    assert max(r.model.backdoor for r in done.records) < 0.1


def test_a_server_s_one_vote_decides_whatever_the_quorum(tmp_path):
    """With q = 5 and the server alone, its own "poisoned" rejects."""
    changes = {"validation__judged_by": "server", "validation__quorum": 5}
    assert build(settings_of(**ATTACK | DEFENCE | changes)).config.validation.rejects(1) == 1
    done = Federation(tmp_path, **ATTACK | DEFENCE | changes).whole()
    assert [r.round for r in done.records if not r.accepted] == INJECT
    assert "fl/v2/lab/candidate" not in done.broker.retained


def test_a_warm_up_lets_the_injection_in(tmp_path):
    """Before the defence is switched on a backdoor lands; after that it does not."""
    changes = {"validation__warm_up": 12, "backdoor__inject": [11, 23]}
    done = Federation(tmp_path, **ATTACK | DEFENCE | changes).whole()
    landed = [r.round for r in done.records if r.model.backdoor > 0.9]
    tried = [r.round for r in done.records if r.candidate.backdoor > 0.9]
    assert (landed, tried) == ([11], [11, 23])
    assert [bool(r.votes.asked) for r in done.records] == [False] * 12 + [True] * 12


def test_without_a_backdoor_its_success_is_not_known(tmp_path):
    """Fakes hide nothing: the record has the key all the same, with null."""
    done = Federation(tmp_path, run__rounds=2, agents__malicious=0.1).whole()
    assert [(r.model.backdoor, r.candidate.backdoor) for r in done.records] == [(None, None)] * 2


def test_the_backdoor_s_success_is_known_before_the_first_round(undefended):
    """The first model carries it in its own record, for a run that resumes there."""
    loaded = build(undefended.settings)
    first = loaded.config.measure(np.frombuffer(undefended.models[0], np.float32))
    assert first.backdoor is not None
    assert 0 <= first.backdoor <= 1


def test_a_rejected_round_sends_no_model(defended, tmp_path):
    """On the wire a round that was voted down costs its candidate alone: no model, no history."""
    run = Federation(tmp_path, **ATTACK, **DEFENCE)
    spent: dict[int, dict[str, int]] = {}
    kinds = {USUAL.where("lab", Model): "model", USUAL.where("lab", History, ""): "history"}

    def weigh(topic, payload):
        for start_, kind in kinds.items():
            if topic.startswith(start_):
                sent = spent.setdefault(run.state.round, {"model": 0, "history": 0})
                sent[kind] += len(payload)

    run.begin()
    run.broker.listeners.append(weigh)
    run.run()
    assert run.models == defended.models
    size = 4 * 2410
    for r in run.records:
        sent = spent.get(r.round, {"model": 0, "history": 0})
        if r.accepted:
            assert size < sent["model"] < size + 100  # once
            assert 0 < sent["history"] < size / 4 + 100
        else:
            assert sent == {"model": 0, "history": 0}


# The same seed, the same bits

SPLITS = {
    "two attackers": {},
    "adaptive": {"agents__attack": "adaptive"},
    "a boost that is given": {"backdoor__boost": 4.0, "aggregation__server_lr": 0.5},
    "median": {"aggregation__rule": "median"},
    "everybody called": {"sampling__client_fraction": 1.0},
    "constrained": {"backdoor__alpha": 0.7},
    "piggy-back": {"validation__piggy_back": True, "validation__quorum": 2},
    "liars": {"agents__malicious_validators": 0.3, "agents__vote_attack": "random"},
    "pooled, liars": {
        **POOLED,
        "validation__tolerated_malicious": 2,
        "agents__malicious_validators": 0.3,
        "agents__vote_attack": "random",
    },
}


QUICK = ("adaptive", "pooled, liars")
"""Cases in which attackers are apart, and downlinks shared, one without the other."""


@pytest.mark.parametrize("case", swept(SPLITS, *QUICK))
def test_processes_change_no_bit(tmp_path, monkeypatch, case):
    """Attackers in one process or apart, and downlinks of their own or shared: the same run."""
    monkeypatch.setattr(agent_batch, "CHUNK", 3)
    short = {
        "run__rounds": 14,
        "backdoor__inject": [13],
        "validation__look_back": 8,
        "validation__quorum": 3,
    }
    setup = ATTACK | DEFENCE | {"run__seed": 1} | short | SPLITS[case]
    assert {number // 3 for number in partition_spec_of(settings_of(**setup)).malicious_agents} == {
        0,
        2,
    }  # apart
    runs = [
        Federation(tmp_path / str(number), fleets=fleets, shared=shared, **setup).whole()
        for number, (fleets, shared) in enumerate(
            [(1, False), (3, False), (2, True)] if case in QUICK else [(1, False), (3, True)]
        )
    ]
    rejected = [r.judged for r in runs[0].records if r.accepted is False]
    if case != "liars":  # random votes may go either way
        assert (13 in rejected) is (case != "median")  # two are a minority
    for other in runs[1:]:
        assert other.models == runs[0].models
        assert [essence(r) for r in other.records] == [essence(r) for r in runs[0].records]


def essence(r):
    """Return what a record says however many processes the agents have."""
    return r.round, r.accepted, r.updates, r.candidate, r.votes


@pytest.mark.parametrize("order", swept([1, 2], 1))
def test_arrival_order_does_not_change_a_model(tmp_path, defended, order):
    """With the inbox shuffled before every turn each accepted model has the same bits."""
    again = Federation(tmp_path, **ATTACK, **DEFENCE)
    again.inbox_order = np.random.default_rng(order)
    assert again.whole().models == defended.models
    assert [r.votes.voters for r in again.records] == [r.votes.voters for r in defended.records]


@pytest.fixture(scope="module", params=swept(["server", "both"], "both"))
def judging(request, tmp_path_factory):
    """Give the settings of a run in which the server votes, and that run, undisturbed."""
    setup = ATTACK | DEFENCE | {"validation__judged_by": request.param}
    return setup, Federation(tmp_path_factory.mktemp("judging"), **setup).whole()


@pytest.mark.parametrize("number", [9, 20, 21])
def test_a_server_that_judges_resumes_where_it_was(tmp_path, judging, number):
    """Killed before, in and after an injection: it looks at its models again and votes alike."""
    setup, whole = judging
    torn = Federation(tmp_path / "torn", **setup)
    torn.begin()
    torn.run(lambda state: state.round == number and len(state.updates) == 4)
    torn.crash()
    torn.whole()
    assert torn.models == whole.models
    told = [(r.votes.counts, r.votes.voters.get(SERVER), r.model, r.harm) for r in torn.records]
    assert told == [
        (r.votes.counts, r.votes.voters.get(SERVER), r.model, r.harm) for r in whole.records
    ]
    assert torn.records[-1].harm.largest_backdoor == max(
        r.model.backdoor for r in torn.records if r.accepted
    )


# Planted contributors


@given(
    st.sets(st.integers(0, 30), min_size=1),
    st.sets(st.integers(0, 30)),
    st.integers(0, 40),
    st.integers(0, 9),
)
def test_planted_ones_are_drawn_in_any_case(agents, chosen, count, round_):
    """Those who are there are among the drawn, as many as fit; the number drawn does not change."""
    names, wanted = {f"a{i:02d}" for i in agents}, {f"a{i:02d}" for i in chosen}
    drawn = draw(names, count, 3, round_, Purpose.CONTRIBUTORS, wanted)
    plain = draw(names, count, 3, round_, Purpose.CONTRIBUTORS)
    assert list(drawn) == sorted(set(drawn))
    assert set(drawn) <= names
    assert len(drawn) == len(plain) == min(count, len(names))
    there = wanted & names
    assert len(there & set(drawn)) == min(len(there), count)
    if not there:
        assert drawn == plain


def test_who_is_drawn_beside_planted_ones_is_drawn_evenly():
    """Of nine others four are drawn: each in 4/9 of 2,000 rounds, give or take."""
    names = [f"a{i}" for i in range(10)]
    counts = dict.fromkeys(names, 0)
    for number in range(2000):
        for name in draw(names, 5, 1, number, Purpose.CONTRIBUTORS, ("a3",)):
            counts[name] += 1
    assert counts.pop("a3") == 2000
    # Binomial(2000, 4/9) has mean 889 and a deviation of 22.2.
    assert all(abs(count - 889) < 4 * 22.2 for count in counts.values())


def test_planting_changes_only_the_rounds_it_is_for():
    """With c planted in round 2, the other rounds call whom they would have called."""
    called = []
    for planting in ({}, {2: ("c",)}):
        said = policy(client_fraction=0.34, forced=planting, rounds=5)
        state, _ = start(said)
        called.append([])
        for number in range(1, 5):
            called[-1].append(state.selected)
            sent = updates(state, dict.fromkeys(sorted(state.selected), (1, 0)))
            state, _ = play(state, said, *sent, Tick(float(number), set("abc")))
    free, bound = called
    assert bound[1] == {"c"}
    assert [bound[i] for i in (0, 2, 3)] == [free[i] for i in (0, 2, 3)]


def contributors(folder, **changes):
    """Return who was called in each round of a run, and the attackers, by name."""
    called = {}

    def note(topic, payload):
        if topic == "fl/v2/lab/round" and payload:
            said = json.loads(payload)
            called[said["round"]] = said["contributors"]

    run = Federation(folder, **changes)
    run.broker.listeners.append(note)
    run.whole()
    plan = partition_spec_of(run.settings)
    return called, {plan.name(number) for number in plan.malicious_agents}


def test_attackers_are_among_the_called_of_their_rounds(tmp_path):
    """In rounds 2 and 4 both attackers are called; without planting it depends on the draw."""
    setup = ATTACK | {
        "run__rounds": 5,
        "backdoor__inject": [2, 4],
        "sampling__client_fraction": 0.3,
        "run__seed": 2,
    }
    called, attackers = contributors(tmp_path / "planted", **setup)
    assert all(len(names) == 3 for names in called.values())
    assert all(attackers <= set(called[number]) for number in (2, 4))
    assert any(not attackers <= set(called[number]) for number in (1, 3, 5))
    free, _ = contributors(tmp_path / "free", **setup, backdoor__forced=False)
    assert not all(attackers <= set(free[number]) for number in (2, 4))
    assert [free[number] for number in (1, 3, 5)] == [called[number] for number in (1, 3, 5)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, dict.fromkeys(INJECT, 2)),
        ({"backdoor__forced": False}, {}),
        ({"agents__attack": "mpaf"}, {}),
        ({"backdoor__inject": []}, {}),
        ({"agents__attack": "adaptive", "agents__malicious": 0.1}, dict.fromkeys(INJECT, 1)),
    ],
)
def test_who_is_planted_comes_from_the_settings(changes, expected):
    """All attackers with data, by name and in order, in the rounds in which they strike."""
    given_settings = settings_of(**ATTACK | changes)
    plan = partition_spec_of(given_settings)
    found = forced(given_settings, plan)
    assert {number: len(names) for number, names in found.items()} == expected
    for names in found.values():
        assert list(names) == [plan.name(number) for number in sorted(plan.malicious_agents)]
    assert build(given_settings).config.forced == found


# What people are told at the start


@pytest.mark.parametrize(
    ("changes", "voters", "warned"),
    [
        ({"validators": 10, "quorum": 5}, 10, False),
        ({"validators": 10, "quorum": 7}, 10, True),
        ({"validators": 10, "quorum": 5, "tolerated_malicious": 3}, 10, True),
        ({"validators": 10, "quorum": 4, "tolerated_malicious": 3}, 10, False),
        ({"validators": 9, "quorum": 4, "tolerated_malicious": 3, "judged_by": "both"}, 10, False),
        ({"piggy_back": True, "quorum": 3}, 6, False),
        ({"piggy_back": True, "quorum": 4}, 6, True),
        ({"validators": 10, "decide": "pooled", "quorum": 7}, 10, True),
        ({"validators": 10, "decide": "pooled", "tolerated_malicious": 2}, 10, False),
        ({"judged_by": "server"}, None, None),
        ({}, None, None),
    ],
)
def test_the_aggregator_says_which_quorums_are_safe(changes, voters, warned):
    """Of all who vote, the server and with piggy-back the contributors counted in.

    Of pooled counts it warns where nothing is left out.
    """
    votes = {f"validation__{key}": value for key, value in changes.items()}
    lines = advice(settings_of(**ATTACK | votes))
    if voters is None:
        assert lines == []
        return
    assert lines[0].startswith(f"{voters} voters, ")
    assert (len(lines) == 2) is warned
    assert all(line.startswith("warning: ") for line in lines[1:])
