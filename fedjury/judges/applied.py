"""A judge of somebody else's at work: it cannot write what it sees, and what it says is looked at.

Who asks it, a validator or the server, gives no vote where it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjury.judges.judgements import Judge, Judgements
from fedjury.learning.arrays import NUMBERS, read_only
from fedjury.learning.error_profiles import Candidates, Histories
from fedjury.registry import JUDGES, Registry
from fedjury.registry.faults import PluginError, working


def checked(judge: Judge, name: str) -> Judge:
    """Return the judge as one that fails in a sentence, a ``PluginError``.

    It fails if it raises, or returns anything but judgements of as many validators as it was
    asked for, finite all of them.
    """

    def judged(profiles: Histories, candidates: Candidates) -> Judgements:
        given = read_only(profiles), read_only(candidates)
        return judgements_of(JUDGES, name, lambda: judge(*given), (len(candidates),))

    return judged


def judgements_of(
    kind: Registry[Any], name: str, asked: Callable[[], object], shape: tuple[int, ...]
) -> Judgements:
    """Return what a judge of somebody else's says, if these are judgements of this shape.

    Raises
    ------
    PluginError
        If they are not, or it raises.
    """
    what = f"{kind.kind} {name!r}"
    with working(kind, name):
        result = asked()
    if not isinstance(result, tuple) or len(result) != 4:
        raise PluginError(
            f"{what} made no Judgements (poisoned, score, threshold, evidence) but "
            f"{type(result).__name__}"
        )
    with working(kind, name):
        parts = dict(zip(Judgements._fields, map(np.asarray, result), strict=True))
    return _judgements(what, parts, shape)


def _judgements(
    what: str, parts: dict[str, npt.NDArray[Any]], shape: tuple[int, ...]
) -> Judgements:
    asked = f"{shape[0]} validators" + "".join(f" and {groups} groups" for groups in shape[1:])
    for part, array in parts.items():
        depth = len(shape)
        wanted = shape if part != "evidence" else (*shape, *array.shape[depth : depth + 1])
        if array.dtype.kind not in NUMBERS:
            raise PluginError(f"{what} made a {part} of {array.dtype}, which is no number")
        if array.shape != wanted:
            raise PluginError(f"{what} made a {part} of shape {array.shape} for {asked}")
        if not np.isfinite(array).all():
            raise PluginError(f"{what} made a {part} that is not finite (NaN, infinity)")
    if parts["poisoned"].dtype.kind != "b":
        raise PluginError(f"{what} made a poisoned of {parts['poisoned'].dtype}, not of bool")
    numbers = (parts[part].astype(np.float64) for part in Judgements._fields[1:])
    return Judgements(parts["poisoned"], *numbers)
