"""From votes to the verdict, and the record of a round.

BAFFLE (Andreina et al., ICDCS 2021): the candidate is rejected if at least q validators call it
poisoned, and accepted only if enough recommend it. So silence is no consent: without a least number
of votes a candidate is not accepted. Beside counting heads there is our own way, to add up what the
validators saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fedjury.detection import state as detection_state
from fedjury.detection.state import DetectionResult
from fedjury.judges.evidence import evidence
from fedjury.learning.error_profiles import Profile
from fedjury.learning.weights import Vector
from fedjury.protocol.fields import SERVER
from fedjury.protocol.messages import Candidate, History, Model, RoundLog, Update, Vote
from fedjury.protocol.record import Ballot, Quality, RoundRecord, Timing, Traffic, Votes
from fedjury.round.aggregate import step_between
from fedjury.round.state import (
    Aggregated,
    Clear,
    Effect,
    GlobalModel,
    JudgingAndTraining,
    Persist,
    Publish,
    RoundConfig,
    State,
    Tick,
    Voting,
)

ABSENT = 100
"""Names of missing agents that a record holds at most."""


def refusals(counts: Mapping[str, int]) -> str:
    """Return how many messages were refused and why, as people read it: "800 not finite"."""
    return ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in sorted(counts.items()))


class Verdict(NamedTuple):
    """How many validators said what."""

    poisoned: int
    clean: int
    silent: int

    def __str__(self) -> str:
        """Return it as people read it everywhere: "2 poisoned, 0 clean, 8 silent"."""
        return ", ".join(f"{number:,} {text}" for text, number in self._asdict().items())


def accepts(verdict: Verdict, quorum: int) -> bool:
    """Return whether a candidate passes: fewer than ``quorum`` validators call it poisoned."""
    return verdict.poisoned < quorum


def too_few(verdict: Verdict, asked: int, min_votes: int = 0) -> str:
    """Return why these votes of ``asked`` are too few to accept a candidate; empty if they are not.

    ``min_votes``: how many must come; 0: most of those asked.
    """
    came, least = verdict.poisoned + verdict.clean, min(min_votes or asked // 2 + 1, asked)
    return f"{TOO_FEW}: {came} of {asked} came, {least} are needed" if came < least else ""


def count(votes: Iterable[Vote], selected: int) -> Verdict:
    """Count the votes of ``selected`` validators; who has not voted is silent."""
    message = [vote.poisoned for vote in votes]
    return Verdict(sum(message), len(message) - sum(message), selected - len(message))


VOTED_DOWN = "voted down"
"""Why a candidate is not accepted that its validators call poisoned."""

TOO_FEW = "too few votes"
"""How the reason begins why a candidate is not accepted on which too few have voted."""


# ---------------------------------------------------------------- what the votes come to


@dataclass(frozen=True, slots=True)
class Poll:
    """The votes on a candidate."""

    votes: Mapping[str, Vote] = field(default_factory=dict)
    """Those of agents that have come."""
    asked: int = 0
    """How many were asked, the server among them."""
    awaited: int = 0
    """For how many votes the round waits."""
    server: Vote | None = None
    silent: tuple[str, ...] = ()
    """Validators in whose place others were asked."""

    @classmethod
    def of_validators(cls, state: State, phase: Voting) -> Poll:
        """Return the poll of the round's validators and the server."""
        asked = len(state.validators) + (phase.server_vote is not None)
        return cls(phase.votes, asked, asked, phase.server_vote, phase.silent)

    @classmethod
    def of_contributors(cls, state: State, phase: JudgingAndTraining, config: RoundConfig) -> Poll:
        """Return the poll of the selected agents, of piggy-back."""
        asked = len(state.selected)
        # A round that closes at a threshold waits for no more votes than that.
        return cls(phase.votes, asked, min(config.collect.threshold or asked, asked))

    @property
    def all(self) -> dict[str, Vote]:
        """All votes that have come, the server's among them, by voter in order of name."""
        own = {SERVER: self.server} if self.server is not None else {}
        return own | {name: self.votes[name] for name in sorted(self.votes)}


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


def decide(poll: Poll, config: RoundConfig) -> Decision:
    """Count the votes that have come."""
    if not poll.asked:
        return Decision()
    voting, votes = config.validation, poll.all.values()
    counted = count(votes, poll.asked)
    seen = None
    if voting.decide == "score":
        seen = evidence(votes, voting.tolerated_malicious, voting.false_alarm)
    quorum = voting.rejects(poll.asked)
    against = not accepts(counted, quorum) if seen is None else seen > 0
    if against:
        return Decision(counted, quorum, seen, VOTED_DOWN)
    why = too_few(counted, poll.awaited, voting.min_votes)
    return Decision(counted, quorum, seen, why, bool(why))


def clean(update: Update, attempt: int) -> Vote:
    """Read an update as the clean vote that it also is: its sender trained from the candidate."""
    return Vote(
        update.agent,
        update.round,
        attempt,
        poisoned=False,
        score=update.score,
        threshold=update.threshold,
        samples=update.samples,
        evidence=update.evidence,
        size=update.size,
    )


def with_server_vote(state: State, phase: Voting, config: RoundConfig) -> Voting:
    """Let the server look at the candidate, and vote on it if votes count already."""
    candidate = phase.aggregated.candidate
    if config.server_validator is None or candidate is None:
        return phase
    profile, vote = config.server_validator.profile(candidate), None
    if state.round > config.validation.warm_up:
        turn = state.round, state.attempt
        vote = config.server_validator.cast(state.model.profiles, profile, turn)
    return phase.but(server_vote=vote, server_profile=profile)


