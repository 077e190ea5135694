"""Opening a round: who is selected, who votes and who measures, and until when; and later."""

from __future__ import annotations

from dataclasses import replace

from fedjury.detection.state import admit, eligible
from fedjury.learning.weights import Vector
from fedjury.protocol.messages import Candidate
from fedjury.round import secure
from fedjury.round.announcement import announced
from fedjury.round.answers import Step
from fedjury.round.selection import (
    but_for,
    contributors,
    evaluators,
    unheard,
    validators,
    with_calls,
)
from fedjury.round.state import (
    JudgingAndTraining,
    RoundConfig,
    State,
    Summing,
    Tick,
    Training,
    Voting,
    VotingOnGroups,
)


def open_round(
    state: State, tick: Tick, config: RoundConfig, pending: Vector | None, *, again: bool = False
) -> Step:
    """Open the state's next round, or the same one ``again`` at a later attempt."""
    number = state.round if again else state.round + 1
    registry = admit(state.registry, tick.online, number, config.detection, config.run.seed)
    agents = eligible(registry, tick.online, number, config.detection)
    selected = contributors(agents, tick, number, config)
    missed, missed_votes = (but_for(tick.cut_off, m) for m in (state.missed, state.missed_votes))
    updates, late = config.collecting.begin(selected), unheard(selected, missed, config)
    state = state.but(
        round=number,
        phase=Training(updates, declined=late)
        if pending is None
        else JudgingAndTraining(updates, declined=late, pending=pending),
        requests=0,
        attempt=state.attempt + 1 if again else 1 + secure.attempts(state, number),
        registry=registry,
        selected=frozenset(selected),
        missed=missed,
        missed_votes=missed_votes,
        declined=frozenset(),
        validators=validators(agents, tick, number, config),
        evaluators=evaluators(agents, tick, number, config),
        opened=state.opened if again else replace(tick, online=(), cells={}, cut_off=()),
        deadline=tick.now + config.collect.seconds,
    )
    state = with_calls(secure.begun(state, config, tick.cells), tick, config)
    asked = (number, state.attempt, state.version)
    return announced(state, config, None if pending is None else Candidate(*asked, pending))


def postponed(state: State, tick: Tick, config: RoundConfig) -> Step:
    """While nobody can answer no time runs out: once somebody can, it begins again."""
    phase = state.phase
    voting = isinstance(phase, Voting | VotingOnGroups)
    left = (config.validation if voting else config.collect).seconds
    if isinstance(phase, Summing):
        left = config.cells.seconds
    if isinstance(phase, Training | Voting):
        phase = phase.but(secure=phase.secure and secure.postponed(phase.secure))
    if isinstance(phase, Training):
        phase = phase.but(settled=None)
    return state.but(phase=phase, deadline=tick.now + left), []
