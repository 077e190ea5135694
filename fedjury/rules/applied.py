"""A rule at work: what it is given it cannot write, and what it returns is looked at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjury.learning.arrays import NUMBERS, Matrix, Vector, read_only
from fedjury.registry import PRE_AGGREGATIONS, RULES
from fedjury.registry.faults import working
from fedjury.rules.partitions import Partitions, as_partitions, cut, given
from fedjury.rules.rule import (
    Context,
    PreAggregation,
    Rule,
    RuleState,
    Samples,
    StatefulRule,
)


def applied(
    rule: Rule | StatefulRule,
    name: str,
    updates: Matrix | Partitions,
    samples: Samples,
    context: Context,
    *,
    keeps: bool,
) -> tuple[Vector, RuleState]:
    """Return what the rule of a name makes of updates (n, d), (d,), and what it keeps.

    ``keeps``: it needs ``state``, and so returns both; any other keeps what there was.

    Raises
    ------
    ValueError
        If it cannot work with them, fails, or returns something else; one sentence.
    """
    context = context._replace(
        previous=read_only(context.previous),
        update_sums=read_only(context.update_sums),
        server_update=read_only(context.server_update),
    )
    rows = as_partitions(updates)
    shape = rows.n, rows.d
    with working(RULES, name):
        result: object = rule(given(rule, rows), read_only(samples), context)
    if not keeps:
        return _vector(name, result, shape), context.state
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(
            f"rule {name!r} needs state, so it must return the update and a dict of what it keeps"
        )
    return _vector(name, result[0], shape), _state(name, result[1])


def stepped(
    step: PreAggregation, name: str, updates: Partitions, samples: Samples, context: Context
) -> tuple[Partitions, Samples]:
    """Return what a step before the rule makes of updates (n, d), (m, d) and (m,).

    Raises
    ------
    ValueError
        As ``applied`` does.
    """
    what = f"pre-aggregation {name!r}"
    with working(PRE_AGGREGATIONS, name):
        result: object = step(given(step, updates), read_only(samples), context)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(f"{what} must return updates and samples")
    with working(PRE_AGGREGATIONS, name):
        counts = np.asarray(result[1])
    rows = _rows(what, name, result[0], updates)
    if not rows.n or counts.dtype.kind not in NUMBERS or counts.shape != (rows.n,):
        raise ValueError(f"{what} made {rows.n} updates and samples of shape {counts.shape}")
    return rows, counts


def _rows(what: str, name: str, result: object, of: Partitions) -> Partitions:
    """Return a step's updates (m, d) as such, in as many partitions as it was given."""
    if isinstance(result, Partitions) and (result.d, result.count) == (of.d, of.count):
        return result
    with working(PRE_AGGREGATIONS, name):
        rows = np.asarray(result)
    if rows.dtype.kind not in NUMBERS or rows.ndim != 2 or rows.shape[1] != of.d:
        raise ValueError(f"{what} made updates of shape {rows.shape} of those of {(of.n, of.d)}")
    return cut(rows, of.count)


def _vector(name: str, result: object, of: tuple[int, ...]) -> Vector:
    """Return a rule's update (d,) as such."""
    with working(RULES, name):
        made = np.asarray(result)
    if made.dtype.kind not in NUMBERS:
        raise ValueError(f"rule {name!r} made no update but {type(result).__name__}")
    if made.shape != of[1:]:
        raise ValueError(
            f"rule {name!r} made an update of shape {made.shape} of {of[0]} of shape {of[1:]}"
        )
    return made.astype(np.float32, copy=False)


def _state(name: str, state: object) -> RuleState:
    """Return what a rule keeps, copied, so that nobody can change it afterwards."""
    if not isinstance(state, Mapping):
        raise ValueError(  # noqa: TRY004 - as all that is wrong with a rule
            f"rule {name!r} keeps {type(state).__name__}; it must be a dict of NumPy arrays"
        )
    for key, array in state.items():
        if not (isinstance(key, str) and key.isprintable() and 0 < len(key) <= 100):
            raise ValueError(f"rule {name!r} keeps something under {key!r}, which is no name")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in NUMBERS:
            kind = getattr(array, "dtype", type(array).__name__)
            raise ValueError(
                f"rule {name!r} keeps {key!r} of {kind}; it must be an array of numbers"
            )
        if array.dtype.itemsize > 8:
            raise ValueError(
                f"rule {name!r} keeps {key!r} of {array.dtype}, which no file can hold"
            )
    return {key: _copied(array) for key, array in state.items()}


def _copied(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    result = np.array(array, order="C")
    result.flags.writeable = False
    return result
