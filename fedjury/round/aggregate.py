"""From contributions to the candidate: detection, the rule, and the server's step. All is pure."""

from __future__ import annotations

import numpy as np

from fedjury.detection import Observation
from fedjury.detection import state as detection_state
from fedjury.detection.state import DetectionResult
from fedjury.learning.contributions import Contributions
from fedjury.learning.weights import Vector
from fedjury.round.collect.update_buffer import UpdateBuffer
from fedjury.round.state import Aggregated, RoundConfig, State, Tick
from fedjury.rules import Context


def aggregate(
    state: State, updates: UpdateBuffer, start: Vector, tick: Tick, config: RoundConfig
) -> Aggregated:
    """Make the candidate (d,) of the updates, which were trained from ``start``.

    Where the rule cannot work with them, such as a trimmed mean with too few, there is none, and
    the result says why; what detectors saw is kept all the same.
    """
    contributions = config.collecting.contributions(updates)
    detection = detect(state, contributions, start, tick, config)
    flagged = _left_out(detection, config)
    kept = contributions.without(flagged)
    filtered = len(contributions) - len(kept)
    why = ""
    candidate: Vector | None = start
    if len(kept):  # where all are left out the model stays as it is
        try:
            candidate = _step_along(state, kept, filtered, start, config)
        except ValueError as problem:
            candidate, why = None, str(problem)
        else:
            why = unusable(candidate, config)
    return Aggregated(candidate, why, updates.names, detection, filtered)


def detect(
    state: State, contributions: Contributions, start: Vector, tick: Tick, config: RoundConfig
) -> DetectionResult | None:
    """Let the detectors look at the contributions; None if nobody looks."""
    if not config.detection.remembers:
        return None
    known = state.registry.seen
    observation = Observation(
        state.round,
        contributions.names,
        contributions.vectors,
        start,
        {name: known[name] for name in sorted(tick.online) if name in known},
        state.registry.votes,
        state.registry.verdict,
    )
    return detection_state.inspect(config.detection, state.registry, observation)


def _left_out(detection: DetectionResult | None, config: RoundConfig) -> frozenset[str]:
    """Return the agents whose contributions do not count: those flagged, under quarantine."""
    if detection is None or not config.detection.rules.quarantine:
        return frozenset()
    return frozenset(detection.flagged)


def _step_along(
    state: State, kept: Contributions, filtered: int, start: Vector, config: RoundConfig
) -> Vector:
    """Return ``start`` and a step along what the rule makes of the contributions (d,).

    Raises
    ------
    ValueError
        If the rule cannot work with them.
    """
    sums = state.registry.update_sums if config.detection.update_sums else None
    context = Context(
        config.run.seed,
        state.round,
        state.model.step,
        sums.of(kept.names, len(start)) if sums is not None else None,
        config.server_update(start, state.round) if config.server_update else None,
        filtered + len(detection_state.in_quarantine(state.registry, state.round)),
    )
    delta = config.rule(kept.vectors, kept.weights, context)
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.float32(config.aggregation.server_lr) * delta
        candidate: Vector = (start + step).astype(np.float32)
    candidate[config.variances] = np.maximum(candidate[config.variances], 0)
    return candidate


def unusable(candidate: Vector, config: RoundConfig) -> str:
    """Return why nobody has to vote on a candidate; empty if there is no reason."""
    if not config.limits.finite:
        return ""
    if not np.isfinite(candidate).all():
        return "the candidate is not finite"
    flaw = config.flaw(candidate)
    return f"the candidate is unusable: {flaw}" if flaw else ""


def step_between(before: Vector, after: Vector, server_lr: float) -> Vector | None:
    """Return the aggregated update (d,) that led from one model to the next, if there was one.

    Made of the models, of which a resumed run has the same.
    """
    if not server_lr:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return ((after - before) / np.float32(server_lr)).astype(np.float32)
