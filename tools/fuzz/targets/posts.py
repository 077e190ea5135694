"""Any body that is posted to the gateway: ``[layout, body...]``, from ``BARE`` on a state dict."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fedjury.gateway.schemas import read_update
from fedjury.gateway.state import Posted, Refused
from fedjury.gateway.values import Layout, tensors_json
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
    posted = tried(lambda: read_update(data[1:], layout, full=full), Refused)
    if isinstance(posted, Refused):
        assert posted.detail.isascii()
        assert len(posted.detail) < 500
        return
    assert posted.delta.shape == (sum(math.prod(shape) for _, shape in layout),)
    assert posted.delta.dtype == np.float32
    assert posted.version is None or 0 <= posted.version <= MAX_COUNT
    assert (posted.version is None) == (not full)
    assert 0 <= posted.samples <= MAX_COUNT
    assert not posted.client or NAME.fullmatch(posted.client)
    again = read_update(body(posted, layout), layout, full=full)
    assert again.delta.tobytes() == posted.delta.tobytes()


def body(posted: Posted, layout: Layout) -> bytes:
    """Write a post."""
    if posted.version is None:
        return tensors_json(posted.delta, layout)
    head = f'{{"version":{posted.version},"samples":{posted.samples},"update":'.encode()
    tail = f',"client":"{posted.client}"}}' if posted.client else "}"
    return head + tensors_json(posted.delta, layout) + tail.encode()


def seeds() -> list[bytes]:
    """Return a post for every layout, finite and not."""
    found = []
    for number, layout in enumerate(LAYOUTS):
        size = sum(math.prod(shape) for _, shape in layout)
        for value in (0.25, 3, math.inf, math.nan):
            posted = Posted("ann" * (number % 2), number, 4, np.full(size, value, np.float32))
            found.append(bytes([number]) + body(posted, layout))
            bare = replace(posted, version=None)
            found.append(bytes([BARE + number]) + body(bare, layout))
    return found


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
