"""Programs as real child processes that can be killed, stopped, continued and started again.

One that is started afresh imports torch for two seconds. These are forked from a process that has
loaded everything once (``tools.chaos.loaded``), and begin at once. Each is a process of its own all
the same, with a session, files and a death of its own.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import pwd
import resource
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

from fedjury import processes
from fedjury.config.program import run_main

PATIENCE = 10.0
"""Seconds for what takes a moment."""
OPEN_FILES = 4096
NOBODY = "nobody"
FORKING = mp.get_context("forkserver")

Trap = tuple[str, float]
"""What is to be different in a program, and its number: see ``tools.chaos.failpoints``."""


class ChaosError(Exception):
    """The harness itself does not work; one sentence."""


def prepare() -> None:
    """Start the process that forks all programs; it loads what they need, and ends with us."""
    FORKING.set_forkserver_preload(["tools.chaos.loaded"])
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
        forkserver.ensure_running()


class Child:
    """A program that runs, or has ended; what it says is appended to a file."""

    def __init__(self, output: Path, target: Callable[..., None], *arguments: Any) -> None:
        """Fork it; ``target`` is what it is: :func:`be_ours` or :func:`be_another`."""
        self.output = output
        self._process = FORKING.Process(target=target, args=(output, *arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; returns its exit code, None if it still runs."""
        self._process.join(seconds)
        return self.code

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> bool:
        """``kill -9``, and wait; says whether it was that which ended it."""
        self.signal(signal.SIGKILL)
        return self.wait(PATIENCE) == -signal.SIGKILL

    def kill_all(self) -> None:
        """``kill -9`` for it and all that it has started."""
        with suppress(ProcessLookupError):  # it has ended, or has no session of its own yet
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()

    def workers(self) -> list[int]:
        """Return the processes that it has started."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with suppress(OSError):
            return [int(pid) for pid in listed.read_text(encoding="utf-8").split()]
        return []

    def limit_files(self, size: int) -> None:
        """Let it write no file beyond this size (bytes)."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def said(self) -> str:
        """Return what it has printed."""
        with suppress(OSError):
            return self.output.read_text(encoding="utf-8", errors="replace")
        return ""

    def last_words(self) -> str:
        """Return the last line that it has printed."""
        return next((line for line in reversed(self.said().splitlines()) if line.strip()), "")


def be_ours(output: Path, name: str, arguments: Sequence[str], failpoints: Sequence[Trap]) -> None:
    """Be one of our programs, with what is to be different in it."""
    from tools.chaos import loaded  # noqa: PLC0415 - only where it is loaded already

    _begin(output)
    processes.die_with_parent(signal.SIGKILL)
    processes.name_process(name)
    loaded.failpoints.set_failpoints(failpoints)
    program = loaded.PROGRAMS[name]
    run_main(program.main, program.EXPECTED, arguments)


def be_another(output: Path, program: str, *arguments: str) -> None:
    """Become a program that is not ours, such as the broker; root's does not stay root."""
    _begin(output)
    processes.open_many_files(OPEN_FILES)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam(NOBODY)
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    processes.die_with_parent(signal.SIGKILL)  # after that: a change of user makes Linux forget it
    os.execv(program, [program, *arguments])  # noqa: S606 - a shell would be another process


def _begin(output: Path) -> None:
    """Begin a session, and print into a file."""
    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
