"""What a process makes of its part of the fleet: a batch for the run's manifest, and its runner."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection

import torch

from fedjury import attacks, judges
from fedjury.agents.agent_batch import AgentBatch
from fedjury.agents.agent_runner import AgentRunner
from fedjury.agents.collusion import ColluderPool, Coordinator
from fedjury.agents.faults import Faults, untold
from fedjury.agents.members import Member, Members
from fedjury.agents.opened_sums import opened_sums_in
from fedjury.agents.simulated import SimulatedAgents
from fedjury.agents.waiting import Waiting
from fedjury.attacks import AttackContext, BackdoorConfig, Collusion, idle_until, validators
from fedjury.attacks.honest import honest
from fedjury.judges import group_judges
from fedjury.judges.group_judges import GroupJudge
from fedjury.judges.judgements import Judge
from fedjury.learning import models
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.own_model import difference
from fedjury.learning.partition import Partition, PartitionSpec, partition, terms
from fedjury.learning.shards import Shards, unequal
from fedjury.learning.task import Task, task_of
from fedjury.learning.training import Training, check_batches
from fedjury.learning.weights import flatten, tensors
from fedjury.protocol.messages import Abilities, Manifest
from fedjury.protocol.transport.connection import Transport
from fedjury.randomness import Purpose
from fedjury.registry import BACKDOORS, LOSSES, OPTIMIZERS
from fedjury.registry.faults import theirs


class MismatchError(ValueError):
    """Our data do not fit what the run's manifest asks for."""


def assemble(
    simulated: SimulatedAgents,
    data: Dataset,
    numbers: range,
    manifest: Manifest,
    send: Callable[[int, float], None] = lambda _round, _strength: None,
    say: Callable[[str], None] = untold,
) -> AgentBatch:
    """Make the batch of the agents with these numbers, for the run of this manifest.

    ``send``: what attackers call when they strike; see ``AttackContext``. ``say``: tells people
    what fails in plug-ins of somebody else's.

    Raises
    ------
    MismatchError
        If the manifest asks for another network or other data than we have.
    """
    spec, (network, judge) = simulated.spec, agreed(simulated, data, manifest)
    data = dataclasses.replace(data, classes=manifest.classes)  # ours may lack the last of them
    task = task_in(manifest, simulated, data)
    model = task.build(network, data.shape, seed=spec.seed).to(simulated.device)
    ours = tuple((t.name, t.shape) for t in tensors(model))
    if text := difference(ours, manifest.tensors, "this program"):
        raise MismatchError(
            f"this program's model {manifest.model!r} is not the one of the run's manifest: {text} "
            "(model.name and model.trainable must be the same on both sides)"
        )
    holdings, holders = partition(spec, data), spec.holders
    mine = [place for place, number in enumerate(holders) if number in numbers]
    if fewest := holdings.fewest(mine):
        check_batches(model, data.shape, manifest.batch_size, fewest)
    shards = Shards(
        torch.from_numpy(data.x_train),
        torch.from_numpy(data.y_train),
        torch.from_numpy(holdings.agents[mine]),
        unequal(holdings.held, mine),
    )
    attack = AttackContext(
        task=task,
        model=model,
        plan=plan_of(manifest),
        data=shards,
        row={holders[place]: index for index, place in enumerate(mine)},
        scale=simulated.settings.agents.scale,
        fresh=lambda: flatten(
            task.build(network, data.shape, seed=spec.seed, purpose=Purpose.FAKE_MODEL)
        ),
        send=send,
        backdoor=_backdoor_config(simulated, holdings, judge),
    )
    compared = group_judge_of(manifest, simulated.settings.validation.group_judge)
    members = _members(simulated, numbers, attack, judge, compared, holdings)
    plugins = theirs(
        (LOSSES, manifest.loss),
        (OPTIMIZERS, manifest.optimizer),
        (models.MODELS, network),
        (BACKDOORS, spec.task if spec.armed else ""),
    )
    groups, faults = simulated.settings.groups, Faults(say, plugins)
    size = None if groups.by_key or groups.fixed else groups.size
    return AgentBatch(members, attack, manifest, spec, simulated.attacked, faults, size)


def agreed(simulated: SimulatedAgents, data: Dataset, manifest: Manifest) -> tuple[str, Judge]:
    """Return the network's name and the judge that a manifest asks for, if we have them.

    Raises
    ------
    MismatchError
        If we do not, or hold other data.
    """
    same = data.shape == manifest.input_shape and (data.classes > 0) == (manifest.classes > 0)
    if not same or data.classes > manifest.classes:
        raise MismatchError(
            f"the run trains on inputs {manifest.input_shape} of {manifest.classes} classes, "
            f"data set {data.name!r} has {data.shape} of {data.classes}; use the run's own --data"
        )
    try:
        network = models.MODELS.agreed(manifest.model, simulated.settings.model.name)
        chosen = judges.JUDGES.agreed(manifest.judge, simulated.settings.validation.judge)
        LOSSES.agreed(manifest.loss, simulated.settings.training.loss)
        optimizer = OPTIMIZERS.agreed(manifest.optimizer, simulated.settings.training.optimizer)
        OPTIMIZERS.check(optimizer, manifest.optimizer_options)
    except ValueError as why:
        raise MismatchError(str(why)) from why
    options = {"minimum_history": manifest.minimum_history, **manifest.judge_options}
    return network, judges.build(chosen, **options)


