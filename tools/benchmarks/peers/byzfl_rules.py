"""Coordinate-wise median and trimmed mean of 1,000 updates of W1's size: ByzFL's beside ours.

Every rule gets the same float32 matrix; ByzFL takes NumPy and PyTorch, so it is timed with both.
PyTorch may use all cores, NumPy uses one. ``torch.median`` stands for what one would write
without any library; of two middle values it takes the lower, hence the difference.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fedjury import rules
from fedjury.learning.datasets.torchvision_shim import torchvision_datasets
from fedjury.randomness import Purpose, stream

torchvision_datasets()  # or importing byzfl fails where torchvision cannot load its operators

import byzfl

UPDATES, SIZE, TRIMMED, REPEATS = 1000, 13_106, 200, 5


def main() -> None:
    """Time all and print one line of JSON."""
    x = stream(0, Purpose.BENCHMARK).standard_normal((UPDATES, SIZE), dtype=np.float32)
    samples, t = np.ones(UPDATES, dtype=np.int64), torch.from_numpy(x)
    median, trimmed = rules.build("median"), rules.build("trimmed_mean", count=TRIMMED)
    context = rules.Context()
    rows = {
        "median": {
            "ours": lambda: median(x, samples, context),
            "ByzFL, NumPy": lambda: byzfl.Median()(x),
            "ByzFL, PyTorch": lambda: byzfl.Median()(t),
            "torch.median": lambda: t.median(0).values,
        },
        "trimmed mean": {
            "ours": lambda: trimmed(x, samples, context),
            "ByzFL, NumPy": lambda: byzfl.TrMean(TRIMMED)(x),
            "ByzFL, PyTorch": lambda: byzfl.TrMean(TRIMMED)(t),
        },
    }
    print("@rules", json.dumps([row for name, by in rows.items() for row in timed(name, by)]))


def timed(name: str, by: dict[str, Callable[[], Any]]) -> list[dict[str, Any]]:
    """Time one rule by everybody who has it, after one call that is left out."""
    right = by["ours"]()
    rows: list[dict[str, Any]] = []
    for agent, rule in by.items():
        off = float(np.abs(np.asarray(rule()) - right).max())
        rows.append({"rule": name, "by": agent, "seconds": [], "off": off})
    for _ in range(REPEATS):
        for row in rows:  # in turn, so that noise of the machine meets all of them
            start = time.perf_counter()
            by[row["by"]]()
            row["seconds"].append(time.perf_counter() - start)
    return rows


if __name__ == "__main__":
    main()
