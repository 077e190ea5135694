"""Data sets by name, and how they are dealt to agents (``fedjury.learning.datasets.split``).

Every loader gives images (N, C, H, W) float32 with pixels in [0, 1] and no further normalisation.
Heavy packages are imported only by the loader that needs them. A new set is one file here, or a
function anywhere (``registry``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedjury import registry
from fedjury.learning.datasets import npz
from fedjury.learning.datasets.dataset import Dataset, DatasetUnavailable
from fedjury.registry import Registry, unknown

__all__ = ["DATASETS", "Dataset", "DatasetUnavailable", "Loader", "load"]

Loader = Callable[[Path, int, int], Dataset]
"""(folder for downloads, samples to hold out, seed) -> data set."""

DATASETS: Registry[Dataset] = registry.DATASETS


def load(name: str, root: Path, test: int = 1000, seed: int = 0) -> Dataset:
    """Load a data set by its name, or from a path that ends in ``.npz``.

    ``root`` is where downloads are kept. ``test`` and ``seed`` say how many samples are held out,
    and which, for the sets without a test split of their own (mnist5k, digits); the others keep
    theirs whole.

    Raises
    ------
    DatasetUnavailable
        If the set cannot be had here, for one because there is no internet.
    ValueError
        If the name is unknown, ``test`` is out of range, or the file is malformed.
    """
    if name.endswith(".npz"):
        return npz.load(Path(name))
    if name not in DATASETS and ":" not in name:
        raise unknown("data set", name, [*DATASETS, "a path ending in .npz", "package.module:name"])
    return DATASETS.build(name, root, test, seed)
