"""One agent's part in secure aggregation, step by step; every step checks what it is told.

    keys ──SecurePeers──► share ──SecureInbox──► add_masks ──UnmaskRequest──► unmask

Of each neighbour an agent gives away either a share of the secret of its own mask, if its update is
in the sum, or one of its key for masks, if it is not; never both, and that of one sum alone.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.protocol.messages import Vector
from fedjury.protocol.secure import (
    BOX,
    KEY,
    NOTHING,
    SHARE,
    MaskedUpdate,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    UnmaskRequest,
    UnmaskShares,
)
from fedjury.secure import keys, shamir
from fedjury.secure.bits import places_in, size_of
from fedjury.secure.fixed_point import NARROWEST, WIDEST, FixedPoint, Words, packed
from fedjury.secure.keys import KeyPair, Session

Random = Callable[[int], bytes]

SMALLEST, TOO_LARGE = 2.0**-149, 2.0**128
"""Where the range of a float32 begins and ends."""


class Refusal(Exception):  # noqa: N818 - it names the thing, not a failure of ours
    """An agent takes no further part in an attempt; it says why."""


class Opened(NamedTuple):
    """Whose updates were in a sum that an agent has helped to open."""

    roster: bytes
    """What stands for the members, and for what is summed of each: ``_summed``."""
    survivors: bytes


class Least(NamedTuple):
    """What an agent asks for at the least."""

    members: int = 3
    """Agents in a sum."""
    degree: int = 2
    """Neighbours."""
    threshold: int = 2


@dataclass(frozen=True, slots=True)
class Joined:
    """It has sent its keys."""

    name: str
    session: Session
    """Its group is not known yet: 0."""
    mask: KeyPair
    box: KeyPair
    samples: int
    hidden: int = 0
    """As how many of them its update counts at the most, where nobody is told; 0: it says so."""


class Neighbour(NamedTuple):
    """An agent's neighbour in a group."""

    name: str
    place: int
    mask_key: bytes
    """The key that stretches to the mask of the two."""
    box_key: bytes


@dataclass(frozen=True, slots=True)
class Shared:
    """It has shared its secrets among its neighbours."""

    own: Joined
    peers: SecurePeers
    seed: bytes = field(repr=False)
    """The secret of its own mask."""
    neighbours: tuple[Neighbour, ...] = field(repr=False)
    sent: SecureShares


@dataclass(frozen=True, slots=True)
class Masked:
    """It has its masks: the sum of them all is added to its update."""

    shared: Shared
    shares: tuple[bytes, ...] = field(repr=False)
    """What came in each neighbour's box: a share of its key and one of its mask's secret, or empty
    if no box came or it did not open."""
    left: frozenset[int]
    """Places of neighbours that have sent no box."""
    words: Words = field(repr=False)
    """(length,): the masks, summed."""


@dataclass(frozen=True, slots=True)
class Answered:
    """It has helped to open a sum: once more it says the same, and nothing else."""

    request: UnmaskRequest
    answer: UnmaskShares


