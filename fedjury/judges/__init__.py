"""Judges: whether a candidate model is poisoned, going by its mistakes on one's own data.

A judge is a function ``(profiles (m, l+1, 2C), candidates (m, 2C)) -> Opinions`` that judges
for m validators at once, by the errors that each counted on its own data. Server and validators use
the same. A new judge is one function and one line of the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedjury.judges import calibrated, validate
from fedjury.learning import tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedjury.judges.opinions import Judge

JUDGES: dict[str, Callable[..., Judge]] = {
    "lof": validate.lof,
    "calibrated": calibrated.calibrated,
}


def build(name: str, **hyperparameters: object) -> Judge:
    """Build the judge of that name; all take ``minimum_history``, the accepted models needed.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    return tables.build(JUDGES, "judge", name, hyperparameters)
