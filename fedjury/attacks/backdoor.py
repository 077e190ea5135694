"""Model replacement (Bagdasaryan et al., AISTATS 2020): make the attackers' model the global one.

From the global model G the attackers train a model X on clean and poisoned samples together and
send a multiple of X - G. Where the server adds η times the mean of n updates and the others have
little left to say, n / η of it makes X the next global model; k attackers send a k-th of that
each. X is the same in every process: it depends on seed, round and the data they have together.

Constrain-and-scale adds the distance ‖w - G‖₂ to the loss, so that X stays near G.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from fedjury.attacks.attack import AttackContext, BackdoorConfig, LocalTraining, RoundContext
from fedjury.attacks.honest import honest
from fedjury.learning.datasets.dataset import Images, Labels
from fedjury.learning.training import begin_training, step, trained
from fedjury.learning.weights import Matrix, Vector, flatten, load
from fedjury.randomness import Purpose, stream, torch_stream
from fedjury.registry import attack

Choose = Callable[[Vector, Vector, RoundContext], float | None]
"""G (d,), X - G (d,), who is called -> how much of the step to take; None: train honestly."""


class Injection(NamedTuple):
    """What attackers want to add to the global model."""

    step: Vector
    """(d,)"""
    strength: float
    """What share it is of the step that they trained for; it goes into the attack log."""


Make = Callable[[BackdoorConfig, Vector, RoundContext], Injection | None]
"""Their backdoor, G (d,), who is called -> what to inject; None: train honestly."""


@attack(
    hides_backdoor=True,
    report="Then they replace the model by one with the backdoor, otherwise unchanged.",
)
def backdoor(attack: AttackContext) -> LocalTraining:
    """Build the learner of attackers who in their rounds inject what they make, and else train."""
    return attacking(attack, lambda _weights, _step, _called: 1.0)


def attacking(attack: AttackContext, choose: Choose) -> LocalTraining:
    """Build the learner of attackers who take as much of the step to X as they choose."""

    def make(backdoor: BackdoorConfig, weights: Vector, context: RoundContext) -> Injection | None:
        step = attackers_model(attack, backdoor, weights, context) - weights
        strength = choose(weights, step, context)
        return None if strength is None else Injection(np.float32(strength) * step, strength)

    return injecting(attack, make)


def injecting(attack: AttackContext, make: Make) -> LocalTraining:
    """Build the learner of attackers who in their rounds send what they make, and else train."""
    quiet, backdoor = honest(attack), attack.backdoor

    def learn(weights: Vector, context: RoundContext) -> Matrix:
        if backdoor is None or context.round not in backdoor.rounds:
            return quiet(weights, context)
        with np.errstate(over="ignore", invalid="ignore"):  # G may be anything by now
            injection = make(backdoor, weights, context)
            attack.send(context.round, injection.strength if injection else 0.0)
            if injection is None:
                return quiet(weights, context)
            sent = np.float32(_factor(backdoor, context)) * injection.step
        return np.broadcast_to(sent, (len(context.members), len(sent)))

    return learn


def replacing(
    rule: str, contributors: float, attackers: float, server_lr: float, weight: float = 1.0
) -> float:
    """Return by how much each attacker multiplies X - G so that the candidate becomes X.

    In a mean of n updates k attackers share n / η; if each of theirs weighs w times as much as one
    of the others, they share (w k + n - k) / (w η). A median or a trimmed mean takes what most of
    them send, so that it takes a majority, each with 1 / η.
    """
    if rule != "mean":
        return 1 / server_lr
    everybody = weight * attackers + contributors - attackers
    return everybody / weight / attackers / server_lr


def _factor(backdoor: BackdoorConfig, context: RoundContext) -> float:
    """Return each attacker's factor; a boost that is given is shared where updates add up."""
    if backdoor.group_size:
        groups = max(1, context.contributors // backdoor.group_size)
        group = context.contributors / groups
        # So many of them are in a group that has any, on average.
        together = max(1.0, (context.attackers or backdoor.attackers) / groups)
        return backdoor.boost or replacing("mean", group, together, 1.0, backdoor.weight)
    attackers = context.attackers or backdoor.attackers
    if not backdoor.boost:
        n, lr, weight = context.contributors, backdoor.server_lr, backdoor.weight
        return replacing(backdoor.rule, n, attackers, lr, weight)
    return backdoor.boost / attackers if backdoor.rule == "mean" else backdoor.boost


def attackers_model(
    attack: AttackContext, backdoor: BackdoorConfig, weights: Vector, context: RoundContext
) -> Vector:
    """Train the attackers' model X (d,) from G (d,), the same whoever of them is called."""
    rng = stream(context.seed, Purpose.BACKDOOR_TRAINING, context.round)
    held = attack.data.x[backdoor.pool].numpy(), attack.data.y[backdoor.pool].numpy()
    mix = mixed(*held, backdoor, rng)
    model = attack.model
    load(model, weights)
    begin_training(model)
    start = [p.detach().clone() for p in model.parameters()]

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        losses = attack.task.loss(outputs, y)
        if backdoor.alpha == 1:
            return losses
        away = [(p - p0).flatten() for p, p0 in zip(model.parameters(), start, strict=True)]
        distance: torch.Tensor = torch.linalg.vector_norm(torch.cat(away))
        return backdoor.alpha * losses.mean() + (1 - backdoor.alpha) * distance

    sgd = torch.optim.SGD(trained(model), backdoor.learning_rate, attack.plan.momentum)
    with torch_stream(context.seed, Purpose.BACKDOOR_DRAWS, context.round):
        for _ in range(backdoor.epochs):
            for batch in _batches(mix.order, attack.plan.batch_size, rng):
                step(model, sgd, loss, mix.x[batch], mix.y[batch])
    model.eval()
    return flatten(model)


class Mix(NamedTuple):
    """What the attackers' model is trained on."""

    x: torch.Tensor
    """(s, C, H, W): the clean samples, then the poisoned ones."""
    y: torch.Tensor
    """(s,): what they are called."""
    order: np.ndarray
    """(n,): the sample numbers of one pass, not shuffled; poisoned ones come repeatedly."""


def mixed(x: Images, y: Labels, backdoor: BackdoorConfig, rng: np.random.Generator) -> Mix:
    """Mix the attackers' samples (s, C, H, W), (s,) with poisoned ones, ``strike.share`` of all.

    Of more poisoned samples than that some are drawn; fewer are repeated. Where nothing clean is
    left, or wanted, they come once each.
    """
    kept = backdoor.backdoor.clean(y)
    poisoned_x, poisoned_y = backdoor.backdoor.poison(x, y)
    clean, poisoned = int(kept.sum()), len(poisoned_y)
    if backdoor.share >= 1:
        clean, kept = 0, np.zeros_like(kept)
    # Rounded up, after a nudge: one at least, and 80 / 0.8 is 100 although not in binary numbers.
    count = math.ceil(backdoor.share * clean / (1 - backdoor.share) - 1e-9) if clean else poisoned
    return Mix(
        torch.from_numpy(np.concatenate([x[kept], poisoned_x])),
        torch.from_numpy(np.concatenate([y[kept], poisoned_y])),
        np.concatenate([np.arange(clean), clean + np.resize(rng.permutation(poisoned), count)]),
    )


def _batches(order: np.ndarray, size: int, rng: np.random.Generator) -> list[torch.Tensor]:
    """Shuffle sample numbers (n,) and cut them into equal batches, of ``size`` at most.

    A single sample is no batch, for batch norm can learn nothing from it; there batches of two are
    a little larger.
    """
    shuffled = torch.from_numpy(rng.permutation(order))
    count = math.ceil(len(order) / size)
    pairs = max(1, len(order) // 2)
    return list(shuffled.tensor_split(min(count, pairs) if size > 1 else count))
