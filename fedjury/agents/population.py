"""Who is in the whole fleet, and the cohort that a process makes of its part.

Everything is drawn from the seed for the whole fleet (``fedjury.learning.dealing``), of which a
process then takes its part; so a fleet is the same however it is cut into shards and processes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from fedjury import attacks, judges
from fedjury.agents.cohort import Cohort, Member, Members
from fedjury.agents.collusion import Accomplices, Ring, Ringleader
from fedjury.agents.fleet import Fleet
from fedjury.agents.waiting import Waiting
from fedjury.attacks import Collusion, Strike, World, dormant, validators
from fedjury.attacks.honest import honest
from fedjury.config.sections import Agents, Aggregation, Backdoor, Data
from fedjury.judges.opinions import Judge
from fedjury.learning import datasets, models
from fedjury.learning.datasets import split
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.dealing import Holdings, Plan, deal, terms
from fedjury.learning.training import Shards, Training, check_batches
from fedjury.learning.weights import flatten, tensors
from fedjury.protocol.messages import Manifest
from fedjury.protocol.transport.link import Hub


class MismatchError(ValueError):
    """Our data do not fit what the run's manifest asks for."""


class Population(NamedTuple):
    """The whole fleet: who is in it, and the settings of what they do."""

    plan: Plan
    agents: Agents
    data: Data
    backdoor: Backdoor
    aggregation: Aggregation
    """Of the run: a backdoor is made as strong as it takes to get through it."""
    model: str = ""
    """The network and the judge that our own settings name; others that have to be imported from
    elsewhere are not, whatever a manifest says."""
    judge: str = ""

    @property
    def fakes(self) -> frozenset[int]:
        """The numbers of the evil agents."""
        return self.plan.evils

    @property
    def late(self) -> frozenset[int]:
        """The numbers of those who are not there from the beginning."""
        return self.plan.evils if self.agents.arrive > 1 else frozenset()

    @property
    def ring(self) -> Ring:
        """What sets the evil agents apart on the network."""
        colluding = self.plan.colluding
        late = frozenset(self.name(number) for number in self.late)
        return Ring(frozenset(colluding), next(iter(colluding), ""), late, self.agents.arrive)

    def name(self, number: int) -> str:
        """Return an agent's name on the wire."""
        return self.plan.name(number)

    def check(self) -> Dataset:
        """Load the data set, so that it is there for all processes; check whatever can be checked.

        Raises
        ------
        ValueError
            If a name or a value is not valid, or the data cannot be had, or not be dealt so.
        """
        plan = self.plan
        if plan.attack == "honest":
            raise ValueError("'honest' is no attack; for a fleet without fakes say --evil 0")
        attacks.ATTACKS.check(plan.attack, self.agents.options)
        validators.build(self.agents.liars)
        split.build(plan.split, **plan.split_options)
        plan.arms()
        data = datasets.load(self.data.name, Path(self.data.root), self.data.test)
        deal(plan, data)
        attacks.build(plan.attack, _tiny(data), self.agents.options)
        return data

    def repeats(self, data: Dataset) -> str:
        """Say how often samples are dealt where there are too few for all; empty if not."""
        dealt = deal(self.plan, data).agents
        distinct = dealt.size - split.repeats(dealt)
        if dealt.size == distinct:
            return ""
        return (
            f"the training set is too small for so many: {dealt.size:,} samples are dealt, "
            f"{distinct:,} of them different, so each {dealt.size / distinct:.1f} times on average"
        )

    @property
    def there(self) -> int:
        """The first round in which the evil agents may strike: those who come late are there."""
        arrive = self.agents.arrive
        return arrive + 1 if arrive > 1 else 1

    def struck(self, round_: int) -> bool:
        """Say whether the evil agents strike in a round."""
        if not self.plan.evils or round_ < self.there:
            return False
        return round_ in self.backdoor.inject if self.plan.armed else round_ >= self.agents.start


