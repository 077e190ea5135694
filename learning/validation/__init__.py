"""Judges: whether a candidate model is poisoned, going by its mistakes on one's own data.

A judge is a function ``(profiles (l+1, 2C), profile (2C,), samples) -> Opinion``. Server and
validators use the same. A new judge is one function and one line of the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from learning import tables
from learning.validation import validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from learning.validation.validate import Judge

JUDGES: dict[str, Callable[..., Judge]] = {
    "lof": validate.lof,
}


def build(name: str, **hyperparameters: object) -> Judge:
    """Build the judge of that name.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    return tables.build(JUDGES, "judge", name, hyperparameters)
