"""Making what an aggregator runs on of the settings: model, manifest and policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fedjury import detection, judges, rules
from fedjury.aggregator.matrix_pool import MatrixPool
from fedjury.aggregator.server_update import server_update
from fedjury.config.settings import Settings
from fedjury.detection.state import DetectionPolicy
from fedjury.judges.server_validator import server_validator
from fedjury.learning import datasets
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.device import device_named
from fedjury.learning.evaluation import answers_on, flaw_of, metric_of, success_of
from fedjury.learning.partition import Partition, PartitionSpec, partition, partition_spec_of
from fedjury.learning.saved import read_weights
from fedjury.learning.task import Task, task_of
from fedjury.learning.training import Training, check_batches
from fedjury.learning.weights import Vector, flatten, tensors, variances
from fedjury.protocol.compression import compress, encoding_of
from fedjury.protocol.messages import Manifest
from fedjury.protocol.record import Quality
from fedjury.randomness import Purpose, stream
from fedjury.registry import Need
from fedjury.reports import jury
from fedjury.round.collect import COLLECT
from fedjury.round.state import RoundConfig

ENVELOPE = 1000
"""Bytes of a payload around the vector, at the most."""


TRIED = 2000
"""Updates that a rule is tried with at the most: some compare all with all."""


class Parts(NamedTuple):
    """What an aggregator is built from."""

    model: nn.Module
    manifest: Manifest
    config: RoundConfig
    data: Mapping[str, str]
    """The data set's fingerprint; see ``Dataset.fingerprint``."""
    notes: tuple[str, ...] = ()
    """What people should know of the data set."""


def build(settings: Settings, data: Dataset | None = None) -> Parts:
    """Build data (if not given), model, manifest and policy; ``ValueError`` says what cannot be."""
    if data is None:
        data = datasets.load(settings.data.name, Path(settings.data.root), settings.data.test)
    task = task_of(data)
    device = device_named(settings.run.device)
    model = task.build(settings.model.name, data.shape, seed=settings.run.seed).to(device)
    if settings.model.init:
        read_weights(Path(settings.model.init), model)
    check_size(settings, flatten(model))
    rule = rule_of(settings)
    check_rule(settings, rule)
    holdings = partition(
        partition_spec_of(settings), data
    )  # even if unused: agents would fail at the same
    check_trainable(settings, model, data, holdings)
    config = round_config_of(settings, rule, task, model, data, holdings)
    if settings.model.init and settings.limits.finite and (why := config.flaw(flatten(model))):
        raise ValueError(f"{settings.model.init} cannot be used as the first model: {why}")
    manifest = manifest_of(settings, data, model)
    return Parts(model, manifest, config, data.fingerprint(), data.notes)


def round_config_of(
    settings: Settings,
    rule: rules.Rule,
    task: Task,
    model: nn.Module,
    data: Dataset,
    partition: Partition,
) -> RoundConfig:
    """Make the policy of a run, of its settings and of what the server looks at models with."""
    votes, spec = settings.validation, partition_spec_of(settings)
    judge = judges.build(votes.judge, minimum_history=votes.history, **votes.options)
    answers = answers_on(model, torch.from_numpy(data.x_test), task)
    metric = metric_of(answers, torch.from_numpy(data.y_test), task)
    hidden = success_of(model, partition.backdoor, task) if partition.backdoor else None
    return RoundConfig(
        rule=rule,
        measure=lambda weights: Quality(metric(weights), hidden(weights) if hidden else None),
        flaw=flaw_of(answers),
        variances=variances(model),
        run=settings.run,
        aggregation=settings.aggregation,
        sampling=settings.sampling,
        collect=settings.collect,
        validation=votes,
        limits=settings.limits,
        evaluation=settings.evaluation,
        collecting=COLLECT.build(
            settings.collect.strategy,
            settings.collect.threshold,
            settings.limits.samples,
            MatrixPool().take,
            options=settings.collect.options,
        ),
        server_validator=server_validator(
            model, task, data, partition.server, judge, votes.look_back, settings.wire.history
        )
        if spec.server and votes.server
        else None,
        forced=forced(settings, spec),
        detection=detection_policy_of(settings),
        server_update=server_update_of(settings, task, model, data, partition),
        rule_state=Need.STATE in needs_of(settings),
    )


def server_update_of(
    settings: Settings, task: Task, model: nn.Module, data: Dataset, partition: Partition
) -> Callable[[Vector, int], Vector] | None:
    """Return what the server learns from its own data in a round, if the rule needs it."""
    if Need.SERVER_UPDATE not in needs_of(settings):
        return None
    samples = int(partition.held.mean()) if len(partition.held) else 1
    plan, seed = training_of(settings), settings.run.seed
    return server_update(model, task, data, partition.server, samples, plan, seed)


