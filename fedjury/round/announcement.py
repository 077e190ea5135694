"""What agents are told of where a round stands."""

from __future__ import annotations

from fedjury.protocol.messages import Candidate, Phase, Round
from fedjury.round.answers import Step
from fedjury.round.effects import Effect, Publish
from fedjury.round.selection import asks_everybody
from fedjury.round.state import RoundConfig, State, Voting, VotingOnGroups


def announcement(state: State, config: RoundConfig) -> Round:
    """Return what agents are told of where the round stands."""
    phase, calls = state.phase, state.calls
    on_groups = isinstance(phase, VotingOnGroups)
    voting = on_groups or isinstance(phase, Voting)
    # Who is called by number is not named; ``calls`` is kept as it was when the round was opened.
    named = {part: called.names for part, called in calls.items()}
    return Round(
        round=state.round,
        attempt=state.attempt,
        phase=phase.name or Phase.TRAIN,
        version=state.version,
        contributors="all"
        if asks_everybody(state, config)
        else _named(named.get("contributors"), state.selected),
        validators=named.get("validators", state.validators),
        seconds=(config.validation if voting else config.collect).seconds,
        evaluators=_named(named.get("evaluators"), state.evaluators),
        groups=phase.count if isinstance(phase, VotingOnGroups) else 0,
        each=config.validation.groups_each if on_groups else 0,
        calls={part: called.call for part, called in calls.items()},
    )


def _named(names: tuple[str, ...] | None, everybody: frozenset[str]) -> tuple[str, ...]:
    """Return the names that are told; None: all of them."""
    return tuple(sorted(everybody)) if names is None else names


def announced(state: State, config: RoundConfig, first: Candidate | None = None) -> Step:
    """Tell agents where the round stands; ``first``: the candidate in question."""
    effects: list[Effect] = [Publish(first)] if first else []
    return state, [*effects, Publish(announcement(state, config))]
