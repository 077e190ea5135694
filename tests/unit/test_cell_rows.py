"""A cell's rows, cut by columns, in memory and in files; rules over them."""

from __future__ import annotations

import errno
import gc
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.updates import NOTHING, honest_updates, ones, told

from fedjury import rules
from fedjury.cells.rows import Rows
from fedjury.cells.spill import SpillError
from fedjury.rules import cut
from fedjury.rules.partitions import Partitions, places

DESCRIPTORS = Path("/proc/self/fd")

N, D, P = 30, 1003, 16
FRONTS = ({"clip": 9.0}, {"bucketing": 3}, {"nnm": 5}, {"clip": 9.0, "bucketing": 2, "nnm": 2})
CASES = [
    *((name, {}) for name in rules.RULES),
    ("fedavgm", {"base": "multi_krum"}),
    *(("median", {"before": front}) for front in FRONTS),
]
"""Every rule of the table, and every step before one."""


@pytest.fixture(params=["memory", "files"])
def folder(request, tmp_path):
    """Where rows are kept: nowhere, or in a folder that is made for them."""
    return None if request.param == "memory" else tmp_path / "rows"


def arrived(updates, folder, count=P, capacity=40):
    """Return rows that came in some order, and the order of the updates."""
    rows = Rows(capacity, updates.shape[1], count, folder)
    order = np.random.default_rng(3).permutation(capacity)[: len(updates)]
    for place in np.random.default_rng(4).permutation(len(updates)):
        rows.write(int(order[place]), updates[place])
    return rows, order


def same(ours, theirs):
    np.testing.assert_array_equal(ours.view("u4"), theirs.view("u4"))


# What is kept


def test_parts_are_columns_of_rows_in_the_order_asked_for(folder):
    """Five numbers in two partitions are two and three; rows come as they are asked for."""
    rows = Rows(3, 5, 2, folder)
    rows.write(2, np.arange(5, dtype=np.float32))
    rows.write(0, np.arange(10, 15, dtype=np.float32))
    np.testing.assert_array_equal(rows.part(0, np.array([0, 2])), [[10, 11], [0, 1]])
    np.testing.assert_array_equal(
        rows.part(1, np.array([2, 0, 2])), [[2, 3, 4], [12, 13, 14], [2, 3, 4]]
    )
    assert rows.part(1, np.array([], dtype=np.int64)).shape == (0, 3)


def test_a_row_that_comes_again_takes_the_place_of_the_first(folder):
    """Whether the first one has been read meanwhile, or not."""
    rows = Rows(2, 4, 2, folder)
    rows.write(0, np.full(4, 7, dtype=np.float32))
    for value in (1, 2, 3):
        rows.write(1, np.full(4, value, dtype=np.float32))
        np.testing.assert_array_equal(rows.part(1, np.array([1, 0])), [[value] * 2, [7] * 2])


def test_a_part_is_an_array_of_its_own(folder):
    """Whoever is given one may write it; a view may not be written, and has the same numbers."""
    updates = honest_updates(N, D)
    rows, order = arrived(updates, folder)
    first = rows.part(0, order)
    first[:] = 0
    same(rows.part(0, order), np.ascontiguousarray(updates[:, places(D, P)[0]]))
    view = rows.view(0, order)
    same(view, rows.part(0, order))
    assert not view.flags.writeable


def test_more_rows_than_are_collected_at_a_time(folder):
    """200 rows of 52 KB are several times as many as wait to be written together."""
    updates = honest_updates(200, 13_106)
    rows, order = arrived(updates, folder, capacity=200)
    for p, columns in enumerate(places(13_106, P)):
        same(rows.part(p, order), np.ascontiguousarray(updates[:, columns]))


def test_rows_serve_many_rounds(folder):
    """Cleared, they hold nothing, and take the next round's, also where one was released."""
    rows, order = arrived(honest_updates(N, D), folder)
    rows.release(1)
    rows.clear()
    with pytest.raises(ValueError, match=f"nothing was written as row {order[0]}"):
        rows.part(0, order)
    next_round = honest_updates(N, D, seed=5)
    for row, update in enumerate(next_round):
        rows.write(row, update)
    for p, columns in enumerate(places(D, P)):
        same(rows.part(p, np.arange(N)), np.ascontiguousarray(next_round[:, columns]))


def test_what_is_released_takes_no_room(tmp_path):
    """The disk has a released partition's bytes back, and all of them at the end."""

    def taken():
        ours = [file for file in DESCRIPTORS.iterdir() if tmp_path in file.resolve().parents]
        return sum(file.stat().st_blocks * 512 for file in ours)

    rows = Rows(256, 4096, 4, tmp_path)
    for row in range(256):
        rows.write(row, np.ones(4096, dtype=np.float32))
    rows.part(0, np.arange(256))
    assert taken() == 256 * 4096 * 4
    rows.release(3)
    assert taken() == 256 * 4096 * 3
    rows.close()
    assert taken() == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda rows: rows.write(4, np.zeros(6, np.float32)), "there is no row 4 of 4"),
        (lambda rows: rows.write(-1, np.zeros(6, np.float32)), "there is no row -1"),
        (lambda rows: rows.write(0, np.zeros(5, np.float32)), r"float32 \(5,\) is no update of 6"),
        (lambda rows: rows.write(0, np.zeros(6)), "float64"),
        (lambda rows: rows.part(2, np.array([1])), "there is no partition 2 of 2"),
        (lambda rows: rows.part(0, np.array([1, 3])), "nothing was written as row 3"),
        (lambda rows: rows.part(0, np.array([1, 9])), "nothing was written as row 9"),
        (lambda rows: rows.part(0, np.array([-3])), "nothing was written as row -3"),
        (lambda rows: rows.part(0, np.array([1.0])), "no numbers of rows"),
    ],
)
def test_what_is_not_there_is_an_error(work, words, folder):
    """A row, a partition or a shape that is none raises one sentence."""
    rows = Rows(4, 6, 2, folder)
    rows.write(1, np.zeros(6, dtype=np.float32))
    with pytest.raises(ValueError, match=words):
        work(rows)


