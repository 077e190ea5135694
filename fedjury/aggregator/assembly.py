"""Making what an aggregator runs on of the settings: model, manifest and policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fedjury import detection, judges, rules
from fedjury.aggregator import guarded
from fedjury.aggregator.in_cells import (
    blind_detectors,
    rows_of,
    strategy_in,
    sums_of,
    told_to_cells,
)
from fedjury.aggregator.matrix_pool import MatrixPool
from fedjury.aggregator.noisy import noisy_mean_of
from fedjury.aggregator.pooling import pool_of
from fedjury.aggregator.rule import checked_rule, needs_of
from fedjury.aggregator.secure_terms import least_of, secure_counts_of, secure_terms_of
from fedjury.aggregator.server_update import server_update
from fedjury.config.settings import Settings
from fedjury.detection.state import DetectionPolicy
from fedjury.judges.server_validator import ServerValidator, server_validator
from fedjury.learning import datasets, models
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.device import device_named
from fedjury.learning.evaluation import (
    answers_on,
    check_answers,
    check_loss,
    flaw_of,
    metrics_of,
    success_of,
)
from fedjury.learning.own_model import OwnModel, TorchModel
from fedjury.learning.partition import Partition, PartitionSpec, partition, partition_spec_of
from fedjury.learning.saved import read_weights
from fedjury.learning.task import Task, task_of
from fedjury.learning.training import Training, check_batches, trained
from fedjury.learning.weights import Vector, variances
from fedjury.protocol.compression import compress, decompress, encoding_of
from fedjury.protocol.messages import Manifest
from fedjury.protocol.record import Quality
from fedjury.protocol.transport.once_only import OnceOnlyWarnings
from fedjury.registry import BACKDOORS, LOSSES, MODELS, OPTIMIZERS, Need
from fedjury.registry.faults import Plugin, Tell, theirs
from fedjury.round.collect import COLLECT, CollectStrategy
from fedjury.round.collect.applied import Checked
from fedjury.round.state import RoundConfig

NO_DATA = "none"
"""The name of the data set of an aggregator that has none."""

Measure = Callable[[Vector], Quality]


def unmeasured(_: Vector) -> Quality:
    """Measure nothing: that is left to the agents."""
    return Quality()


ENVELOPE = 1000
"""Bytes of a payload around the vector, at the most."""


class Parts(NamedTuple):
    """What an aggregator is built from."""

    model: OwnModel
    """With the first weights in it."""
    manifest: Manifest
    config: RoundConfig
    data: Mapping[str, str]
    """The data set's fingerprint; see ``Dataset.fingerprint``. Empty: it has no data."""
    notes: tuple[str, ...] = ()
    """What people should know of the data set."""


def build(settings: Settings, data: Dataset | None = None) -> Parts:
    """Build data (if not given), model, manifest and policy; ``ValueError`` says what cannot be."""
    if settings.data.name == NO_DATA:
        return without_data(settings, built_without_data(settings))
    if data is None:
        data = datasets.chosen(settings.data)
    task = task_for(settings, data)
    device = device_named(settings.run.device)
    model = task.build(settings.model.name, data.shape, seed=settings.run.seed).to(device)
    some = torch.from_numpy(data.x_test[:2]), torch.from_numpy(data.y_test[:2])
    check_answers(settings.model.name, model, some[0], task)
    check_loss(settings.training.loss, model, *some, task)
    if settings.model.init:
        read_weights(Path(settings.model.init), model)
    options = settings.training.options
    if not training_of(settings).plain:  # making one of PyTorch's costs 80 MB
        OPTIMIZERS.build(settings.training.optimizer, trained(model), 0.1, options=options)
    held = partition(partition_spec_of(settings), data)
    rule = checked_rule(settings)
    check_trainable(settings, model, data, held)
    notices = OnceOnlyWarnings()
    look = look_with(settings, task, model, data, held, notices.add)
    config = round_config_of(settings, rule, variances(model), look, notices, data.classes)
    manifest = manifest_of(settings, TorchModel(model), data)
    parts = Parts(TorchModel(model), manifest, config, data.fingerprint(), data.notes)
    check_first(settings, parts)
    return parts


def built_without_data(settings: Settings) -> OwnModel:
    """Build the network where nobody knows the shape of an input; it has to know that itself."""
    device = device_named(settings.run.device)
    model = models.build(settings.model.name, (), 0, seed=settings.run.seed).to(device)
    if settings.model.init:
        read_weights(Path(settings.model.init), model)
    return TorchModel(model)


