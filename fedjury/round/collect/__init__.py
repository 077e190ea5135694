"""How contributions come together: what is accepted, when it is enough, and with what weight.

A collect strategy is chosen by ``collect.strategy``: ours is ``synchronous``; anybody else's has
the methods of :class:`CollectStrategy`, and is built from ``threshold``, ``largest_weight`` and
``allocate`` (where the memory of updates comes from), and from options of its own.
"""

from __future__ import annotations

from typing import Any

from fedjury import registry
from fedjury.registry import Registry
from fedjury.round.collect.strategy import Answer, Collected, CollectStrategy, Progress, Request
from fedjury.round.collect.synchronous import Synchronous
from fedjury.round.collect.update_buffer import Allocate

__all__ = [
    "COLLECT",
    "Allocate",
    "Answer",
    "CollectStrategy",
    "Collected",
    "Progress",
    "Request",
    "Synchronous",
]

COLLECT: Registry[CollectStrategy[Any]] = registry.COLLECT
