"""What is run: a cell of an experiment's grid, and the runs that it starts from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fedjury.config.sections import Broker
from fedjury.config.settings import Settings
from fedjury.config.toml import to_toml
from fedjury.protocol.record import RoundRecord

Records = list[RoundRecord]
"""One record a round, as in ``rounds.jsonl``."""

Labels = Mapping[str, str | int | float]
"""Where a cell stands in its grid: column -> value."""

MODEL = "model.pth"
"""In the folder of a run that others start from: its last model."""

SECONDS = "seconds.txt"
"""In the folder of a run that others start from: how long it took."""

NAME = 40
"""Characters of a key that are there for people."""


class CaseError(Exception):
    """A run that did not come to its end; one sentence."""


class Watch(Protocol):
    """Sees each message of a run, as only a run in this process can show them."""

    def __call__(self, topic: str, payload: bytes) -> None:
        """Take a message."""

    def found(self) -> dict[str, Any]:
        """Return what was seen, as JSON has it; asked for once, when the run is over."""


class Job(NamedTuple):
    """One run of a federation, and what it needs of others."""

    title: str
    settings: Settings
    """Without folder, broker and first model: these are given when it is run."""
    start: Job | None = None
    """Its first global model is the last one of this run."""
    before: Job | None = None
    """Its first rounds are those of this run: it goes on where that one stopped."""
    watch: Callable[[Settings], Watch] | None = None
    """Makes what watches it: of single updates records say nothing."""

    @property
    def key(self) -> str:
        """A name that changes with the settings of the run or of what it needs."""
        settings = self.settings.replaced(
            broker=Broker(), run=self.settings.run.replaced(name="run")
        )
        needs = [job.key if job else "" for job in (self.start, self.before)]
        digest = hashlib.sha256("\n".join([to_toml(settings), *needs]).encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.title).strip("-")
        return f"{readable[:NAME].strip('-')}-{digest[:10]}"


class Case(NamedTuple):
    """One point of an experiment's grid, with one seed."""

    labels: Labels
    job: Job

    @property
    def settings(self) -> Settings:
        """What is run."""
        return self.job.settings


class Result(NamedTuple):
    """A cell and the records of its rounds."""

    case: Case
    records: Records
    seconds: float = 0.0
    """How long the run took, without the runs that it starts from."""
    found: Mapping[str, Any] = {}
    """What was found by whatever has watched it."""

    @property
    def labels(self) -> Labels:
        """Where it stands in the grid."""
        return self.case.labels

    @property
    def settings(self) -> Settings:
        """What was run."""
        return self.case.settings


def placed(settings: Settings, directory: Path, name: str, start: Path | None) -> Settings:
    """Say where a run's folder is, and the file of its first model."""
    run = settings.run.replaced(name=name, directory=str(directory))
    init = str(start) if start else settings.model.init
    return settings.replaced(run=run, model=settings.model.replaced(init=init))
