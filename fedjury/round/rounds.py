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
from fedjury.round import closing, suspicion, verdict
from fedjury.round.collection import Collection
from fedjury.round.sampling import Purpose, draw
from fedjury.round.state import Effect, Event, Policy, Publish, Refuse, Refused, State, Tick

Step = tuple[State, list[Effect]]


def step(state: State, event: Event, policy: Policy) -> Step:
    """Take one event; returns the next state and the effects to carry out, in order."""
    match event:
        case Update():
            return _update(state, event)
        case Vote():
            return _vote(state, event)
        case Refused():
            training = state.phase in (Phase.TRAIN, Phase.JUDGE_AND_TRAIN)
            spoilt = event.update and training and event.agent in state.called
            if spoilt and event.agent not in state.spoilt:
                state = state.but(spoilt=state.spoilt | {event.agent}, settled=None)
            return _refuse(state, event.agent, event.reason)
        case Tick():
            return _tick(state, event, policy)


def _update(state: State, update: Update) -> Step:
    judging = state.phase is Phase.JUDGE_AND_TRAIN
    if state.phase is not Phase.TRAIN and not judging:
        return _refuse(state, update.agent, Reason.WRONG_PHASE)
    if update.round != state.round:
        return _refuse(state, update.agent, Reason.WRONG_ROUND)
    if update.version != state.version + judging:
        return _refuse(state, update.agent, Reason.WRONG_VERSION)
    if update.agent not in state.called:
        return _refuse(state, update.agent, Reason.NOT_CALLED)
    if update.agent in state.updates or update.agent in state.votes:
        return _refuse(state, update.agent, Reason.DUPLICATE)
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
    asked = {Phase.VALIDATE: state.validators, Phase.JUDGE_AND_TRAIN: state.called}
    if state.phase not in asked:
        return _refuse(state, vote.agent, Reason.WRONG_PHASE)
    if (vote.round, vote.attempt) != (state.round, state.attempt):
        return _refuse(state, vote.agent, Reason.WRONG_ROUND)
    if vote.agent not in asked[state.phase]:
        return _refuse(state, vote.agent, Reason.NOT_CALLED)
    if vote.agent in state.votes:
        return _refuse(state, vote.agent, Reason.DUPLICATE)
    return state.but(votes={**state.votes, vote.agent: vote}, settled=None), []


def _refuse(state: State, agent: str, reason: Reason) -> Step:
    refused = {**state.refused, reason.value: state.refused.get(reason.value, 0) + 1}
    return state.but(refused=refused), [Refuse(agent, reason, refused)]


def _tick(state: State, tick: Tick, policy: Policy) -> Step:
    if not tick.reachable:  # nobody can answer: once somebody can, the time begins anew
        voting = state.phase is Phase.VALIDATE
        left = (policy.validation if voting else policy.collect).seconds
        return state.but(deadline=tick.now + left, settled=None), []
    late = tick.now >= state.deadline
    match state.phase:
        case None if state.round >= policy.run.rounds:  # all that is left is to say so
            state = state.but(phase=Phase.DONE)
            return state, [Publish(announcement(state, policy))]
        case None:
            return _open(state, tick, policy, attempt=1)
        case Phase.TRAIN | Phase.JUDGE_AND_TRAIN:
            return _collect(state, tick, policy, late=late)
        case Phase.VALIDATE if late or len(state.votes) == len(state.validators):
            return _count(state, tick, policy)
        case _:
            return state, []


