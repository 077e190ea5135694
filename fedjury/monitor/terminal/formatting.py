"""Numbers in words, and what plain lines say of a run. All of it is pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from fedjury import formatting
from fedjury.formatting import counts, measures, points, processor_time, size
from fedjury.monitor.rows import Suspects, heard_in_full
from fedjury.monitor.runs import Repeat, Run
from fedjury.protocol.groups import GroupCounts
from fedjury.protocol.record import MOST, RoundRecord

PHASES = {
    "train": "training",
    "validate": "voting",
    "validate_groups": "voting on groups",
    "judge_and_train": "voting and training",
    "done": "over",
}

NAMED = 5
"""Agents that are named in a line."""


percent = partial(formatting.percent, unknown="-")


def lasting(seconds: float) -> str:
    """Write a time, like 2 min 5 s."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def values(names: Iterable[str], total: int, most: int = NAMED) -> str:
    """Name the first of so many."""
    shown = [name for name, _ in zip(names, range(most), strict=False)]
    return ", ".join(shown) + (", ..." if shown and total > len(shown) else "")


def phase(run: Run) -> str:
    """Say what the run is at."""
    if run.removed:
        return "removed"
    return PHASES.get(run.phase, "not begun")


def measured(row: RoundRecord) -> list[str]:
    """Return what was measured of the model after a round, like "rmse 0.12"; accuracy first."""
    found = measures(row.model.accuracy, row.model.metrics, MOST)
    return [f"{name} {value}" for name, value in found]


def harm(row: RoundRecord) -> list[str]:
    """Return the largest backdoor let in and the accuracy lost up to a round, as far as known."""
    largest, lost = row.harm.largest_backdoor, row.harm.accuracy_lost
    message = [] if largest is None else [f"largest let in {percent(largest)}"]
    return message if lost is None else [*message, f"accuracy lost {points(lost)} points"]


def judging(groups: GroupCounts) -> str:
    """Return what groups cost the median validator; empty where nobody voted on them."""
    if not groups.size:
        return ""
    took = f", {processor_time(groups.cpu)}" if groups.cpu else ""
    return f"a validator: {size(groups.size)}{took}"


def where(run: Run) -> str:
    """Say in short where a run stands."""
    text = f"round {run.round}, {phase(run)}" if run.phase else "no round yet"
    reached = run.last or run.start
    if reached is not None and (found := measured(reached)):
        text += f", {found[0]}"
    return f"{text}, {len(run.online):,} online"


def line(row: RoundRecord, suspects: Suspects | None = None, online: int | None = None) -> str:
    """Put a round into one line: words and numbers, each kind always in the same words."""
    judged = f" (of round {row.about})" if row.about != row.round else ""
    message = [
        f"round {row.round:>3}",
        f"{row.verdict}{judged}",
        *(measured(row) or ["accuracy -"]),
    ]
    candidate, votes = row.candidate, row.votes
    tried = measures(candidate.accuracy, candidate.metrics, 1) if candidate else []
    if tried and row.accepted is not True:
        [(name, value)] = tried
        message.append(f"candidate {value}" if name == "accuracy" else f"candidate {name} {value}")
    if row.model.backdoor is not None:
        message.append(f"backdoor {percent(row.model.backdoor)}")
    if votes.asked:
        message.append(
            f"votes {votes.poisoned} poisoned, {votes.clean} clean, {votes.silent} silent"
        )
    if row.groups is not None:
        message.append(str(row.groups))
    if row.why:
        message.append(f"why: {row.why}")
    message.append(f"updates {row.updates:,}/{row.selected:,}")
    if row.attempt > 1:
        message.append(f"attempt {row.attempt}")
    if heard_in_full(row):
        message += _details(row)
    if online is not None:
        message.append(f"online {online:,}")
    if suspects is not None and suspects.round == row.round:
        message += _suspicion(suspects)
    return "  ".join(message)


def _details(row: RoundRecord) -> list[str]:
    """Say what only the heard_in_full record of a round says."""
    message = []
    traffic, rate = row.traffic, row.timing.updates_per_second
    if rate is not None:
        message.append(f"{rate:,.0f} updates/s")
    message.append(f"in {size(traffic.bytes_in or 0)} out {size(traffic.bytes_out or 0)}")
    if row.privacy is not None:
        message.append(f"{row.privacy}")
    if row.declined:
        message.append(f"sat out {row.declined:,}")
    if row.missing:
        message.append(f"missing {row.missing:,}")
    if traffic.dropped:
        message.append(f"dropped {traffic.dropped:,}")
    if traffic.invalid_messages:
        message.append(f"refused: {counts(traffic.invalid_messages)}")
    return message


def _suspicion(suspects: Suspects) -> list[str]:
    message = []
    if suspects.flagged:
        message.append(f"flagged {suspects.flagged:,} ({counts(suspects.detectors)})")
    if suspects.quarantined:
        named = values(suspects.named, suspects.quarantined, 3)
        message.append(f"quarantined {suspects.quarantined:,} ({named})")
    return message


def given_up(run: Run) -> Repeat | None:
    """Return what was last said of the round that ended a run before its time, if one did."""
    last = run.repeats[-1] if run.repeats else None
    ended = run.last.round if run.last is not None else 0
    return last if run.over and last is not None and last.round == run.round > ended else None


def closing(run: Run) -> str:
    """Say how a run ended."""
    tally, last = run.tally, run.last or run.start
    rounds = last.round if last else 0
    message = [
        f"run {run.name} is over: {rounds:,} round{'s' * (rounds != 1)}",
        f"{tally.accepted:,} accepted",
        f"{tally.rejected:,} rejected",
    ]
    if last is not None:
        message += measured(last) or ["accuracy -"]
        if last.model.backdoor is not None:
            message.append(f"backdoor {percent(last.model.backdoor)}")
            message += harm(last)
    if tally.groups:
        message.append(f"{tally.groups_left_out:,} of {tally.groups:,} groups left out")
    if refused := sum(run.refused.values()):
        message.append(f"{refused:,} refused")
    if again := given_up(run):
        message.append(f"round {again.round} was given up: {again.why}")
    if run.removed and run.phase != "done":
        message.append("it was removed from the broker")
    return ", ".join(message)


def begun(run: Run) -> str:
    """Say what a run is about, as far as it has said so."""
    about = f" (model {run.model}, {run.parameters:,} parameters)" if run.model else ""
    found = measured(run.start) if run.start else []
    start = f": {', '.join(found)} before any round" if found else ""
    return f"run {run.name}{about}{start}"
