"""The updates of a round: a value that grows without being copied."""

from __future__ import annotations

import numpy as np
import pytest

from fedjury.aggregator.matrix_pool import MatrixPool
from fedjury.protocol.messages import Update
from fedjury.round.collect.update_buffer import UpdateBuffer, fresh


def update(name, *delta, samples=4):
    return Update(name, 1, 0, samples, np.array(delta, dtype=np.float32))


def grown(called, *updates, allocate=fresh):
    """Collect the updates one after the other; returns every collection on the way."""
    collections = [UpdateBuffer.of(called, allocate)]
    for one in updates:
        collections.append(collections[-1].add(one))
    return collections


def test_rows_are_in_the_order_of_names():
    """Whatever the order of arrival, the rows are those of a, b and c."""
    *_, full = grown("cab", update("b", 3, 4, samples=2), update("c", 5, 6), update("a", 1, 2))
    updates, samples = full.matrix()
    assert updates.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert samples.tolist() == [4, 2, 4]
    assert list(full) == ["b", "c", "a"]


def test_only_those_who_came_have_a_row():
    """Of three called two have answered: two rows."""
    *_, two = grown("abc", update("c", 5, 6), update("a", 1, 2))
    updates, samples = two.matrix()
    assert (updates.tolist(), samples.tolist()) == ([[1, 2], [5, 6]], [4, 4])
    assert ("a" in two, "b" in two, len(two)) == (True, False, 2)


def test_a_collection_stays_as_it_was():
    """Adding leaves the collection that was added to without the new update."""
    none, one, two = grown("ab", update("a", 1), update("b", 2))
    assert [len(none), len(one), len(two)] == [0, 1, 2]
    assert ("a" in none, "b" in one, list(one)) == (False, False, ["a"])
    assert one.matrix()[0].tolist() == [[1]]


def test_two_futures_of_one_collection():
    """Who adds to a collection that others went on from changes nothing for them."""
    _, one, there = grown("abc", update("a", 1), update("b", 2))
    here = one.add(update("b", 7)).add(update("c", 8))
    there = there.add(update("c", 3))
    assert there.matrix()[0].tolist() == [[1], [2], [3]]
    assert here.matrix()[0].tolist() == [[1], [7], [8]]
    assert one.matrix()[0].tolist() == [[1]]


def test_a_full_collection_is_not_copied():
    """Where everybody answered the matrix is the one that the updates were written to."""
    *_, full = grown("ab", update("b", 2), update("a", 1))
    assert np.shares_memory(full.matrix()[0], full.matrix()[0])


def test_nobody_else_can_be_collected():
    """An update of somebody who was not called is an error of ours."""
    with pytest.raises(KeyError):
        UpdateBuffer.of("ab").add(update("c", 1))


def test_memory_is_used_again_only_when_nobody_sees_it():
    """A round's matrix serves the next round; not while anybody holds a view of it."""
    pool = MatrixPool().take
    *_, first = grown("ab", update("a", 1), update("b", 2), allocate=pool)
    place = first.matrix()[0].__array_interface__["data"]
    del _, first
    *_, second = grown("ab", update("a", 3), update("b", 4), allocate=pool)
    kept = second.matrix()[0][:1]
    assert kept.__array_interface__["data"] == place
    del _, second
    *_, third = grown("ab", update("a", 5), update("b", 6), allocate=pool)
    assert kept.tolist() == [[3]]
    assert third.matrix()[0].tolist() == [[5], [6]]
