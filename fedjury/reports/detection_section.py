"""Who was caught: suspicion, quarantine and votes, held against the truth where it is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from fedjury.protocol.record import DetectionRecord, RoundRecord
from fedjury.reports.statistics import AttackRounds


class Truth(NamedTuple):
    """Who is malicious, which only an experiment knows; who is neither is no agent of its."""

    malicious: frozenset[str]
    honest: frozenset[str]


class Outcome(NamedTuple):
    """What became of one agent."""

    flagged: int = 0
    """Rounds."""
    first: int = 0
    """The round in which it was first flagged; 0: never."""
    by: tuple[str, ...] = ()
    """Detectors."""
    since: int = 0
    """The round after which it was first in quarantine; 0: never."""
    out: bool = False
    """In quarantine at the end."""
    permanent: bool = False


class Group(NamedTuple):
    """Agents of one kind with one fate."""

    outcome: str
    """caught, missed, accused (falsely), flagged (nobody knows the truth)."""
    fate: Outcome
    """``flagged`` is the most rounds in which any of them was."""
    least: int
    """The fewest."""
    names: tuple[str, ...]
    mixed: bool = False
    """Whether it is what is left over: ``fate`` has the earliest, the most, every detector."""


NOTHING = Outcome()

EACH = 15
"""Groups of one outcome; the smallest are put together."""

ORDER = ("accused", "missed", "caught", "flagged")
"""What is most worth knowing first."""


def outcomes(rounds: list[RoundRecord]) -> dict[str, Outcome]:
    """Follow everybody who was ever flagged or in quarantine through a run."""
    times: Counter[str] = Counter()
    first: dict[str, int] = {}
    since: dict[str, int] = {}
    by: dict[str, set[str]] = {}
    for one in rounds:
        times.update(dict.fromkeys(one.flagged, 1))
        for name, detector in one.flagged.items():
            first.setdefault(name, one.round)
            by.setdefault(name, set()).add(detector)
        for name in one.quarantined:
            since.setdefault(name, one.round)
    looked = [one.detection for one in rounds if one.detection]
    last = looked[-1] if looked else DetectionRecord()
    out, good = frozenset(last.quarantined), frozenset(last.permanent)
    return {
        name: Outcome(
            times[name],
            first.get(name, 0),
            tuple(sorted(by.get(name, ()))),
            since.get(name, 0),
            name in out,
            name in good,
        )
        for name in sorted({*first, *since, *good})
    }


def groups(result: Mapping[str, Outcome], truth: Truth | None) -> list[Group]:
    """Put together who shares an outcome, detectors, beginning and end."""
    missed = dict.fromkeys(truth.malicious.difference(result), NOTHING) if truth else {}
    together: dict[tuple[str, Outcome], list[str]] = {}
    for name, fate in [*result.items(), *missed.items()]:
        key = outcome(name, fate, truth), fate._replace(flagged=0)
        together.setdefault(key, []).append(name)
    every = {**missed, **result}
    built = []
    for (text, fate), names in together.items():
        times = [every[name].flagged for name in names]
        shared = fate._replace(flagged=max(times))
        built.append(Group(text, shared, min(times), tuple(sorted(names))))
    built.sort(key=lambda g: (ORDER.index(g.outcome), -len(g.names), g.fate, g.names))
    few: list[Group] = []
    for text in ORDER:
        alike = [group for group in built if group.outcome == text]
        few += alike if len(alike) <= EACH else [*alike[: EACH - 1], _mixed(alike[EACH - 1 :])]
    return few


def _mixed(alike: list[Group]) -> Group:
    """Put groups of one outcome together."""
    outcome = Outcome(
        flagged=max(group.fate.flagged for group in alike),
        first=min(group.fate.first for group in alike),
        by=tuple(sorted({detector for group in alike for detector in group.fate.by})),
    )
    names = tuple(sorted(name for group in alike for name in group.names))
    return Group(alike[0].outcome, outcome, min(group.least for group in alike), names, mixed=True)


def outcome(name: str, outcome: Outcome, truth: Truth | None) -> str:
    """Say what it came to for one agent."""
    if truth is None or name not in truth.malicious | truth.honest:
        return "flagged"
    if name not in truth.malicious:
        return "accused"
    return "missed" if outcome == NOTHING else "caught"


class Tally(NamedTuple):
    """Agents of one kind, counted."""

    kind: str
    agents: int | None
    flagged: int
    ever: int
    """In quarantine after some round."""
    out: int
    """In quarantine at the end."""
    permanent: int


def tallies(result: Mapping[str, Outcome], truth: Truth | None) -> list[Tally]:
    """Count the outcomes of the malicious, the honest and all others."""
    kinds: list[tuple[str, frozenset[str], int | None]] = []
    if truth:
        kinds += [(kind, names, len(names)) for kind, names in truth._asdict().items()]
    known = truth.malicious | truth.honest if truth else frozenset()
    others = frozenset(result) - known
    if others or not truth:
        kinds.append(("strangers" if truth else "all", others, None))
    return [_tally(kind, [result[n] for n in names if n in result], n) for kind, names, n in kinds]


def _tally(kind: str, fates_: list[Outcome], agents: int | None) -> Tally:
    return Tally(
        kind,
        agents,
        sum(outcome.flagged > 0 for outcome in fates_),
        sum(outcome.since > 0 for outcome in fates_),
        sum(outcome.out for outcome in fates_),
        sum(outcome.permanent for outcome in fates_),
    )


def detection_summary(rounds: list[RoundRecord], truth: Truth) -> list[str]:
    """Say who was flagged as fake, if anybody looked, held against who is."""
    if not any(one.detection for one in rounds):
        return []
    malicious, honest = tallies(outcomes(rounds), truth)[:2]
    text = (
        f"Detection: of {malicious.agents:,} malicious agents {malicious.flagged:,} were "
        f"flagged in "
        f"some round and {malicious.out:,} are in quarantine at the end, "
        f"{malicious.permanent:,} permanently; of {honest.agents:,} honest ones "
        f"{honest.flagged:,} were flagged, {honest.ever:,} were ever in quarantine, "
        f"{honest.permanent:,} permanently."
    )
    return [text]


class Vote(NamedTuple):
    """Verdicts on candidates, held against when the malicious agents strike."""

    hit: int
    """Candidates of rounds in which they strike."""
    thrown: int
    """Of these, rejected."""
    calm: int
    wrong: int
    """Of the calm ones, rejected."""
    unasked: int
    """Of all of them, those about which nobody was asked."""


def attacked(
    rounds: list[RoundRecord], attack_rounds: AttackRounds | None, truth: Truth | None
) -> set[int]:
    """Return the rounds in which malicious agents attacked, as far as they were called.

    Where all of them are in quarantine they cannot. Agents selected for readmission either are
    flagged again or leaves it.
    """
    if attack_rounds is None or truth is None:
        return set()
    result = set()
    before: frozenset[str] = frozenset()
    for one in rounds:
        out = before.intersection(one.quarantined).difference(one.flagged)
        if attack_rounds.hit(one.round) and not truth.malicious <= out:
            result.add(one.round)
        before = frozenset(one.quarantined)
    return result


def verdicts(rounds: list[RoundRecord], hits: Collection[int]) -> Vote | None:
    """Count the verdicts, ``hits`` being the rounds with a strike; None if nobody voted."""
    if not any(one.votes.asked for one in rounds):
        return None
    judged = [one for one in rounds if one.accepted is not None]
    hit = [one for one in judged if one.about in hits]
    calm = [one for one in judged if one.about not in hits]
    return Vote(
        len(hit),
        sum(one.accepted is False for one in hit),
        len(calm),
        sum(one.accepted is False for one in calm),
        sum(not one.votes.asked for one in judged),
    )
