"""Another manifest in mid-run: agents take the new values, or the new model, or wait for a fit."""

from __future__ import annotations

import pytest
import test_own_device as own
from support.federation import Federation, one_thread, settings_of, simulated_agents_of  # noqa: F401
from torch import nn

from fedjury.agents.batch_assembly import runner_of
from fedjury.aggregator.assembly import build
from fedjury.protocol.messages import Model, Phase, Round, Update
from fedjury.protocol.transport.memory_transport import MemoryTransport

pytestmark = pytest.mark.usefixtures("one_thread")

JURY = {
    "run__rounds": 8,
    "validation__validators": 5,
    "validation__quorum": 3,
    "validation__look_back": 4,
    "validation__minimum_history": 4,
}
OTHER = {
    "epochs": {"training__epochs": 2},
    "learning rate": {"training__learning_rate": 0.05},
    "judge": {"validation__judge": "calibrated"},
    "codec": {"wire__codec": "float16"},
}


def interrupted(folder, changes, *, fresh, **settings):
    """Crash an aggregator in its round 4 and start it with other settings; ``fresh``: agents too.

    Those who are called have their updates under way by then.
    """
    run = Federation(folder, **settings)
    run.begin()
    run.run(lambda state: state.round == 4 and len(state.updates) == 7)
    run.crash()
    run.settings = settings_of(**settings | changes)
    if fresh:
        run.join()
    return run.whole()


@pytest.mark.parametrize("what", OTHER)
def test_agents_use_the_values_of_an_aggregator_that_was_restarted(tmp_path, what):
    """From the round at hand on they train and judge as agents do that were started with them."""
    old = Federation(tmp_path / "old", **JURY).whole()
    kept, fresh = (
        interrupted(tmp_path / str(fresh), OTHER[what], fresh=fresh, **JURY)
        for fresh in (False, True)
    )
    assert kept.models == fresh.models
    assert kept.models[3] == old.models[3]
    changed = [r.votes.voters for r in old.records] if what == "judge" else old.models
    assert ([r.votes.voters for r in kept.records] if what == "judge" else kept.models) != changed
    assert [r.votes.voters for r in kept.records] == [r.votes.voters for r in fresh.records]
    assert all(not r.traffic.invalid_messages and not r.missing for r in kept.records)
    assert [len(r.votes.voters) for r in kept.records[3:]] == [5] * 5


def test_with_the_same_settings_nothing_changes(tmp_path):
    """An aggregator that resumes with its own settings comes to the models of one that did not."""
    whole = Federation(tmp_path / "whole", **JURY).whole()
    assert interrupted(tmp_path / "cut", {}, fresh=False, **JURY).models == whole.models


SMALL = {"data__name": "mnist5k", "agents__n": 4, "agents__samples": 20, "run__rounds": 3}


def test_a_fleet_follows_to_another_model_under_the_same_name(tmp_path):
    """Old models, updates and votes are forgotten: the new run is as if agents had just come."""
    votes = {"validation__validators": 2, "validation__quorum": 2}
    run = Federation(tmp_path / "first", **SMALL | votes)
    run.begin()
    run.run(lambda state: state.round == 3 and len(state.updates) == 2)
    run.crash()
    run.models.clear()
    run.folder = tmp_path / "second"
    run.settings = settings_of(**SMALL | votes | {"model__name": "classifier"})
    run.whole()
    alone = Federation(tmp_path / "alone", **SMALL | votes | {"model__name": "classifier"}).whole()
    assert run.models == alone.models
    assert [r.updates for r in run.records] == [4] * 3
    assert all(not r.traffic.invalid_messages for r in run.records)
    assert not run.said


def test_a_fleet_that_cannot_follow_waits_for_a_manifest_that_fits(tmp_path):
    """It says so once, answers nothing, and takes part again when its own run is back."""
    run = Federation(tmp_path / "first", run__rounds=5)
    run.begin()
    run.run(lambda state: state.round == 2 and len(state.updates) == 7)
    run.crash()
    run.models.clear()
    digits, run.settings = run.settings, settings_of(**SMALL | {"agents__n": 20})
    run.folder = tmp_path / "second"
    run.begin()
    for _ in range(300):
        run.turn()
    run.crash()
    assert not run.state.updates
    [told] = [text for text in run.said if "waiting" in text]
    assert "the run trains on inputs (1, 28, 28) of 10 classes, data set 'digits' has" in told
    assert told.endswith("waiting until the run has a manifest that fits")
    run.models.clear()
    run.settings, run.folder = digits, tmp_path / "first"
    run.whole()
    assert [r.updates for r in run.records] == [20] * 5
    alone = Federation(tmp_path / "alone", run__rounds=5).whole().models
    assert run.models == {version: alone[version] for version in run.models}
    assert max(run.models) == 5
    assert run.said.count(told) == 1


