"""Training of agents who hold unequal numbers of samples: together, and each as if alone."""

from __future__ import annotations

from functools import partial

import torch

from fedjury.learning.batched import Step
from fedjury.learning.descent import Descend, pick
from fedjury.learning.shards import Shards, Steps

FEWEST = 2
"""Agents that take a step of their own together at the least: the products of one alone are added
up in another order."""


def train_unequal(
    descend: Descend,
    start: torch.Tensor,
    data: Shards,
    steps: Steps,
    rate: float,
    momentum: float,
    change: torch.Tensor,
) -> None:
    """Train m agents from ``start`` (d,), and write their deltas into ``change`` (m, d).

    ``steps``: what they take, those with most first. The first step, in which all have the same
    weights, writes their deltas; for most agents that is all.

    Agents take their t-th steps together, on batches that are all as long, in which what an agent
    lacks counts nothing. Who has taken its last step leaves, and so the last in the row; the one
    with most steps ends beside a copy of itself (``FEWEST``).
    """
    there = int((steps.counts > 0).sum())
    change[there:] = 0
    if not there:
        return
    numbers, shares = steps.at(0, slice(there))
    x, y = pick(data, numbers, start.device)
    first = Step(change[:there], rate, 0.0)
    descend(start.unsqueeze(0), x, y, first, shares.to(start.device))
    more = int((steps.counts > 1).sum())
    if not more:
        return
    params = change[:more]
    into = params.clone() if momentum else params
    params.add_(start)
    together = int(steps.counts[FEWEST - 1]) if there >= FEWEST else 1
    take = partial(_later_steps, descend, data, rate, momentum)
    take(params, into, steps, range(1, together))
    if left := range(together, int(steps.counts[0])):
        beside = params[:1].repeat(FEWEST, 1)
        moving = into[:1].repeat(FEWEST, 1) if momentum else beside
        take(beside, moving, steps.alike(FEWEST), left)
        params[0] = beside[0]
    params.sub_(start)


def _later_steps(
    descend: Descend,
    data: Shards,
    rate: float,
    momentum: float,
    params: torch.Tensor,
    into: torch.Tensor,
    steps: Steps,
    times: range,
) -> None:
    """Take the steps of these ``times`` with the weights (m, d) of agents, those with most first.

    ``into`` (m, d): their last steps, as momentum keeps them; without it ``params`` itself.
    """
    keep = momentum or 1.0  # without momentum the step goes straight into the weights
    for t in times:
        there = int((steps.counts > t).sum())
        numbers, shares = steps.at(t, slice(there))
        now, step = params[:there], Step(into[:there], rate, keep)
        x, y = pick(data, numbers, params.device)
        descend(now, x, y, step, shares.to(params.device))
        if momentum:
            now.add_(step.into)
