"""From contributions to the candidate: detection, the rule, and the server's step. All is pure."""

from __future__ import annotations

import numpy as np

from fedjury.detection.state import look
from fedjury.learning.contributions import Contributions
from fedjury.learning.weights import Vector
from fedjury.round.state import (
    Aggregated,
    JudgingAndTraining,
    RoundConfig,
    State,
    Tick,
    Training,
)
from fedjury.rules import Context, RuleState, applied


def aggregate(state: State, tick: Tick, config: RoundConfig) -> Aggregated:
    """Make the candidate (d,) of the updates that have come.

    Where the rule cannot work with them, such as a trimmed mean with too few, there is none, and
    the result says why; what detectors saw is kept all the same.
    """
    updates, phase = state.updates, state.phase
    start = phase.pending if isinstance(phase, JudgingAndTraining) else state.weights
    contributions = config.collecting.contributions(updates, state.request)
    detection = look(
        config.detection, state.registry, state.round, contributions, start, tick.online
    )
    kept = contributions.without(detection.excluded) if detection else contributions
    filtered = len(contributions) - len(kept)
    why = ""
    candidate: Vector | None = start
    kept_state = state.memory.given(judging=isinstance(phase, JudgingAndTraining))
    if len(kept) or config.noisy:  # where all are left out the model stays as it is
        try:
            candidate, kept_state = _step_along(state, kept, filtered, start, config, kept_state)
        except ValueError as problem:
            candidate, why = None, str(problem)
        else:
            why = unusable(candidate, config)
    figures = phase.figures if isinstance(phase, Training) else {}
    return Aggregated(candidate, why, updates.names, detection, filtered, figures, kept_state)


def _step_along(
    state: State,
    kept: Contributions,
    filtered: int,
    start: Vector,
    config: RoundConfig,
    rule_state: RuleState,
) -> tuple[Vector, RuleState]:
    """Return ``start`` and a step along what the rule makes of the contributions (d,).

    And what the rule keeps if that is accepted; ``rule_state``: what it has kept so far. With
    differential privacy the rule is given one row, the noisy mean.

    Raises
    ------
    ValueError
        If the rule cannot work with them.
    """
    sums = state.registry.update_sums
    context = Context(
        config.run.seed,
        state.round,
        state.model.step,
        sums.of(kept.names, len(start)) if config.detection.update_sums else None,
        config.server_update(start, state.round) if config.server_update else None,
        filtered + len(state.registry.in_quarantine(state.round)),
        rule_state,
    )
    name, keeps = config.aggregation.rule, config.rule_state
    vectors, weights = kept.vectors, kept.weights
    if config.noisy is not None:
        vectors, weights = config.noisy.of(vectors)[None], np.ones(1, np.int64)
    delta, rule_state = applied(config.rule, name, vectors, weights, context, keeps=keeps)
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.float32(config.aggregation.server_lr) * delta
        candidate: Vector = (start + step).astype(np.float32)
    candidate[config.variances] = np.maximum(candidate[config.variances], 0)
    return candidate, rule_state


def unusable(candidate: Vector, config: RoundConfig) -> str:
    """Return why nobody has to vote on a candidate; empty if there is no reason."""
    if not config.limits.finite:
        return ""
    if not np.isfinite(candidate).all():
        return "the candidate is not finite"
    flaw = config.flaw(candidate)
    return f"the candidate is unusable: {flaw}" if flaw else ""
