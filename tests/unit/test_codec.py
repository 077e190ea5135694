"""The codec: every message survives the wire, and nothing else gets through."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import struct
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedjury.protocol import checks, codec, compression, schema
from fedjury.protocol.call import PARTS, WHOLE, Call
from fedjury.protocol.cells import (
    CellPresence,
    CellWorker,
    GroupSum,
    GroupSumRequest,
    PartialSum,
    SumRequest,
    Tally,
)
from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import LONGEST_METRICS, SMALL, Decoder, decode, encode
from fedjury.protocol.codecs.encoding import Encoding
from fedjury.protocol.compression import CODECS, compress, decompress, or_float32
from fedjury.protocol.encoder import Encoder
from fedjury.protocol.fields import jsonable
from fedjury.protocol.logs import InvalidMessages, RunHistory
from fedjury.protocol.messages import (
    LOGS,
    AggregatorPresence,
    AttackVector,
    BadMessage,
    Candidate,
    CellLink,
    CellMember,
    ColluderUpdate,
    Decline,
    GroupCandidate,
    GroupHistory,
    GroupVotes,
    Heartbeat,
    History,
    HistoryLog,
    InvalidLog,
    Manifest,
    Manifest1,
    Metrics,
    Model,
    Phase,
    Presence,
    Presence1,
    Reason,
    Round,
    RoundLog,
    Update,
    Vote,
)
from fedjury.protocol.record import (
    Ballot,
    DetectionRecord,
    Figures,
    Quality,
    RoundRecord,
    Timing,
    Traffic,
    Votes,
)
from fedjury.protocol.schema import REQUIRED
from fedjury.protocol.secure import (
    BOX,
    KEY,
    LONGEST,
    SHARE,
    MaskedUpdate,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    UnmaskRequest,
    UnmaskShares,
)
from fedjury.protocol.topics import CHANNELS, JSON, MSGPACK, USUAL

LARGEST = float(np.finfo(np.float32).max)
OPEN = Limits(finite=False)
UPDATE_TOPIC = "fl/v2/run/update/ann"


def vector(*values):
    return np.array(values, dtype=np.float32)


SEEN = vector(0.5, 3).astype("<f4").tobytes()
"""Evidence of two numbers."""

EXAMPLES = {
    Manifest: Manifest(
        model="mlp",
        tensors=(("0.weight", (2, 1)), ("0.bias", ())),
        parameters=3,
        classes=2,
        input_shape=(1, 1, 1),
        epochs=1,
        batch_size=4,
        learning_rate=0.5,
        momentum=0.0,
        codec="int8",
        history_codec="int8+zstd",
        max_bytes=1000,
        judge="lof",
        judge_options={"reading": "B"},
        look_back=10,
        minimum_history=11,
    ),
    Round: Round(
        7,
        0,
        Phase.TRAIN,
        3,
        ("ann", "bob"),
        ("eve",),
        2.5,
        "all",
        calls={"validators": Call("0f" * 32, 5, 9, ("ann",))},
    ),
    Model: Model(3, vector(1, -2)),
    History: History(3, vector(1, -2)),
    Candidate: Candidate(7, 1, 3, vector(1, -2)),
    GroupCandidate: GroupCandidate(2, 7, 1, 3, vector(1, -2)),
    GroupHistory: GroupHistory(3, vector(1, -2)),
    Update: Update(
        "ann",
        1,
        0,
        4,
        vector(1, -2),
        1.5,
        1.25,
        evidence=SEEN,
        size=300,
        metrics={"loss": 2.0},
        changed=3,
        changed_errors=0,
    ),
    Vote: Vote(
        "ann",
        7,
        1,
        poisoned=True,
        score=1.5,
        threshold=1.25,
        samples=4,
        evidence=SEEN,
        size=300,
        changed=0,
        changed_errors=0,
    ),
    GroupVotes: GroupVotes(
        "ann", 7, 1, b"\0\0\0\0\2\0\0\0", b"\0\1", vector(1, 3).tobytes(), vector(2, 2).tobytes(), 4
    ),
    Decline: Decline("ann", 7, 2, "a box does not open"),
    SecureKeys: SecureKeys("ann", 7, 2, b"m" * KEY, b"b" * KEY, 4),
    SecurePeers: SecurePeers(
        agent="ann",
        round=7,
        attempt=2,
        group=1,
        place=0,
        members=3,
        roster=b"r" * KEY,
        names="bob eve",
        places=b"\1\0\0\0\2\0\0\0",
        mask_keys=b"m" * 2 * KEY,
        box_keys=b"b" * 2 * KEY,
        threshold=2,
        clip=0.5,
        bits=16,
        weight=4,
        largest=5,
    ),
    SecureShares: SecureShares("ann", 7, 2, b"c" * KEY, b"x" * 2 * BOX),
    SecureInbox: SecureInbox("ann", 7, 2, b"x" * 2 * BOX),
    MaskedUpdate: MaskedUpdate("ann", 7, 2, 3, b"masked"),
    UnmaskRequest: UnmaskRequest("ann", 7, 2, b"\7"),
    UnmaskShares: UnmaskShares("ann", 7, 2, b"s" * 2 * SHARE),
    Metrics: Metrics("ann", 7, 2, 40, {"rmse": 0.5}),
    ColluderUpdate: ColluderUpdate("ann", 7, 3, vector(1, -2)),
    AttackVector: AttackVector(7, 3, vector(1, -2), vector(0.5, 0)),
    CellWorker: CellWorker(2, online=True, life=5),
    CellPresence: CellPresence(2, 5, True, "ann bob", b"\3\1", "eve"),
    Tally: Tally(
        2, 5, 7, 1, 0, "ann", b"\4\0\0\0", struct.pack("<d", 1.5), {"duplicate": 1}, "eve"
    ),
    SumRequest: SumRequest(
        7, 1, 1, b"\2\0\0\0", b"\1\0\0\0", b"", "clipped", 1.5, 32, 0, vector(1, -2)
    ),
    PartialSum: PartialSum(2, 5, 7, 1, 1, 2, b"\1\0\xff\xff\1\0"),
    GroupSumRequest: GroupSumRequest(2, 7, 1, 4, bytes(32), 3, 5, 16, "ann bob", b"\3"),
    GroupSum: GroupSum(2, 5, 7, 1, 4, bytes(32), b"\3", b"sum"),
    Presence: Presence("ann", online=True, since=1.5),
    AggregatorPresence: AggregatorPresence(online=True, since=1.5, partition="seed 0"),
    Heartbeat: Heartbeat(1.5),
    RoundLog: RoundLog(RoundRecord(7, run="run", judged=7)),
    InvalidLog: InvalidLog(InvalidMessages(7, {"duplicate": 2}, "ann", "duplicate")),
    HistoryLog: HistoryLog(RunHistory((RoundRecord(7, judged=7),), {"duplicate": 2})),
    CellLink: CellLink(3, online=True),
    CellMember: CellMember(3, "ann", online=True, since=1.5),
    Manifest1: Manifest1(2),
    Presence1: Presence1(online=True, since=1.5),
}
"""One message of each kind."""

SMALL_KINDS = (
    CellWorker,
    Presence,
    AggregatorPresence,
    CellLink,
    CellMember,
    Presence1,
    Heartbeat,
    Vote,
)
"""Those whose payloads are short, whatever they hold."""

KINDS = list(EXAMPLES)
CHECKED = [kind for kind in KINDS if kind not in (*LOGS, CellLink)]
BINARY = [kind for kind in KINDS if CHANNELS[kind].content_type == MSGPACK]


def topic(kind):
    return USUAL.of("run", EXAMPLES[kind])


def content_of(kind):
    """Read an example's payload as a map."""
    payload = encode(EXAMPLES[kind])
    return json.loads(payload) if CHANNELS[kind].content_type == JSON else msgpack.unpackb(payload)


