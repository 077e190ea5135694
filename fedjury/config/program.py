"""How every program is called, speaks and ends, one place for all of them.

What people did wrong, or what the machine could not give, is one sentence and exit code 2; Ctrl-C
is 130; where nobody reads the output any more, as after ``| head``, it ends quietly.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import select
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import NoReturn, TextIO

FAILED, INTERRUPTED, UNREAD = 2, 130, 141
"""Exit codes. The last is what a shell makes of SIGPIPE: nobody reads what we print."""

MEMORY = "can't allocate memory", "out of memory", "not enough memory", "cannot allocate memory"
"""Words in which PyTorch says, as a RuntimeError, that there is no memory left."""

MODULES = {"sklearn": "scikit-learn"}
"""Modules that are called otherwise than the package that has them."""

OWN = __name__.partition(".")[0]


@dataclass(frozen=True)
class Output:
    """Where the results of a program go, whatever else it says."""

    stream: TextIO
    json: bool = False

    def result(self, show: Callable[[], object], data: object) -> None:
        """Let ``show`` print a result for people, or with ``--json`` print ``data`` in a line."""
        with redirect_stdout(self.stream):
            if self.json:
                print(json.dumps(data, default=str), flush=True)
            else:
                show()


@dataclass(frozen=True)
class Program:
    """A program of ours: its flags, what it does, and the flags that all of them have.

    ``name``: as people type it, unless whoever starts it says otherwise. ``parser``: makes its
    parser, given that name. ``work``: does what the flags say, and returns the exit code.
    ``results``: there are any for ``--json``.
    """

    name: str
    parser: Callable[[str], ArgumentParser]
    work: Callable[[Namespace, Output], int]
    results: bool = True

    def flags(self, prog: str = "") -> ArgumentParser:
        """Return the parser of all its flags."""
        parser = self.parser(prog or self.name)
        group = parser.add_argument_group("output")
        group.add_argument("--quiet", action="store_true", help="only errors and results")
        if self.results:
            group.add_argument(
                "--json", action="store_true", help="only errors, and results as a line of JSON"
            )
        return parser

    def __call__(self, arguments: Sequence[str], prog: str = "") -> int:
        """Read the command line and do what it says; returns the exit code."""
        chosen = self.flags(prog).parse_args(arguments)
        output = Output(sys.stdout, self.results and chosen.json)
        with ExitStack() as stack:
            if chosen.quiet or output.json:
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
            return self.work(chosen, output)


def run_main(
    main: Callable[[Sequence[str]], int | None],
    expected: tuple[type[Exception], ...],
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Run a program to its end.

    ``expected``: the errors that are one sentence to people. Any other keeps its traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    print_anything()
    code: str | int | None
    try:
        code = main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except SystemExit as end:  # of the parser of the flags, after --help or an error
        code = end.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as why:
        code = _failed(why, expected)
    hush_unread()
    gc.freeze()  # what torch has loaded need not be searched for garbage at exit: half a second
    sys.exit(code)


def _failed(why: Exception, expected: tuple[type[Exception], ...]) -> int:
    """Say why a program failed; returns its exit code, or raises what is an error of ours."""
    if isinstance(why, BrokenPipeError) and any(map(unread, (sys.stdout, sys.stderr))):
        return UNREAD
    text = out_of_memory(why) or missing(why) or (str(why) if isinstance(why, expected) else "")
    if not text:
        raise why
    with suppress(BrokenPipeError):  # nobody reads our errors either
        print(f"error: {text}", file=sys.stderr, flush=True)
    return FAILED


def out_of_memory(why: BaseException | None) -> str:
    """Return a sentence if an error, or what led to it, says that memory has run out; else ""."""
    while why is not None:
        refused = isinstance(why, OSError) and why.errno == errno.ENOMEM
        words = str(why).lower() if isinstance(why, RuntimeError) else ""
        if refused or isinstance(why, MemoryError) or any(text in words for text in MEMORY):
            first = (str(why).splitlines() or [""])[0].strip()[:120]
            return (
                f"out of memory{f' ({first})' if first else ''}: take fewer agents, a smaller "
                "model or data set, or fewer processes (--processes), or give it more memory"
            )
        why = why.__cause__
    return ""


def missing(why: BaseException) -> str:
    """Return a sentence if an error is that a package is not installed; else ""."""
    if not isinstance(why, ModuleNotFoundError) or not why.name:
        return ""
    module = why.name.partition(".")[0]
    package = MODULES.get(module, module).replace("_", "-").lower()
    extra = extras().get(package)
    if module == OWN or extra is None:
        return ""
    wanted = f"{OWN}[{extra}]" if extra else OWN
    return f"this needs {package}, which is not installed: pip install '{wanted}'"


def extras() -> Mapping[str, str]:
    """Return the packages that ours needs -> the smallest extra that brings each; "": it comes."""
    lines: Sequence[str] = ()
    with suppress(PackageNotFoundError):
        lines = requires(OWN) or ()
    found = [
        (re.split(r"[^\w.-]", line, maxsplit=1)[0].replace("_", "-").lower(), extra)
        for line in lines
        for extra in re.findall(r"extra == ['\"](\w+)", line) or [""]
    ]
    size = Counter(extra for _, extra in found)
    return dict(sorted(found, key=lambda pair: (-size[pair[1]], pair[0] == pair[1])))


def print_anything() -> None:
    """Let output be any text: where the terminal's encoding lacks a character, its code is shown.

    So it is in a locale of ASCII, and of file names that are not UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a test's own stream, or one that is closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def unread(stream: TextIO) -> bool:
    """Return whether nobody reads a stream of ours any more: it is a pipe without another end."""
    with suppress(AttributeError, ValueError, OSError):
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


def hush_unread() -> None:
    """Write out what is buffered; what nobody reads is thrown away, or it would fail at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _interrupt(*_: object) -> None:
    """Let SIGTERM end a program as Ctrl-C does, and a second one not disturb its end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