# ---------------------------------------------------------------- the end of a round


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be decided at the end of a round, and what is known of it."""

    aggregated: Aggregated
    candidate: Vector | None = None
    """The one in question; with piggy-back that of the round before, and None in the first."""
    poll: Poll = Poll()
    why_not: str = ""
    """A reason to drop it before any vote is counted."""
    pending: Vector | None = None
    """Piggy-back: this round's own candidate, of which the next round decides."""
    lost: str = ""
    """Piggy-back: why there is none."""
    profile: Profile | None = None
    """What the server found in the candidate."""

    @classmethod
    def of_vote(cls, phase: Voting, poll: Poll) -> Question:
        """Return the question that validators were asked."""
        made = phase.aggregated
        return cls(made, made.candidate, poll, profile=phase.server_profile)


def finish(
    state: State, tick: Tick, config: RoundConfig, question: Question
) -> tuple[State, list[Effect]]:
    """Accept a candidate or not, and write the round down; the next round is not opened here."""
    asked = not question.why_not or question.poll.votes
    decision = decide(question.poll, config) if asked else Decision()
    against = question.why_not or decision.why
    candidate, judging = question.candidate, isinstance(state.phase, JudgingAndTraining)
    reached: Quality | None = None
    effects: list[Effect] = []
    model = None
    if candidate is not None:
        reached = measured(config, candidate)
        if not against:
            model = Model(state.version + 1, candidate)
            state = state.but(model=_accepted(state.model, model, reached, question, config))
            effects = [Publish(model), *_history(model, config)]
    record = replace(
        _record(state, tick, config, question, decision, against),
        candidate=reached,
        judged=None if candidate is None else state.round - judging,
    )
    if candidate is None and not against:
        # The first round with piggy-back: there is nothing to decide yet.
        record = replace(record, accepted=None)
    state, record = _noted(state, config, question, record)
    registry = state.registry if config.detection.remembers else None
    effects.insert(0, Persist(record, model, question.pending, registry))
    if state.validators or judging:
        effects.append(Clear(Candidate(state.round, state.attempt, 0, state.weights)))
    effects.append(Publish(RoundLog(record)))
    return state, effects


def measured(config: RoundConfig, model: Vector) -> Quality:
    """Measure a model (d,) as records do."""
    return Quality(config.evaluate(model), config.backdoor(model) if config.backdoor else None)


def _accepted(
    before: GlobalModel, model: Model, reached: Quality, question: Question, config: RoundConfig
) -> GlobalModel:
    """Return the accepted candidate as the global model."""
    profiles = before.profiles
    if config.server_validator is not None and question.profile is not None:
        profiles = (*profiles, question.profile)[-config.server_validator.models :]
    step = step_between(before.weights, model.weights, config.aggregation.server_lr)
    return GlobalModel(model.version, model.weights, reached, step, profiles)


def _noted(
    state: State, config: RoundConfig, question: Question, record: RoundRecord
) -> tuple[State, RoundRecord]:
    """Take what the round said of the agents into account, and into the record."""
    if not config.detection.remembers:
        return state, record
    result = question.aggregated.detection or DetectionResult(state.registry)
    if config.detection.detectors:
        seen = detection_state.record(result, question.aggregated.filtered, state.round)
        record = replace(record, detection=seen)
    # A vote is shown to detectors once, in the round after it.
    votes = {name: vote.poisoned for name, vote in sorted(question.poll.votes.items())}
    registry = replace(result.registry, votes=votes, verdict=record.accepted if votes else None)
    return state.but(registry=registry), record


def _history(model: Model, config: RoundConfig) -> list[Effect]:
    """Keep the last l + 1 accepted models on the broker, for validators that lack some."""
    if not (config.validation.asked or config.validation.piggy_back):
        return []
    oldest = model.version - config.validation.look_back - 1
    gone: list[Effect] = [Clear(History(oldest, model.weights))] if oldest >= 0 else []
    return [Publish(History(model.version, model.weights)), *gone]


def _votes(poll: Poll, decision: Decision) -> Votes:
    """Write down who said what, and how many bytes it received to come to it."""
    if decision.verdict is None:
        return Votes(evidence=decision.evidence)
    held = sorted(vote.samples for vote in poll.all.values())
    return Votes(
        poisoned=decision.verdict.poisoned,
        clean=decision.verdict.clean,
        silent=decision.verdict.silent,
        voters={
            name: Ballot(vote.poisoned, round(vote.score, 6), round(vote.threshold, 6), vote.size)
            for name, vote in poll.all.items()
        },
        evidence=decision.evidence,
        quorum=decision.quorum,
        replaced=poll.silent,
        median_samples=held[len(held) // 2] if held else None,
    )


def _record(
    state: State,
    tick: Tick,
    config: RoundConfig,
    question: Question,
    decision: Decision,
    against: str,
) -> RoundRecord:
    """Write down the round, for people and for resuming."""
    seconds = max(tick.now - state.opened.now, 1e-9)
    contributors = question.aggregated.contributors
    judging = isinstance(state.phase, JudgingAndTraining)
    missing = state.selected.difference(question.poll.votes if judging else contributors)
    updates = len(contributors)
    return RoundRecord(
        round=state.round,
        run=config.run.name,
        attempt=state.attempt,
        version=state.version,
        accepted=not against,
        why=against,
        lost=question.lost,
        selected=len(state.selected),
        updates=updates,
        missing=len(missing),
        absent=tuple(sorted(missing)[:ABSENT]),
        model=state.model.quality,
        votes=_votes(question.poll, decision),
        traffic=Traffic(
            dict(state.invalid),
            tick.received - state.opened.received,
            tick.sent - state.opened.sent,
            tick.dropped - state.opened.dropped,
        ),
        timing=Timing(round(seconds, 3), round(updates / seconds, 1), round(tick.time, 3)),
    )
