"""What a terminal shows of a run, as large as the terminal is. All of it is pure.

What was heard is only ever put into ``Text``, which takes no markup, after ``harmless`` has taken
out whatever moves a cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Group
from rich.text import Text

from fedjury.formatting import counts, measure, measures, size
from fedjury.monitor.rows import heard_in_full
from fedjury.monitor.runs import Run, Snapshot
from fedjury.monitor.terminal import braille_plot, formatting
from fedjury.protocol.groups import GroupCounts
from fedjury.protocol.measured import named
from fedjury.protocol.record import MOST, Quality, RoundRecord

POISONED, CLEAN, SILENT = "red", "green", "dim"
ACCURACY, BACKDOOR = "bold cyan", "red"

LABEL = 6
"""Columns left of a curve."""

SMALLEST, TALLEST = 4, 20
"""Lines of the curve."""

LEAST_ROUNDS = 4
"""Lines of the table before there is a curve."""

VALUE = 8
"""Columns of what was measured, in the table."""

VOTE = 60
"""Columns of a vote, at the most."""

GROUPS = 40
"""Columns of the groups of a round, at the most."""

QUIET = 30.0
"""Seconds of an aggregator's silence that are worth a remark."""


class Frame(NamedTuple):
    """Where a picture is drawn: characters across and down; ``plain``: ASCII alone."""

    width: int = 80
    height: int = 24
    plain: bool = False


class Marks(NamedTuple):
    """What validators and verdicts are drawn with."""

    poisoned: str
    clean: str
    silent: str
    rejected: str
    accepted: str
    pending: str


PLAIN, FANCY = Marks("P", "c", ".", "x", "-", "."), Marks("■", "□", "·", "x", "─", "·")


def dashboard(snapshot: Snapshot, run: Run, where: str, frame: Frame) -> Group:
    """Draw a run."""
    top = [*_head(snapshot, run, where), *_remarks(snapshot, run, where)]
    bottom = _foot(run)
    room = max(0, frame.height - len(top) - len(bottom))
    lines = _curve(run, frame, room) if run.rows or run.start else []
    lines += _table(run, frame, room - len(lines))
    lines += [Text()] * (room - len(lines))
    return _cut([*top, *lines, *bottom], frame)


def waiting(snapshot: Snapshot, text: str, where: str, frame: Frame) -> Group:
    """Draw that there is no run to be seen yet."""
    lines = [Text.assemble(("fedjury", "bold"), f"  {where}"), Text(), Text(text)]
    return _cut([*lines, *_trouble(snapshot, where)], frame)


def _cut(lines: Sequence[Text], frame: Frame) -> Group:
    """Fit lines into the frame."""
    for line in lines:
        line.no_wrap = True
        line.truncate(frame.width, overflow="crop" if frame.plain else "ellipsis")
    return Group(*lines[: frame.height])


# ---------------------------------------------------------------- above


def _head(snapshot: Snapshot, run: Run, where: str) -> list[Text]:
    last, tally = run.last or run.start, run.tally
    about = f"  {run.model}, {run.parameters:,} parameters" if run.model else ""
    lines = [Text.assemble(("fedjury", "bold"), "  run ", (run.name, "bold"), f"  {where}{about}")]
    selected = "" if run.selected is None else f"  {run.selected:,} selected"
    attempt = f"  attempt {run.attempt}" if run.attempt > 1 else ""
    voting = f"  {run.validators:,} validators" if run.validators else ""
    silent = snapshot.now - run.heard
    lines.append(
        Text.assemble(
            ("round ", ""),
            (f"{run.round}", "bold"),
            f"  {formatting.phase(run)}{attempt}{selected}{voting}",
            (f"  no messages for {formatting.lasting(silent)}", "yellow")
            if silent > QUIET and not run.over
            else "",
        )
    )
    found = measures(last.model.accuracy, last.model.metrics, MOST) if last else []
    measured = Text()
    for name, value in found or [("accuracy", "-")]:
        measured.append(f"{name} ").append(value, ACCURACY).append("  ")
    measured.rstrip()
    if last is not None and last.model.backdoor is not None:
        measured.append("  backdoor ").append(formatting.percent(last.model.backdoor), BACKDOOR)
    measured.append("  accepted ").append(f"{tally.accepted:,}", "green")
    measured.append("  rejected ").append(f"{tally.rejected:,}", "bold red" * bool(tally.rejected))
    measured.append("  online ").append(f"{len(run.online):,}", "bold")
    if last is not None and (largest := last.harm.largest_backdoor) is not None:
        measured.append("  let in ").append(f"{largest:.0%}", BACKDOOR)
    return [*lines, measured, _speed(run)]


