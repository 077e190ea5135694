"""What a watcher writes line by line: what is new between two looks. All of it is pure."""

from __future__ import annotations

from typing import NamedTuple

from fedjury.formatting import counts
from fedjury.monitor.rows import alike
from fedjury.monitor.runs import Run, Snapshot
from fedjury.monitor.terminal import formatting

EVERY = 5.0
"""Seconds between two lines about a round that is still open."""


class TextLog(NamedTuple):
    """What was written so far."""

    run: Run | None = None
    """The run as it was when it was last looked at."""
    gone: bool = False
    """Whether the broker is."""
    outages: int = 0
    notices: frozenset[str] = frozenset()
    open: tuple[object, ...] = ()
    """What was last said of the round that is open."""
    at: float = 0.0
    """When something was last written (seconds)."""


def news(
    told: TextLog, snapshot: Snapshot, run: Run | None, where: str
) -> tuple[TextLog, list[str]]:
    """Return what there is to write now; ``where`` is the broker's address."""
    lines = [f"note: {text}" for text in snapshot.notices if text not in told.notices]
    told = told._replace(notices=frozenset(snapshot.notices))
    told, connection = _connection(told, snapshot, where)
    lines += connection
    if run is not None:
        lines += _begun(told.run, run, where)
        before = (
            told.run
            if told.run is not None and told.run.generation == run.generation
            else Run(run.name)
        )
        lines += [*_again(before, run), *_rounds(before, run)]
        standing = _standing(run)
        if not lines and standing != told.open and snapshot.now - told.at >= EVERY and not run.over:
            lines.append(_open(run))
        if lines:
            told = told._replace(open=standing)
        told = told._replace(run=run)
    return told._replace(at=snapshot.now) if lines else told, lines


def _connection(told: TextLog, snapshot: Snapshot, where: str) -> tuple[TextLog, list[str]]:
    """Say that the broker went, and that it came back."""
    late = snapshot.now - snapshot.since > EVERY  # it has just let us in
    gone = not snapshot.connected and (snapshot.outages > 0 or late)
    lines = []
    if not told.gone and (gone or snapshot.outages > told.outages):
        lines.append(f"no connection to the broker at {where}; waiting until it is back")
    if snapshot.connected and (lines or told.gone):
        lost = (
            f" after {formatting.lasting(snapshot.since - snapshot.lost)}"
            if snapshot.outages
            else ""
        )
        lines.append(f"the broker is back{lost}")
    return told._replace(gone=gone, outages=snapshot.outages), lines


def _begun(before: Run | None, run: Run, where: str) -> list[str]:
    """Say what is watched, and that it began again or lost rounds."""
    if before is None:
        return [f"watching {formatting.begun(run)}, at {where}"]
    if run.generation != before.generation:
        return [f"run {run.name} begins again"]
    if before.last is not None and run.last is not None and run.last.round < before.last.round:
        return [f"run {run.name} went back to round {run.last.round}"]
    return []


def _again(before: Run, run: Run) -> list[str]:
    """Tell of rounds that are tried again."""
    fresh = run.repeated - before.repeated
    return [
        f"round {repeat.round:>3}  tried again  attempt {repeat.attempt}  why: {repeat.why}"
        for repeat in (run.repeats[-fresh:] if fresh > 0 else ())
    ]


def _rounds(before: Run, run: Run) -> list[str]:
    """Write down the rounds that are new, those that the past fills in among them."""
    known = {row.round: row for row in before.rows}
    fresh = [row for row in run.rows if row.round not in known or not alike(row, known[row.round])]
    online = None if run.over else len(run.online)
    return [
        formatting.line(row, run.suspects, online) if row is run.last else formatting.line(row)
        for row in fresh
    ]


def _standing(run: Run) -> tuple[object, ...]:
    refusing = sum(run.refusing.values()) if run.refusing_round == run.round else 0
    return run.round, run.attempt, run.phase, len(run.online), refusing


def _open(run: Run) -> str:
    """Say how a round stands that is still open."""
    text = f"round {run.round:>3}  {formatting.phase(run)}  online {len(run.online):,}"
    if run.refusing and run.refusing_round == run.round:
        text += f"  refused: {counts(run.refusing)}"
    return text
