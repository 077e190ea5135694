"""An attacker that trains against the judges: what they count of a model is part of its loss.

It knows the judge, its memory (the accepted models) and how validators are drawn, but of their data
only its own. In a round of its own it

1. imagines a jury: parts of its own samples, of class mixes as they may occur elsewhere;
2. asks the judge, for each imagined validator, how many more errors of each kind would pass
   (``allowances``), by bisection: so it needs to know no judge's formula;
3. trains models from the global model G in several ways. Some of the samples that the backdoor is
   to mistake, those nearest to its target, are to become the target; all others are to be answered
   as G answers them, so that nothing else moves. To this comes a penalty where the soft error
   counts of a typical validator exceed what passes;
4. lets the imagined jury vote on each of them, at several strengths, with what honest agents
   usually add in a round. Of those that few reject it submits the one that has most of the
   backdoor. If there is none, it trains honestly.

Among the ways is the model of ``adaptive``, so that it gets in what that gets in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from fedjury.attacks.attack import AttackContext, BackdoorConfig, LocalTraining, RoundContext
from fedjury.attacks.backdoor import Injection, attackers_model, injecting
from fedjury.judges.judgements import Judge
from fedjury.learning.device import device_of
from fedjury.learning.error_profiles import Classes, Histories, Profile
from fedjury.learning.evaluation import predict
from fedjury.learning.training import begin_training, trained
from fedjury.learning.weights import Vector, flatten, load
from fedjury.randomness import Purpose, stream, torch_stream
from fedjury.registry import attack

Places = list[npt.NDArray[np.intp]]
"""Of each imagined validator: which of the attackers' samples it holds."""

REACHES = (0.5, 0.7, 0.85, 1.0, 1.2)
"""Shares of what is expected to pass that are tried."""

STRENGTHS = (1.0, 0.85, 0.7)
"""Shares of the step to each trained model that are tried."""

RUNGS = tuple(i / 20 for i in range(20, 0, -1))
"""The same of the step to the model of ``adaptive``."""

STEPS = 60
"""Of gradient descent, each on all samples, with momentum 0.9."""

MOMENTUM = 0.9

EMPHASIS = 3.0
"""How many times as much as another sample one counts that is to become the target."""


class Held(NamedTuple):
    """What the attackers hold, and what of it is poisoned."""

    x: torch.Tensor
    """(s, ...)"""
    y: Classes
    """(s,)"""
    poisoned: torch.Tensor
    """(p, ...): what the backdoor is to mistake."""
    clean: npt.NDArray[np.bool_]
    """(s,): which samples it leaves as they are."""
    target: int


@attack(
    hides_backdoor=True,
    report="It is trained against the judge: the most that a jury they imagine lets pass.",
)
def evasive(
    attack: AttackContext,
    jury: int = 20,
    rejected: float = 0.2,
    penalty: float = 0.02,
    honest_part: bool = True,
) -> LocalTraining:
    """Build the learner of attackers who train against the judge.

    ``jury``: imagined validators. ``rejected``: the share of them that may call a model poisoned.
    ``penalty``: weight of what exceeds the judge's limits, in the loss. ``honest_part``: whether
    what honest agents add in a round is thought of.

    Raises
    ------
    ValueError
        If ``jury`` is below 1, ``rejected`` not in [0, 1] or ``penalty`` below 0.
    """
    if jury < 1 or not 0 <= rejected <= 1 or penalty < 0:
        raise ValueError(
            "attack 'evasive' needs jury >= 1, rejected 0 to 1 and penalty >= 0, not "
            f"{jury}, {rejected} and {penalty}"
        )

    def make(backdoor: BackdoorConfig, weights: Vector, context: RoundContext) -> Injection | None:
        plain = attackers_model(attack, backdoor, weights, context) - weights
        if backdoor.judge is None or not context.history:
            return Injection(plain, 1.0)
        held = _held(attack, backdoor)
        places = imagined(held.y, jury, attack.task.classes, context)
        accepted = _profiles(attack, held, places, list(context.history))
        allowed = allowances(backdoor.judge, accepted, len(held.y))
        injections = [Injection(np.float32(rung) * plain, rung) for rung in RUNGS]
        for way in _ways(attack, held, places, weights, accepted[:, -1], allowed):
            step = _trained(attack, backdoor, held, weights, way, penalty, context) - weights
            injections += [
                Injection(np.float32(strength) * step, strength) for strength in STRENGTHS
            ]
        usual = _honest_part(backdoor, context) if honest_part else np.float32(0)
        models = [weights + injection.step for injection in injections]
        candidates = _profiles(attack, held, places, [model + usual for model in models])
        passing = votes(backdoor.judge, accepted, candidates) <= rejected
        won = [_success(attack, held, model) for model in models]
        best = int(np.argmax(np.where(passing, won, -1)))
        return injections[best] if passing[best] and won[best] > 0 else None

    return injecting(attack, make)


