"""Agents of a cell that is cut off count as offline after a while, and until then as online."""

from __future__ import annotations

import pytest
from support.by_hand import play, policy, updates, vector

from fedjury.aggregator.cells import Cells
from fedjury.protocol.record import RoundRecord, read, to_json
from fedjury.round.state import GlobalModel, State, Tick
from fedjury.round.verdict import by_cell

ALL = {"a", "b", "c", "d"}


@pytest.fixture
def cells():
    """Return two cells, a and b in one and c in the other; d is in none. Grace: ten seconds."""
    made = Cells(most=4, grace=10.0)
    for agent, cell in (("a", 1), ("b", 1), ("c", 2)):
        made.place(agent, cell)
    return made


def test_a_cell_that_is_cut_off_has_some_time_to_come_back(cells):
    """Its agents are online for ten seconds, then they are not; nobody else is concerned."""
    told = cells.link(1, ALL, 100.0, up=False)
    assert told == "cell 1 is cut off: in 10 s its 2 agents count as offline"
    assert cells.lost(ALL, 109.9) == set()
    assert cells.lost(ALL, 110.0) == {"a", "b"}
    assert cells.lost(ALL - {"a", "b"}, 111.0) == set()


def test_it_is_told_once(cells):
    """The same state again says nothing, and begins no wait of its own."""
    assert cells.link(1, ALL, 100.0, up=True) == ""
    assert cells.link(1, ALL, 100.0, up=False)
    assert cells.link(1, ALL, 105.0, up=False) == ""
    assert cells.lost(ALL, 110.0) == {"a", "b"}


def test_a_cell_that_comes_back_in_time_loses_nobody_who_is_there(cells):
    """Who says so again stays online; who died with the broker is lost ten seconds later."""
    cells.link(1, ALL, 100.0, up=False)
    assert cells.link(1, ALL, 105.0, up=True) == "cell 1 is back"
    cells.hear("a")
    assert cells.lost(ALL, 114.9) == set()
    assert cells.lost(ALL, 115.0) == {"b"}
    assert cells.lost(ALL, 200.0) == set()


def test_a_cell_that_comes_back_late_is_waited_for_no_more(cells):
    """Its agents were counted out; by their presence they come in again, and stay."""
    cells.link(1, ALL, 100.0, up=False)
    online = ALL - cells.lost(ALL, 110.0)
    assert cells.link(1, online, 150.0, up=True) == "cell 1 is back"
    assert cells.lost(ALL, 170.0) == set()


def test_an_agent_that_has_moved_is_not_lost_with_its_old_cell(cells):
    """It connected to another broker while the old one was dead."""
    cells.link(1, ALL, 100.0, up=False)
    cells.place("a", 2)
    assert cells.lost(ALL, 110.0) == {"b"}


def test_an_agent_that_has_moved_is_not_waited_for_when_its_old_cell_is_back(cells):
    """It need not say again that it is there."""
    cells.link(1, ALL, 100.0, up=False)
    cells.link(1, ALL, 101.0, up=True)
    cells.place("a", 2)
    assert cells.lost(ALL, 111.0) == {"b"}


def test_time_in_which_nobody_was_heard_does_not_count(cells):
    """The core's own broker was gone for a minute: then every wait begins again."""
    cells.link(1, ALL, 100.0, up=False)
    cells.link(2, ALL, 100.0, up=False)
    cells.link(2, ALL, 101.0, up=True)
    cells.again(160.0)
    assert cells.lost(ALL, 169.9) == set()
    assert cells.lost(ALL, 170.0) == {"a", "b", "c"}


def test_it_is_known_who_cannot_answer(cells):
    """Agents of a cell that is cut off, also those that are only then known to be in it."""
    cells.link(1, ALL, 100.0, up=False)
    assert cells.cut_off == {"a", "b"}
    cells.place("d", 1)
    cells.place("a", 2)
    assert cells.cut_off == {"b", "d"}
    cells.link(1, ALL, 130.0, up=True)
    assert cells.cut_off == set()


def test_strangers_cannot_fill_the_memory(cells):
    """There are no more agents than may be online; those that are known may still move."""
    cells.place("d", 3)
    cells.place("e", 3)
    cells.place("a", 3)
    assert cells.of == {"a": 3, "b": 1, "c": 2, "d": 3}


def test_a_cell_of_which_nobody_is_known_has_no_agents_to_lose(cells):
    """It is said that it is cut off, and no more."""
    assert cells.link(7, ALL, 1.0, up=False) == "cell 7 is cut off"
    assert cells.lost(ALL, 100.0) == set()


# ---------------------------------------------------------------- the record


def test_missing_agents_are_counted_cell_by_cell():
    """In ascending order of cells; those of no cell are not counted."""
    cells = {"a": 10, "b": 2, "c": 10, "d": 1}
    assert list(by_cell("abcx", cells).items()) == [("2", 1), ("10", 2)]
    assert by_cell("abc", {}) == {}


def test_the_record_of_a_run_without_cells_says_nothing_of_them():
    """With cells it says how many are missing of which."""
    assert "cells" not in to_json(RoundRecord(3, missing=2))
    written = to_json(RoundRecord(3, missing=2, cells={"2": 2}))
    assert written["cells"] == {"2": 2}
    assert read(written).cells == {"2": 2}
    assert read({"round": 3, "cells": {"x": 1, "2": -1, "4": 1}}).cells == {"4": 1}


# ---------------------------------------------------------------- rounds


def test_who_could_not_answer_is_waited_for_again_when_its_cell_is_back():
    """Of two silent agents one is cut off with its cell: nobody waits for the other any more.

    Without that, rounds that close as soon as the others have answered would never hear from it.
    """
    said = policy(collect_seconds=10, **{"collect.missed": 2})
    state, now = State(GlobalModel(0, vector(0, 0)), 0), 0.0
    state, _ = play(state, said, Tick(now, set("abcd")))
    for _ in range(3):
        answers = updates(state, {"a": (1, 0), "b": (3, 0)})
        now += 10
        state, _ = play(state, said, *answers, Tick(now, set("abcd"), cut_off={"d"}))
    assert state.missed == {"c": 3}
    assert state.phase.declined == {"c"}
    answers = updates(state, {"a": (1, 0), "b": (3, 0)})
    state, _ = play(state, said, *answers, Tick(now + 1, set("abcd")))
    assert state.round == 4
    answers = updates(state, {"d": (1, 0)})
    state, _ = play(state, said, *answers, Tick(now + 2, set("abcd")))
    assert state.round == 5
