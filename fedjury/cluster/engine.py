"""What connects workers: the calls that are all an engine has to offer."""

from __future__ import annotations

from typing import Any, Protocol

from fedjury.rules.partitions import WorkerLost

__all__ = ["Engine", "NotHeld", "WorkerLost"]


class NotHeld(LookupError):  # noqa: N818 - said by a worker that has started again
    """A worker has nothing under a number or a key: it ended since, and was started again."""


class Engine(Protocol):
    """Workers by number, each of which does one thing after the other.

    They are ``fedjury.cluster.shard.Worker``, of which methods are called by name. What is sent
    comes out as a copy, and arrays may be read-only there and here.
    """

    @property
    def workers(self) -> int:
        """How many there are."""

    def send(self, value: Any) -> Any:
        """Return what stands for a value in calls, so that each worker gets it once."""

    def call(self, worker: int, method: str, *arguments: Any) -> Any:
        """Begin a call. What is returned stands for its result, also as an argument of another."""

    def result(self, call: Any) -> Any:
        """Wait for the result of a call.

        Raises
        ------
        WorkerLost
            If the worker ended before that, or has started again since.
        Exception
            What the method raised.
        """
