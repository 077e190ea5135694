"""What a cell admits and tells, and what becomes of that where it is told. No network."""

from __future__ import annotations

import time

import numpy as np

from fedjury.aggregator.cells_online import CellsOnline
from fedjury.cells.presence import CellAgents
from fedjury.cells.tallies import Asked, Tallies
from fedjury.protocol.cells import EVALUATES, VOTES, CellPresence, CellWorker, Tally
from fedjury.protocol.messages import Presence, Reason, Update
from fedjury.round.collect.tallied import Tallied

ASKED = Asked(round=3, attempt=1, version=2, called=frozenset("abc"), open=True)
WHOLE = frozenset("abcdef")


def update(agent, number=3, version=2, samples=4):
    return Update(agent, number, version, samples, np.zeros(2, np.float32))


def admitted(*agents, asked=ASKED):
    """Return the tallies of a cell to which these agents have sent updates, in this order."""
    tallies = Tallies(asked)
    for agent in agents:
        if tallies.admits(update(agent)):
            tallies.add(update(agent), 1.5)
    return tallies


def told(tallies, cell=1, life=1):
    """Return what a cell tells next."""
    return tallies.next(cell, life)


def test_the_first_update_of_each_agent_that_is_called_is_admitted():
    """Rows are in the order of arrival; all else is counted by why it was refused."""
    tallies = admitted("c", "a", "c", "stranger")
    for odd in (update("b", number=2), update("b", version=1)):
        assert not tallies.admits(odd)
    assert tallies.row == {"c": 0, "a": 1}
    assert tallies.refused == {
        "duplicate": 1,
        "not_selected": 1,
        "wrong_round": 1,
        "wrong_version": 1,
    }


def test_a_closed_round_takes_no_update():
    """Whatever it is, it comes in the wrong phase."""
    assert admitted("a", asked=ASKED._replace(open=False)).refused == {"wrong_phase": 1}


def test_a_tally_tells_what_is_new():
    """The second begins where the first ended; without news there is none."""
    tallies = admitted("c")
    first = told(tallies)
    assert (first.first, first.names, first.samples) == (0, "c", b"\4\0\0\0")
    assert np.frombuffer(first.norms).tolist() == [1.5]
    assert told(tallies) is None
    tallies.add(update("a"), 2.0)
    assert (told(tallies).first, tallies.told) == (1, 2)


def test_told_once_more_agents_may_send_once_more():
    """The same update again is no fault then; a third one is a duplicate."""
    tallies = admitted("a")
    told(tallies)
    tallies.tell_again()
    assert not tallies.admits(update("a"))
    assert (told(tallies).names, tallies.refused) == ("a", {})
    assert not tallies.admits(update("a"))
    assert tallies.refused == {"duplicate": 1}


def test_of_whom_something_invalid_came_is_told_until_something_valid_comes():
    """So that a round does not wait long for the others."""
    tallies = admitted()
    tallies.refuse(Reason.NOT_FINITE, "a", update=True)
    tallies.refuse(Reason.MALFORMED, "stranger", update=True)
    assert told(tallies).invalid == "a"
    tallies.add(update("a"), 1.0)
    assert told(tallies).invalid == ""


# ---------------------------------------------------------------- where it is told


def gathered(*tallies):
    """Return the collection after these tallies, and all that was refused."""
    collected, refused = Tallied(WHOLE), []
    for tally in tallies:
        collected, odd = collected.with_tally(tally)
        refused.append(odd)
    return collected, refused


def test_a_collection_is_the_same_whoever_told_first():
    """Names, samples and places do not depend on which cell was heard first."""
    one, two = told(admitted("c", "a")), told(admitted("b"), cell=2)
    for tallies in ((one, two), (two, one)):
        collected, _ = gathered(*tallies)
        assert collected.names == ("a", "b", "c")
        places = collected.places(collected.names)
        assert {cell: found.tolist() for cell, found in places.items()} == {1: [0, 1], 2: [0]}


def test_a_tally_told_twice_counts_once():
    """Also if it is told again from the beginning, with more in it."""
    tallies = admitted("c")
    first = told(tallies)
    tallies.add(update("a"), 1.0)
    tallies.tell_again()
    collected, refused = gathered(first, first, told(tallies))
    assert (collected.names, refused) == (("a", "c"), [{}, {}, {}])


def test_what_comes_after_something_that_was_lost_waits_for_it():
    """The places of a cell's updates are those of its tallies, so none can be skipped."""
    tallies = admitted("c")
    told(tallies)
    tallies.add(update("a"), 1.0)
    collected, _ = gathered(told(tallies))
    assert len(collected) == 0


