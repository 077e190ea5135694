"""The aggregator's machine vanishes from a real network, and its folder goes on at another.

Three machines are network namespaces: one with the broker and the agents, two for the aggregator. A
link that is down sends no goodbye and no reset: the broker takes the old one for connected.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support import warm
from support.listening import until
from support.machine import needs_a_machine

from fedjury.aggregator.store import read_records
from fedjury.broker import enrol
from fedjury.broker.mosquitto import find_mosquitto

ROOT = Path(__file__).resolve().parents[2]
AGENTS, WITHIN = 8, 30.0

pytestmark = [pytest.mark.chaos, needs_a_machine]

TASK = ["--data", "digits"]
OF_AGENTS = [*TASK, "--samples", "20", "--n", str(AGENTS)]
OF_AGGREGATOR = [
    *TASK,
    *("--config", str(ROOT / "tools" / "benchmarks" / "w1.toml"), "--set", "training.epochs=100"),
    *("--model", "mlp", "--rounds", "100000", "--agents", str(AGENTS), "--run", "lab"),
]


class Net:
    """Machines that are linked with the first of them, and what runs on them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder, []
        self.machines = [
            subprocess.Popen(["unshare", "-n", "sleep", "300"]) for _ in ("hub", "first", "second")
        ]
        time.sleep(0.3)

    def link(self):
        """Lay a cable from the first machine to each of the others."""
        self.on(0, "ip link set lo up")
        for number in (1, 2):
            end = f"netns {self.machines[number].pid}"
            self.on(0, f"ip link add to{number} type veth peer name wan {end}")
            self.on(0, f"ip addr add 10.77.{number}.1/24 dev to{number}")
            self.on(0, f"ip link set to{number} up")
            self.on(number, f"ip addr add 10.77.{number}.2/24 dev wan")
            self.on(number, "ip link set wan up")
            self.on(number, "ip link set lo up")

    def on(self, machine, command):
        """Type a command on a machine and wait for its end."""
        inside = ["nsenter", "-t", str(self.machines[machine].pid), "-n", *command.split()]
        subprocess.run(inside, check=True)

    def start(self, machine, *command):
        """Start a program there; ``said`` returns what it has printed."""
        log = self.folder / f"{len(self.programs)}.log"
        with log.open("wb") as output:
            child = warm.Popen(
                [*map(str, command)],
                network=self.machines[machine].pid,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        child.said = lambda: log.read_text(encoding="utf-8", errors="replace")
        self.programs.append(child)
        return child

    def aggregator(self, machine, runs):
        """Start the aggregator there, with a folder of runs."""
        where = ["--broker", f"10.77.{machine}.1:1883", "--secrets", self.folder / "secrets"]
        flags = [*OF_AGGREGATOR, "--runs", runs]
        return self.start(machine, sys.executable, "-m", "fedjury.aggregator", *where, *flags)

    def close(self):
        """Switch everything off."""
        for child in (*self.programs, *self.machines):
            child.kill()
            child.wait()


@pytest.fixture
def net():
    """Link three machines; on the first are a broker with logins, and the agents."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Net(Path(folder))) as made:
        made.link()
        made.folder.chmod(0o755)  # root's broker becomes another user
        secrets = made.folder / "secrets"
        enrol.main(["--n", str(AGENTS), "--folder", str(secrets)])
        made.start(0, find_mosquitto(), "-c", secrets / "broker" / "mosquitto.conf")
        where = ["--broker", "127.0.0.1:1883", "--secrets", secrets, "--run", "lab"]
        made.start(0, sys.executable, ROOT / "agents" / "spawn.py", *where, *OF_AGENTS)
        yield made


def rounds(runs):
    with contextlib.suppress(OSError):
        return len(read_records(runs / "lab"))
    return 0


@pytest.mark.parametrize("dead", [True, False], ids=["machine dead", "machine cut off"])
def test_the_folder_goes_on_elsewhere_within_half_a_minute(net, tmp_path, dead):
    """The next round is done in 30 s; one that was only cut off ends when it is back."""
    here, there = tmp_path / "here", tmp_path / "there"
    first = net.aggregator(1, here)
    until(lambda: rounds(here) > 3 or first.poll() is not None, 60)
    net.on(1, "ip link set wan down")
    begun = time.monotonic()
    if dead:
        first.kill()
    shutil.copytree(here, there)
    before = rounds(there)
    second = net.aggregator(2, there)
    until(lambda: rounds(there) > before or second.poll() is not None, 60)
    spent = time.monotonic() - begun
    assert rounds(there) > before, second.said()
    assert spent < WITHIN
    print(f"resumed elsewhere after {spent:.1f} s")
    assert "did not say goodbye: waiting up to 10 s for a sign that it is at work" in second.said()
    if not dead:
        net.on(1, "ip link set wan up")
        assert first.wait(150) == 2, first.said()
        assert "error: another aggregator took over run 'lab' at" in first.said()
        assert "Traceback" not in first.said()
    seen = rounds(there)
    until(lambda: rounds(there) > seen or second.poll() == 0, 30)