def without_data(settings: Settings, model: OwnModel, measure: Measure = unmeasured) -> Parts:
    """Build what an aggregator needs that has no data of its own; ``ValueError`` if it needs some.

    ``measure``: how good it finds a model (d,), if it has means to know.
    """
    if settings.data.server:
        raise ValueError("data.server is a share of the data set, and data.name is none")
    if settings.validation.server:
        raise ValueError("validation.judged_by: without data the server cannot judge; take clients")
    rule = checked_rule(settings)
    config = round_config_of(settings, rule, model.variances, Look(measure), OnceOnlyWarnings())
    parts = Parts(model, manifest_of(settings, model), config, {})
    check_first(settings, parts)
    return parts


def check_first(settings: Settings, parts: Parts) -> None:
    """Refuse a model that is too large for our payloads, or first weights that it cannot use."""
    weights = parts.model.read()
    check_size(settings, weights)
    if settings.model.init and settings.limits.finite and (why := parts.config.flaw(weights)):
        raise ValueError(f"{settings.model.init} cannot be used as the first model: {why}")


class Look(NamedTuple):
    """What an aggregator looks at models with."""

    measure: Measure
    flaw: Callable[[Vector], str] = lambda _: ""
    server_validator: ServerValidator | None = None
    server_update: Callable[[Vector, int], Vector] | None = None


def quality_of(
    values: Mapping[str, float], backdoor: float | None = None, *, known: bool = True
) -> Quality:
    """Return what the server measured of a model; beside accuracy, under names of its own.

    ``known``: whether its accuracy is one.
    """
    accuracy = values.get("accuracy") if known else None
    others = {f"server_{key}": value for key, value in values.items() if key != "accuracy"}
    return Quality(accuracy, backdoor, others)


def plugins_of(settings: Settings) -> tuple[Plugin, ...]:
    """Return what of somebody else's is called by the thousand, where it is not looked at."""
    backdoor = settings.backdoor.task if partition_spec_of(settings).armed else ""
    return theirs(
        (LOSSES, settings.training.loss),
        (OPTIMIZERS, settings.training.optimizer),
        (MODELS, settings.model.name),
        (BACKDOORS, backdoor),
    )


def look_with(
    settings: Settings, task: Task, model: nn.Module, data: Dataset, held: Partition, tell: Tell
) -> Look:
    """Let it look with held-out samples, and vote and train with those that it keeps.

    ``tell``: told what of somebody else's fails.
    """
    votes, spec = settings.validation, partition_spec_of(settings)
    judge = judges.build(votes.judge, minimum_history=votes.history, **votes.options)
    answers = answers_on(model, torch.from_numpy(data.x_test), task)
    metrics = metrics_of(answers, torch.from_numpy(data.y_test), task, tell)
    hidden = success_of(model, held.backdoor, task) if held.backdoor else None
    keeps = spec.server and votes.server
    plugins = plugins_of(settings)

    def measure(weights: Vector) -> Quality:
        success = hidden(weights) if hidden else None
        return quality_of(metrics(weights), success, known=bool(task.classes))

    return Look(
        measure=guarded.measure(measure, plugins, tell),
        flaw=guarded.flaw(flaw_of(answers), plugins),
        server_validator=server_validator(
            model,
            task,
            data,
            held.server,
            judge,
            votes.look_back,
            settings.wire.history,
            tell,
            with_counts=votes.decide == "pooled",
        )
        if keeps
        else None,
        server_update=server_update_of(settings, task, model, data, held),
    )


def round_config_of(
    settings: Settings,
    rule: rules.Rule,
    variances: npt.NDArray[np.int64],
    look: Look,
    notices: OnceOnlyWarnings,
    classes: int = 0,
) -> RoundConfig:
    """Make the policy of a run, of its settings and of what the server looks at models with.

    ``notices``: where what fails in plug-ins is told. ``classes``: 0 where none are known.
    """
    return RoundConfig(
        rule=rule,
        measure=look.measure,
        flaw=look.flaw,
        variances=variances,
        run=settings.run,
        aggregation=settings.aggregation,
        sampling=settings.sampling,
        collect=settings.collect,
        validation=settings.validation,
        limits=settings.limits,
        evaluation=settings.evaluation,
        groups=settings.groups,
        cells=settings.cells,
        collecting=strategy_in(settings, strategy_of(settings)),
        sums=sums_of(settings),
        rows=rows_of(settings),
        server_validator=look.server_validator,
        pool=pool_of(settings.validation, classes, notices.add),
        forced=forced(settings, partition_spec_of(settings)),
        detection=detection_policy_of(settings, notices.add),
        server_update=look.server_update,
        rule_state=Need.STATE in needs_of(settings),
        noisy=noisy_mean_of(settings),
        secure=secure_terms_of(settings),
        secure_counts=secure_counts_of(settings),
        troubles=notices.take,
    )


def strategy_of(settings: Settings) -> CollectStrategy[Any]:
    """Build the collect strategy; ``ValueError`` says what is wrong."""
    name = settings.collect.strategy
    built = COLLECT.build(
        name,
        settings.collect.threshold,
        settings.limits.samples,
        MatrixPool().take,
        options=settings.collect.options,
    )
    return built if name in COLLECT.own else Checked(name, built)


