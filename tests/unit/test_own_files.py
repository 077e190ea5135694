"""Data of the user's own: tables and arrays of any kind, and what can be wrong with them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support.federation import settings_of

from fedjury.learning.datasets import DatasetUnavailable, OwnFile, load
from fedjury.learning.datasets.own_file import samples
from fedjury.learning.partition import partition, partition_spec_of

PRICE = OwnFile("price")

GOOD = "pressure,flow,price\n1.5,2,10.5\n-3,4e2,20\n0,0,0\n"


def written(folder, text, name="mine.csv"):
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def said(folder, text, how=PRICE):
    """Return what is said of a table that cannot be."""
    with pytest.raises(ValueError) as caught:
        samples(written(folder, text), how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_table_is_numbers_and_a_target(tmp_path):
    """All columns but the target are learnt from; a decimal point among targets makes numbers."""
    found = samples(written(tmp_path, GOOD), OwnFile("price"))
    np.testing.assert_array_equal(found.x, np.float32([[1.5, 2], [-3, 400], [0, 0]]))
    np.testing.assert_array_equal(found.y, np.float32([10.5, 20, 0]))
    assert (found.x.dtype, found.y.dtype) == (np.float32, np.float32)


def test_whole_numbers_are_classes_unless_said_otherwise(tmp_path):
    path = written(tmp_path, GOOD.replace("10.5", "10"))
    assert samples(path, OwnFile("price")).y.dtype == np.int64
    assert samples(path, OwnFile("price", learn="numbers")).y.dtype == np.float32
    floats = written(tmp_path, GOOD.replace("10.5", "10.0"), "floats.csv")
    assert samples(floats, OwnFile("price", learn="classes")).y.tolist() == [10, 20, 0]


def test_columns_can_be_chosen(tmp_path):
    """In the order that is asked for; a column of names then does no harm."""
    text = "id,flow,kind,price\na-1,1,x,0\nb-7,2,y,1\n"
    found = samples(written(tmp_path, text), OwnFile("price", ["flow"]))
    np.testing.assert_array_equal(found.x, [[1], [2]])


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_of_other_programs(tmp_path, mark):
    """Semicolons and tabs, a byte order mark, quotes, blanks, empty lines, Windows' line ends."""
    lines = ["\ufeffpressure, flow ,price", '"1.5", 2,1', "", "3,4,0", ""]
    text = "\r\n".join(lines).replace(",", mark)
    found = samples(written(tmp_path, text), OwnFile("price"))
    assert (found.x.tolist(), found.y.tolist()) == ([[1.5, 2], [3, 4]], [1, 0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("price", "prize"), "unknown column of {}: 'price'; did you mean 'prize'?"),
        (GOOD.replace("4e2", "fast"), "{}, line 3, column 'flow': 'fast' is no number; number"),
        (GOOD.replace("4e2", ""), "{}, line 3, column 'flow': nothing stands where a number"),
        (GOOD.replace("4e2", "NaN"), "{}, line 3, column 'flow': 'NaN' stands where a number"),
        (GOOD.replace("4e2", "4e200"), "{}, line 3, column 'flow': '4e200' stands where"),
        (GOOD.replace("20\n", "inf\n"), "{}, line 3, column 'price': 'inf' stands where"),
        (GOOD.replace("4e2,", ""), "{}, line 3: 2 fields, and the header has 3"),
        (GOOD.partition("\n")[2], "{} has no header: its first line is numbers"),
        (GOOD.replace("flow", "pressure"), "{} has two columns 'pressure'"),
        ("price\n1\n", "{} has no column but 'price'"),
        (GOOD.encode("utf-16"), "{} is no text in UTF-8"),
        ("a,price\n1,-1\n", "{}, column 'price' has a negative label: -1"),
        ("a,price\n1,90000\n", "{}, column 'price' has a label 90000, and there can be 10,000"),
    ],
)
def test_a_fault_of_a_table_is_a_sentence_with_line_and_column(tmp_path, text, sentence):
    assert said(tmp_path, text).startswith(sentence.format(tmp_path / "mine.csv"))


