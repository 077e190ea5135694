"""The record of a round: one type, one writer to JSON and one reader that believes nothing.

The topic ``log/round`` and each line of a run folder's ``rounds.jsonl`` are this record as JSON.
The metadata of its fields (``fields.py``) say under which key each travels and what it means; the
table in ``docs/protocol.md`` is made from them.

Records come from strangers on a broker and from files that may be damaged. Only a value that has
no round, or lacks what the caller needs, is no record. Those of protocol 1 had other keys for a few
fields, which are read too (``old``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from fedjury.protocol.fields import (
    BY_CELL,
    COUNT,
    COUNTS,
    LEFT,
    NAMES,
    NUMBER,
    NUMBERS,
    POSITIVE,
    SERVER,
    SHARE,
    SHARES,
    SIZE,
    TEXT,
    TEXTS,
    TRUTH,
    Json,
    Kind,
    entry,
    map_of,
    name,
    part,
    rows,
    values,
    write,
)
from fedjury.protocol.groups import Groups
from fedjury.protocol.harm import Harm
from fedjury.protocol.messages import Vote
from fedjury.protocol.pooled import Pooled
from fedjury.protocol.spent import Spent

VOTED_DOWN = "voted down"
"""Why a candidate is not accepted that its validators call poisoned."""

TOO_FEW = "too few votes"
"""How the reason begins why a candidate is not accepted on which too few have voted."""

MOST = 4
"""Named metrics of a model that are shown, and that a record in short has."""


class RecordError(ValueError):
    """A value that is no record, and why."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """One validator's vote on a candidate, and how many bytes it received for it."""

    poisoned: bool = entry(TRUTH, "whether it called the candidate poisoned")
    score: float | None = entry(NUMBER, "the score that its judge gave the candidate", None)
    threshold: float | None = entry(NUMBER, "a higher score means poisoned", None)
    size: int = entry(
        SIZE, "payloads of candidate and history received for it", 0, unit="bytes", old="bytes"
    )
    changed: int | None = entry(
        COUNT, "samples that the candidate answers otherwise than before", None, optional=True
    )
    changed_errors: int | None = entry(
        COUNT, "sum of the magnitudes of the class-wise errors' change", None, optional=True
    )

    @classmethod
    def of(cls, vote: Vote) -> Ballot:
        """Return what the record of a round holds of a vote."""
        numbers = round(vote.score, 6), round(vote.threshold, 6)
        return cls(vote.poisoned, *numbers, vote.size, vote.changed, vote.changed_errors)


def _ballot(value: object) -> Ballot:
    result = values(Ballot, value, {}) if isinstance(value, dict) else {}
    if "poisoned" not in result:
        raise ValueError
    return Ballot(**result)


BALLOTS = Kind("map name → map", map_of(name, _ballot), Ballot)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one agent measured on its own data, by name."""

    samples: int = entry(COUNT, "samples that it measured with, or trained on")
    metrics: Mapping[str, float] = entry(NUMBERS, "what it measured, by name", {})


def _figures(value: object) -> Figures:
    result = values(Figures, value, {}) if isinstance(value, dict) else {}
    if "samples" not in result:
        raise ValueError
    return Figures(**result)


FIGURES = Kind("map name → map", map_of(name, _figures), Figures)


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a model is, where that is measured; None is not 0."""

    accuracy: float | None = entry(SHARE, "correct share of the held-out samples", None, start=True)
    backdoor: float | None = entry(
        SHARE,
        "success of an experiment's backdoor, on samples that no agent trains on",
        None,
        start=True,
    )
    metrics: Mapping[str, float] = entry(
        NUMBERS,
        "other measurements, by name; what agents measured is weighted by their samples",
        {},
        start=True,
        optional=True,
    )

    def short(self) -> Quality:
        """Return it with its first metrics alone."""
        if len(self.metrics) <= MOST:
            return self
        return replace(self, metrics=dict(islice(self.metrics.items(), MOST)))


