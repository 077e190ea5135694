"""What each answer of an agent changes in a round: one that does not fit, nothing but a count."""

from __future__ import annotations

from collections.abc import Collection

from fedjury.protocol.messages import Decline, GroupVotes, Metrics, Reason, Update, Vote
from fedjury.protocol.record import Figures
from fedjury.round import groups, verdict
from fedjury.round.answered import Answers
from fedjury.round.collect import Collected
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
        phase = phase.but(votes=phase.votes.plus(update.agent, update.vote(state.attempt)))
    if update.metrics or config.evaluation.by_agent:
        figures = Figures(update.samples, update.metrics)
        phase = phase.but(figures=phase.figures.plus(update.agent, figures))
    phase = phase.but(updates=phase.updates.add(update), settled=None)
    return state.but(phase=_heard(phase, update.agent)), []


def who_answered(phase: Training) -> Collected | Answers[Vote]:
    """Return who has answered; with piggy-back an update is a vote as well."""
    return phase.votes if isinstance(phase, JudgingAndTraining) else phase.updates


def _heard(phase: Training, agent: str) -> Training:
    """Return the phase in which an agent that has answered does not count as missing for a reason.

    So how many are missing is known without a look at all of them, of which there are thousands.
    """
    missing = agent in phase.declined or agent in phase.invalid_from
    if not missing or agent not in who_answered(phase):
        return phase
    here = {agent}
    return phase.but(declined=phase.declined - here, invalid_from=phase.invalid_from - here)


def take_vote(state: State, vote: Vote, config: RoundConfig) -> Step:
    """Add a vote of a validator; with piggy-back, of an agent that will not train from it."""
    phase = state.phase
    assert isinstance(phase, JudgingAndTraining | Voting)
    judging = isinstance(phase, JudgingAndTraining)
    if why := unasked(state, vote, state.selected if judging else state.validators):
        return count_invalid(state, vote.agent, why)
    if why := verdict.refusal(state, vote, config):
        return count_invalid(state, vote.agent, why)
    votes = phase.votes.plus(vote.agent, vote)
    if isinstance(phase, JudgingAndTraining):
        phase = _heard(phase.but(votes=votes, settled=None), vote.agent)
        return state.but(phase=phase), []
    return state.but(phase=phase.but(votes=votes)), []


def take_group_votes(state: State, said: GroupVotes, config: RoundConfig) -> Step:
    """Add a validator's votes on groups."""
    phase = state.phase
    assert isinstance(phase, VotingOnGroups)
    if why := groups.refusal(state, said, config):
        return count_invalid(state, said.agent, why)
    return state.but(phase=phase.but(votes=phase.votes.plus(said.agent, said))), []


def take_metrics(state: State, message: Metrics, config: RoundConfig) -> Step:  # noqa: ARG001
    """Add what an evaluator measured of the candidate."""
    phase = state.phase
    assert isinstance(phase, Voting)
    if why := unasked(state, message, state.evaluators):
        return count_invalid(state, message.agent, why)
    if message.agent in phase.metrics:
        return count_invalid(state, message.agent, Reason.DUPLICATE)
    figures = Figures(message.samples, message.values)
    return state.but(phase=phase.but(metrics=phase.metrics.plus(message.agent, figures))), []


def note_decline(state: State, event: Decline, config: RoundConfig) -> Step:  # noqa: ARG001
    """Wait no longer for an agent that will not answer."""
    phase = state.phase
    assert isinstance(phase, Training | VotingOnGroups | Voting)
    asked: Collection[str] = state.selected
    if not isinstance(phase, Training):
        asked = state.evaluators if event.agent in state.evaluators else state.validators
    if why := unasked(state, event, asked):
        return count_invalid(state, event.agent, why)
    phase = phase.but(declined=phase.declined | {event.agent})
    if not isinstance(phase, Training):
        return state.but(phase=phase), []
    phase = phase.but(invalid_from=phase.invalid_from - {event.agent}, settled=None)
    phase = _heard(phase, event.agent)
    return state.but(phase=phase, declined=state.declined | {event.agent}), []


def note_invalid(state: State, event: InvalidMessage, config: RoundConfig) -> Step:  # noqa: ARG001
    """Count an invalid message; nobody waits long for a selected agent that sent one as update."""
    phase = state.phase
    assert isinstance(phase, Training)
    known = event.agent in phase.invalid_from or event.agent in phase.declined
    new = event.agent in state.selected and not known and event.agent not in who_answered(phase)
    if event.update and new:
        senders = phase.invalid_from | {event.agent}
        state = state.but(phase=phase.but(invalid_from=senders, settled=None))
    return count_invalid(state, event.agent, event.reason)


def count_invalid(state: State, agent: str, reason: Reason) -> Step:
    """Count a message that was refused, and tell people."""
    invalid = {**state.invalid, reason.value: state.invalid.get(reason.value, 0) + 1}
    return state.but(invalid=invalid), [CountInvalid(agent, reason, invalid)]
