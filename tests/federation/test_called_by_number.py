"""Whole federations whose agents are called by number: nobody is missed, nobody comes uncalled."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture

import fedjury

pytestmark = pytest.mark.usefixtures("one_thread")

CALLED = {
    "agents__n": 24,
    "run__rounds": 4,
    "sampling__client_fraction": 0.5,
    "sampling__names": 4,
    "sampling__by_seed": True,
    "validation__validators": 8,
}


def told(federation):
    """Keep what agents are told of rounds."""
    rounds = []

    def note(topic, payload):
        if topic == "fl/v2/lab/round" and payload:
            rounds.append(json.loads(payload))

    federation.broker.listeners.append(note)
    return rounds


def check(federation, rounds, parts=("contributors", "validators")):
    """Check that agents were called by number, and that just those answered."""
    opened = [said for said in rounds if said["phase"] != "done"]
    assert opened
    for said in opened:
        assert said["contributors"] == []
        assert sorted(said["calls"]) == sorted(parts)
    for record in federation.records:
        assert (record.selected, record.updates, record.missing) == (12, 12, 0)
        assert record.traffic.invalid_messages == {}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("fleets", [1, 3])
def test_those_who_are_called_answer_and_nobody_else(tmp_path, shared, fleets):
    """Each agent, or the listener of a process, finds who is called as the aggregator drew them."""
    federation = Federation(tmp_path, shared=shared, fleets=fleets, **CALLED)
    rounds = told(federation)
    federation.whole()
    check(federation, rounds)
    for record in federation.records:
        assert (len(record.votes.voters), record.votes.silent) == (8, 0)


def test_one_seed_gives_one_model(tmp_path):
    """Where numbers are made from the seed; else a key of the run's calls others."""
    models = [
        Federation(tmp_path / f"{i}", **CALLED | changes).whole().models
        for i, changes in enumerate(({}, {}, {"sampling__by_seed": False}))
    ]
    assert models[0] == models[1]
    assert models[0] != models[2]


def test_a_run_that_is_resumed_calls_the_same_agents(tmp_path):
    """Its key is in its folder, and readable for nobody else."""
    secret = CALLED | {"sampling__by_seed": False, "validation__validators": 0}
    federation = Federation(tmp_path, **secret)
    rounds = told(federation)
    federation.begin()
    federation.run(until=lambda state: state.round == 3 and len(state.updates) == 2)
    selected = federation.state.selected
    federation.crash()
    federation.begin()
    federation.run(until=lambda state: state.round == 3)
    assert federation.state.selected == selected
    assert (tmp_path / "calls.key").stat().st_mode & 0o777 == 0o600
    third = [said["calls"] for said in rounds if said["round"] == 3]
    assert len(third) > 1
    assert all(calls == third[0] for calls in third)


def test_the_called_vote_with_their_updates(tmp_path):
    """Piggy-back: who is called by number judges the candidate and trains from it."""
    piggy_back = CALLED | {"validation__piggy_back": True, "validation__validators": 0}
    federation = Federation(tmp_path, shared=True, **piggy_back)
    rounds = told(federation)
    federation.whole()
    check(federation, rounds, parts=("contributors",))
    assert [len(record.votes.voters) for record in federation.records] == [0, 12, 12, 12]


def test_groups_are_drawn_of_those_who_are_called(tmp_path):
    """Under secure aggregation, with votes: each sum is opened, of agents that were called."""
    secure = CALLED | {
        "groups__secure": True,
        "groups__size": 4,
        "groups__by_seed": True,
        "detection__detectors": [],
    }
    federation = Federation(tmp_path, **secure)
    rounds = told(federation)
    federation.whole()
    check(federation, rounds)
    for record in federation.records:
        assert [len(group.members) for group in record.groups.groups.values()] == [4, 4, 4]


def test_evaluators_are_called_by_number(tmp_path):
    """Half of the agents measure each candidate."""
    measured = CALLED | {"validation__validators": 0, "evaluation__fraction": 0.5}
    federation = Federation(tmp_path, shared=True, **measured)
    rounds = told(federation)
    federation.whole()
    check(federation, rounds, parts=("contributors", "evaluators"))
    assert all(len(record.evaluated) == 12 for record in federation.records)


def test_colluders_know_how_many_are_called(tmp_path):
    """Attackers who are called by number report to their coordinator, and send what it plots."""
    colluding = CALLED | {
        "agents__malicious": 0.4,
        "agents__attack": "alie",
        "validation__validators": 0,
        "detection__detectors": [],
    }
    federation = Federation(tmp_path, fleets=2, **colluding)
    rounds = told(federation)
    federation.whole()
    check(federation, rounds, parts=("contributors",))


def test_devices_are_called_by_number(tmp_path):
    """Six of nine train in each round, four of them measure: each device finds for itself who."""
    trained, measured = [], []

    def device(name):
        made = fedjury.Device(name, model={"w": np.zeros(2, np.float32)}, say=lambda _: None)

        @made.train
        def train(model, turn):
            trained.append((turn.round, name))
            model["w"] += 1
            return fedjury.Trained(1)

        @made.evaluate
        def evaluate(model, turn):
            measured.append((turn.round, name))
            return fedjury.Metrics(1, loss=0.5)

        return made

    result = fedjury.simulate(
        [device(f"site-{i}") for i in range(9)],
        model={"w": np.zeros(2, np.float32)},
        rounds=3,
        folder=tmp_path,
        settings={
            "sampling.client_fraction": 0.66,
            "evaluation.fraction": 0.45,
            "sampling.names": 2,
        },
    )
    assert [row["updates"] for row in result.history] == [6, 6, 6]
    assert len(trained) == len({*trained}) == 18
    assert len(measured) == len({*measured}) == 12