@dataclass(frozen=True, slots=True)
class Votes:
    """The votes on a candidate, the server's among them. All are 0 or empty if nobody was asked."""

    poisoned: int = entry(COUNT, "votes that call the candidate poisoned", 0, "votes.poisoned")
    clean: int = entry(COUNT, "votes that call it clean", 0, "votes.clean")
    silent: int = entry(COUNT, "validators that were asked and did not vote", 0, "votes.silent")
    voters: Mapping[str, Ballot] = entry(
        BALLOTS, "the vote of each validator; the server is `:server`", {}, always=True
    )
    rejects_at: int = entry(COUNT, 'how many "poisoned" votes reject', 0, "quorum")
    replaced: tuple[str, ...] = entry(NAMES, "silent validators that were replaced by others", ())
    median_samples: int | None = entry(
        COUNT, "samples that the median voter holds", None, "voter_samples"
    )
    zero_changes: float | None = entry(
        SHARE, "share of voters of whom no class-wise error count changes", None, optional=True
    )
    pooled: Pooled | None = part(
        Pooled, "where pooled error counts decide: ", prefix="pooled.", optional=True
    )

    @property
    def asked(self) -> int:
        """How many were asked for their vote."""
        return self.poisoned + self.clean + self.silent

    @property
    def counts(self) -> tuple[int, int, int]:
        """The votes counted: poisoned, clean, silent."""
        return self.poisoned, self.clean, self.silent

    def __str__(self) -> str:
        """Return the votes as people read them everywhere: "2 poisoned, 0 clean, 8 silent"."""
        return f"{self.poisoned:,} poisoned, {self.clean:,} clean, {self.silent:,} silent"

    @property
    def decided_by(self) -> str:
        """What decided, as people read it: "quorum 5" or "pooled score 1.2, threshold 4.1"."""
        return f"quorum {self.rejects_at}" if self.pooled is None else f"{self.pooled}"

    @property
    def of_agents(self) -> dict[str, bool]:
        """Agent that voted -> whether it said "poisoned"."""
        return {name: one.poisoned for name, one in self.voters.items() if name != SERVER}

    @property
    def present(self) -> bool:
        """Whether anybody was asked."""
        return self.asked > 0