def test_released_and_closed_rows_refuse(folder):
    """What is gone is not read as zeros, nor half of an update kept."""
    rows = Rows(4, 6, 2, folder)
    rows.write(1, np.zeros(6, dtype=np.float32))
    rows.release(0)
    with pytest.raises(ValueError, match="partition 0 was released"):
        rows.part(0, np.array([1]))
    with pytest.raises(ValueError, match="partitions were released"):
        rows.write(2, np.zeros(6, dtype=np.float32))
    rows.close()
    rows.close()
    with pytest.raises(ValueError, match="closed"):
        rows.clear()
    with pytest.raises(ValueError, match="partition 1 was released"):
        rows.part(1, np.array([1]))
    with pytest.raises(ValueError, match="no rows of shape 0 x 6"):
        Rows(0, 6, 2, folder)


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    """It names the folder; so does a folder that cannot be made."""
    rows = Rows(1, 4, 2, tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rows.write(0, np.zeros(4, dtype=np.float32))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(SpillError, match=f"cannot be kept in {tmp_path}: No space left"):
        rows.part(0, np.array([0]))
    (tmp_path / "file").write_text("")
    with pytest.raises(SpillError, match=r"cannot be kept in .*file/rows: Not a directory"):
        Rows(1, 4, 2, tmp_path / "file" / "rows")


# Rules over them


def aggregated(name, options, partitions):
    """Return what a rule makes of partitions, and what it keeps."""
    context = told(honest_updates(N, D, seed=7), honest_updates(2, D, seed=0)[1])
    rule, keeps = rules.build(name, **options), bool(rules.RULES.facts(name).needs & {"state"})
    made, state = rules.applied(rule, name, partitions, np.arange(1, N + 1), context, keeps=keeps)
    return [made, *state.values()]


@pytest.mark.parametrize("kind", ["finite", "spoilt"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rules_over_stored_rows_give_the_bits_of_an_array(case, kind, folder):
    """All rules and steps, whether the rows are in memory or in files, and in which order."""
    updates = honest_updates(N, D)
    if kind == "spoilt":
        updates[3], updates[7, 500], updates[11] = np.inf, np.nan, -np.inf
    rows, order = arrived(updates, folder)
    stored = rows.partitions(order)
    assert isinstance(stored, Partitions)
    for ours, theirs in zip(
        aggregated(*case, stored), aggregated(*case, cut(updates, P)), strict=True
    ):
        same(ours, theirs)


def test_a_rule_on_arrays_is_given_all_of_it(folder):
    """Somebody's rule gets (n, d), read-only; more than memory holds is refused in a sentence."""
    updates, seen = honest_updates(N, D), []
    rows, order = arrived(updates, folder)

    def middle(array, samples, context):
        seen.append(array)
        return np.median(array, axis=0)

    rules.applied(middle, "mine", rows.partitions(order), ones(N), NOTHING, keeps=False)
    same(seen[0], updates)
    assert not seen[0].flags.writeable
    huge = rows.partitions(np.broadcast_to(order[:1], 10**10))
    with pytest.raises(ValueError, match=r"40,120\.0 GB, which do not fit into memory"):
        huge.whole()


def test_one_partition_at_a_time_is_in_memory(tmp_path):
    """Of 2,000 x 8,192 in 16 files (66 MB) a step and a rule ask for three parts at the most."""
    import tracemalloc  # noqa: PLC0415 - it slows everything down once it is started

    rows = Rows(2000, 8192, P, tmp_path)
    update = np.ones(8192, dtype=np.float32)
    for row in range(2000):
        rows.write(row, update)
    stored, rule = rows.partitions(np.arange(2000)), rules.build("mean", before={"clip": 1.0})
    tracemalloc.start()
    made, _ = rules.applied(rule, "mean", stored, ones(2000), NOTHING, keeps=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(made, 8192**-0.5, rtol=1e-6)
    assert peak < 3 * 2000 * 8192 * 4 / P + 2e6


def test_writing_costs_little(folder):
    """An update of 13,106 numbers in 16 partitions takes 0.02 ms; 0.2 ms on a busy machine."""
    rows, update = Rows(1000, 13_106, P, folder), np.ones(13_106, dtype=np.float32)
    for _ in range(2):  # memory is asked for in the first round
        rows.clear()
        start = time.process_time()
        for row in range(1000):
            rows.write(row, update)
        spent = time.process_time() - start
    assert spent / 1000 < 2e-4


def test_files_are_closed(tmp_path):
    """Each partition has one file open, also where rows were dropped and not closed."""
    rows = [Rows(2, 128, 64, tmp_path) for _ in range(2)]
    assert open_files(tmp_path) == 128
    rows.pop().close()
    rows.clear()
    gc.collect()
    assert open_files(tmp_path) == 0


def open_files(folder):
    """Return how many files of a folder are open, also where they have no name any more."""
    opened = 0
    for each in DESCRIPTORS.iterdir():
        with suppress(FileNotFoundError):  # the list itself is one of them
            opened += each.readlink().is_relative_to(folder)
    return opened
