"""What is run: a cell of an experiment's grid, and the runs that it starts from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from config.sections import Broker, Run
from config.settings import Settings, load, to_toml
from experiments.scale import COMMON, SLOWER, SMALL_MODELS, VALIDATORS, Scale
from learning.datasets.dataset import Dataset

Records = list[dict[str, Any]]
"""One record a round, as in ``rounds.jsonl``."""

Labels = Mapping[str, str | int | float]
"""Where a cell stands in its grid: column -> value."""

MODEL = "model.pth"
"""In the folder of a run that others start from: its last model."""

NAME = 40
"""Characters of a key that are there for people."""


class Job(NamedTuple):
    """One run of a federation, and what it needs of others."""

    title: str
    settings: Settings
    """Without folder, broker and first model: these are given when it is run."""
    start: Job | None = None
    """Its first global model is the last one of this run."""
    before: Job | None = None
    """Its first rounds are those of this run: it goes on where that one stopped."""

    @property
    def key(self) -> str:
        """A name that changes with the settings of the run or of what it needs."""
        settings = replace(
            self.settings, broker=Broker(), run=replace(self.settings.run, name="run")
        )
        needs = [job.key if job else "" for job in (self.start, self.before)]
        digest = hashlib.sha256("\n".join([to_toml(settings), *needs]).encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.title).strip("-")
        return f"{readable[:NAME].strip('-')}-{digest[:10]}"

    @property
    def rounds(self) -> int:
        """Rounds that are left to run once what it needs is there."""
        return self.settings.run.rounds - (self.before.settings.run.rounds if self.before else 0)


class Cell(NamedTuple):
    """One point of an experiment's grid, with one seed."""

    labels: Labels
    job: Job

    @property
    def settings(self) -> Settings:
        """What is run."""
        return self.job.settings


class Result(NamedTuple):
    """A cell and the records of its rounds."""

    cell: Cell
    records: Records

    @property
    def labels(self) -> Labels:
        """Where it stands in the grid."""
        return self.cell.labels

    @property
    def settings(self) -> Settings:
        """What was run."""
        return self.cell.settings


@dataclass(frozen=True)
class Plan:
    """What an experiment is run with."""

    scale: Scale
    common: Mapping[str, Any]
    """Settings of all its cells, as "section.key" -> value."""
    train: int
    """Samples in the training set."""
    seeds: range

    def settings(self, seed: int, changes: Mapping[str, Any]) -> Settings:
        """Make a run's settings; agents share evenly what the server does not keep."""
        scale = self.scale
        given: dict[str, Any] = {
            "run.seed": seed, "run.rounds": scale.rounds, "backdoor.inject": list(scale.inject),
            "validation.look_back": scale.look_back, "validation.warm_up": scale.warm_up,
        } | dict(self.common) | dict(changes)  # fmt: skip
        enough = min(given["validation.look_back"], given["validation.warm_up"]) + 1
        given.setdefault("validation.minimum_history", enough)
        left = self.train * (1 - given.get("data.server", 0.0))
        return load(overrides={"agents.samples": int(left / given["agents.n"])} | given)

    def cell(
        self, labels: Labels, changes: Mapping[str, Any], *,
        trained: bool = True, shared: bool = True,
    ) -> Cell:  # fmt: skip
        """Make a cell.

        ``trained``: it starts from a model that an honest federation made. ``shared``: its rounds
        before the defence is switched on are a run of their own, from which other cells go on too.
        """
        settings = self.settings(int(labels["seed"]), changes)
        start = self._base(settings) if trained else None
        title = " ".join(f"{name[0]}{value}" if isinstance(value, int) else str(value)
                         for name, value in labels.items())  # fmt: skip
        return Cell(labels, Job(title, settings, start, calm(settings, start) if shared else None))

    def _base(self, settings: Settings) -> Job:
        """Say how the model to start from is made: plain averaging, no attack and no defence."""
        honest = replace(
            undefended(settings, self.scale.base_rounds),
            aggregation=replace(settings.aggregation, server_lr=1.0),
            backdoor=replace(settings.backdoor, inject=[]),
            agents=replace(undefended(settings, 1).agents, attack="backdoor"),
        )
        return Job(f"base seed{settings.run.seed}", honest)


def calm(settings: Settings, start: Job | None) -> Job | None:
    """Return a run's rounds before its defence is switched on, as a run of its own, if any."""
    rounds = settings.validation.warm_up
    if not rounds:
        return None
    before = undefended(settings, rounds)
    return Job(f"rounds 1 to {rounds} seed{settings.run.seed}", before, start)


DEFAULT = Settings()
KEPT = 30
"""Look-back of runs that others go on from: the longest there is."""


def undefended(settings: Settings, rounds: int) -> Settings:
    """Take the validators away, and what concerns them."""
    liars = DEFAULT.agents
    return replace(
        settings,
        run=replace(settings.run, rounds=rounds),
        validation=replace(DEFAULT.validation, look_back=KEPT),
        agents=replace(settings.agents, lying=liars.lying, liars=liars.liars),
    )


def placed(settings: Settings, directory: Path, name: str, start: Path | None) -> Settings:
    """Say where a run's folder is, and the file of its first model."""
    run = Run(name, settings.run.seed, settings.run.rounds, str(directory))
    init = str(start) if start else settings.model.init
    return replace(settings, run=run, model=replace(settings.model, init=init))


def defence(who: str, judge: str = "lof", **changes: Any) -> dict[str, Any]:
    """Return the settings of a defence; ``look_back=10`` stands for validation.look_back."""
    chosen = {"who": who, "judge": judge, "validators": 0 if who == "server" else VALIDATORS}
    return {f"validation.{name}": value for name, value in (chosen | changes).items()}


def plan(scale: Scale, name: str, data: Dataset, seeds: range, model: str = "mlp") -> Plan:
    """Plan an experiment on a data set that is called ``name`` in settings.

    ``model``: the network, where the scale does not say which.
    """
    common: dict[str, Any] = COMMON | {"data.name": name}
    if "model.name" not in scale.changes:
        common |= {"model.name": model} | SMALL_MODELS[model]
        common |= SLOWER.get(model, {}) if data.shape[0] > 1 else {}
    return Plan(scale, common | dict(scale.changes), len(data.y_train), seeds)


def split_name(server: float) -> str:
    """Name a split as the paper does: 0.05 is 95-5."""
    return f"{100 - 100 * server:.0f}-{100 * server:.0f}"


STEPS = {"eta/N": 0.1, "mean": 1.0}
"""Server step -> aggregation.server_lr: with 10 of 100 called, a tenth of their mean is Σ / N."""
