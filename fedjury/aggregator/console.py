"""What people see of a run: a live line in a terminal, and one line a round anywhere."""

from __future__ import annotations

import shlex
import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fedjury.config.sections import Broker
from fedjury.formatting import measures
from fedjury.protocol.record import MOST, TOO_FEW, VOTED_DOWN, RoundRecord, refusals
from fedjury.reports.jury import blind, still_share, untrusted
from fedjury.round.state import State, Voting, VotingOnGroups

REDRAW = 0.1
SPEAK = 5.0
"""Seconds between two redraws in a terminal, and between two "waiting" lines elsewhere."""
SHOWN = 3
"""Names of missing agents in a line."""


class RunConsole:
    """Shows a run; a context manager that owns the last line of the terminal."""

    def __init__(self, rounds: int, classes: int, judge: str = "") -> None:
        self.rounds, self.classes, self.judge = rounds, classes, judge
        self._warned = self._doubted = False
        self._zero_changes: list[float] = []
        self.console = Console(highlight=False, soft_wrap=True)
        self._terminal = self.console.is_terminal  # rich looks at the environment every time
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._due = 0.0
        self._shown = ""

    def __enter__(self) -> Self:
        if self._terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, markup=False)

    def waiting(self, online: int, wanted: int) -> None:
        """Show how many agents have joined; ``wanted``: of how many, 0 if nobody said."""
        of = f" of {wanted:,}" if wanted else ""
        self._show(f"waiting for agents: {online:,}{of} are online")

    def progress(self, state: State) -> None:
        """Show where the round stands."""
        if not self._terminal or time.monotonic() < self._due:
            return
        elapsed = max(time.monotonic() - state.opened.now, 1e-9)
        phase = state.phase
        voting = phase if isinstance(phase, Voting | VotingOnGroups) else None
        doing, updates = "training", len(state.updates)
        if isinstance(phase, Voting):
            doing, updates = "voting", len(phase.aggregated.contributors)
        if isinstance(phase, VotingOnGroups):
            doing, updates = f"voting on {phase.count} groups", len(phase.gathered.contributors)
        parts = [
            f"round {state.round}/{self.rounds}",
            doing,
            f"updates {updates:,}/{len(state.selected):,}",
            f"{updates / elapsed:,.0f} updates/s",
        ]
        if voting:
            parts.append(f"votes {len(voting.votes)}/{len(state.validators)}")
        quality = state.model.quality
        measured = measures(quality.accuracy, quality.metrics, MOST)
        parts += [f"{name} {value}" for name, value in measured]
        self._show("  ".join(parts))

    def finished(self, record: RoundRecord) -> None:
        """Show the record of a round that is over; once, what is wrong with its validators."""
        self.console.print(round_line(record, self.rounds))
        votes = record.votes
        self._doubt(still_share(votes))
        if self._warned or not votes.median_samples:
            return
        self._warned = True
        if text := blind(votes.median_samples, self.classes, votes.asked, votes.rejects_at):
            self.console.print(f"note: {text}", style="yellow", markup=False)

    def _doubt(self, zero_changes: float | None) -> None:
        """Say once that the judge is not to be trusted, if the votes show it."""
        if zero_changes is None or self._doubted:
            return
        self._zero_changes.append(zero_changes)
        if text := untrusted(self.judge, self._zero_changes):
            self._doubted = True
            self.console.print(f"note: {text}", style="yellow", markup=False)

    def _show(self, text: str) -> None:
        now = time.monotonic()
        if self._terminal:
            self._live.update(Text(text, style="dim"), refresh=True)
            self._due = now + REDRAW
        elif now >= self._due and text != self._shown:
            self.say(text)
            self._due, self._shown = now + SPEAK, text


def listening(broker: Broker, run: str, on: str = "candidate") -> str:
    """Return what people on this machine type to hear a run; ``on``: what is voted on there."""
    log_in = f"XDG_CONFIG_HOME={shlex.quote(f'{broker.secrets}/people')} " if broker.secrets else ""
    heard = ["log/#", "vote/+" * (on != "groups"), "group-vote/+" * (on != "candidate")]
    topics = " ".join(f"-t '{broker.root}/{run}/{topic}'" for topic in heard if topic)
    return f"to watch: {log_in}mosquitto_sub -p {broker.port} -v {topics}"


def round_line(record: RoundRecord, rounds: int) -> Text:
    """Put the record of a round into one line."""
    line = Text(f"round {record.round:>3}/{rounds}  ")
    if record.accepted is None:
        line.append("pending ", style="dim")
    elif record.accepted:
        line.append("accepted", style="green")
    else:
        line.append("REJECTED", style="bold red")
    for name, value in measures(record.model.accuracy, record.model.metrics, MOST):
        line.append(f"  {name} {value:>6}")
    if record.model.backdoor is not None:
        line.append(f"  backdoor {record.model.backdoor:.1%}")
    votes, traffic = record.votes, record.traffic
    if votes.asked:
        line.append(f"  {votes}")
        if votes.pooled is not None or not record.why.startswith(TOO_FEW):
            line.append(f" ({votes.decided_by})")
    if record.groups is not None and record.groups.left_out:
        line.append(f"  {record.groups}", style="yellow")
    if record.why and record.why != VOTED_DOWN:
        line.append(f"  {record.why}", style="yellow")
    line.append(f"  {record.updates:,} updates  {record.timing.updates_per_second or 0:,.0f}/s")
    if record.privacy is not None:
        line.append(f"  {record.privacy}", style="dim")
    if flagged := len(record.flagged):
        line.append(f"  {flagged:,} flagged", style="yellow")
    if out := len(record.quarantined):
        line.append(f"  {out:,} in quarantine", style="yellow")
    if record.declined:
        line.append(f"  {record.declined:,} sat out", style="dim")
    if record.missing:
        line.append(f"  {record.missing:,} missing{_some(record)}", style="yellow")
    if traffic.dropped:
        line.append(f"  broker dropped {traffic.dropped:,}", style="bold red")
    if traffic.invalid_messages:
        line.append(f"  invalid: {refusals(traffic.invalid_messages)}", style="yellow")
    return line


def _some(record: RoundRecord) -> str:
    """Name the first of those who are missing."""
    names = record.absent[:SHOWN]
    more = ", ..." if record.missing > len(names) else ""
    cells = [f"cell {cell}: {count:,}" for cell, count in record.cells.items()]
    told = [f"{', '.join(names)}{more}"] * bool(names) + [", ".join(cells)] * bool(cells)
    return f" ({'; '.join(told)})" if told else ""
