"""Who is in a fleet, and who holds which training samples.

All of it is drawn from the seed for the whole fleet, so that it comes out the same wherever it is
asked for: in each process of the agents, for its part, and at the aggregator, for the samples it
keeps to judge with and the backdoor it looks out for.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fedjury.config.sections import Data, Settings
from fedjury.learning import backdoors
from fedjury.learning.backdoors import Backdoor, Options, Task
from fedjury.learning.datasets import split
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.datasets.split import Indices
from fedjury.registry import ATTACKS


class Plan(NamedTuple):
    """A fleet in a few numbers; see ``config/default.toml``, section agents."""

    n: int
    evil: float
    attack: str
    lying: float
    samples: int
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
        """Whether the evil agents hold data."""
        return ATTACKS.facts(self.attack).holds_data

    @property
    def armed(self) -> bool:
        """Whether the evil agents hide a backdoor."""
        return ATTACKS.facts(self.attack).hides_backdoor

    @property
    def colluding(self) -> dict[str, int]:
        """Name -> number of those who collude, ascending; the first of them is the ringleader."""
        colludes = ATTACKS.facts(self.attack).colludes
        evils = sorted(self.evils) if colludes else []
        return {self.name(number): number for number in evils}

    @property
    def evils(self) -> frozenset[int]:
        """The numbers of the evil agents: exactly round(n * evil) of them."""
        return _draw(range(self.n), round(self.n * self.evil), self.seed, 0)

    @property
    def liars(self) -> frozenset[int]:
        """Who lies when it votes: the evil agents, and round(n * lying) of the others."""
        evils = self.evils
        others = tuple(number for number in range(self.n) if number not in evils)
        count = min(len(others), round(self.n * self.lying))
        return evils | _draw(others, count, self.seed, 2)

    @property
    def holders(self) -> list[int]:
        """Who holds data, ascending."""
        fakes = frozenset() if self.holding else self.evils
        return [number for number in range(self.n) if number not in fakes]

    def arms(self) -> Task | None:
        """Return the backdoor's task, if there is to be one.

        Raises
        ------
        ValueError
            If there is no such task, or its options do not fit it.
        """
        return backdoors.build(self.task, self.options) if self.armed else None


class Holdings(NamedTuple):
    """Who holds which training samples."""

    server: Indices
    """(k,): what the aggregator keeps to judge with."""
    agents: Indices
    """(holders, samples): a row for each of ``Plan.holders``."""
    backdoor: Backdoor | None
    """What the evil agents hide in the model with what they hold, if they do."""
    pool: Indices
    """(p,): what the evil agents hold together."""


def plan_of(settings: Settings) -> Plan:
    """Read the plan from a run's settings."""
    agents, hidden = settings.agents, settings.backdoor
    options = {"dirichlet": {"alpha": agents.alpha}, "groups": {"degree": agents.degree}}
    return Plan(
        n=agents.n,
        evil=agents.evil,
        attack=agents.attack,
        lying=agents.lying,
        samples=agents.samples,
        split=agents.split,
        split_options=options.get(agents.split, {}),
        server=settings.data.server,
        task=hidden.task,
        seed=settings.run.seed,
        options=Options(hidden.source, hidden.target, tuple(hidden.train), tuple(hidden.test)),
    )


def terms(plan: Plan, data: Data) -> str:
    """Return in words how data are dealt, as far as an aggregator and its fleet must agree.

    Where they do not, agents train on what the aggregator tests or judges with, or it looks out for
    a backdoor that nobody hides. Who attacks otherwise, and when, is the fleet's business alone.
    """
    name = data.name.rpartition("/")[2]  # of a file; where it lies is each one's own business
    said = (
        f"seed {plan.seed}, data {name}, {data.test:,} of them for testing where they have "
        f"no test set, {plan.server:.1%} kept by the server"
    )
    if plan.armed:
        said += f", backdoor {plan.task} of {len(plan.evils):,} among {plan.n:,} agents"
    return said


def deal(plan: Plan, data: Dataset) -> Holdings:
    """Share the training set out: reserved samples to nobody, the server's, then the agents'.

    Raises
    ------
    ValueError
        If the split or the backdoor's task cannot be had with these data.
    """
    task, evils = plan.arms(), plan.evils
    server, pool = _keep_back(len(data.y_train), plan, task.reserved if task else ())
    holders = plan.holders
    each = plan.samples or max(1, len(pool) // max(len(holders), 1))
    rng = np.random.default_rng([plan.seed, 1])
    mixtures = split.build(plan.split, **plan.split_options)(len(holders), data.classes, rng)
    dealt = pool[split.deal(data.y_train[pool], mixtures, each, rng)]
    theirs = dealt[[row for row, number in enumerate(holders) if number in evils]].ravel()
    backdoor = task.arm(data, data.y_train[theirs], plan.seed) if task and len(theirs) else None
    return Holdings(server, dealt, backdoor, theirs)


def _keep_back(total: int, plan: Plan, reserved: tuple[int, ...]) -> tuple[Indices, Indices]:
    """Return the samples that the server keeps, and those that the agents are dealt, ascending."""
    free = np.setdiff1d(np.arange(total), np.array(reserved, dtype=np.int64))
    count = min(round(total * plan.server), len(free) - 1)
    if plan.server and not count:
        raise ValueError(f"data.server = {plan.server:g} of {total:,} samples is less than one")
    drawn = np.random.default_rng([plan.seed, 3]).choice(len(free), count, replace=False)
    return free[np.sort(drawn)], np.delete(free, drawn)


@cache
def _draw(numbers: range | tuple[int, ...], count: int, seed: int, purpose: int) -> frozenset[int]:
    drawn = np.random.default_rng([seed, purpose]).choice(numbers, count, replace=False)
    return frozenset(int(number) for number in drawn)
