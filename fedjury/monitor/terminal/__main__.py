"""A run in the terminal, from its topics alone: python -m fedjury.monitor.terminal."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live

from fedjury.config import flags
from fedjury.config.settings import SettingsError
from fedjury.monitor import logins
from fedjury.monitor.listener import Listener
from fedjury.monitor.logins import SETTLE, Several
from fedjury.monitor.run_view import Run, Snapshot
from fedjury.monitor.terminal import dashboard, formatting, text_log
from fedjury.monitor.terminal.dashboard import Frame
from fedjury.protocol.transport.connection import TransportError

EXAMPLES = """  fedjury watch                          the run on 127.0.0.1:1883
  fedjury watch --broker 127.0.0.1:1883 --run lab
  fedjury watch --broker 127.0.0.1:8883 --run lab --secrets secrets
  fedjury watch --secrets secrets --as ann    ann's own log-in (fedjury.broker.enrol --watch ann)
  fedjury watch --run lab --plain >> lab.log"""

EXPECTED = (SettingsError, TransportError, Several)
"""Errors that are told to people in words."""

LOOK = 0.25
"""Seconds between two looks: however much comes, the terminal gets no more."""

CLOCK = 1.0
"""Seconds after which what counts seconds is drawn again."""


def main(arguments: Sequence[str]) -> int:
    """Read the flags and watch until the run is over."""
    chosen = _parser().parse_args(arguments)
    settings = flags.settings_from(chosen)
    run = settings.run.name if flags.names_a_run(chosen, settings) else ""
    address, principal = logins.login(settings.broker, chosen.person or "")
    console = Console(highlight=False)
    drawn = console.is_terminal and not console.is_dumb_terminal and not chosen.plain
    listener = Listener(address, principal, run).open()
    try:
        with Drawn(str(address), console) if drawn else Plain(str(address)) as show:
            watch(listener, show, run)
    finally:
        listener.close()
    return 0


def _parser() -> ArgumentParser:
    parser = flags.parser(
        "Watch a run in the terminal, from what it says on its topics; as plain lines where the "
        "output is no terminal. Ends when the run is over.",
        EXAMPLES,
        flags.LISTENER_FLAGS,
        prog="fedjury watch",
    )
    flags.add_broker(parser, "where the broker is (default: 127.0.0.1:1883)")
    logins.add_as(parser, "watch")
    parser.add_argument(
        "--run",
        dest="run.name",
        default=None,
        metavar="NAME",
        help="the run to watch (default: the one that is there)",
    )
    parser.add_argument("--plain", action="store_true", help="a line for each round and event")
    return parser


class Show(Protocol):
    """How people are told."""

    def look(self, snapshot: Snapshot, run: Run | None, hint: str) -> None:
        """Show what there is to see; ``hint``: why there is no run."""

    def end(self, run: Run) -> None:
        """Show how a run ended."""


def watch(listener: Listener, show: Show, name: str) -> None:
    """Watch a run until it is over; without a name, the one that is there.

    Raises
    ------
    TransportError
        If the connection breaks permanently.
    Several
        If there are several runs, and none stands out.
    """
    hint = (
        f"no run {name!r} is on this broker yet; waiting for it"
        if name
        else ("no run is on this broker yet; waiting for one")
    )
    while True:
        snapshot = listener.snapshot
        name = name or logins.choose(snapshot)
        run = snapshot.state.runs.get(name)
        show.look(snapshot, run, hint)
        silent = snapshot.now - max(run.heard, snapshot.since) if run is not None else 0.0
        if run is not None and run.over and silent > SETTLE:
            show.end(run)
            return
        time.sleep(LOOK)


class Plain:
    """Lines, for logs and pipes."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._told = text_log.TextLog()
        self._hinted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def look(self, snapshot: Snapshot, run: Run | None, hint: str) -> None:
        """Write down what is new, once what was retained has come: rounds stay in order."""
        if snapshot.connected and snapshot.now - snapshot.since < SETTLE:
            return
        self._told, message = text_log.news(self._told, snapshot, run, self._where)
        if run is None and snapshot.connected and not self._hinted:
            message.append(hint)
            self._hinted = True
        self._write(message)

    def end(self, run: Run) -> None:
        """Write the last line."""
        self._write([formatting.closing(run)])

    def _write(self, message: Sequence[str]) -> None:
        for line in message:
            print(line, flush=True)


class Drawn:
    """A picture, for terminals; it leaves the last one behind."""

    def __init__(self, where: str, console: Console) -> None:
        self._where, self._console = where, console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._shown: tuple[object, ...] = ()
        self._run: Run | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._live.stop()
        if kind is KeyboardInterrupt and self._run is not None:
            self._console.print(
                f"run {self._run.name}: {formatting.where(self._run)}", markup=False
            )

    def look(self, snapshot: Snapshot, run: Run | None, hint: str) -> None:
        """Draw, if there is anything new."""
        self._run = run
        frame = self._frame()
        news = (run, snapshot.connected, snapshot.notices, frame, int(snapshot.now / CLOCK))
        if news == self._shown:
            return
        self._shown = news
        self._live.update(self._drawn(snapshot, run, hint, frame), refresh=True)

    def end(self, run: Run) -> None:
        """Leave the last picture behind."""
        self._live.stop()
        over = Snapshot(connected=True, now=run.heard)
        frame = self._frame()
        shorter = frame._replace(height=frame.height - 1)  # a line for the prompt
        self._console.print(self._drawn(over, run, "", shorter))

    def _drawn(self, snapshot: Snapshot, run: Run | None, hint: str, frame: Frame) -> Group:
        if run is None:
            return dashboard.waiting(snapshot, hint, self._where, frame)
        return dashboard.dashboard(snapshot, run, self._where, frame)

    def _frame(self) -> Frame:
        size = self._console.size
        return Frame(size.width, size.height, self._console.options.ascii_only)


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
