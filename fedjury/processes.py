"""Processes: how they start, die with their parent, may open many files, and are ended.

Everything that starts one goes by this module: the private broker, the two programs of ``run.py``,
the processes of a fleet, the gateway's aggregator, and the workers of an experiment.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

ENDING = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a process to end."""

PR_SET_PDEATHSIG = 1
"""Option of prctl(2): the signal that a process gets when its parent dies."""

PR_SET_CHILD_SUBREAPER = 36
"""Option of prctl(2): orphans among the descendants of a process become its children."""

OPEN_FILES = 65_536
"""No process of ours needs more open files: each connection is one."""


class User(NamedTuple):
    """Whom a program runs as: the numbers of a user, who need have no name, and its group."""

    number: int
    group: int


def fork(
    target: Callable[..., None], *arguments: Any, daemon: bool = False, fresh: bool = False
) -> BaseProcess:
    """Start a forked process, which has what this one has loaded.

    ``fresh``: one that has nothing of it, for what does not survive a fork, such as CUDA; then
    ``target`` and arguments are pickled. ENDING signals are held back until the child unblocks
    them: one that came between the fork and its first line would end it with a traceback.
    """
    kind = SpawnProcess if fresh else ForkProcess
    process = kind(target=target, args=arguments, daemon=daemon)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def die_with_parent(how: signal.Signals = signal.SIGTERM) -> None:
    """Let Linux send this process a signal when its parent dies; elsewhere do nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)


def dying_with_parent() -> list[str]:
    """Return the prefix of a command that does the same to a program, if there is one here."""
    setpriv = shutil.which("setpriv")
    # BusyBox has a setpriv that cannot do this.
    if setpriv is None or Path(setpriv).resolve().name != "setpriv":
        return []
    return [setpriv, "--pdeathsig", "TERM"]


def adopt_orphans(*, yes: bool = True) -> None:
    """Let Linux give this process whatever its descendants leave behind; elsewhere do nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(yes))


def name_process(name: str) -> None:
    """Change what top and ps show of this process (on Linux; 15 characters)."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15], encoding="utf-8")


def start(
    command: Sequence[str], log: Path, where: Path, user: User | None, keep: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, out of reach of the terminal's Ctrl-C.

    It runs in the folder ``where``, as ``user`` if this is root, and gets the handles ``keep``.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    user = user if os.geteuid() == 0 else None
    with log.open("ab") as output, _many_open_files():
        return subprocess.Popen(
            [*dying_with_parent(), *command],
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.number if user else None,
            group=user.group if user else None,
            extra_groups=[] if user else None,
            pass_fds=keep,
        )


def stop(child: subprocess.Popen[bytes], seconds: float = 2.0) -> None:
    """End a program: politely first, and after some seconds by force."""
    child.terminate()
    child.send_signal(signal.SIGCONT)  # one that was stopped would not hear it
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def end(processes: Iterable[BaseProcess], seconds: float, *, ask: bool = True) -> None:
    """End processes: all have together so many seconds to do so by themselves.

    ``ask``: they have not been asked yet.
    """
    running = [process for process in processes if process.exitcode is None]
    if ask:
        for process in running:
            process.terminate()
    deadline = time.monotonic() + seconds
    for process in running:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def death(code: int) -> str:
    """Return how a process ended that could not say so itself; ``code``: as Python has it."""
    if code >= 0:
        return f"exit code {code}"
    how = signal.Signals(-code).name
    if -code != signal.SIGKILL:
        return how
    return f"{how}: so the system ends processes when memory has run out; 'dmesg' says if it did"


def open_many_files(most: int = OPEN_FILES) -> tuple[int, int]:
    """Let this process open as many files as it may, up to ``most``; returns the limits before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft, hard


def most_open_files() -> float:
    """Return how many files this process may open; infinity if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def free_port(host: str = "127.0.0.1", wanted: int = 0) -> int:
    """Return a free TCP port of this machine: any, or the wanted one.

    Raises
    ------
    OSError
        If the wanted one is taken, or not ours to use.
    """
    with socket.socket() as probe:
        # As servers do: connections of an earlier one that are still fading do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, wanted))
        return int(probe.getsockname()[1])


@contextmanager
def _many_open_files() -> Iterator[None]:
    """Let children that are started meanwhile open as many files as this process may allow."""
    before = open_many_files()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
