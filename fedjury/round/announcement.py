"""What agents are told of where a round stands."""

from __future__ import annotations

from fedjury.protocol.messages import Candidate, Phase, Round
from fedjury.round.answers import Step
from fedjury.round.effects import Effect, Publish
from fedjury.round.state import RoundConfig, State, Training, Voting, VotingOnGroups


def announcement(state: State, config: RoundConfig) -> Round:
    """Return what agents are told of where the round stands."""
    phase = state.phase
    on_groups = isinstance(phase, VotingOnGroups)
    voting = on_groups or isinstance(phase, Voting)
    sampling, passes_over = config.sampling, state.registry.passes_over(state.round)
    everybody = sampling.client_fraction >= 1 and not (sampling.most or passes_over)
    if isinstance(phase, Training) and phase.secure is not None:
        everybody = everybody and not phase.secure.out
    return Round(
        round=state.round,
        attempt=state.attempt,
        phase=phase.name or Phase.TRAIN,
        version=state.version,
        contributors="all" if everybody else tuple(sorted(state.selected)),
        validators=state.validators,
        seconds=(config.validation if voting else config.collect).seconds,
        evaluators=tuple(sorted(state.evaluators)),
        groups=phase.count if isinstance(phase, VotingOnGroups) else 0,
        each=config.validation.groups_each if on_groups else 0,
    )


def announced(state: State, config: RoundConfig, first: Candidate | None = None) -> Step:
    """Tell agents where the round stands; ``first``: the candidate in question."""
    effects: list[Effect] = [Publish(first)] if first else []
    return state, [*effects, Publish(announcement(state, config))]
