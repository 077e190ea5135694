"""Differential privacy in the round: what was told with noise counts, and is never noised again."""

from __future__ import annotations

import math

from fedjury.privacy.releases import after, number
from fedjury.protocol.spent import Spent
from fedjury.round.effects import Effect, PersistRelease
from fedjury.round.release import Release
from fedjury.round.state import Aggregated, RoundConfig, State


def counted(state: State, made: Aggregated, config: RoundConfig) -> tuple[State, list[Effect]]:
    """Count a noisy candidate, and have it made durable before anybody is told of it."""
    if config.noisy is None or made.candidate is None:
        return state, []
    releases = after(state.releases, config.noisy.privacy.noise)
    release = Release(
        round=state.round,
        attempt=state.attempt,
        version=state.version,
        candidate=made.candidate,
        why=made.why,
        contributors=made.contributors,
        rule=config.aggregation.rule,
        rule_state=made.rule_state,
        releases=releases,
    )
    return state.but(releases=releases), [PersistRelease(release)]


def aggregated(release: Release, config: RoundConfig) -> Aggregated:
    """Return what had become of a round's updates, as it was made durable.

    What their senders said of their training is not known any more.
    """
    kept = release.rule_state if release.rule == config.aggregation.rule else {}
    return Aggregated(release.candidate, release.why, release.contributors, rule_state=kept)


def spent(state: State, config: RoundConfig) -> Spent | None:
    """Return what the noisy candidates so far have spent, where there are such."""
    if config.noisy is None:
        return None
    said, releases = config.noisy.privacy, state.releases
    epsilon = config.epsilon(releases, said.delta)
    known = round(epsilon, 6) if math.isfinite(epsilon) else None
    return Spent(known, said.delta, number(releases), said.noise)
