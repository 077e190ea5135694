"""Label flipping (Fang et al., USENIX Security 2020): class l of C is called C - 1 - l.

Apart from that they train honestly: the update is one that SGD makes, of data that lie.
"""

from __future__ import annotations

from fedjury.attacks.attack import AttackContext, LocalTraining
from fedjury.attacks.honest import honest
from fedjury.registry import attack


@attack(holds_data=True, report="They train on their own data with wrong labels.")
def label_flip(attack: AttackContext) -> LocalTraining:
    """Build the learner of attackers who call every sample of theirs something else.

    Raises
    ------
    ValueError
        If numbers are learnt, and not classes.
    """
    if not attack.task.classes:
        raise ValueError(
            "attack 'label_flip' needs classes, and this data set's targets are numbers"
        )
    flipped = attack.data._replace(y=attack.task.classes - 1 - attack.data.y)
    return honest(attack._replace(data=flipped))
