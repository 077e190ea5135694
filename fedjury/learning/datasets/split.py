"""How a training set is dealt to agents: who gets which classes, then who gets which samples.

A split gives every agent a class mixture; ``partition`` draws the agent's samples by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fedjury import registry
from fedjury.learning.datasets.dataset import Labels
from fedjury.registry import Registry, split
from fedjury.registry.faults import PluginError, working

Mixtures = npt.NDArray[np.float64]
"""(agents, classes) float64: the share of each class in an agent's data; rows sum to 1."""

Indices = npt.NDArray[np.int64]
"""(agents, samples) int64: places in the training set."""

Counts = npt.NDArray[np.int64]
"""(agents,) int64: how many samples each is dealt."""

Split = Callable[[int, int, np.random.Generator], Mixtures]
"""(agents, classes, rng) -> mixtures. Hyper-parameters by closure."""


@split
def iid() -> Split:
    """Make the split in which all agents are alike."""

    def mixtures(agents: int, classes: int, _rng: np.random.Generator) -> Mixtures:
        return np.full((agents, classes), 1 / classes)

    return mixtures


@split
def dirichlet(alpha: float = 0.9) -> Split:
    """Make the split in which each agent's mixture is drawn from Dir(alpha, ..., alpha).

    Small ``alpha`` gives agents of one class, large ``alpha`` is iid (Hsu, Qi, Brown 2019,
    arXiv 1909.06335). BaFFLe uses 0.9 (Andreina et al. 2021, arXiv 2011.02167).

    Raises
    ------
    ValueError
        If ``alpha`` is not positive and finite.
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be greater than 0 and finite, not {alpha}")

    def mixtures(agents: int, classes: int, rng: np.random.Generator) -> Mixtures:
        return rng.dirichlet(np.full(classes, alpha), size=agents)

    return mixtures


@split
def groups(degree: float = 0.5) -> Split:
    """Make the split into one group of agents per class, equally large and drawn at random.

    An agent has its own group's class with share ``degree`` and every other class equally often
    (Fang et al. 2020, arXiv 1911.11815; used by MPAF, arXiv 2203.08669). A degree of 1 / classes
    is iid, 1 gives agents of one class.

    Raises
    ------
    ValueError
        If ``degree`` is not in [0, 1]; from the split, if there are fewer than two classes.
    """
    if not 0 <= degree <= 1:
        raise ValueError(f"degree must be in [0, 1], not {degree}")

    def mixtures(agents: int, classes: int, rng: np.random.Generator) -> Mixtures:
        if classes < 2:
            raise ValueError(f"groups needs at least 2 classes, not {classes}")
        shares = np.full((agents, classes), (1 - degree) / (classes - 1))
        shares[np.arange(agents), rng.permutation(agents) % classes] = degree
        return shares

    return mixtures


SPLITS: Registry[Split] = registry.SPLITS


def build(name: str, **hyperparameters: float) -> Split:
    """Make a split by its name.

    Raises
    ------
    ValueError
        If the name, a hyper-parameter's name or its value is not valid; the message says what is.
    """
    chosen = SPLITS.build(name, options=hyperparameters)
    return chosen if name in SPLITS.own else _checked(chosen, name)


def _checked(chosen: Split, name: str) -> Split:
    """Return somebody else's split as one that fails in a sentence, a ``PluginError``."""

    def mixtures(agents: int, classes: int, rng: np.random.Generator) -> Mixtures:
        with working(SPLITS, name):
            result = np.asarray(chosen(agents, classes, rng))
        if result.dtype.kind not in "biuf" or result.shape != (agents, classes):
            raise PluginError(
                f"split {name!r} made mixtures of {result.dtype} of shape {result.shape}; they "
                f"must be numbers of shape {(agents, classes)}"
            )
        shares = result.astype(np.float64)
        if not (shares >= 0).all() or not np.allclose(shares.sum(axis=1), 1):
            raise PluginError(
                f"split {name!r} made mixtures whose shares are below 0, or do not add up to 1"
            )
        return shares

    return mixtures


def partition(
    labels: Labels, mixtures: Mixtures, samples: int | Counts, rng: np.random.Generator
) -> Indices:
    """Deal ``samples`` samples to every agent by its mixture, (agents, samples) int64.

    ``samples`` may be (agents,), a number for each, 0 included: then rows are as long as the
    longest, and what is beyond an agent's own number repeats its first sample, or any.

    Samples come from one shuffled pool per class and none comes twice until its pool is used up;
    then the pool is shuffled and begun again (``repeats`` counts them). If all mixtures are
    uniform the whole set is a single pool: random draws of classes would use up some pools while
    others still have samples. Agents then have the set's own class frequencies.

    Raises
    ------
    ValueError
        If ``samples`` is below 0, or below 1 for all, a label has no mixture, or a wanted class
        has no samples.
    """
    agents, classes = mixtures.shape
    held = np.broadcast_to(np.asarray(samples, dtype=np.int64), agents)
    width = int(np.max(samples))
    if width < 1:
        raise ValueError(f"agents need at least 1 sample, not {width}")
    if (held < 0).any():
        raise ValueError(f"no agent can hold {held.min()} samples")
    sizes = np.bincount(labels, minlength=classes)
    if len(sizes) > classes:
        raise ValueError(
            f"labels go up to {len(sizes) - 1}, but the mixtures have {classes} classes"
        )
    if np.allclose(mixtures, 1 / classes):
        return in_rows(_draw(np.arange(len(labels)), int(held.sum()), rng), held, width)
    counts = rng.multinomial(held, mixtures)
    kinds = np.repeat(np.tile(np.arange(classes), agents), counts.ravel())
    if isinstance(samples, int):
        kinds = rng.permuted(kinds.reshape(agents, samples), axis=1).ravel()
    else:
        owner = np.repeat(np.arange(agents), held)
        kinds = kinds[np.lexsort((rng.random(len(kinds)), owner))]
    dealt = np.empty_like(kinds)
    for kind in np.flatnonzero(counts.any(axis=0)):
        if sizes[kind] == 0:
            raise ValueError(
                f"the split wants class {kind}, of which there are no samples; number the classes "
                "that there are from 0, or split iid"
            )
        mine = kinds == kind
        dealt[mine] = _draw(np.flatnonzero(labels == kind), int(mine.sum()), rng)
    return in_rows(dealt, held, width)


def in_rows(dealt: Indices, held: Counts, width: int) -> Indices:
    """Put samples (sum of ``held``,) into rows (agents, width), see :func:`partition`."""
    first = np.minimum(held.cumsum() - held, len(dealt) - 1)  # the last may hold nothing
    place = np.arange(width)
    places: Indices = first[:, np.newaxis] + np.where(place < held[:, np.newaxis], place, 0)
    return dealt[places]


def repeats(dealt: Indices) -> int:
    """Count the dealt places that hold a sample which another place holds already."""
    return dealt.size - len(np.unique(dealt))


def _draw(pool: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Draw from a shuffled pool, shuffled again whenever it is used up, (count,)."""
    rounds = math.ceil(count / len(pool))
    return rng.permuted(np.tile(pool, (rounds, 1)), axis=1).ravel()[:count]
