"""The end of a round: the candidate, the verdict on it, and the record. All of it is pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedjury.detection import Seen
from fedjury.learning.weights import Vector
from fedjury.protocol.fields import SERVER
from fedjury.protocol.messages import Candidate, History, Model, Phase, RoundLog, Vote
from fedjury.protocol.record import Ballot, Quality, RoundRecord, Timing, Traffic, Votes
from fedjury.round import suspicion, verdict
from fedjury.round.state import Clear, Effect, Persist, Policy, Publish, State, Tick
from fedjury.round.suspicion import Findings
from fedjury.round.verdict import Verdict
from fedjury.rules import Context

Step = tuple[State, list[Effect]]

ABSENT = 100
"""Names of missing agents that a record holds at most."""


def inspected(state: State, tick: Tick, policy: Policy, start: Vector) -> State:
    """Let the detectors look at the updates, which started from ``start``, if anybody looks."""
    watch = policy.watch
    if not watch.remembers:
        return state
    known, names = state.docket.seen, state.updates.names
    seen = Seen(
        state.round,
        names,
        state.updates.matrix()[0],
        start,
        {name: known[name] for name in sorted(tick.online) if name in known},
        state.docket.votes,
        state.docket.verdict,
    )
    findings = suspicion.inspect(watch, state.docket, seen)
    left_out = sum(name in findings.suspected for name in names) if watch.rules.quarantine else 0
    return state.but(findings=findings, left_out=left_out)


def aggregate(state: State, policy: Policy, start: Vector) -> Vector:
    """Make the candidate (d,): ``start`` and a step along the updates that came.

    Under quarantine those of suspected agents are left out, and where nobody else is left the
    candidate is ``start``.

    Raises
    ------
    ValueError
        If the rule cannot work with these updates, such as a trimmed mean with too few.
    """
    updates, samples = state.updates.matrix()
    if state.left_out == len(updates):
        return start
    names = state.updates.names if policy.watch.remembers else ()
    if state.left_out and state.findings is not None:
        kept = [i for i, name in enumerate(names) if name not in state.findings.suspected]
        names = tuple(names[i] for i in kept)
        updates, samples = updates[kept], samples[kept]
    context = Context(
        policy.run.seed,
        state.round,
        state.step,
        state.docket.past.of(names, len(start)) if policy.watch.past else None,
        policy.own_update(start, state.round) if policy.own_update else None,
        state.left_out + len(suspicion.in_quarantine(state.docket, state.round)),
    )
    delta = policy.rule(updates, np.minimum(samples, policy.limits.samples), context)
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.float32(policy.aggregation.server_lr) * delta
        candidate: Vector = (start + step).astype(np.float32)
    candidate[policy.variances] = np.maximum(candidate[policy.variances], 0)
    return candidate


def unusable(candidate: Vector, policy: Policy) -> str:
    """Say why nobody has to vote on this candidate; empty if there is no reason."""
    if not policy.limits.finite:
        return ""
    if not np.isfinite(candidate).all():
        return "the candidate is not finite"
    flaw = policy.flaw(candidate)
    return f"the candidate is unusable: {flaw}" if flaw else ""


def own_vote(state: State, policy: Policy) -> State:
    """Let the server look at the candidate, and vote on it if votes count already."""
    if policy.own is None or state.candidate is None:
        return state
    found = policy.own.profile(state.candidate)
    own = None
    if state.round > policy.validation.warm_up:
        own = policy.own.cast(state.profiles, found, (state.round, state.attempt))
    return state.but(own=own, found=found)


def ballots(state: State) -> dict[str, Vote]:
    """Return all votes that have come, the server's among them, by voter in order of name."""
    own = {SERVER: state.own} if state.own is not None else {}
    return own | {name: state.votes[name] for name in sorted(state.votes)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the votes on a candidate."""

    said: Verdict | None = None
    """None where nobody was asked."""
    quorum: int = 0
    """"Poisoned" votes that would have rejected it, of so many asked."""
    evidence: float | None = None
    """What is in the scores, where they decide."""
    why: str = ""
    """Why it is not accepted; empty if it is."""
    unheard: bool = False
    """Whether it is only not accepted because too few have voted."""


def outcome(state: State, policy: Policy) -> Outcome:
    """Count the votes that have come."""
    votes, judging = ballots(state), state.phase is Phase.JUDGE_AND_TRAIN
    asked = len(state.validators) or len(state.called) * judging
    asked += state.own is not None
    if not asked:
        return Outcome()
    said = verdict.count(votes.values(), asked)
    evidence = None
    voting = policy.validation
    if voting.decide == "score":
        evidence = verdict.evidence(votes.values(), voting.liars, voting.false_alarm)
    quorum = voting.rejects(asked)
    counted = not verdict.accepts(said, quorum)
    if counted if evidence is None else evidence > 0:
        return Outcome(said, quorum, evidence, verdict.VOTED_DOWN)
    # A round that closes at a threshold waits for no more votes than that.
    awaited = min(policy.collect.threshold or asked, asked) if judging else asked
    why = verdict.too_few(said, awaited, voting.min_votes)
    return Outcome(said, quorum, evidence, why, bool(why))


def conclude(
    state: State, tick: Tick, policy: Policy, candidate: Vector | None, why_not: str = ""
) -> Step:
    """Accept a candidate or not, and write the round down; the next round is not opened here.

    ``candidate``: the one in question; with piggy-back that is the candidate of the round before,
    and None where there is none. ``why_not``: a reason to drop it before any vote is counted.
    """
    found = outcome(state, policy) if not why_not or state.votes else Outcome()
    against = why_not or found.why
    judged = _judged(state, policy, candidate)
    reached: Quality | None = None
    effects: list[Effect] = []
    model = None
    if candidate is not None:
        reached = measured(policy, candidate)
        if not against:
            model = Model(state.version + 1, candidate)
            state = _accepted(state, policy, model, reached)
            effects = [Publish(model), *_history(model, policy)]
    record = _record(state, tick, policy, found, against)
    record = replace(record, candidate=reached, judged=judged)
    if candidate is None and not against:
        # The first round with piggy-back: there is nothing to decide yet.
        record = replace(record, accepted=None)
    pending = state.candidate if policy.validation.piggy_back else None
    state, record = _noted(state, policy, record)
    docket = state.docket if policy.watch.remembers else None
    effects.insert(0, Persist(record, model, pending, docket))
    if state.validators or state.phase is Phase.JUDGE_AND_TRAIN:
        effects.append(Clear(Candidate(state.round, state.attempt, 0, state.weights)))
    effects.append(Publish(RoundLog(record)))
    return state.but(pending=pending), effects


def measured(policy: Policy, model: Vector) -> Quality:
    """Measure a model (d,) as records do."""
    return Quality(policy.evaluate(model), policy.backdoor(model) if policy.backdoor else None)


def _noted(state: State, policy: Policy, record: RoundRecord) -> tuple[State, RoundRecord]:
    """Take what the round said of the agents into account, and into the record."""
    if not policy.watch.remembers:
        return state, record
    findings = state.findings or Findings(state.docket)
    if policy.watch.detectors:
        seen = suspicion.record(findings, state.left_out, state.round)
        record = replace(record, detection=seen)
    # A vote is shown to detectors once, in the round after it.
    said = {name: state.votes[name].poisoned for name in sorted(state.votes)}
    docket = replace(findings.docket, votes=said, verdict=record.accepted if said else None)
    return state.but(docket=docket), record


def step_between(before: Vector, after: Vector, server_lr: float) -> Vector | None:
    """Return the aggregated update (d,) that led from one model to the next, if there was one.

    Made of the models, of which a resumed run has the same.
    """
    if not server_lr:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return ((after - before) / np.float32(server_lr)).astype(np.float32)


def _accepted(state: State, policy: Policy, model: Model, reached: Quality) -> State:
    profiles = state.profiles
    if policy.own is not None and state.found is not None:
        profiles = (*profiles, state.found)[-policy.own.models :]
    return state.but(
        version=model.version,
        weights=model.weights,
        accuracy=reached.accuracy,
        backdoor=reached.backdoor,
        profiles=profiles,
        step=step_between(state.weights, model.weights, policy.aggregation.server_lr),
    )


def _judged(state: State, policy: Policy, candidate: Vector | None) -> int | None:
    """Return the round whose candidate the verdict is about."""
    if candidate is None:
        return None
    before = policy.validation.piggy_back and state.pending is not None
    return state.round - 1 if before else state.round


def _history(model: Model, policy: Policy) -> list[Effect]:
    """Keep the last l + 1 accepted models on the broker, for validators who lack some."""
    if not (policy.validation.asked or policy.validation.piggy_back):
        return []
    oldest = model.version - policy.validation.look_back - 1
    gone: list[Effect] = [Clear(History(oldest, model.weights))] if oldest >= 0 else []
    return [Publish(History(model.version, model.weights)), *gone]


def _votes(state: State, found: Outcome) -> Votes:
    """Write down who said what, and how many bytes it received to come to it."""
    if found.said is None:
        return Votes(evidence=found.evidence)
    every = ballots(state)
    held = sorted(vote.samples for vote in every.values())
    return Votes(
        poisoned=found.said.poisoned,
        clean=found.said.clean,
        silent=found.said.silent,
        voters={
            name: Ballot(vote.poisoned, round(vote.score, 6), round(vote.threshold, 6), vote.bytes)
            for name, vote in every.items()
        },
        evidence=found.evidence,
        quorum=found.quorum,
        replaced=state.silent,
        median_samples=held[len(held) // 2] if held else None,
    )


def _record(state: State, tick: Tick, policy: Policy, found: Outcome, why_not: str) -> RoundRecord:
    """Write down the round, for people and for resuming."""
    seconds = max(tick.now - state.opened.now, 1e-9)
    answered = state.votes if state.phase is Phase.JUDGE_AND_TRAIN else state.updates
    return RoundRecord(
        round=state.round,
        run=policy.run.name,
        attempt=state.attempt,
        version=state.version,
        accepted=not why_not,
        why=why_not,
        lost=state.lost,
        called=len(state.called),
        updates=len(state.updates),
        missing=len(state.called) - len(answered),
        absent=tuple(sorted(state.called - set(answered))[:ABSENT]),
        model=Quality(state.accuracy, state.backdoor),
        votes=_votes(state, found),
        traffic=Traffic(
            dict(state.refused),
            tick.received - state.opened.received,
            tick.sent - state.opened.sent,
            tick.dropped - state.opened.dropped,
        ),
        timing=Timing(
            round(seconds, 3), round(len(state.updates) / seconds, 1), round(tick.time, 3)
        ),
    )
