"""The end of a round: the candidate, the verdict on it, and the record. All of it is pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedjury.detection import Observation
from fedjury.learning.weights import Vector
from fedjury.protocol.fields import SERVER
from fedjury.protocol.messages import Candidate, History, Model, Phase, RoundLog, Vote
from fedjury.protocol.record import Ballot, Quality, RoundRecord, Timing, Traffic, Votes
from fedjury.round import detection_state, verdict
from fedjury.round.detection_state import DetectionResult
from fedjury.round.state import Clear, Effect, Persist, Publish, RoundConfig, State, Tick
from fedjury.round.verdict import Verdict
from fedjury.rules import Context

Step = tuple[State, list[Effect]]

ABSENT = 100
"""Names of missing agents that a record holds at most."""


def detect(state: State, tick: Tick, config: RoundConfig, start: Vector) -> State:
    """Let the detectors look at the updates, which started from ``start``, if anybody looks."""
    detection = config.detection
    if not detection.remembers:
        return state
    known, names = state.registry.seen, state.updates.names
    observation = Observation(
        state.round,
        names,
        state.updates.matrix()[0],
        start,
        {name: known[name] for name in sorted(tick.online) if name in known},
        state.registry.votes,
        state.registry.verdict,
    )
    result = detection_state.inspect(detection, state.registry, observation)
    filtered = sum(name in result.flagged for name in names) if detection.rules.quarantine else 0
    return state.but(detection=result, filtered=filtered)


def aggregate(state: State, config: RoundConfig, start: Vector) -> Vector:
    """Make the candidate (d,): ``start`` and a step along the updates that came.

    Under quarantine those of suspected agents are left out, and where nobody else is left the
    candidate is ``start``.

    Raises
    ------
    ValueError
        If the rule cannot work with these updates, such as a trimmed mean with too few.
    """
    updates, samples = state.updates.matrix()
    if state.filtered == len(updates):
        return start
    names = state.updates.names if config.detection.remembers else ()
    if state.filtered and state.detection is not None:
        kept = [i for i, name in enumerate(names) if name not in state.detection.flagged]
        names = tuple(names[i] for i in kept)
        updates, samples = updates[kept], samples[kept]
    context = Context(
        config.run.seed,
        state.round,
        state.step,
        state.registry.update_sums.of(names, len(start)) if config.detection.update_sums else None,
        config.server_update(start, state.round) if config.server_update else None,
        state.filtered + len(detection_state.in_quarantine(state.registry, state.round)),
    )
    delta = config.rule(updates, np.minimum(samples, config.limits.samples), context)
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.float32(config.aggregation.server_lr) * delta
        candidate: Vector = (start + step).astype(np.float32)
    candidate[config.variances] = np.maximum(candidate[config.variances], 0)
    return candidate


def unusable(candidate: Vector, config: RoundConfig) -> str:
    """Say why nobody has to vote on this candidate; empty if there is no reason."""
    if not config.limits.finite:
        return ""
    if not np.isfinite(candidate).all():
        return "the candidate is not finite"
    flaw = config.flaw(candidate)
    return f"the candidate is unusable: {flaw}" if flaw else ""


def server_vote(state: State, config: RoundConfig) -> State:
    """Let the server look at the candidate, and vote on it if votes count already."""
    if config.server_validator is None or state.candidate is None:
        return state
    result = config.server_validator.profile(state.candidate)
    own = None
    if state.round > config.validation.warm_up:
        own = config.server_validator.cast(state.profiles, result, (state.round, state.attempt))
    return state.but(server_vote=own, server_profile=result)


def all_votes(state: State) -> dict[str, Vote]:
    """Return all votes that have come, the server's among them, by voter in order of name."""
    own = {SERVER: state.server_vote} if state.server_vote is not None else {}
    return own | {name: state.votes[name] for name in sorted(state.votes)}


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of the votes on a candidate."""

    verdict: Verdict | None = None
    """None where nobody was asked."""
    quorum: int = 0
    """"Poisoned" votes that would have rejected it, of so many asked."""
    evidence: float | None = None
    """What is in the scores, where they decide."""
    why: str = ""
    """Why it is not accepted; empty if it is."""
    unheard: bool = False
    """Whether it is only not accepted because too few have voted."""


def decide(state: State, config: RoundConfig) -> Decision:
    """Count the votes that have come."""
    votes, judging = all_votes(state), state.phase is Phase.JUDGE_AND_TRAIN
    asked = len(state.validators) or len(state.selected) * judging
    asked += state.server_vote is not None
    if not asked:
        return Decision()
    message = verdict.count(votes.values(), asked)
    evidence = None
    voting = config.validation
    if voting.decide == "score":
        evidence = verdict.evidence(votes.values(), voting.tolerated_malicious, voting.false_alarm)
    quorum = voting.rejects(asked)
    counted = not verdict.accepts(message, quorum)
    if counted if evidence is None else evidence > 0:
        return Decision(message, quorum, evidence, verdict.VOTED_DOWN)
    # A round that closes at a threshold waits for no more votes than that.
    awaited = min(config.collect.threshold or asked, asked) if judging else asked
    why = verdict.too_few(message, awaited, voting.min_votes)
    return Decision(message, quorum, evidence, why, bool(why))


def finish(
    state: State, tick: Tick, config: RoundConfig, candidate: Vector | None, why_not: str = ""
) -> Step:
    """Accept a candidate or not, and write the round down; the next round is not opened here.

    ``candidate``: the one in question; with piggy-back that is the candidate of the round before,
    and None where there is none. ``why_not``: a reason to drop it before any vote is counted.
    """
    result = decide(state, config) if not why_not or state.votes else Decision()
    against = why_not or result.why
    judged = _judged(state, config, candidate)
    reached: Quality | None = None
    effects: list[Effect] = []
    model = None
    if candidate is not None:
        reached = measured(config, candidate)
        if not against:
            model = Model(state.version + 1, candidate)
            state = _accepted(state, config, model, reached)
            effects = [Publish(model), *_history(model, config)]
    record = _record(state, tick, config, result, against)
    record = replace(record, candidate=reached, judged=judged)
    if candidate is None and not against:
        # The first round with piggy-back: there is nothing to decide yet.
        record = replace(record, accepted=None)
    pending = state.candidate if config.validation.piggy_back else None
    state, record = _noted(state, config, record)
    registry = state.registry if config.detection.remembers else None
    effects.insert(0, Persist(record, model, pending, registry))
    if state.validators or state.phase is Phase.JUDGE_AND_TRAIN:
        effects.append(Clear(Candidate(state.round, state.attempt, 0, state.weights)))
    effects.append(Publish(RoundLog(record)))
    return state.but(pending=pending), effects


def measured(config: RoundConfig, model: Vector) -> Quality:
    """Measure a model (d,) as records do."""
    return Quality(config.evaluate(model), config.backdoor(model) if config.backdoor else None)


def _noted(state: State, config: RoundConfig, record: RoundRecord) -> tuple[State, RoundRecord]:
    """Take what the round said of the agents into account, and into the record."""
    if not config.detection.remembers:
        return state, record
    result = state.detection or DetectionResult(state.registry)
    if config.detection.detectors:
        seen = detection_state.record(result, state.filtered, state.round)
        record = replace(record, detection=seen)
    # A vote is shown to detectors once, in the round after it.
    content = {name: state.votes[name].poisoned for name in sorted(state.votes)}
    registry = replace(result.registry, votes=content, verdict=record.accepted if content else None)
    return state.but(registry=registry), record


def step_between(before: Vector, after: Vector, server_lr: float) -> Vector | None:
    """Return the aggregated update (d,) that led from one model to the next, if there was one.

    Made of the models, of which a resumed run has the same.
    """
    if not server_lr:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return ((after - before) / np.float32(server_lr)).astype(np.float32)


def _accepted(state: State, config: RoundConfig, model: Model, reached: Quality) -> State:
    profiles = state.profiles
    if config.server_validator is not None and state.server_profile is not None:
        profiles = (*profiles, state.server_profile)[-config.server_validator.models :]
    return state.but(
        version=model.version,
        weights=model.weights,
        accuracy=reached.accuracy,
        backdoor=reached.backdoor,
        profiles=profiles,
        step=step_between(state.weights, model.weights, config.aggregation.server_lr),
    )


def _judged(state: State, config: RoundConfig, candidate: Vector | None) -> int | None:
    """Return the round whose candidate the verdict is about."""
    if candidate is None:
        return None
    before = config.validation.piggy_back and state.pending is not None
    return state.round - 1 if before else state.round


def _history(model: Model, config: RoundConfig) -> list[Effect]:
    """Keep the last l + 1 accepted models on the broker, for validators who lack some."""
    if not (config.validation.asked or config.validation.piggy_back):
        return []
    oldest = model.version - config.validation.look_back - 1
    gone: list[Effect] = [Clear(History(oldest, model.weights))] if oldest >= 0 else []
    return [Publish(History(model.version, model.weights)), *gone]


def _votes(state: State, result: Decision) -> Votes:
    """Write down who said what, and how many bytes it received to come to it."""
    if result.verdict is None:
        return Votes(evidence=result.evidence)
    every = all_votes(state)
    held = sorted(vote.samples for vote in every.values())
    return Votes(
        poisoned=result.verdict.poisoned,
        clean=result.verdict.clean,
        silent=result.verdict.silent,
        voters={
            name: Ballot(vote.poisoned, round(vote.score, 6), round(vote.threshold, 6), vote.bytes)
            for name, vote in every.items()
        },
        evidence=result.evidence,
        quorum=result.quorum,
        replaced=state.silent,
        median_samples=held[len(held) // 2] if held else None,
    )


def _record(
    state: State, tick: Tick, config: RoundConfig, result: Decision, why_not: str
) -> RoundRecord:
    """Write down the round, for people and for resuming."""
    seconds = max(tick.now - state.opened.now, 1e-9)
    answered = state.votes if state.phase is Phase.JUDGE_AND_TRAIN else state.updates
    return RoundRecord(
        round=state.round,
        run=config.run.name,
        attempt=state.attempt,
        version=state.version,
        accepted=not why_not,
        why=why_not,
        lost=state.lost,
        called=len(state.selected),
        updates=len(state.updates),
        missing=len(state.selected) - len(answered),
        absent=tuple(sorted(state.selected - set(answered))[:ABSENT]),
        model=Quality(state.accuracy, state.backdoor),
        votes=_votes(state, result),
        traffic=Traffic(
            dict(state.invalid),
            tick.received - state.opened.received,
            tick.sent - state.opened.sent,
            tick.dropped - state.opened.dropped,
        ),
        timing=Timing(
            round(seconds, 3), round(len(state.updates) / seconds, 1), round(tick.time, 3)
        ),
    )