def device_run(folder, device, **changes):
    """Begin a federation of one device, who waits in it whatever the run's model is."""
    settings = {"run__rounds": 3, "collect__agents": 1, "collect__min_updates": 1}
    run = Federation(folder, fleets=0, **own.CALM | settings | changes)
    runner = device.runner(MemoryTransport(run.broker, "lab"), clock=run.seconds)
    runner.join()
    run.fleets.append(runner)
    return run, runner


def test_a_device_waits_while_the_run_trains_another_model(tmp_path):
    """It names the first tensor that differs, once, and takes part when its model's run comes."""
    said = []
    mine = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    run, runner = device_run(tmp_path / "other", own.device("site-a", said, model=mine))
    run.begin()
    for _ in range(50):
        run.turn()
    run.crash()
    [told] = said
    differs = "the run has 1.weight 32x64 where this device has 1.weight 10x64"
    assert told.startswith(f"run 'lab' trains another model: {differs}; waiting until")
    assert not runner.took_part
    changes = {"model__name": f"{own.__name__}:softmax"}
    run.models.clear()
    run.settings = settings_of(**own.CALM | {"run__rounds": 3, "collect__agents": 1} | changes)
    run.folder = tmp_path / "mine"
    run.whole()
    assert [r.updates for r in run.records] == [1, 1, 1]
    assert runner.took_part
    assert len(said) == 1


def test_a_device_follows_to_other_values_and_without_a_model_to_any(tmp_path):
    """Its function is told the new learning rate; named arrays take the new run's shapes."""
    device, turns = own.fedjury.Device("site-a", "memory:lab", run="lab", say=[].append), []

    @device.train
    def train(model, turn):
        turns.append((turn.learning_rate, sorted(array.shape for array in model.values())))
        return 5

    run, _ = device_run(tmp_path / "one", device, training__learning_rate=0.2)
    run.begin()
    run.run(lambda state: state.round == 2)
    run.crash()
    run.settings = settings_of(**own.CALM | {"run__rounds": 3, "collect__agents": 1})
    run.settings = run.settings.replaced(training=run.settings.training.replaced(learning_rate=0.5))
    run.whole()
    hidden = [(10,), (10, 32), (32,), (32, 64)]
    assert turns[0] == (0.2, hidden)
    assert turns[-2:] == [(0.5, hidden)] * 2
    run.models.clear()
    run.crash()
    run.folder = tmp_path / "two"
    run.settings = run.settings.replaced(
        model=run.settings.model.replaced(name=f"{own.__name__}:softmax")
    )
    run.whole()
    assert turns[-1] == (0.5, [(10,), (10, 64)])
    assert [r.updates for r in run.records] == [1, 1, 1]


def two_agents(folder):
    """Make a runner of two agents that has heard nothing, and the manifests of two models."""
    first = settings_of(agents__n=2, data__name="mnist5k", agents__samples=20)
    second = first.replaced(model=first.model.replaced(name="classifier"))
    simulated = simulated_agents_of(first)
    hub = MemoryTransport(Federation(folder, fleets=0).broker, "lab")
    sent = []
    hub.send = lambda name, message: sent.append((name, message))
    runner = runner_of(simulated, simulated.check(), range(2), hub, sent.append)
    return runner, [build(one) for one in (first, second)], sent


def test_a_connection_that_still_tells_of_the_old_model_is_not_answered(tmp_path):
    """Each connection hears the change for itself; what it says before is of the old generation."""
    runner, (old, new), sent = two_agents(tmp_path)
    ours = new.model.read()
    opened = Round(1, 1, Phase.TRAIN, 0, "all", (), 9.0)
    late = Round(7, 1, Phase.TRAIN, 4, "all", (), 9.0)
    for name in ("agent-0", "agent-1"):
        for message in (old.manifest, Model(4, old.model.read())):
            runner.on_message(name, message)
    for message in (new.manifest, Model(0, ours), opened):
        runner.on_message("agent-0", message)
    for message in (Model(4, old.model.read()), late):
        runner.on_message("agent-1", message)
    while runner.turn():
        pass
    assert [(name, type(message), message.round) for name, message in sent] == [
        ("agent-0", Update, 1)
    ]
    for message in (new.manifest, Model(0, ours), opened):
        runner.on_message("agent-1", message)
    while runner.turn():
        pass
    assert [(name, message.round, len(message.delta)) for name, message in sent] == [
        ("agent-0", 1, len(ours)),
        ("agent-1", 1, len(ours)),
    ]
