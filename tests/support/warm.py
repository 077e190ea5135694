"""Programs of ours, forked from a process that has already imported what they need.

A program that is started by its command imports PyTorch for two seconds; one that is forked begins
at once. It is a process of its own all the same: with arguments, environment, folder, open files,
signals and an end like any other's. ``Popen`` and ``run`` are those of ``subprocess``, which they
leave everything to that cannot be had this way (another interpreter, options for it, a
``preexec_fn``). What begins with nothing imported is started as people start it: README's commands,
the demo, every ``--help``, the golden federations.

    python tests/support/warm.py FD      the parent of these processes, asked through that socket

The fork is done twice, and whoever asked adopts the grandchild: so it is a child like any other,
to be waited for. That takes Linux; elsewhere all is left to ``subprocess``.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from fedjury.processes import adopt_orphans

ROOT = Path(__file__).resolve().parents[2]

LONGEST = 1 << 17
"""Bytes of a request: arguments and environment."""

CLONE_NEWNET = 0x40000000
"""Linux's number for networks among what namespaces are of."""

ASKING = threading.Lock()
"""Held by the thread that starts the parent or asks it: who adopts orphans is the whole process."""

LOADED = (
    "fedjury.agents.agent_runner",
    "fedjury.agents.batch_assembly",
    "fedjury.agents.spawn",
    "fedjury.aggregator.__main__",
    "fedjury.aggregator.serve",
    "fedjury.federation.run",
    "fedjury.gateway.app",
    "fedjury.gateway.client",
    "fedjury.learning.datasets",
    "fedjury.monitor.run_view",
    "fedjury.registry",
    "fedjury.reports.page",
    "matplotlib.pyplot",
    "rich.console",
    "sklearn.datasets",
    "torch._dynamo",  # half as long again as torch itself: with the first of its optimizers
    "uvicorn",
)
"""What most programs import, and what takes long."""


# ---------------------------------------------------------------- whoever asks


class Popen(subprocess.Popen):
    """A program of ours as a child process, forked where that can be done.

    ``network``: the process id of whose network it is to have, where that is not ours.
    """

    def __init__(self, *arguments, network=0, **more):
        self.network = network
        super().__init__(*arguments, **more)

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        gid, gids, uid, umask, session, group = rest[-6:]
        plain = (preexec_fn, tuple(pass_fds), gid, gids, uid, umask, group) == (
            *(None, (), None, None, None, -1, -1),
        )
        env = dict(os.environ if env is None else env)
        if not (plain and executable is None and can_be_forked(args, env)):
            if self.network:
                args = ["nsenter", "-t", str(self.network), "-n", *args]
            return super()._execute_child(
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest
            )
        pipes = rest[3:9]
        read, write, error = (
            end if end >= 0 else number for number, end in enumerate((pipes[0], pipes[3], pipes[5]))
        )
        wanted = {
            "arguments": [os.fspath(word) for word in args[1:]],
            "environment": env,
            "folder": os.fspath(cwd or Path.cwd()),
            "session": session,
            "network": self.network,
        }
        self.pid = parent().fork(wanted, [read, write, error])
        self._child_created = True
        self._close_pipe_fds(*pipes)
        return None


@functools.wraps(subprocess.run)
def run(command, *, check=False, timeout=None, capture_output=False, **more):
    """Run a program of ours to its end, as ``subprocess.run`` does."""
    if capture_output:
        more |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **more) as child:
        try:
            out, err = child.communicate(timeout=timeout)
        except BaseException:
            child.kill()
            raise
    done = subprocess.CompletedProcess(command, child.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def can_be_forked(args, env):
    """Return whether a command is one of this interpreter, and begins where the parent did."""
    if not sys.platform.startswith("linux") or isinstance(args, str | bytes):
        return False
    program, first, *_ = (*map(os.fspath, args), "", "")
    ours = program == sys.executable and (first in ("-m", "-c") or first.endswith(".py"))
    return ours and began(env) == began(os.environ)


def began(env):
    """Return what of an environment counts only while an interpreter begins."""
    return {
        name: value
        for name, value in env.items()
        if name.startswith(("PYTHON", "OMP_", "MKL_", "LD_", "ATEN_", "MPL", "LC_", "LANG"))
    }


class Parent:
    """The process that has imported everything, as who asks it for children sees it."""

    def __init__(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(number)], cwd=ROOT, pass_fds=[number]
            )
        self._socket = ours

    def fork(self, wanted, files):
        """Return the process id of a new child of ours."""
        with ASKING, adopting():
            socket.send_fds(self._socket, [json.dumps(wanted).encode()], files)
            answer = self._socket.recv(64)
        assert answer, "the parent of the forked programs has ended"
        return int(answer)

    def close(self):
        """Let it end."""
        self._socket.close()
        self._process.wait()


