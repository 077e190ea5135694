"""The round: a pure state machine. Nothing here reads a clock, a socket or a file.

    TRAIN ──enough updates──► VALIDATE ──votes──► accepted: version + 1 ─┬─► TRAIN of the next round
      ▲  │                        └─────────────► rejected: as before  ──┤
      └──┘ too few by the deadline: attempt + 1                          └─► DONE

``step`` takes a state, an event and the policy, and returns the next state and what is to be
done. An event that does not fit changes nothing but a count. The first message of an agent in a
round is the one that counts. Updates are put in the order of their agents' names before they are
aggregated, so the order in which they arrive never changes a result. Who is online and how late
it is come in with every tick; tick on every turn of the loop, or a flood holds back a deadline.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aggregator import verdict
from aggregator.collection import Collection
from aggregator.sampling import Purpose, draw
from aggregator.state import (
    Clear,
    Effect,
    Event,
    Persist,
    Policy,
    Publish,
    Refuse,
    Refused,
    State,
    Tick,
)
from aggregator.verdict import Verdict
from protocol.messages import (
    Candidate,
    History,
    Model,
    Phase,
    Reason,
    Round,
    RoundLog,
    Update,
    Vote,
)

Step = tuple[State, list[Effect]]


def step(state: State, event: Event, policy: Policy) -> Step:
    """Take one event; returns the next state and the effects to carry out, in order."""
    match event:
        case Update():
            return _update(state, event)
        case Vote():
            return _vote(state, event)
        case Refused():
            spoilt = event.update and state.phase is Phase.TRAIN and event.agent in state.called
            if spoilt and event.agent not in state.spoilt:
                state = state._replace(spoilt=state.spoilt | {event.agent}, settled=None)
            return _refuse(state, event.agent, event.reason)
        case Tick():
            return _tick(state, event, policy)


def _update(state: State, update: Update) -> Step:
    if state.phase is not Phase.TRAIN:
        return _refuse(state, update.agent, Reason.WRONG_PHASE)
    if update.round != state.round:
        return _refuse(state, update.agent, Reason.WRONG_ROUND)
    if update.version != state.version:
        return _refuse(state, update.agent, Reason.WRONG_VERSION)
    if update.agent not in state.called:
        return _refuse(state, update.agent, Reason.NOT_CALLED)
    if update.agent in state.updates:
        return _refuse(state, update.agent, Reason.DUPLICATE)
    return state._replace(updates=state.updates.add(update), settled=None), []


def _vote(state: State, vote: Vote) -> Step:
    if state.phase is not Phase.VALIDATE:
        return _refuse(state, vote.agent, Reason.WRONG_PHASE)
    if (vote.round, vote.attempt) != (state.round, state.attempt):
        return _refuse(state, vote.agent, Reason.WRONG_ROUND)
    if vote.agent not in state.validators:
        return _refuse(state, vote.agent, Reason.NOT_CALLED)
    if vote.agent in state.votes:
        return _refuse(state, vote.agent, Reason.DUPLICATE)
    return state._replace(votes={**state.votes, vote.agent: vote}), []


def _refuse(state: State, agent: str, reason: Reason) -> Step:
    refused = {**state.refused, reason.value: state.refused.get(reason.value, 0) + 1}
    return state._replace(refused=refused), [Refuse(agent, reason, refused)]


def _tick(state: State, tick: Tick, policy: Policy) -> Step:
    late = tick.now >= state.deadline
    match state.phase:
        case None:
            return _open(state, tick, policy, attempt=1)
        case Phase.TRAIN:
            return _collect(state, tick, policy, late=late)
        case Phase.VALIDATE if late or len(state.votes) == len(state.validators):
            said = verdict.count(state.votes.values(), len(state.validators))
            why_not = "" if verdict.accepts(said, policy.quorum) else "voted down"
            return _close(state, tick, policy, said, why_not)
        case _:
            return state, []


def _collect(state: State, tick: Tick, policy: Policy, *, late: bool) -> Step:
    """Close the collection if it is full, if it is late, or if all that is missing is spoilt.

    Who sent something unusable may still send something else, and may not be who it says; so the
    round waits ``spoilt_seconds`` more before it does without.
    """
    have, wanted = len(state.updates), policy.threshold or len(state.called)
    if have < min(wanted, len(state.called)) and not late:
        spoilt = sum(name not in state.updates for name in state.spoilt)
        if have + spoilt < len(state.called):
            return state, []
        if state.settled is None:
            return state._replace(settled=tick.now), []
        if tick.now < state.settled + policy.spoilt_seconds:
            return state, []
    if have >= policy.at_least:
        return _aggregate(state, tick, policy)
    if late or state.settled is not None:
        return _repeat(state, tick, policy, _too_few(state, policy))
    return state, []


def _open(state: State, tick: Tick, policy: Policy, attempt: int) -> Step:
    """Open the state's next round, or the same one again at a later attempt."""
    number = state.round + 1 if attempt == 1 else state.round
    count = max(1, round(policy.share * len(tick.online)))
    validators = policy.validators if number > policy.warm_up else 0
    called = draw(tick.online, count, policy.seed, number, Purpose.TRAIN)
    state = State(
        version=state.version,
        weights=state.weights,
        accuracy=state.accuracy,
        refused=state.refused if attempt > 1 or state.phase is None else {},
        round=number,
        attempt=attempt,
        phase=Phase.TRAIN,
        called=frozenset(called),
        updates=Collection.of(called),
        validators=draw(tick.online, validators, policy.seed, number, Purpose.VALIDATE),
        opened=state.opened if attempt > 1 else tick._replace(online=()),
        deadline=tick.now + policy.collect_seconds,
    )
    return state, [Publish(announcement(state, policy))]


