"""Who is in the whole fleet, and the cohort that a process makes of its part.

Everything is drawn from the seed for the whole fleet (``fedjury.learning.partition``), of which a
process then takes its part; so a fleet is the same however it is cut into shards and processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from fedjury import attacks, judges
from fedjury.agents.agent_batch import AgentBatch, Member, Members
from fedjury.agents.agent_runner import AgentRunner
from fedjury.agents.collusion import ColluderPool, Colluders, Coordinator
from fedjury.agents.waiting import Waiting
from fedjury.attacks import AttackContext, BackdoorConfig, Collusion, idle_until, validators
from fedjury.attacks.honest import honest
from fedjury.config.sections import Agents, Aggregation, Backdoor, Data
from fedjury.judges.judgements import Judge
from fedjury.learning import datasets, models
from fedjury.learning.datasets import split
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.partition import Partition, PartitionSpec, partition, terms
from fedjury.learning.training import Shards, Training, check_batches, unequal
from fedjury.learning.weights import flatten, tensors
from fedjury.protocol.messages import Manifest
from fedjury.protocol.transport.connection import Transport
from fedjury.randomness import Purpose


class MismatchError(ValueError):
    """Our data do not fit what the run's manifest asks for."""


class SimulatedAgents(NamedTuple):
    """The whole fleet: who is in it, and the settings of what they do."""

    spec: PartitionSpec
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
    def without_data(self) -> frozenset[int]:
        """The numbers of the malicious agents."""
        return self.spec.malicious_agents

    @property
    def late(self) -> frozenset[int]:
        """The numbers of those who are not there from the beginning."""
        return self.spec.malicious_agents if self.agents.arrive > 1 else frozenset()

    @property
    def colluders(self) -> Colluders:
        """What sets the malicious agents apart on the network."""
        colluding = self.spec.colluding
        late = frozenset(self.name(number) for number in self.late)
        return Colluders(frozenset(colluding), next(iter(colluding), ""), late, self.agents.arrive)

    def name(self, number: int) -> str:
        """Return an agent's name on the wire."""
        return self.spec.name(number)

    def check(self) -> Dataset:
        """Load the data set, so that it is there for all processes; check whatever can be checked.

        Raises
        ------
        ValueError
            If a name or a value is not valid, or the data cannot be had, or not be dealt so.
        """
        spec = self.spec
        if spec.attack == "honest":
            raise ValueError("'honest' is not an attack; for no malicious agents use --evil 0")
        attacks.ATTACKS.check(spec.attack, self.agents.options)
        validators.build(self.agents.vote_attack)
        split.build(spec.split, **spec.split_options)
        spec.arms()
        data = datasets.load(self.data.name, Path(self.data.root), self.data.test)
        partition(spec, data)
        attacks.build(spec.attack, _tiny(data), self.agents.options)
        return data

    def repeats(self, data: Dataset) -> str:
        """Say how often samples are dealt where there are too few for all; empty if not."""
        dealt = partition(self.spec, data).agents
        distinct = dealt.size - split.repeats(dealt)
        if dealt.size == distinct:
            return ""
        return (
            f"the training set is too small for so many samples: {dealt.size:,} samples are dealt, "
            f"{distinct:,} of them different, so each {dealt.size / distinct:.1f} times on average"
        )

    @property
    def there(self) -> int:
        """The first round in which malicious agents may attack: those that come late are there."""
        arrive = self.agents.arrive
        return arrive + 1 if arrive > 1 else 1

    def attacked(self, round_: int) -> bool:
        """Say whether the malicious agents strike in a round."""
        if not self.spec.malicious_agents or round_ < self.there:
            return False
        return round_ in self.backdoor.inject if self.spec.armed else round_ >= self.agents.start


