"""An adaptive attacker (BAFFLE: Andreina et al., ICDCS 2021): it asks the validators' judge first.

It knows the judge, the look-back and the accepted models, and judges what it would make of the
global model G: G + a (X - G), with a from 1 downward. It does so on all that the attackers hold
together, or on the clean part alone: what the backdoor is to mistake, it is to mistake, and an
attacker that looks away from it dares more. It submits the strongest that passes, as in
``backdoor``; if none does, it trains honestly. What the others of the round will add to the
candidate it does not know.

A careful one begins with smaller strengths as well (``least``), which is how poison is brought in
by small doses, and leaves room below the judge's threshold for what it does not know (``margin``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from fedjury.attacks.attack import AttackContext, BackdoorConfig, LocalTraining, RoundContext
from fedjury.attacks.backdoor import attacking
from fedjury.judges.judgements import Judge, Judgements
from fedjury.learning.evaluation import predict
from fedjury.learning.weights import Vector
from fedjury.registry import attack

LADDER = tuple(i / 10 for i in range(10, 0, -1))
"""Strengths that are tried, strongest first: 1, 0.9 … 0.1."""


def ladder(least: float) -> tuple[float, ...]:
    """Return the strengths that are tried, strongest first, ten in each power of ten.

    1, 0.9 … 0.1, then 0.09 … 0.01, and so on, as far as ``least``.
    """
    rungs = list(LADDER)
    while rungs[-1] > least * (1 + 1e-9):
        power = round(1 / rungs[-1])
        rungs += [i / (10 * power) for i in range(9, 0, -1)]
    return tuple(strength for strength in rungs if strength >= least * (1 - 1e-9))


@attack(
    hides_backdoor=True,
    report="It is the strongest that their own judge accepts.",
)
def adaptive(attack: AttackContext, least: float = 0.1, margin: float = 0.0) -> LocalTraining:
    """Build the learner of attackers who submit only what their own judge calls clean.

    ``least``: the smallest strength that they try; 0.01 is ten times more careful. ``margin``: the
    share of the judge's threshold that a score has to stay below it.

    Raises
    ------
    ValueError
        If ``least`` is not in [0.001, 1], or ``margin`` not in [0, 1].
    """
    if not 0.001 <= least <= 1:
        raise ValueError(f"least of attack 'adaptive' must be 0.001 to 1, not {least}")
    if not 0 <= margin <= 1:
        raise ValueError(f"margin of attack 'adaptive' must be 0 to 1, not {margin}")
    backdoor, strengths = attack.backdoor, ladder(least)

    def choose(weights: Vector, step: Vector, context: RoundContext) -> float | None:
        if backdoor is None or backdoor.judge is None:
            return strengths[0]
        rungs = [weights + np.float32(strength) * step for strength in strengths]
        judged = judgements(attack, backdoor, backdoor.judge, context.history, rungs)
        passing = np.flatnonzero(passes(judged, margin))
        return strengths[passing[0]] if len(passing) else None

    return attacking(attack, choose)


def passes(judged: Judgements, margin: float) -> npt.NDArray[np.bool_]:
    """Return which candidates (m,) a judge calls clean, and by so much of its threshold.

    A judge that knows too little says clean, with zeros for both: these pass.
    """
    if not margin:
        return ~judged.poisoned
    room = margin * np.abs(judged.threshold)
    return np.asarray(~judged.poisoned & (judged.score <= judged.threshold - room), np.bool_)


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
