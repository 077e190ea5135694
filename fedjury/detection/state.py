"""Which agents are flagged as fake, which are no longer selected, and which come back. All pure.

Detectors score all agents in each round. An agent that is flagged in ``offences`` rounds, not made
good by as many without, is in quarantine if there is to be one: it is not selected for
``readmission_after`` rounds, then once more. Flagged again it has failed its readmission, and after
``readmissions`` failures it stays out.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from fedjury.config.sections import Detection
from fedjury.detection import SUSPECT, Detector, GroupVerdict, Memory, Observation
from fedjury.detection.update_sums import NOTHING, UpdateSums
from fedjury.learning.contributions import Contributions
from fedjury.learning.weights import Vector
from fedjury.protocol.groups import Groups
from fedjury.protocol.record import TOO_FEW, DetectionRecord, Truth
from fedjury.randomness import Purpose, draw

NONE: Mapping[str, Any] = MappingProxyType({})

PERMANENT = 2**31 - 1
"""A round that never comes."""

STRANGERS = 4
"""Times as many agents as are online are known by name, at the most."""


@dataclass(frozen=True, slots=True)
class DetectionPolicy:
    """How fakes are looked for, and what becomes of them."""

    detectors: Mapping[str, Detector] = field(default_factory=dict)
    rules: Detection = field(default_factory=lambda: Detection(quarantine=False))
    """What becomes of those who are flagged."""
    newcomers: int = 0
    """Agents let in a round once the run has begun; 0: all who come."""
    update_sums: bool = False
    """Whether the rule asks for what each agent sent in earlier rounds."""

    @property
    def remembers(self) -> bool:
        """Whether anything has to be kept from round to round."""
        return bool(self.detectors or self.newcomers or self.update_sums)


NOBODY = DetectionPolicy()
"""Nobody is looked for."""


class AgentStatus(NamedTuple):
    """Where an agent stands. Agents without offences have none."""

    offences: int = 0
    until: int = 0
    """The round in which it is selected again; 0: it is not in quarantine."""
    failed: int = 0
    """Readmissions that failed."""


@dataclass(frozen=True, slots=True)
class AgentRegistry:
    """What is known of the agents after a round."""

    statuses: Mapping[str, AgentStatus] = field(default_factory=dict)
    memories: Mapping[str, Memory] = field(default_factory=dict)
    """Detector -> what it remembers."""
    seen: Mapping[str, int] = field(default_factory=dict)
    """Agent -> the round before which it was first seen."""
    admitted: Mapping[str, int] = field(default_factory=dict)
    """Agent -> the round from which on it may be selected."""
    votes: Mapping[str, bool] = field(default_factory=dict)
    """Who voted in the last round -> whether it said "poisoned"."""
    verdict: bool | None = None
    """Whether that candidate was accepted; None if nobody voted."""
    update_sums: UpdateSums = NOTHING
    groups: tuple[GroupVerdict, ...] = ()
    """The groups of the last round on which there was a verdict."""

    def in_quarantine(self, round_: int) -> Names[str]:
        """Return the agents that are not to be selected in a round."""
        return {name for name, status in self.statuses.items() if status.until > round_}

    def passes_over(self, round_: int) -> bool:
        """Return whether any agent may not be selected, so that those that may have to be named."""
        return bool(self.in_quarantine(round_)) or len(self.admitted) < len(self.seen)


EMPTY = AgentRegistry()


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """What a round's updates said of their senders."""

    registry: AgentRegistry
    """What will be known after the round."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Agent -> its suspicion, the highest of all detectors."""
    flagged: Mapping[str, str] = field(default_factory=dict)
    """Agent -> the detector that suspects it most, of those flagged in this round."""
    excluded: frozenset[str] = frozenset()
    """Agents whose contributions do not count: those flagged, under quarantine."""

    def after_votes(
        self,
        votes: Mapping[str, bool],
        verdict: bool | None,
        groups: tuple[GroupVerdict, ...] = (),
    ) -> AgentRegistry:
        """Return what will be known, with the votes of agents: voter -> whether "poisoned".

        Detectors are shown a vote once, in the round after it; the same goes for verdicts on
        ``groups``.
        """
        verdict = verdict if votes else None
        return replace(self.registry, votes=votes, verdict=verdict, groups=groups)

    def record(self, round_: int, filtered: int) -> DetectionRecord:
        """Write down who was flagged of what, and who is out after the round.

        Most scores of a thousand agents can be nothing; these are left out.
        """
        statuses = self.registry.statuses
        scores = {name: round(score, 3) for name, score in sorted(self.scores.items())}
        return DetectionRecord(
            suspicion={name: score for name, score in scores.items() if score},
            flagged=dict(self.flagged),
            filtered=filtered,
            quarantined=tuple(sorted(self.registry.in_quarantine(round_))),
            permanent=tuple(name for name, at in statuses.items() if at.until == PERMANENT),
        )


def group_verdicts(groups: Groups) -> tuple[GroupVerdict, ...]:
    """Return the verdicts on groups: of those that were voted on, or on which nobody had to vote.

    There is none where too few have voted, nor on groups that nobody was asked about, or whose sum
    nobody knows.
    """
    return tuple(
        GroupVerdict(group.members, bool(group.why))
        for group in groups.groups.values()
        if group.members
        and (group.poisoned or group.clean or group.why)
        and not group.why.startswith(TOO_FEW)
    )


