"""A group's secure aggregation from end to end, with all that is computed on the way.

Six agents with seven coordinates each; ``eve`` sends keys and nothing else, ``bob`` shares of its
secrets and no update. What is random comes from streams that are fixed: of each name, AES-256 in
counter mode from zero, its key being SHA-256 of ``fedjury/secure vector/NAME``.

``python -m support.secure_vector > tests/unit/recorded/secure_vector.json``, with ``tests`` on the
path, writes it again; docs/protocol.md explains it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fedjury.protocol.codec import encode
from fedjury.protocol.secure import SHARE, SecureDown, SecureUp
from fedjury.protocol.topics import CHANNELS
from fedjury.secure import agent, group, keys, shamir
from fedjury.secure.fixed_point import FixedPoint, packed
from fedjury.secure.keys import KeyPair
from fedjury.secure.opening import opened

RUN = "lab"
NUMBER, TURN, VERSION = 1, (3, 2), 5
CLIP = (2**17 - 1) / 2**19
"""So that 2¹⁸ / weight coordinates are one unit: halves appear."""

UNIT = 2.0**-18

SAMPLES = {"ada": 60, "bob": 45, "cem": 1000, "dan": 30, "eve": 0, "fay": 75}
UPDATES = {
    "ada": (0.0, UNIT, -UNIT, 0.1, -0.2, 0.25, 3.0),
    "bob": (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07),
    "cem": (2 * UNIT, 3 * UNIT, 4 * UNIT, -0.125, 0.0625, -1.0, 1e-3),
    "dan": (1e-9, -1e-9, 0.2, 0.2, 0.2, -0.2, -0.0),
    "eve": (0.0,) * 7,
    "fay": (-0.01, 0.2499980926513672, -0.2499980926513672, 0.05, 7e-6, -7e-6, 0.15),
}
SILENT_AFTER_KEYS, SILENT_AFTER_SHARES = "eve", "bob"

Json = dict[str, Any]


class Stream:
    """A fixed source in the place of the operating system's."""

    def __init__(self, name: str) -> None:
        key = hashlib.sha256(f"fedjury/secure vector/{name}".encode()).digest()
        self._bytes = keys.mask(key, 4096).tobytes()
        self._at = 0

    def __call__(self, size: int) -> bytes:
        """Return the next so many bytes."""
        self._at += size
        assert self._at <= len(self._bytes)
        return self._bytes[self._at - size : self._at]

    @property
    def taken(self) -> int:
        """How many bytes were taken."""
        return self._at


class Played(NamedTuple):
    """Both sides at the end, and what was said."""

    group: group.Group
    masked: Mapping[str, agent.Masked]
    """Of those who were told their inbox."""
    shared: Mapping[str, agent.Shared]
    said: Mapping[str, list[SecureUp | SecureDown]]
    drawn: Mapping[str, int]
    """Bytes that each has taken from its stream."""
    remembered: Mapping[str, agent.Opened]
    """What those who help to open the sum remember of it."""


def play() -> Played:
    """Play the four steps."""
    streams = {name: Stream(name) for name in SAMPLES}
    terms = group.Terms(RUN, 0.2, 0.34, 3, 14, 10_000, Stream("aggregator"))
    length = len(UPDATES["ada"]) + 1
    state = group.Group(NUMBER, TURN, VERSION, length, frozenset(SAMPLES))
    said: dict[str, list[SecureUp | SecureDown]] = {name: [] for name in SAMPLES}
    joined, shared, masked = {}, {}, {}

    def up(message: SecureUp) -> None:
        nonlocal state
        said[message.agent].append(message)
        after = group.take(state, message)
        assert isinstance(after, group.Group), after
        state = after

    def down(name: str) -> SecureDown:
        message = group.told(state, name)
        assert message is not None
        said[name].append(message)
        return message

    def onward() -> None:
        nonlocal state
        after = group.advance(state, terms, CLIP)
        assert isinstance(after, group.Group), after
        state = after

    for name, samples in SAMPLES.items():
        joined[name], message = agent.join(name, RUN, TURN, samples, streams[name])
        up(message)
    onward()
    for name in SAMPLES:
        peers = down(name)
        if name != SILENT_AFTER_KEYS:
            shared[name] = agent.share(joined[name], peers, None, agent.Least(), streams[name])
            up(shared[name].sent)
    onward()
    for name, own in shared.items():
        masked[name] = agent.add_masks(own, down(name), length)
        if name != SILENT_AFTER_SHARES:
            update = np.array(UPDATES[name], np.float32)
            up(agent.masked_update(masked[name], VERSION, update))
    onward()
    remembered = {}
    for name in sorted(state.awaited):
        answered, remembered[name] = agent.unmask(masked[name], down(name), None, agent.Least())
        up(answered.answer)
    drawn = {name: stream.taken for name, stream in streams.items()}
    return Played(state, masked, shared, said, drawn, remembered)


def vector() -> Json:
    """Return all of it, as it is written."""
    played = play()
    state = played.group
    found = opened(state, RUN)
    assert not isinstance(found, group.Lost), found
    total = np.array(state.total)
    bits = state.fixed.bits
    words = {name: _encoded(played, name) for name in found.members}
    summed = sum(words.values(), np.zeros(state.length, np.uint32))
    return {
        "about": "made by tests/support/secure_vector.py, explained in docs/protocol.md",
        "run": RUN,
        "round": TURN[0],
        "attempt": TURN[1],
        "group": NUMBER,
        "version": VERSION,
        "members": list(state.names),
        "roster": agent.roster_of(state.names).hex(),
        "threshold": state.threshold,
        "clip": CLIP,
        "bits": bits,
        "largest_number": state.fixed.largest,
        "largest_weight": played.group.peers["ada"].largest,
        "agents": {name: _agent(played, name) for name in SAMPLES},
        "survivors": state.survivors.hex(),
        "sum_of_masked": (total & np.uint32((1 << bits) - 1)).tolist(),
        "sum": summed.tolist(),
        "weight": found.weight,
        "mean": found.mean.tolist(),
        "clipped": found.clipped,
        "packing": [_packing(bits, count) for bits in (8, 12, 20, 32) for count in (1, 2, 3)],
        "rounding": _rounding(),
    }


