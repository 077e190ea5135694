"""The codecs that are there; of somebody else's, what they write and read is looked at.

Where one fails to write, float32 is sent; what it fails to read is refused as malformed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedjury.protocol.codecs.encoding import Encode, Encoding
from fedjury.protocol.messages import BadMessage, Reason, Vector
from fedjury.registry import CODECS
from fedjury.registry.faults import PluginError, working


def buildable() -> tuple[dict[str, Encoding], dict[str, str]]:
    """Return the encodings by name, and of those that cannot be built, why.

    What an installed package offers must not keep a program from starting that does not ask for it.
    """
    found: dict[str, Encoding] = {name: CODECS.build(name) for name in CODECS.own}
    broken: dict[str, str] = {}
    for name in CODECS.offered:
        try:
            found[name] = checked(CODECS.build(name), name)
        except ValueError as why:
            broken[name] = str(why)
    return found, broken


def checked(encoding: Encoding, name: str) -> Encoding:
    """Return somebody else's encoding as one that fails as ours do."""

    def size(n: int) -> int:
        try:
            most: object = encoding.size(n)
        except Exception:
            return 0
        return most if isinstance(most, int) and most > 0 else 0

    def decode(data: bytes, n: int) -> Vector:
        try:
            vector = np.asarray(encoding.decode(data, n))
        except Exception as why:
            raise BadMessage(Reason.MALFORMED, f"codec {name!r} fails to read it: {why}") from why
        if vector.dtype != np.float32 or vector.shape != (n,):
            text = f"codec {name!r} read {vector.dtype} of shape {vector.shape}, not {n} values"
            raise BadMessage(Reason.MALFORMED, text)
        return vector.view()

    make = encoding.sender
    return Encoding(
        size,
        _writing(encoding.encode, size, name),
        decode,
        bool(encoding.varies),
        None if make is None else lambda: _writing(make(), size, name),
    )


def _writing(encode: Encode, size: Callable[[int], int], name: str) -> Encode:
    def written(vector: Vector) -> bytes:
        shown = vector.view()
        shown.flags.writeable = False
        with working(CODECS, name):
            data: object = encode(shown)
        if not isinstance(data, bytes) or len(data) > size(len(vector)):
            told = f"{len(data):,} bytes" if isinstance(data, bytes) else type(data).__name__
            raise PluginError(
                f"codec {name!r} wrote {told} for {len(vector):,} values; it must be at most "
                f"{size(len(vector)):,} bytes"
            )
        return data

    return written
