"""What a round's record says of its groups, and of the votes on them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedjury.protocol.fields import (
    COUNT,
    NAMES,
    NUMBER,
    NUMBERED,
    SIZE,
    TEXT,
    Kind,
    entry,
    map_of,
    name,
    number,
    part,
    values,
)
from fedjury.protocol.messages import GroupVotes


@dataclass(frozen=True, slots=True)
class Group:
    """One group of a round."""

    members: tuple[str, ...] = entry(NAMES, "agents whose updates are in it", ())
    poisoned: int = entry(COUNT, "votes that call it poisoned", 0)
    clean: int = entry(COUNT, "votes that call it clean", 0)
    silent: int = entry(COUNT, "validators that were asked about it and did not vote", 0)
    why: str = entry(TEXT, "why it was left out; empty if it was aggregated", "")


@dataclass(frozen=True, slots=True)
class GroupBallot:
    """One validator's votes on groups, and what they cost it."""

    judged: int = entry(COUNT, "groups that it judged", 0)
    poisoned: tuple[int, ...] = entry(NUMBERED, "those that it called poisoned", ())
    size: int = entry(SIZE, "payloads of candidates and history received", 0, unit="bytes")
    cpu: int = entry(COUNT, "processor time of judging, as it says; 0: not said", 0, unit="µs")

    @classmethod
    def of(cls, said: GroupVotes) -> GroupBallot:
        """Return what the record of a round holds of these votes."""
        poisoned = tuple(group for group, vote in said.votes().items() if vote.poisoned)
        return cls(len(said.numbers), poisoned, said.size, said.cpu)


def _group(value: object) -> Group:
    return Group(**values(Group, value, {}) if isinstance(value, dict) else {})


def _ballot(value: object) -> GroupBallot:
    return GroupBallot(**values(GroupBallot, value, {}) if isinstance(value, dict) else {})


GROUPS = Kind("map number → map", map_of(number, _group), Group, "NUMBER")
BALLOTS = Kind("map name → map", map_of(name, _ballot), GroupBallot)


NUMBERS = 8
"""Groups left out whose numbers are said in a line, and in short."""


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """The groups of a round in short, of which there may be hundreds with thousands of agents."""

    count: int = entry(COUNT, "how many there are", 0)
    left_out: int = entry(COUNT, "how many of them were not aggregated", 0)
    numbers: tuple[int, ...] = entry(NUMBERED, "the first of these", (), optional=True)
    size: int = entry(SIZE, "what the median validator received", 0, optional=True, unit="bytes")
    cpu: int = entry(COUNT, "processor time of the median validator", 0, optional=True, unit="µs")

    def __str__(self) -> str:
        """Return them as people read them: "2 of 10 groups left out (3, 7)"."""
        if not self.left_out:
            return f"{self.count:,} group{'s' * (self.count != 1)}, none left out"
        shown = ", ".join(map(str, self.numbers[:NUMBERS]))
        more = ", ..." if self.left_out > NUMBERS else ""
        named = f" ({shown}{more})" if shown else ""
        return f"{self.left_out:,} of {self.count:,} groups left out{named}"


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of a round, by their numbers."""

    groups: Mapping[str, Group] = entry(GROUPS, "the groups, from 0", {})
    voters: Mapping[str, GroupBallot] = entry(
        BALLOTS, "the votes of each validator on groups", {}, "group_voters", optional=True
    )
    rejects_at: int = entry(
        COUNT, 'how many "poisoned" votes leave a group out', 0, "group_quorum", optional=True
    )
    clip: float = entry(
        NUMBER,
        "secure aggregation: largest coordinate that was summed",
        0.0,
        "group_clip",
        optional=True,
    )
    clipped: float = entry(
        NUMBER, "share of the coordinates that was clipped", 0.0, "group_clipped", optional=True
    )
    in_short: GroupCounts | None = part(
        GroupCounts,
        "instead of all these, in `log/history`: ",
        prefix="group_counts.",
        optional=True,
    )

    @property
    def left_out(self) -> tuple[str, ...]:
        """The numbers of those that were not aggregated."""
        return tuple(number for number, group in self.groups.items() if group.why)

    @property
    def members_left_out(self) -> frozenset[str]:
        """The agents in those."""
        return frozenset(name for n in self.left_out for name in self.groups[n].members)

    @property
    def cost(self) -> tuple[int, int]:
        """What the median validator received (bytes), and its processor time (microseconds)."""
        ballots = self.voters.values()
        if not ballots:
            return 0, 0
        sizes = statistics.median_high(ballot.size for ballot in ballots)
        return sizes, statistics.median_high(ballot.cpu for ballot in ballots)

    @property
    def counts(self) -> GroupCounts:
        """How many there are, how many were left out, and what they cost the median validator."""
        if self.in_short is not None and not self.groups:
            return self.in_short
        out = self.left_out
        return GroupCounts(len(self.groups), len(out), tuple(map(int, out[:NUMBERS])), *self.cost)

    def short(self) -> Groups:
        """Return only how many there are, without the names of agents."""
        counts = self.counts
        return Groups(in_short=replace(counts, numbers=counts.numbers[:NUMBERS]))

    def __str__(self) -> str:
        """Return them as people read them: "2 of 10 groups left out (3, 7)"."""
        return f"{self.counts}"