def server_update_of(
    settings: Settings, task: Task, model: nn.Module, data: Dataset, partition: Partition
) -> Callable[[Vector, int], Vector] | None:
    """Return what the server learns from its own data in a round, if the rule needs it."""
    if Need.SERVER_UPDATE not in needs_of(settings):
        return None
    samples = max(1, int(partition.held.mean())) if len(partition.held) else 1
    plan, seed = training_of(settings), settings.run.seed
    learn = server_update(model, task, data, partition.server, samples, plan, seed)
    return guarded.server_update(learn, plugins_of(settings))


def check_trainable(settings: Settings, model: nn.Module, data: Dataset, held: Partition) -> None:
    """Refuse data that are too few to train on; ``ValueError`` says for whom."""
    shares = [fewest] if (fewest := held.fewest()) else []
    if Need.SERVER_UPDATE in needs_of(settings):
        shares.append(len(held.server))
    for samples in shares:
        check_batches(model, data.shape, settings.training.batch_size, samples)


def detection_policy_of(settings: Settings, tell: Tell = detection.untold) -> DetectionPolicy:
    """Say how fakes are looked for; ``ValueError`` says which names or values cannot be.

    ``tell``: told where a detector of somebody else's fails.
    """
    message = settings.detection
    if odd := set(message.options) - set(message.detectors):
        raise ValueError(f"options of a detector that is not used: {', '.join(sorted(odd))}")
    blind = blind_detectors(settings)
    return DetectionPolicy(
        detectors={
            name: detection.build(name, tell, **message.options.get(name, {}))
            for name in message.detectors
            if name not in blind
        },
        rules=message,
        newcomers=settings.sampling.newcomers,
        update_sums=Need.UPDATE_SUMS in needs_of(settings),
    )


def training_of(settings: Settings) -> Training:
    """Say how agents train."""
    said = settings.training
    optimizer = said.optimizer, said.options
    return Training(said.epochs, said.batch_size, said.learning_rate, said.momentum, *optimizer)


def task_for(settings: Settings, data: Dataset) -> Task:
    """Return what a run learns from its data."""
    said = settings.training
    return task_of(
        data,
        loss=said.loss,
        loss_options=said.loss_options,
        metrics=said.metrics,
        trainable=settings.model.trainable,
    )


def forced(settings: Settings, spec: PartitionSpec) -> dict[int, tuple[str, ...]]:
    """Say which attackers contribute in which rounds, whoever is drawn."""
    if not (spec.armed and settings.backdoor.forced):
        return {}
    attackers = tuple(spec.name(number) for number in sorted(spec.malicious_agents))
    return dict.fromkeys(settings.backdoor.inject, attackers)


def check_size(settings: Settings, weights: Vector) -> None:
    """Refuse a model too large for the payloads we accept; ``ValueError`` says by how much."""
    for codec in (settings.wire.codec, settings.wire.history):
        decompress(compress(weights, codec))  # raises if there is no such codec, or it fails
    if encoding_of(settings.wire.history).sender is not None:
        raise ValueError(
            f"wire.history = {settings.wire.history!r}: this codec leaves out of an update what it "
            "adds to the sender's next one; a model has no next one, so take another codec for it"
        )
    needed = weights.nbytes + ENVELOPE  # models travel as float32, whatever updates do
    if needed > settings.limits.size:
        raise ValueError(
            f"model {settings.model.name!r} takes {needed:,} bytes, more than limits.size "
            f"({settings.limits.size:,}); raise that, and max_packet_size of the broker"
        )


def manifest_of(settings: Settings, model: OwnModel, data: Dataset | None = None) -> Manifest:
    """Say what the run is about, for agents."""
    layout = model.layout
    return Manifest(
        model=settings.model.name,
        tensors=layout,
        parameters=sum(int(np.prod(shape, dtype=np.int64)) for _, shape in layout),
        classes=data.classes if data else 0,
        input_shape=data.shape if data else (),
        fixed=model.fixed,
        epochs=settings.training.epochs,
        batch_size=settings.training.batch_size,
        learning_rate=settings.training.learning_rate,
        momentum=settings.training.momentum,
        codec=settings.wire.codec,
        history_codec=settings.wire.history,
        max_bytes=settings.limits.size,
        judge=settings.validation.judge,
        judge_options=dict(settings.validation.options),
        look_back=settings.validation.look_back,
        minimum_history=settings.validation.history,
        loss=settings.training.loss,
        loss_options=dict(settings.training.loss_options),
        optimizer=settings.training.optimizer,
        optimizer_options=dict(settings.training.options),
        counts=settings.validation.decide == "pooled",
        group_judge=settings.validation.group_judge,
        secure=least_of(settings),
        cells=told_to_cells(settings),
    )
