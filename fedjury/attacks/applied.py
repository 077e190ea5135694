"""An attack of somebody else's at work: what its agents are to send is looked at first.

Where it fails they sit the round out, see ``fedjury.agents.faults``. Values may be anything, NaN
included: that may be the attack.
"""

from __future__ import annotations

import numpy as np

from fedjury.attacks.attack import LocalTraining, RoundContext
from fedjury.attacks.colluding import Collusion, Plotter, Strategy
from fedjury.learning.arrays import NUMBERS, read_only
from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import ATTACKS
from fedjury.registry.faults import PluginError, working


def checked(attack: LocalTraining | Collusion, name: str) -> LocalTraining | Collusion:
    """Return the attack as one that fails in a sentence, a ``PluginError``."""
    if isinstance(attack, Collusion):
        return Collusion(_training(attack.train, name), _plotter(attack.plot, name))
    if not callable(attack):
        raise PluginError(f"attack {name!r} made {type(attack).__name__}, which is no function")
    return _training(attack, name)


def _training(train: LocalTraining, name: str) -> LocalTraining:
    def learn(weights: Vector, context: RoundContext) -> Matrix:
        shown = context._replace(history=tuple(map(read_only, context.history)))
        with working(ATTACKS, name):
            result: object = train(read_only(weights), shown)
        return _numbers(name, "updates", result, (len(context.members), len(weights)))

    return learn


def _plotter(plot: Plotter, name: str) -> Plotter:
    def plotted(updates: Matrix, context: RoundContext) -> Strategy:
        with working(ATTACKS, name):
            result: object = plot(read_only(updates), context)
        if not isinstance(result, tuple) or len(result) != 2:
            raise PluginError(
                f"attack {name!r} made no Strategy (centre, spread) but {type(result).__name__}"
            )
        size = updates.shape[1]
        none = np.shape(result[1]) == (0,)
        return Strategy(
            _numbers(name, "a centre", result[0], (size,)),
            _numbers(name, "a spread", result[1], (0,) if none else (size,)),
        )

    return plotted


def _numbers(name: str, what: str, result: object, shape: tuple[int, ...]) -> Matrix:
    with working(ATTACKS, name):
        array = np.asarray(result)
    if array.dtype.kind not in NUMBERS:
        raise PluginError(f"attack {name!r} made no {what} but {type(result).__name__}")
    if array.shape != shape:
        raise PluginError(
            f"attack {name!r} made {what} of shape {array.shape}, which must be {shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)