def _speed(run: Run) -> Text:
    """Say how fast it is and what it costs."""
    last, tally = run.last, run.tally
    rate = last.timing.updates_per_second if last is not None else None
    text = Text("- updates/s" if rate is None else f"{rate:,.0f} updates/s")
    if last is not None and heard_in_full(last):
        came, went = last.traffic.bytes_in or 0, last.traffic.bytes_out or 0
        text.append(f"  in {size(came)} out {size(went)} a round")
        text.append(
            f"  (in total {size(tally.bytes_in)}, {size(tally.bytes_out)})",
            "dim",
        )
        if last.declined:
            text.append(f"  {last.declined:,} sat out", "dim")
        if last.missing:
            text.append(f"  missing {last.missing:,}", "yellow")
    if tally.dropped:
        text.append(f"  broker dropped {tally.dropped:,}", "bold red")
    return text


def _remarks(snapshot: Snapshot, run: Run, where: str) -> list[Text]:
    """Say what stands out: the broker is gone, the run is over, a round is tried again."""
    lines = _trouble(snapshot, where)
    if run.over:
        lines.append(Text(f" {formatting.closing(run)} ", "reverse"))
    elif run.repeats and run.repeats[-1].round >= run.round:
        again = run.repeats[-1]
        text = f"round {again.round} is tried again (attempt {again.attempt}): {again.why}"
        lines.append(Text(text, "yellow"))
    return lines


def _trouble(snapshot: Snapshot, where: str) -> list[Text]:
    lines = [Text(f"note: {text}", "yellow") for text in snapshot.notices[-2:]]
    if not snapshot.connected:
        gone = formatting.lasting(snapshot.now - snapshot.since)
        what = "BROKER GONE" if snapshot.outages else "NO ANSWER FROM THE BROKER"
        message = f" {what} for {gone}, at {where}; waiting; this is the last known state "
        lines.insert(0, Text(message, "bold white on red"))
    return lines


# ---------------------------------------------------------------- the curve


class Axis(NamedTuple):
    """What is drawn by round: accuracy, or the first metric where nobody knows it."""

    name: str
    low: float = 0.0
    high: float = 1.0

    def value(self, quality: Quality | None) -> float | None:
        """Return what was measured of a model."""
        if quality is None:
            return None
        if self.name == "accuracy" and quality.accuracy is not None:
            return quality.accuracy
        return quality.metrics.get(self.name)

    def place(self, row: RoundRecord) -> float | None:
        """Return where the value after a round lies between the lowest and the highest, 0 to 1."""
        value = self.value(row.model)
        return None if value is None else (value - self.low) / (self.high - self.low)

    @property
    def labels(self) -> tuple[str, str, str]:
        """What stands at the top, in the middle and at the bottom."""
        if self.name == "accuracy":
            return "100%", "50%", "0%"
        middle = (self.low + self.high) / 2
        high, half, low = (f"{value:.2g}" for value in (self.high, middle, self.low))
        return high, half, low

    def cell(self, quality: Quality | None) -> str:
        """Return a value as the table shows it."""
        value = self.value(quality)
        return "-" if value is None else measure(self.name, value)


def axis_of(rows: Sequence[RoundRecord]) -> Axis:
    """Return what to draw of these rounds."""
    metrics = named(rows, 1)
    if not metrics or any(row.model.accuracy is not None for row in rows):
        return Axis("accuracy")
    [name] = metrics
    if name == "accuracy":
        return Axis(name)
    known = [value for row in rows if (value := row.model.metrics.get(name)) is not None]
    low, high = min(known), max(known)
    return Axis(name, low, high if high > low else low + 1)


