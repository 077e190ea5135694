"""What is fuzzed: a function that takes any bytes at all, and may only fail where we are wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple, TypeVar

Found = TypeVar("Found")
Refusal = TypeVar("Refusal", bound=Exception)


class Target(NamedTuple):
    """One thing that reads what strangers write."""

    one: Callable[[bytes], None]
    """Reads one input. What may be refused is refused inside; what it raises is a bug of ours."""
    seeds: Callable[[], list[bytes]]
    """Good inputs to begin with."""
    longest: int = 4096
    """Bytes of an input."""
    head: int | None = None
    """Bytes in front of a payload in msgpack or JSON; None: the inputs are nothing of the kind."""
    words: tuple[bytes, ...] = ()
    """What is worth putting into an input."""


class File(io.BytesIO):
    """A file that is not on disk, but has a path."""

    def __init__(self, data: bytes, path: str) -> None:
        super().__init__(data)
        self._path = path

    def read_bytes(self) -> bytes:
        """Return all of it."""
        return self.getvalue()

    def __str__(self) -> str:
        return self._path


def tried(read: Callable[[], Found], refusal: type[Refusal]) -> Found | Refusal:
    """Return what was read, or how it was refused; any other exception is a bug."""
    try:
        return read()
    except refusal as why:
        return why
