"""Programs of a cluster that need no Ray: fleets as children, and what a cell's worker runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from support.workers import CellRows

from fedjury.cluster.cell import CellWorker
from fedjury.cluster.engine import NotHeld
from fedjury.cluster.fleet import Fleet, FleetPlan

WAITING = ["--n", "4", "--broker", "127.0.0.1:1"]
"""Nobody is there: agents wait."""


@pytest.fixture
def fleet(tmp_path):
    """Start a fleet; it is stopped at the end."""
    made = []

    def start(*arguments):
        made.append(Fleet(FleetPlan(arguments, str(tmp_path), "[agents]\nn = 0\n")))
        return made[-1]

    yield start
    for each in made:
        each.stop()


def until(fleet, what):
    """Look at a fleet until something is true; returns the state, and all that it said."""
    log = b""
    for _ in range(600):
        state = fleet.look()
        log += state.log
        if what(state, log):
            return state, log.decode()
        time.sleep(0.05)
    raise AssertionError(log)


def test_a_fleet_that_fails_is_started_again(fleet):
    """Killed, it is another process a look later, and stopping leaves none."""
    waiting = fleet(*WAITING)
    first, _ = until(waiting, lambda _, log: b"waiting" in log or b"broker" in log)
    os.kill(first.pid, signal.SIGKILL)
    second, _ = until(waiting, lambda state, _: state.restarts == 1)
    assert second.pid != first.pid
    assert second.ended is None
    waiting.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(second.pid, 0)


def test_a_mistake_is_told_and_not_made_again(fleet):
    """What people must mend ends a fleet, and its words are heard."""
    state, log = until(fleet("--shard", "3/2"), lambda state, _: state.ended is not None)
    assert (state.ended, state.restarts) == (2, 0)
    assert "error: agents.shard" in log


def test_a_fleet_is_given_the_settings(fleet):
    """The text that stands for {config} has no agent in it, and that is refused."""
    state, log = until(fleet("--config", "{config}"), lambda state, _: state.ended is not None)
    assert state.ended == 2
    assert "agents.n = 0" in log


def test_a_fleet_ends_with_the_process_that_watches_it(tmp_path):
    """Nobody stops it: its parent is killed, and no orphan stays behind."""
    code = (
        "import time; from fedjury.cluster.fleet import Fleet, FleetPlan\n"
        f"f = Fleet(FleetPlan({WAITING}, {str(tmp_path)!r}, ''))\n"
        "while not f.look().log: time.sleep(0.05)\n"
        "print(f.look().pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(child)


# The worker of a cell


class Ingest:
    """Runs until it is stopped, with the rows of one key."""

    def __init__(self, rows):
        self.held, self.ended = {1: rows}, threading.Event()

    def run(self):
        """Wait for the end."""
        self.ended.wait()

    def stop(self):
        """Let it end."""
        self.ended.set()

    def rows(self, key):
        """Return the rows."""
        return self.held[key]


def test_a_cells_worker_runs_its_ingest():
    """It gives the rows that the ingest has collected; of another key it has none."""
    worker = CellWorker(Ingest, (CellRows(np.ones((4, 2), dtype=np.float32), 1),))
    np.testing.assert_array_equal(
        worker.call("give", 1, 0, np.arange(3), (0, 3), False), np.ones((3, 2))
    )
    with pytest.raises(NotHeld, match="no rows of 2"):
        worker.call("give", 2, 0, np.arange(3), (0, 3), False)
    worker.stop()


def test_a_cells_worker_ends_with_its_ingest():
    """A worker that collects nothing must not look alive: whoever watches it starts another."""
    code = (
        "import time; from fedjury.cluster.cell import CellWorker\n"
        "class Ingest:\n  rows = None\n  def run(self): raise RuntimeError('no broker')\n"
        "CellWorker(Ingest, ()); time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: no broker" in done.stderr