def _collect(state: State, tick: Tick, policy: Policy, *, late: bool) -> Step:
    """Close the collection if it is full, if it is late, or if all that is missing is spoilt.

    Who sent something unusable may still send something else, and may not be who it says; so the
    round waits ``spoilt_seconds`` more before it does without.
    """
    if not state.called and not late:
        return state, []
    judging = state.phase is Phase.JUDGE_AND_TRAIN
    answered = state.votes if judging else state.updates
    have, wanted = len(answered), policy.collect.threshold or len(state.called)
    if have < min(wanted, len(state.called)) and not late:
        spoilt = sum(name not in answered for name in state.spoilt)
        if have + spoilt < len(state.called):
            return state, []
        if state.settled is None:
            return state.but(settled=tick.now), []
        if tick.now < state.settled + policy.spoilt_seconds:
            return state, []
    if judging:
        return _decide(state, tick, policy)
    if have >= policy.collect.at_least:
        return _aggregate(state, tick, policy)
    if state.settled is not None:  # all have answered: asked again, they would send the same
        return _close(state, tick, policy, None, _too_few(state, policy))
    if late:
        return _repeat(state, tick, policy, _too_few(state, policy))
    return state, []


def _open(state: State, tick: Tick, policy: Policy, attempt: int) -> Step:
    """Open the state's next round, or the same one again at a later attempt."""
    number = state.round + 1 if attempt == 1 else state.round
    docket = suspicion.welcome(state.docket, tick.online, number, policy.watch, policy.run.seed)
    agents = suspicion.eligible(docket, tick.online, number, policy.watch)
    count = max(1, round(policy.sampling.share * len(agents)))
    votes = policy.validation
    validators = votes.asked if number > votes.warm_up and not votes.piggy_back else 0
    planted = policy.planted.get(number, ())
    called = draw(agents, count, policy.run.seed, number, Purpose.TRAIN, planted)
    state = State(
        version=state.version,
        weights=state.weights,
        accuracy=state.accuracy,
        backdoor=state.backdoor,
        step=state.step,
        profiles=state.profiles,
        docket=docket,
        pending=state.pending,
        refused=state.refused if attempt > 1 or state.phase is None else {},
        round=number,
        attempt=attempt,
        phase=Phase.TRAIN if state.pending is None else Phase.JUDGE_AND_TRAIN,
        called=frozenset(called),
        updates=Collection.of(called),
        validators=draw(agents, validators, policy.run.seed, number, Purpose.VALIDATE),
        opened=state.opened if attempt > 1 else replace(tick, online=()),
        deadline=tick.now + policy.collect.seconds,
    )
    if state.pending is None:
        return state, [Publish(announcement(state, policy))]
    message = Candidate(state.round, state.attempt, state.version, state.pending)
    return state, [Publish(message), Publish(announcement(state, policy))]


def announcement(state: State, policy: Policy) -> Round:
    """Say to the agents where the round stands."""
    voting = state.phase is Phase.VALIDATE
    everybody = policy.sampling.share >= 1 and not suspicion.passes_over(state.docket, state.round)
    return Round(
        round=state.round,
        attempt=state.attempt,
        phase=state.phase or Phase.TRAIN,
        version=state.version,
        contributors="all" if everybody else tuple(sorted(state.called)),
        validators=state.validators,
        seconds=(policy.validation if voting else policy.collect).seconds,
    )


def _too_few(state: State, policy: Policy) -> str:
    said = (
        f"{len(state.updates):,} of {len(state.called):,} called agents sent an update that "
        f"counts, {policy.collect.at_least:,} needed"
    )
    if refused := verdict.refusals(state.refused):
        said += f"; refused: {refused}"
    out = len(suspicion.in_quarantine(state.docket, state.round))
    return f"{said} ({out:,} agents are in quarantine)" if out else said


def _repeat(state: State, tick: Tick, policy: Policy, why: str) -> Step:
    """Try the round again: agents send what they have, a fresh collection begins."""
    if state.attempt < policy.collect.attempts:
        state, effects = _open(state, tick, policy, state.attempt + 1)
        note = RoundRepeated(state.round, state.attempt, why)
        return state, [Publish(RoundLog(note)), *effects]
    failure = f"round {state.round} was given up after {state.attempt} attempts: {why}"
    state = state.but(phase=Phase.DONE, failure=failure)
    return state, [Publish(announcement(state, policy))]