def imagined(labels: Classes, jury: int, classes: int, context: RoundContext) -> Places:
    """Return which of the samples (s,) each of so many imagined validators holds.

    Its class mix is drawn uniformly from all mixes; where too few samples of a class are there, it
    holds these.
    """
    rng = stream(context.seed, Purpose.MOCK_VALIDATORS, context.round)
    there = [place for c in range(classes) if len(place := np.flatnonzero(labels == c))]
    result = []
    for _ in range(jury):
        wanted = rng.multinomial(len(labels), rng.dirichlet(np.ones(len(there))))
        parts = [rng.permutation(place)[:n] for place, n in zip(there, wanted, strict=True)]
        result.append(np.sort(np.concatenate(parts)))
    return result


def allowances(judge: Judge, accepted: Histories, most: int) -> Histories:
    """Return by how many each kind of error can rise alone before a judge says poisoned, (m, p).

    ``accepted``: (m, l+1, p), what m validators have found in the accepted models. At most
    ``most``. All are looked for at once, by bisection.
    """
    validators, _, kinds = accepted.shape
    histories = np.repeat(accepted, kinds, axis=0)
    alone = np.tile(np.eye(kinds, dtype=np.int64), (validators, 1))
    passes, fails = (np.full(validators * kinds, n, np.int64) for n in (0, most + 1))
    while (fails - passes > 1).any():
        middle = (passes + fails) // 2
        rise = alone * middle[:, np.newaxis]
        poisoned = judge(histories, histories[:, -1] + rise).poisoned
        fails = np.where(poisoned, middle, fails)
        passes = np.where(poisoned, passes, middle)
    return passes.reshape(validators, kinds)


def votes(judge: Judge, accepted: Histories, candidates: Histories) -> npt.NDArray[np.float64]:
    """Return the share of imagined validators that call each candidate poisoned, (c,).

    ``accepted``: (m, l+1, p) of the validators; ``candidates``: (m, c, p).
    """
    verdicts = [
        judge(np.broadcast_to(past, (len(new), *past.shape)), new).poisoned
        for past, new in zip(accepted, candidates, strict=True)
    ]
    return np.asarray(np.mean(verdicts, axis=0), np.float64)


