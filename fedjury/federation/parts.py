"""Aggregator and agents of one federation as two processes, which start and end together."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, NamedTuple

from fedjury import processes
from fedjury.aggregator.durable_files import StoreError
from fedjury.broker.local import BrokerError
from fedjury.config.program import run_main
from fedjury.config.settings import SettingsError
from fedjury.processes import death
from fedjury.protocol.transport.connection import TransportError

AGENTS_LOG = "agents.log"
"""In the folder of a run whose agents are ours: what they say."""

EXPECTED = (SettingsError, TransportError, BrokerError, StoreError)
"""Errors of our programs that are one sentence to people."""

LEAVING = 15.0
"""Seconds that agents have to leave by themselves once the run is done."""


class Part(NamedTuple):
    """One of our programs, to be run in a process of its own."""

    name: str
    """What ``top`` shows of it."""
    main: Callable[[], int]


def start(running: list[BaseProcess], part: Part, output: IO[str] | None = None) -> None:
    """Start one of our programs in a process of its own, with what this one has loaded."""
    sys.stdout.flush()
    gc.freeze()  # what the collector does not touch stays shared
    running.append(processes.fork(become, part, output, os.getpid()))


def become(part: Part, output: IO[str] | None, parent: int) -> None:
    """Be a program, as if it had been started by itself, but end with its parent (on Linux).

    It is told to end by its parent alone: Ctrl-C reaches both, and two interrupts are one too many.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(130))  # until the program minds it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, processes.ENDING)
    processes.die_with_parent()
    if os.getppid() != parent:
        return  # it was killed before we could say so
    processes.name_process(part.name)
    if output is not None:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    run_main(lambda _: part.main(), EXPECTED, ())


def watch(aggregator: BaseProcess, agents: BaseProcess, log: Path) -> int:
    """Wait for the aggregator; end early if the agents die."""
    while aggregator.exitcode is None:
        if agents.exitcode:
            raise TransportError(f"the agents stopped:\n{tail(log)}")
        aggregator.join(0.1)
    if aggregator.exitcode == 0:
        agents.join(LEAVING)
    if aggregator.exitcode < 0:  # it could not say so itself
        raise TransportError(f"the aggregator died ({death(aggregator.exitcode)})")
    return aggregator.exitcode


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-5:])