def _aggregate(state: State, tick: Tick, policy: Policy) -> Step:
    """Make the candidate of the updates, and put it before the validators if there are any."""
    try:
        state = closing.inspected(state, tick, policy, state.weights)
        candidate = closing.aggregate(state, policy, state.weights)
    except ValueError as why:
        if len(state.updates) < len(state.called):
            return _repeat(state, tick, policy, str(why))
        return _close(state, tick, policy, None, str(why))  # asked again, all would send the same
    state = state.but(candidate=candidate)
    if why_not := closing.unusable(candidate, policy):
        return _close(state.but(candidate=None), tick, policy, candidate, why_not)
    if policy.validation.piggy_back and state.round > policy.validation.warm_up:
        return _close(state, tick, policy, None)  # the next round's contributors decide
    state = closing.own_vote(state, policy)
    if not state.validators:
        return _close(state.but(candidate=None), tick, policy, candidate)
    deadline = tick.now + policy.validation.seconds
    state = state.but(phase=Phase.VALIDATE, deadline=deadline)
    message = Candidate(state.round, state.attempt, state.version, candidate)
    return state, [Publish(message), Publish(announcement(state, policy))]


def _count(state: State, tick: Tick, policy: Policy) -> Step:
    """Decide on the candidate; if too few have voted, ask others once in place of the silent."""
    if not state.silent and closing.outcome(state, policy).unheard:
        silent = tuple(name for name in state.validators if name not in state.votes)
        there = suspicion.eligible(state.docket, tick.online, state.round, policy.watch)
        others = draw(
            set(there).difference(state.validators),
            len(silent),
            policy.run.seed,
            state.round,
            Purpose.REPLACE,
        )
        if others:
            state = state.but(
                validators=tuple(sorted([*state.votes, *others])),
                silent=silent,
                deadline=tick.now + policy.validation.seconds,
            )
            return state, [Publish(announcement(state, policy))]
    return _close(state.but(candidate=None), tick, policy, state.candidate)


def _decide(state: State, tick: Tick, policy: Policy) -> Step:
    """Piggy-back: decide on the candidate of the round before; if it stays, go on from it."""
    pending = state.pending
    assert pending is not None
    found = closing.outcome(state, policy)
    if found.unheard and state.attempt == 1 < policy.collect.attempts:
        return _repeat(state, tick, policy, found.why)
    if found.why:
        return _close(state, tick, policy, pending)
    # Asked again, those who answered would say the same: it is only worth it for those who did not.
    complete = 0 < len(state.votes) == len(state.called)
    if complete and not state.updates:  # too few to vote it down, and all refused it
        return _close(state, tick, policy, pending, "nobody would train from it")
    candidate: Vector | None
    try:
        if len(state.updates) < policy.collect.at_least:
            raise ValueError(_too_few(state, policy))
        state = closing.inspected(state, tick, policy, pending)
        candidate = closing.aggregate(state, policy, pending)
    except ValueError as why:
        if not complete:
            return _repeat(state, tick, policy, str(why))
        candidate, lost = None, str(why)
    else:
        lost = closing.unusable(candidate, policy)
    if lost:  # the updates are, what they stand on is not
        candidate, state = None, state.but(lost=lost)
    return _close(state.but(candidate=candidate), tick, policy, pending)


def _close(
    state: State, tick: Tick, policy: Policy, candidate: Vector | None, why_not: str = ""
) -> Step:
    """Accept the candidate if there is no reason not to, and go on to the next round."""
    state, effects = closing.conclude(state, tick, policy, candidate, why_not)
    if state.round < policy.run.rounds:
        state, opening = _open(state, tick, policy, attempt=1)
        return state, effects + opening
    state = state.but(phase=Phase.DONE)
    return state, [*effects, Publish(announcement(state, policy))]
