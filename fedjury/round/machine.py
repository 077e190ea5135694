"""The round: a pure state machine. Nothing here reads a clock, a socket or a file.

    Training ──enough updates──► Voting ──votes──► accepted: version + 1 ─┬─► Training, next round
      ▲  │                          └─────────────► rejected: as before ──┤
      └──┘ too few by the deadline: attempt + 1                           └─► Done

With piggy-back there is no Voting: the agents selected for the next round judge the candidate,
train from it, and send both in one message (JudgingAndTraining).

``step`` takes a state, an event and the configuration, and returns the next state and what is to be
done; ``TABLE`` says which function takes which event in which phase. An event that does not fit
changes nothing but a count. The first message of an agent in a round is the one that counts.
Updates are put in the order of their agents' names before they are aggregated, so the order in
which they arrive never changes a result. Who is online and how late it is come in with every tick;
tick on every turn of the loop, or a flood holds back a deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fedjury.detection import state as detection_state
from fedjury.detection.selection import draw
from fedjury.learning.weights import Vector
from fedjury.protocol.logs import RoundRepeated
from fedjury.protocol.messages import Candidate, Phase, Reason, Round, RoundLog, Update, Vote
from fedjury.randomness import Purpose
from fedjury.round import verdict
from fedjury.round.aggregate import aggregate
from fedjury.round.collect import Progress
from fedjury.round.collect import Verdict as Collected
from fedjury.round.state import (
    Aggregated,
    CountInvalid,
    Done,
    Effect,
    Event,
    InvalidMessage,
    JudgingAndTraining,
    Publish,
    RoundConfig,
    RoundPhase,
    State,
    Tick,
    Training,
    Voting,
    Waiting,
)
from fedjury.round.verdict import Poll

Step = tuple[State, list[Effect]]


def step(state: State, event: Event, config: RoundConfig) -> Step:
    """Take one event; returns the next state and the effects to carry out, in order."""
    handler = TABLE.get((type(state.phase), type(event)))
    if handler is not None:
        if isinstance(event, Tick) and not event.reachable:
            return _postpone(state, event, config)
        return handler(state, event, config)
    match event:
        case Update() | Vote():
            return _count_invalid(state, event.agent, Reason.WRONG_PHASE)
        case InvalidMessage():
            return _count_invalid(state, event.agent, event.reason)
        case Tick():
            return state, []


# ---------------------------------------------------------------- messages


def take_update(state: State, update: Update, config: RoundConfig) -> Step:
    """Add an update to the round's contributions; with piggy-back it is a clean vote, too."""
    phase = state.phase
    assert isinstance(phase, Training)
    judging = isinstance(phase, JudgingAndTraining)
    if update.round != state.round:
        return _count_invalid(state, update.agent, Reason.WRONG_ROUND)
    wanted = state.version + judging
    if why := config.collecting.refusal(update, phase.updates, version=wanted):
        return _count_invalid(state, update.agent, why)
    if update.agent not in state.selected:
        return _count_invalid(state, update.agent, Reason.NOT_SELECTED)
    if isinstance(phase, JudgingAndTraining):
        if update.agent in phase.votes:
            return _count_invalid(state, update.agent, Reason.DUPLICATE)
        vote = verdict.clean(update, state.attempt)
        phase = phase.but(votes={**phase.votes, update.agent: vote})
    return state.but(phase=phase.but(updates=phase.updates.add(update), settled=None)), []


def take_vote(state: State, vote: Vote, config: RoundConfig) -> Step:  # noqa: ARG001 - all handlers
    """Add a vote of a validator; with piggy-back, of an agent that will not train from it."""
    phase = state.phase
    assert isinstance(phase, JudgingAndTraining | Voting)
    judging = isinstance(phase, JudgingAndTraining)
    if (vote.round, vote.attempt) != (state.round, state.attempt):
        return _count_invalid(state, vote.agent, Reason.WRONG_ROUND)
    if vote.agent not in (state.selected if judging else state.validators):
        return _count_invalid(state, vote.agent, Reason.NOT_SELECTED)
    if vote.agent in phase.votes:
        return _count_invalid(state, vote.agent, Reason.DUPLICATE)
    changed = phase.but(votes={**phase.votes, vote.agent: vote})
    return state.but(phase=changed.but(settled=None) if judging else changed), []