def packed(kind, content):
    """Write any map as the payload of a kind."""
    if CHANNELS[kind].content_type == JSON:
        return json.dumps(content).encode()
    return msgpack.packb(content)


def same(one, other):
    """Compare messages to the last bit of their vectors."""
    if type(one) is not type(other):
        return False
    pairs = ((getattr(m, field.name) for m in (one, other)) for field in fields(one))
    return all(
        a.tobytes() == b.tobytes() and a.dtype == b.dtype if isinstance(a, np.ndarray) else a == b
        for a, b in pairs
    )


def refusal(where, payload, limits=Limits()):  # noqa: B008 - a constant
    """Return the reason for which a payload is refused."""
    with pytest.raises(BadMessage) as caught:
        decode(where, payload, limits)
    return caught.value.reason


def judge(where, payload, limits=Limits()):  # noqa: B008 - a constant
    """Decode anything; whatever is let in must be of the topic's kind and survive another trip."""
    try:
        message = decode(where, payload, limits)
    except BadMessage as bad:
        refused = bad
    else:
        refused = None
    if refused:
        assert refused.reason in Reason
        assert str(refused).isascii()
        assert str(refused).isprintable()
        assert refused.agent in where
        return
    assert type(message) is USUAL.parse(where).kind
    if type(message) in LOGS:  # what it left out of a record is not written again
        message = decode(where, encode(message), OPEN)
    assert same(decode(where, encode(message), OPEN), message)


# Strategies

names = st.text(st.sampled_from("Az09_-"), min_size=1, max_size=64)
texts = st.text(max_size=200)
counts = st.integers(0, 2**31 - 1)
numbers = st.floats(-1e308, 1e308)
moments = st.floats(0, 1e10)
vectors = arrays(
    np.float32,
    st.integers(0, 300),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
seen = arrays(
    np.dtype("<f4"),
    st.integers(0, checks.MAX_EVIDENCE),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
).map(np.ndarray.tobytes)
ones = st.integers(1, 2**31 - 1)
shapes = st.lists(counts, max_size=8).map(tuple)
options = st.dictionaries(
    texts, st.booleans() | texts | counts | numbers, max_size=checks.MAX_OPTIONS
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
shares = st.none() | st.floats(0, 1)
measured = st.dictionaries(
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=64), numbers, max_size=4
)
recorded = st.dictionaries(names, st.floats(-1e9, 1e9), max_size=4)
tallies = st.dictionaries(st.sampled_from(list(Reason)).map(str), ones, max_size=3)
records = st.builds(
    RoundRecord,
    ones,
    run=names,
    accepted=st.none() | st.booleans(),
    why=names,
    judged=st.none() | counts,
    model=st.builds(Quality, shares, shares, recorded),
    candidate=st.none() | st.builds(Quality, shares, shares),
    training=recorded,
    trained=st.dictionaries(names, st.builds(Figures, counts, recorded), max_size=2),
    votes=st.builds(
        Votes, ones, counts, counts, st.dictionaries(names, st.builds(Ballot, st.booleans()))
    ),
    traffic=st.builds(Traffic, tallies, counts, counts, counts),
    timing=st.builds(Timing, st.none() | st.floats(0, 1e9)),
    detection=st.none() | st.builds(DetectionRecord, st.dictionaries(names, st.floats(0, 1))),
)
float32s = st.floats(-9, 9, width=32)
keys = st.binary(min_size=KEY, max_size=KEY)


def pieces(size):
    """Make one to three pieces of so many bytes."""
    return st.integers(1, 3).flatmap(lambda n: st.binary(min_size=n * size, max_size=n * size))


MESSAGES = {
    Manifest: st.builds(
        Manifest,
        texts,
        st.lists(st.tuples(texts, shapes), max_size=3).map(tuple),
        ones,
        ones,
        ones,
        numbers,
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(CODECS),
        st.sampled_from(CODECS),
        counts,
        texts,
        options,
        st.integers(0, 10_000),
        counts,
        counts,
        classes=counts,
        input_shape=shapes,
        fixed=names,
    ),
    Round: st.builds(
        Round,
        counts,
        counts,
        st.sampled_from(Phase),
        counts,
        st.just("all") | st.lists(names, max_size=4).map(tuple),
        st.lists(names, max_size=4).map(tuple),
        numbers,
        st.just("all") | st.lists(names, max_size=4).map(tuple),
        groups=st.integers(0, checks.MAX_GROUPS),
        each=counts,
        calls=st.dictionaries(
            st.sampled_from(PARTS),
            st.builds(
                Call,
                st.binary(min_size=32, max_size=32).map(bytes.hex),
                st.integers(0, WHOLE),
                counts,
                st.lists(names, max_size=4).map(tuple),
            ),
        ),
    ),
    Model: st.builds(Model, counts, vectors),
    History: st.builds(History, counts, vectors),
    Candidate: st.builds(Candidate, counts, counts, counts, vectors),
    GroupCandidate: st.builds(GroupCandidate, counts, counts, counts, counts, vectors),
    GroupHistory: st.builds(GroupHistory, counts, vectors),
    Update: st.builds(
        Update, names, counts, counts, counts, vectors, numbers, numbers, seen, counts, measured
    ),
    Vote: st.builds(
        Vote, names, counts, counts, st.booleans(), numbers, numbers, counts, seen, counts
    ),
    GroupVotes: st.builds(
        lambda name, *said: GroupVotes.of(
            {group: Vote(name, 7, 1, *verdict) for group, verdict in said[0].items()}
        ),
        names,
        st.dictionaries(
            counts,
            st.tuples(st.booleans(), float32s, float32s, counts),
            min_size=1,
            max_size=3,
        ),
    ),
    Decline: st.builds(Decline, names, counts, counts, names | st.just("")),
    SecureKeys: st.builds(SecureKeys, names, counts, counts, keys, keys, counts),
    SecurePeers: st.builds(
        SecurePeers,
        names,
        counts,
        counts,
        counts,
        counts,
        ones,
        keys,
        st.lists(names, min_size=1, max_size=3).map(" ".join),
        pieces(4),
        pieces(KEY),
        pieces(KEY),
        ones,
        numbers,
        ones,
        ones,
        ones,
    ),
    SecureShares: st.builds(SecureShares, names, counts, counts, keys, pieces(BOX)),
    SecureInbox: st.builds(SecureInbox, names, counts, counts, pieces(BOX)),
    MaskedUpdate: st.builds(MaskedUpdate, names, counts, counts, counts, pieces(1)),
    UnmaskRequest: st.builds(UnmaskRequest, names, counts, counts, pieces(1)),
    UnmaskShares: st.builds(UnmaskShares, names, counts, counts, pieces(SHARE)),
    Metrics: st.builds(Metrics, names, counts, counts, counts, measured),
    ColluderUpdate: st.builds(ColluderUpdate, names, counts, counts, vectors),
    AttackVector: st.builds(AttackVector, counts, counts, vectors, vectors),
    CellWorker: st.builds(CellWorker, counts, st.booleans(), counts),
    CellPresence: st.builds(
        lambda cell, life, whole, names: CellPresence(
            cell, life, whole, " ".join(names), bytes(len(names)), ""
        ),
        counts,
        counts,
        st.booleans(),
        st.lists(names, max_size=3),
    ),
    Tally: st.builds(
        lambda cell, life, number, names: Tally(
            cell, life, number, 1, 0, " ".join(names), bytes(4 * len(names)), bytes(8 * len(names))
        ),
        counts,
        counts,
        counts,
        st.lists(names, max_size=3),
    ),
    SumRequest: st.builds(
        lambda number, some, kind, bound, vector: SumRequest(
            number, 1, 1, bytes(4 * some), bytes(4 * some), b"", kind, bound, 32, 0, vector
        ),
        counts,
        st.integers(1, 3),
        names,
        numbers,
        vectors,
    ),
    PartialSum: st.builds(
        PartialSum, counts, counts, counts, counts, counts, st.just(1), pieces(1)
    ),
    GroupSumRequest: st.builds(
        lambda number, bits, some, survivors: GroupSumRequest(
            number, number, 1, number, bytes(32), number, 1, bits, " ".join(some), survivors
        ),
        counts,
        st.integers(1, 32),
        st.lists(names, max_size=3),
        pieces(1),
    ),
    GroupSum: st.builds(
        GroupSum, counts, counts, counts, counts, counts, st.just(bytes(32)), pieces(1), pieces(1)
    ),
    Presence: st.builds(Presence, names, st.booleans(), numbers, st.booleans(), st.booleans()),
    AggregatorPresence: st.builds(AggregatorPresence, st.booleans(), moments, names),
    Heartbeat: st.builds(Heartbeat, moments),
    RoundLog: st.builds(RoundLog, records),
    InvalidLog: st.builds(
        InvalidLog,
        st.builds(InvalidMessages, counts, tallies, names, st.sampled_from(list(Reason))),
    ),
    HistoryLog: st.builds(HistoryLog, st.builds(RunHistory, st.just(()), tallies)),
    CellLink: st.builds(CellLink, counts, st.booleans()),
    CellMember: st.builds(CellMember, counts, names, st.booleans(), numbers),
    Manifest1: st.builds(Manifest1, counts),
    Presence1: st.builds(Presence1, st.booleans(), numbers, names),
}

timestamps = st.datetimes(
    min_value=dt.datetime(1970, 1, 1),  # noqa: DTZ001 - the zone comes from timezones
    timezones=st.just(dt.UTC),
)
binary_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=30)
    | timestamps
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.binary(max_size=9) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=12,
)


