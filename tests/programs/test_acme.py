"""A company's package: installed beside our wheel, its models, data and defences take part.

tests/acme/ is that package. On a broker with TLS and logins, five devices with 120, 37, 500, 3 and
0 samples train five models at once, each in a run of its own, for servers without data.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fedjury
from fedjury.aggregator.records import read_records
from fedjury.broker import enrol
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto

ROOT = Path(__file__).resolve().parents[2]
ACME = ROOT / "tests" / "acme"

LATE, KILLED = 3, 7
"""Rounds after which the largest device comes, and another is killed."""

PER_CENT, POINTS = 1.15, 0.03
"""How much larger an RMSE may be, and how much lower an accuracy, than with all data together."""


@pytest.fixture(scope="module")
def acme():
    """Let the package be imported from where it lies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ACME / "src"))
        yield


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Install our wheel and the company's into an environment of their own; returns its folder.

    PyTorch and what else we need come from the environment of the tests, but nothing of ours.
    """
    folder = tmp_path_factory.mktemp("acme")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT, ACME], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    wheels = [str(file) for file in folder.glob("*.whl")]
    assert len(wheels) == 2
    into = [*pip, "--python", python, "install", "--no-deps", "--no-index", *wheels]
    subprocess.run(into, check=True)
    [packages] = folder.glob("venv/lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(p for p in sys.path if "site-packages" in p))
    return folder


class Environment:
    """Programs of the environment, which are ended with the test."""

    def __init__(self, installed: Path, folder: Path) -> None:
        self.bin, self.folder = installed / "venv" / "bin", folder
        self.children: list[subprocess.Popen] = []
        self.variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def start(self, program: str, *arguments: str | Path) -> subprocess.Popen:
        """Start a program far from the checkout; what it prints is in its ``log``."""
        log = self.folder / f"program-{len(self.children)}.log"
        with log.open("w") as output:
            child = subprocess.Popen(
                [self.bin / program, *arguments],
                cwd=self.folder,
                env=self.variables,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        child.log = log
        self.children.append(child)
        return child

    def ended(self, child: subprocess.Popen, seconds: float) -> str:
        """Wait for a program's good end, and return what it printed."""
        code = child.wait(seconds)
        said = child.log.read_text()
        assert (code, "Traceback" in said) == (0, False), said
        return said

    def close(self) -> None:
        """End what still runs."""
        for child in self.children:
            child.kill()
            child.wait()


@pytest.fixture(scope="module")
def environment(installed, tmp_path_factory):
    made = Environment(installed, tmp_path_factory.mktemp("programs"))
    yield made
    made.close()


def good_enough(metric: str, quality: dict[str, float], pooled: dict[str, float]) -> None:
    """Hold a federation's model against the one that has all data in one place."""
    if metric == "rmse":
        assert quality["rmse"] <= PER_CENT * pooled["rmse"]
    else:
        assert quality["accuracy"] >= pooled["accuracy"] - POINTS


# ---------------------------------------------------------------- over a broker


SIZES = {"steady": 120, "killed": 37, "late": 500, "slow": 3, "idle": 0}
METRICS = {
    "pumps": "rmse",
    "signals": "rmse",
    "parts": "accuracy",
    "heads": "accuracy",
    "words": "accuracy",
}


def finished(runs: Path) -> int:
    """Return how many rounds the run that is furthest behind has had."""
    files = [runs / name / "rounds.jsonl" for name in METRICS]
    return min(len(file.read_bytes().splitlines()) if file.exists() else 0 for file in files)


def wait_for(rounds: int, runs: Path, server: subprocess.Popen) -> None:
    """Wait until all runs have had so many rounds."""
    deadline = time.monotonic() + 120
    while finished(runs) < rounds:
        assert server.poll() is None, server.log.read_text()
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def came_to(environment, acme):
    """Run the five federations with their troubles; returns what each came to, by name."""
    secrets, runs = environment.folder / "secrets", environment.folder / "runs"
    names = [word for name in SIZES for word in ("--name", name)]
    enrol.main([*names, "--tls", "--many-runs", "--folder", str(secrets)])
    with local_broker("mosquitto", say=lambda _: None, secrets=secrets) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"

        def device(name: str) -> subprocess.Popen:
            return environment.start("python", "-m", "acme.device", name, url, secrets)

        server = environment.start("python", "-m", "acme.server", url, secrets, runs)
        devices = {name: device(name) for name in SIZES if name != "late"}
        wait_for(LATE, runs, server)
        devices["late"] = device("late")
        wait_for(KILLED, runs, server)
        devices["killed"].send_signal(signal.SIGKILL)
        pooled = in_one_place()
        environment.ended(server, 120)
        for name in devices.keys() - {"killed"}:
            devices[name].terminate()
            environment.ended(devices[name], 20)
    results = json.loads((runs / "results.json").read_text())
    return {name: result | {"pooled": pooled[name]} for name, result in results.items()}


def in_one_place() -> dict[str, dict[str, float]]:
    """Train each model on the data of all devices together; returns what it is worth, by name."""
    from acme.training import TASKS, pooled  # noqa: PLC0415 - not on the path before

    return {name: pooled(task) for name, task in TASKS.items()}


