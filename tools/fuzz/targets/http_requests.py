"""Any body that is posted to the gateway: ``[layout, body...]``, from ``BARE`` on a state dict."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fedjury.gateway.json_tensors import Layout, tensors_json
from fedjury.gateway.refusal import InvalidRequest
from fedjury.gateway.schemas import read_update
from fedjury.gateway.state import ReceivedUpdate
from fedjury.protocol.messages import MAX_COUNT
from fedjury.protocol.topics import NAME
from tools.fuzz.target import Target, tried

LAYOUTS: tuple[Layout, ...] = (
    (("w", (2, 1)), ("b", (2,))),
    (("s", ()),),
    (("w", (1, 2, 2)), ("e", (0, 3)), ("s", ())),
)

BARE = 129
"""Layouts from here on are counted from 0 again, and the body is a state dict alone."""


def one(data: bytes) -> None:
    """Read a body; what is read has the model's length, and survives another trip."""
    if not data:
        return
    layout, full = LAYOUTS[data[0] % len(LAYOUTS)], data[0] < BARE
    update = tried(lambda: read_update(data[1:], layout, full=full), InvalidRequest)
    if isinstance(update, InvalidRequest):
        assert update.detail.isascii()
        assert len(update.detail) < 500
        return
    assert update.delta.shape == (sum(math.prod(shape) for _, shape in layout),)
    assert update.delta.dtype == np.float32
    assert update.version is None or 0 <= update.version <= MAX_COUNT
    assert (update.version is None) == (not full)
    assert 0 <= update.samples <= MAX_COUNT
    assert not update.client or NAME.fullmatch(update.client)
    again = read_update(body(update, layout), layout, full=full)
    assert again.delta.tobytes() == update.delta.tobytes()


def body(update: ReceivedUpdate, layout: Layout) -> bytes:
    """Write a post."""
    if update.version is None:
        return tensors_json(update.delta, layout)
    head = f'{{"version":{update.version},"samples":{update.samples},"update":'.encode()
    tail = f',"client":"{update.client}"}}' if update.client else "}"
    return head + tensors_json(update.delta, layout) + tail.encode()


def seeds() -> list[bytes]:
    """Return a post for every layout, finite and not."""
    result = []
    for number, layout in enumerate(LAYOUTS):
        size = sum(math.prod(shape) for _, shape in layout)
        for value in (0.25, 3, math.inf, math.nan):
            update = ReceivedUpdate(
                "ann" * (number % 2), number, 4, np.full(size, value, np.float32)
            )
            result.append(bytes([number]) + body(update, layout))
            bare = replace(update, version=None)
            result.append(bytes([BARE + number]) + body(bare, layout))
    return result


WORDS = (
    b'"version":',
    b'"samples":',
    b'"update":',
    b'"client":',
    b'"Infinity"',
    b'"-Infinity"',
    b'"NaN"',
    b"NaN",
    b"1e999",
    b"[[",
    b"]]",
    b"null",
    b"2147483648",
    b"\\ud800",
)

TARGET = Target(one, seeds, head=1, words=WORDS)