def with_known_keys(kind, values):
    """Make maps with most of the right keys and any values, so that the checks are reached."""
    content = content_of(kind)
    return st.fixed_dictionaries({}, optional=dict.fromkeys(content, values)).map(
        lambda some: {**content, **some}
    )


# What is sent arrives


def test_every_kind_has_an_example_and_a_strategy():
    """The tests below leave no kind of message out."""
    assert list(CHANNELS) == list(EXAMPLES) == list(MESSAGES)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_survive_the_wire(kind):
    """Any message of any kind comes out as it went in, float32 to the last bit."""

    @settings(deadline=None, max_examples=60)
    @given(MESSAGES[kind])
    def survives(message):
        assert same(decode(USUAL.of("run", message), encode(message), Limits()), message)

    survives()


@settings(deadline=None)
@given(vectors)
def test_zstd_changes_nothing(values):
    """Inside zstd every encoding gives the very bits that it gives without."""
    for name in ("float32", "float16", "int8"):
        plain, zipped = (decompress(compress(values, name + around)) for around in ("", "+zstd"))
        assert plain.dtype == zipped.dtype == np.float32
        assert plain.tobytes() == zipped.tobytes()


def test_float32_is_a_view():
    """A float32 vector is the bytes that came, not a copy of them."""
    came = compress(vector(1, 2, 3), "float32")
    assert np.shares_memory(decompress(came), np.frombuffer(came.data, np.uint8))


@pytest.mark.parametrize("name", CODECS)
def test_vectors_cannot_be_written(name):
    """A decoded vector is read-only whatever the codec: many receivers of a broadcast share it."""
    with pytest.raises(ValueError, match="read-only"):
        decompress(compress(vector(1, 2, 3), name))[0] = 5


@settings(deadline=None)
@given(vectors)
def test_float16_is_half_a_step_off_at_most(values):
    """With 11 significant bits the error is 2^-11 of a value, 2^-25 near 0; 65,504 is the end."""
    decoded = decompress(compress(values, "float16"))
    bounded = np.clip(values.astype(np.float64), -65504, 65504)
    assert (np.abs(decoded - bounded) <= np.maximum(np.abs(bounded) * 2**-11, 2**-25)).all()


@settings(deadline=None)
@given(
    arrays(
        np.float32,
        st.integers(0, 600),
        elements=st.just(0.0) | st.floats(2**-66, 2**66) | st.floats(-(2**66), -(2**-66)),
    )
)
def test_int8_and_int7_are_half_a_step_off_at_most(values):
    """The step is a 127th, or 63rd, of a block's largest value; 256 values make a block."""
    for name, steps in (("int8", 127), ("int7", 63)):
        decoded = decompress(compress(values, name))
        for start in range(0, len(values), 256):
            block = values[start : start + 256].astype(np.float64)
            off = np.abs(decoded[start : start + 256] - block)
            assert off.max() <= np.abs(block).max() / (2 * steps) * 1.0001


def test_int7_in_zstd_is_less_than_a_quarter_of_float32():
    """Of evenly spread values, the worst there are, zstd makes seven bits each."""
    values = np.random.default_rng(0).uniform(-1, 1, 13_106).astype(np.float32)
    assert len(compress(values, "int7+zstd").data) < values.nbytes / 4
    assert len(compress(values, "int8+zstd").data) > values.nbytes / 4


def test_one_update_of_many_senders_is_packed_once(monkeypatch):
    """Fakes that send the same array share a payload; another round or array is another."""
    packs = []
    monkeypatch.setattr(
        "fedjury.protocol.encoder.encode", lambda *given: packs.append(given) or encode(*given)
    )
    encoder, delta = Encoder(), vector(1, 2)
    sent = [encoder.encode(Update(name, 3, 2, 4, delta), "float32") for name in "abc"]
    assert sent == [encode(Update("a", 3, 2, 4, delta))] * 3
    assert len(packs) == 1
    others = (
        Update("a", 4, 2, 4, delta),
        Update("a", 4, 2, 4, delta.copy()),
        Update("a", 4, 2, 4, delta, evidence=SEEN),
    )
    for other in others:
        assert encoder.encode(other, "float32") == encode(other)
    assert encoder.encode(Update("a", 4, 2, 4, delta), "int8") != sent[0]
    assert len(packs) == 5


