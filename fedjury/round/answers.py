"""What each answer of an agent changes in a round: one that does not fit, nothing but a count."""

from __future__ import annotations

from fedjury.protocol.messages import Decline, GroupVotes, Metrics, Reason, Update, Vote
from fedjury.protocol.record import Figures
from fedjury.round import groups, verdict
from fedjury.round.effects import CountInvalid, Effect
from fedjury.round.selection import unasked
from fedjury.round.state import (
    InvalidMessage,
    JudgingAndTraining,
    RoundConfig,
    State,
    Training,
    Voting,
    VotingOnGroups,
)

Step = tuple[State, list[Effect]]


def take_update(state: State, update: Update, config: RoundConfig) -> Step:
    """Add an update to the round's contributions; with piggy-back it is a clean vote, too."""
    phase, request = state.phase, state.request
    assert isinstance(phase, Training)
    if phase.secure is not None:  # it should have come under masks
        return count_invalid(state, update.agent, Reason.WRONG_PHASE)
    if why := config.collecting.refusal(update, phase.updates, request):
        return count_invalid(state, update.agent, why)
    asked_for = (update.round, update.version) == (request.round, request.version)
    if asked_for and isinstance(phase, JudgingAndTraining):
        if why := verdict.refusal(state, update, config):
            return count_invalid(state, update.agent, why)
        vote = update.vote(state.attempt)
        phase = phase.but(votes={**phase.votes, update.agent: vote})
    if update.metrics or config.evaluation.by_agent:
        figures = Figures(update.samples, update.metrics)
        phase = phase.but(figures={**phase.figures, update.agent: figures})
    return state.but(phase=phase.but(updates=phase.updates.add(update), settled=None)), []


def take_vote(state: State, vote: Vote, config: RoundConfig) -> Step:
    """Add a vote of a validator; with piggy-back, of an agent that will not train from it."""
    phase = state.phase
    assert isinstance(phase, JudgingAndTraining | Voting)
    judging = isinstance(phase, JudgingAndTraining)
    if why := unasked(state, vote, state.selected if judging else state.validators):
        return count_invalid(state, vote.agent, why)
    if why := verdict.refusal(state, vote, config):
        return count_invalid(state, vote.agent, why)
    changed = phase.but(votes={**phase.votes, vote.agent: vote})
    return state.but(phase=changed.but(settled=None) if judging else changed), []


def take_group_votes(state: State, said: GroupVotes, config: RoundConfig) -> Step:
    """Add a validator's votes on groups."""
    phase = state.phase
    assert isinstance(phase, VotingOnGroups)
    if why := groups.refusal(state, said, config):
        return count_invalid(state, said.agent, why)
    return state.but(phase=phase.but(votes={**phase.votes, said.agent: said})), []


def take_metrics(state: State, message: Metrics, config: RoundConfig) -> Step:  # noqa: ARG001
    """Add what an evaluator measured of the candidate."""
    phase = state.phase
    assert isinstance(phase, Voting)
    if why := unasked(state, message, state.evaluators):
        return count_invalid(state, message.agent, why)
    if message.agent in phase.metrics:
        return count_invalid(state, message.agent, Reason.DUPLICATE)
    figures = Figures(message.samples, message.values)
    return state.but(phase=phase.but(metrics={**phase.metrics, message.agent: figures})), []


def note_decline(state: State, event: Decline, config: RoundConfig) -> Step:  # noqa: ARG001
    """Wait no longer for an agent that will not answer."""
    phase = state.phase
    assert isinstance(phase, Training | VotingOnGroups | Voting)
    voting = not isinstance(phase, Training)
    asked = state.evaluators.union(state.validators) if voting else state.selected
    if why := unasked(state, event, asked):
        return count_invalid(state, event.agent, why)
    phase = phase.but(declined=phase.declined | {event.agent})
    if not isinstance(phase, Training):
        return state.but(phase=phase), []
    return state.but(phase=phase.but(settled=None), declined=state.declined | {event.agent}), []


def note_invalid(state: State, event: InvalidMessage, config: RoundConfig) -> Step:  # noqa: ARG001
    """Count an invalid message; nobody waits long for a selected agent that sent one as update."""
    phase = state.phase
    assert isinstance(phase, Training)
    new = event.agent in state.selected and event.agent not in phase.invalid_from
    if event.update and new:
        senders = phase.invalid_from | {event.agent}
        state = state.but(phase=phase.but(invalid_from=senders, settled=None))
    return count_invalid(state, event.agent, event.reason)


def count_invalid(state: State, agent: str, reason: Reason) -> Step:
    """Count a message that was refused, and tell people."""
    invalid = {**state.invalid, reason.value: state.invalid.get(reason.value, 0) + 1}
    return state.but(invalid=invalid), [CountInvalid(agent, reason, invalid)]
