"""The aggregator's part in the secure aggregation of one group, step by step. All is pure.

    KEYS ──keys──► SHARES ──boxes──► UPDATES ──masked updates──► UNMASK ──shares──► Opened
     │               │                 │  └──► SUM ──their sum──►  │
     └───────────────┴─────────────────┴── too few are left ───────┴──────────────► Lost

Where masked updates stay in the cell of the group, their sum is asked of it: see ``in_cell``.

Each step waits for all of the group who are still there, or until it is late, and goes on with
those who came. The order in which they came changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from fedjury.protocol.messages import Reason, Vector
from fedjury.protocol.replaceable import Replaceable
from fedjury.protocol.secure import (
    BOX,
    NOTHING,
    SHARE,
    MaskedUpdate,
    SecureDown,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    SecureUp,
    UnmaskRequest,
    UnmaskShares,
)
from fedjury.secure.agent import Random, pieces, roster_of
from fedjury.secure.bits import bits_of
from fedjury.secure.fixed_point import FixedPoint, Words, packed_size, unpacked
from fedjury.secure.graph import Places, draw_graph, numbers_in
from fedjury.secure.keys import LOW_ORDER, same
from fedjury.secure.parameters import parameters

NO_SHARE = bytes(SHARE)
"""In the place of a share that there is not."""

CAP = 8
"""The weight of an update is at most so many times its group's median."""


class Step(IntEnum):
    """What a group waits for."""

    KEYS = 0
    SHARES = 1
    UPDATES = 2
    SUM = 3
    """Of the cell that its masked updates stay in."""
    UNMASK = 4