def test_the_column_to_be_learnt_must_be_named(tmp_path):
    assert "name it with --target (data.target): pressure, flow, price" in said(
        tmp_path, GOOD, OwnFile()
    )
    assert "cannot be learnt and learnt from" in said(tmp_path, GOOD, OwnFile("price", ["price"]))


@pytest.mark.parametrize("text", ["", "\n", "pressure,flow,price\n"])
def test_a_table_without_rows_is_a_device_without_samples(tmp_path, text):
    """That is no error for a device, which sits out; a fleet has nothing to deal."""
    path = written(tmp_path, text)
    found = samples(path, OwnFile("price"))
    assert (len(found.x), len(found.y)) == (0, 0)
    with pytest.raises(ValueError, match="has no samples: a data set needs two at least"):
        load(str(path), tmp_path, how=OwnFile("price"))


def test_a_table_of_one_row_is_no_data_set(tmp_path):
    path = written(tmp_path, "a,price\n1,2\n")
    assert len(samples(path, OwnFile("price")).y) == 1
    with pytest.raises(ValueError, match="has one sample: a data set needs two at least"):
        load(str(path), tmp_path, how=OwnFile("price"))


def rows(count, seed=0):
    """Make a table in which price = 2 pressure - flow."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, 2))
    lines = [f"{a:.6f},{b:.6f},{2 * a - b:.6f}" for a, b in x]
    return "\n".join(["pressure,flow,price", *lines])


def test_a_fleets_table_holds_samples_out_by_the_seed(tmp_path):
    """As many as are wanted, of few samples a fifth, which is said; none is lost."""
    path = str(written(tmp_path, rows(50)))
    data = load(path, tmp_path, 8, how=OwnFile("price"))
    assert (data.classes, data.shape, len(data.y_train), len(data.y_test)) == (0, (2,), 42, 8)
    assert len(np.unique(np.concatenate([data.y_train, data.y_test]))) == 50
    again = load(path, tmp_path, 8, 1, OwnFile("price"))
    assert not np.array_equal(data.y_test, again.y_test)
    few = load(path, tmp_path, 1000, how=OwnFile("price"))
    assert len(few.y_test) == 10
    assert few.notes == (f"{path}: of its 50 samples 10 are held out, not 1,000",)


@pytest.mark.parametrize("split", ["iid", "dirichlet", "groups"])
def test_numbers_are_dealt_by_the_bins_of_their_targets(tmp_path, split):
    """Splits by class work on numbers, too: a group has targets near each other."""
    path = str(written(tmp_path, rows(500)))
    data = load(path, tmp_path, 100, how=OwnFile("price"))
    changes = {"agents__split": split, "agents__n": 10, "agents__samples": 30}
    dealt = partition(partition_spec_of(settings_of(**changes, agents__degree=1.0)), data)
    spread = np.array([data.y_train[mine].std() for mine in dealt.agents])
    assert spread.mean() < 0.3 if split == "groups" else spread.mean() > 0.3


def test_a_backdoor_of_numbers_there_is_none(tmp_path):
    data = load(str(written(tmp_path, rows(50))), tmp_path, 8, how=OwnFile("price"))
    settings = settings_of(agents__attack="backdoor", agents__malicious=0.2)
    with pytest.raises(ValueError, match="backdoor 'label_flip' needs classes"):
        partition(partition_spec_of(settings), data)


# Arrays


def saved(folder, **arrays):
    """Write arrays, and return the file's path."""
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


@pytest.mark.parametrize(
    ("x", "raw", "shape", "kind"),
    [
        (np.full((6, 3), 7.5), False, (3,), np.float32),
        (np.full(6, -2.0), False, (1,), np.float32),
        (np.full((6, 20), 500, np.int32), False, (20,), np.int64),
        (np.full((6, 12, 5), 7.5), True, (12, 5), np.float32),
        (np.full((6, 2, 3, 4, 5), -1.0), False, (2, 3, 4, 5), np.float32),
        (np.full((6, 4, 5, 6), 3.0, np.float16), True, (4, 5, 6), np.float32),
    ],
)
def test_inputs_that_are_no_images_are_taken_as_they_are(tmp_path, x, raw, shape, kind):
    """Sensors, sequences, ids of words: any shape, no channel, nothing between 0 and 1."""
    found = samples(saved(tmp_path, x=x, y=np.arange(6) % 3), OwnFile(raw=raw))
    assert (found.x.shape[1:], found.x.dtype) == (shape, kind)
    np.testing.assert_array_equal(found.x.reshape(x.shape), x)