def roster_of(names: Iterable[str]) -> bytes:
    """Return what stands for a group with these members."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).digest()


def _summed(peers: SecurePeers) -> bytes:
    """Return what stands for a group and its sum: with other weights or another clip it is another.

    Two sums of the same updates with weights that differ would tell single ones.
    """
    terms = struct.pack("<QQd", peers.weight, peers.largest, peers.clip)
    return hashlib.sha256(peers.roster + terms).digest()


def base_of(weights: Vector) -> bytes:
    """Return what stands for a model (d,), on both sides: SHA-256 of its float32."""
    return hashlib.sha256(weights.astype("<f4", copy=False).tobytes()).digest()


def base_of_counts(candidate: bytes, versions: Iterable[int]) -> bytes:
    """Return what stands for a ``base_of`` a candidate, and the versions it is judged against."""
    past = " ".join(map(str, versions))
    return hashlib.sha256(b"counts/" + past.encode() + b"/" + candidate).digest()


def commitment(seed: bytes) -> bytes:
    """Return what an agent says of a secret beforehand."""
    return hashlib.sha256(b"fedjury/secagg/own/" + seed).digest()


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut what stands in one piece."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def _numbers(data: bytes) -> list[int]:
    """Return the whole numbers that stand in one piece; what is left over is none."""
    numbers: list[int] = np.frombuffer(data[: len(data) // 4 * 4], "<u4").tolist()
    return numbers


def join(
    name: str, run: str, turn: tuple[int, int], samples: int, random: Random, hidden: int = 0
) -> tuple[Joined, SecureKeys]:
    """Make new keys for an attempt; ``turn``: its round and number; ``hidden``: see ``Joined``."""
    mask, box = (KeyPair.of(random(KEY)) for _ in range(2))
    joined = Joined(name, Session(run, *turn, 0), mask, box, samples, hidden)
    return joined, SecureKeys(name, *turn, mask.public, box.public, 0 if hidden else samples)


def share(
    own: Joined,
    peers: SecurePeers,
    before: Opened | None,
    least: Least,
    random: Random,
    agree: Callable[[KeyPair, bytes, bytes], bytes] = keys.agreed,
) -> Shared:
    """Agree with the neighbours, and share both secrets among them.

    ``before``: the sum over the same base model that it has helped to open, if there is one.

    Raises
    ------
    Refusal
        If it is told something that cannot be, or that would tell more of it than the sum.
    """
    names, places = peers.names.split(" "), _numbers(peers.places)
    _check_peers(own, peers, names, places, least)
    if before is not None and before.roster != _summed(peers):
        raise Refusal("another sum over the same model was opened, with other members or weights")
    session = own.session._replace(group=peers.group)
    neighbours = []
    both = zip(pieces(peers.mask_keys, KEY), pieces(peers.box_keys, KEY), strict=True)
    for name, place, (mask_key, box_key) in zip(names, places, both, strict=True):
        pair = sorted((own.name, name))
        try:
            masks = agree(own.mask, mask_key, session.info("mask", *pair))
            boxes_with = agree(own.box, box_key, session.info("box", *pair))
        except ValueError as why:
            raise Refusal(f"a key of {name} is none") from why
        neighbours.append(Neighbour(name, place, masks, boxes_with))
    seed = random(KEY)
    parts = shamir.parts_of([own.mask.private, seed])
    shares = shamir.share(parts, len(names), peers.threshold, random).astype("<u4")
    boxes = [
        keys.seal(
            one.box_key,
            shares[:, i].tobytes(),
            session.info("share", own.name, one.name),
            random,
        )
        for i, one in enumerate(neighbours)
    ]
    joined = replace(own, session=session)
    sent = SecureShares(own.name, *session[1:3], commitment(seed), b"".join(boxes))
    return Shared(joined, peers, seed, tuple(neighbours), sent)


def _check_peers(
    own: Joined, peers: SecurePeers, names: list[str], places: list[int], least: Least
) -> None:
    """Refuse peers that cannot be.

    Raises
    ------
    Refusal
        With the reason.
    """
    degree, members = len(names), peers.members
    for wrong, why in (
        (members < least.members, f"a group of {members} is too small"),
        (degree < least.degree, f"{degree} neighbours are too few"),
        (peers.threshold < least.threshold, f"a threshold of {peers.threshold} is too low"),
        (
            peers.threshold > degree,
            f"a threshold of {peers.threshold} is above {degree} neighbours",
        ),
        (len(peers.places) != 4 * degree, "there are not as many places as names"),
        (len(peers.mask_keys) != degree * KEY, "there are not as many keys as names"),
        (len(peers.box_keys) != degree * KEY, "there are not as many keys as names"),
        (len({*names}) != degree or own.name in names, "a neighbour is named twice, or is itself"),
        (
            sorted({*places, peers.place}) != sorted([*places, peers.place]),
            "a place is named twice",
        ),
        (max([*places, peers.place]) >= members, "a place is outside the group"),
        (places != sorted(places), "the places are not in order"),
        (not 0 < peers.weight <= peers.largest, "its weight is none"),
        (
            peers.weight != min(max(1, own.samples), peers.largest),
            "its weight is not the number of its samples",
        ),
        (own.hidden > 0 and peers.largest != 1, "weights are told, though samples are hidden"),
        (not SMALLEST <= peers.clip < TOO_LARGE, "the clip is none"),
        (
            peers.bits % 4 or not NARROWEST <= peers.bits <= WIDEST,
            f"sums of {peers.bits} bits are none",
        ),
        ((members - 1).bit_length() >= peers.bits, f"sums of {peers.bits} bits are too narrow"),
    ):
        if wrong:
            raise Refusal(why)


def add_masks(
    shared: Shared,
    inbox: SecureInbox,
    length: int,
    mask: Callable[[bytes, int], Words] = keys.mask,
) -> Masked:
    """Open the boxes, and sum the masks towards those neighbours who have sent one.

    ``length``: of what is summed. ``mask``: stretches the key of two to their mask.

    Raises
    ------
    Refusal
        If so few neighbours are left, or so few boxes open, that masks could not be undone.
    """
    boxes = pieces(inbox.boxes, BOX)
    if len(inbox.boxes) != len(shared.neighbours) * BOX:
        raise Refusal("there are not as many boxes as neighbours")
    own, shares, left = shared.own, [], set()
    words = np.array(keys.mask(shared.seed, length))
    for one, box in zip(shared.neighbours, boxes, strict=True):
        if box == NOTHING:
            shares.append(b"")
            left.add(one.place)
            continue
        header = own.session.info("share", one.name, own.name)
        try:
            shares.append(keys.unseal(one.box_key, box, header))
        except ValueError:
            shares.append(b"")
        towards = mask(one.mask_key, length)
        (np.add if shared.peers.place < one.place else np.subtract)(words, towards, out=words)
    if sum(map(bool, shares)) < shared.peers.threshold:
        raise Refusal("too few boxes of neighbours open")
    return Masked(shared, tuple(shares), frozenset(left), words)


def fixed_point_of(masked: Masked) -> FixedPoint:
    """Return how the group's updates become whole numbers."""
    peers = masked.shared.peers
    return FixedPoint(peers.clip, peers.bits, peers.members)


