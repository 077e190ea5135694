"""How this machine computes, as one SHA-256: machines with the same one share golden models.

It is of the results of the kinds of operations that a federation is made of, on fixed input and
in shapes like those of the scenarios. Sums in another order, another approximation of ``exp``,
or another library of matrix products changes it. Run it as a program: what a process computed
before, and how many threads it was given, may play a part.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional

AGENTS = (2, 10, 18, 20, 30, 32, 36, 40)
"""Agents that train in one batch."""

LAYERS = ((64, 32), (32, 10), (144, 120), (120, 84))
"""Inputs and units of layers."""

PARAMETERS = (2410, 13106)
"""Weights of the models."""


def training(generator: np.random.Generator) -> Iterator[torch.Tensor]:
    """Yield results of torch's operations that train and evaluate."""

    def some(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.random(shape, np.float32) - 0.5)

    for inputs, units in LAYERS:
        for agents in AGENTS:
            x, w, gradient = (
                some(agents, 4, inputs),
                some(agents, units, inputs),
                some(agents, 4, units),
            )
            yield torch.bmm(x, w.mT)
            yield w.clone().baddbmm_(gradient.mT, x, beta=0.5, alpha=-0.1)
            yield torch.bmm(gradient, w)
            yield torch.matmul(x.flatten(0, 1), w[0].mT)
            yield gradient.sum(1)
            yield torch.einsum("mni,mui->mnu", x, w)
        yield some(300, inputs) @ some(inputs, units)
    for rows in (4, 160, 1000):
        logits = some(rows, 10) * 20
        yield from (logits.exp(), logits.softmax(1), logits.log_softmax(1), logits.sum(0))
    image, filters = some(16, 1, 28, 28), some(6, 1, 5, 5)
    yield functional.max_pool2d(functional.conv2d(image, filters), 2)
    torch.manual_seed(0)
    yield torch.nn.init.xavier_uniform_(torch.empty(32, 64))
    for size in PARAMETERS:
        updates = some(40, size)
        yield from (updates.norm(dim=1), updates.mean(0), updates.median(0)[0], updates.std(0))


def aggregating(generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield results of NumPy's operations that aggregate, detect and judge."""
    yield generator.standard_normal(1000)
    yield generator.permutation(1000)
    yield generator.dirichlet(np.full(10, 0.5), 40)
    for size in PARAMETERS:
        for agents in AGENTS:
            updates = generator.random((agents, size), np.float32) - np.float32(0.5)
            weights = generator.random(agents, np.float32)
            yield updates @ updates.T
            yield weights @ updates
            yield np.linalg.norm(updates, axis=1)
            yield np.einsum("ij,ij->i", updates, updates)
            yield from (updates.sum(0), updates.mean(0), updates.sum(0, dtype=np.float64))
            yield from (updates.std(0), np.median(updates, 0), np.sort(updates, 0))
            yield from (np.argsort(updates[0]), np.exp(updates[0]), np.sqrt(np.abs(updates[0])))
    square = generator.random((20, 20))
    yield from (np.linalg.svd(square)[1], np.linalg.eigvalsh(square @ square.T), np.log(square))


def fingerprint() -> str:
    """Return the SHA-256 of all these results, with one thread and with as many as are used.

    The aggregator takes half of the cores (``OMP_NUM_THREADS`` does not bind it).
    """
    total = hashlib.sha256()
    for threads in (1, max(1, (os.cpu_count() or 1) // 2)):
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            for result in training(np.random.default_rng(17)):
                total.update(result.contiguous().numpy().tobytes())
            for array in aggregating(np.random.default_rng(18)):
                total.update(array.tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    print(fingerprint())
