"""From votes to the verdict, and the record of a round.

BAFFLE (Andreina et al., ICDCS 2021): the candidate is rejected if at least q validators call it
poisoned, and accepted only if enough recommend it. So silence is no consent: without a least number
of votes a candidate is not accepted. Beside counting votes there is our own way: the server judges
once what the validators counted, all together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fedjury.config.sections import Validation
from fedjury.detection.state import DetectionResult, group_verdicts
from fedjury.judges.pooled import Pool
from fedjury.learning.weights import Vector, step_between
from fedjury.protocol.fields import SERVER
from fedjury.protocol.measured import weighted_mean
from fedjury.protocol.messages import (
    Candidate,
    GroupCandidate,
    GroupHistory,
    History,
    Model,
    Reason,
    RoundLog,
    Update,
    Vote,
)
from fedjury.protocol.pooled import Pooled
from fedjury.protocol.record import (
    TOO_FEW,
    VOTED_DOWN,
    Ballot,
    Quality,
    RoundRecord,
    Timing,
    Traffic,
    Votes,
)
from fedjury.round import noisy
from fedjury.round.effects import Clear, Effect, Persist, Publish
from fedjury.round.state import (
    Aggregated,
    GlobalModel,
    JudgingAndTraining,
    RoundConfig,
    State,
    Tick,
    Voting,
)

ABSENT = 100
"""Names of missing agents that a record holds at most."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of the votes on a candidate."""

    votes: Votes = Votes()  # noqa: RUF009 - it is frozen
    why: str = ""
    """Why it is not accepted; empty if it is."""
    unheard: bool = False
    """Whether it is only not accepted because too few have voted."""


