"""What has been answered so far: values that share one dictionary, and what follows of them."""

from __future__ import annotations

import time

import pytest
from support.by_hand import changed, policy, start, vector

from fedjury.protocol.messages import Decline, Metrics, Reason, Update
from fedjury.round.answered import Answers
from fedjury.round.machine import step
from fedjury.round.state import GlobalModel, InvalidMessage, State, Tick


def test_adding_leaves_what_was_as_it_was():
    """Each holder sees what had come when it got it."""
    none = Answers[int]()
    one = none.plus("a", 1)
    two = one.plus("b", 2)
    assert (dict(none), dict(one), dict(two)) == ({}, {"a": 1}, {"a": 1, "b": 2})
    assert "b" not in one
    assert one.get("b") is None
    with pytest.raises(KeyError):
        one["b"]
    assert (len(none), len(one), len(two)) == (0, 1, 2)
    assert list(two.items()) == [("a", 1), ("b", 2)]
    assert two == {"b": 2, "a": 1}


def test_two_ways_on_from_one_value_do_not_meet():
    """Who adds to what was added to already gets a copy of it."""
    one = Answers({"a": 1})
    left, right = one.plus("b", 2), one.plus("b", 3)
    assert (dict(left), dict(right), dict(one)) == ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1})
    assert dict(left.plus("c", 4)) == {"a": 1, "b": 2, "c": 4}
    assert dict(right.plus("c", 5)) == {"a": 1, "b": 3, "c": 5}


def test_a_second_answer_of_an_agent_takes_the_place_of_its_first():
    """For those who get it; it stays where it was in their order."""
    one = Answers({"a": 1, "b": 2})
    assert list(one.plus("a", 9).items()) == [("a", 9), ("b", 2)]
    assert one["a"] == 1


def test_an_agent_that_declined_and_then_answered_is_not_missing():
    """Nor one whose first update was not valid: the round closes once the third has come."""
    config = policy()
    state, _ = start(config, online="abc")
    for event in (
        Decline("a", 1, 1),
        InvalidMessage("b", Reason.NOT_FINITE, update=True),
        Update("a", 1, 0, 1, vector(1, 0)),
        Update("b", 1, 0, 1, vector(3, 0)),
        InvalidMessage("a", Reason.NOT_FINITE, update=True),
        Decline("b", 1, 1),
        Tick(1.0, "abc"),
    ):
        state, _ = step(state, event, config)
    assert (state.round, len(state.updates)) == (1, 2)
    state, _ = step(state, Update("c", 1, 0, 1, vector(2, 6)), config)
    state, _ = step(state, Tick(2.0, "abc"), config)
    assert (state.round, state.version) == (2, 1)


def test_who_declines_after_an_invalid_update_is_not_waited_for():
    """It counts once: the others make the round, without a moment for something better."""
    config = policy()
    state, _ = start(config, online="abc")
    for event in (
        InvalidMessage("a", Reason.NOT_FINITE, update=True),
        Decline("a", 1, 1),
        InvalidMessage("a", Reason.NOT_FINITE, update=True),
        Update("b", 1, 0, 1, vector(1, 0)),
        Update("c", 1, 0, 1, vector(3, 0)),
        Tick(1.0, "abc"),
    ):
        state, _ = step(state, event, config)
    assert (state.round, state.version) == (2, 1)


def seconds_of(agents):
    """Return the processor time of rounds in which all answer, some declined, all measure."""
    names = [f"agent-{i}" for i in range(agents)]
    config = changed(policy(rounds=1), **{"evaluation.fraction": 1.0, "evaluation.by_agent": True})
    begun = time.process_time()
    tick = Tick(1.0, names, can_evaluate=names)
    state, _ = step(State(GlobalModel(0, vector(0, 0)), 0), tick, config)
    out = {*names[::10]}
    for name in names:
        event = Decline(name, 1, 1) if name in out else Update(name, 1, 0, 1, vector(1, 0))
        state, _ = step(state, event, config)
        state, _ = step(state, tick, config)
    for name in names:
        event = Decline(name, 1, 1) if name in out else Metrics(name, 1, 1, 9, {"loss": 0.5})
        state, _ = step(state, event, config)
        state, _ = step(state, tick, config)
    assert state.done
    return time.process_time() - begun


def test_an_answer_costs_as_much_among_eight_times_as_many():
    """Eight times the agents take about eight times the time: with copies it would be thirty."""
    few = min(seconds_of(500) for _ in range(3))
    many = min(seconds_of(4000) for _ in range(3))
    assert many < 16 * few
