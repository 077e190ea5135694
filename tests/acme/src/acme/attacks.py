"""An attack of the company's own, for its exercises."""

import numpy as np

from fedjury.registry import attack


@attack(report="They shouted: each sent the same number for every weight.")
def shout(attack, volume: float = 1.0):
    """Send ``volume`` times the attack's scale for every weight."""

    def learn(weights, context):
        loud = np.full_like(weights, volume * attack.scale)
        return np.broadcast_to(loud, (len(context.members), len(weights)))

    return learn