def rule_of(settings: Settings) -> rules.Rule:
    """Build the rule with its options and pre-aggregation; a ``ValueError`` says what is wrong."""
    message = settings.aggregation
    options: dict[str, Any] = dict(message.options)
    clip = options.pop("clip", message.clip) or None  # it may stand in either place
    if odd := {"name", "before"} & options.keys():
        raise ValueError(
            f"{', '.join(sorted(odd))} is not an option of the rule; see [aggregation]"
        )
    rule = rules.build(message.rule, clip, message.pre_aggregation, **options)
    if Need.SERVER_UPDATE in needs_of(settings) and not settings.data.server:
        raise ValueError(
            f"rule {message.rule!r} needs an update of the server's own: with "
            "data.server above 0 it keeps that share of the training set"
        )
    return rule


def needs_of(settings: Settings) -> frozenset[Need]:
    """Return what the rule needs beside the updates of the round."""
    return rules.RULES.facts(settings.aggregation.rule).needs


def check_rule(settings: Settings, rule: rules.Rule) -> None:
    """Try the rule on as many made-up updates as are expected; ``ValueError`` if it cannot."""
    called = settings.contributors
    n = min(settings.collect.threshold or called, called)
    if n > TRIED:
        return
    updates = stream(0, Purpose.TRIAL).standard_normal((n, 2)).astype(np.float32)
    context = rules.Context(server_update=updates[0], update_sums=updates)
    name, keeps = settings.aggregation.rule, Need.STATE in needs_of(settings)
    rules.applied(rule, name, updates, np.ones(n, np.int64), context, keeps=keeps)


def check_trainable(settings: Settings, model: nn.Module, data: Dataset, held: Partition) -> None:
    """Refuse data that are too few to train on; ``ValueError`` says for whom."""
    shares = [int(held.held.min())] if len(held.held) else []
    if Need.SERVER_UPDATE in needs_of(settings):
        shares.append(len(held.server))
    for samples in shares:
        check_batches(model, data.shape, settings.training.batch_size, samples)


def detection_policy_of(settings: Settings) -> DetectionPolicy:
    """Say how fakes are looked for; ``ValueError`` says which names or values cannot be."""
    message = settings.detection
    if odd := set(message.options) - set(message.detectors):
        raise ValueError(f"options of a detector that is not used: {', '.join(sorted(odd))}")
    return DetectionPolicy(
        detectors={
            name: detection.build(name, **message.options.get(name, {}))
            for name in message.detectors
        },
        rules=message,
        newcomers=settings.sampling.newcomers,
        update_sums=Need.UPDATE_SUMS in needs_of(settings),
    )


def training_of(settings: Settings) -> Training:
    """Say how agents train."""
    message = settings.training
    return Training(message.epochs, message.batch_size, message.learning_rate, message.momentum)


def forced(settings: Settings, spec: PartitionSpec) -> dict[int, tuple[str, ...]]:
    """Say which attackers contribute in which rounds, whoever is drawn."""
    if not (spec.armed and settings.backdoor.forced):
        return {}
    attackers = tuple(spec.name(number) for number in sorted(spec.malicious_agents))
    return dict.fromkeys(settings.backdoor.inject, attackers)


def advice(settings: Settings) -> list[str]:
    """Say who votes where agents are few, which quorums are safe, and if the chosen one is."""
    note = settings.jury_note()
    return [note, *_safety(settings)] if note else _safety(settings)


def _safety(settings: Settings) -> list[str]:
    votes = settings.validation
    voters = votes.asked + votes.server
    if votes.piggy_back:
        voters = settings.contributors
    if voters < 2 or votes.decide == "score":
        return []
    return jury.advice(voters, votes.tolerated_malicious, votes.errs, votes.rejects(voters))


def check_size(settings: Settings, weights: Vector) -> None:
    """Refuse a model too large for the payloads we accept; ``ValueError`` says by how much."""
    for codec in (settings.wire.codec, settings.wire.history):
        compress(weights, codec)  # raises if there is no such codec
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


def manifest_of(settings: Settings, data: Dataset, model: nn.Module) -> Manifest:
    """Say what the run is about, for agents."""
    layout = tensors(model)
    return Manifest(
        model=settings.model.name,
        tensors=tuple((tensor.name, tensor.shape) for tensor in layout),
        parameters=sum(tensor.size for tensor in layout),
        classes=data.classes,
        input_shape=data.shape,
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
    )
