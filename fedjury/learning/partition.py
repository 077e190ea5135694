"""Who is in a fleet, and who holds which training samples.

All of it is drawn from the seed for the whole fleet, so that it comes out the same wherever it is
asked for: in each process of the agents, for its part, and at the aggregator, for the samples it
keeps to judge with and the backdoor it looks out for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fedjury.config.sections import Data, Settings, Sizes
from fedjury.learning import backdoors
from fedjury.learning.backdoors import Backdoor, Options, Task
from fedjury.learning.datasets import split
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.datasets.split import Counts, Indices
from fedjury.learning.sizes import drawn
from fedjury.randomness import Purpose, stream
from fedjury.registry import ATTACKS


class PartitionSpec(NamedTuple):
    """A fleet in a few numbers; see ``config/default.toml``, section agents."""

    n: int
    malicious: float
    attack: str
    malicious_validator_fraction: float
    samples: Sizes
    split: str
    split_options: dict[str, Any]
    server: float
    task: str
    options: Options
    seed: int

    def name(self, number: int) -> str:
        """Return an agent's name on the wire."""
        return f"agent-{number:0{len(str(self.n - 1))}d}"

    @property
    def holding(self) -> bool:
        """Whether the malicious agents hold data."""
        return ATTACKS.facts(self.attack).holds_data

    @property
    def armed(self) -> bool:
        """Whether the malicious agents hide a backdoor."""
        return ATTACKS.facts(self.attack).hides_backdoor

    @property
    def colluding(self) -> dict[str, int]:
        """Name -> number of those who collude, ascending; the first of them is the coordinator."""
        colludes = ATTACKS.facts(self.attack).colludes
        malicious = sorted(self.malicious_agents) if colludes else []
        return {self.name(number): number for number in malicious}

    @property
    def malicious_agents(self) -> frozenset[int]:
        """The numbers of the malicious agents: exactly round(n * evil) of them."""
        return _draw(range(self.n), round(self.n * self.malicious), self.seed, Purpose.MALICIOUS)

    @property
    def malicious_validators(self) -> frozenset[int]:
        """Who lies when it votes: the malicious agents, and round(n * lying) of the others."""
        malicious = self.malicious_agents
        others = tuple(number for number in range(self.n) if number not in malicious)
        count = min(len(others), round(self.n * self.malicious_validator_fraction))
        return malicious | _draw(others, count, self.seed, Purpose.MALICIOUS_VALIDATORS)

    @property
    def holders(self) -> list[int]:
        """Who holds data, ascending."""
        fakes = frozenset() if self.holding else self.malicious_agents
        return [number for number in range(self.n) if number not in fakes]

    def arms(self) -> Task | None:
        """Return the backdoor's task, if there is to be one.

        Raises
        ------
        ValueError
            If there is no such task, or its options do not fit it.
        """
        return backdoors.build(self.task, self.options) if self.armed else None


class Partition(NamedTuple):
    """Who holds which training samples."""

    server: Indices
    """(k,): what the aggregator keeps to judge with."""
    agents: Indices
    """(holders, s): a row for each of ``PartitionSpec.holders``; the first ``held`` count."""
    held: Counts
    """(holders,): how many samples each of them holds; 0: it takes no part in training."""
    backdoor: Backdoor | None
    """What the malicious agents hide in the model with what they hold, if they do."""
    pool: Indices
    """(p,): what the malicious agents hold together."""

    @property
    def dealt(self) -> Indices:
        """What agents hold, one after the other, (sum of ``held``,)."""
        return self.agents[np.arange(self.agents.shape[1]) < self.held[:, np.newaxis]]

    def empty(self, spec: PartitionSpec) -> frozenset[int]:
        """Return who was to hold data and was dealt no sample, by number."""
        dealt = zip(spec.holders, self.held.tolist(), strict=True)
        return frozenset(number for number, held in dealt if not held)

    def fewest(self, rows: Sequence[int] | slice = slice(None)) -> int:
        """Return how many samples one of these holds at least that holds any; 0: nobody does."""
        some = self.held[rows]
        return int(some[some > 0].min()) if some.any() else 0

    @property
    def usual(self) -> int:
        """How many samples an agent holds that holds any: the median, 1 or more."""
        some = self.held[self.held > 0]
        return int(np.median(some)) if len(some) else self.agents.shape[1]


