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


Orders = npt.NDArray[np.int64]
"""(m, epochs, s): the order in which each agent visits its s samples in each epoch."""


def sample_order(
    seed: int,
    round_number: int,
    members: Sequence[int],
    epochs: int,
    samples: int,
    purpose: Purpose = Purpose.SAMPLE_ORDER,
) -> Orders:
    """Draw the visiting orders (m, epochs, s) of members from (seed, round, member) alone.

    Samples are sorted by random keys.
    """
    drawn = keys(seed, purpose, round_number, members, epochs * samples)
    return drawn.reshape(-1, epochs, samples).argsort(axis=2, kind="stable")


def batches(order: torch.Tensor, size: int, least: int = 1) -> list[torch.Tensor]:
    """Cut sample numbers (..., s) into batches (..., b), the last of which may be short.

    With ``least`` 2 a last one of a single sample is put to the one before.
    """
    parts = list(order.split(size, dim=-1))
    if len(parts) > 1 and parts[-1].shape[-1] < least:
        parts[-2:] = [torch.cat(parts[-2:], dim=-1)]
    return parts


def steps_of(
    data: Shards, epochs: int, batch_size: int, order: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the samples of m agents, in the ``order`` (m, epochs, s), into the batches of all steps.

    Returns sample numbers (m, steps, b) and each one's share in its batch: equal ones that add up
    to 1, 0 for what fills a short batch up, or comes after an agent's last step.
    """
    held, size = data.counts[:, None, None], min(batch_size, order.shape[2])
    later = (order >= held).to(torch.int8)  # what is no sample of the agent is visited last
    visits = order.gather(2, later.argsort(dim=2, stable=True))
    a_pass = (held + size - 1) // size
    step = torch.arange(epochs * int(a_pass.max()))[None, :, None]
    place = step % a_pass * size + torch.arange(size)
    counts = (place < held) & (step < epochs * a_pass)
    epoch = (step // a_pass).clamp(max=epochs - 1).expand_as(place)
    flat = epoch * order.shape[2] + torch.minimum(place, held - 1)
    visited = visits.flatten(1).gather(1, flat.flatten(1))
    numbers = data.indices.gather(1, visited).view(place.shape)
    return numbers, counts / counts.sum(2, keepdim=True).clamp(min=1)