def largest_first(send=2):
    """Build a sparse codec: the ``send`` largest values and their places; the rest comes later."""

    def encode(values):
        places = np.sort(np.argsort(-np.abs(values), kind="stable")[:send])
        return places.astype("<u4").tobytes() + values[places].tobytes()

    def decode(data, n):
        if len(data) % 8:
            raise ValueError("a place without a value")
        places = np.frombuffer(data, "<u4", len(data) // 8)
        if len(places) and places.max() >= n:
            raise ValueError("a place beyond the last")
        result = np.zeros(n, np.float32)
        result[places] = np.frombuffer(data, "<f4", offset=len(data) // 2)
        return result

    def sender():
        left = np.zeros(1, np.float32)

        def write(values):
            nonlocal left
            left = left + values
            data = encode(left)
            left = left - decode(data, len(values))
            return data

        return write

    return Encoding(lambda n: 8 * n, encode, decode, varies=True, sender=sender)


@pytest.fixture
def sparse(monkeypatch):
    """Have a sparse codec with a memory, named as any other."""
    monkeypatch.setitem(compression.ENCODINGS, "sparse", largest_first())
    names = (*compression.CODECS, "sparse", "sparse+zstd")
    monkeypatch.setattr(compression, "CODECS", names)


def received(payload, parameters=4):
    """Return the delta of an update's payload."""
    return decode("fl/v2/lab/update/a", payload, Limits(parameters)).delta.tolist()


@pytest.mark.parametrize("name", ["sparse", "sparse+zstd"])
@pytest.mark.usefixtures("sparse")
def test_what_a_sender_left_out_comes_with_its_next_update(name):
    """Each sender has a memory of its own; the same update sent again has the same payload."""
    encoder, delta = Encoder(), vector(4, 1, -3, 2)
    first = Update("a", 1, 0, 4, delta)
    assert received(encoder.encode(first, name)) == [4, 0, -3, 0]
    assert received(encoder.encode(first, name)) == [4, 0, -3, 0]
    assert received(encoder.encode(replace(first, agent="b"), name)) == [4, 0, -3, 0]
    second = encoder.encode(Update("a", 2, 1, 4, vector(1, 1, 0, 1)), name)
    assert received(second) == [0, 2, 0, 3]
    assert received(encoder.encode(Update("b", 2, 1, 4, vector(0, 0, 0, 0)), name)) == [0, 1, 0, 2]


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(8 * 5), Reason.WRONG_LENGTH),
        (zstandard.compress(bytes(8 * 5)), Reason.WRONG_LENGTH),
        (bytes(7), Reason.MALFORMED),
        (b"\4\0\0\0\0\0\0\0", Reason.MALFORMED),
    ],
)
def test_encodings_that_vary_in_length_are_checked(data, reason):
    """More bytes than there can be are refused unread, and what is no encoding by the codec."""
    name = "sparse+zstd" if data.startswith(b"\x28\xb5") else "sparse"
    with pytest.raises(BadMessage) as refused:
        decompress(compression.Packed(name, 4, data))
    assert refused.value.reason is reason


def test_no_memory_is_kept_for_codecs_without_one():
    """A thousand senders cost an encoder nothing where their codec remembers nothing."""
    encoder = Encoder()
    for number in range(1000):
        encoder.encode(Update(f"a{number}", 1, 0, 4, vector(number, 1)), "int8")
    assert len(encoder._last) == 1
    assert not encoder._memories


def test_int8_by_hand():
    """127 sets the step to 1: 2.25 becomes 2, -126.75 becomes -127; the next block has its own."""
    values = np.zeros(257, dtype=np.float32)
    values[:3], values[256] = (127, 2.25, -126.75), 12.7
    decoded = decompress(compress(values, "int8"))
    np.testing.assert_allclose(decoded[[0, 1, 2, 3, 256]], [127, 2, -127, 0, 12.7], rtol=1e-6)


def test_int8_survives_the_largest_numbers():
    """At the ends of float32 nothing overflows, and the largest values stay what they are."""
    decoded = decompress(compress(vector(LARGEST, -LARGEST, 0), "int8"))
    assert np.isfinite(decoded).all()
    np.testing.assert_allclose(decoded, [LARGEST, -LARGEST, 0], rtol=1e-6)


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_int8_blocks_that_are_not_finite_arrive_as_nan(odd):
    """One inf or NaN makes its block of 256 NaN and leaves the others alone."""
    values = np.ones(600, dtype=np.float32)
    values[300] = odd
    decoded = decompress(compress(values, "int8"))
    np.testing.assert_array_equal(np.isnan(decoded), (np.arange(600) // 256) == 1)
    np.testing.assert_allclose(decoded[:256], 1, rtol=1e-6)


def test_float16_keeps_what_is_not_finite():
    """Infinity and NaN are no large numbers: float16 can say them, and does."""
    decoded = decompress(compress(vector(math.inf, -math.inf, math.nan, 1e30), "float16"))
    np.testing.assert_array_equal(decoded, [math.inf, -math.inf, math.nan, 65504])


def test_an_unknown_codec_is_our_own_mistake():
    """Packing with a codec that does not exist lists those that do."""
    with pytest.raises(ValueError, match=r"'float64'; valid: float16, float16\+zstd, float32"):
        compress(vector(1), "float64")


# Bytes that other languages can check themselves against

UPDATE_BYTES = (
    b"\x88"  # a map of eight
    b"\xa5round\x01"
    b"\xa7version\x00"
    b"\xa7samples\x04"
    b"\xa5delta\x83"  # a map of three
    b"\xa5codec\xa7float32"
    b"\xa1n\x02"
    b"\xa4data\xc4\x08"  # eight bytes: 1.0 and -2.0, little-endian
    b"\x00\x00\x80\x3f"
    b"\x00\x00\x00\xc0"
    b"\xa5score\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"  # 1.5, big-endian as all of msgpack
    b"\xa9threshold\xcb\x3f\xf4\x00\x00\x00\x00\x00\x00"  # 1.25
    b"\xa8evidence\xc4\x08"  # eight bytes: 0.5 and 3.0, little-endian
    b"\x00\x00\x00\x3f"
    b"\x00\x00\x40\x40"
    b"\xa4size\xcd\x01\x2c"  # 300
)
ROUND_BYTES = (
    b'{"round":7,"attempt":0,"phase":"train","version":3,'
    b'"contributors":["ann","bob"],"validators":["eve"],"seconds":2.5}'
)


@pytest.mark.parametrize(("kind", "golden"), [(Update, UPDATE_BYTES), (Round, ROUND_BYTES)])
def test_golden_bytes(kind, golden):
    """These messages are these bytes, in both directions."""
    unsaid = {"metrics": {}, "changed": None, "changed_errors": None}
    added = unsaid if kind is Update else {"evaluators": (), "calls": {}}  # not written where empty
    message = replace(EXAMPLES[kind], **added)
    assert encode(message) == golden
    assert same(decode(topic(kind), golden, Limits()), message)


def test_int8_golden_bytes():
    """Two blocks are two scales and then the values: 127 steps of 1 and of 2, the second to 254."""
    data = struct.pack("<2f", 1, 2) + bytes([127, 3]) + bytes(254) + bytes([127, 0x81])
    expected = np.zeros(258, dtype=np.float32)
    expected[[0, 1, 256, 257]] = 127, 3, 254, -254
    payload = msgpack.packb({"version": 0, "weights": {"codec": "int8", "n": 258, "data": data}})
    np.testing.assert_array_equal(decode(topic(Model), payload, Limits()).weights, expected)


# What is no message is refused


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(KINDS), st.binary(max_size=300))
def test_any_bytes(kind, payload):
    """Random bytes are a message or a BadMessage."""
    judge(topic(kind), payload)


@settings(deadline=None, max_examples=300)
@given(st.text() | names.map(lambda name: f"fl/v2/{name}"), st.binary(max_size=20))
def test_any_topic(where, payload):
    """Whatever comes on a topic of nobody's is refused for its topic."""
    assert refusal(where, payload) is Reason.UNKNOWN_TOPIC


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_binary_values(data):
    """Random msgpack is a message or a BadMessage: bare, under the right keys, in a vector."""
    kind = data.draw(st.sampled_from(BINARY))
    parts = st.fixed_dictionaries(
        {
            "codec": st.sampled_from(CODECS) | binary_values,
            "n": st.integers(0, 9) | binary_values,
            "data": st.binary(max_size=40) | binary_values,
        }
    )
    content = data.draw(binary_values | with_known_keys(kind, binary_values | parts))
    judge(topic(kind), msgpack.packb(content, datetime=True))


@pytest.mark.parametrize("payload", [b"", b"2", b"01", b"true", b"{}", b'{"online": true}', b"1 "])
def test_the_state_of_a_bridge_is_a_digit(payload):
    """Mosquitto writes 1 or 0, and anything else is no message."""
    where = topic(CellLink)
    assert decode(where, b"1", Limits()) == CellLink(3, online=True)
    assert decode(where, b"0", Limits()) == CellLink(3, online=False)
    assert refusal(where, payload) is Reason.MALFORMED


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_json_values(data):
    """Random JSON, NaN and infinity included, is a message or a BadMessage."""
    kind = data.draw(st.sampled_from([kind for kind in KINDS if kind not in (*BINARY, CellLink)]))
    values = json_values | st.floats() | st.integers(-(10**400), 10**400)
    content = data.draw(values | with_known_keys(kind, values))
    judge(topic(kind), json.dumps(content).encode())


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(KINDS), st.sampled_from(CODECS), st.data())
def test_damaged_messages(kind, name, data):
    """A message that lost its end, or of which bytes changed, is a message or a BadMessage."""
    payload = bytearray(encode(EXAMPLES[kind], name))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(payload)))
    judge(topic(kind), bytes(payload[:end]) + data.draw(st.binary(max_size=3)), OPEN)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\x91" * 100_000,
        b"\x81\xa1a" * 100_000,
        b"\xc1",
        b"\xd6\xff\xff\xff\xff\xff",
        b"\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"9" * 5000,
        b'"\\ud800',
        b"\xff\xfe",
        b"{} {}",
        b"\x80\x80",
    ],
    ids=lambda payload: repr(payload[:12]),
)
def test_nasty_bytes(kind, payload):
    """Deep nesting, endless numbers, half a character, two maps: no message of any kind."""
    special = {
        Metrics: LONGEST_METRICS,
        GroupVotes: SMALL + 13 * checks.MAX_GROUPS,
        **{each: SMALL + more for each, more in LONGEST.items()},
    }
    too_large = kind in (*SMALL_KINDS, *special) and len(payload) > special.get(kind, SMALL)
    expected = (Reason.TOO_LARGE,) if too_large else (Reason.MALFORMED, Reason.WRONG_TYPE)
    assert refusal(topic(kind), payload) in expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("classes", -1),
        ("parameters", 0),
        ("momentum", 1),
        ("momentum", -0.1),
        ("look_back", 10_001),
    ],
)
def test_a_manifest_that_nobody_could_follow(key, value):
    """A manifest with settings that would break an agent is out of range."""
    manifest = json.loads(encode(EXAMPLES[Manifest])) | {key: value}
    assert refusal(topic(Manifest), json.dumps(manifest).encode()) is Reason.OUT_OF_RANGE


