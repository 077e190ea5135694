"""From contributions to the candidate: detection, the rule, and the server's step. All is pure."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from fedjury.detection.state import look
from fedjury.learning.weights import Vector
from fedjury.protocol.groups import Group, Groups
from fedjury.randomness import Purpose, draw_groups, stream
from fedjury.round.groups import candidates_of, rng_of
from fedjury.round.secure import SecureRound, base_model, contributions_of, record_of
from fedjury.round.state import (
    Aggregated,
    Gathered,
    JudgingAndTraining,
    RoundConfig,
    State,
    Tick,
    Training,
)
from fedjury.rules import Context, RuleState, applied, cut

NOTHING: RuleState = MappingProxyType({})


def gather(state: State, tick: Tick, config: RoundConfig) -> Gathered:
    """Look at the updates that have come, leave out those of flagged agents, put them in groups."""
    phase = state.phase
    if isinstance(phase, Training) and phase.secure is not None:
        return _gather_sums(state, phase, phase.secure, tick, config)
    updates = state.updates
    start = phase.pending if isinstance(phase, JudgingAndTraining) else state.weights
    contributions = config.collecting.contributions(updates, state.request)
    detection = look(
        config.detection, state.registry, state.round, contributions, start, tick.online
    )
    kept = contributions.without(detection.excluded) if detection else contributions
    filtered, groups = len(contributions) - len(kept), None
    if config.groups.size != 1 or config.validation.on_groups:
        kept = kept.in_groups(
            draw_groups(state.selected, config.groups.size, rng_of(state.round, config))
        )
        groups = Groups({f"{row}": Group(kept.members(row)) for row in range(len(kept))})
    figures = phase.figures if isinstance(phase, Training) else {}
    return Gathered(start, kept, updates.names, detection, filtered, figures, groups)


def _gather_sums(
    state: State, phase: Training, secure: SecureRound, tick: Tick, config: RoundConfig
) -> Gathered:
    """Take the groups whose sums are known: nobody can be left out of one of them."""
    contributions, start = contributions_of(secure), base_model(state)
    detection = look(
        config.detection, state.registry, state.round, contributions, start, tick.online
    )
    return Gathered(
        start,
        contributions,
        secure.contributors,
        detection,
        0,
        phase.figures,
        record_of(secure, tell=config.noisy is None),
    )


def aggregate(state: State, gathered: Gathered, config: RoundConfig) -> Aggregated:
    """Make the candidate (d,) of what was gathered.

    Where the rule cannot work with it, such as a trimmed mean with too few, there is none, and
    the result says why; what detectors saw is kept all the same.
    """
    kept, start = gathered.contributions, gathered.start
    why = ""
    candidate: Vector | None = start
    judging = isinstance(state.phase, JudgingAndTraining)
    kept_state = state.memory.given(judging=judging)
    if len(kept) or config.noisy:  # where all are left out the model stays as it is
        try:
            candidate, kept_state = _step_along(state, gathered, config, kept_state)
        except ValueError as problem:
            candidate, why = None, str(problem)
        else:
            why = config.unusable(candidate)
    return Aggregated(
        candidate,
        why,
        gathered.contributors,
        gathered.detection,
        gathered.filtered,
        gathered.figures,
        kept_state,
        gathered.groups,
        _remembered(state, gathered, config) if config.validation.on_groups else None,
    )


def _remembered(state: State, gathered: Gathered, config: RoundConfig) -> Vector | None:
    """Return the candidate (d,) of one group, drawn of those that are aggregated."""
    kept = gathered.contributions
    if not len(kept):
        return None
    row = stream(config.run.seed, Purpose.GROUP_HISTORY, state.round).integers(len(kept))
    candidate: Vector = candidates_of(gathered, [int(row)])[0]
    return candidate


def _step_along(
    state: State, gathered: Gathered, config: RoundConfig, rule_state: RuleState
) -> tuple[Vector, RuleState]:
    """Return the model and a step along what the rule makes of the contributions (d,).

    And what the rule keeps if that is accepted; ``rule_state``: what it has kept so far. With
    differential privacy the rule is given one row, the noisy mean.

    Raises
    ------
    ValueError
        If the rule cannot work with them.
    """
    if gathered.problem:
        raise ValueError(gathered.problem)
    if gathered.made is not None:
        return _along(gathered.start, gathered.made, config), rule_state
    kept, start = gathered.contributions, gathered.start
    context = context_of(state, gathered, config, rule_state)
    name, keeps = config.aggregation.rule, config.rule_state
    vectors, weights = kept.vectors, kept.weights
    if config.noisy is not None:
        noisy = config.noisy
        if config.secure is not None:  # each agent has clipped its own, and all weigh 1
            mean = noisy.of_sum(weights.astype(np.float64) @ vectors.astype(np.float64))
        else:
            mean = noisy.of(vectors)
        vectors, weights = mean[None], np.ones(1, np.int64)
    rows = gathered.rows or cut(vectors, config.aggregation.partitions)
    delta, rule_state = applied(config.rule, name, rows, weights, context, keeps=keeps)
    return _along(start, delta, config), rule_state


def _along(start: Vector, delta: Vector, config: RoundConfig) -> Vector:
    """Return the model (d,) that a step along an update leads to."""
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.float32(config.aggregation.server_lr) * delta
        candidate: Vector = (start + step).astype(np.float32)
    candidate[config.variances] = np.maximum(candidate[config.variances], 0)
    return candidate


def context_of(
    state: State, gathered: Gathered, config: RoundConfig, rule_state: RuleState = NOTHING
) -> Context:
    """Return what the rule may know beside what was gathered; ``rule_state``: what it has kept."""
    kept, start = gathered.contributions, gathered.start
    left_out = gathered.filtered + len(gathered.groups.left_out if gathered.groups else ())
    sums = state.registry.update_sums
    return Context(
        config.run.seed,
        state.round,
        state.model.step,
        sums.of(kept.names, len(start)) if config.detection.update_sums else None,
        config.server_update(start, state.round) if config.server_update else None,
        left_out + len(state.registry.in_quarantine(state.round)),
        rule_state,
    )