def partition_spec_of(settings: Settings) -> PartitionSpec:
    """Read the plan from a run's settings."""
    agents, hidden = settings.agents, settings.backdoor
    options = {"dirichlet": {"alpha": agents.alpha}, "groups": {"degree": agents.degree}}
    return PartitionSpec(
        n=agents.n,
        malicious=agents.malicious,
        attack=agents.attack,
        malicious_validator_fraction=agents.malicious_validators,
        samples=agents.sizes,
        split=agents.split,
        split_options=options.get(agents.split, {}),
        server=settings.data.server,
        task=hidden.task,
        seed=settings.run.seed,
        options=Options(hidden.source, hidden.target, tuple(hidden.train), tuple(hidden.test)),
    )


def terms(spec: PartitionSpec, data: Data) -> str:
    """Return in words how data are dealt, as far as an aggregator and its fleet must agree.

    Where they do not, agents train on what the aggregator tests or judges with, or it looks out for
    a backdoor that nobody hides. Who attacks otherwise, and when, is the fleet's business alone.
    """
    name = data.name.rpartition("/")[2]  # of a file; where it lies is each one's own business
    text = (
        f"seed {spec.seed}, data {name}, {data.test:,} of them for testing where they have "
        f"no test set, {spec.server:.1%} kept by the server"
    )
    if spec.armed:
        text += f", backdoor {spec.task} of {len(spec.malicious_agents):,} among {spec.n:,} agents"
    return text


def partition(spec: PartitionSpec, data: Dataset) -> Partition:
    """Share the training set out: reserved samples to nobody, the server's, then the agents'.

    Raises
    ------
    ValueError
        If the split or the backdoor's task cannot be had with these data.
    """
    task, malicious = spec.arms(), spec.malicious_agents
    if task and not data.classes:
        raise ValueError(f"backdoor {spec.task!r} needs classes, and {data.name!r} has numbers")
    server, pool = _keep_back(len(data.y_train), spec, task.reserved if task else ())
    holders = spec.holders
    held = drawn(spec.samples, len(holders), len(pool), stream(spec.seed, Purpose.SAMPLE_COUNTS))
    rng = stream(spec.seed, Purpose.PARTITION)
    labels, kinds = data.kinds
    mixtures = split.build(spec.split, **spec.split_options)(len(holders), kinds, rng)
    each = int(held.max(initial=1))
    counts = each if isinstance(spec.samples, int) or not holders else held
    dealt = pool[split.partition(labels[pool], mixtures, counts, rng)]
    rows = [row for row, number in enumerate(holders) if number in malicious]
    theirs = dealt[rows][np.arange(dealt.shape[1]) < held[rows, np.newaxis]]
    backdoor = task.arm(data, data.y_train[theirs], spec.seed) if task and len(theirs) else None
    return Partition(server, dealt, held, backdoor, theirs)


def _keep_back(
    total: int, spec: PartitionSpec, reserved: tuple[int, ...]
) -> tuple[Indices, Indices]:
    """Return the samples that the server keeps, and those that the agents are dealt, ascending."""
    free = np.setdiff1d(np.arange(total), np.array(reserved, dtype=np.int64))
    count = min(round(total * spec.server), len(free) - 1)
    if spec.server and not count:
        raise ValueError(f"data.server = {spec.server:g} of {total:,} samples is less than one")
    drawn = stream(spec.seed, Purpose.SERVER_DATA).choice(len(free), count, replace=False)
    return free[np.sort(drawn)], np.delete(free, drawn)


@cache
def _draw(
    numbers: range | tuple[int, ...], count: int, seed: int, purpose: Purpose
) -> frozenset[int]:
    drawn = stream(seed, purpose).choice(numbers, count, replace=False)
    return frozenset(int(number) for number in drawn)
