"""The parent of all programs of a sweep: it has loaded everything once, and forks.

A program that is started again imports torch for two seconds; one that is forked begins at once.
Each is a process of its own all the same, with a session, files and a death of its own. This
process has no threads, so that nobody is forked while somebody holds a lock.

    python -m tools.chaos.fork_server FD      requests and answers are JSON lines on that socket
"""

from __future__ import annotations

import gc
import json
import os
import pwd
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedjury import processes

OPEN_FILES = 4096
NOBODY = "nobody"


def main() -> None:
    """Load what the programs need, say so, and fork until nobody asks any more."""
    socket_of = socket.socket(fileno=int(sys.argv[1]))
    import torch  # noqa: PLC0415 - takes seconds, as all of these

    from fedjury.agents import agent_runner, simulated, spawn  # noqa: F401, PLC0415
    from fedjury.aggregator import serve  # noqa: F401, PLC0415
    from fedjury.learning import datasets  # noqa: PLC0415
    from tools.chaos import failpoints  # noqa: F401, PLC0415

    torch.set_num_threads(1)
    datasets.load("digits", Path("data"), 500)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks for programs says when to stop
    ForkServer(socket_of).run()


class ForkServer:
    """Forks on request and reports who has ended."""

    def __init__(self, socket_of: socket.socket) -> None:
        self._socket = socket_of
        self._asked = b""
        self._children: set[int] = set()
        self._ended_in, self._ended_out = socket.socketpair()
        for end in (self._ended_in, self._ended_out):
            end.setblocking(False)

    def run(self) -> None:
        """Serve until the other end of the door is closed; then end all children."""
        signal.set_wakeup_fd(self._ended_in.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        watched = selectors.DefaultSelector()
        for file in (self._socket, self._ended_out):
            watched.register(file, selectors.EVENT_READ)
        self._say({"ready": True})
        with suppress(OSError):  # who asked for children is gone
            while True:
                for key, _ in watched.select():
                    if key.fileobj is self._ended_out:
                        self._ended_out.recv(4096)
                        self._bury()
                    elif not self._on_message():
                        return self._end()
        return self._end()

    def _on_message(self) -> bool:
        """Read what was asked for, and do it; False if nothing will be asked any more."""
        read = self._socket.recv(65536)
        *lines, self._asked = (self._asked + read).split(b"\n")
        for line in lines:
            self._say({"born": self._fork(json.loads(line))})
        return bool(read)

    def _fork(self, wanted: dict[str, Any]) -> int:
        pid = os.fork()
        if pid:
            self._children.add(pid)
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for file in (self._socket, self._ended_in, self._ended_out):
                file.close()
            code = be(wanted)
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _bury(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._children.discard(pid)
            self._say({"dead": pid, "code": os.waitstatus_to_exitcode(status)})

    def _end(self) -> None:
        signal.set_wakeup_fd(-1)
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _say(self, what: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(what).encode() + b"\n")


def be(wanted: dict[str, Any]) -> int:
    """Be the program that is wanted, in a session of its own; returns its exit code.

    ``wanted``: program (aggregator, agents, flood, or the path of one), arguments, output (a
    file), and traps: what is to be different in it (see ``tools.chaos.failpoints``).
    """
    os.setsid()
    output = os.open(wanted["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(file, number)
    if "/" in wanted["program"]:
        return _execute(wanted["program"], wanted["arguments"])
    processes.die_with_parent(signal.SIGKILL)
    processes.name_process(wanted["program"])
    from tools.chaos import failpoints  # noqa: PLC0415

    failpoints.set_failpoints(wanted["traps"])
    main, expected = _program(wanted["program"])
    from fedjury.config import flags  # noqa: PLC0415

    try:
        flags.run_main(main, expected, wanted["arguments"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1


def _program(name: str) -> tuple[Callable[..., int], tuple[type[Exception], ...]]:
    from fedjury.agents import __main__ as spawn  # noqa: PLC0415
    from fedjury.aggregator import __main__ as aggregator  # noqa: PLC0415
    from tools.chaos import flood  # noqa: PLC0415

    module: Any = {"aggregator": aggregator, "agents": spawn, "flood": flood}[name]
    return module.main, module.EXPECTED


def _execute(program: str, arguments: list[str]) -> int:
    """Become another program, such as the broker; root's does not stay root."""
    processes.open_many_files(OPEN_FILES)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam(NOBODY)
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    processes.die_with_parent(signal.SIGKILL)  # after that: a change of user makes Linux forget it
    os.execv(program, [program, *arguments])  # noqa: S606 - a shell would be another process


if __name__ == "__main__":
    main()
