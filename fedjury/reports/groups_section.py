"""What became of groups of agents: which were left out and why, and who was in them. All pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from fedjury.protocol.groups import Group, Groups
from fedjury.protocol.record import RoundRecord
from fedjury.reports.detection_section import Truth
from fedjury.reports.rounds import text

REASONS = 10
"""Reasons for leaving groups out that are told apart, the most frequent."""

AGENTS = 20
"""Agents that are named, those most often in groups that were left out."""

OTHER = "other reasons"


class Reason(NamedTuple):
    """Why groups were left out."""

    why: str
    groups: int
    rounds: int


class Judged(NamedTuple):
    """Groups that were voted on, held against who attacked in them."""

    poisoned: int
    """With a malicious agent, in a round in which these attack."""
    missed: int
    """Of these, aggregated: false negatives."""
    clean: int
    """All others."""
    wrong: int
    """Of these, left out: false positives."""
    kept: float | None
    """Share of the honest updates of attacked rounds that were aggregated; None: there is none."""


class Member(NamedTuple):
    """An agent, and the groups in which it was."""

    name: str
    groups: int
    left_out: int
    last: int
    """The last round in which its group was left out."""
    malicious: bool


class GroupFigures(NamedTuple):
    """A run's groups in figures."""

    rounds: int
    """Rounds with groups."""
    groups: int
    voted: int
    """Groups on which somebody voted."""
    left_out: int
    size: int
    """Bytes that the median validator received a round, the median of all rounds; 0: no votes."""
    cpu: int
    """Its processor time, in microseconds; 0: not said."""
    reasons: list[Reason]
    judged: Judged | None
    """None where nobody voted on groups, or nobody knows who is malicious."""
    members: list[Member]
    more: int
    """Agents that were in groups left out and are not among these."""


def figures(
    rounds: Sequence[RoundRecord], hits: Collection[int], truth: Truth | None
) -> GroupFigures | None:
    """Sum up the groups of a run, ``hits`` being the attacked rounds; None if there are none."""
    shown = [(one, one.groups) for one in rounds if one.groups is not None and one.groups.groups]
    if not shown:
        return None
    costs = [groups.cost for _, groups in shown if groups.voters]
    every = [group for _, groups in shown for group in groups.groups.values()]
    malicious = truth.malicious if truth else frozenset()
    members = _members(shown, malicious)
    return GroupFigures(
        rounds=len(shown),
        groups=len(every),
        voted=sum(map(_voted, every)),
        left_out=sum(bool(group.why) for group in every),
        size=_middle([size for size, _ in costs]),
        cpu=_middle([cpu for _, cpu in costs if cpu]),
        reasons=_reasons(shown),
        judged=_judged(shown, hits, truth) if costs and truth else None,
        members=members[:AGENTS],
        more=max(0, len(members) - AGENTS),
    )


Shown = Sequence[tuple[RoundRecord, Groups]]


def _voted(group: Group) -> bool:
    return group.poisoned + group.clean > 0


def _middle(values: list[int]) -> int:
    return statistics.median_high(values) if values else 0


def _reasons(shown: Shown) -> list[Reason]:
    """Count why groups were left out, the most frequent reason first."""
    groups: Counter[str] = Counter()
    rounds: dict[str, set[int]] = {}
    for one, its in shown:
        for group in its.groups.values():
            if group.why:
                groups[group.why] += 1
                rounds.setdefault(group.why, set()).add(one.round)
    ordered = sorted(groups, key=lambda why: (-groups[why], why))
    most, others = ordered[:REASONS], ordered[REASONS:]
    result = [Reason(text(why), groups[why], len(rounds[why])) for why in most]
    if others:
        when = set().union(*(rounds[why] for why in others))
        result.append(Reason(OTHER, sum(groups[why] for why in others), len(when)))
    return result


def _judged(shown: Shown, hits: Collection[int], truth: Truth) -> Judged:
    """Hold the verdicts on groups against who attacked in them."""
    counts: Counter[tuple[bool, bool]] = Counter()
    for one, its in shown:
        for group in its.groups.values():
            if _voted(group):
                bad = one.round in hits and not truth.malicious.isdisjoint(group.members)
                counts[bad, bool(group.why)] += 1
    return Judged(
        counts[True, False] + counts[True, True],
        counts[True, False],
        counts[False, False] + counts[False, True],
        counts[False, True],
        _kept(shown, hits, truth),
    )


def _kept(shown: Shown, hits: Collection[int], truth: Truth) -> float | None:
    """Return which share of the honest updates of attacked rounds became part of the model."""
    kept = every = 0
    for one, its in shown:
        if one.round not in hits:
            continue
        for group in its.groups.values():
            honest = sum(name not in truth.malicious for name in group.members)
            every += honest
            kept += honest * (not group.why and one.accepted is not False)
    return kept / every if every else None


def _members(shown: Shown, malicious: Collection[str]) -> list[Member]:
    """Return who was in groups that were left out, most often first."""
    every: Counter[str] = Counter()
    out: Counter[str] = Counter()
    last: dict[str, int] = {}
    for one, name, group in _each(shown):
        every[name] += 1
        if group.why:
            out[name] += 1
            last[name] = one.round
    found = [Member(n, every[n], out[n], last[n], n in malicious) for n in out]
    return sorted(found, key=lambda member: (-member.left_out, member.groups, member.name))


def _each(shown: Shown) -> Iterator[tuple[RoundRecord, str, Group]]:
    for one, its in shown:
        for group in its.groups.values():
            for name in group.members:
                yield one, name, group


def sentence(rounds: Sequence[RoundRecord]) -> str:
    """Say how many groups were left out, and in which rounds; empty where there are no groups."""
    shown: Mapping[int, Groups] = {one.round: one.groups for one in rounds if one.groups}
    counts = [groups.counts for groups in shown.values()]
    every, out = sum(one.count for one in counts), sum(one.left_out for one in counts)
    if not every:
        return ""
    if not out:
        return f"none of {every:,} groups was left out"
    when = sum(one.left_out > 0 for one in counts)
    were = "was" if out == 1 else "were"
    return f"{out:,} of {every:,} groups {were} left out, in {when:,} round{'s' * (when != 1)}"
