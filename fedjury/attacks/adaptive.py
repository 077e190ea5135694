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

from fedjury.attacks.attack import AttackContext, BackdoorConfig, LocalTraining, RoundContext
from fedjury.attacks.backdoor import attacking
from fedjury.judges.judgements import Judge, Judgements
from fedjury.learning.evaluation import predict
from fedjury.learning.weights import Vector
from fedjury.registry import attack

LADDER = tuple(i / 10 for i in range(10, 0, -1))
"""Strengths that are tried, strongest first: 1, 0.9 … 0.1."""


@attack(
    hides_backdoor=True,
    report="It is the strongest that their own judge accepts.",
)
def adaptive(attack: AttackContext) -> LocalTraining:
    """Build the learner of attackers who submit only what their own judge calls clean."""
    backdoor = attack.backdoor

    def choose(weights: Vector, step: Vector, context: RoundContext) -> float | None:
        if backdoor is None or backdoor.judge is None:
            return LADDER[0]
        rungs = [weights + np.float32(strength) * step for strength in LADDER]
        judged = judgements(attack, backdoor, backdoor.judge, context.history, rungs)
        passing = np.flatnonzero(~judged.poisoned)
        return LADDER[passing[0]] if len(passing) else None

    return attacking(attack, choose)


def judgements(
    attack: AttackContext,
    backdoor: BackdoorConfig,
    judge: Judge,
    history: tuple[Vector, ...],
    rungs: list[Vector],
) -> Judgements:
    """Judge candidates, each (d,), after the accepted models, on what the attackers hold."""
    clean = torch.from_numpy(backdoor.backdoor.clean(attack.data.y[backdoor.pool].numpy()))
    held = backdoor.pool[clean] if backdoor.clean and clean.any() else backdoor.pool
    x, labels = attack.data.x[held], attack.data.y[held].numpy()
    models = (*history, *rungs)
    answers = np.stack([predict(attack.model, model, x, attack.task) for model in models])
    profiles = attack.task.profile(answers, labels)
    accepted, candidates = profiles[: len(history)], profiles[len(history) :]
    alike = np.broadcast_to(accepted, (len(rungs), *accepted.shape))
    return judge(alike, candidates)