def probabilities(outputs: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of the classes, of outputs (s, C); one output is class 1's."""
    if outputs.shape[1] == 1:
        outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    return F.softmax(outputs, dim=1)


def soft_profile(
    found: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the error profile (2C,) of probabilities (s, C) for labels (s,); it has a gradient.

    An answer is an error as far as it is not sure of the label. ``counts`` (s,): how many samples
    each stands for; None: one. Of sure answers it is ``error_profile``.
    """
    own = F.one_hot(labels, found.shape[1]).to(found.dtype)
    each = found.new_ones(len(found)) if counts is None else counts
    source = each @ (own * (1 - found))
    target = each @ ((1 - own) * found)
    return torch.cat([source, target])


class _Way(NamedTuple):
    """A way to train."""

    flipped: int
    """How many of the poisoned samples are to become the target, those nearest to it first."""
    limit: Profile
    """(2C,): the errors of a typical validator that are not punished."""


def _held(attack: AttackContext, backdoor: BackdoorConfig) -> Held:
    x, y = attack.data.x[backdoor.pool], attack.data.y[backdoor.pool].numpy()
    poisoned = torch.from_numpy(backdoor.backdoor.poison(x.numpy(), y)[0])
    return Held(x, y, poisoned, backdoor.backdoor.clean(y), backdoor.backdoor.target)


def _profiles(attack: AttackContext, held: Held, places: Places, models: list[Vector]) -> Histories:
    """Return what each imagined validator counts of models (d,): (m, models, 2C)."""
    answers = np.stack([predict(attack.model, model, held.x, attack.task) for model in models])
    return np.stack([attack.task.profile(answers[:, own], held.y[own]) for own in places])


def _success(attack: AttackContext, held: Held, model: Vector) -> float:
    """Return the share of the attackers' own poisoned samples that a model calls the target."""
    answers = predict(attack.model, model, held.poisoned, attack.task)
    return float(np.mean(answers == held.target))


def _honest_part(backdoor: BackdoorConfig, context: RoundContext) -> Vector:
    """Return what the others are expected to add (d,): their share of a usual step."""
    history, attackers = context.history, context.attackers or backdoor.attackers
    usual = (history[-1] - history[0]) / np.float32(max(1, len(history) - 1))
    return usual * np.float32(1 - attackers / max(attackers, context.contributors))


def _ways(
    attack: AttackContext,
    held: Held,
    places: Places,
    weights: Vector,
    now: Histories,
    allowed: Histories,
) -> Iterator[_Way]:
    """Yield ways to train: parts of the poisoned samples, and what the median validator allows.

    ``now``, ``allowed``: (m, 2C), the errors of the imagined validators and how many more pass.
    """
    mistaken = np.array([(~held.clean[own]).sum() for own in places])
    target = allowed[:, allowed.shape[1] // 2 + held.target]
    if mistaken.any():  # errors of what is to be mistaken, and of what is called the target
        sources = np.unique(held.y[~held.clean])
        rise = np.minimum(allowed[:, sources].sum(axis=1), target)
        passing = float(np.median(rise[mistaken > 0] / mistaken[mistaken > 0]))
    else:  # a trigger, of which validators see nothing
        passing = 1.0
    share = passing + _success(attack, held, weights)
    usual, more = np.median(now, axis=0), np.median(allowed, axis=0)
    for reach in REACHES:
        flipped = int(np.ceil(min(1.0, reach * share) * len(held.poisoned)))
        yield _Way(max(1, flipped), np.ceil(usual + reach * more).astype(np.int64))


class _Lesson(NamedTuple):
    """What a model is trained on, in one way."""

    x: torch.Tensor
    """(s, ...): what the attackers hold; then (p, ...): what of it is poisoned."""
    wanted: torch.Tensor
    """(s + p, C): the probabilities that it is to answer."""
    weights: torch.Tensor
    """(s + p,): how much each of these counts; the sum is about 1."""
    y: torch.Tensor
    """(s,): the labels of what they hold."""
    counts: torch.Tensor
    """(s,): how many samples of a typical validator, who holds all classes alike, each is like."""
    limit: torch.Tensor
    """(2C,): the errors of such a validator that are not punished."""


def _lesson(attack: AttackContext, held: Held, way: _Way) -> _Lesson:
    """Make a lesson of what G, which is in the model, answers, but for those that are flipped."""
    model, classes = attack.model, attack.task.classes
    device = device_of(model)
    x = torch.cat([held.x, held.poisoned]).to(device)
    y, clean = torch.from_numpy(held.y).to(device), torch.from_numpy(held.clean).to(device)
    with torch.no_grad():
        wanted = probabilities(model(x))
    poisoned = wanted[len(y) :]
    near = poisoned[:, held.target] / poisoned.max(dim=1).values
    flips = near.argsort(descending=True, stable=True)[: way.flipped]
    poisoned[flips] = F.one_hot(torch.tensor(held.target, device=device), classes).to(wanted.dtype)
    frequent = torch.bincount(y, minlength=classes)
    a_class = len(y) / (frequent > 0).sum()
    counts = (a_class / frequent.clamp(min=1))[y].to(wanted.dtype)
    of_poisoned = torch.full((len(poisoned),), float(a_class) / len(poisoned), device=device)
    of_poisoned[flips] *= EMPHASIS
    weights = torch.cat([counts * clean, of_poisoned]) / len(y)
    limit = torch.from_numpy(way.limit).to(device, wanted.dtype)
    return _Lesson(x, wanted, weights, y, counts, limit)


def _loss(model: nn.Module, lesson: _Lesson, penalty: float) -> torch.Tensor:
    """Return how far answers are from what is wanted, and errors beyond what passes, ()."""
    found = probabilities(model(lesson.x))
    wanted, logs = lesson.wanted, found.clamp(min=1e-12).log()
    apart = (torch.special.xlogy(wanted, wanted) - wanted * logs).sum(dim=1)
    errors = soft_profile(found[: len(lesson.y)], lesson.y, lesson.counts)
    excess = F.relu(errors - lesson.limit) / (lesson.limit.sqrt() + 1)
    loss: torch.Tensor = (apart * lesson.weights).sum() + penalty * excess.square().sum()
    return loss


def _trained(
    attack: AttackContext,
    backdoor: BackdoorConfig,
    held: Held,
    weights: Vector,
    way: _Way,
    penalty: float,
    context: RoundContext,
) -> Vector:
    """Train a model (d,) from G by one way: gradient descent on all samples at once."""
    model = attack.model
    load(model, weights)
    model.eval()
    lesson = _lesson(attack, held, way)
    optimizer = torch.optim.SGD(trained(model), backdoor.learning_rate / 2, MOMENTUM)
    begin_training(model)
    with torch_stream(context.seed, Purpose.BACKDOOR_DRAWS, context.round):
        for _ in range(STEPS):
            optimizer.zero_grad()
            _loss(model, lesson, penalty).backward()
            optimizer.step()
    model.eval()
    return flatten(model)
