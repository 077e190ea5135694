"""Judges: whether a candidate model is poisoned, going by its mistakes on one's own data.

A judge is a function ``(profiles (m, l+1, 2C), candidates (m, 2C)) -> Opinions`` that judges
for m validators at once, by the errors that each counted on its own data. Server and validators use
the same. A new judge is one file here, or a function anywhere (``registry``). Judges of groups are
in ``group_judges``.
"""

from __future__ import annotations

from fedjury import registry
from fedjury.judges.applied import checked
from fedjury.judges.judgements import Judge
from fedjury.registry import Registry

__all__ = ["JUDGES", "Judge", "build"]

JUDGES: Registry[Judge] = registry.JUDGES


def build(name: str, **hyperparameters: object) -> Judge:
    """Build the judge of that name; all take ``minimum_history``, the accepted models needed.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    judge = JUDGES.build(name, options=hyperparameters)
    return judge if name in JUDGES.own else checked(judge, name)