def test_metrics_are_no_longer_than_their_names_and_values_need():
    """32 names of 64 letters and their values fit; more than 8,000 bytes are refused unread."""
    full = Metrics("ann", 1, 1, 2**31 - 1, {f"{i:064d}": -1.5e300 for i in range(32)})
    assert same(decode(topic(Metrics), encode(full), Limits()), full)
    assert refusal(topic(Metrics), b" " * (LONGEST_METRICS + 1)) is Reason.TOO_LARGE


@pytest.mark.parametrize("kind", SMALL_KINDS)
def test_what_anybody_may_send_is_small(kind):
    """A vote or a presence of more than a kilobyte is refused unread, whatever the limits."""
    assert refusal(topic(kind), b" " * (SMALL + 1)) is Reason.TOO_LARGE


@pytest.mark.parametrize("kind", CHECKED)
def test_what_may_be_missing_and_what_may_be_more(kind):
    """Keys that a message needs are there; others have a default, and unknown ones are skipped.

    So a later program may say more, and one that is older still reads the rest.
    """
    content = content_of(kind)
    for key in content:
        fewer = packed(kind, {name: value for name, value in content.items() if name != key})
        if key in REQUIRED[kind]:
            assert refusal(topic(kind), fewer) is Reason.MISSING_KEY
        else:
            default = {one.name: one for one in fields(kind)}[key].default
            assert getattr(decode(topic(kind), fewer, Limits()), key) in (default, {})
    more = {"later": {"deep": {"deeper": b"x" if kind in BINARY else [1]}}, "é": None, "x": 1.5}
    read = decode(topic(kind), packed(kind, {**content, **more}), Limits())
    assert same(read, EXAMPLES[kind])


def test_the_required_keys_are_the_documented_ones():
    """What the first programs of this protocol need, all later ones send: it never grows."""
    needed = {kind.__name__: sorted(keys) for kind, keys in REQUIRED.items()}
    page = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(
        encoding="utf-8"
    )
    rows = re.findall(r"(?m)^\| `(\w+)` needs \| (.*) \|$", page)
    assert {name: sorted(re.findall(r"`(\w+)`", keys)) for name, keys in rows} == needed


@pytest.mark.parametrize("kind", BINARY)
def test_what_is_skipped_is_bounded(kind):
    """A key that nobody knows may hold no list, and its map no more keys than any may."""
    content = content_of(kind)
    for bomb_ in ([0], {f"{i}": 0 for i in range(codec.MAX_KEYS + 1)}):
        assert refusal(topic(kind), packed(kind, {**content, "x": bomb_})) is Reason.MALFORMED
    many = {f"{i}": 0 for i in range(codec.MAX_KEYS - len(content))}
    assert same(decode(topic(kind), packed(kind, {**content, **many}), Limits()), EXAMPLES[kind])
    assert refusal(topic(kind), packed(kind, {**content, **many, "x": 0})) is Reason.MALFORMED


def test_a_phase_that_is_not_known_is_told_as_such():
    """An older agent says that it can take no part in it, rather than what is out of range."""
    payload = json.dumps({**content_of(Round), "phase": "mask\x1b"}).encode()
    with pytest.raises(BadMessage, match="not know the phase") as caught:
        decode(topic(Round), payload, Limits())
    assert caught.value.reason is Reason.OUT_OF_RANGE


def test_a_codec_that_is_not_known_is_answered_in_float32():
    """A manifest may ask for a codec of a later version: every codec is accepted."""
    manifest = json.dumps({**content_of(Manifest), "codec": "int4"}).encode()
    assert or_float32(decode(topic(Manifest), manifest, Limits()).codec) == "float32"
    assert or_float32("int7+zstd") == "int7+zstd"


