"""The round: a pure state machine. Nothing here reads a clock, a socket or a file.

    Waiting ──due, agents there──► Training ──enough updates──► Voting ──votes──┐
      ▲ ▲                           │     ▲                                     │
      │ └─too few agents are there──┴─────┘ too few answers: attempt + 1        │
      └───────────── accepted: version + 1, or rejected: as before ─────────────┴─► Done

Where groups are voted on, VotingOnGroups comes before Voting. With piggy-back there is neither: the
agents selected for the next round judge the candidate, train from it, and send both in one message
(JudgingAndTraining).

``step`` takes a state, an event and the configuration, and returns the next state and what is to be
done; ``TABLE`` says which function takes which event in which phase. An event that does not fit
changes nothing but a count; which updates fit, and when there are enough of them, the collect
strategy says. Contributions are aggregated in the order of their agents' names, so the order in
which they arrive never changes a result. Who is online and how late it is come in with every tick;
tick on every turn of the loop, or a flood holds back a deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import get_args

from fedjury.protocol.cells import GroupSum, PartialSum, Tally
from fedjury.protocol.logs import RoundRepeated
from fedjury.protocol.messages import (
    Candidate,
    Decline,
    GroupCandidate,
    GroupVotes,
    Metrics,
    Reason,
    RoundLog,
    Update,
    Vote,
)
from fedjury.protocol.secure import SecureUp
from fedjury.registry.faults import PluginError
from fedjury.round import cells, groups, noisy, secure, secure_counts, verdict
from fedjury.round.aggregate import aggregate, gather
from fedjury.round.announcement import announced
from fedjury.round.answers import (
    Step,
    count_invalid,
    note_decline,
    note_invalid,
    take_group_votes,
    take_metrics,
    take_update,
    take_vote,
    who_answered,
)
from fedjury.round.collect import Answer, Progress
from fedjury.round.effects import Publish
from fedjury.round.grouping import lacks_groups
from fedjury.round.opening import open_round, postponed
from fedjury.round.selection import (
    heard_from_all,
    lacks_agents,
    missing,
    replacements,
    still_training,
    too_few,
    unheard,
)
from fedjury.round.state import (
    Aggregated,
    Done,
    Event,
    InvalidMessage,
    JudgingAndTraining,
    RoundConfig,
    RoundPhase,
    State,
    Summing,
    Tick,
    Training,
    Voting,
    VotingOnGroups,
    Waiting,
)
from fedjury.round.verdict import Decision, RoundResult


def step(state: State, event: Event, config: RoundConfig) -> Step:
    """Take one event; returns the next state and the effects to carry out, in order."""
    handler = TABLE.get((type(state.phase), type(event)))
    if handler is not None:
        if isinstance(event, Tick) and not event.reachable:
            return postponed(state, event, config)
        try:
            return handler(state, event, config)
        except PluginError as why:  # the collect strategy's
            return _reject(state, event, config, str(why))
    match event:
        case InvalidMessage():
            return count_invalid(state, event.agent, event.reason)
        case Tick():
            return state, []
        case _:
            return count_invalid(state, event.agent, Reason.WRONG_PHASE)


def _reject(state: State, event: Event, config: RoundConfig, why: str) -> Step:
    """Reject what a round has collected; where the event is no tick, with the next one."""
    phase = state.phase
    assert isinstance(phase, Training)
    if not isinstance(event, Tick):
        return state.but(phase=phase.but(failure=why)), []
    nothing, pending = Aggregated(contributors=phase.updates.names), getattr(phase, "pending", None)
    return _close(state, event, config, RoundResult(nothing, Decision(why=why), pending))


def open_when_due(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Open the next round, or another attempt at this one, once it is due and agents are there."""
    phase = state.phase
    assert isinstance(phase, Waiting)
    if state.round >= config.run.rounds and not phase.again:
        return announced(state.but(phase=Done()), config)
    lacks = lacks_agents(state, tick, config) or (phase.again and lacks_groups(state, tick, config))
    if tick.paused or tick.now < phase.due or lacks:
        return state, []
    try:
        state, effects = open_round(state, tick, config, phase.pending, again=phase.again)
    except PluginError as why:  # no later one could be opened either
        failure = f"round {state.round + (not phase.again)} cannot be opened: {why}"
        return announced(state.but(phase=Done(failure)), config)
    if phase.release is not None:  # fresh noise on the same updates would tell more
        state = state.but(attempt=phase.release.attempt)
        return _judge(state, noisy.aggregated(phase.release, config), tick, config)
    return state, effects


