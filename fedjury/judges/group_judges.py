"""Judges of groups: which of several candidates, each of a group's mean, are poisoned.

There are two ways. A judge of single candidates is asked about each group (``judged_groups``), with
accepted groups for its history. A group judge, a plug-in of its own kind, compares the groups of a
round with each other and with the model that all of them start from, by losses::

    (Measured of m validators and G groups each) -> Judgements of shape (m, G)

It needs no history. The G groups of one validator may be others than those of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury import registry
from fedjury.judges.applied import judgements_of
from fedjury.judges.judgements import BLOCK, Judge, Judgements
from fedjury.judges.sums import Array
from fedjury.learning.arrays import read_only
from fedjury.learning.error_profiles import Histories
from fedjury.registry import Registry


class Measured(NamedTuple):
    """What m validators measured on their own data of G groups each."""

    before: Array
    """(m, C): the mean loss of the accepted model on the samples of each class."""
    after: Array
    """(m, G, C): that of each group's candidate: the accepted model plus the group's mean."""
    counts: npt.NDArray[np.int64]
    """(m, C): samples of each class; what is measured of a class without any is of no account."""


GroupJudge = Callable[[Measured], Judgements]
"""Judgements of shape (m, G), evidence (m, G, N)."""

GROUP_JUDGES: Registry[GroupJudge] = registry.GROUP_JUDGES


def build(name: str, **options: object) -> GroupJudge:
    """Build the group judge of that name; one of somebody else's fails in a sentence.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    judge = GROUP_JUDGES.build(name, options=options)
    return judge if name in GROUP_JUDGES.own else _checked(judge, name)


def judged_groups(judge: Judge, history: Histories, groups: Histories) -> Judgements:
    """Let a judge of single candidates judge the groups (m, G, p) of m validators, as (m, G).

    ``history``: (m, L, p), of accepted groups, oldest first; the same for all groups of a
    validator. It is copied for ``BLOCK`` groups at a time.
    """
    validators, number, kinds = groups.shape
    flat = groups.reshape(validators * number, kinds)
    parts = []
    for first in range(0, max(1, len(flat)), BLOCK):
        some = flat[first : first + BLOCK]
        owners = np.arange(first, first + len(some)) // max(1, number)
        parts.append(judge(history[owners], some))
    found = map(np.concatenate, zip(*parts, strict=True))
    shape = validators, number
    return Judgements(*(part.reshape(*shape, *part.shape[1:]) for part in found))


def _checked(judge: GroupJudge, name: str) -> GroupJudge:
    def judged(measured: Measured) -> Judgements:
        given = Measured(*map(read_only, measured))

        def asked() -> Any:
            return judge(given)

        return judgements_of(GROUP_JUDGES, name, asked, measured.after.shape[:2])

    return judged
