"""The round: a pure state machine. Nothing here reads a clock, a socket or a file.

    TRAIN ──enough updates──► VALIDATE ──votes──► accepted: version + 1 ─┬─► TRAIN of the next round
      ▲  │                        └─────────────► rejected: as before  ──┤
      └──┘ too few by the deadline: attempt + 1                          └─► DONE

With piggy-back there is no VALIDATE: the contributors of the next round judge the candidate,
train from it, and send both in one message (JUDGE_AND_TRAIN).

``step`` takes a state, an event and the policy, and returns the next state and what is to be
done. An event that does not fit changes nothing but a count. The first message of an agent in a
round is the one that counts. Updates are put in the order of their agents' names before they are
aggregated, so the order in which they arrive never changes a result. Who is online and how late
it is come in with every tick; tick on every turn of the loop, or a flood holds back a deadline.
"""

from __future__ import annotations

from dataclasses import replace

from fedjury.learning.weights import Vector
from fedjury.protocol.logs import RoundRepeated
from fedjury.protocol.messages import Candidate, Phase, Reason, Round, RoundLog, Update, Vote
from fedjury.randomness import Purpose
from fedjury.round import aggregate, detection_state, verdict
from fedjury.round.sampling import draw
from fedjury.round.state import (
    CountInvalid,
    Effect,
    Event,
    InvalidMessage,
    Publish,
    RoundConfig,
    State,
    Tick,
)
from fedjury.round.update_buffer import UpdateBuffer

Step = tuple[State, list[Effect]]


def step(state: State, event: Event, config: RoundConfig) -> Step:
    """Take one event; returns the next state and the effects to carry out, in order."""
    match event:
        case Update():
            return _update(state, event)
        case Vote():
            return _vote(state, event)
        case InvalidMessage():
            training = state.phase in (Phase.TRAIN, Phase.JUDGE_AND_TRAIN)
            invalid = event.update and training and event.agent in state.selected
            if invalid and event.agent not in state.invalid_from:
                state = state.but(invalid_from=state.invalid_from | {event.agent}, settled=None)
            return _count_invalid(state, event.agent, event.reason)
        case Tick():
            return _tick(state, event, config)


def _update(state: State, update: Update) -> Step:
    judging = state.phase is Phase.JUDGE_AND_TRAIN
    if state.phase is not Phase.TRAIN and not judging:
        return _count_invalid(state, update.agent, Reason.WRONG_PHASE)
    if update.round != state.round:
        return _count_invalid(state, update.agent, Reason.WRONG_ROUND)
    if update.version != state.version + judging:
        return _count_invalid(state, update.agent, Reason.WRONG_VERSION)
    if update.agent not in state.selected:
        return _count_invalid(state, update.agent, Reason.NOT_CALLED)
    if update.agent in state.updates or update.agent in state.votes:
        return _count_invalid(state, update.agent, Reason.DUPLICATE)
    if judging:
        state = state.but(votes={**state.votes, update.agent: _clean(update, state)})
    return state.but(updates=state.updates.add(update), settled=None), []


def _clean(update: Update, state: State) -> Vote:
    """Read an update as the clean vote that it also is: its sender trained from the candidate."""
    return Vote(
        update.agent,
        state.round,
        state.attempt,
        poisoned=False,
        score=update.score,
        threshold=update.threshold,
        samples=update.samples,
        evidence=update.evidence,
        bytes=update.bytes,
    )


def _vote(state: State, vote: Vote) -> Step:
    asked = {Phase.VALIDATE: state.validators, Phase.JUDGE_AND_TRAIN: state.selected}
    if state.phase not in asked:
        return _count_invalid(state, vote.agent, Reason.WRONG_PHASE)
    if (vote.round, vote.attempt) != (state.round, state.attempt):
        return _count_invalid(state, vote.agent, Reason.WRONG_ROUND)
    if vote.agent not in asked[state.phase]:
        return _count_invalid(state, vote.agent, Reason.NOT_CALLED)
    if vote.agent in state.votes:
        return _count_invalid(state, vote.agent, Reason.DUPLICATE)
    return state.but(votes={**state.votes, vote.agent: vote}, settled=None), []


def _count_invalid(state: State, agent: str, reason: Reason) -> Step:
    invalid = {**state.invalid, reason.value: state.invalid.get(reason.value, 0) + 1}
    return state.but(invalid=invalid), [CountInvalid(agent, reason, invalid)]


