"""What a hostile sender makes of a good message: msgpack or JSON changed where it may hurt.

A fuzzer that flips bits breaks the frame of nearly every message it touches, and never gets to
what is checked inside. Here the frame stays whole, most of the time.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import msgpack
import zstandard

from fedjury.protocol.compression import CODECS

Content = Any

BORDERS: tuple[Content, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31 - 1,
    2**31,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**63),
    0.0,
    -0.0,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    -1e308,
    1.7e308,
    5e-324,
    "",
    "all",
    "train",
    "x" * 201,
    "x" * 65,
    "a/b",
    "+",
    "\0",
    "\x1b[2J",
    "é",
    b"",
    b"\0",
    b"\0\0\xc0\x7f",
    b"\0" * 404,
    b"\0" * 408,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"codec": "float32", "n": 0, "data": b""},
)
"""Values at the edge of what is right."""

MARKS = bytes.fromhex(
    "c1c4c5c6c7c8c9cacbd4d6d8d9dadbdcdddedf808f909fa0bfff007f28b52ffd22275b5d7b7d2c"
)
"""Bytes that mean something to msgpack, zstd or JSON."""

DEEP = (3, 100, 600, 2000)
TIMES = (0.5, 0.8)
"""How often a content is changed rather than its bytes, and how often once is enough."""


def variant(payload: bytes, rng: random.Random) -> bytes:
    """Change a payload; what cannot be read as msgpack or JSON is changed byte by byte."""
    if rng.random() < TIMES[0]:
        for read, write in FORMATS:
            try:
                content = read(payload)
            except Exception:  # noqa: S112 - it is not of this format, whatever the parser says
                continue
            return rewritten(content, write, rng) or damaged(payload, rng)
    return damaged(payload, rng)


def rewritten(content: Content, write: Callable[[Content], bytes], rng: random.Random) -> bytes:
    """Change a content, mostly once, and write it; nothing if it cannot be written."""
    try:
        for _ in range(1 if rng.random() < TIMES[1] else 3):
            content = changed(content, rng)
        return write(content)
    except (ValueError, OverflowError, TypeError, RecursionError):
        return b""


def changed(content: Content, rng: random.Random) -> Content:
    """Change one thing somewhere in a content."""
    inner = isinstance(content, dict | list) and content and rng.random() < 0.8
    if inner and isinstance(content, dict):
        key = rng.choice(list(content))
        if rng.random() < 0.15:
            return {k: v for k, v in content.items() if k != key}
        if rng.random() < 0.1:
            return {**content, rng.choice(["extra", "", f"{key}{key}", "é"]): content[key]}
        return {**content, key: changed(content[key], rng)}
    if inner:
        place = rng.randrange(len(content))
        new = rng.choice([[], [changed(content[place], rng)], [content[place]] * 2])
        return [*content[:place], *new, *content[place + 1 :]]
    return rng.choice(CHANGES)(content, rng)


def border(_: Content, rng: random.Random) -> Content:
    """Put something else in its place."""
    return rng.choice(BORDERS)


def nearby(content: Content, rng: random.Random) -> Content:
    """Change it a little."""
    match content:
        case bool():
            return not content
        case int() | float():
            return content + rng.choice([-1, 1, 0.5, -content, content, 256])
        case str():
            return rng.choice([content + "x", content[:-1], content.upper(), rng.choice(CODECS)])
        case bytes():
            return vector_data(content, rng)
    return [content]


def vector_data(data: bytes, rng: random.Random) -> bytes:
    """Change the bytes of a vector: others, more, fewer, or the same in zstd, lying or not."""
    match rng.randrange(5):
        case 0:
            return damaged(data, rng)
        case 1:
            return data + data[: rng.randrange(9)]
        case 2:
            return zstandard.compress(data)
        case 3:
            return zstandard.compress(b"\0" * rng.choice([16, 1000, 100_000]))
        case _:
            stream = zstandard.ZstdCompressor().compressobj()  # which announces no size
            return stream.compress(data) + stream.flush()


def nested(content: Content, rng: random.Random) -> Content:
    """Bury it."""
    for _ in range(rng.choice(DEEP)):
        content = {"a": content} if rng.random() < 0.5 else [content]
    return content


def retyped(content: Content, _: random.Random) -> Content:
    """Say the same in another type."""
    match content:
        case bytes():
            return content.decode("latin-1")
        case str():
            return content.encode()
        case list():
            return {str(number): item for number, item in enumerate(content)}
        case dict():
            return list(content.items())
        case int() | float() if math.isfinite(content):
            return float(content) if type(content) is int else int(content)
    return str(content)


CHANGES = (border, border, nearby, nearby, nearby, retyped, nested)


def damaged(payload: bytes, rng: random.Random) -> bytes:
    """Change some bytes, whatever they mean; lengths are made to lie."""
    data = bytearray(payload or b"\0")
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                data[place : place + 1] = bytes([rng.choice(MARKS)])
            case 2:
                data[place:place] = rng.choice(
                    [b"\xff\xff\xff\xff", b"\x7f\xff", b"\0\0\0\0", b"9" * 400]
                )
            case 3:
                del data[place:]
            case 4:
                del data[place : place + rng.randrange(1, 9)]
            case _:
                data[place:place] = data[: rng.randrange(1, 60)]
        data = data or bytearray(1)
    return bytes(data)


def _json(content: Content) -> bytes:
    return json.dumps(content, default=lambda odd: odd.decode("latin-1")).encode()


FORMATS: tuple[tuple[Callable[[bytes], Content], Callable[[Content], bytes]], ...] = (
    (json.loads, _json),
    (partial(msgpack.unpackb, strict_map_key=False), msgpack.packb),
)
