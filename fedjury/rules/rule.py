"""What all rules share: their signature, and what a rule may know beside the updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.learning.arrays import Matrix, Vector
from fedjury.randomness import Purpose, stream

Samples = npt.NDArray[np.int64]
"""(n,): how many samples each update was trained on, as its sender says."""


RuleState = Mapping[str, npt.NDArray[Any]]
"""What a rule keeps between rounds: arrays by name."""


class Context(NamedTuple):
    """What a rule may know beside the updates; most need none of it."""

    seed: int = 0
    round: int = 0
    previous: Vector | None = None
    """The step (d,) of the last accepted round, before the server's step size; None before."""
    update_sums: Matrix | None = None
    """(n, d): what the sender of each row sent in earlier rounds, added up. For rules that need
    ``update_sums``."""
    server_update: Vector | None = None
    """(d,): the update that the server trained on its own data. For rules that need
    ``server_update``."""
    excluded: int = 0
    """Agents left out or not called because they are flagged: n is smaller for that, and a count
    of Byzantine ones that n does not allow any more is no error, but lowered."""
    state: RuleState = MappingProxyType({})
    """What the rule returned with the last update that was accepted, read-only; empty before. For
    rules that need ``state``."""
    place: int = 0
    """0: it is for the rule; 1 and on: for the steps before it, in their order."""

    def rng(self) -> np.random.Generator:
        """Make the generator of the rule, or of a step before it, in this round."""
        return stream(self.seed, Purpose.AGGREGATION, self.round, self.place)


Rule = Callable[[Matrix, Samples, Context], Vector]
"""(updates (n, d), samples (n,), context) -> aggregated update (d,)."""

Stepped = tuple[Vector, RuleState]
"""An aggregated update (d,), and what the rule keeps if it is accepted."""

StatefulRule = Callable[[Matrix, Samples, Context], Stepped]
"""The same of a rule that needs ``state``."""

PreAggregation = Callable[[Matrix, Samples, Context], tuple[Matrix, Samples]]
"""(updates (n, d), samples (n,), context) -> what the rule is given instead, (m, d) and (m,)."""