def _tick(state: State, tick: Tick, config: RoundConfig) -> Step:
    if not tick.reachable:  # nobody can answer: once somebody can, the time begins again
        voting = state.phase is Phase.VALIDATE
        left = (config.validation if voting else config.collect).seconds
        return state.but(deadline=tick.now + left, settled=None), []
    late = tick.now >= state.deadline
    match state.phase:
        case None if state.round >= config.run.rounds:  # all that is left is to say so
            state = state.but(phase=Phase.DONE)
            return state, [Publish(announcement(state, config))]
        case None:
            return _open(state, tick, config, attempt=1)
        case Phase.TRAIN | Phase.JUDGE_AND_TRAIN:
            return _collect(state, tick, config, late=late)
        case Phase.VALIDATE if late or len(state.votes) == len(state.validators):
            return _count(state, tick, config)
        case _:
            return state, []


def _collect(state: State, tick: Tick, config: RoundConfig, *, late: bool) -> Step:
    """Close the collection if it is full, if it is late, or if all that is missing is spoilt.

    Who sent something unusable may still send something else, and may not be who it says; so the
    round waits ``spoilt_seconds`` more before it does without.
    """
    if not state.selected and not late:
        return state, []
    judging = state.phase is Phase.JUDGE_AND_TRAIN
    answered = state.votes if judging else state.updates
    have, wanted = len(answered), config.collect.threshold or len(state.selected)
    if have < min(wanted, len(state.selected)) and not late:
        invalid = sum(name not in answered for name in state.invalid_from)
        if have + invalid < len(state.selected):
            return state, []
        if state.settled is None:
            return state.but(settled=tick.now), []
        if tick.now < state.settled + config.invalid_seconds:
            return state, []
    if judging:
        return _decide(state, tick, config)
    if have >= config.collect.min_updates:
        return _aggregate(state, tick, config)
    if state.settled is not None:  # all have answered: asked again, they would send the same
        return _close(state, tick, config, None, _too_few(state, config))
    if late:
        return _repeat(state, tick, config, _too_few(state, config))
    return state, []


def _open(state: State, tick: Tick, config: RoundConfig, attempt: int) -> Step:
    """Open the state's next round, or the same one again at a later attempt."""
    number = state.round + 1 if attempt == 1 else state.round
    registry = detection_state.admit(
        state.registry, tick.online, number, config.detection, config.run.seed
    )
    agents = detection_state.eligible(registry, tick.online, number, config.detection)
    count = max(1, round(config.sampling.client_fraction * len(agents)))
    votes = config.validation
    validators = votes.asked if number > votes.warm_up and not votes.piggy_back else 0
    forced = config.forced.get(number, ())
    selected = draw(agents, count, config.run.seed, number, Purpose.CONTRIBUTORS, forced)
    state = State(
        version=state.version,
        weights=state.weights,
        accuracy=state.accuracy,
        backdoor=state.backdoor,
        step=state.step,
        profiles=state.profiles,
        registry=registry,
        pending=state.pending,
        invalid=state.invalid if attempt > 1 or state.phase is None else {},
        round=number,
        attempt=attempt,
        phase=Phase.TRAIN if state.pending is None else Phase.JUDGE_AND_TRAIN,
        selected=frozenset(selected),
        updates=UpdateBuffer.of(selected),
        validators=draw(agents, validators, config.run.seed, number, Purpose.VALIDATORS),
        opened=state.opened if attempt > 1 else replace(tick, online=()),
        deadline=tick.now + config.collect.seconds,
    )
    if state.pending is None:
        return state, [Publish(announcement(state, config))]
    message = Candidate(state.round, state.attempt, state.version, state.pending)
    return state, [Publish(message), Publish(announcement(state, config))]


def announcement(state: State, config: RoundConfig) -> Round:
    """Say to the agents where the round stands."""
    voting = state.phase is Phase.VALIDATE
    everybody = config.sampling.client_fraction >= 1 and not detection_state.passes_over(
        state.registry, state.round
    )
    return Round(
        round=state.round,
        attempt=state.attempt,
        phase=state.phase or Phase.TRAIN,
        version=state.version,
        contributors="all" if everybody else tuple(sorted(state.selected)),
        validators=state.validators,
        seconds=(config.validation if voting else config.collect).seconds,
    )