def refusals(counts: Mapping[str, int]) -> str:
    """Return how many messages were refused and why, as people read it: "800 not finite"."""
    return ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Traffic:
    """What crossed the network, as the aggregator saw it."""

    invalid_messages: Mapping[str, int] = entry(
        COUNTS, "messages that were invalid, by reason", {}, old="refused"
    )
    bytes_in: int | None = entry(SIZE, "payloads that the aggregator received", None, unit="bytes")
    bytes_out: int | None = entry(SIZE, "payloads that it sent", None, unit="bytes")
    dropped: int | None = entry(
        COUNT, "messages that the broker reports as dropped, for any subscriber", None
    )


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the round took, and when it was over."""

    seconds: float | None = entry(POSITIVE, "how long the round took", None, unit="s")
    updates_per_second: float | None = entry(POSITIVE, "updates in that time", None, unit="1/s")
    time: float | None = entry(
        POSITIVE,
        "when it ended, by the aggregator's clock",
        None,
        unit="s since 1970, UTC",
        start=True,
        optional=True,
    )


@dataclass(frozen=True, slots=True)
class DetectionRecord:
    """What detectors found, if there are any."""

    suspicion: Mapping[str, float] = entry(
        SHARES, "suspicion of each agent; of agents not named it is 0", {}
    )
    flagged: Mapping[str, str] = entry(
        TEXTS,
        "flagged agents, and the detector with the highest suspicion of each",
        {},
        old="suspected",
    )
    filtered: int = entry(
        COUNT,
        "updates that were not aggregated because their senders are flagged",
        0,
        old="left_out",
    )
    quarantined: tuple[str, ...] = entry(
        NAMES, "agents that are not selected after this round, until their readmission", ()
    )
    permanent: tuple[str, ...] = entry(
        NAMES, "agents that are never selected again", (), old="for_good"
    )


@dataclass(frozen=True, slots=True)
class Truth:
    """What only an experiment knows: how strong the attack was, how right the detectors are."""

    strength: float | None = entry(NUMBER, "how strong the attack was", None)
    precision: float | None = entry(
        SHARE, "malicious share of the agents flagged or in quarantine", None, optional=True
    )
    recall: float | None = entry(
        SHARE, "share of the malicious agents flagged or in quarantine", None, optional=True
    )
    wrongly_quarantined: int | None = entry(
        COUNT, "honest agents in quarantine", None, optional=True
    )
    wrongly_permanent: int | None = entry(
        COUNT,
        "honest agents that are never selected again",
        None,
        optional=True,
        old="wrongly_for_good",
    )


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A finished round. That of round 0 says how the model is before any round."""

    round: int = entry(COUNT, "counted from 1; 0: the run begins", start=True)
    run: str = entry(TEXT, "the run's name", "", start=True, optional=True)
    attempt: int = entry(COUNT, "at this round, counted from 1", 1)
    version: int = entry(COUNT, "of the global model after the round", 0, start=True)
    accepted: bool | None = entry(
        TRUTH,
        "the verdict; null if there was nothing to judge, as in the first round with piggy-back",
        None,
        start=True,
    )
    why: str = entry(TEXT, "why the candidate was not accepted; empty if it was", "")
    judged: int | None = entry(
        COUNT,
        "the round whose candidate the verdict is about: with piggy-back the one before",
        None,
    )
    lost: str = entry(
        TEXT,
        "with piggy-back, why this round's own candidate will not be judged",
        "",
        optional=True,
    )
    selected: int = entry(COUNT, "agents that were selected", 0, old="called")
    updates: int = entry(COUNT, "updates that were accepted", 0)
    declined: int = entry(COUNT, "selected agents that sat the round out", 0, optional=True)
    missing: int = entry(COUNT, "selected agents that did not answer, nor sat out", 0)
    absent: tuple[str, ...] = entry(NAMES, "up to 100 of those", ())
    cells: Mapping[str, int] = entry(
        BY_CELL, "where agents are in cells: how many of each are missing", {}, optional=True
    )
    model: Quality = part(Quality, "of the global model after the round: ")
    candidate: Quality | None = part(
        Quality, "of the candidate, if there was one: ", prefix="candidate_", optional=True
    )
    harm: Harm = part(Harm)
    training: Mapping[str, float] = entry(
        NUMBERS,
        "what agents measured while they trained, by name, weighted by their samples",
        {},
        optional=True,
    )
    trained: Mapping[str, Figures] = entry(
        FIGURES, "what each contributor trained on and measured", {}, optional=True
    )
    evaluated: Mapping[str, Figures] = entry(
        FIGURES, "what each evaluator measured of the candidate", {}, optional=True
    )
    privacy: Spent | None = part(Spent, "with `privacy.noise`: ", prefix="privacy.", optional=True)
    votes: Votes = part(Votes)
    groups: Groups | None = part(Groups, "where agents are in groups: ", optional=True)
    traffic: Traffic = part(Traffic)
    timing: Timing = part(Timing)
    detection: DetectionRecord | None = part(DetectionRecord, "with detectors: ", optional=True)
    truth: Truth | None = part(Truth, "only in experiments: ", optional=True)
    left: tuple[str, ...] = entry(
        LEFT, "files that the round left for the next; only in `rounds.jsonl`", (), optional=True
    )

    @property
    def verdict(self) -> str:
        """What became of the candidate: accepted, rejected or pending."""
        return {True: "accepted", False: "rejected", None: "pending"}[self.accepted]

    @property
    def about(self) -> int:
        """The round whose candidate the verdict is about."""
        return self.round if self.judged is None else self.judged

    @property
    def flagged(self) -> Mapping[str, str]:
        """Agent -> the detector that suspects it most; empty if nobody looks."""
        return self.detection.flagged if self.detection else {}

    @property
    def quarantined(self) -> tuple[str, ...]:
        """The agents that are not selected after this round."""
        return self.detection.quarantined if self.detection else ()

    def short(self) -> RoundRecord:
        """Return it without the names of agents, of which there may be many thousands.

        Of the model's metrics it has the first.
        """
        votes = replace(self.votes, voters={}, replaced=())
        model = self.model.short()
        candidate = self.candidate and self.candidate.short()
        plain = replace(self, trained={}, evaluated={}, training={}, detection=None, left=())
        groups = self.groups and self.groups.short()
        return replace(
            plain, absent=(), votes=votes, groups=groups, model=model, candidate=candidate
        )


def to_json(record: RoundRecord) -> Json:
    """Return a record as JSON; that of round 0 has only what is known before any round."""
    return write(record, {}, start=not record.round)


def read(value: object, needs: Collection[str] = ("round",)) -> RoundRecord:
    """Read a record from any writer.

    Raises
    ------
    RecordError
        If it is not a map, or a key in ``needs`` is missing or invalid.
    """
    result = read_fields(RoundRecord, value, needs)
    if "judged" not in result:
        result["judged"] = result["round"]  # written before there was piggy-back
    return RoundRecord(**result)


def read_fields(kind: type, value: object, needs: Collection[str]) -> dict[str, Any]:
    """Read the fields of a type that fit.

    Raises
    ------
    RecordError
        If it is not a map, or a key in ``needs`` is missing or invalid.
    """
    if not isinstance(value, dict):
        raise RecordError("it is not a map")
    fits: dict[str, bool] = {}
    result = values(kind, value, fits)
    for key in needs:
        if not fits.get(key):
            raise RecordError(repr(key))
    return result


def table() -> str:
    """Return the fields of a record as Markdown, for ``docs/protocol.md``."""
    lines = ["| key | type | unit | meaning |", "|---|---|---|---|"]
    for key, kind, unit, meaning in rows(RoundRecord):
        lines.append(f"| `{key}` | {kind} | {unit} | {meaning} |")
    return "\n".join(lines)
