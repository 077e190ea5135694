"""What agents have answered so far, by name: a value that grows by thousands of answers a round.

To those who hold it, it never changes: adding an answer gives a new mapping. All of them share one
dictionary all the same, in which each sees only what came before it, so that adding costs the same
however many there are. Who adds to one that has been added to already gets a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Generic, TypeVar

V = TypeVar("V")


class Answers(Mapping[str, V], Generic[V]):
    """Agent -> what it answered, in the order in which answers came."""

    __slots__ = ("_count", "_shared")

    def __init__(self, answers: Mapping[str, V] | None = None) -> None:
        given = (answers or {}).items()
        self._shared = {name: (place, value) for place, (name, value) in enumerate(given)}
        self._count = len(self._shared)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: object) -> bool:
        found = self._shared.get(name)  # type: ignore[call-overload]
        return found is not None and found[0] < self._count

    def __getitem__(self, name: str) -> V:
        place, value = self._shared[name]
        if place >= self._count:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return islice(self._shared, self._count)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def plus(self, name: str, value: V) -> Answers[V]:
        """Return the same with an answer more, or with another one of this agent."""
        if name in self._shared or len(self._shared) > self._count:
            return Answers({**self, name: value})
        result = object.__new__(Answers)
        result._shared, result._count = self._shared, self._count + 1
        self._shared[name] = (self._count, value)
        return result
