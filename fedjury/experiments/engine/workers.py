"""Worker processes: each runs one federation after the other.

A worker lives as long as the campaign, because starting one takes seconds. Ctrl-C is the
campaign's business: it ends the workers with SIGTERM.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import shutil
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from fedjury import processes
from fedjury.config.settings import Settings
from fedjury.config.toml import to_toml
from fedjury.experiments.engine.case import SECONDS, CaseError, Watch
from fedjury.protocol.record import to_json

GOODBYE = 20.0
"""Seconds that a worker has to end, with the programs it started."""


class Task(NamedTuple):
    """One run to do, and where it is kept."""

    settings: Settings
    """With folder, broker and first model."""
    link: str
    before: Path | None
    """The folder of a run that it goes on from."""
    kept: Path
    """A folder for the whole run; or, of a cell, a .json file of its records."""
    labels: dict[str, str | int | float]
    watch: Callable[[Settings], Watch] | None = None
    """See ``Job``."""

    @property
    def folder(self) -> Path:
        """Where it runs."""
        return Path(self.settings.run.directory) / self.settings.run.name

    @property
    def log(self) -> Path:
        """Where its programs print."""
        return self.kept.with_name(f"{self.kept.stem}.log")


class Event(NamedTuple):
    """What a worker says: a round or a task is done, or (``why``) a task failed."""

    task_done: bool = False
    why: str = ""


def perform(task: Task, on_round: Callable[[], None]) -> None:
    """Run a task and keep it; whatever an earlier, broken-off attempt left is removed.

    Raises
    ------
    CaseError
        If it is to be watched, and goes over a broker.
    """
    from fedjury.experiments.engine import federation  # noqa: PLC0415 - imports torch, which takes seconds

    began = time.perf_counter()
    shutil.rmtree(task.folder, ignore_errors=True)
    if task.before is not None:
        shutil.copytree(task.before, task.folder)
    else:
        task.folder.mkdir(parents=True)
    agents = task.settings.agents.replaced(attack_log=str(task.folder / "strikes.jsonl"))
    settings = task.settings.replaced(agents=agents)
    watch = task.watch(settings) if task.watch else None
    if watch is None:
        records = federation.LINKS[task.link](settings, task.folder, on_round)
    elif task.link == "memory":
        records = federation.in_memory(settings, task.folder, on_round, watch)
    else:
        raise CaseError("what is measured here is seen in memory only: take --link memory")
    seconds = round(time.perf_counter() - began, 3)
    if task.kept.suffix != ".json":
        federation.save_model(task.settings, task.folder)
        (task.folder / SECONDS).write_text(f"{seconds}\n", encoding="utf-8")
        try:
            task.folder.rename(task.kept)
        except OSError:
            if not task.kept.is_dir():  # if it is, another experiment was faster: it is the same
                raise
        return
    toml = to_toml(task.settings)
    task.kept.with_suffix(".toml").write_text(toml, encoding="utf-8")
    part = task.kept.with_suffix(".part")
    kept = {
        "labels": task.labels,
        "seconds": seconds,
        "records": [to_json(record) for record in records],
    } | ({"found": watch.found()} if watch else {})
    part.write_text(json.dumps(kept), encoding="utf-8")
    part.replace(task.kept)
    shutil.rmtree(task.folder)


def here(tasks: Sequence[Task], on_round: Callable[[], None], on_task: Callable[[], None]) -> None:
    """Run tasks in this process, one after the other."""
    for task in tasks:
        perform(task, on_round)
        on_task()


class Workers:
    """So many processes that share the work; a context manager that ends them."""

    def __init__(self, count: int) -> None:
        context = mp.get_context("spawn")
        self._busy: dict[connection.Connection, Task] = {}
        self._processes = []
        self._idle: list[connection.Connection] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,))
            process.start()
            theirs.close()
            self._processes.append(process)
            self._idle.append(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        processes.end(self._processes, GOODBYE)

    def run(
        self, tasks: Sequence[Task], on_round: Callable[[], None], on_task: Callable[[], None]
    ) -> None:
        """Run tasks until all are done.

        Raises
        ------
        CaseError
            If one fails, or its process dies.
        """
        waiting = deque(tasks)
        while waiting or self._busy:
            while waiting and self._idle:
                idle = self._idle.pop()
                self._busy[idle] = waiting.popleft()
                idle.send(self._busy[idle])
            for pipe in connection.wait(list(self._busy)):
                assert isinstance(pipe, connection.Connection)
                event = self._hear(pipe)
                if event.task_done:
                    del self._busy[pipe]
                    self._idle.append(pipe)
                    on_task()
                else:
                    on_round()

    def _hear(self, pipe: connection.Connection) -> Event:
        task = self._busy[pipe]
        try:
            event: Event = pipe.recv()
        except (EOFError, OSError):
            event = Event(why="its process died")
        if event.why:
            raise CaseError(f"run {task.kept.stem} failed: {event.why} (see {task.log})")
        return event


def _work(pipe: connection.Connection) -> None:
    """Be a worker: run what comes through the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    import torch  # noqa: PLC0415 - the campaign's own process does without
    from threadpoolctl import threadpool_limits  # type: ignore # noqa: PLC0415, PGH003

    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's too: threads that share a core wait for each other
    with suppress(EOFError, OSError):
        while True:
            task: Task = pipe.recv()
            pipe.send(_outcome(task, pipe))


def _outcome(task: Task, pipe: connection.Connection) -> Event:
    """Run a task with its output in its log; what went wrong becomes one line."""
    with _printing_to(task.log):
        try:
            perform(task, lambda: pipe.send(Event()))
        except Exception as why:
            traceback.print_exc()
            return Event(why=str(why).strip().splitlines()[0] if str(why).strip() else repr(why))
    if not task.log.stat().st_size:
        task.log.unlink()
    return Event(task_done=True)


def _end(*_: Any) -> NoReturn:
    """Let SIGTERM unwind what is running, so that programs started by it end too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Send what this process and those it starts print to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    saved = [os.dup(number) for number in (1, 2)]
    with log.open("w", encoding="utf-8") as file:
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)