def announcement(state: State, policy: Policy) -> Round:
    """Say to the agents where the round stands."""
    everybody = policy.share >= 1
    return Round(
        round=state.round,
        attempt=state.attempt,
        phase=state.phase or Phase.TRAIN,
        version=state.version,
        contributors="all" if everybody else tuple(sorted(state.called)),
        validators=state.validators,
        seconds=policy.vote_seconds if state.phase is Phase.VALIDATE else policy.collect_seconds,
    )


def _too_few(state: State, policy: Policy) -> str:
    return f"{len(state.updates)} updates came in time, {policy.at_least} are needed"


def _repeat(state: State, tick: Tick, policy: Policy, why: str) -> Step:
    """Try the round again: agents send what they have, a fresh collection begins."""
    if state.attempt < policy.attempts:
        state, effects = _open(state, tick, policy, state.attempt + 1)
        note = {"round": state.round, "attempt": state.attempt, "repeated": why}
        return state, [Publish(RoundLog(note)), *effects]
    failure = f"round {state.round} was given up after {state.attempt} attempts: {why}"
    state = state._replace(phase=Phase.DONE, failure=failure)
    return state, [Publish(announcement(state, policy))]


def _aggregate(state: State, tick: Tick, policy: Policy) -> Step:
    """Make the candidate of the updates, and put it before the validators if there are any."""
    updates, samples = state.updates.matrix()
    try:
        delta = policy.rule(updates, np.minimum(samples, policy.samples_cap))
    except ValueError as why:  # such as a trimmed mean of too few
        return _repeat(state, tick, policy, str(why))
    with np.errstate(over="ignore", invalid="ignore"):
        candidate = (state.weights + np.float32(policy.server_lr) * delta).astype(np.float32)
    state = state._replace(candidate=candidate)
    if policy.finite and not np.isfinite(candidate).all():
        return _close(state, tick, policy, None, "the candidate is not finite")
    if not state.validators:
        return _close(state, tick, policy, None, "")
    deadline = tick.now + policy.vote_seconds
    state = state._replace(phase=Phase.VALIDATE, deadline=deadline)
    message = Candidate(state.round, state.attempt, state.version, candidate)
    return state, [Publish(message), Publish(announcement(state, policy))]


def _close(state: State, tick: Tick, policy: Policy, said: Verdict | None, why_not: str) -> Step:
    """Accept the candidate if there is no reason not to, and go on to the next round."""
    assert state.candidate is not None
    reached = policy.evaluate(state.candidate)
    record = _record(state, tick, said, why_not) | {"candidate_accuracy": reached}
    effects: list[Effect] = []
    model = None
    if not why_not:
        model = Model(state.version + 1, state.candidate)
        state = state._replace(version=model.version, weights=model.weights, accuracy=reached)
        effects = [Publish(model), *_history(model, policy)]
    record |= {"version": state.version, "accuracy": state.accuracy}
    effects.insert(0, Persist(record, model))
    if said is not None:
        effects.append(Clear(Candidate(state.round, state.attempt, 0, state.weights)))
    effects.append(Publish(RoundLog(record)))
    if state.round < policy.rounds:
        state, opening = _open(state, tick, policy, attempt=1)
        return state, effects + opening
    state = state._replace(phase=Phase.DONE)
    return state, [*effects, Publish(announcement(state, policy))]


def _history(model: Model, policy: Policy) -> list[Effect]:
    """Keep the last l + 1 accepted models on the broker, for validators who lack some."""
    if not policy.validators:
        return []
    oldest = model.version - policy.look_back - 1
    gone: list[Effect] = [Clear(History(oldest, model.weights))] if oldest >= 0 else []
    return [Publish(History(*model)), *gone]


def _record(state: State, tick: Tick, said: Verdict | None, why_not: str) -> dict[str, Any]:
    """Write down the round, for people and for resuming."""
    seconds = max(tick.now - state.opened.now, 1e-9)
    return {
        "round": state.round,
        "attempt": state.attempt,
        "version": state.version,
        "accepted": not why_not,
        "why": why_not,
        "called": len(state.called),
        "updates": len(state.updates),
        "missing": len(state.called) - len(state.updates),
        "votes": said._asdict() if said else {},
        "refused": dict(state.refused),
        "accuracy": state.accuracy,
        "seconds": round(seconds, 3),
        "updates_per_second": round(len(state.updates) / seconds, 1),
        "bytes_in": tick.received - state.opened.received,
        "bytes_out": tick.sent - state.opened.sent,
    }