class adopting:  # noqa: N801 - it reads as a with-statement does
    """Be the one to whom orphans among our descendants fall, for as long as a with-block lasts."""

    def __enter__(self):
        adopt_orphans()

    def __exit__(self, *_):
        adopt_orphans(yes=False)


def parent():
    """Return the parent of this process's forked programs; it ends with this process."""
    with ASKING:
        return the_parent()


@functools.cache
def the_parent():
    """Start it, where nobody has."""
    made = Parent()
    atexit.register(made.close)
    return made


# ---------------------------------------------------------------- the parent


def serve(door):
    """Import what programs need, and fork whenever that is asked for, until nobody may any more."""
    sys.path[0] = str(ROOT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for who asks, and its programs
    for name in LOADED:
        __import__(name)
    import torch  # noqa: PLC0415 - nobody who only asks needs it

    from fedjury.reports.page import template  # noqa: PLC0415 - likewise

    torch.set_num_threads(1)
    template()
    gc.collect()
    gc.freeze()
    whose = os.getppid()
    while True:
        request, files, _, _ = socket.recv_fds(door, LONGEST, 3)
        if not request:
            return
        middle = os.fork()
        if not middle:
            if os.fork():
                os._exit(0)
            while os.getppid() != whose:  # until then its death would be nobody's to hear of
                time.sleep(0.0002)
            door.send(str(os.getpid()).encode())
            door.close()
            become(json.loads(request), files)
        os.waitpid(middle, 0)
        for file in files:
            os.close(file)


def become(wanted, files):
    """Be the program that is wanted, from its first line to its end."""
    code = 1
    try:
        if wanted["session"]:
            os.setsid()
        if wanted["network"]:
            enter(wanted["network"])
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        open_streams()
        os.chdir(wanted["folder"])
        os.environ.clear()
        os.environ.update(wanted["environment"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = ended(wanted["arguments"])
        threading._shutdown()
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def enter(process):
    """Have the network of another process, as nsenter does it."""
    with Path(f"/proc/{process}/ns/net").open("rb") as network:
        entered = ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET)
    assert entered == 0, os.strerror(ctypes.get_errno())


def open_streams():
    """Make the three streams new: they remember what kind of file they are."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        file = open(number, "rb" if name == "stdin" else "wb", closefd=False)  # noqa: SIM115
        new = io.TextIOWrapper(
            file,
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=name == "stderr" or file.isatty(),
            write_through=unbuffered and name != "stdin",
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def ended(arguments):
    """Run a program as an interpreter would; returns its exit code."""
    try:
        begin(*arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def begin(first, *more):
    """Do what stands behind ``python`` on a command line."""
    if first == "-m":
        name, *more = more
        sys.path[0], sys.argv = str(Path.cwd()), [name, *more]
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif first == "-c":
        code, *more = more
        sys.path[0], sys.argv = "", ["-c", *more]
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), main.__dict__)
    else:
        sys.path[0], sys.argv = str(Path(first).resolve().parent), [first, *more]
        sys.modules["__main__"] = main = ModuleType("__main__")
        main.__file__ = str(Path(first).resolve())
        exec(compile(Path(first).read_bytes(), first, "exec"), main.__dict__)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