WRONG = {
    "life": [None, True, "1", 1.0, [], {}, -1, 2**53 + 1],
    "count": [None, True, False, "1", 1.0, [], {}, -1, 2**31, 2**63],
    "number": [None, True, "1", [], {}, math.nan, math.inf, -math.inf, 2**1024],
    "truth": [None, 0, 1, "true", []],
    "options": [
        None,
        1,
        "x",
        [],
        {"x": None},
        {"x": []},
        {"x": {}},
        {"x": math.inf},
        {"x": math.nan},
        {"x": "y" * 201},
        {"y" * 201: 1},
        {"x": 10**309},
        {"x": -(10**309)},
        {f"x{i}": i for i in range(17)},
    ],
    "values": [
        None,
        1,
        [],
        {"x": None},
        {"x": "1"},
        {"x": True},
        {"x": math.nan},
        {"x": math.inf},
        {"x": {}},
        {"": 1.0},
        {"x" * 65: 1.0},
        {"x\n": 1.0},
        {f"x{i}": 1.0 for i in range(33)},
    ],
    "text": [None, 1, True, [], "x" * 201],
    "evidence": [
        None,
        1.0,
        "",
        "\0\0\0\0",
        [],
        [0.5],
        {},
        b"\0",
        bytes(3),
        bytes(5),
        bytes(4 * (checks.MAX_EVIDENCE + 1)),
        struct.pack("<f", math.nan),
        struct.pack("<2f", 1, math.inf),
        struct.pack("<2f", -math.inf, 1),
    ],
    "phase": [None, 0, "TRAIN", "vote", ["train"]],
    "names": [None, "ann", {}, [1], [None], [["ann"]], ["a/b"], ["+"], [""], ["x" * 65], ["é"]],
    "calls": [None, 1, "all", [], {"contributors": {}}, {"validators": ["ann"]}],
    "shape": [None, 3, "3", [True], [-1], [1.0], ["1"], [1] * 9, [[1]]],
    "bytes": [None, 1, 1.5, "", [], {}, True, b"\0\0\0"],
    "piece": [None, 1, 1.5, "", [], {}, True, b"", b"\0\0\0"],
    "some": [None, 1, 1.5, "", [], {}, True, b""],
    "tensors": [
        None,
        "w",
        {},
        ["w"],
        [["w"]],
        [[1, [1]]],
        [["w", 1]],
        [["w", [-1]]],
        [["w", [1], 2]],
    ],
    "vector": [
        None,
        [],
        [1.0],
        b"\0\0\0\0",
        {},
        {"codec": "float32", "n": 0},
        {"codec": "float32", "n": 0, "data": ""},
        {"codec": 1, "n": 0, "data": b""},
        {"codec": "float32", "n": False, "data": b""},
        {"codec": "float32", "n": -1, "data": b""},
        {"codec": "float32", "n": 1, "data": b"\0\0\0"},
        {"codec": "float64", "n": 0, "data": b""},
    ],
}
"""What must never pass as a value of a kind; a bool is no number."""

IS = {
    Manifest: {
        "text": ("model", "fixed", "codec", "history_codec", "judge", "loss", "optimizer"),
        "tensors": ("tensors",),
        "shape": ("input_shape",),
        "options": ("judge_options", "loss_options", "optimizer_options"),
        "count": (
            "parameters",
            "classes",
            "epochs",
            "batch_size",
            "max_bytes",
            "look_back",
            "minimum_history",
            "protocol",
        ),
        "number": ("learning_rate", "momentum"),
        "truth": ("counts",),
    },
    Round: {
        "count": ("round", "attempt", "version"),
        "phase": ("phase",),
        "names": ("contributors", "validators", "evaluators"),
        "number": ("seconds",),
        "calls": ("calls",),
    },
    Model: {"count": ("version",), "vector": ("weights",)},
    History: {"vector": ("weights",)},
    Candidate: {"count": ("round", "attempt", "base"), "vector": ("weights",)},
    Update: {
        "count": ("round", "version", "samples", "size", "changed", "changed_errors"),
        "vector": ("delta",),
        "number": ("score", "threshold"),
        "evidence": ("evidence",),
        "values": ("metrics",),
    },
    Vote: {
        "count": ("round", "attempt", "samples", "size", "changed", "changed_errors"),
        "truth": ("poisoned",),
        "number": ("score", "threshold"),
        "evidence": ("evidence",),
    },
    GroupCandidate: {"count": ("round", "attempt", "base"), "vector": ("weights",)},
    GroupHistory: {"vector": ("weights",)},
    GroupVotes: {
        "count": ("round", "attempt", "samples", "size", "cpu"),
        "bytes": ("groups", "poisoned", "scores", "thresholds"),
    },
    Decline: {"count": ("round", "attempt"), "text": ("why",)},
    SecureKeys: {"count": ("round", "attempt", "samples"), "piece": ("mask_key", "box_key")},
    SecurePeers: {
        "count": (
            "round",
            "attempt",
            "group",
            "place",
            "members",
            "threshold",
            "bits",
            "weight",
            "largest",
        ),
        "number": ("clip",),
        "text": ("names",),
        "piece": ("roster", "places", "mask_keys", "box_keys"),
    },
    SecureShares: {"count": ("round", "attempt"), "piece": ("commitment", "boxes")},
    SecureInbox: {"count": ("round", "attempt"), "piece": ("boxes",)},
    MaskedUpdate: {"count": ("round", "attempt", "version"), "some": ("data",)},
    UnmaskRequest: {"count": ("round", "attempt"), "some": ("survivors",)},
    UnmaskShares: {"count": ("round", "attempt"), "piece": ("shares",)},
    Metrics: {"count": ("round", "attempt", "samples"), "values": ("values",)},
    ColluderUpdate: {"count": ("round", "version"), "vector": ("delta",)},
    AttackVector: {"count": ("round", "version"), "vector": ("centre", "spread")},
    CellWorker: {"truth": ("online",), "life": ("life",)},
    CellPresence: {
        "life": ("life",),
        "truth": ("whole",),
        "text": ("came", "left"),
        "bytes": ("abilities",),
    },
    Tally: {
        "life": ("life",),
        "count": ("round", "attempt", "first"),
        "text": ("names", "invalid"),
        "bytes": ("samples", "norms"),
        "values": ("refused",),
    },
    SumRequest: {
        "count": ("round", "attempt", "number", "bits", "largest"),
        "piece": ("cells", "taken"),
        "bytes": ("without",),
        "text": ("kind",),
        "number": ("bound",),
        "vector": ("centre",),
    },
    PartialSum: {
        "life": ("life",),
        "count": ("round", "attempt", "number", "width"),
        "some": ("data",),
    },
    GroupSumRequest: {
        "count": ("round", "attempt", "group", "version", "length", "bits"),
        "piece": ("session",),
        "text": ("names",),
        "some": ("survivors",),
    },
    GroupSum: {
        "life": ("life",),
        "count": ("round", "attempt", "group"),
        "piece": ("session",),
        "some": ("came", "data"),
    },
    Presence: {"truth": ("online", "votes", "evaluates"), "number": ("since",)},
    Heartbeat: {"number": ("since",)},
    AggregatorPresence: {"truth": ("online",), "number": ("since",), "text": ("partition",)},
    Manifest1: {"count": ("protocol",)},
    CellMember: {"truth": ("online",), "number": ("since",)},
    Presence1: {"truth": ("online",), "number": ("since",), "text": ("deals",)},
}
"""Kind of message -> kind of value -> its keys in the payload."""


@pytest.mark.parametrize("kind", CHECKED)
def test_values_are_checked(kind):
    """Under every key, every value of a wrong type or out of range is refused."""
    content = content_of(kind)
    known = content.keys() & schema.SCHEMA[kind].keys()
    assert sorted(known) == sorted(key for keys in IS[kind].values() for key in keys)
    for what, keys in IS[kind].items():
        for key in keys:
            for wrong in WRONG[what]:
                if kind in BINARY and wrong == 2**1024:
                    continue  # msgpack has no such number
                payload = packed(kind, {**content, key: wrong})
                with pytest.raises(BadMessage):
                    pytest.fail(f"{key}: {decode(topic(kind), payload, Limits())}")


