"""A fleet of devices that somebody else's function makes, spawned as programs on a real broker."""

from __future__ import annotations

import pytest
import torch
from support.federation import one_thread  # noqa: F401 - a fixture
from support.network import KIND, Programs
from support.pumps import Net, make

import fedjury
from fedjury.broker.local import local_broker
from fedjury.protocol.credentials import BrokerAddress

ROUNDS, DEVICES = 4, 6

pytestmark = pytest.mark.usefixtures("one_thread")


def test_spawned_and_simulated_the_model_is_the_same_bit_for_bit(tmp_path):
    """The same six devices in two processes over MQTT, and in this one without a network."""
    given = {"model": Net(), "rounds": ROUNDS, "best": "-rmse", "validators": 3}
    expected = fedjury.simulate([make(i) for i in range(DEVICES)], **given)
    with local_broker(KIND, say=lambda _: None) as broker:
        programs = Programs(tmp_path, BrokerAddress("127.0.0.1", broker.port))
        federation = fedjury.Federation(
            "pumps",
            f"mqtt://127.0.0.1:{broker.port}",
            model=Net(),
            devices=fedjury.Devices(min=DEVICES),
            folder=tmp_path,
            best="-rmse",
            validators=3,
            say=list,
        )
        fleet = programs.start(
            *("agents/spawn.py", "--devices", "tests.support.pumps:make", "--n", str(DEVICES)),
            *("--processes", "2", "--run", "pumps", "--broker", f"127.0.0.1:{broker.port}"),
        )
        result = federation.run(ROUNDS)
        assert fleet.wait(60) == 0
    assert result.weights.tobytes() == expected.weights.tobytes()
    assert result.devices == expected.devices
    assert result.history[-1]["rmse"] < 0.9 * result.history[0]["rmse"]
    assert [row["clean"] for row in result.history] == [3] * ROUNDS
    assert torch.equal(result.state_dict()["body.0.weight"], expected.state_dict()["body.0.weight"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--devices", "tests.support.pumps:nothing"], "nothing"),
        (["--devices", "tests.support.pumps:Net"], "fails at device 0"),
        (["--devices", "builtins:abs"], "made a int, not a fedjury.Device"),
        (
            ["--devices", "tests.support.pumps:make", "--evil", "0.2"],
            "0 where agents.devices makes them",
        ),
    ],
)
def test_what_makes_no_device_is_a_sentence(tmp_path, flags, said):
    """Before anything joins."""
    with local_broker(KIND, say=lambda _: None) as broker:
        programs = Programs(tmp_path, BrokerAddress("127.0.0.1", broker.port))
        where = f"127.0.0.1:{broker.port}"
        fleet = programs.start(
            "agents/spawn.py", "--n", "2", "--run", "x", "--broker", where, *flags
        )
        assert fleet.wait(60) == 2
        told = fleet.log.read_text()
    assert said in told
    assert "Traceback" not in told