def collect(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Close the collection when the strategy says so."""
    phase = state.phase
    assert isinstance(phase, Training)
    if phase.failure:
        return _reject(state, tick, config, phase.failure)
    if phase.secure is not None:
        return _collect_sums(state, tick, config)
    answered, late = who_answered(phase), tick.now >= state.deadline
    awaited, invalid = len(state.selected) - len(phase.declined), len(phase.invalid_from)
    progress = Progress(awaited, len(answered), invalid, phase.settled)
    heard = not progress.selected and heard_from_all(state, answered)
    match Answer.CLOSE if heard else config.collecting.enough(progress, tick.now, late=late):
        case Answer.SETTLE:
            return state.but(phase=phase.but(settled=tick.now)), []
        case Answer.WAIT:
            return state, []
    if config.sums is not None and len(phase.updates) >= config.collect.min_updates:
        gathered = gather(state, tick, config)
        return _asked(cells.asked_first(state, gathered, tick, config), tick, config)
    before, state = (
        state,
        state.but(missed=missing(state.missed, state.selected, answered, state.declined)),
    )
    if isinstance(phase, JudgingAndTraining):
        return _decide_and_go_on(state, tick, config)
    if len(phase.updates) >= config.collect.min_updates:
        if config.rows is not None:
            return _of_rows(before, state, tick, config)
        return _aggregate(state, tick, config)
    if phase.settled is not None or heard_from_all(state, answered):  # they would send the same
        return _reject(state, tick, config, too_few(state, config))
    return _repeat(state, tick, config, too_few(state, config)) if late else (state, [])


def _of_rows(before: State, state: State, tick: Tick, config: RoundConfig) -> Step:
    """Make the candidate of rows in cells; go on collecting, as before, if a worker is lost."""
    gathered = gather(state, tick, config)
    again, made, effects = cells.with_rows(before, gathered, tick, config)
    return (again, effects) if made is None else _made(state, made, tick, config)


def sum_up(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Go on once cells have added up what they keep, or have not in time."""
    return _asked(cells.added_up(state, tick, config), tick, config)


def _asked(summed: cells.Summed, tick: Tick, config: RoundConfig) -> Step:
    """Make the candidate if cells need to be asked no more."""
    state, effects, gathered = summed
    if gathered is None:
        return state, [*effects]
    phase = state.phase
    answered = phase.tallied if isinstance(phase, Summing) else state.updates
    state = state.but(missed=missing(state.missed, state.selected, answered, state.declined))
    state, more = _made(state, aggregate(state, gathered, config), tick, config)
    return state, [*effects, *more]


def _collect_sums(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Close the collection when the sum of each group is opened, or lost."""
    state, effects = secure.wait(state, tick, config)
    assert isinstance(state.phase, Training)
    now = state.phase.secure
    assert now is not None
    if not now.over:
        return state, effects
    came, judging = now.contributors, isinstance(state.phase, JudgingAndTraining)
    heard = state.votes if judging else now.came
    state = state.but(missed=missing(state.missed, state.selected, heard, state.declined))
    if judging:
        state, more = _decide_and_go_on(state, tick, config)
        return state, effects + more
    if len(came) >= config.collect.min_updates:
        state, more = _aggregate(state, tick, config)
    else:
        state, more = _repeat(state, tick, config, secure.why_too_few(state, config))
    return state, effects + more


def take_decline(state: State, event: Decline, config: RoundConfig) -> Step:
    """Wait no longer for an agent that will not answer, at none of its group's steps either."""
    state, refused = note_decline(state, event, config)
    return (state, refused) if refused else secure.without(state, event.agent)


def vote_in_training(state: State, vote: Vote, config: RoundConfig) -> Step:
    """Take a vote of an agent that is selected to train; with one against it, it will not."""
    state, refused = take_vote(state, vote, config)
    if refused or not vote.poisoned:
        return state, refused
    return secure.without(state, vote.agent)


def count_votes(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Decide on the candidate; if too few have voted, ask others once in place of the silent."""
    state, effects, sums = secure_counts.wait(state, tick, config)
    phase = state.phase
    assert isinstance(phase, Voting)
    if sums.wait or (tick.now < state.deadline and verdict.awaits_more(state, phase)):
        return state, effects
    decision = verdict.by_validators(state, phase, config, sums.pooled)
    again = decision.unheard and phase.secure is None  # who joins later is in no sum
    if again and (others := replacements(state, phase, tick, config)):
        return announced(others, config)
    asked, answered = state.evaluators.union(state.validators), {*phase.votes, *phase.metrics}
    declined = phase.declined - unheard(asked, state.missed_votes, config)
    state = state.but(missed_votes=missing(state.missed_votes, asked, answered, declined))
    result = RoundResult(phase.aggregated, decision, phase.aggregated.candidate)
    state, more = _close(state, tick, config, result)
    return state, effects + more


def count_group_votes(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Leave out the groups that are voted down, and make the candidate of the others.

    On which groups too few have voted, others are asked once in place of the silent.
    """
    phase = state.phase
    assert isinstance(phase, VotingOnGroups)
    waited_for = set(state.validators).difference(phase.votes, phase.declined)
    if tick.now < state.deadline and waited_for:
        return state, []
    decisions = groups.verdicts(state, phase, config)
    unheard_of = any(made.unheard for made in decisions.values())
    if unheard_of and (others := replacements(state, phase, tick, config)):
        return announced(others, config)
    missed = missing(state.missed_votes, state.validators, phase.votes, phase.declined)
    gathered = groups.without(phase, decisions)
    state = state.but(missed_votes=missed)
    if gathered.contributions:
        asked = state.validators if config.validation.on == "both" else ()
        return _made(state.but(validators=asked), aggregate(state, gathered, config), tick, config)
    nothing = groups.nothing_left(gathered)
    return _close(state, tick, config, RoundResult(nothing, Decision(why=nothing.why)))


# ---------------------------------------------------------------- opening a round


def _repeat(state: State, tick: Tick, config: RoundConfig, why: str) -> Step:
    """Try the round again: agents send what they have, a fresh collection begins."""
    pending = state.phase.pending if isinstance(state.phase, JudgingAndTraining) else None
    if lacks_agents(state, tick, config) or lacks_groups(state, tick, config):
        note = RoundRepeated(state.round, state.attempt, f"{why}; waiting for more agents")
        waiting = state.but(phase=Waiting(pending, again=True))
        return waiting, [Publish(RoundLog(note))]
    if config.collect.wait or state.attempt < config.collect.attempts:
        state, effects = open_round(state, tick, config, pending, again=True)
        note = RoundRepeated(state.round, state.attempt, why)
        return state, [Publish(RoundLog(note)), *effects]
    failure = f"round {state.round} was given up after {state.attempt} attempts: {why}"
    return announced(state.but(phase=Done(failure)), config)


# ---------------------------------------------------------------- closing a round


def _aggregate(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Make the candidate of the updates, or put their groups before the validators."""
    gathered = gather(state, tick, config)
    if not (config.validation.on_groups and state.validators):
        return _made(state, aggregate(state, gathered, config), tick, config)
    gathered = groups.usable(gathered, config)
    if not gathered.contributions:
        return _made(state, groups.nothing_left(gathered), tick, config)
    late = unheard(state.validators, state.missed_votes, config)
    voting = VotingOnGroups(gathered, declined=late)
    state = state.but(phase=voting, deadline=tick.now + config.validation.seconds)
    asked = state.round, state.attempt, state.version
    candidates = groups.candidates_of(gathered, range(voting.count))
    effects = [Publish(GroupCandidate(i, *asked, row)) for i, row in enumerate(candidates)]
    state, told = announced(state, config)
    return state, [*effects, *told]


def _made(state: State, made: Aggregated, tick: Tick, config: RoundConfig) -> Step:
    """Put the candidate to the vote, or try again where there is none and some may still send."""
    if made.candidate is None and state.selected.difference(made.contributors, state.declined):
        return _repeat(state, tick, config, made.why)
    state, kept = noisy.counted(state, made, config)
    state, effects = _judge(state, made, tick, config)
    return state, kept + effects


def _judge(state: State, made: Aggregated, tick: Tick, config: RoundConfig) -> Step:
    """Put the candidate before the validators if there are any."""
    candidate = made.candidate
    if candidate is None or made.why:  # asked again, all would send the same
        return _close(state, tick, config, RoundResult(made, Decision(why=made.why), candidate))
    if config.validation.piggy_back and state.round > config.validation.warm_up:
        return _close(state, tick, config, RoundResult(made, pending=candidate))  # the next decides
    server = None
    if config.server_validator:
        turn = (state.round, state.attempt) if state.round > config.validation.warm_up else None
        server = config.server_validator.look(candidate, state.model.profiles, turn)
    asked = state.evaluators.union(state.validators)
    late = unheard(asked, state.missed_votes, config) | still_training(state)
    counts = secure_counts.begun(state, candidate, late, config)
    voting = Voting(made, server=server, declined=late, secure=counts)
    state = state.but(phase=voting, deadline=tick.now + config.validation.seconds)
    if not asked:
        return count_votes(state, tick, config)
    message = Candidate(state.round, state.attempt, state.version, candidate)
    return announced(state, config, message)


def _decide_and_go_on(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Piggy-back: decide on the candidate of the round before; if it stays, go on from it."""
    phase = state.phase
    assert isinstance(phase, JudgingAndTraining)
    decision = verdict.by_contributors(state, phase, config)
    if decision.unheard and state.attempt == 1 < config.collect.attempts:
        return _repeat(state, tick, config, decision.why)
    # Asked again, those that answered would say the same: only those that did not may say more.
    complete = 0 < len(phase.votes) == len(verdict.asked_for_both(state, phase))
    came = phase.secure.contributors if phase.secure else phase.updates.names
    if complete and not came and not decision.why:  # too few to vote it down
        decision = replace(decision, why="nobody would train from it")
    made = Aggregated(contributors=came)
    if decision.why:
        return _close(state, tick, config, RoundResult(made, decision, phase.pending))
    if len(came) >= config.collect.min_updates:
        made = aggregate(state, gather(state, tick, config), config)
    else:
        made = replace(made, why=secure.why_too_few(state, config))
    if made.candidate is None and not complete:
        return _repeat(state, tick, config, made.why)
    state, kept = noisy.counted(state, made, config)
    # The updates may be lost; what they stand on is not.
    pending = None if made.why else made.candidate
    result = RoundResult(made, decision, phase.pending, pending)
    state, effects = _close(state, tick, config, result)
    return state, kept + effects


def _close(state: State, tick: Tick, config: RoundConfig, result: RoundResult) -> Step:
    """Accept the candidate if there is no reason not to, and go on to the next round."""
    state, effects = verdict.finish(state, tick, config, result)
    due = state.opened.now + config.collect.every if config.collect.every else 0.0
    state = state.but(phase=Waiting(result.pending, due), invalid={})
    state, more = open_when_due(state, tick, config)
    return state, effects + more


SECURE, ANSWERS = get_args(SecureUp), (Vote, GroupVotes, Metrics, Decline)
LATER = (Waiting, VotingOnGroups, Voting)
IN_CELLS = (Tally, PartialSum, GroupSum)

TABLE: Mapping[tuple[type[RoundPhase], type[Event]], Callable[..., Step]] = {
    **{(phase, kind): cells.too_late for phase in LATER for kind in IN_CELLS},
    (Waiting, Tick): open_when_due,
    (Training, Update): take_update,
    (Training, Decline): take_decline,
    (Training, InvalidMessage): note_invalid,
    **{(Training, kind): secure.take for kind in SECURE},
    (Training, Tally): cells.take_tally,
    (Training, PartialSum): cells.too_late,
    (Training, GroupSum): secure.take_group_sum,
    (Training, Tick): collect,
    (Summing, Tally): cells.tally_in_summing,
    (Summing, PartialSum): cells.take_sum,
    (Summing, Decline): cells.decline_in_summing,
    (Summing, Tick): sum_up,
    (JudgingAndTraining, Update): take_update,
    (JudgingAndTraining, Vote): vote_in_training,
    **{(JudgingAndTraining, kind): secure.take for kind in SECURE},
    (JudgingAndTraining, Decline): take_decline,
    (JudgingAndTraining, InvalidMessage): note_invalid,
    (JudgingAndTraining, Tick): collect,
    (VotingOnGroups, GroupVotes): take_group_votes,
    (VotingOnGroups, Decline): note_decline,
    (VotingOnGroups, Tick): count_group_votes,
    (Voting, Vote): take_vote,
    (Voting, Metrics): take_metrics,
    **{(Voting, kind): secure.take for kind in SECURE},
    (Voting, Decline): take_decline,
    (Voting, Tick): count_votes,
}
"""(phase, event) -> what takes it. What is not here is counted as invalid if it is a message, and
changes nothing else."""


def table() -> str:
    """Return the table as Markdown, for ``docs/architecture.md``."""
    events = (Update, *IN_CELLS, SECURE[0], *ANSWERS, InvalidMessage, Tick)
    names = " | ".join("SecureUp" if event in SECURE else event.__name__ for event in events)
    lines = [f"| phase | {names} |", "|---" * (len(events) + 1) + "|"]
    for phase in (Waiting, Training, JudgingAndTraining, Summing, VotingOnGroups, Voting, Done):
        handlers = [TABLE.get((phase, event)) for event in events]
        cells = [f"`{handler.__name__}`" if handler else "-" for handler in handlers]
        lines.append(f"| `{phase.__name__}` | {' | '.join(cells)} |")
    return "\n".join(lines)
