"""Validators who lie: what evil agents say when they are asked to vote.

Honest ones say what the judges of ``fedjury.judges`` say. A liar is a function
``(verdicts (m,), turn) -> verdicts (m,)`` for m liars at once: what their judge honestly says, and
what they know -> what they say. A new one is one function and one line of the table. The numbers of
their votes are made up to fit (``believable``), by those without data from errors that are made up
as well (``invented``).
"""

from __future__ import annotations

from collections.abc import Callable

from fedjury.attacks.validators import liars
from fedjury.attacks.validators.liars import Liar, Turn
from fedjury.learning import tables

__all__ = ["LIARS", "Liar", "Turn", "build"]

LIARS: dict[str, Callable[[], Liar]] = {
    "always_accept": liars.always_accept,
    "always_reject": liars.always_reject,
    "honest": liars.honest,
    "hide": liars.hide,
    "deny": liars.deny,
    "invert": liars.invert,
    "random": liars.random,
}


def build(name: str) -> Liar:
    """Build the liar of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    return tables.build(LIARS, "liar", name, {})
