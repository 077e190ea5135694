"""Watching a run until it is over: what to look at, and the two ways to show it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live

from fedjury.monitor import logins
from fedjury.monitor.listener import Listener
from fedjury.monitor.logins import SETTLE
from fedjury.monitor.runs import Run, Snapshot
from fedjury.monitor.terminal import dashboard, formatting, text_log
from fedjury.monitor.terminal.dashboard import Frame

LOOK = 0.25
"""Seconds between two looks: however much comes, the terminal gets no more."""

CLOCK = 1.0
"""Seconds after which what counts seconds is drawn again."""


def show_for(where: str, *, plain: bool) -> Plain | Drawn:
    """Return what draws in a terminal, and else writes lines; ``where``: the broker."""
    console = Console(highlight=False)
    drawn = console.is_terminal and not console.is_dumb_terminal and not plain
    return Drawn(where, console) if drawn else Plain(where)


def watch(listener: Listener, show: Plain | Drawn, name: str) -> Run:
    """Watch a run until it is over, and return it; without a name, the one that is there.

    Raises
    ------
    TransportError
        If the connection breaks permanently.
    Several
        If there are several runs, and none stands out.
    """
    named, which = (f" {name!r}", "it") if name else ("", "one")
    hint = f"no run{named} on this broker yet; waiting for {which}"
    while True:
        snapshot = listener.snapshot
        name = name or logins.choose(snapshot)
        run = snapshot.state.runs.get(name)
        show.look(snapshot, run, hint)
        silent = snapshot.now - max(run.heard, snapshot.since) if run is not None else 0.0
        if run is not None and run.over and silent > SETTLE:
            return run
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
        self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None
    ) -> None:
        del why, at
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
