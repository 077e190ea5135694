"""The end of a cluster, from outside: exactly the processes that it noted down are ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fedjury.cluster import ray_nodes
from fedjury.cluster.folder import ClusterError, Folder, State
from fedjury.cluster.known import Known, alive, end

POLITE = 60.0
"""Seconds that a cluster has to end by itself: agents say goodbye."""


def found(folder: Folder) -> State:
    """Return the state of a cluster.

    Raises
    ------
    ClusterError
        If there is none.
    """
    state = folder.read()
    if state is None:
        raise ClusterError(f"no cluster is running from {folder.path} (--folder names another)")
    return state


def down(folder: Folder, say: Callable[[str], None]) -> list[Known]:
    """End a cluster; returns the processes that were there."""
    state = found(folder)
    there = [process for process in state.processes if alive(process)]
    if alive(state.up):
        say(f"asking process {state.up.pid} to end the cluster")
        with suppress(ProcessLookupError):
            os.kill(state.up.pid, signal.SIGTERM)
        deadline = time.monotonic() + POLITE
        while alive(state.up) and time.monotonic() < deadline:
            time.sleep(0.1)
    if left := end(there, 5.0):
        say(f"{len(left)} processes had to be ended one by one")
    if state.own:
        ray_nodes.keep_logs(Path(state.own), folder.logs)
    folder.forget()
    return there
