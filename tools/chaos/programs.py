"""Programs as real child processes that can be killed, stopped, continued and started again."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
READY = 60.0
"""Seconds that the fork server has to load everything."""
PATIENCE = 10.0
"""Seconds for what takes a moment."""

Trap = tuple[str, float]
"""What is to be different in a program, and its number: see ``tools.chaos.failpoints``."""


class ChaosError(Exception):
    """The harness itself does not work; one sentence."""


class Child:
    """A program that runs, or has ended."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid = pid
        self.output = output
        self.code: int | None = None
        """Its exit code, or minus the signal that ended it; None while it runs."""
        self._over = threading.Event()

    def ended(self, code: int) -> None:
        """Note that it has ended."""
        self.code = code
        self._over.set()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; returns its exit code, None if it still runs."""
        self._over.wait(seconds)
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
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(PATIENCE)

    def pause(self) -> None:
        """Stop it where it is, and all that it has started."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGCONT)

    def workers(self) -> list[int]:
        """Return the processes that it has started."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with suppress(OSError):
            return [int(pid) for pid in listed.read_text(encoding="utf-8").split()]
        return []

    def limit_files(self, size: int) -> None:
        """Let it write no file beyond this size (bytes); -1: any."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def said(self) -> str:
        """Return what it has printed."""
        with suppress(OSError):
            return self.output.read_text(encoding="utf-8", errors="replace")
        return ""

    def last_words(self) -> str:
        """Return the last line that it has printed."""
        return next((line for line in reversed(self.said().splitlines()) if line.strip()), "")


class Programs:
    """Starts programs; all that still run end with it."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._children: dict[int, Child] = {}
        self._born: list[Child] = []
        self._news = threading.Condition()
        self._asking = threading.Lock()
        self._ready = self._gone = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.chaos.fork_server", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )
        theirs.close()
        self._reader = threading.Thread(target=self._read, name="nursery", daemon=True)
        self._reader.start()
        self._until(lambda: self._ready, READY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(
        self, program: str, arguments: Sequence[str], output: Path, failpoints: Sequence[Trap] = ()
    ) -> Child:
        """Start one of our programs (``tools.chaos.fork_server.be``); what it says is appended."""
        wanted = {
            "program": program,
            "arguments": list(arguments),
            "output": str(output),
            "traps": list(failpoints),
        }
        with self._asking:  # one after the other, so that the next that is born is ours
            self._socket.sendall(json.dumps(wanted).encode() + b"\n")
            self._until(lambda: bool(self._born), PATIENCE)
            child = self._born.pop()
        child.output = output
        return child

    def close(self) -> None:
        """End everything."""
        self._socket.close() if self._gone else self._socket.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE)
        self._socket.close()

    def _until(self, there: Callable[[], bool], seconds: float) -> None:
        with self._news:
            if not self._news.wait_for(lambda: there() or self._gone, seconds) or self._gone:
                raise ChaosError("the process that forks the programs does not answer")

    def _read(self) -> None:
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                with self._news:
                    self._take(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._gone = True
            self._news.notify_all()

    def _take(self, content: dict[str, Any]) -> None:
        self._ready |= "ready" in content
        if "born" in content:
            child = self._children[content["born"]] = Child(content["born"], Path(os.devnull))
            self._born.append(child)
        if "dead" in content:
            self._children.pop(content["dead"]).ended(content["code"])
