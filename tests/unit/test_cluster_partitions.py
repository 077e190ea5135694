"""Workers that hold the updates of cells: how they get there, what is sent, what is lost."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from support.updates import honest_updates
from support.workers import dealt, engine_of

from fedjury.cluster import partitions as partitions_of_workers
from fedjury.cluster.engine import WorkerLost
from fedjury.cluster.partitions import Placement, by_name, gathered, holders
from fedjury.rules.partitions import Partitions

N, D, P = 24, 96, 16
"""Updates, parameters and partitions of six columns."""


def updates():
    return honest_updates(N, D)


def held(workers, **options):
    """Return workers, and the partitions that they have taken over."""
    placements = dealt(N, workers)
    engine = engine_of(updates(), P, placements)
    return engine, gathered(engine, "r", placements, D, P, **options)


def norms(part, first):
    return np.einsum("nd,nd->n", part, part)


def middle(part, first):
    return np.median(part, axis=0)


def halve(part, first, out, rows):
    np.divide(part[rows], 2, out=out)


def refuse(part, first):
    raise ValueError("not so")


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 16])
def test_rows_become_columns(workers):
    """Each row is where its placement says, whichever cell had it."""
    _, partitions = held(workers)
    assert isinstance(partitions, Partitions)
    assert (partitions.n, partitions.d, partitions.count) == (N, D, P)
    np.testing.assert_array_equal(partitions.whole(), updates())
    assert not partitions.whole().flags.writeable


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 16])
def test_any_number_of_cells_gives_the_same(workers):
    """Three or five cells lend two or four workers, so that sums stay parts of one tree."""
    (_, one), (_, some) = held(1), held(workers)
    np.testing.assert_array_equal(one.total(norms), some.total(norms))
    np.testing.assert_array_equal(one.columns(middle), some.columns(middle))


def test_a_power_of_two_holds_partitions():
    """Of five cells four do; of forty no more than there are partitions."""
    assert [holders(*given) for given in ((1, 16), (2, 16), (5, 16), (16, 16), (40, 16))] == [
        1,
        2,
        4,
        16,
        16,
    ]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_pieces_are_sent_once(workers):
    """Of n d 4 bytes a worker's own share stays: (k - 1) / k of them move."""
    engine, _ = held(workers)
    assert engine.moved == N * D * 4 * (workers - 1) // workers


@pytest.mark.parametrize("bytes_at_a_time", [1, 100, 10**9])
@pytest.mark.parametrize("workers", [1, 3, 4])
def test_pieces_are_as_small_as_wanted(workers, bytes_at_a_time, monkeypatch):
    """A row at a time, four rows of six columns, or all: each row is in its place."""
    monkeypatch.setattr(partitions_of_workers, "PIECE", bytes_at_a_time)
    engine, partitions = held(workers)
    np.testing.assert_array_equal(partitions.whole(), updates())
    assert all(not rows.parts for rows in engine.cells)
    rows = {1: 1, 100: 4}.get(bytes_at_a_time, N)
    assert engine.largest <= rows * 6 * 4


def test_what_is_given_is_let_go():
    """A cell forgets each partition as it gives it: rows and columns are never all there."""
    engine, _ = held(2)
    for rows in engine.cells:
        assert not rows.parts
        # While one worker takes over its first partition, the other takes over its own first one.
        assert set(rows.released[:2]) == {0, 8}
    engine, _ = held(2, keep=True)
    assert all(len(rows.parts) == P for rows in engine.cells)


def test_new_updates_stay_where_they_are():
    """Half of rows 5 and 3, made at the workers."""
    engine, partitions = held(4)
    before = engine.moved
    made = partitions.map(halve, 2, np.array([5, 3]))
    assert (made.n, engine.moved) == (2, before)
    np.testing.assert_array_equal(made.whole(), updates()[[5, 3]] / 2)


def test_partitions_are_dropped_with_their_last_user():
    """Workers keep nothing that nobody can ask for any more."""
    engine, partitions = held(2)
    made = partitions.map(halve, 1, np.array([0]))
    assert engine.kept() == [2, 2]
    del partitions
    gc.collect()
    assert engine.kept() == [1, 1]
    del made
    gc.collect()
    assert engine.kept() == [0, 0]


def test_a_cell_without_updates_gives_none():
    """It may hold partitions all the same."""
    placements = [Placement(np.arange(N), np.arange(N)), Placement(np.arange(0), np.arange(0))]
    engine = engine_of(updates(), P, placements)
    partitions = gathered(engine, "r", placements, D, P)
    np.testing.assert_array_equal(partitions.whole(), updates())


# What goes wrong


@pytest.mark.parametrize("verb", ["total", "columns"])
def test_a_lost_worker_is_named(verb):
    """Its updates are gone; the round hears which cell's."""
    engine, partitions = held(4)
    engine.lost.add(2)
    with pytest.raises(WorkerLost, match="worker 2 is lost") as lost:
        getattr(partitions, verb)(norms)
    assert lost.value.worker == 2


def test_a_cell_lost_while_it_gives_is_named():
    """Not the worker that waits for its piece."""
    placements = dealt(N, 4)
    engine = engine_of(updates(), P, placements)
    engine.lost.add(3)
    with pytest.raises(WorkerLost) as lost:
        gathered(engine, "r", placements, D, P)
    assert lost.value.worker == 3


def test_a_worker_that_started_again_is_lost():
    """It answers, but has nothing; its own cell is asked again, the others still have theirs."""
    engine, partitions = held(2, keep=True)
    rows = engine.cells[1]
    engine.start_again(1, {})
    with pytest.raises(WorkerLost) as lost:
        partitions.columns(middle)
    assert lost.value.worker == 1
    with pytest.raises(WorkerLost) as lost:
        gathered(engine, "r", dealt(N, 2), D, P, keep=True)
    assert lost.value.worker == 1
    engine.start_again(1, {"r": rows})
    np.testing.assert_array_equal(gathered(engine, "r", dealt(N, 2), D, P).whole(), updates())


def test_an_error_of_a_rule_is_its_own():
    """What a function raises at a worker is raised here."""
    with pytest.raises(ValueError, match="not so"):
        held(2)[1].total(refuse)


def test_placements_fill_each_row_once():
    """Twice row 0 and never row 1 is a mistake, and so is a cell too many."""
    rows = np.arange(1)
    engine = engine_of(updates(), P, dealt(N, 2))
    with pytest.raises(ValueError, match="fill each row once"):
        gathered(engine, "r", [Placement(rows, rows), Placement(rows, rows)], D, P)
    with pytest.raises(ValueError, match="1 placements for 2 workers"):
        gathered(engine, "r", [Placement(rows, rows)], D, P)


def test_rows_are_in_the_order_of_names():
    """Which cell an agent is in does not matter."""
    [first, second] = by_name([["b", "d"], ["c", "a"]])
    assert (first.at.tolist(), second.at.tolist()) == ([1, 3], [2, 0])
    assert first.order.tolist() == [0, 1]
    with pytest.raises(ValueError, match="two cells"):
        by_name([["a"], ["a"]])
