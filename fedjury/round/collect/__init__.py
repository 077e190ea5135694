"""How contributions come together: what is accepted, when it is enough, and with what weight.

A collect strategy is a frozen value with three methods. Synchronous collection is the only one: all
that are selected train from the same model, and the round waits for them.
"""

from __future__ import annotations

from fedjury.round.collect.strategy import CollectStrategy, Progress, Verdict
from fedjury.round.collect.synchronous import Synchronous

__all__ = ["CollectStrategy", "Progress", "Synchronous", "Verdict"]
