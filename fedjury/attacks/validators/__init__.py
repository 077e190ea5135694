"""Validators who lie: what malicious agents say when they are asked to vote.

Honest ones say what the judges of ``fedjury.judges`` say. A liar is a function
``(verdicts (m,), turn) -> verdicts (m,)`` for m liars at once: what their judge honestly says, and
what they know -> what they say. A new one is a function in a file here, or anywhere (``registry``).
The numbers of their votes are made up to fit (``believable``), by those without data from errors
that are made up as well (``invented``).
"""

from __future__ import annotations

from fedjury import registry
from fedjury.attacks.validators.malicious import Liar, Turn
from fedjury.registry import Registry

__all__ = ["LIARS", "Liar", "Turn", "build"]

LIARS: Registry[Liar] = registry.LIARS


def build(name: str) -> Liar:
    """Build the liar of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    return LIARS.build(name)