def _too_few(state: State, config: RoundConfig) -> str:
    text = (
        f"{len(state.updates):,} of {len(state.selected):,} selected agents sent an update that "
        f"counts, {config.collect.min_updates:,} needed"
    )
    if refused := verdict.refusals(state.invalid):
        text += f"; refused: {refused}"
    excluded = len(detection_state.in_quarantine(state.registry, state.round))
    return f"{text} ({excluded:,} agents are in quarantine)" if excluded else text


def _repeat(state: State, tick: Tick, config: RoundConfig, why: str) -> Step:
    """Try the round again: agents send what they have, a fresh collection begins."""
    if state.attempt < config.collect.attempts:
        state, effects = _open(state, tick, config, state.attempt + 1)
        note = RoundRepeated(state.round, state.attempt, why)
        return state, [Publish(RoundLog(note)), *effects]
    failure = f"round {state.round} was given up after {state.attempt} attempts: {why}"
    state = state.but(phase=Phase.DONE, failure=failure)
    return state, [Publish(announcement(state, config))]


def _aggregate(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Make the candidate of the updates, and put it before the validators if there are any."""
    try:
        state = aggregate.detect(state, tick, config, state.weights)
        candidate = aggregate.aggregate(state, config, state.weights)
    except ValueError as why:
        if len(state.updates) < len(state.selected):
            return _repeat(state, tick, config, str(why))
        return _close(state, tick, config, None, str(why))  # asked again, all would send the same
    state = state.but(candidate=candidate)
    if why_not := aggregate.unusable(candidate, config):
        return _close(state.but(candidate=None), tick, config, candidate, why_not)
    if config.validation.piggy_back and state.round > config.validation.warm_up:
        return _close(state, tick, config, None)  # the next round's contributors decide
    state = aggregate.server_vote(state, config)
    if not state.validators:
        return _close(state.but(candidate=None), tick, config, candidate)
    deadline = tick.now + config.validation.seconds
    state = state.but(phase=Phase.VALIDATE, deadline=deadline)
    message = Candidate(state.round, state.attempt, state.version, candidate)
    return state, [Publish(message), Publish(announcement(state, config))]


def _count(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Decide on the candidate; if too few have voted, ask others once in place of the silent."""
    if not state.silent and aggregate.decide(state, config).unheard:
        silent = tuple(name for name in state.validators if name not in state.votes)
        there = detection_state.eligible(state.registry, tick.online, state.round, config.detection)
        others = draw(
            set(there).difference(state.validators),
            len(silent),
            config.run.seed,
            state.round,
            Purpose.REPLACEMENTS,
        )
        if others:
            state = state.but(
                validators=tuple(sorted([*state.votes, *others])),
                silent=silent,
                deadline=tick.now + config.validation.seconds,
            )
            return state, [Publish(announcement(state, config))]
    return _close(state.but(candidate=None), tick, config, state.candidate)


def _decide(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Piggy-back: decide on the candidate of the round before; if it stays, go on from it."""
    pending = state.pending
    assert pending is not None
    result = aggregate.decide(state, config)
    if result.unheard and state.attempt == 1 < config.collect.attempts:
        return _repeat(state, tick, config, result.why)
    if result.why:
        return _close(state, tick, config, pending)
    # Asked again, those who answered would say the same: it is only worth it for those who did not.
    complete = 0 < len(state.votes) == len(state.selected)
    if complete and not state.updates:  # too few to vote it down, and all refused it
        return _close(state, tick, config, pending, "nobody would train from it")
    candidate: Vector | None
    try:
        if len(state.updates) < config.collect.min_updates:
            raise ValueError(_too_few(state, config))
        state = aggregate.detect(state, tick, config, pending)
        candidate = aggregate.aggregate(state, config, pending)
    except ValueError as why:
        if not complete:
            return _repeat(state, tick, config, str(why))
        candidate, lost = None, str(why)
    else:
        lost = aggregate.unusable(candidate, config)
    if lost:  # the updates are, what they stand on is not
        candidate, state = None, state.but(lost=lost)
    return _close(state.but(candidate=candidate), tick, config, pending)


def _close(
    state: State, tick: Tick, config: RoundConfig, candidate: Vector | None, why_not: str = ""
) -> Step:
    """Accept the candidate if there is no reason not to, and go on to the next round."""
    state, effects = aggregate.finish(state, tick, config, candidate, why_not)
    if state.round < config.run.rounds:
        state, opening = _open(state, tick, config, attempt=1)
        return state, effects + opening
    state = state.but(phase=Phase.DONE)
    return state, [*effects, Publish(announcement(state, config))]
