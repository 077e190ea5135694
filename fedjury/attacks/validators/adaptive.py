"""A liar that lies where its vote may decide: it hides its own attack, and denies what is in doubt.

Whoever denies every honest round is soon known by it, and alone can reject nothing. This one calls
candidates of attacked rounds clean, as ``hide`` does. Of the others it calls those poisoned that
its own judge is near to calling so (``DOUBTFUL``): honest validators judge the same candidate, so
these are the rounds in which some of them raise a false alarm, and in which a few more votes make
a quorum. In all others it votes as its judge decides, and looks honest.
"""

from __future__ import annotations

import numpy as np

from fedjury.attacks.validators.believable import Verdicts
from fedjury.attacks.validators.malicious import Turn, VoteAttack
from fedjury.registry import vote_attack

DOUBTFUL = 0.75
"""A candidate that is doubted more than this is denied, see ``judgements.doubts``."""


@vote_attack
def adaptive() -> VoteAttack:
    """Hide attacks, and call those of the other candidates poisoned that are in doubt."""

    def vote(own: Verdicts, turn: Turn) -> Verdicts:
        if turn.attacked:
            return np.zeros_like(own)
        doubts = np.array(turn.doubts or (0.0,) * len(own))
        return np.asarray(own | (doubts > DOUBTFUL), np.bool_)

    return vote