def _agent(played: Played, name: str) -> Json:
    """Return what one agent has computed, and all that it has said and heard."""
    stream, peers = Stream(name), played.group.peers[name]
    mask, box = (KeyPair.of(stream(keys.KEY)) for _ in range(2))
    result = {
        "samples": SAMPLES[name],
        "update": np.array(UPDATES[name], "<f4").tobytes().hex(),
        "random_bytes": Stream(name)(played.drawn[name]).hex(),
        "mask_private": mask.private.hex(),
        "mask_public": mask.public.hex(),
        "box_private": box.private.hex(),
        "box_public": box.public.hex(),
        "place": peers.place,
        "weight": peers.weight,
        "neighbours": peers.names.split(" "),
    }
    if name in played.shared:
        result |= _shares(played, name, mask, box, stream)
    if name in played.masked:
        result["masks"] = played.masked[name].words.tolist()
    if name in played.group.came:
        encoded = _encoded(played, name)
        result["encoded"] = encoded.tolist()
        result["summed"] = played.remembered[name].roster.hex()
        result["masked"] = (encoded + played.masked[name].words).tolist()
    result["messages"] = [
        {
            "topic": CHANNELS[type(message)].topic.replace("{agent}", name),
            "payload": encode(message).hex(),
        }
        for message in played.said[name]
    ]
    return result


def _shares(played: Played, name: str, mask: KeyPair, box: KeyPair, stream: Stream) -> Json:
    """Return how an agent's two secrets were shared, and what it has with each neighbour."""
    shared = played.shared[name]
    threshold, count = shared.peers.threshold, len(shared.neighbours)
    assert stream(keys.KEY) == shared.seed
    parts = shamir.parts_of([mask.private, shared.seed])
    taken = stream.taken
    shares = shamir.share(parts, count, threshold, stream)
    again = Stream(name)
    again(taken)
    return {
        "own_secret": shared.seed.hex(),
        "commitment": agent.commitment(shared.seed).hex(),
        "own_mask": keys.mask(shared.seed, played.group.length).tolist(),
        "parts": parts.tolist(),
        "coefficients": _coefficients(again, (threshold - 1, *parts.shape)),
        "with": {
            one.name: _with(played, name, one, (mask, box), shares[:, i].astype("<u4").tobytes())
            for i, one in enumerate(shared.neighbours)
        },
    }


def _coefficients(stream: Stream, shape: tuple[int, ...]) -> list[Any]:
    """Return the numbers below the prime that were drawn, in whole numbers of any size."""
    count = int(np.prod(shape))
    high, low = (
        [int.from_bytes(one, "little") for one in agent.pieces(stream(8 * count), 8)]
        for _ in range(2)
    )
    drawn = [(first << 64 | second) % shamir.PRIME for first, second in zip(high, low, strict=True)]
    return np.array(drawn, np.uint64).reshape(shape).tolist()


def _with(
    played: Played, name: str, one: agent.Neighbour, own: tuple[KeyPair, KeyPair], share: bytes
) -> Json:
    """Return what an agent has with one neighbour, and what it has sent it."""
    shared = played.shared[name]
    session, pair = shared.own.session, sorted((name, one.name))
    their = played.group.keys[one.name]
    number = [other.name for other in shared.neighbours].index(one.name)
    sealed = agent.pieces(shared.sent.boxes, keys.SEALED + 2 * SHARE)[number]
    return {
        "place": one.place,
        "mask_secret": own[0].agree(their.mask_key).hex(),
        "mask_info": session.info("mask", *pair).decode(),
        "mask_key": one.mask_key.hex(),
        "mask": keys.mask(one.mask_key, played.group.length).tolist(),
        "box_secret": own[1].agree(their.box_key).hex(),
        "box_info": session.info("box", *pair).decode(),
        "box_key": one.box_key.hex(),
        "share_of_mask_private": share[:SHARE].hex(),
        "share_of_own_secret": share[SHARE:].hex(),
        "header": session.info("share", name, one.name).decode(),
        "nonce": sealed[: keys.NONCE].hex(),
        "box": sealed.hex(),
    }


def _encoded(played: Played, name: str) -> np.ndarray:
    peers = played.group.peers[name]
    fixed = FixedPoint(peers.clip, peers.bits, peers.members)
    return fixed.encode(np.array(UPDATES[name], np.float32), peers.weight / peers.largest)


def _packing(bits: int, count: int) -> Json:
    """Return how a few numbers are packed."""
    words = np.array([0x87654321, 0xFFFFFFFF, 0xFEDCBA98][:count], np.uint32)
    return {"bits": bits, "words": words.tolist(), "packed": packed(words, bits).hex()}


def _rounding() -> Json:
    """Return coordinates that lie halfway between two numbers, under a weight of 1."""
    fixed = FixedPoint(CLIP, 20, 6)
    update = np.array([0.0, UNIT, 2 * UNIT, 3 * UNIT, -UNIT, -2 * UNIT], np.float32)
    return {"update": update.tobytes().hex(), "encoded": fixed.encode(update, 1.0).tolist()}


def written(found: Json) -> str:
    """Return a vector as its file."""
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    print(written(vector()), end="")