STEP: Mapping[type[SecureUp], Step] = {
    SecureKeys: Step.KEYS,
    SecureShares: Step.SHARES,
    MaskedUpdate: Step.UPDATES,
    UnmaskShares: Step.UNMASK,
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all groups of a run."""

    run: str
    colluding: float
    """The largest share of a group who tell all they know to the server."""
    dropping: float
    """The largest share of it who may leave in mid-protocol."""
    least: int
    """Agents in a sum, at the least."""
    value_bits: int
    """Of a coordinate, at the least; 0: whole numbers are summed, none above its owner's weight."""
    largest_weight: int
    random: Random


@dataclass(frozen=True)
class Group(Replaceable):
    """A group whose sum is not known yet."""

    number: int
    turn: tuple[int, int]
    """Round and attempt."""
    version: int
    """Of the model from which its members train."""
    length: int
    """Of what is summed: d + 1, or one more where weights are hidden."""
    awaited: frozenset[str]
    """Members who may answer the step."""
    unheard: frozenset[str] = frozenset()
    """Those of them that nobody waits for."""
    hidden: int = 0
    """The largest weight that counts, where nobody is told the weight of each; 0: they are told."""
    least: int = 0
    """Agents in its sum at the least, where it needs more than the run's others."""
    cell: int = 0
    """The cell that its masked updates stay in; 0: they come up."""
    life: int = 0
    """Of that cell's worker, as far as it has told of them."""
    step: Step = Step.KEYS
    keys: Mapping[str, SecureKeys] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    """Who has sent keys, sorted: a member's place."""
    peers: Mapping[str, SecurePeers] = field(default_factory=dict)
    graph: Places = field(default_factory=lambda: np.empty((0, 0), np.int64))
    """(members, degree): the places of each one's neighbours."""
    numbers: Places = field(default_factory=lambda: np.empty((0, 0), np.int64))
    """(members, degree): which number each has among the neighbours of each of its own."""
    threshold: int = 0
    fixed: FixedPoint = FixedPoint(1.0, 32, 1)  # noqa: RUF009 - it is frozen
    shares: Mapping[str, SecureShares] = field(default_factory=dict)
    total: Words = field(default_factory=lambda: np.empty(0, np.uint32))
    """(length,): the masked updates that have come, added up."""
    came: frozenset[str] = frozenset()
    """Whose they are."""
    survivors: bytes = b""
    """Whose updates are in the sum, a bit for each place, once it is to be opened."""
    answers: Mapping[str, UnmaskShares] = field(default_factory=dict)

    @property
    def answered(self) -> Collection[str]:
        """Who has answered the step."""
        nobody: Collection[str] = ()
        steps = self.keys.keys(), self.shares.keys(), self.came, nobody, self.answers.keys()
        return steps[self.step]

    @property
    def complete(self) -> bool:
        """Whether all have answered who may."""
        if self.step is Step.SUM:
            return len(self.total) > 0
        waited_for = len(self.awaited) - len(self.unheard.difference(self.answered))
        return len(self.answered) >= waited_for

    def place(self, name: str) -> int:
        """Return a member's place."""
        return self.peers[name].place


@dataclass(frozen=True, slots=True)
class Opened:
    """A group's sum is known."""

    number: int
    members: tuple[str, ...]
    """Whose updates are in it, sorted."""
    weight: int
    """Theirs, added up."""
    total: Words
    """(length,): what they have sent, added up, without masks."""
    fixed: FixedPoint
    largest: int
    """The largest weight in the group, or that there may be where weights are hidden."""
    wrong: tuple[str, ...] = ()
    """Who has sent shares that do not fit: they are at fault, or who has dealt them the shares."""
    hidden: bool = False
    """Whether nobody was told the weight of each."""

    @property
    def mean(self) -> Vector:
        """The weighted mean (d,) of their updates."""
        weight = self.fixed.weight(self.total) if self.hidden else self.weight / self.largest
        return self.fixed.decode(self._told, len(self.members), weight)[0]

    @property
    def clipped(self) -> float:
        """Which share of their coordinates was clipped."""
        return self.fixed.clipped(self._told, len(self.members))

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The sum (length,) of whole numbers."""
        return (self.total & np.uint32((1 << self.fixed.bits) - 1)).astype(np.int64)

    @property
    def _told(self) -> Words:
        """The sum (d + 1,) without a hidden weight."""
        return self.total[:-1] if self.hidden else self.total


@dataclass(frozen=True, slots=True)
class Lost:
    """A group's sum will never be known."""

    number: int
    members: tuple[str, ...]
    why: str


# ---------------------------------------------------------------- what comes


def take(group: Group, message: SecureUp) -> Group | Reason:
    """Add an answer of a member, or say why it is refused."""
    if STEP[type(message)] is not group.step:
        return Reason.WRONG_PHASE
    if group.cell and isinstance(message, MaskedUpdate):  # its cell should have kept it
        return Reason.WRONG_PHASE
    if message.agent not in group.awaited:
        return Reason.NOT_SELECTED
    if message.agent in group.answered:
        return Reason.DUPLICATE
    match message:
        case SecureKeys():
            return _take_keys(group, message)
        case SecureShares():
            if len(message.boxes) != group.graph.shape[1] * BOX:
                return Reason.WRONG_LENGTH
            if NOTHING in pieces(message.boxes, BOX):  # who gets it would take the sender for gone
                return Reason.WRONG_SHARE
            return group.but(shares={**group.shares, message.agent: message})
        case MaskedUpdate():
            return _take_update(group, message)
        case UnmaskShares():
            if len(message.shares) != group.graph.shape[1] * SHARE:
                return Reason.WRONG_LENGTH
            return group.but(answers={**group.answers, message.agent: message})


def _take_keys(group: Group, message: SecureKeys) -> Group | Reason:
    """Add keys, unless there is no secret with them, or they are somebody else's."""
    mine = {same(message.mask_key), same(message.box_key)}
    theirs = {same(key) for one in group.keys.values() for key in (one.mask_key, one.box_key)}
    if len(mine) < 2 or not mine.isdisjoint(LOW_ORDER) or not mine.isdisjoint(theirs):
        return Reason.BAD_KEY
    return group.but(keys={**group.keys, message.agent: message})


def _take_update(group: Group, message: MaskedUpdate) -> Group | Reason:
    """Add a masked update to the sum."""
    if message.version != group.version:
        return Reason.WRONG_VERSION
    if len(message.data) != packed_size(group.length, group.fixed.bits):
        return Reason.WRONG_LENGTH
    words = unpacked(message.data, group.length, group.fixed.bits)
    total = group.total + words if len(group.total) else words
    return group.but(total=total, came=group.came | {message.agent})


def without(group: Group, agent: str) -> Group:
    """Wait no longer for an agent that has not answered the step."""
    if agent in group.answered:
        return group
    return group.but(awaited=group.awaited - {agent}, unheard=group.unheard - {agent})


# ---------------------------------------------------------------- from step to step


def advance(group: Group, terms: Terms, clip: float) -> Group | Lost:
    """Go on to the next step with those who have answered; ``told`` says what each is told there.

    ``clip``: the largest coordinate of an update that is summed. A group at its last step is opened
    by ``fedjury.secure.opening``.
    """
    match group.step:
        case Step.KEYS:
            return _with_peers(group, terms, clip)
        case Step.SHARES:
            here, what = frozenset(group.shares), "sent shares"
        case Step.SUM if not len(group.total):
            why = f"cell {group.cell} has not added up its masked updates in time"
            return Lost(group.number, group.names, why)
        case Step.SUM:
            return group.but(step=Step.UNMASK)
        case _:
            here, what = group.came, "sent masked updates"
    if why := _too_few(group, here, max(terms.least, group.least), what):
        return Lost(group.number, group.names, why)
    come, after = group.step is Step.UPDATES, Step(group.step + 1)
    after = Step.UNMASK if come and not group.cell else after
    group = group.but(step=after, awaited=here, unheard=frozenset())
    if come:
        places = [place for place, name in enumerate(group.names) if name in here]
        group = group.but(survivors=bits_of(places, len(group.names)))
    return group


def _with_peers(group: Group, terms: Terms, clip: float) -> Group | Lost:
    """Draw who is whose neighbour among those who take part."""
    names = tuple(sorted(group.keys))
    n, least = len(names), max(terms.least, group.least)
    if n < least:
        return Lost(group.number, names, f"{n} of its agents sent keys, {least} are needed")
    samples = np.array([group.keys[name].samples for name in names])
    cap = min(terms.largest_weight, int(CAP * np.median(samples)))
    weights = np.clip(samples, 1, max(1, cap)).tolist()
    roster, largest, peers = roster_of(names), max(weights), {}
    try:
        degree, threshold = parameters(n, terms.colluding, terms.dropping)
        fixed = FixedPoint.of(clip, n, terms.value_bits or largest.bit_length())
    except ValueError as why:
        return Lost(group.number, names, str(why))
    graph = draw_graph(n, degree, terms.random)
    for place, (name, weight) in enumerate(zip(names, weights, strict=True)):
        near = [group.keys[names[other]] for other in graph[place]]
        peers[name] = SecurePeers(
            agent=name,
            round=group.turn[0],
            attempt=group.turn[1],
            group=group.number,
            place=place,
            members=n,
            roster=roster,
            names=" ".join(one.agent for one in near),
            places=graph[place].astype("<u4").tobytes(),
            mask_keys=b"".join(one.mask_key for one in near),
            box_keys=b"".join(one.box_key for one in near),
            threshold=threshold,
            clip=clip,
            bits=fixed.bits,
            weight=weight,
            largest=largest,
        )
    return group.but(
        step=Step.SHARES,
        awaited=frozenset(names),
        unheard=frozenset(),
        names=names,
        peers=peers,
        graph=graph,
        numbers=numbers_in(graph),
        threshold=threshold,
        fixed=fixed,
    )


def _too_few(group: Group, here: frozenset[str], least: int, what: str) -> str:
    """Say why masks could not be undone with the help of these; empty if they could.

    All who have shared their secrets are in the masks of others, still here or not.
    """
    if len(here) < least:
        return f"{len(here)} of {len(group.names)} agents {what}, {least} are needed"
    present = np.array([name in here for name in group.names])
    hidden = np.array([name in group.shares for name in group.names])
    left = present[group.graph].sum(axis=1)[hidden]
    if left.min(initial=group.threshold) < group.threshold:
        return (
            f"{len(here)} of {len(group.names)} agents {what}, and one of them has {left.min()} "
            f"neighbours left, where {group.threshold} are needed"
        )
    return ""


def told(group: Group, name: str) -> SecureDown | None:
    """Return what a member is told at the step at hand; None if nothing.

    The same whenever it is asked.
    """
    turn = name, *group.turn
    if name not in group.awaited or group.step in (Step.KEYS, Step.SUM):
        return None
    if group.step is Step.SHARES:
        return group.peers[name]
    if group.step is Step.UPDATES:
        return SecureInbox(*turn, b"".join(_boxes_for(group, name)))
    return UnmaskRequest(*turn, group.survivors)


def _boxes_for(group: Group, name: str) -> Sequence[bytes]:
    """Return the box of each of a member's neighbours for it, in the order of their places."""
    place, boxes = group.place(name), []
    near = zip(group.graph[place].tolist(), group.numbers[place].tolist(), strict=True)
    for other, number in near:
        sent = group.shares.get(group.names[other])
        if sent is None:
            boxes.append(NOTHING)
        else:
            boxes.append(sent.boxes[number * BOX : (number + 1) * BOX])
    return boxes


def shares_of(group: Group, owner: int) -> tuple[list[int], list[bytes]]:
    """Return which of the owner's neighbours have sent a share of its secret, and the shares.

    Neighbours are numbered as the owner has numbered them.
    """
    places, shares = [], []
    near = zip(group.graph[owner].tolist(), group.numbers[owner].tolist(), strict=True)
    for number, (other, at) in enumerate(near):
        answer = group.answers.get(group.names[other])
        if answer is None:
            continue
        share = answer.shares[at * SHARE : (at + 1) * SHARE]
        if share != NO_SHARE:
            places.append(number)
            shares.append(share)
    return places, shares