def decide(
    votes: Mapping[str, Vote],
    validation: Validation,
    asked: int,
    awaited: int | None = None,
    pooled: Pooled | None = None,
) -> Decision:
    """Count the votes that have come, voter -> vote; who was asked and has not voted is silent.

    ``awaited``: for how many votes the round waits, if not for all that were asked. ``pooled``:
    what decides in the place of the quorum.
    """
    if not asked:
        return Decision()
    awaited = asked if awaited is None else awaited
    poisoned = sum(vote.poisoned for vote in votes.values())
    rejects_at = validation.rejects(asked)
    samples = sorted(vote.samples for vote in votes.values())
    counted = Votes(
        poisoned=poisoned,
        clean=len(votes) - poisoned,
        silent=asked - len(votes),
        voters={voter: Ballot.of(vote) for voter, vote in votes.items()},
        rejects_at=rejects_at,
        median_samples=samples[len(samples) // 2] if samples else None,
        zero_changes=_zero_changes(votes),
        pooled=pooled,
    )
    if poisoned >= rejects_at if pooled is None else pooled.poisoned:
        return Decision(counted, VOTED_DOWN)
    needed = min(validation.min_votes or awaited // 2 + 1, awaited)
    if len(votes) >= needed:
        return Decision(counted)
    why = f"{TOO_FEW}: {len(votes)} of {awaited} came, {needed} are needed"
    return Decision(counted, why, unheard=True)


def _zero_changes(votes: Mapping[str, Vote]) -> float | None:
    """Return the share of zero change vectors among the voters that say what changed."""
    told = [v.changed_errors for v in votes.values() if v.changed_errors is not None]
    return round(told.count(0) / len(told), 6) if told else None


def refusal(state: State, answer: Vote | Update, config: RoundConfig) -> Reason | None:
    """Return why a vote, or an update that is one, is not counted; None if it is."""
    if answer.agent in state.votes:
        return Reason.DUPLICATE
    return config.pool.refusal(answer, state.version) if config.pool else None


def awaits_more(state: State, phase: Voting) -> bool:
    """Return whether somebody who was asked about the candidate may still answer."""
    votes, measured, out = len(phase.votes), len(phase.metrics), len(phase.declined)
    if votes + out < len(state.validators) or measured + out < len(state.evaluators):
        return True  # as nearly always: nothing has to be looked up
    if out:
        votes += sum(v in phase.declined and v not in phase.votes for v in state.validators)
        measured += sum(e in phase.declined and e not in phase.metrics for e in state.evaluators)
    return votes < len(state.validators) or measured < len(state.evaluators)


def by_validators(
    state: State, phase: Voting, config: RoundConfig, sums: Pooled | None = None
) -> Decision:
    """Decide by the votes of the round's validators, and of the server if it votes.

    ``sums``: what the sums of their counts say, where those are added up under masks.
    """
    votes, asked = dict(sorted(phase.votes.items())), len(state.validators)
    if phase.server and phase.server.vote:
        votes, asked = {SERVER: phase.server.vote, **votes}, asked + 1
    elif phase.server and phase.server.silent:  # its silence is no consent either
        asked += 1
    pooled = sums if config.secure_counts else _pooled(config.pool, votes, state)
    decision = decide(votes, config.validation, asked, pooled=pooled)
    return replace(decision, votes=replace(decision.votes, replaced=phase.silent))


def by_contributors(state: State, phase: JudgingAndTraining, config: RoundConfig) -> Decision:
    """Decide by the votes of the selected agents that do not sit the round out: piggy-back."""
    votes = dict(sorted(phase.votes.items()))
    asked = len(asked_for_both(state, phase))
    if not asked:
        return Decision(why=f"{TOO_FEW}: all {len(state.selected)} sat out", unheard=True)
    awaited, pooled = config.collecting.awaited(asked), _pooled(config.pool, votes, state)
    return decide(votes, config.validation, asked, awaited, pooled)


def _pooled(pool: Pool | None, votes: Mapping[str, Vote], state: State) -> Pooled | None:
    """Return what the pooled error counts of these votes say, where they are to decide."""
    return None if pool is None else pool.judged(votes.values(), state.version)


def asked_for_both(state: State, phase: JudgingAndTraining) -> frozenset[str]:
    """Return the selected agents that do not sit the round out: silence of others is no vote."""
    return state.selected - state.declined.difference(phase.votes)


# ---------------------------------------------------------------- the end of a round


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round came to."""

    aggregated: Aggregated
    decision: Decision = Decision()
    candidate: Vector | None = None
    """The one in question; with piggy-back that of the round before, and None in the first."""
    pending: Vector | None = None
    """Piggy-back: this round's own candidate, of which the next round decides."""


def finish(
    state: State, tick: Tick, config: RoundConfig, result: RoundResult
) -> tuple[State, list[Effect]]:
    """Accept a candidate or not, and write the round down; the next round is not opened here."""
    effects: list[Effect] = []
    judging = isinstance(state.phase, JudgingAndTraining)
    quality = model = None
    if result.candidate is not None:
        quality = _measured(state, config, result.candidate)
        if not result.decision.why:
            model = Model(state.version + 1, result.candidate)
            state = state.but(model=_accepted(state, model, quality, config))
            effects = [Publish(model), *_history(model, result.aggregated.group, config)]
    record = _record(state, tick, config, result, quality)
    registry = None
    if config.detection.remembers:
        seen = result.aggregated.detection or DetectionResult(state.registry)
        if config.detection.detectors:
            found = seen.record(state.round, result.aggregated.filtered)
            record = replace(record, detection=found)
        groups = result.aggregated.groups if config.validation.on_groups else None
        verdicts = group_verdicts(groups) if groups else ()
        registry = seen.after_votes(record.votes.of_agents, record.accepted, verdicts)
        state = state.but(registry=registry)
    memory = None
    if config.rule_state:
        memory = state.memory.after(
            config.aggregation.rule,
            result.aggregated.rule_state,
            judging=judging,
            accepted=model is not None,
            pending=result.pending is not None,
        )
        state = state.but(memory=memory)
    group = result.aggregated.group if model is not None else None
    effects.insert(0, Persist(record, model, result.pending, registry, memory, group))
    if state.validators or judging:
        effects.append(Clear(Candidate(state.round, state.attempt, 0, state.weights)))
    if config.validation.on_groups and record.groups:
        effects += [
            Clear(GroupCandidate(int(number), state.round, state.attempt, 0, state.weights))
            for number in record.groups.groups
        ]
    effects.append(Publish(RoundLog(record)))
    return state, effects


def _measured(state: State, config: RoundConfig, candidate: Vector) -> Quality:
    """Return how good a candidate (d,) is, as the server and the evaluators find it."""
    quality, phase = config.measure(candidate), state.phase
    if not isinstance(phase, Voting) or not phase.metrics:
        return quality
    by_agents = weighted_mean(phase.metrics, config.limits.samples)
    return replace(quality, metrics=by_agents | dict(quality.metrics))


def _accepted(state: State, model: Model, quality: Quality, config: RoundConfig) -> GlobalModel:
    """Return the accepted candidate as the global model."""
    before, phase = state.model, state.phase
    profiles = before.profiles
    if config.server_validator and isinstance(phase, Voting) and phase.server:
        profiles = (*profiles, phase.server.profile)[-config.server_validator.models :]
    step = step_between(before.weights, model.weights, config.aggregation.server_lr)
    harm = before.harm.after(quality.accuracy, quality.backdoor)
    return GlobalModel(model.version, model.weights, quality, step, profiles, harm)


def _history(model: Model, group: Vector | None, config: RoundConfig) -> list[Effect]:
    """Keep the last l + 1 accepted models on the broker, for validators that lack some.

    Of groups as well, where these are voted on: one of each accepted model.
    """
    kept = kept_for_judges([(model, group)], config)
    oldest = model.version - config.validation.look_back - 1
    gone = [replace(message, version=oldest) for message in kept] if oldest >= 0 else []
    return [*(Publish(one) for one in kept), *(Clear(one) for one in gone)]


def kept_for_judges(
    accepted: Iterable[tuple[Model, Vector | None]], config: RoundConfig
) -> list[History | GroupHistory]:
    """Return what validators are to find of accepted models, each with a candidate of its groups.

    Where that is not known, as of the first model, the model stands in its place.
    """
    votes, kept = config.validation, list[History | GroupHistory]()
    if not (votes.asked or votes.piggy_back):
        return kept
    for model, group in accepted:
        if votes.on != "groups":
            kept.append(History(model.version, model.weights))
        if votes.on_groups and not votes.group_judge:
            kept.append(GroupHistory(model.version, model.weights if group is None else group))
    return kept


def by_cell(agents: Iterable[str], cells: Mapping[str, int]) -> dict[str, int]:
    """Return cell -> how many of some agents are in it; those of no cell are left out."""
    counts = Counter(cells[agent] for agent in agents if agent in cells)
    return {str(cell): counts[cell] for cell in sorted(counts)}


def _record(
    state: State, tick: Tick, config: RoundConfig, result: RoundResult, quality: Quality | None
) -> RoundRecord:
    """Write down the round, for people and for resuming."""
    aggregated, decision, opened = result.aggregated, result.decision, state.opened
    phase, trained = state.phase, dict(sorted(aggregated.figures.items()))
    judging = isinstance(state.phase, JudgingAndTraining)
    answered = decision.votes.voters if judging else aggregated.contributors
    declined = state.declined.difference(answered)
    missing = sorted(state.selected.difference(answered, declined))
    updates, seconds = len(aggregated.contributors), max(tick.now - opened.now, 1e-9)
    # In the first round with piggy-back there is nothing to decide yet.
    undecided = result.candidate is None and not decision.why
    return RoundRecord(
        round=state.round,
        run=config.run.name,
        attempt=state.attempt,
        version=state.version,
        accepted=None if undecided else not decision.why,
        why=decision.why,
        judged=None if result.candidate is None else state.round - judging,
        lost=aggregated.why if judging else "",
        selected=len(state.selected),
        updates=updates,
        declined=len(declined),
        missing=len(missing),
        absent=tuple(missing[:ABSENT]),
        cells=by_cell(missing, tick.cells),
        model=state.model.quality,
        candidate=quality,
        harm=state.model.harm,
        privacy=noisy.spent(state, config),
        training=weighted_mean(trained, config.limits.samples),
        trained=trained,
        evaluated=dict(phase.metrics) if isinstance(phase, Voting) else {},
        votes=decision.votes,
        groups=aggregated.groups,
        traffic=Traffic(
            dict(state.invalid),
            tick.received - opened.received,
            tick.sent - opened.sent,
            tick.dropped - opened.dropped,
        ),
        timing=Timing(round(seconds, 3), round(updates / seconds, 1), round(tick.time, 3)),
    )
