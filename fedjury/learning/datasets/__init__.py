"""Data sets by name, and how they are dealt to agents (``fedjury.learning.datasets.split``).

Every loader gives images (N, C, H, W) float32 with pixels in [0, 1] and no further normalisation.
Heavy packages are imported only by the loader that needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedjury.learning import tables
from fedjury.learning.datasets import digits, mnist5k, npz, torchvision_sets
from fedjury.learning.datasets.dataset import Dataset, DatasetUnavailable

__all__ = ["DATASETS", "Dataset", "DatasetUnavailable", "Loader", "load"]

Loader = Callable[[Path, int, int], Dataset]
"""(folder for downloads, samples to hold out, seed) -> data set."""

DATASETS: dict[str, Loader] = {
    "mnist5k": mnist5k.load,
    "digits": digits.load,
    "mnist": torchvision_sets.mnist,
    "fashion-mnist": torchvision_sets.fashion_mnist,
    "cifar10": torchvision_sets.cifar10,
    "emnist": torchvision_sets.emnist,
    "femnist": torchvision_sets.femnist,
}


def load(name: str, root: Path, test: int = 1000, seed: int = 0) -> Dataset:
    """Load a data set by its name in the table, or from a path that ends in ``.npz``.

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
    if name not in DATASETS:
        raise tables.unknown("data set", name, [*DATASETS, "a path ending in .npz"])
    return DATASETS[name](root, test, seed)
