"""A vote attack of somebody else's at work: what it makes of verdicts is looked at first."""

from __future__ import annotations

import numpy as np

from fedjury.attacks.validators.believable import Verdicts
from fedjury.attacks.validators.malicious import Turn, VoteAttack
from fedjury.learning.arrays import read_only
from fedjury.registry import VOTE_ATTACKS
from fedjury.registry.faults import PluginError, working


def checked(attack: VoteAttack, name: str) -> VoteAttack:
    """Return the vote attack as one that fails in a sentence, a ``PluginError``."""

    def vote(verdicts: Verdicts, turn: Turn) -> Verdicts:
        with working(VOTE_ATTACKS, name):
            result: object = attack(read_only(verdicts), turn)
            wanted = np.asarray(result)
        if wanted.dtype.kind != "b":
            raise PluginError(
                f"vote attack {name!r} made no verdicts of bool but {wanted.dtype} "
                f"({type(result).__name__})"
            )
        if wanted.shape != verdicts.shape:
            raise PluginError(
                f"vote attack {name!r} made verdicts of shape {wanted.shape} of those of "
                f"{verdicts.shape}"
            )
        return wanted

    return vote
