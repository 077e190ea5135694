"""Vote attacks: how malicious agents vote when they are validators.

Honest validators vote as the judges of ``fedjury.judges`` decide. A vote attack is a function
``(verdicts (m,), turn) -> verdicts (m,)`` for m malicious validators at once: the verdicts of their
judge, and what they know of the round -> the verdicts that they send. A new one is a function in a
file here, or anywhere (``registry``). The numbers in their votes are made up to fit
(``believable``); agents without data make up the errors as well (``invented``).
"""

from __future__ import annotations

from fedjury import registry
from fedjury.attacks.validators.applied import checked
from fedjury.attacks.validators.malicious import Turn, VoteAttack
from fedjury.registry import Registry

__all__ = ["VOTE_ATTACKS", "Turn", "VoteAttack", "build"]

VOTE_ATTACKS: Registry[VoteAttack] = registry.VOTE_ATTACKS


def build(name: str) -> VoteAttack:
    """Build the vote attack of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    attack = VOTE_ATTACKS.build(name)
    return attack if name in VOTE_ATTACKS.own else checked(attack, name)
