"""FLDetector (Zhang, Cao, Jia, Gong, KDD 2022): who is not where its last update said it would be.

An honest update changes with the model: g_t is about g_s + H (w_t - w_s), where H is the Hessian
integrated between the two models. L-BFGS gives H times a vector from the last models alone. The
distances between predicted and received updates are divided by their mean in the round, and an
agent's suspicion is the mean of its last ``window`` distances. If the Gap statistic sees more than
one cluster in these, 2-means splits them, and those of the upper cluster are flagged.

Decisions of ours. What the rule made of a round is what came of the model: g_t is
(w_{t+1} - w_t) / η, so a rejected round says nothing of H. An agent that was not called is
predicted from its own last update. Zeros say nothing: fakes that are idle are predicted so well
that the honest are the upper cluster. Once the window is full, whoever has any distance is judged:
else fakes would have ``window`` rounds from their first strike on. And the score is s / (s + b): b
lies in the middle between the clusters, or, if there is one, at twice the highest suspicion s,
which keeps all scores below 1/2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjury.detection.angles import about_squared_norms
from fedjury.detection.detector import Detector, Memory, Observation, Scores
from fedjury.detection.gaps import boundary
from fedjury.detection.rows import Floats, Ints, Values, aligned
from fedjury.detection.sent import Sent, last_sent, pairs
from fedjury.registry import detector
from fedjury.registry.bounds import AtLeastOne, Positive


class Path(NamedTuple):
    """The models that were trained from, one a version."""

    rounds: Ints
    """(m,), ascending: the round in which each was new."""
    models: Floats
    """(m, d)."""


@detector(report="sent updates that their last ones did not predict", needs=["updates"])
def fldetector(window: AtLeastOne = 10, server_lr: Positive = 1.0) -> Detector:
    """Build the detector of agents whose updates cannot be predicted.

    ``window``: model changes that L-BFGS goes by, and distances that are averaged; nobody is
    judged before the model has changed ``window`` + 1 times. ``server_lr``: the server's step
    size η.
    """

    def detect(observation: Observation, memory: Memory) -> tuple[Scores, Memory]:
        if "distances" in memory and memory["distances"].shape[1] != window:
            memory = {}  # of a run that was resumed with another window
        scores: dict[str, float] = dict.fromkeys(observation.names, 0.0)
        squares = about_squared_norms(observation.updates)
        usable = np.flatnonzero(np.isfinite(squares) & (squares > 0))
        if not len(usable) or not np.isfinite(observation.weights).all():
            return scores, memory
        if "models" in memory and np.array_equal(memory["models"][-1], observation.weights):
            return scores, memory  # nothing to predict: who repeats itself best is not honest
        path, sent = _path(observation, memory, window), last_sent(memory, "distances")
        distances = _distances(observation, usable, path, sent, server_lr, window)
        if len(path.models) == window + 2:
            judged = np.flatnonzero(np.isfinite(distances).any(axis=1))
            result = _scores(np.nanmean(distances[judged], axis=1))
            names = [observation.names[i] for i in usable[judged].tolist()]
            scores |= dict(zip(names, result.tolist(), strict=True))
        sent = sent.plus(observation, usable, {"distances": distances})
        kept: Values = {"rounds": path.rounds, "models": path.models.astype(np.float32)}
        return scores, {**sent.memory(), **kept}

    return detect


def _scores(suspicions: Floats) -> Floats:
    """Turn suspicions (k,) into scores; see above."""
    if not len(suspicions):
        return suspicions
    split = boundary(suspicions)
    split = 2 * suspicions.max() if split is None else split
    return suspicions / (suspicions + split) if split > 0 else np.zeros(len(suspicions))


def _path(observation: Observation, memory: Memory, window: int) -> Path:
    """Add the round's model to those before it, unless it is the last one again."""
    rounds, models = (
        np.array([observation.round]),
        observation.weights[np.newaxis].astype(np.float64),
    )
    if "rounds" not in memory:
        return Path(rounds, models)
    before = memory["models"].astype(np.float64)
    if np.array_equal(before[-1], models[0]):
        return Path(memory["rounds"].astype(np.int64), before)
    rounds = np.concatenate([memory["rounds"].astype(np.int64), rounds])
    return Path(rounds[-window - 2 :], np.concatenate([before, models])[-window - 2 :])


def _distances(
    observation: Observation, usable: Ints, path: Path, sent: Sent, server_lr: float, window: int
) -> Floats:
    """Return these senders' (n,) last distances with this round's, (n, window); NaN: none."""
    names = [observation.names[i] for i in usable.tolist()]
    now = np.full(len(names), np.nan)
    steps, shifts = np.diff(path.models, axis=0) / server_lr, dict[int, Floats]()
    for before, those, old, at in sent.rounds(names) if len(steps) > 1 else ():
        # The model that an agent trained from last is the newest that is not later than it.
        base = int(np.searchsorted(path.rounds, before, side="right")) - 1
        if base < 0:
            continue
        if base not in shifts:
            shifts[base] = hessian_product(
                steps[:-1] * server_lr, np.diff(steps, axis=0), path.models[-1] - path.models[base]
            )
        for block, new, then in pairs(observation.updates, usable[those], old, at):
            gone = new - shifts[base]
            gone -= then
            now[those[block]] = np.sqrt(np.einsum("nd,nd->n", gone, gone))
    told = np.isfinite(now)
    mean = now[told].mean() if told.any() else 0.0
    now[told] = now[told] / mean if mean > 0 else 0.0
    earlier = aligned(sent.rows, "distances", names, np.nan, (window,))
    return np.where(told[:, np.newaxis], np.column_stack([earlier[:, 1:], now]), earlier)


def hessian_product(steps: Floats, changes: Floats, vector: Floats) -> Floats:
    """Return H v (d,), with H from L-BFGS in compact form (Byrd, Nocedal, Schnabel 1994).

    ``steps``: (m, d), of the model, oldest first. ``changes``: (m, d), of the gradient along these.
    """
    sigma = (changes[-1] @ steps[-1]) / (steps[-1] @ steps[-1])
    products = steps @ changes.T
    lower, diagonal = np.tril(products, -1), np.diag(np.diag(products))
    system = np.block([[sigma * (steps @ steps.T), lower], [lower.T, -diagonal]])
    right = np.concatenate([sigma * (steps @ vector), changes @ vector])
    if not (np.isfinite(system).all() and np.isfinite(right).all()):
        return np.zeros_like(vector)  # a ruined model: the last update is the best guess
    solved = np.linalg.lstsq(system, right, rcond=None)[0]
    first, second = np.split(solved, 2)
    product: Floats = sigma * vector - sigma * (first @ steps) - second @ changes
    return product
