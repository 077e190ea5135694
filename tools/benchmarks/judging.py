"""What validators do in a round, its judging alone, and the bytes of updates and of history."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest import mock

import numpy as np
import torch
from torch import nn

from fedjury import judges
from fedjury.agents import error_profile_cache
from fedjury.agents.agent import Judge
from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.batch_assembly import assemble
from fedjury.aggregator.assembly import build
from fedjury.config.settings import load
from fedjury.learning import models
from fedjury.learning.evaluation import predict, predict_each
from fedjury.learning.task import classification
from fedjury.learning.weights import Matrix, Vector, flatten
from fedjury.protocol import codec
from fedjury.protocol.compression import as_received
from fedjury.protocol.messages import History, Update
from fedjury.randomness import Purpose, stream
from tools.benchmarks.figures import ROOT, Figure, in_turn, ratios, timed
from tools.benchmarks.network import W1

VALIDATORS = 100


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure forward passes and time of a steady validator, by look-back."""
    torch.set_num_threads(1)
    figures = []
    for look_back in (10, 30):
        say(f"judging with a look-back of {look_back}")
        passes, seconds = judged(look_back, look_back + 2 + repeats)
        name = f"validator, look-back {look_back}"
        figures += [
            Figure(f"{name}: forward passes a round", passes[-repeats:], "", at_most=1),
            Figure(f"{name}: a round", [1e3 * s for s in seconds[-repeats:]], "ms"),
        ]
    say("judging alone")
    return figures + [
        Figure(
            f"{VALIDATORS} opinions, {judge}, look-back {look_back}",
            judgements(judge, look_back, repeats),
            "ms",
        )
        for judge in judges.JUDGES
        for look_back in (10, 20)
    ]


def together(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure one pass of many group candidates beside as many passes of one, in turn."""
    torch.set_num_threads(1)
    x = torch.from_numpy(stream(0, Purpose.BENCHMARK).random((600, 1, 28, 28), np.float32))
    task, figures = classification(10), []
    for name in ("mlp", "classifier", "lenet"):
        model = models.build(name, x.shape[1:], 10, 0)
        for groups in (10, 20):
            say(f"{groups} groups, {name}")
            noise = stream(1, Purpose.BENCHMARK).normal(0, 0.02, (groups, len(flatten(model))))
            weights = (flatten(model) + noise).astype(np.float32)

            def alone(model: nn.Module = model, weights: Matrix = weights) -> None:
                for row in weights:
                    predict(model, row, x, task)

            at_once = partial(predict_each, model, weights, x, task)
            ways = {"alone": partial(timed, alone), "at once": partial(timed, at_once)}
            seconds = in_turn(ways, repeats)
            title = f"{groups} group candidates, {name}, 600 samples"
            figures += [
                Figure(f"{title}: one pass", [1e3 * s for s in seconds["at once"]], "ms"),
                ratios(f"{title}: one pass / {groups}", seconds["at once"], seconds["alone"]),
            ]
    return figures


def judgements(name: str, look_back: int, repeats: int) -> list[float]:
    """Let 100 validators with 500 samples in 10 classes judge; returns milliseconds."""
    errors = stream(0, Purpose.BENCHMARK).binomial(500, 0.01, (VALIDATORS, look_back + 2, 20))
    judge = partial(judges.build(name), errors[:, :-1], errors[:, -1])
    judge()
    return [1e3 * timed(judge) for _ in range(repeats)]


def judged(look_back: int, rounds: int) -> tuple[list[int], list[float]]:
    """Let 100 validators judge every round; returns their forward passes and seconds a round."""
    settings = load(
        [ROOT / W1],
        {
            "agents.n": VALIDATORS,
            "validation.look_back": look_back,
            "data.root": str(ROOT / "data"),
        },
    )
    parts = build(settings)
    simulated = simulated_agents_of(settings)
    result = assemble(simulated, simulated.check(), range(VALIDATORS), parts.manifest)
    names = [simulated.name(number) for number in range(VALIDATORS)]
    rng, weights = stream(0, Purpose.BENCHMARK), parts.model.read()
    passes, seconds = [], []
    for version in range(rounds):
        result.keep(version, weights)
        weights = weights + rng.normal(0, 0.01, len(weights)).astype(np.float32)
        candidate = as_received(weights, parts.manifest.history_codec)
        versions = tuple(range(max(0, version - look_back), version + 1))
        task = Judge(version + 1, 1, versions)
        with mock.patch.object(error_profile_cache, "predict", side_effect=predict) as looked:
            seconds.append(timed(partial(result.votes, names, task, candidate)))
            passes.append(looked.call_count)
    return passes, seconds


def sizes() -> list[Figure]:
    """Return the bytes of an update and of a model in the history, by codec."""
    settings = load(overrides={"data.root": str(ROOT / "data")})
    weights: Vector = build(settings).model.read()
    rng = stream(0, Purpose.BENCHMARK)
    delta = rng.normal(0, 0.01, len(weights)).astype(np.float32)
    update, model = Update("agent-000", 10, 9, 4, delta), History(9, weights)
    plain = len(codec.encode(model))
    return [
        *(
            Figure(f"update, {name}", [len(codec.encode(update, name))], "bytes", at_most=most)
            for name, most in (("float32", None), ("int8", 14_000), ("int7+zstd", 14_000))
        ),
        *(
            Figure(
                f"history, {name} / float32", [len(codec.encode(model, name)) / plain], at_most=most
            )
            for name, most in (("int8", None), (settings.wire.history, 0.25))
        ),
    ]
