"""Fixed points (ours): who pulls the model towards one and the same place, as MPAF's fakes do.

MPAF (Cao, Gong: CVPR workshops 2022, arXiv 2203.08669) sends g_t = λ (w' - w_t). It shows in two
ways, whatever λ is:

- within a round, a crowd sends updates in the same direction: the sine between an update and its
  (crowd - 1)-th nearest is next to nothing beside what is usual in the round;
- across rounds, an agent's update changes by -λ times the change of the model: of g_t - g_s,
  what is left beside -λ (w_t - w_s) for the best λ is next to nothing. One fake is enough.

What is left is taken relative to the change and to the update itself, whichever is smaller: an
update that once moved the mean by itself makes w_t - w_s parallel to g_s, and if the next one is
small, the change would be explained without any fixed point.

An update of zeros has no direction: it is no sign, and is not remembered. A sender of values that
are not finite is flagged at once where most updates are finite and the model is not ruined: a
model of huge weights makes honest agents overflow, and not all of them in the same round.

Who is flagged is as exact as float64 is. Who cannot be is told by cheaper arithmetic, a sketch
for the first sign (``sketch.py``) and float32 for the second, whose errors are bounded: the scores
of those are good to a digit or two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fedjury.detection.angles import (
    ERROR,
    SAFE,
    WIDTH,
    Bounds,
    about_squared_norms,
    beside_usual,
    smallness,
    squared_norms,
)
from fedjury.detection.detector import Detector, Memory, Observation, Scores
from fedjury.detection.rows import Floats, Ints
from fedjury.detection.sent import Sent, last_sent, pairs
from fedjury.detection.sketch import beside_nearest
from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import detector
from fedjury.registry.bounds import AtLeastTwo, Probability

GROWTH = 10
"""Times as long as one that is remembered: then a model is ruined."""

TINY = float(np.finfo(np.float64).tiny)


@detector(report="pulled the model towards one fixed point", needs=["updates"])
def fixed_point(
    parallel: Probability = 0.02, fixed: Probability = 0.1, crowd: AtLeastTwo = 3
) -> Detector:
    """Build the detector of agents that pull towards a fixed point.

    ``parallel``, ``fixed``: limits of the two signs, beside the median of the round. ``crowd``:
    senders in one direction that make a crowd.
    """

    def detect(observation: Observation, memory: Memory) -> tuple[Scores, Memory]:
        squares = about_squared_norms(observation.updates)
        usable = np.flatnonzero(np.isfinite(squares) & (squares > 0))
        scores = _unusable(observation, squares, memory)
        crowding = beside_nearest(
            observation.updates, squares, usable, np.arange(len(usable)), crowd - 1, parallel
        )
        sent = last_sent(memory)
        left = partial(_unexplained, observation, squares, usable, sent, memory)
        pulling = beside_usual(_roughly(left, len(usable)), fixed, partial(_exactly, left))
        scores[usable] = np.maximum(smallness(crowding, parallel), smallness(pulling, fixed))
        after = _remembered(observation, usable, sent, memory)
        return dict(zip(observation.names, scores.tolist(), strict=True)), after

    return detect


def _unusable(observation: Observation, squares: Floats, memory: Memory) -> Floats:
    """Score 1 who sends what is not finite while others do not, (n,).

    ``squares``: (n,), the updates' squared norms.
    """
    spoilt = ~np.isfinite(squares)
    lengths = squared_norms(np.vstack([*memory.get("models", ()), observation.weights]))
    sane = np.isfinite(lengths[-1]) and lengths[-1] <= GROWTH**2 * lengths.min()
    told = bool(sane) and 2 * int(spoilt.sum()) < len(spoilt)
    return np.where(spoilt & told, 1.0, 0.0)


def _unexplained(
    observation: Observation,
    squares: Floats,
    usable: Ints,
    sent: Sent,
    memory: Memory,
    which: Ints,
    precision: type[np.floating[Any]],
) -> tuple[Floats, Floats]:
    """Return how much of an update's change is not -λ times the model's, and the error of that.

    The former, (m,), is min over λ > 0 of ‖Δg + λ Δw‖² / min(‖Δg‖, ‖g‖)², at most 1, which is
    also said where nothing is known. The latter, (m,), is what float32 adds or takes at the most.

    ``squares``: about the updates' squared norms. ``usable``: which updates are looked at;
    ``which`` of these (m,) now, with arithmetic of this ``precision``.
    """
    left, error = np.ones(len(which)), np.zeros(len(which))
    if not np.isfinite(observation.weights).all():
        return left, error
    rows = usable[which]
    for before, those, old, at in sent.rounds([observation.names[i] for i in rows.tolist()]):
        [model] = memory["models"][memory["rounds"] == before]
        step = observation.weights.astype(np.float64) - model
        if not step.any():
            continue
        step = (step / np.sqrt(step @ step)).astype(precision)
        along, whole, length = np.empty(len(those)), np.empty(len(those)), squares[rows[those]]
        with np.errstate(over="ignore", invalid="ignore"):
            for block, now, then in pairs(observation.updates, rows[those], old, at):
                along[block], whole[block] = _products(now, then, step)
                if precision is np.float64:
                    length[block] = squared_norms(now)
            least = np.minimum(whole, length).clip(TINY)
            beside = (np.maximum(whole - along**2, 0) / least).clip(max=1)
            left[those] = np.where((along < 0) & (beside < 1), beside, 1)
            safe = (whole > SAFE[0]) & (whole < SAFE[1])
            error[those] = np.where(safe, ERROR * whole / least, 1)
    return left, error


def _products(now: Matrix, then: Matrix, step: Vector) -> tuple[Floats, Floats]:
    """Return Δg · Δw and ‖Δg‖² of the changes from one update to the other, each (m,).

    ``now``, ``then``: (m, d). ``step``: Δw (d,), of a length of 1 and the precision wanted.
    """
    along, whole = np.zeros(len(now)), np.zeros(len(now))
    for start in range(0, len(step), WIDTH):
        part = slice(start, start + WIDTH)
        change = np.subtract(now[:, part], then[:, part], dtype=step.dtype)
        along += change @ step[part]
        whole += np.vecdot(change, change)
    return along, whole


def _roughly(left: Callable[[Ints, type[np.float32]], tuple[Floats, Floats]], n: int) -> Bounds:
    """Bound what is left of the changes of n updates, going by float32."""
    guess, error = left(np.arange(n), np.float32)
    low, high = (guess - error).clip(0), (guess + error).clip(max=1)
    return Bounds(np.sqrt(low), np.sqrt(guess), np.sqrt(high))


def _exactly(
    left: Callable[[Ints, type[np.float64]], tuple[Floats, Floats]], which: Ints
) -> Floats:
    """Return what is left of the changes of these updates (m,), in float64."""
    return np.sqrt(left(which, np.float64)[0])


def _remembered(observation: Observation, usable: Ints, sent: Sent, memory: Memory) -> Memory:
    """Keep each agent's last update, and the models these were made from."""
    if not len(usable) or not np.isfinite(observation.weights).all():
        return memory
    sent = sent.plus(observation, usable)
    rounds, models = np.array([observation.round]), observation.weights[np.newaxis]
    if "rounds" in memory:
        needed = np.isin(memory["rounds"], [*sent.updates]) & (
            memory["rounds"] != observation.round
        )
        rounds = np.concatenate([memory["rounds"][needed], rounds])
        models = np.concatenate([memory["models"][needed], models])
    return sent.memory() | {"rounds": rounds, "models": models.copy()}
