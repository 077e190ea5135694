"""An adaptive attacker (BAFFLE: Andreina et al., ICDCS 2021): it asks the validators' judge first.

It knows the judge, the look-back and the accepted models, and judges what it would make of the
global model G: G + a (X - G), with a from 1 downward. It does so on all that the attackers hold
together, or on the clean part alone: what the backdoor is to mistake, it is to mistake, and who
looks away from it dares more. It submits the strongest that passes, as in ``backdoor``; if none
does, it trains honestly. What the others of the round will add to the candidate it does not know.
"""

from __future__ import annotations

import numpy as np
import torch

from fedjury.attacks.backdoor import striking
from fedjury.attacks.learner import Called, Learner, Strike, World
from fedjury.judges.opinions import Judge, Opinions
from fedjury.judges.profiles import error_profile
from fedjury.learning.evaluation import predict
from fedjury.learning.weights import Vector
from fedjury.registry import attack

LADDER = tuple(i / 10 for i in range(10, 0, -1))
"""Strengths that are tried, strongest first: 1, 0.9 … 0.1."""


@attack(
    hides_backdoor=True,
    report="It is the strongest that a judge of their own lets pass.",
)
def adaptive(world: World) -> Learner:
    """Build the learner of attackers who submit only what their own judge calls clean."""
    strike = world.strike

    def choose(weights: Vector, step: Vector, called: Called) -> float | None:
        if strike is None or strike.judge is None:
            return LADDER[0]
        rungs = [weights + np.float32(strength) * step for strength in LADDER]
        judged = opinions(world, strike, strike.judge, called.history, rungs)
        passing = np.flatnonzero(~judged.poisoned)
        return LADDER[passing[0]] if len(passing) else None

    return striking(world, choose)


def opinions(
    world: World, strike: Strike, judge: Judge, history: tuple[Vector, ...], rungs: list[Vector]
) -> Opinions:
    """Judge candidates, each (d,), after the accepted models, on what the attackers hold."""
    clean = torch.from_numpy(strike.backdoor.clean(world.data.y[strike.pool].numpy()))
    held = strike.pool[clean] if strike.clean and clean.any() else strike.pool
    x, labels = world.data.x[held], world.data.y[held].numpy()
    answers = np.stack([predict(world.model, model, x) for model in (*history, *rungs)])
    profiles = error_profile(answers, labels, world.classes)
    accepted, candidates = profiles[: len(history)], profiles[len(history) :]
    alike = np.broadcast_to(accepted, (len(rungs), *accepted.shape))
    return judge(alike, candidates)