def assemble(
    population: Population,
    data: Dataset,
    numbers: range,
    manifest: Manifest,
    tell: Callable[[int, float], None] = lambda _round, _strength: None,
) -> Cohort:
    """Make the cohort of the agents with these numbers, for the run of this manifest.

    ``tell``: what attackers call when they strike; see ``World``.

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
    plan = population.plan
    try:
        network = models.MODELS.agreed(manifest.model, population.model)
        chosen = judges.JUDGES.agreed(manifest.judge, population.judge)
    except ValueError as why:
        raise MismatchError(str(why)) from why
    model = models.build(network, data.shape, data.classes, plan.seed)
    if tuple((t.name, t.shape) for t in tensors(model)) != manifest.tensors:
        raise MismatchError(f"our model {manifest.model!r} is not the one of the run's manifest")
    holdings, holders = deal(plan, data), plan.holders
    mine = [place for place, number in enumerate(holders) if number in numbers]
    shards = Shards(
        torch.from_numpy(data.x_train),
        torch.from_numpy(data.y_train),
        torch.from_numpy(holdings.agents[mine]),
    )
    if mine:
        check_batches(model, data.shape, manifest.batch_size, shards.indices.shape[1])
    row = {holders[place]: index for index, place in enumerate(mine)}
    judge = judges.build(chosen, minimum_history=manifest.minimum_history, **manifest.judge_options)
    # The attackers' own seed: anything but that of the first global model.
    world = World(
        model=model,
        plan=Training(
            manifest.epochs, manifest.batch_size, manifest.learning_rate, manifest.momentum
        ),
        data=shards,
        row=row,
        scale=population.agents.scale,
        fresh=lambda: flatten(models.build(network, data.shape, data.classes, plan.seed + 1)),
        tell=tell,
        strike=_strike(population, holdings, judge),
    )
    return Cohort(
        _members(population, numbers, world, judge),
        model,
        shards,
        manifest.classes,
        plan.seed,
        manifest.look_back,
        manifest.history_codec,
        population.struck,
        plan.n,
    )


def fleet_of(
    population: Population,
    data: Dataset,
    numbers: range,
    hub: Hub,
    say: Callable[[str], None] = print,
    stopping: Callable[[], bool] = lambda: False,
    tell: Callable[[int, float], None] = lambda _round, _strength: None,
    *,
    shared: bool = False,
    waiting: Waiting | None = None,
) -> Fleet:
    """Make the fleet of the agents with these numbers; ``shared``: they hear through one downlink.

    The one place where a population becomes a fleet, over whatever network.
    """
    return Fleet(
        hub=hub,
        names=[population.name(number) for number in numbers],
        assemble=lambda manifest: assemble(population, data, numbers, manifest, tell),
        say=say,
        stopping=stopping,
        shared=shared,
        waiting=waiting,
        remember=population.agents.remember,
        ring=population.ring,
        deals=terms(population.plan, population.data),
    )


def _members(population: Population, numbers: range, world: World, judge: Judge) -> Members:
    """Say who of these agents does what."""
    plan = population.plan
    evils, liars = plan.evils, plan.liars
    learn = honest(world)
    attack = attacks.build(plan.attack, world, population.agents.options)
    start = max(population.agents.start, population.there)
    accomplices = None
    if isinstance(attack, Collusion):
        accomplices, attack = _accomplices(plan, attack, numbers), attack.train
    elif plan.holding and not plan.armed:
        attack = dormant(attack, start, before=learn)
    elif not plan.holding:
        attack = dormant(attack, start)
    return Members(
        holders=tuple(Member(plan.name(i), i) for i in world.row),
        evil=tuple(Member(plan.name(i), i) for i in numbers if i in evils),
        liars=frozenset(plan.name(i) for i in numbers if i in liars),
        learn=learn,
        attack=attack,
        judge=judge,
        lie=validators.build(population.agents.liars),
        attackers=frozenset(plan.name(i) for i in evils),
        accomplices=accomplices,
    )


def _accomplices(plan: Plan, attack: Collusion, numbers: range) -> Accomplices:
    """Let the evil ones of these agents collude, with the ringleader if it is one of them."""
    attackers = plan.colluding
    leader = None
    if attackers and min(attackers.values()) in numbers:
        leader = Ringleader(attack.plot, attackers, plan.n, plan.seed)
    return Accomplices(attackers, plan.seed, leader)


def _tiny(data: Dataset) -> World:
    """Make a world of one agent with one sample, to try whether an attack can be built."""
    model = models.build("mlp", data.shape, data.classes, 0)
    x, y = torch.from_numpy(data.x_train[:1]), torch.from_numpy(data.y_train[:1])
    held = Shards(x, y, torch.zeros((1, 1), dtype=torch.int64))
    return World(model, Training(1, 1, 0.0, 0.0), held, {0: 0}, 1.0, lambda: flatten(model))


def _strike(population: Population, holdings: Holdings, judge: Judge) -> Strike | None:
    """Say how the evil agents put their backdoor in, if they have one."""
    if holdings.backdoor is None:
        return None
    hidden, aggregation = population.backdoor, population.aggregation
    return Strike(
        rounds=frozenset(filter(population.struck, hidden.inject)),
        backdoor=holdings.backdoor,
        pool=torch.from_numpy(holdings.pool),
        attackers=len(population.plan.evils),
        boost=hidden.boost,
        rule=aggregation.rule,
        server_lr=aggregation.server_lr,
        share=hidden.share,
        epochs=hidden.epochs,
        learning_rate=hidden.learning_rate,
        alpha=hidden.alpha,
        judge=judge,
        clean=hidden.judged_clean,
    )