HEAD = 4 * (128 + 1)
"""Parameters of the network's own head."""
WHOLE = 8 * (9 + 1) + 32 * (8 * 9 + 1) + HEAD
"""All its parameters, those of the frozen backbone among them: 2,932."""


@pytest.mark.slow
@pytest.mark.skipif(not find_mosquitto(), reason="logins need Mosquitto")
def test_five_models_on_five_devices_are_as_good_as_with_all_data_in_one_place(came_to):
    """Though one device comes late, one is killed, one is ten times slower and one has no data."""
    for name, metric in METRICS.items():
        told = came_to[name]
        good_enough(metric, told["quality"], told["pooled"])
        history, last = told["history"], len(told["history"])
        # Each device measures on data of its own, and the server has none.
        assert history[-1][metric] == pytest.approx(told["quality"][metric], rel=0.2)
        assert not any("server" in key for key in history[-1])
        trained = {device: [] for device in SIZES}
        for row in told["devices"]:
            if "train_samples" in row:
                assert row["train_samples"] == SIZES[row["device"]]
                trained[row["device"]].append(row["round"])
        assert len(trained["steady"]) >= last - 2
        assert LATE < min(trained["late"]) < max(trained["late"]) == last
        assert KILLED <= max(trained["killed"]) < last - 5
        assert trained["idle"] == []
        # A deadline is 2 s: the slow one is waited for three times, and again when it has answered,
        # about eight times in all. If it were always waited for, all rounds would take so long.
        assert sum(row["seconds"] > 1.9 for row in history) <= 3 * last // 4


@pytest.mark.slow
@pytest.mark.skipif(not find_mosquitto(), reason="logins need Mosquitto")
def test_of_a_network_with_a_frozen_backbone_only_the_head_travels(came_to):
    """An update is as long as the head, and so is a model."""
    told = came_to["heads"]
    assert told["travels"] == [[4, 128], [4]]
    rows = list(zip(told["history"], told["bytes_in"], strict=True))
    for row, received in rows[1:]:  # the first may take several attempts, with updates in each
        assert 4 * HEAD * row["updates"] < received < 4 * WHOLE * row["updates"]


# ---------------------------------------------------------------- in memory


@pytest.fixture
def simulated(acme, tmp_path_factory):
    """Return a function that simulates a task's devices, and returns its model's metrics."""
    from acme.device import device  # noqa: PLC0415 - not on the path before
    from acme.training import BATCH, EPOCHS, TASKS, quality  # noqa: PLC0415

    def run(name: str, **given: object) -> dict[str, float]:
        task = TASKS[name]
        folder = tmp_path_factory.mktemp(name)
        plan = {"training.epochs": EPOCHS, "training.batch_size": BATCH}
        devices = [device(task, each) for each in SIZES]
        result = fedjury.simulate(
            devices,
            model=task.net(),
            settings=plan,
            folder=folder,
            name=name,
            **given,
        )
        model = task.net()
        model.load_state_dict(result.state_dict())
        return quality(task, model)

    return run


@pytest.mark.parametrize("name", ["pumps", "words"])
def test_a_rule_that_is_broken_is_found_by_what_the_model_is_worth(simulated, name):
    """With the mean the model passes; with zeros for updates it does not."""
    from acme.training import TASKS, pooled  # noqa: PLC0415

    baseline = pooled(TASKS[name])
    good_enough(METRICS[name], simulated(name, rounds=20), baseline)
    worth = simulated(name, rounds=5, rule="acme.rules:zeros")
    with pytest.raises(AssertionError):
        good_enough(METRICS[name], worth, baseline)


FLEET = [
    *("--data", "acme.data:load", "--model", "acme.nets:small", "--n", "20", "--evil", "0.2"),
    *("--rounds", "6", "--validators", "8", "--look-back", "2", "--seed", "1", "--no-quarantine"),
    *("--attack", "acme.attacks:shout", "--scale", "3"),
    *("--set", 'training.metrics=["acme.metrics:worst_class"]'),
]
"""A simulated fleet of the company's: 4 of 20 agents shout."""


@pytest.mark.slow
def test_own_data_model_rule_attack_judge_and_metric_make_a_run(environment):
    """The rule withstands the attack, and with the mean the judge rejects what comes of it.

    By package.module:name, and by the names that the package offers.
    """
    runs = [
        ["--rule", "acme.rules:middle", "--judge", "acme.judges:worse", "--start", "1"],
        ["--rule", "mean", "--judge", "acme_worse", "--start", "4"],
        ["--rule", "acme_middle", "--judge", "acme_worse", "--start", "1"],
    ]
    started = [
        environment.start("fedjury", "run", *FLEET, *more, "--run", f"fleet-{number}")
        for number, more in enumerate(runs)
    ]
    for child in started:
        environment.ended(child, 100)
    folders = [environment.folder / "runs" / f"fleet-{number}" for number in range(3)]
    middle, jury, offered = (read_records(folder) for folder in folders)
    assert [record.accepted for record in middle] == [True] * 6
    assert [record.accepted for record in jury] == [True] * 3 + [False] * 3
    assert middle[-1].model.accuracy == offered[-1].model.accuracy > 0.85
    measured = middle[-1].model.metrics["server_worst_class"]
    assert 0.5 < measured <= middle[-1].model.accuracy
    report = (folders[0] / "report.md").read_text()
    assert "They shouted: each sent the same number for every weight." in report
