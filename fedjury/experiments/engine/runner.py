"""Running an experiment: what is not done yet, in which order, and how far it is.

    runs/base-SCALE-DATA/<key>/           runs that others start from, shared by all experiments
    runs/NAME-SCALE-DATA/cells/<key>.json one file a finished cell: its labels and records
    runs/NAME-SCALE-DATA/cells/<key>.toml its settings

A key contains a digest of all settings, so that changed settings are never taken for done. What is
there is whole: files and folders get their names when they are.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from fedjury.config.sections import Broker
from fedjury.experiments.engine import workers as work
from fedjury.experiments.engine.case import MODEL, SECONDS, Case, Job, Records, Result, placed
from fedjury.protocol.record import read

SPEAK = 0.1
"""Share of the rounds after which a line is printed where there is no terminal."""


class Place(NamedTuple):
    """Where an experiment keeps its things."""

    folder: Path
    bases: Path

    @property
    def cases(self) -> Path:
        """The finished cells."""
        return self.folder / "cells"

    @property
    def running(self) -> Path:
        """The folders of runs under way."""
        return self.folder / "running"


def place(runs: Path, name: str, scale: str, *data: str) -> Place:
    """Say where an experiment's things are; data sets may be paths."""
    stems = (Path(each).stem for each in data)
    what = "-".join(re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-") for stem in stems)
    return Place(runs / f"{name}-{scale}-{what}", runs / f"base-{scale}-{what}")


class Spent(NamedTuple):
    """Seconds of wall time, added up over the processes."""

    cases: float
    before: float
    """Of the runs that they start from, which other experiments may share."""

    def __str__(self) -> str:
        """Return it as a report says it."""
        text = f"Wall time of the cells: {self.cases / 60:.1f} minutes"
        if self.before:
            text += f", of the runs that they start from {self.before / 60:.1f}"
        return f"{text} (one process each, added up)."


class How(NamedTuple):
    """How the runs are done."""

    link: str = "memory"
    broker: Broker = Broker()
    jobs: int = 2
    """Processes; 0: this one."""
    fresh: bool = False


def run(cases: Sequence[Case], where: Place, how: How) -> list[Result]:
    """Run the cells that are not done, and return all.

    Raises
    ------
    CaseError
        If a run fails.
    """
    if how.fresh:
        shutil.rmtree(where.cases, ignore_errors=True)
    where.cases.mkdir(parents=True, exist_ok=True)
    where.bases.mkdir(parents=True, exist_ok=True)
    stages = [list(stage.values()) for stage in _stages(cases, where, how)]
    tasks = [task for stage in stages for task in stage]
    rounds = sum(_left(task) for task in tasks)
    if tasks:
        with _workers(how, len(tasks)) as do, _shown(rounds, len(cases), tasks) as shown:
            for stage in stages:
                do(stage, shown.round, shown.task)
    shutil.rmtree(where.running, ignore_errors=True)
    kept = [(case, _kept(where.cases / f"{case.job.key}.json")) for case in cases]
    return [Result(case, *found) for case, found in kept if found]


def spent(results: Sequence[Result], where: Place) -> Spent:
    """Return how long the runs of cells took, and those that they start from."""
    jobs = [result.case.job for result in results]
    before = [job.before for job in jobs if job.before]
    starts = [job.start for job in [*jobs, *before] if job.start]
    folders = {where.bases / job.key for job in (*before, *starts)}
    return Spent(sum(result.seconds for result in results), sum(map(_seconds, folders)))


def _seconds(folder: Path) -> float:
    """Return how long a run took; 0 where it was run before that was written down."""
    try:
        return float((folder / SECONDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


def _left(task: work.Task) -> int:
    return task.settings.run.rounds - (task.settings.validation.warm_up if task.before else 0)


def _stages(cases: Sequence[Case], where: Place, how: How) -> Iterator[dict[str, work.Task]]:
    """Yield what is not done: first models, then first rounds, then cells, each by its key."""
    todo = [case for case in cases if _kept(where.cases / f"{case.job.key}.json") is None]
    needed: list[Job] = [case.job for case in todo]
    befores = [job.before for job in needed if job.before]
    starts = [job.start for job in [*needed, *befores] if job.start]
    for jobs in (starts, befores):
        yield {
            job.key: _task(job, where, how, where.bases / job.key, {})
            for job in jobs
            if not (where.bases / job.key).exists()
        }
    yield {
        case.job.key: _task(
            case.job, where, how, where.cases / f"{case.job.key}.json", dict(case.labels)
        )
        for case in todo
    }


def _task(job: Job, where: Place, how: How, kept: Path, labels: dict[str, Any]) -> work.Task:
    """Give a job its folder, its broker and the file of its first model."""
    start = where.bases / job.start.key / MODEL if job.start else None
    settings = placed(job.settings, where.running, job.key, start)
    before = where.bases / job.before.key if job.before else None
    settings = settings.replaced(broker=how.broker)
    return work.Task(settings, how.link, before, kept, labels, job.watch)


def _kept(file: Path) -> tuple[Records, float, dict[str, Any]] | None:
    """Read a finished cell, its seconds and what was found; None if there is no whole one."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        records = [read(record) for record in kept["records"]]
        return records, float(kept.get("seconds", 0.0)), dict(kept.get("found", {}))
    except (OSError, ValueError, KeyError, TypeError):
        return None


Do = Callable[[Sequence[work.Task], Callable[[], None], Callable[[], None]], None]


@contextmanager
def _workers(how: How, tasks: int) -> Iterator[Do]:
    """Start the processes; over a broker, runs go one after the other."""
    if not how.jobs:
        yield work.here
        return
    with work.Workers(1 if how.link == "broker" else min(how.jobs, tasks)) as workers:
        yield workers.run


class _Speed(ProgressColumn):
    """Rounds a second."""

    def render(self, task: Task) -> Text:
        """Write the speed of late."""
        return Text(f"{task.speed or 0:.1f} rounds/s")


class _Shown:
    """How far the campaign is: a live line in a terminal, a line now and then elsewhere."""

    def __init__(self, progress: Progress, rounds: int, done: int, total: int, bases: int) -> None:
        self._progress, self._due = progress, SPEAK
        self._done, self._total, self._bases = done, total, bases
        self._bar = progress.add_task("", total=rounds, cells=self._cases())

    def round(self) -> None:
        """Count a round."""
        self._progress.advance(self._bar)
        shown = self._progress.tasks[0]
        if not self._progress.console.is_terminal and shown.percentage >= 100 * self._due:
            self._due += SPEAK
            left = shown.time_remaining or 0
            speed = f"{shown.speed or 0:.1f} rounds/s"
            self._progress.console.print(f"{self._cases()}  {speed}  {left:.0f} s left")

    def task(self) -> None:
        """Count a run."""
        if self._bases:
            self._bases -= 1
        else:
            self._done += 1
        self._progress.update(self._bar, cells=self._cases())

    def _cases(self) -> str:
        if self._bases:
            return f"{self._bases} runs to start from"
        return f"{self._done}/{self._total} cells"


@contextmanager
def _shown(rounds: int, cases: int, tasks: Sequence[work.Task]) -> Iterator[_Shown]:
    """Show progress while the block runs."""
    columns = (BarColumn(), TextColumn("{task.fields[cells]}"), _Speed(), TimeRemainingColumn())
    todo = sum(task.kept.suffix == ".json" for task in tasks)
    console = Console(highlight=False)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield _Shown(progress, rounds, cases - todo, cases, len(tasks) - todo)
