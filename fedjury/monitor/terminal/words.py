"""Numbers in words, and what plain lines say of a run. All of it is pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fedjury.monitor.rows import Row, Suspects
from fedjury.monitor.watched import Repeat, Run

PHASES = {
    "train": "training",
    "validate": "voting",
    "judge_and_train": "voting and training",
    "done": "over",
}

NAMED = 5
"""Agents that are named in a line."""


def percent(value: float | None) -> str:
    """Write a share, like 73.6%; a dash if it is not known."""
    return "-" if value is None else f"{value:.1%}"


def size(number: float) -> str:
    """Write a number of bytes, like 52.1 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def lasting(seconds: float) -> str:
    """Write a time, like 2 min 5 s."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def some(names: Iterable[str], total: int, most: int = NAMED) -> str:
    """Name the first of so many."""
    shown = [name for name, _ in zip(names, range(most), strict=False)]
    return ", ".join(shown) + (", ..." if shown and total > len(shown) else "")


def counts(refused: Mapping[str, int]) -> str:
    """Write reasons and how often, the most frequent first."""
    ordered = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {times:,}" for reason, times in ordered if times)


def phase(run: Run) -> str:
    """Say what the run is at."""
    if run.removed:
        return "removed"
    return PHASES.get(run.phase, "not begun")


def where(run: Run) -> str:
    """Say in short where a run stands."""
    said = f"round {run.round}, {phase(run)}" if run.phase else "no round yet"
    reached = run.last or run.start
    if reached is not None and reached.accuracy is not None:
        said += f", accuracy {percent(reached.accuracy)}"
    return f"{said}, {len(run.online):,} online"


def line(row: Row, suspects: Suspects | None = None, online: int | None = None) -> str:
    """Put a round into one line: words and numbers, each kind always in the same words."""
    judged = f" (of round {row.judged})" if row.judged not in (None, row.round) else ""
    said = [f"round {row.round:>3}", f"{row.verdict}{judged}", f"accuracy {percent(row.accuracy)}"]
    if row.candidate_accuracy is not None and row.accepted is not True:
        said.append(f"candidate {percent(row.candidate_accuracy)}")
    if row.backdoor is not None:
        said.append(f"backdoor {percent(row.backdoor)}")
    if row.asked:
        said.append(f"votes {row.poisoned} poisoned, {row.clean} clean, {row.silent} silent")
    if row.why:
        said.append(f"why: {row.why}")
    said.append(f"updates {row.updates:,}/{row.called:,}")
    if row.attempt > 1:
        said.append(f"attempt {row.attempt}")
    if row.whole:
        said += _details(row)
    if online is not None:
        said.append(f"online {online:,}")
    if suspects is not None and suspects.round == row.round:
        said += _suspicion(suspects)
    return "  ".join(said)


def _details(row: Row) -> list[str]:
    """Say what only the whole record of a round says."""
    said = []
    if row.updates_per_second is not None:
        said.append(f"{row.updates_per_second:,.0f} updates/s")
    said.append(f"in {size(row.bytes_in)} out {size(row.bytes_out)}")
    if row.missing:
        said.append(f"missing {row.missing:,}")
    if row.dropped:
        said.append(f"dropped {row.dropped:,}")
    if row.refused:
        said.append(f"refused: {counts(row.refused)}")
    return said


def _suspicion(suspects: Suspects) -> list[str]:
    said = []
    if suspects.suspected:
        said.append(f"suspected {suspects.suspected:,} ({counts(suspects.detectors)})")
    if suspects.quarantined:
        named = some(suspects.named, suspects.quarantined, 3)
        said.append(f"quarantined {suspects.quarantined:,} ({named})")
    return said


def given_up(run: Run) -> Repeat | None:
    """Return what was last said of the round that ended a run before its time, if one did."""
    last = run.repeats[-1] if run.repeats else None
    ended = run.last.round if run.last is not None else 0
    return last if run.over and last is not None and last.round == run.round > ended else None


def closing(run: Run) -> str:
    """Say how a run ended."""
    tally, last = run.tally, run.last or run.start
    rounds = last.round if last else 0
    said = [
        f"run {run.name} is over: {rounds:,} round{'s' * (rounds != 1)}",
        f"{tally.accepted:,} accepted",
        f"{tally.rejected:,} rejected",
    ]
    if last is not None:
        said.append(f"accuracy {percent(last.accuracy)}")
        if last.backdoor is not None:
            said.append(f"backdoor {percent(last.backdoor)}")
    if refused := sum(run.refused.values()):
        said.append(f"{refused:,} refused")
    if again := given_up(run):
        said.append(f"round {again.round} was given up: {again.why}")
    if run.removed and run.phase != "done":
        said.append("it was removed from the broker")
    return ", ".join(said)


def begun(run: Run) -> str:
    """Say what a run is about, as far as it has said so."""
    about = f" (model {run.model}, {run.parameters:,} parameters)" if run.model else ""
    start = f": accuracy {percent(run.start.accuracy)} before any round" if run.start else ""
    return f"run {run.name}{about}{start}"
