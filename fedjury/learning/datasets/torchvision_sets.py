"""The public sets that torchvision knows: downloaded on first use, kept under ``root``.

Files that somebody put there by hand are found in any usual form (``local_files``). All sets keep
their own test split and their original order, so published indices hold.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import socket
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjury.learning.datasets import local_files
from fedjury.learning.datasets.dataset import Dataset, DatasetUnavailable, Images, scaled
from fedjury.learning.datasets.local_files import Files, idx
from fedjury.registry import dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Build = Callable[..., Any]
    Fetch = Callable[[Build, Path], None]

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the set's four .gz files."""

TIMEOUT = 10.0
"""Seconds of silence after which a download is given up."""


CIFAR10 = ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@dataset
def mnist(root: Path, _test: int, _seed: int) -> Dataset:
    """Load MNIST: 60,000 and 10,000 digits, 28x28."""
    return _load("mnist", "MNIST", 10, root, Files("MNIST/raw", idx("train", "t10k")))


@dataset(name="fashion-mnist")
def fashion_mnist(root: Path, _test: int, _seed: int) -> Dataset:
    """Load Fashion-MNIST: 60,000 and 10,000 pieces of clothing, 28x28."""
    fetch = _unzip_debian if DEBIAN_FASHION.is_dir() else _download
    files = Files("FashionMNIST/raw", idx("train", "t10k"))
    return _load("fashion-mnist", "FashionMNIST", 10, root, files, fetch)


@dataset
def cifar10(root: Path, _test: int, _seed: int) -> Dataset:
    """Load CIFAR-10: 50,000 and 10,000 photographs, 3x32x32."""
    files = Files("cifar-10-batches-py", CIFAR10, ("cifar-10-python.tar.gz",), ("cifar10",))
    return _load("cifar10", "CIFAR10", 10, root, files)


@dataset
def emnist(root: Path, _test: int, _seed: int) -> Dataset:
    """Load EMNIST, split "balanced": 112,800 and 18,800 characters of 47 classes, 28x28."""
    return _load("emnist", "EMNIST", 47, root, _emnist("balanced"), split="balanced")


@dataset
def femnist(root: Path, _test: int, _seed: int) -> Dataset:
    """Load EMNIST, split "byclass", FEMNIST's source: 697,932 and 116,323 of 62 classes, 28x28.

    Takes 2.6 GB of memory. EMNIST does not say who wrote what, so writers cannot be agents.
    """
    return _load("femnist", "EMNIST", 62, root, _emnist("byclass"), split="byclass")


def _emnist(split: str) -> Files:
    names = idx(f"emnist-{split}-train", f"emnist-{split}-test")
    return Files("EMNIST/raw", names, ("gzip.zip", "emnist-gzip.zip"), ("femnist",))


def _load(
    name: str,
    kind: str,
    classes: int,
    root: Path,
    files: Files,
    fetch: Fetch | None = None,
    **options: str,
) -> Dataset:
    try:
        from fedjury.learning.datasets.torchvision_shim import torchvision_datasets  # noqa: PLC0415 - torch

        build = partial(getattr(torchvision_datasets(), kind), **options)
        train, test = _both(build, root, files, fetch or _download)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DatasetUnavailable(name, reason[-1]) from error
    y_train, y_test = (np.asarray(part.targets, dtype=np.int64) for part in (train, test))
    for part, labels in ((train, y_train), (test, y_test)):
        if len(part.data) != len(labels):
            raise DatasetUnavailable(
                name,
                f"{root / files.folder} holds {len(part.data):,} images and {len(labels):,} "
                "labels of one part",
            )
    # EMNIST's images are stored on their side.
    x_train, x_test = (_images(part.data, upright=kind != "EMNIST") for part in (train, test))
    return Dataset(name, classes, x_train, y_train, x_test, y_test)


def _both(build: Build, root: Path, files: Files, fetch: Fetch) -> tuple[Any, Any]:
    """Open the training and the test part, after taking or fetching the files that are not there.

    Raises
    ------
    OSError
        If they cannot be had; it says which are missing, and where to put them.
    """
    complaints = []
    if local_files.lacking(root, files):
        with _staged(root) as fresh:
            complaints = local_files.carry_in(root, files, fresh)
    try:
        return build(root, train=True), build(root, train=False)
    except RuntimeError:  # torchvision's word for missing and for damaged files
        try:
            fetch(build, root)
        except Exception as why:
            reason = str(why).strip().splitlines() or [type(why).__name__]
            told = [reason[-1], *complaints, local_files.advice(root, files)]
            raise OSError("; ".join(filter(None, told))) from why
    return build(root, train=True), build(root, train=False)


def _images(data: Any, *, upright: bool) -> Images:
    images: npt.NDArray[np.uint8] = np.asarray(data)
    if images.ndim == 4:
        return scaled(images.transpose(0, 3, 1, 2))
    return scaled(images if upright else images.transpose(0, 2, 1))[:, None]


def _download(build: Build, root: Path) -> None:
    """Let torchvision download, without its progress bar and without waiting for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with _staged(root) as fresh, contextlib.redirect_stderr(io.StringIO()):
            build(fresh, download=True)
    finally:
        socket.setdefaulttimeout(before)


def _unzip_debian(_build: Build, root: Path) -> None:
    """Unzip Debian's copy: the same images, but not the checksums that torchvision expects."""
    with _staged(root) as fresh:
        raw = fresh / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for packed in sorted(DEBIAN_FASHION.glob("*.gz")):
            with gzip.open(packed) as source, (raw / packed.stem).open("wb") as target:
                shutil.copyfileobj(source, target)


@contextlib.contextmanager
def _staged(root: Path) -> Iterator[Path]:
    """Give a fresh folder whose files move into ``root`` if the block ends well.

    So several processes may fetch at once, and one that is stopped half-way leaves no half-written
    file that torchvision would take for a whole one. Archives are left behind: nothing reads them.
    """
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".fetching-") as folder:
        fresh = Path(folder)
        yield fresh
        for file in sorted(fresh.rglob("*")):
            if file.is_file() and file.suffix not in {".gz", ".zip"}:
                target = root / file.relative_to(fresh)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