@pytest.mark.parametrize("kind", [Update, Vote])
@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (struct.pack("<3f", 1, math.nan, 2), Reason.NOT_FINITE),
        (struct.pack("<3f", 1, 2, math.inf), Reason.NOT_FINITE),
        (struct.pack("<f", -math.inf), Reason.NOT_FINITE),
        (bytes(7), Reason.OUT_OF_RANGE),
        (bytes(4 * checks.MAX_EVIDENCE + 1), Reason.OUT_OF_RANGE),
        (bytes(4 * checks.MAX_EVIDENCE + 4), Reason.OUT_OF_RANGE),
        ([1.0, 2.0], Reason.MALFORMED),  # no binary message holds a list
        ("four", Reason.WRONG_TYPE),
    ],
)
def test_evidence_that_is_none(kind, evidence, reason):
    """It is whole, finite float32, and not too many; the limits on vectors do not loosen that."""
    payload = packed(kind, {**content_of(kind), "evidence": evidence})
    assert refusal(topic(kind), payload) is reason
    assert refusal(topic(kind), payload, OPEN) is reason


@pytest.mark.parametrize("kind", [Update, Vote])
def test_the_longest_evidence_of_the_largest_numbers_is_let_in(kind):
    """A hundred accepted models and the candidate, beside the largest of all else: it fits."""
    count = 2**31 - 1
    longest = {"round": count, "samples": count, "size": count, "score": -1e308}
    evidence = struct.pack("<f", -LARGEST) * checks.MAX_EVIDENCE
    sent = replace(EXAMPLES[kind], evidence=evidence, **longest)
    assert checks.MAX_EVIDENCE == 101
    assert same(decode(topic(kind), encode(sent), Limits()), sent)
    assert kind is Update or len(encode(sent)) < SMALL


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"groups": b""}, Reason.OUT_OF_RANGE),
        ({"groups": bytes(7)}, Reason.OUT_OF_RANGE),
        ({"groups": struct.pack("<2I", 5, 2)}, Reason.OUT_OF_RANGE),
        ({"groups": struct.pack("<2I", 5, 5)}, Reason.OUT_OF_RANGE),
        ({"groups": np.arange(10_001, dtype="<u4").tobytes()}, Reason.OUT_OF_RANGE),
        ({"groups": struct.pack("<I", 5)}, Reason.WRONG_LENGTH),
        ({"poisoned": b"\0\2"}, Reason.OUT_OF_RANGE),
        ({"poisoned": b"\0"}, Reason.WRONG_LENGTH),
        ({"poisoned": True}, Reason.WRONG_TYPE),
        ({"scores": struct.pack("<2f", 1, math.nan)}, Reason.NOT_FINITE),
        ({"thresholds": struct.pack("<2f", math.inf, 1)}, Reason.NOT_FINITE),
        ({"scores": struct.pack("<3f", 1, 2, 3)}, Reason.WRONG_LENGTH),
        ({"thresholds": bytes(9)}, Reason.OUT_OF_RANGE),
        ({"scores": bytes(131_000)}, Reason.TOO_LARGE),
        ({"cpu": -1}, Reason.OUT_OF_RANGE),
    ],
)
def test_votes_on_groups_that_are_none(change, reason):
    """Of each group once, in order, a verdict, a score and a threshold: no more, no less."""
    payload = packed(GroupVotes, {**content_of(GroupVotes), **change})
    assert refusal(topic(GroupVotes), payload) is reason


def test_more_groups_than_anybody_can_vote_on_are_refused():
    """A round of 10,000 groups is let in; of one more, nobody makes a list of their numbers."""
    most = {**content_of(Round), "groups": 10_000, "each": 2**31 - 1}
    assert decode(topic(Round), packed(Round, most), Limits()).groups == 10_000
    over = packed(Round, {**most, "groups": 10_001})
    assert refusal(topic(Round), over) is Reason.OUT_OF_RANGE


def test_a_plot_spreads_over_the_whole_model_or_not_at_all():
    """Of a model of two parameters the spread has two entries or none; the centre always two."""
    limits = Limits(parameters=2)
    for spread in (vector(), vector(1, 2)):
        plot = replace(EXAMPLES[AttackVector], spread=spread)
        assert same(decode(topic(AttackVector), encode(plot), limits), plot)
    for centre, spread in ((vector(1, 2), vector(1)), (vector(), vector(1, 2))):
        plot = replace(EXAMPLES[AttackVector], centre=centre, spread=spread)
        assert refusal(topic(AttackVector), encode(plot), limits) is Reason.WRONG_LENGTH
    for odd in (0, 0.0, False):  # an empty vector is announced as any other is
        hollow = {"codec": "float32", "n": odd, "data": b"\0"}
        payload = packed(AttackVector, {**content_of(AttackVector), "spread": hollow})
        assert refusal(topic(AttackVector), payload, limits) in (
            Reason.WRONG_LENGTH,
            Reason.WRONG_TYPE,
        )


