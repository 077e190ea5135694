"""What all rules share: their signature, and what a rule may know beside the updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.learning.weights import Matrix, Vector
from fedjury.randomness import Purpose, stream

Samples = npt.NDArray[np.int64]
"""(n,): how many samples each update was trained on, as its sender says."""


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
    place: int = 0
    """0: it is for the rule; 1 and on: for the steps before it, in their order."""

    def rng(self) -> np.random.Generator:
        """Make the generator of the rule, or of a step before it, in this round."""
        return stream(self.seed, Purpose.AGGREGATION, self.round, self.place)


Rule = Callable[[Matrix, Samples, Context], Vector]
"""(updates (n, d), samples (n,), context) -> aggregated update (d,)."""

PreAggregation = Callable[[Matrix, Samples, Context], tuple[Matrix, Samples]]
"""(updates (n, d), samples (n,), context) -> what the rule is given instead, (m, d) and (m,)."""