def group_judge_of(manifest: Manifest, ours: str) -> GroupJudge | None:
    """Return the judge of groups that a manifest asks for, if it does.

    Raises
    ------
    MismatchError
        If we do not have it.
    """
    if not manifest.group_judge:
        return None
    try:
        return group_judges.build(group_judges.GROUP_JUDGES.agreed(manifest.group_judge, ours))
    except ValueError as why:
        raise MismatchError(str(why)) from why


def plan_of(manifest: Manifest) -> Training:
    """Return how the agents of a run train."""
    return Training(
        manifest.epochs,
        manifest.batch_size,
        manifest.learning_rate,
        manifest.momentum,
        manifest.optimizer,
        manifest.optimizer_options,
    )


def task_in(manifest: Manifest, simulated: SimulatedAgents, data: Dataset) -> Task:
    """Return what the agents of a run learn.

    Raises
    ------
    MismatchError
        If we have no such loss.
    """
    trainable = simulated.settings.model.trainable
    try:
        return task_of(
            data, loss=manifest.loss, loss_options=manifest.loss_options, trainable=trainable
        )
    except ValueError as why:
        raise MismatchError(str(why)) from why


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
        assemble=lambda manifest: assemble(simulated, data, numbers, manifest, send, say),
        say=say,
        stopping=stopping,
        shared=shared,
        waiting=waiting,
        clock=clock,
        remember=simulated.settings.agents.remember,
        opened_sums=opened_sums_in(
            simulated.settings.agents.state,
            simulated.settings.run.name,
            simulated.name(numbers.start),
        ),
        colluders=simulated.colluders,
        partition=terms(simulated.spec, simulated.settings.data),
        abilities=abilities_of(simulated.spec, data),
    )


def abilities_of(spec: PartitionSpec, data: Dataset) -> Callable[[str], Abilities]:
    """Return what the agent of a name can do with a candidate: without data only liars vote."""
    if isinstance(spec.samples, int):
        return lambda _: Abilities(votes=True, evaluates=True)
    empty = partition(spec, data).empty(spec)
    mute = {spec.name(number) for number in empty - spec.malicious_validators}
    blind = {spec.name(number) for number in empty - spec.malicious_agents}
    return lambda name: Abilities(votes=name not in mute, evaluates=name not in blind)


def _members(
    simulated: SimulatedAgents,
    numbers: range,
    world: AttackContext,
    judge: Judge,
    group_judge: GroupJudge | None,
    holdings: Partition,
) -> Members:
    """Say who of these agents does what."""
    spec = simulated.spec
    malicious, malicious_validators = spec.malicious_agents, spec.malicious_validators
    attackers = malicious.difference(holdings.empty(spec))
    learn = honest(world)
    attack = attacks.build(spec.attack, world, simulated.settings.agents.options)
    start = max(simulated.settings.agents.start, simulated.there)
    colluders = None
    if isinstance(attack, Collusion):
        colluders, attack = _colluder_pool(spec, attack, numbers, attackers), attack.train
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
        group_judge=group_judge,
        vote_attack=validators.build(simulated.settings.agents.vote_attack),
        attackers=frozenset(spec.name(i) for i in attackers),
        usual=holdings.usual,
        claimed=simulated.settings.agents.claimed_samples,
        colluders=colluders,
    )


def _colluder_pool(
    spec: PartitionSpec, attack: Collusion, numbers: range, attackers: Collection[int]
) -> ColluderPool:
    """Let the evil ones of these agents collude, with the coordinator if it is one of them.

    The coordinator leads even if it is none of the ``attackers``, for lack of data.
    """
    colluding = spec.colluding
    expected = {name: number for name, number in colluding.items() if number in attackers}
    coordinator = None
    if colluding and min(colluding.values()) in numbers:
        coordinator = Coordinator(attack.plot, expected, spec.n, spec.seed)
    return ColluderPool(expected, spec.seed, coordinator)


def _backdoor_config(
    simulated: SimulatedAgents, partition: Partition, judge: Judge
) -> BackdoorConfig | None:
    """Say how the malicious agents put their backdoor in, if they have one."""
    if partition.backdoor is None:
        return None
    hidden, aggregation = simulated.settings.backdoor, simulated.settings.aggregation
    return BackdoorConfig(
        rounds=frozenset(filter(simulated.attacked, hidden.inject)),
        backdoor=partition.backdoor,
        pool=torch.from_numpy(partition.pool),
        attackers=len(simulated.spec.malicious_agents.difference(partition.empty(simulated.spec))),
        boost=hidden.boost,
        rule=aggregation.rule,
        server_lr=aggregation.server_lr,
        share=hidden.share,
        epochs=hidden.epochs,
        learning_rate=hidden.learning_rate,
        alpha=hidden.alpha,
        judge=judge,
        clean=hidden.judged_clean,
        weight=_weight(simulated, partition),
        group_size=simulated.settings.groups.size if hidden.replaces == "group" else 0,
    )


def _weight(simulated: SimulatedAgents, partition: Partition) -> float:
    """Return how many times as much as an honest update one with claimed samples weighs."""
    settings = simulated.settings
    claimed, most = settings.agents.claimed_samples, settings.limits.samples
    if not claimed or settings.aggregation.options.get("weighted") is not True:
        return 1.0
    return min(claimed, most) / min(partition.usual, most)