def test_a_plot_may_be_as_long_as_two_models():
    """Where an update just fits, centre and spread fit too, and one byte less is too little."""
    plot = replace(EXAMPLES[AttackVector], centre=vector(*range(400)), spread=vector(*range(400)))
    longest = -(-len(encode(plot)) // 2)
    assert same(decode(topic(AttackVector), encode(plot), Limits(400, longest)), plot)
    assert refusal(topic(AttackVector), encode(plot), Limits(400, longest - 1)) is Reason.TOO_LARGE


def test_numbers_that_json_cannot_hold_are_refused():
    """1e999 is infinity to a parser, and no number to us."""
    payload = b'{"online":true,"since":1e999}'
    assert refusal(topic(Presence), payload) is Reason.OUT_OF_RANGE


def test_versions_in_topics_have_the_range_of_versions():
    """A topic can hold ten digits, a version is below 2^31 wherever it stands."""
    payload = encode(EXAMPLES[History])
    last = decode(USUAL.where("run", History, 2**31 - 1), payload, Limits())
    assert last.version == 2**31 - 1
    assert refusal(USUAL.where("run", History, 2**31), payload) is Reason.OUT_OF_RANGE


def test_refusals_are_safe_to_print():
    """A sender cannot put control characters or half characters into what people read."""
    for key in ("\ud800", "\x1b[2J", "a\nb"):
        payload = json.dumps({key: 1}).encode()
        with pytest.raises(BadMessage) as caught:
            decode(topic(Presence), payload, Limits())
        assert str(caught.value).isascii()
        assert str(caught.value).isprintable()


def in_model(name, n, data):
    """Write a model whose vector may be anything."""
    return msgpack.packb({"version": 0, "weights": {"codec": name, "n": n, "data": data}})


REASONS = {
    Reason.UNKNOWN_TOPIC: ("fl/v3/run/round", b"{}", Limits()),
    Reason.TOO_LARGE: (UPDATE_TOPIC, UPDATE_BYTES, Limits(size=len(UPDATE_BYTES) - 1)),
    Reason.MALFORMED: (UPDATE_TOPIC, UPDATE_BYTES[:-1], Limits()),
    Reason.MISSING_KEY: (UPDATE_TOPIC, b"\x81\xa5round\x01", Limits()),
    Reason.WRONG_TYPE: (
        UPDATE_TOPIC,
        UPDATE_BYTES.replace(b"\xa5round\x01", b"\xa5round\xc3"),
        Limits(),
    ),
    Reason.OUT_OF_RANGE: (
        UPDATE_TOPIC,
        UPDATE_BYTES.replace(b"\xa5round\x01", b"\xa5round\xff"),
        Limits(),
    ),
    Reason.UNKNOWN_CODEC: (UPDATE_TOPIC, UPDATE_BYTES.replace(b"float32", b"float64"), Limits()),
    Reason.WRONG_LENGTH: (UPDATE_TOPIC, UPDATE_BYTES, Limits(parameters=3)),
    Reason.NOT_FINITE: (UPDATE_TOPIC, UPDATE_BYTES.replace(b"\x80\x3f", b"\x80\x7f"), Limits()),
}

OF_THE_ROUND = {
    Reason.TOO_MANY,
    Reason.WRONG_PHASE,
    Reason.WRONG_ROUND,
    Reason.WRONG_VERSION,
    Reason.NOT_SELECTED,
    Reason.DUPLICATE,
    Reason.WRONG_GROUPS,
    Reason.BAD_KEY,
    Reason.WRONG_SHARE,
}
"""What only the round can say of a message."""


def test_every_reason_has_an_example():
    """The examples below are complete."""
    assert REASONS.keys() == set(Reason) - OF_THE_ROUND


@pytest.mark.parametrize("reason", REASONS)
def test_reasons(reason):
    """Each mistake is called by its name, and its sender by theirs."""
    where, payload, limits = REASONS[reason]
    with pytest.raises(BadMessage, match=f"^{reason}") as caught:
        decode(where, payload, limits)
    assert caught.value.reason is reason
    assert caught.value.agent == ("ann" if where == UPDATE_TOPIC else "")


# Limits


def test_what_is_too_large_is_not_even_parsed(monkeypatch):
    """100 MB are refused by their size alone."""
    monkeypatch.setattr(codec, "_parse", lambda *_: pytest.fail("it was parsed"))
    assert refusal(UPDATE_TOPIC, bytes(100_000_000)) is Reason.TOO_LARGE


def test_the_limit_itself_is_allowed():
    """A payload of exactly as many bytes as are allowed is read."""
    message = decode(UPDATE_TOPIC, UPDATE_BYTES, Limits(parameters=2, size=len(UPDATE_BYTES)))
    np.testing.assert_array_equal(message.delta, [1, -2])


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", CODECS)
def test_what_is_not_finite_is_let_in_only_on_purpose(name, odd):
    """Infinity and NaN are refused in every codec, unless the limits let them in."""
    payload = encode(Update("ann", 1, 0, 4, vector(1, odd)), name)
    assert refusal(UPDATE_TOPIC, payload) is Reason.NOT_FINITE
    assert not np.isfinite(decode(UPDATE_TOPIC, payload, OPEN).delta[1])


def test_int8_that_overflows_is_not_finite():
    """A scale of the largest float32 times 127 is infinity, and refused as such."""
    data = struct.pack("<f", LARGEST) + b"\x7f"
    assert refusal(topic(Model), in_model("int8", 1, data)) is Reason.NOT_FINITE


ZEROS = 64_000_000


def bomb(announced):
    """Make a small zstd frame of 64 MB of zeros that announces another size (None: no size)."""
    if announced is None:
        stream = zstandard.ZstdCompressor().compressobj()
        return stream.compress(bytes(ZEROS)) + stream.flush()
    frame = zstandard.ZstdCompressor().compress(bytes(ZEROS))
    head, tail = frame[:14], frame[14:]
    assert struct.pack("<I", ZEROS) in head
    return head.replace(struct.pack("<I", ZEROS), struct.pack("<I", announced)) + tail


@pytest.fixture(scope="module")
def bombs():
    return {announced: bomb(announced) for announced in (None, 16, ZEROS)}


@pytest.mark.parametrize(
    ("announced", "n", "reason"),
    [
        (ZEROS, 4, Reason.WRONG_LENGTH),
        (None, 4, Reason.WRONG_LENGTH),
        (16, 4, Reason.MALFORMED),
        (ZEROS, 300_000_000, Reason.TOO_LARGE),
        (ZEROS, 2**31 - 1, Reason.TOO_LARGE),
        (ZEROS, ZEROS // 4, Reason.TOO_LARGE),  # the right size, but nobody knows the model yet
    ],
)
def test_bombs_are_not_inflated(bombs, announced, n, reason):
    """A frame of the wrong size, or one that lies about it, is refused in little memory."""
    payload = in_model("float32+zstd", n, bombs[announced])
    assert len(payload) < 10_000
    tracemalloc.start()
    assert refusal(topic(Model), payload, Limits(size=8_000_000)) is reason
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_nothing_follows_a_zstd_frame():
    """Bytes behind the frame are no part of a vector."""
    frame = zstandard.ZstdCompressor().compress(bytes(16))
    good = decode(topic(Model), in_model("float32+zstd", 4, frame), Limits())
    np.testing.assert_array_equal(good.weights, [0, 0, 0, 0])
    for more in (b"\0", frame):
        payload = in_model("float32+zstd", 4, frame + more)
        assert refusal(topic(Model), payload) is Reason.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        (b"\xdd" + struct.pack(">I", 990_000)) * 1000 + bytes(990_000),
        b"\xdd" + struct.pack(">I", 990_000) + b"\x90" * 990_000,
        b"\xdf" + struct.pack(">I", 400_000) + b"\xa0\x80" * 400_000,
    ],
    ids=["lists that announce lists", "a million lists", "a map of maps"],
)
def test_bombs_of_lists_are_not_unpacked(payload):
    """A megabyte of msgpack cannot announce gigabytes of lists: no message holds any."""
    tracemalloc.start()
    assert refusal(topic(Update), payload) is Reason.MALFORMED
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


# Decoding for many


@pytest.mark.parametrize("kind", KINDS)
def test_equal_broadcasts_are_decoded_once(kind):
    """What many get is one object for all who get it; what one agent sends is its own."""
    decoder = Decoder()
    first, again = (decoder.decode(topic(kind), bytes(encode(EXAMPLES[kind]))) for _ in range(2))
    assert same(first, again)
    assert (first is again) == (kind in codec.BROADCAST)


def test_another_broadcast_is_decoded_anew():
    """The decoder compares the bytes, not only the topic."""
    decoder = Decoder()
    versions = [decoder.decode(topic(Model), encode(Model(v, vector(1)))).version for v in (3, 4)]
    assert versions == [3, 4]


def test_new_limits_forget():
    """What was let in under the old limits is looked at again."""
    decoder = Decoder()
    payload = encode(EXAMPLES[Model])
    assert decoder.decode(topic(Model), payload).version == 3
    decoder.limit(Limits(parameters=5))
    with pytest.raises(BadMessage, match="2 parameters, not 5"):
        decoder.decode(topic(Model), payload)


def test_refused_broadcasts_are_refused_again():
    """A bad message is not remembered as a good one."""
    decoder = Decoder()
    for _ in range(2):
        with pytest.raises(BadMessage):
            decoder.decode(topic(Model), b"\x80")


# Records for people


def test_jsonable_by_hand():
    """Keys become text, tuples lists, and what is not finite null, however deep."""
    record = {1: math.nan, "a": (math.inf, -math.inf, 1.5), "b": {"c": [math.nan, "x", True]}}
    assert jsonable(record) == {"1": None, "a": [None, None, 1.5], "b": {"c": [None, "x", True]}}
    assert math.isnan(record[1])


@given(st.floats(), st.dictionaries(st.text(), st.floats(), max_size=4))
def test_logs_are_strict_json(number, metrics):
    """A record with any numbers is JSON that strict parsers read."""
    payload = encode(RoundLog(RoundRecord(1, model=Quality(number, metrics=metrics))))
    json.loads(payload, parse_constant=pytest.fail)