def test_an_agent_in_two_cells_counts_once():
    """It has moved: the first that was told of counts, and the other's place is left out."""
    collected, refused = gathered(told(admitted("c", "a")), told(admitted("a", "b"), cell=2))
    assert refused == [{}, {"duplicate": 1}]
    assert {cell: found.tolist() for cell, found in collected.places("abc").items()} == {
        1: [0, 1],
        2: [1],
    }


def test_a_later_worker_begins_a_cell_from_nothing():
    """What the earlier one has told is lost with it; what it still tells changes nothing."""
    earlier = told(admitted("c", "a"), life=1)
    collected, _ = gathered(earlier, told(admitted("b"), life=2), earlier)
    assert collected.names == ("b",)


def test_a_collection_stays_as_it_was_whatever_is_added_to_it():
    """Two that go on from one collection know nothing of each other, nor does it of them."""
    first, _ = gathered(told(admitted("c")))
    ways = [first.with_tally(told(admitted(name), cell=2))[0] for name in ("a", "b")]
    ways.append(first.without((1,)).with_tally(told(admitted("b", "c"), cell=3))[0])
    assert [each.names for each in ways] == [("a", "c"), ("b", "c"), ("b", "c")]
    assert (first.names, len(first), "a" in first, "c" in first) == (("c",), 1, False, True)
    found = {cell: rows.places.tolist() for cell, rows in first.rows("abcd").items()}
    assert found == {1: [0]}


def test_a_hundred_thousand_updates_are_noted_in_a_second():
    """A third of one on an idle machine; what a cell has told so far is not copied."""
    names = sorted(f"agent-{number}" for number in range(100_000))
    collected, step = Tallied(frozenset(names)), 25
    tallies = []
    for at in range(0, len(names), step):
        data = np.ones(step, "<u4").tobytes(), np.ones(step, "<f8").tobytes()
        cell, first = at // 50_000 + 1, at % 50_000
        tallies.append(Tally(cell, 1, 3, 1, first, " ".join(names[at : at + step]), *data))
    begun = time.process_time()
    for tally in tallies:
        collected, _ = collected.with_tally(tally)
    assert len(collected) == 100_000
    assert time.process_time() - begun < 2


def test_refusals_of_a_cell_are_counted_once():
    """A tally says how many there were since the attempt began, not since the last one."""
    tallies = admitted("a", "a")
    first = told(tallies)
    tallies.admits(update("a"))
    _, refused = gathered(first, told(tallies))
    assert refused == [{"duplicate": 1}, {"duplicate": 1}]


# ---------------------------------------------------------------- who is there


def test_who_came_and_left_is_told_in_one_message():
    """The first one tells all there are; an agent that came and went in between is in none."""
    agents = CellAgents(1, 5)
    for name in "abc":
        agents.note(Presence(name, online=True, since=0.0))
    agents.note(Presence("b", online=False, since=0.0))
    first = agents.next()
    assert (first.whole, first.came, first.abilities) == (True, "a c", bytes([VOTES, VOTES]))
    agents.note(Presence("a", online=False, since=0.0))
    assert agents.next() == CellPresence(1, 5, False, "", b"", "a")
    assert agents.next() is None


def online(*told):
    """Return who is online after these messages, with what they can do."""
    cells, there = CellsOnline(), {}
    for message in told:
        for presence in cells.news(message):
            there[presence.agent] = presence
    return {name: (p.votes, p.evaluates) for name, p in there.items() if p.online}


def test_the_aggregator_notes_each_agent_of_a_cell():
    """With what it can do; who has left is gone."""
    both = CellPresence(1, 5, True, "a b", bytes([VOTES, VOTES | EVALUATES]), "")
    assert online(both) == {"a": (True, False), "b": (True, True)}
    assert online(both, CellPresence(1, 5, False, "c", b"\1", "a")).keys() == {"b", "c"}
    assert online(both, CellPresence(1, 5, True, "c", b"\1", "")).keys() == {"c"}


def test_agents_of_a_cell_without_its_worker_are_offline():
    """But for those that are in another cell meanwhile; an earlier worker's will is too late."""
    one, two = (
        CellPresence(cell, 5, True, names, b"\1\1", "") for cell, names in ((1, "a b"), (2, "b c"))
    )
    gone = CellWorker(1, online=False, life=5)
    assert online(one, two, gone).keys() == {"b", "c"}
    later = CellPresence(1, 6, True, "a b", b"\1\1", "")
    assert online(one, two, later, gone).keys() == {"a", "b", "c"}
