"""Who holds which samples, and in what order and what batches each visits its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fedjury.randomness import Purpose, keys


class Shards(NamedTuple):
    """The data of m agents: ``x`` (N, C, H, W) and ``y`` (N,), and who holds which samples.

    Agent i holds the samples ``indices[i]``; ``indices`` is (m, s) int64. Where agents hold unequal
    numbers, ``held`` (m,) int64 says how many of its row each holds.
    """

    x: torch.Tensor
    y: torch.Tensor
    indices: torch.Tensor
    held: torch.Tensor | None = None

    def of(self, rows: torch.Tensor | slice) -> Shards:
        """Return the data of these agents."""
        held = None if self.held is None else self.held[rows]
        return self._replace(indices=self.indices[rows], held=held)

    @property
    def counts(self) -> torch.Tensor:
        """How many samples each agent holds, (m,) int64."""
        m, s = self.indices.shape
        return torch.full((m,), s) if self.held is None else self.held


def unequal(held: npt.NDArray[np.int64], rows: Sequence[int]) -> torch.Tensor | None:
    """Return what ``Shards.held`` is for some of many agents (n,); None if all hold as many."""
    return torch.from_numpy(held[rows]) if len(held) and np.ptp(held) else None


Counts = npt.NDArray[np.int64]
"""(m,): how many samples each agent holds."""

Orders = npt.NDArray[np.int64]
"""(m, epochs, s): the order in which each agent visits its s samples in each epoch."""


def sample_order(
    seed: int,
    round_number: int,
    members: Sequence[int],
    epochs: int,
    samples: int | Counts,
    purpose: Purpose = Purpose.SAMPLE_ORDER,
) -> Orders:
    """Draw the visiting orders (m, epochs, s) of members from (seed, round, member) alone.

    Samples are sorted by random keys. ``samples``: how many all hold, or each, (m,); then s is the
    most that one holds, and what is beyond an agent's own samples is to be passed over.
    """
    if isinstance(samples, int):
        drawn = keys(seed, purpose, round_number, members, epochs * samples)
        return drawn.reshape(-1, epochs, samples).argsort(axis=2, kind="stable")
    width = int(samples.max())
    drawn = keys(seed, purpose, round_number, members, epochs * width)
    held, place = samples[:, np.newaxis, np.newaxis], np.arange(width)
    places = np.arange(epochs)[:, np.newaxis] * held + place
    sorting = np.take_along_axis(drawn[:, np.newaxis], places, axis=2)
    sorting[np.broadcast_to(place >= held, sorting.shape)] = np.iinfo(np.uint64).max
    return sorting.argsort(axis=2, kind="stable")


def batches(order: torch.Tensor, size: int, least: int = 1) -> list[torch.Tensor]:
    """Cut sample numbers (..., s) into batches (..., b), the last of which may be short.

    With ``least`` 2 a last one of a single sample is put to the one before.
    """
    parts = list(order.split(size, dim=-1))
    if len(parts) > 1 and parts[-1].shape[-1] < least:
        parts[-2:] = [torch.cat(parts[-2:], dim=-1)]
    return parts


class Steps(NamedTuple):
    """The batches of all steps of m agents, agent after agent: S steps together."""

    numbers: torch.Tensor
    """(S, b) int64: sample numbers; a short batch is filled up with others of the agent."""
    shares: torch.Tensor
    """(S, b): what each sample counts in its batch: equal shares, 0 for what fills it up."""
    first: torch.Tensor
    """(m,): where each agent's steps begin."""
    counts: torch.Tensor
    """(m,): how many steps each takes; 0: it holds no sample."""

    def at(self, t: int, agents: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return numbers and shares (k, b) of the t-th steps of k agents who take so many."""
        rows = self.first[agents] + t
        return self.numbers[rows], self.shares[rows]

    def alike(self, m: int) -> Steps:
        """Return the steps of m agents who all take those of the first."""
        return self._replace(first=self.first[:1].expand(m), counts=self.counts[:1].expand(m))


def steps_of(data: Shards, epochs: int, batch_size: int, order: Orders) -> Steps:
    """Cut the samples of m agents, in the ``order`` (m, epochs, s), into the batches of all steps.

    Only what there is takes memory: one agent with many samples costs the others nothing.
    """
    size = min(batch_size, data.indices.shape[1])
    held, drawn = data.counts, torch.from_numpy(order)
    per_epoch = (held + batch_size - 1) // batch_size
    counts = epochs * per_epoch
    first = counts.cumsum(0) - counts
    agent = torch.arange(len(held)).repeat_interleave(counts)
    t = torch.arange(len(agent)) - first[agent]
    epoch, step = t // per_epoch[agent], t % per_epoch[agent]
    place = (step * batch_size)[:, None] + torch.arange(size)
    there = place < held[agent, None]
    place = torch.minimum(place, held[agent, None] - 1)
    visits = drawn[drawn < held[:, None, None]]  # of each agent, epoch after epoch
    begins = epochs * (held.cumsum(0) - held)
    visited = visits[(begins[agent] + epoch * held[agent])[:, None] + place]
    numbers = data.indices[agent[:, None], visited]
    return Steps(numbers, there / there.sum(1, keepdim=True), first, counts)