def admit(
    registry: AgentRegistry, online: Names[str], round_: int, detection: DetectionPolicy, seed: int
) -> AgentRegistry:
    """Take note of who is there before a round, and let newcomers in: all, or so many a round.

    Who was there before the first round is let in at once; of others those that the seed says.
    Names are free to make up: too many are not kept, but for those of the first round, who are no
    newcomers if the network lost them for a while.
    """
    if not detection.remembers:
        return registry
    seen, statuses = dict(registry.seen), registry.statuses
    if len(seen) > STRANGERS * len(online):
        seen = {name: since for name, since in seen.items() if name in online or since == 1}
        statuses = {name: status for name, status in statuses.items() if name in seen}
    since = round_ if registry.seen else 1
    seen |= dict.fromkeys(sorted(name for name in online if name not in seen), since)
    outside = sorted(name for name in online if name not in registry.admitted)
    if detection.newcomers and registry.admitted:
        already = sum(since == round_ for since in registry.admitted.values())
        outside = list(
            draw(outside, detection.newcomers - already, seed, round_, Purpose.NEWCOMERS)
        )
    kept = {name: since for name, since in registry.admitted.items() if name in seen}
    admitted = kept | dict.fromkeys(outside, round_)
    return replace(registry, statuses=statuses, seen=seen, admitted=admitted)


def resumed(registry: AgentRegistry, detection: DetectionPolicy) -> AgentRegistry:
    """Return what a resumed run, whose settings may have changed, goes by of what was known.

    Memories of detectors that do not look any more are dropped by ``inspect``.
    """
    statuses = registry.statuses
    if not detection.rules.quarantine:
        statuses = {name: AgentStatus(at.offences) for name, at in statuses.items() if at.offences}
    return replace(
        registry,
        statuses=statuses,
        update_sums=registry.update_sums if detection.update_sums else NOTHING,
    )


def eligible(
    registry: AgentRegistry, online: Names[str], round_: int, detection: DetectionPolicy
) -> Names[str]:
    """Return those who may be called: let in, and not in quarantine."""
    if not detection.remembers:
        return online
    excluded = registry.in_quarantine(round_)
    return [name for name in online if name in registry.admitted and name not in excluded]


def look(
    detection: DetectionPolicy,
    registry: AgentRegistry,
    round_: int,
    contributions: Contributions,
    start: Vector,
    online: Names[str],
) -> DetectionResult | None:
    """Let the detectors look at contributions that were trained from ``start`` (d,).

    None where nobody looks, and nothing is to be remembered.
    """
    if not detection.remembers:
        return None
    known = registry.seen
    observation = Observation(
        round_,
        contributions.names,
        contributions.vectors,
        start,
        {name: known[name] for name in sorted(online) if name in known},
        registry.votes,
        registry.verdict,
        registry.groups,
    )
    return inspect(detection, registry, observation)


def inspect(
    detection: DetectionPolicy, registry: AgentRegistry, observation: Observation
) -> DetectionResult:
    """Let the detectors look at a round, and say where everybody stands after it."""
    scores: dict[str, float] = {}
    by: dict[str, str] = {}
    memories: dict[str, Memory] = {}
    for detector, detect in detection.detectors.items():
        result, memories[detector] = detect(observation, registry.memories.get(detector, NONE))
        for name, score in result.items():
            if score > scores.get(name, -1.0):
                scores[name], by[name] = float(score), detector
    flagged = {name: by[name] for name in sorted(scores) if scores[name] >= SUSPECT}
    statuses = dict(registry.statuses)
    for name in {*observation.names, *flagged}:
        now = judged(
            statuses.get(name, AgentStatus()), name in flagged, observation.round, detection
        )
        if now == AgentStatus():
            statuses.pop(name, None)
        else:
            statuses[name] = now
    after = replace(
        registry,
        statuses={name: statuses[name] for name in sorted(statuses)},
        memories=memories,
        update_sums=registry.update_sums.plus(observation.names, observation.updates, registry.seen)
        if detection.update_sums
        else registry.update_sums,
    )
    excluded = frozenset(flagged) if detection.rules.quarantine else frozenset[str]()
    return DetectionResult(after, scores, flagged, excluded)


def judged(
    status: AgentStatus, flagged: bool, round_: int, detection: DetectionPolicy
) -> AgentStatus:
    """Return where an agent stands after a round in which it was flagged, or was not."""
    if status.until > round_:
        return status
    on_readmission, rules = status.until > 0, detection.rules
    if not flagged:
        left = max(0, status.offences - 1)
        return AgentStatus(left, status.until if left else 0, status.failed if left else 0)
    offences = min(status.offences + 1, rules.offences)
    if not rules.quarantine or offences < rules.offences:
        return status._replace(offences=offences)
    failed = status.failed + on_readmission
    until = (
        PERMANENT
        if rules.readmissions and failed >= rules.readmissions
        else round_ + rules.readmission_after + 1
    )
    return AgentStatus(offences, until, failed)


def against_truth(message: DetectionRecord, malicious: Names[str]) -> Truth:
    """Hold a round's detection against who is evil, which only an experiment knows.

    Flagged is who was flagged in the round or is in quarantine after it. ``precision``: the share
    of the flagged that are evil; ``recall``: the share of the evil that are flagged; None where
    there is nobody to take a share of.
    """
    flagged = {*message.flagged, *message.quarantined}
    hits = len(flagged.intersection(malicious))
    return Truth(
        precision=hits / len(flagged) if flagged else None,
        recall=hits / len(malicious) if malicious else None,
        wrongly_quarantined=len(set(message.quarantined).difference(malicious)),
        wrongly_permanent=len(set(message.permanent).difference(malicious)),
    )
