"""Label flipping (Fang et al., USENIX Security 2020): class l of C is called C - 1 - l.

Apart from that they train honestly: the update is one that SGD makes, of data that lie.
"""

from __future__ import annotations

from fedjury.attacks.honest import honest
from fedjury.attacks.learner import Learner, World
from fedjury.registry import attack


@attack(holds_data=True, report="They learn from their own data with wrong labels.")
def label_flip(world: World) -> Learner:
    """Build the learner of attackers who call every sample of theirs something else."""
    flipped = world.data._replace(y=world.classes - 1 - world.data.y)
    return honest(world._replace(data=flipped))