def _curve(run: Run, frame: Frame, room: int) -> list[Text]:
    """Draw accuracy and backdoor by round, and below it the verdicts."""
    height = min(TALLEST, (room - 3 - LEAST_ROUNDS) * 2 // 3)
    width = frame.width - LABEL - 1
    if height < SMALLEST or width < 10:
        return []
    rows = ([run.start] if run.start else []) + list(run.rows)
    axis = axis_of(rows)
    shown = [
        braille_plot.Line(
            [(row.round, row.model.backdoor) for row in rows], BACKDOOR, dotted=True, mark="o"
        ),
        braille_plot.Line([(row.round, axis.place(row)) for row in rows], ACCURACY),
    ]
    title = Text(" " * LABEL).append(axis.name, ACCURACY)
    if any(row.model.backdoor is not None for row in rows):
        title.append("  backdoor success (dotted)", BACKDOOR)
    marks = PLAIN if frame.plain else FANCY
    title.append(f"  rounds {rows[0].round} to {rows[-1].round}", "dim")
    title.append(f"  {marks.accepted} accepted", CLEAN).append(f" {marks.rejected} rejected", "red")
    lines = [title]
    high, half, low = axis.labels
    labels = {0: high, (height - 1) // 2: half, height - 1: low}
    for number, drawn in enumerate(braille_plot.draw(shown, width, height, plain=frame.plain)):
        edge = "|" if frame.plain else "▕"
        label = Text().append(f"{labels.get(number, ''):>{LABEL - 2}} {edge}", "dim")
        lines.append(label.append_text(drawn))
    return [*lines, _verdicts(rows, width, marks)]


def _verdicts(rows: Sequence[RoundRecord], width: int, marks: Marks) -> Text:
    """Draw a line of verdicts below the curve: a rejected round is never hidden by another."""
    first, last = rows[0].round, rows[-1].round
    cells = [" "] * width
    worth = {" ": 0, marks.pending: 1, marks.accepted: 2, marks.rejected: 3}
    by_verdict = {True: marks.accepted, False: marks.rejected, None: marks.pending}
    for row in rows:
        if row.round:
            place = round((row.round - first) / (last - first) * (width - 1)) if last > first else 0
            cells[place] = max(cells[place], by_verdict[row.accepted], key=worth.__getitem__)
    for column in range(1, width):  # a round reaches to the next one
        if cells[column] == " ":
            cells[column] = cells[column - 1]
    text = Text(" " * LABEL)
    styles = {marks.accepted: CLEAN, marks.rejected: "bold red", marks.pending: "dim"}
    for cell in cells:
        text.append(cell, styles.get(cell, ""))
    return text


# ---------------------------------------------------------------- the table


def _table(run: Run, frame: Frame, room: int) -> list[Text]:
    """Write the last rounds down, the newest first, each with its vote."""
    if room < 2:
        return []
    hidden = any(row.model.backdoor is not None for row in run.rows)
    marks = PLAIN if frame.plain else FANCY
    axis = axis_of(run.rows)
    legend = Text(f"round  verdict   {axis.name[:VALUE]:>{VALUE}}  candidate  ", "dim")
    legend.append("backdoor  " * hidden)
    legend.append(f"{marks.poisoned} poisoned ", POISONED).append(f"{marks.clean} clean ", CLEAN)
    legend.append(f"{marks.silent} silent", SILENT)
    if any(row.groups is not None for row in run.rows):
        legend.append(f"  groups: {marks.poisoned} left out ", POISONED)
        legend.append(f"{marks.clean} kept", CLEAN)
    rows = run.rows[::-1][: room - 1]
    return [legend, *(_line(row, frame, marks, axis, hidden=hidden) for row in rows)]


def _line(row: RoundRecord, frame: Frame, marks: Marks, axis: Axis, *, hidden: bool) -> Text:
    styles = {True: "green", False: "bold red", None: "dim"}
    message = "REJECTED" if row.accepted is False else row.verdict
    text = Text(f"{row.round:>5}  ").append(f"{message:<8}", styles[row.accepted])
    text.append(f"  {axis.cell(row.model):>{VALUE}}  ")
    text.append(f"{axis.cell(row.candidate):>9}")
    if hidden:
        text.append(f"  {formatting.percent(row.model.backdoor):>8}")
    text.append("  ")
    why = row.why if row.why != "voted down" else ""
    if row.votes.asked:
        room = frame.width - len(text) - 8 - (min(len(why), 30) + 1 if why else 0)
        text.append(f"{row.votes.poisoned}/{row.votes.poisoned + row.votes.clean} ".rjust(6))
        text.append_text(vote(row, max(3, min(VOTE, room)), marks))
        text.append(" ")
    if row.groups is not None:
        text.append_text(_grouped(row.groups.counts, frame, marks, drawn=not row.votes.asked))
    if why:
        text.append(why, "yellow")
    elif not row.votes.asked and row.groups is None:
        text.append("no vote", "dim")
    if row.attempt > 1:
        text.append(f" (attempt {row.attempt})", "yellow")
    return text


def _grouped(groups: GroupCounts, frame: Frame, marks: Marks, *, drawn: bool) -> Text:
    """Say how many groups were left out; ``drawn``: with a character each, or a share of them."""
    text = Text()
    if drawn:
        text = grouped(groups, min(GROUPS, max(3, frame.width - 60)), marks).append(" ")
    style = POISONED if groups.left_out else CLEAN
    return text.append(f"{groups.left_out:,}/{groups.count:,} groups out ", style)


def grouped(groups: GroupCounts, width: int, marks: Marks) -> Text:
    """Draw groups as a row: those left out first; where they are many, none left out vanishes."""
    counted = groups.left_out, max(0, groups.count - groups.left_out)
    lengths = counted if sum(counted) <= width else _shares(counted, width)
    out, kept = lengths
    return Text().append(marks.poisoned * out, POISONED).append(marks.clean * kept, CLEAN)


def vote(row: RoundRecord, width: int, marks: Marks) -> Text:
    """Draw a vote as a row of validators: one character each, or a share of them if they are many.

    Nobody who spoke vanishes where many share a character.
    """
    counted = row.votes.counts
    lengths = counted if row.votes.asked <= width else _shares(counted, width)
    text = Text()
    drawn = zip(lengths, marks[:3], (POISONED, CLEAN, SILENT), strict=True)
    for length, mark, style in drawn:
        text.append(mark * length, style)
    return text


def _shares(counted: Sequence[int], width: int) -> list[int]:
    """Share ``width`` characters out by how many there are of each, at least one to each."""
    lengths = [max(1, part * width // sum(counted)) if part else 0 for part in counted]
    largest = counted.index(max(counted))
    lengths[largest] = max(1, lengths[largest] + width - sum(lengths))
    return lengths


# ---------------------------------------------------------------- below


def _foot(run: Run) -> list[Text]:
    """Say what was refused, who is flagged, and who is there."""
    refused = run.refused
    text = Text().append("refused ", "dim").append(f"{sum(refused.values()):,}")
    if refused:
        text.append(f": {counts(refused)}", "yellow")
    if run.latest:
        text.append(f"  (last: {run.latest[0]}, {run.latest[1]})", "dim")
    lines = [text]
    if run.suspects is not None:
        seen = run.suspects
        text = Text().append("flagged ", "dim").append(f"{seen.flagged:,}", "yellow")
        if seen.flagged:
            text.append(f" ({counts(seen.detectors)})")
        text.append("  in quarantine ", "dim").append(f"{seen.quarantined:,}", "yellow")
        text.append(f" ({seen.permanent:,} permanently)  filtered {seen.filtered:,}", "dim")
        lines.append(text)
        if seen.most:
            named = ", ".join(f"{agent} {score:.2f}" for agent, score in seen.most[:12])
            lines.append(Text().append("most suspected: ", "dim").append(named, "yellow"))
    if run.tally.groups:
        lines.append(_groups(run))
    online = Text().append("online ", "dim").append(f"{len(run.online):,}", "bold")
    if run.online:
        first = sorted(run.online)[:20]
        online.append(f": {formatting.values(first, len(run.online), 20)}", "dim")
    return [*lines, online]


def _groups(run: Run) -> Text:
    """Say how many groups there were, how many were left out, and what judging them costs."""
    tally, last = run.tally, run.last
    text = Text().append("groups ", "dim").append(f"{tally.groups:,}")
    text.append("  left out ", "dim").append(f"{tally.groups_left_out:,}", "yellow")
    if last is not None and last.groups is not None:
        groups = last.groups.counts
        text.append(f" (last round: {groups.left_out:,} of {groups.count:,})", "dim")
        text.append(f"  {formatting.judging(groups)}", "dim")
    return text