def assemble(
    simulated: SimulatedAgents,
    data: Dataset,
    numbers: range,
    manifest: Manifest,
    send: Callable[[int, float], None] = lambda _round, _strength: None,
) -> AgentBatch:
    """Make the cohort of the agents with these numbers, for the run of this manifest.

    ``send``: what attackers call when they strike; see ``AttackContext``.

    Raises
    ------
    MismatchError
        If the manifest asks for another network or other data than we have.
    """
    if (data.shape, data.classes) != (manifest.input_shape, manifest.classes):
        raise MismatchError(
            f"the run trains on inputs {manifest.input_shape} of {manifest.classes} classes, "
            f"data set {data.name!r} has {data.shape} of {data.classes}; use the run's own --data"
        )
    spec = simulated.spec
    try:
        network = models.MODELS.agreed(manifest.model, simulated.model)
        chosen = judges.JUDGES.agreed(manifest.judge, simulated.judge)
    except ValueError as why:
        raise MismatchError(str(why)) from why
    model = models.build(network, data.shape, data.classes, spec.seed)
    if tuple((t.name, t.shape) for t in tensors(model)) != manifest.tensors:
        raise MismatchError(
            f"this program's model {manifest.model!r} is not the one of the run's manifest"
        )
    holdings, holders = partition(spec, data), spec.holders
    mine = [place for place, number in enumerate(holders) if number in numbers]
    shards = Shards(
        torch.from_numpy(data.x_train),
        torch.from_numpy(data.y_train),
        torch.from_numpy(holdings.agents[mine]),
        unequal(holdings.held, mine),
    )
    if mine:
        check_batches(model, data.shape, manifest.batch_size, int(holdings.held[mine].min()))
    row = {holders[place]: index for index, place in enumerate(mine)}
    judge = judges.build(chosen, minimum_history=manifest.minimum_history, **manifest.judge_options)
    attack = AttackContext(
        model=model,
        plan=Training(
            manifest.epochs, manifest.batch_size, manifest.learning_rate, manifest.momentum
        ),
        data=shards,
        row=row,
        scale=simulated.agents.scale,
        fresh=lambda: flatten(
            models.build(network, data.shape, data.classes, spec.seed, Purpose.FAKE_MODEL)
        ),
        send=send,
        backdoor=_backdoor_config(simulated, holdings, judge),
    )
    return AgentBatch(
        _members(simulated, numbers, attack, judge),
        model,
        shards,
        manifest.classes,
        spec.seed,
        manifest.look_back,
        manifest.history_codec,
        simulated.attacked,
        spec.n,
    )


def runner_of(
    simulated: SimulatedAgents,
    data: Dataset,
    numbers: range,
    transport: Transport,
    say: Callable[[str], None] = print,
    stopping: Callable[[], bool] = lambda: False,
    send: Callable[[int, float], None] = lambda _round, _strength: None,
    *,
    shared: bool = False,
    waiting: Waiting | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AgentRunner:
    """Make the fleet of the agents with these numbers; ``shared``: they hear through one downlink.

    The one place where a population becomes a fleet, over whatever network.
    """
    return AgentRunner(
        transport=transport,
        names=[simulated.name(number) for number in numbers],
        assemble=lambda manifest: assemble(simulated, data, numbers, manifest, send),
        say=say,
        stopping=stopping,
        shared=shared,
        waiting=waiting,
        clock=clock,
        remember=simulated.agents.remember,
        colluders=simulated.colluders,
        partition=terms(simulated.spec, simulated.data),
    )


def _members(
    simulated: SimulatedAgents, numbers: range, world: AttackContext, judge: Judge
) -> Members:
    """Say who of these agents does what."""
    spec = simulated.spec
    malicious, malicious_validators = spec.malicious_agents, spec.malicious_validators
    learn = honest(world)
    attack = attacks.build(spec.attack, world, simulated.agents.options)
    start = max(simulated.agents.start, simulated.there)
    colluders = None
    if isinstance(attack, Collusion):
        colluders, attack = _colluder_pool(spec, attack, numbers), attack.train
    elif spec.holding and not spec.armed:
        attack = idle_until(attack, start, before=learn)
    elif not spec.holding:
        attack = idle_until(attack, start)
    return Members(
        holders=tuple(Member(spec.name(i), i) for i in world.row),
        malicious=tuple(Member(spec.name(i), i) for i in numbers if i in malicious),
        malicious_validators=frozenset(spec.name(i) for i in numbers if i in malicious_validators),
        train=learn,
        attack=attack,
        judge=judge,
        vote_attack=validators.build(simulated.agents.vote_attack),
        attackers=frozenset(spec.name(i) for i in malicious),
        colluders=colluders,
    )


def _colluder_pool(spec: PartitionSpec, attack: Collusion, numbers: range) -> ColluderPool:
    """Let the evil ones of these agents collude, with the coordinator if it is one of them."""
    attackers = spec.colluding
    coordinator = None
    if attackers and min(attackers.values()) in numbers:
        coordinator = Coordinator(attack.plot, attackers, spec.n, spec.seed)
    return ColluderPool(attackers, spec.seed, coordinator)


def _tiny(data: Dataset) -> AttackContext:
    """Make a world of one agent with one sample, to try whether an attack can be built."""
    model = models.build("mlp", data.shape, data.classes, 0)
    x, y = torch.from_numpy(data.x_train[:1]), torch.from_numpy(data.y_train[:1])
    held = Shards(x, y, torch.zeros((1, 1), dtype=torch.int64))
    return AttackContext(model, Training(1, 1, 0.0, 0.0), held, {0: 0}, 1.0, lambda: flatten(model))


def _backdoor_config(
    simulated: SimulatedAgents, partition: Partition, judge: Judge
) -> BackdoorConfig | None:
    """Say how the malicious agents put their backdoor in, if they have one."""
    if partition.backdoor is None:
        return None
    hidden, aggregation = simulated.backdoor, simulated.aggregation
    return BackdoorConfig(
        rounds=frozenset(filter(simulated.attacked, hidden.inject)),
        backdoor=partition.backdoor,
        pool=torch.from_numpy(partition.pool),
        attackers=len(simulated.spec.malicious_agents),
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