def shortened(update: Vector, norm: float, fixed: FixedPoint) -> Vector:
    """Return an update (d,) that, once it is rounded, is no longer than ``norm`` (L2).

    Raises
    ------
    Refusal
        If rounding alone could make it longer.
    """
    room = norm - math.sqrt(len(update)) * fixed.clip / fixed.largest
    if room <= 0:
        raise Refusal(f"rounding alone may make an update longer than {norm}")
    length = float(np.linalg.norm(update.astype(np.float64)))
    if length <= room:
        return update
    return (update * (room * (1 - 1e-6) / length)).astype(np.float32)


def masked_update(
    masked: Masked, version: int, update: Vector, *, clipped: bool = True
) -> MaskedUpdate:
    """Return an update (d,) under the masks; ``clipped``: see ``FixedPoint.encode``.

    Raises
    ------
    ValueError
        If it is not finite.
    """
    peers = masked.shared.peers
    fixed = fixed_point_of(masked)
    own, hidden = masked.shared.own, masked.shared.own.hidden
    share = min(max(1, own.samples), hidden) / hidden if hidden else peers.weight / peers.largest
    words = fixed.encode(update, share, clipped=clipped, hidden=hidden > 0) + masked.words
    return MaskedUpdate(peers.agent, peers.round, peers.attempt, version, packed(words, peers.bits))


def masked_counts(masked: Masked, version: int, counts: npt.NDArray[np.int64]) -> MaskedUpdate:
    """Return whole numbers (length,) under the masks; none counts for more than its owner's weight.

    Raises ``ValueError`` if there are not as many as are summed, or one is negative.
    """
    peers = masked.shared.peers
    if len(counts) != len(masked.words) or counts.min(initial=0) < 0:
        raise ValueError(f"{len(counts)} counts, {len(masked.words)} are summed")
    words = np.minimum(counts, peers.weight).astype(np.uint32) + masked.words
    return MaskedUpdate(peers.agent, peers.round, peers.attempt, version, packed(words, peers.bits))


def unmask(
    masked: Masked, request: UnmaskRequest, before: Opened | None, least: Least
) -> tuple[Answered, Opened]:
    """Answer for whom the sum is to be opened; returns also what is to be remembered beforehand.

    ``before``: as in ``share``.

    Raises
    ------
    Refusal
        If it would tell more than one sum of enough agents.
    """
    shared = masked.shared
    peers = shared.peers
    if len(request.survivors) != size_of(peers.members):
        raise Refusal("there are not as many survivors as members")
    alive = set(places_in(request.survivors, peers.members))
    opened = Opened(_summed(peers), request.survivors)
    present = {
        one.place for one, held in zip(shared.neighbours, masked.shares, strict=True) if held
    }
    for wrong, why in (
        (peers.place not in alive, "it is asked to count itself out"),
        (not alive.isdisjoint(masked.left), "a neighbour that had left survives"),
        (len(alive) < least.members, f"a sum of {len(alive)} is of too few"),
        (len(alive & present) < peers.threshold, "too few of its neighbours survive"),
        (
            before is not None and before != opened,
            "another sum over the same model was opened, of other agents",
        ),
    ):
        if wrong:
            raise Refusal(why)
    shares = b"".join(
        bytes(SHARE) if not held else held[SHARE:] if one.place in alive else held[:SHARE]
        for one, held in zip(shared.neighbours, masked.shares, strict=True)
    )
    answer = UnmaskShares(peers.agent, peers.round, peers.attempt, shares)
    return Answered(request, answer), opened


def again(answered: Answered, request: UnmaskRequest) -> UnmaskShares:
    """Answer a request that comes once more.

    Raises
    ------
    Refusal
        If it is another one: two of them would tell both secrets of a neighbour.
    """
    if request != answered.request:
        raise Refusal("a second request that differs from the first")
    return answered.answer


Remembered = Mapping[bytes, Opened]
"""SHA-256 of a base model -> the sum over it that an agent has helped to open."""
