"""Votes on groups in whole federations: poison goes, honest groups stay, whoever lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture

from fedjury.agents.assembly import simulated_agents_of
from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import GroupCandidate, GroupHistory, GroupVotes
from fedjury.protocol.topics import USUAL

pytestmark = pytest.mark.usefixtures("one_thread")

GROUPS = {
    "groups__size": 4,
    "validation__on": "groups",
    "validation__validators": 10,
    "validation__quorum": 5,
    "validation__look_back": 6,
    "validation__minimum_history": 5,
    "validation__judge": "robust",
    "run__rounds": 12,
}
"""Twenty agents in five groups of four, judged by ten of them."""

FAKES = {
    "agents__malicious": 0.1,
    "agents__attack": "mpaf",
    "agents__scale": 1e6,
    "agents__start": 9,
}
"""Two fakes without data, from round 9 on."""


def spoiled(record, federation):
    """Return the numbers of the groups that hold a fake."""
    spec = simulated_agents_of(federation.settings).spec
    evil = {spec.name(number) for number in spec.malicious_agents}
    return {n for n, group in record.groups.groups.items() if evil.intersection(group.members)}


def test_groups_with_fakes_are_left_out_and_all_rounds_are_kept(tmp_path):
    """Two fakes spoil one or two groups a round; these alone go, and the model goes on learning."""
    done = Federation(tmp_path, **GROUPS, **FAKES).whole()
    assert all(record.accepted for record in done.records)
    for record in done.records:
        out = spoiled(record, done) if record.round >= 9 else set()
        assert set(record.groups.left_out) == out
    assert done.accuracies[-1] > done.accuracies[8]


def test_who_was_heard_first_changes_nothing(tmp_path):
    """The same models from one process as from three whose messages come in another order."""
    one = Federation(tmp_path / "one", **GROUPS, **FAKES).whole()
    other = Federation(tmp_path / "three", fleets=3, **GROUPS, **FAKES)
    other.inbox_order = np.random.default_rng(3)
    assert other.whole().models == one.models


@pytest.mark.parametrize("each", [0, 2], ids=["all groups", "two groups each"])
def test_fakes_may_vote_before_anybody_with_data(each, tmp_path):
    """An agent a process: a fake that votes alone says the same as among those that hold data."""
    few = {"validation__groups_each": each, "validation__quorum": 2, "run__rounds": 2}
    lying = FAKES | {"agents__start": 1, "agents__malicious_validators": 0.1}
    one = Federation(tmp_path / "one", **GROUPS | few, **lying).whole()
    each_alone = Federation(tmp_path / "each", fleets=20, **GROUPS | few, **lying).whole()
    assert each_alone.models == one.models
    for record, same in zip(each_alone.records, one.records, strict=True):
        votes = {name: ballot.poisoned for name, ballot in same.groups.voters.items()}
        assert {name: b.poisoned for name, b in record.groups.voters.items()} == votes
        assert len(votes) == 10


def test_a_run_that_is_resumed_judges_groups_as_before(tmp_path):
    """Stopped after round 8, with a broker that lost all it retained: the same models."""
    whole = Federation(tmp_path / "whole", **GROUPS, **FAKES).whole()
    first = Federation(tmp_path / "cut", **GROUPS | {"run__rounds": 8}, **FAKES).whole()
    again = Federation(tmp_path / "cut", **GROUPS, **FAKES).whole()
    assert first.models | again.models == whole.models


def test_secret_groups_are_those_of_the_runs_key(tmp_path):
    """The key is in the run's folder, for nobody else to read, and a resumed run draws by it."""
    secret = GROUPS | {"groups__secret": True, "run__rounds": 3}
    done = Federation(tmp_path / "a", **secret).whole()
    other = Federation(tmp_path / "b", **secret).whole()
    key = tmp_path / "a" / "groups.key"
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)
    assert [r.groups.groups for r in done.records] != [r.groups.groups for r in other.records]


@pytest.mark.parametrize("attack", ["hide", "deny", "invert", "always_reject", "deny_group"])
def test_three_lying_validators_of_twenty_decide_nothing(attack, tmp_path):
    """Below the quorum of five, with honest false alarms, liars save no fake and cost no group."""
    lying = {"agents__malicious_validators": 0.05, "agents__vote_attack": attack}
    done = Federation(tmp_path, **GROUPS, **FAKES, **lying).whole()
    for record in done.records:
        out = spoiled(record, done) if record.round >= 9 else set()
        assert set(record.groups.left_out) == out


def test_those_who_deny_one_group_all_name_the_same(tmp_path):
    """In each round all liars call one honest group poisoned, and no other honest one."""
    lying = {"agents__malicious_validators": 0.4, "agents__vote_attack": "deny_group"}
    done = Federation(tmp_path, **GROUPS | {"run__rounds": 3}, **lying).whole()
    for record in done.records:
        accused = [ballot.poisoned for ballot in record.groups.voters.values() if ballot.poisoned]
        assert len(accused) > 1
        assert set(accused) == {(0,)}


def test_each_validator_judges_its_turn_of_groups_alone(tmp_path):
    """With two groups each of five, ten validators give each group four votes."""
    few = {"validation__groups_each": 2, "validation__quorum": 2, "run__rounds": 2}
    done = Federation(tmp_path, **GROUPS | few).whole()
    for record in done.records:
        assert [group.clean for group in record.groups.groups.values()] == [4] * 5
        assert {ballot.judged for ballot in record.groups.voters.values()} == {2}


def test_what_is_retained_of_groups_goes_with_the_round(tmp_path):
    """After the run no group's candidate is left, and of the history the last l + 1 versions."""
    done = Federation(tmp_path, **GROUPS).whole()
    kinds = [USUAL.parse(topic).kind for topic in done.broker.retained]
    assert GroupCandidate not in kinds
    assert kinds.count(GroupHistory) == 7


def test_hostile_votes_on_groups_cost_nothing(tmp_path):
    """Votes by strangers, on groups that do not exist, twice, or NaN: refused, counted, no harm."""
    short = GROUPS | {"run__rounds": 3}
    plain = Federation(tmp_path / "plain", **short).whole()
    done = Federation(tmp_path / "hostile", **short)
    busy = []

    def meddle(topic, payload):
        if busy or USUAL.parse(topic).kind is not GroupVotes:
            return
        busy.append(topic)  # what it publishes it hears itself
        vote = codec.decode(topic, payload, Limits())
        for bad in (
            replace(vote, agent="stranger"),
            replace(vote, groups=np.arange(7, 12, dtype="<u4").tobytes()),
            replace(vote, scores=np.full(5, np.nan, "<f4").tobytes()),
            replace(vote, attempt=9),
            vote,
        ):
            done.broker.publish(USUAL.of("lab", bad), codec.encode(bad))
        busy.clear()

    done.broker.listeners.append(meddle)
    done.whole()
    assert done.models == plain.models
    refused = [record.traffic.invalid_messages for record in done.records]
    assert set().union(*refused) >= {
        "duplicate",
        "not_finite",
        "not_selected",
        "wrong_groups",
        "wrong_round",
    }
    assert refused[1]["wrong_groups"] == 10
