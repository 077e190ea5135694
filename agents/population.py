"""Who is in the whole fleet: which agents are fake, and which data the genuine ones hold.

Everything is drawn from the seed for the whole fleet, of which a process then takes its part; so
a fleet is the same however it is cut into shards and processes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from agents import learners, validators
from agents.cohort import Cohort, Member, Members
from agents.learners import World, dormant
from learning import datasets, models, tables, validation
from learning.datasets import split
from learning.datasets.dataset import Dataset
from learning.training import Shards, Training
from learning.weights import flatten, tensors
from protocol.messages import Manifest


class MismatchError(ValueError):
    """Our data do not fit what the run's manifest asks for."""


class Population(NamedTuple):
    """The whole fleet in a few numbers; see ``config/default.toml``, section agents."""

    n: int
    evil: float
    attack: str
    scale: float
    start: int
    liars: str
    samples: int
    split: str
    split_options: dict[str, Any]
    data: str
    root: str
    test: int
    seed: int

    @property
    def fakes(self) -> frozenset[int]:
        """The numbers of the fakes: exactly round(n * evil) of them, drawn from the seed."""
        return _draw_fakes(self.n, round(self.n * self.evil), self.seed)

    def name(self, number: int) -> str:
        """Return an agent's name on the wire."""
        return f"agent-{number:0{len(str(self.n - 1))}d}"

    def check(self) -> Dataset:
        """Load the data set (so that it is there for all processes) and check the names.

        Raises
        ------
        ValueError
            If a name or a value is not valid, or the data cannot be had.
        """
        if self.attack == "honest":
            raise ValueError("'honest' is no attack; for a fleet without fakes say --evil 0")
        if self.attack not in learners.LEARNERS:
            attacks = [name for name in learners.LEARNERS if name != "honest"]
            raise tables.unknown("attack", self.attack, attacks)
        validators.build(self.liars)
        split.build(self.split, **self.split_options)
        return datasets.load(self.data, Path(self.root), self.test)

    def shared(self, data: Dataset) -> int:
        """Count how often a sample of the training set is dealt to one more agent."""
        return split.repeats(deal(self, data))


@cache
def _draw_fakes(n: int, count: int, seed: int) -> frozenset[int]:
    drawn = np.random.default_rng([seed, 0]).choice(n, count, replace=False)
    return frozenset(int(number) for number in drawn)


def deal(population: Population, data: Dataset) -> np.ndarray:
    """Deal the training set to the genuine agents: (genuine, samples), in order of number."""
    genuine = population.n - len(population.fakes)
    samples = population.samples or max(1, len(data.y_train) // max(genuine, 1))
    mixtures = split.build(population.split, **population.split_options)
    rng = np.random.default_rng([population.seed, 1])
    shares = mixtures(genuine, data.classes, rng)
    return split.deal(data.y_train, shares, samples, rng)


def assemble(population: Population, data: Dataset, numbers: range, manifest: Manifest) -> Cohort:
    """Make the cohort of the agents with these numbers, for the run of this manifest.

    Raises
    ------
    MismatchError
        If the manifest asks for another network or other data than we have.
    """
    if (data.shape, data.classes) != (manifest.input_shape, manifest.classes):
        raise MismatchError(
            f"the run trains on inputs {manifest.input_shape} of {manifest.classes} classes, "
            f"data set {data.name!r} has {data.shape} of {data.classes}; give the run's own --data"
        )
    model = models.build(manifest.model, data.shape, data.classes, population.seed)
    if tuple((t.name, t.shape) for t in tensors(model)) != manifest.tensors:
        raise MismatchError(f"our model {manifest.model!r} is not the one of the run's manifest")
    genuine = [i for i in range(population.n) if i not in population.fakes]
    mine = [place for place, number in enumerate(genuine) if number in numbers]
    dealt = deal(population, data)[mine]
    shards = Shards(
        torch.from_numpy(data.x_train), torch.from_numpy(data.y_train), torch.from_numpy(dealt)
    )
    row = {genuine[place]: index for index, place in enumerate(mine)}
    plan = Training(manifest.epochs, manifest.batch_size, manifest.learning_rate, manifest.momentum)
    # The attackers' own seed: anything but that of the first global model.
    world = World(
        model=model, plan=plan, data=shards, row=row, scale=population.scale,
        fresh=lambda: flatten(
            models.build(manifest.model, data.shape, data.classes, population.seed + 1)
        ),
    )  # fmt: skip
    members = Members(
        genuine=tuple(Member(population.name(i), i) for i in row),
        fakes=tuple(Member(population.name(i), i) for i in numbers if i in population.fakes),
        learn=learners.build("honest", world),
        attack=dormant(learners.build(population.attack, world), population.start),
        judge=validation.build(manifest.judge, minimum_history=manifest.minimum_history),
        lie=validators.build(population.liars),
    )
    return Cohort(
        members, model, shards, manifest.classes, population.seed,
        manifest.look_back, manifest.history_codec,
    )  # fmt: skip