def test_images_of_a_device_are_read_like_those_of_a_fleet(tmp_path):
    """Bytes are divided, and a device may be given the whole set's file: it takes the x_train."""
    images = np.full((6, 5, 5), 255, np.uint8)
    found = samples(saved(tmp_path, x_train=images, y_train=np.arange(6), x_test=1, y_test=1))
    assert (found.x.shape, found.x.max(), found.y.tolist()) == ((6, 1, 5, 5), 1, [*range(6)])


def test_targets_in_floating_point_are_numbers(tmp_path):
    """Whatever is floating point throughout, also as one column; a fleet's file has no classes."""
    x, y = np.zeros((6, 3)), np.arange(6.0)[:, None]
    assert samples(saved(tmp_path, x=x, y=y)).y.tolist() == [0, 1, 2, 3, 4, 5]
    data = load(str(saved(tmp_path, x_train=x, y_train=y, x_test=x, y_test=y)), tmp_path)
    assert (data.classes, data.y_test.dtype) == (0, np.float32)
    counted = OwnFile(learn="numbers")
    whole = saved(tmp_path, x=x, y=np.arange(6))
    assert load(str(whole), tmp_path, 2, how=counted).classes == 0


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, "x has 3 inputs but y has 4 targets"),
        ({"x": np.array([[1.0], [np.nan]]), "y": [0, 1]}, "x has a value that is not finite"),
        ({"x": np.ones((2, 1)), "y": [0.5, np.inf]}, "y has a value that is not finite (NaN, inf"),
        ({"x": np.array([["a"], ["b"]]), "y": [0, 1]}, "x must be numbers, not <U1"),
        ({"x": np.full((2, 5, 5), 9.0), "y": [0, 1]}, "images, say so: data.raw = true, or --raw"),
        ({"x": np.ones((2, 5), np.uint8), "y": [0, 1]}, "images, say so: data.raw = true, or"),
        ({"x": np.ones((2, 3)), "y": np.ones((2, 2))}, "y must be (N,) numbers, not (2, 2)"),
        ({"x": np.ones((2, 3))}, "lacks x_train, y_train"),
    ],
)
def test_a_fault_of_arrays_is_a_sentence(tmp_path, arrays, sentence):
    with pytest.raises(ValueError) as caught:
        samples(saved(tmp_path, **arrays))
    assert sentence in str(caught.value)
    assert "mine.npz: " in str(caught.value)


def test_arrays_without_samples_are_a_device_without(tmp_path):
    assert len(samples(saved(tmp_path, x=np.zeros((0, 3)), y=np.zeros(0))).y) == 0


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none\.csv"):
        samples(tmp_path / "none.csv")
    with pytest.raises(DatasetUnavailable, match="there is no such file"):
        load(str(tmp_path / "none.csv"), tmp_path)


# Parquet


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="the package pyarrow must be installed; or save it as"):
        samples(written(tmp_path, b"PAR1", "mine.parquet"), OwnFile("price"))


def test_parquet_is_read_like_a_table(tmp_path):
    """Where pyarrow is installed."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "mine.parquet"
    columns = {"flow": [1.5, 2.5], "name": ["a", "b"], "price": [1, 0]}
    parquet.write_table(pyarrow.table(columns), path)
    found = samples(path, OwnFile("price", ["flow"]))
    assert (found.x.tolist(), found.y.tolist()) == ([[1.5], [2.5]], [1, 0])
    with pytest.raises(ValueError, match="column 'name': object are no numbers"):
        samples(path, OwnFile("price"))
    parquet.write_table(pyarrow.table(columns | {"flow": [1.5, None]}), path)
    with pytest.raises(ValueError, match="column 'flow', row 2: nan stands where a number"):
        samples(path, OwnFile("price", ["flow"]))
    with pytest.raises(ValueError, match="is no Parquet that can be read"):
        samples(written(tmp_path, b"PAR1", "odd.parquet"), OwnFile("price"))