def note_invalid(state: State, event: InvalidMessage, config: RoundConfig) -> Step:  # noqa: ARG001
    """Count an invalid message; nobody waits long for a selected agent that sent one as update."""
    phase = state.phase
    assert isinstance(phase, Training)
    new = event.agent in state.selected and event.agent not in phase.invalid_from
    if event.update and new:
        senders = phase.invalid_from | {event.agent}
        state = state.but(phase=phase.but(invalid_from=senders, settled=None))
    return _count_invalid(state, event.agent, event.reason)


def _count_invalid(state: State, agent: str, reason: Reason) -> Step:
    invalid = {**state.invalid, reason.value: state.invalid.get(reason.value, 0) + 1}
    return state.but(invalid=invalid), [CountInvalid(agent, reason, invalid)]


# ---------------------------------------------------------------- time


def first_round(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Open the first round; of a run that has all of its rounds, say so."""
    assert isinstance(state.phase, Waiting)
    if state.round >= config.run.rounds:
        return _announced(state.but(phase=Done()), config)
    return open_round(state, tick, config, state.phase.pending)


def collect(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Close the collection when the strategy says so."""
    phase = state.phase
    assert isinstance(phase, Training)
    answered = phase.votes if isinstance(phase, JudgingAndTraining) else phase.updates
    late = tick.now >= state.deadline
    progress = Progress(
        state.selected,
        len(answered),
        sum(name not in answered for name in phase.invalid_from),
        phase.settled,
    )
    match config.collecting.enough(progress, tick.now, late=late):
        case Collected.SETTLE:
            return state.but(phase=phase.but(settled=tick.now)), []
        case Collected.WAIT:
            return state, []
    if isinstance(phase, JudgingAndTraining):
        return _decide_and_go_on(state, tick, config)
    if len(phase.updates) >= config.collect.min_updates:
        return _aggregate(state, tick, config)
    if phase.settled is not None:  # all have answered: asked again, they would send the same
        nothing = Aggregated(why=_too_few(state, config), contributors=phase.updates.names)
        return _close(state, tick, config, verdict.Question(nothing, why_not=nothing.why))
    return _repeat(state, tick, config, _too_few(state, config)) if late else (state, [])


def count_votes(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Decide on the candidate; if too few have voted, ask others once in place of the silent."""
    phase = state.phase
    assert isinstance(phase, Voting)
    if tick.now < state.deadline and len(phase.votes) < len(state.validators):
        return state, []
    poll = Poll.of_validators(state, phase)
    if not phase.silent and verdict.decide(poll, config).unheard:
        silent = tuple(name for name in state.validators if name not in phase.votes)
        there = detection_state.eligible(state.registry, tick.online, state.round, config.detection)
        free = set(there).difference(state.validators)
        others = draw(free, len(silent), config.run.seed, state.round, Purpose.REPLACEMENTS)
        if others:
            state = state.but(
                phase=phase.but(silent=silent),
                validators=tuple(sorted([*phase.votes, *others])),
                deadline=tick.now + config.validation.seconds,
            )
            return _announced(state, config)
    return _close(state, tick, config, verdict.Question.of_vote(phase, poll))


def _postpone(state: State, tick: Tick, config: RoundConfig) -> Step:
    """While nobody can answer no time runs out: once somebody can, it begins again."""
    phase = state.phase
    left = (config.validation if isinstance(phase, Voting) else config.collect).seconds
    if isinstance(phase, Training):
        phase = phase.but(settled=None)
    return state.but(phase=phase, deadline=tick.now + left), []


# ---------------------------------------------------------------- opening a round


def open_round(
    state: State, tick: Tick, config: RoundConfig, pending: Vector | None, *, again: bool = False
) -> Step:
    """Open the state's next round, or the same one ``again`` at a later attempt."""
    number = state.round if again else state.round + 1
    seed, detection, votes = config.run.seed, config.detection, config.validation
    registry = detection_state.admit(state.registry, tick.online, number, detection, seed)
    agents = detection_state.eligible(registry, tick.online, number, detection)
    count = max(1, round(config.sampling.client_fraction * len(agents)))
    forced = config.forced.get(number, ())
    selected = draw(agents, count, seed, number, Purpose.CONTRIBUTORS, forced)
    asked = votes.asked if number > votes.warm_up and not votes.piggy_back else 0
    updates = config.collecting.begin(selected)
    kept = again or isinstance(state.phase, Waiting)
    state = State(
        model=state.model,
        round=number,
        phase=Training(updates)
        if pending is None
        else JudgingAndTraining(updates, pending=pending),
        attempt=state.attempt + 1 if again else 1,
        registry=registry,
        selected=frozenset(selected),
        validators=draw(agents, asked, seed, number, Purpose.VALIDATORS),
        invalid=state.invalid if kept else {},
        opened=state.opened if again else replace(tick, online=()),
        deadline=tick.now + config.collect.seconds,
    )
    if pending is None:
        return _announced(state, config)
    return _announced(state, config, Candidate(number, state.attempt, state.version, pending))


def announcement(state: State, config: RoundConfig) -> Round:
    """Return what agents are told of where the round stands."""
    voting = isinstance(state.phase, Voting)
    everybody = config.sampling.client_fraction >= 1 and not detection_state.passes_over(
        state.registry, state.round
    )
    return Round(
        round=state.round,
        attempt=state.attempt,
        phase=state.phase.name or Phase.TRAIN,
        version=state.version,
        contributors="all" if everybody else tuple(sorted(state.selected)),
        validators=state.validators,
        seconds=(config.validation if voting else config.collect).seconds,
    )


def _announced(state: State, config: RoundConfig, first: Candidate | None = None) -> Step:
    effects: list[Effect] = [Publish(first)] if first else []
    return state, [*effects, Publish(announcement(state, config))]


def _repeat(state: State, tick: Tick, config: RoundConfig, why: str) -> Step:
    """Try the round again: agents send what they have, a fresh collection begins."""
    if state.attempt < config.collect.attempts:
        pending = state.phase.pending if isinstance(state.phase, JudgingAndTraining) else None
        state, effects = open_round(state, tick, config, pending, again=True)
        note = RoundRepeated(state.round, state.attempt, why)
        return state, [Publish(RoundLog(note)), *effects]
    failure = f"round {state.round} was given up after {state.attempt} attempts: {why}"
    return _announced(state.but(phase=Done(failure)), config)


def _too_few(state: State, config: RoundConfig) -> str:
    assert isinstance(state.phase, Training)
    text = (
        f"{len(state.phase.updates):,} of {len(state.selected):,} selected agents sent a valid "
        f"update, {config.collect.min_updates:,} needed"
    )
    if refused := verdict.refusals(state.invalid):
        text += f"; invalid: {refused}"
    excluded = len(detection_state.in_quarantine(state.registry, state.round))
    return f"{text} ({excluded:,} agents are in quarantine)" if excluded else text


# ---------------------------------------------------------------- closing a round


def _aggregate(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Make the candidate of the updates, and put it before the validators if there are any."""
    assert isinstance(state.phase, Training)
    updates = state.phase.updates
    result = aggregate(state, updates, state.weights, tick, config)
    if result.candidate is None and len(updates) < len(state.selected):
        return _repeat(state, tick, config, result.why)
    if result.why:  # asked again, all would send the same
        question = verdict.Question(result, result.candidate, why_not=result.why)
        return _close(state, tick, config, question)
    if config.validation.piggy_back and state.round > config.validation.warm_up:
        # The next round's agents decide.
        question = verdict.Question(result, pending=result.candidate)
        return _close(state, tick, config, question)
    voting = verdict.with_server_vote(state, Voting(result), config)
    state = state.but(phase=voting)
    if not state.validators:
        question = verdict.Question.of_vote(voting, Poll.of_validators(state, voting))
        return _close(state, tick, config, question)
    state = state.but(deadline=tick.now + config.validation.seconds)
    assert result.candidate is not None
    message = Candidate(state.round, state.attempt, state.version, result.candidate)
    return _announced(state, config, message)


def _decide_and_go_on(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Piggy-back: decide on the candidate of the round before; if it stays, go on from it."""
    phase = state.phase
    assert isinstance(phase, JudgingAndTraining)
    poll = Poll.of_contributors(state, phase, config)
    received = Aggregated(contributors=phase.updates.names)
    question = verdict.Question(received, phase.pending, poll)
    decision = verdict.decide(poll, config)
    if decision.unheard and state.attempt == 1 < config.collect.attempts:
        return _repeat(state, tick, config, decision.why)
    if decision.why:
        return _close(state, tick, config, question)
    # Asked again, those that answered would say the same: only those that did not may say more.
    complete = 0 < len(phase.votes) == len(state.selected)
    if complete and not phase.updates:  # too few to vote it down, and all refused it
        return _close(state, tick, config, replace(question, why_not="nobody would train from it"))
    result = replace(received, why=_too_few(state, config))
    if len(phase.updates) >= config.collect.min_updates:
        result = aggregate(state, phase.updates, phase.pending, tick, config)
    if result.candidate is None and not complete:
        return _repeat(state, tick, config, result.why)
    # The updates may be lost; what they stand on is not.
    pending = None if result.why else result.candidate
    question = replace(question, aggregated=result, pending=pending, lost=result.why)
    return _close(state, tick, config, question)


def _close(state: State, tick: Tick, config: RoundConfig, question: verdict.Question) -> Step:
    """Accept the candidate if there is no reason not to, and go on to the next round."""
    state, effects = verdict.finish(state, tick, config, question)
    if state.round < config.run.rounds:
        state, opening = open_round(state, tick, config, question.pending)
        return state, effects + opening
    state, ending = _announced(state.but(phase=Done()), config)
    return state, effects + ending


TABLE: Mapping[tuple[type[RoundPhase], type[Event]], Callable[..., Step]] = {
    (Waiting, Tick): first_round,
    (Training, Update): take_update,
    (Training, InvalidMessage): note_invalid,
    (Training, Tick): collect,
    (JudgingAndTraining, Update): take_update,
    (JudgingAndTraining, Vote): take_vote,
    (JudgingAndTraining, InvalidMessage): note_invalid,
    (JudgingAndTraining, Tick): collect,
    (Voting, Vote): take_vote,
    (Voting, Tick): count_votes,
}
"""(phase, event) -> what takes it. What is not here is counted as invalid if it is a message, and
changes nothing else."""


def table() -> str:
    """Return the table as Markdown, for ``docs/architecture.md``."""
    events = (Update, Vote, InvalidMessage, Tick)
    lines = ["| phase | " + " | ".join(event.__name__ for event in events) + " |"]
    lines.append("|---" * (len(events) + 1) + "|")
    for phase in (Waiting, Training, JudgingAndTraining, Voting, Done):
        handlers = [TABLE.get((phase, event)) for event in events]
        names = [f"`{handler.__name__}`" if handler else "-" for handler in handlers]
        lines.append(f"| `{phase.__name__}` | {' | '.join(names)} |")
    return "\n".join(lines)
