"""Who connects when: pauses by hand, who knocks, and that nobody is forgotten."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjury.protocol.transport import reconnect, waiting
from fedjury.protocol.transport.connection import BrokerAway, TransportError
from fedjury.protocol.transport.reconnect import ReconnectQueue, backoff

BOUNDS = [
    (0, 0.25, 0.75),
    (1, 0.5, 1.5),
    (2, 1, 3),
    (3, 2, 6),
    (5, 8, 24),
    (6, 15, 45),
    (7, 15, 45),
    (1000, 15, 45),
]
"""Failures in a row -> the shortest and the longest pause: half a second, doubled, at most 30 s,
give or take a half."""


@pytest.mark.parametrize(("failures", "shortest", "longest"), BOUNDS)
def test_pauses_double_up_to_a_bound_and_no_two_are_alike(failures, shortest, longest):
    """A thousand who are cut off at once spread evenly over the whole of their pause."""
    pauses = sorted(backoff(failures, reconnect.BACKOFF) for _ in range(1000))
    assert shortest <= pauses[0]
    assert pauses[-1] <= longest
    assert len(set(pauses)) == 1000
    in_fourths = [int(4 * (p - shortest) / (longest - shortest) * (1 - 1e-12)) for p in pauses]
    assert all(170 <= in_fourths.count(fourth) <= 330 for fourth in range(4))


def named(dialing_, now):
    """Take all who may connect at a time."""
    found = []
    while (name := dialing_.next(now)) is not None:
        found.append(name)
    return found


def test_newcomers_connect_at_once_and_in_order():
    """Who has not tried yet need not wait; nobody who waits overtakes."""
    parties = ReconnectQueue()
    assert not parties
    assert parties.next(1e9) is None
    for when, name in enumerate("cab"):
        parties.add(name, 10.0 + when)
    assert (bool(parties), parties.wait(9.5), parties.next(9.9)) == (True, 0.5, None)
    assert parties.wait(50.0) == 0.0
    assert named(parties, 50.0) == ["c", "a", "b"]
    assert not parties


def test_who_was_cut_off_waits_for_itself_alone():
    """A party's pause holds nobody else back."""
    parties = ReconnectQueue()
    parties.add("late", 100.0, 2)
    parties.add("new", 100.0)
    assert named(parties, 100.0) == ["new"]
    assert named(parties, 100.999) == []
    assert named(parties, 103.001) == ["late"]


def test_one_knocks_for_all_where_the_broker_cannot_be_reached():
    """Of three hundred one tries at a time; pauses grow to five seconds, give or take a half."""
    parties, names = ReconnectQueue(), [f"agent-{i:03d}" for i in range(300)]
    for name in names:
        parties.add(name, 0.0)
    now, knocks = 1.0, []
    while len(knocks) < 12:
        name = parties.next(now)
        assert name is not None
        knocks.append((now, name))
        parties.unreachable(name, now)
        assert parties.next(now + 0.2) is None
        now += parties.wait(now)
    gaps = [later - sooner for (sooner, _), (later, _) in itertools.pairwise(knocks)]
    for failures, gap in enumerate(gaps):
        middle = min(5.0, 0.5 * 2**failures)
        assert middle / 2 <= gap <= middle * 1.5
    assert len(set(gaps)) == len(gaps)
    assert len({name for _, name in knocks}) == 12  # not always the same
    parties.reached()
    assert sorted(named(parties, now)) == names
    parties.unreachable("agent-000", now)  # once it was reached, the pauses begin again
    assert parties.wait(now) <= 0.75


ACTS = st.lists(
    st.tuples(st.sampled_from(["next", "cut off", "unreachable", "reached"]), st.floats(0.0, 60.0)),
    max_size=60,
)


@given(ACTS)
def test_nobody_is_forgotten_or_waits_twice(acts):
    """Whatever happens, each party either waits or was let go, and all come within a minute."""
    parties, names = ReconnectQueue(), {"a", "b", "c", "d"}
    waiting, out, now = set(names), [], 0.0
    for name in sorted(names):
        parties.add(name, now)
    for what, later in acts:
        now += later
        match what:
            case "next":
                if (name := parties.next(now)) is not None:
                    waiting.remove(name)
                    out.append(name)
            case "cut off" if out:
                waiting.add(out[0])
                parties.add(out.pop(0), now, len(out))
            case "unreachable" if out:
                waiting.add(out[0])
                parties.unreachable(out.pop(0), now)
            case "reached":
                parties.reached()
        assert bool(parties) == bool(waiting)
        assert not waiting or 0 <= parties.wait(now) < math.inf
    assert set(named(parties, now + 45.1)) == waiting


# ---------------------------------------------------------------- a broker that is not there yet


class Hours:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        """Return how late it is."""
        return self.now

    def sleep(self, seconds):
        """Let time pass."""
        self.now += seconds


def away_until(opens, clock, why="nobody answers"):
    """Make an attempt that succeeds from ``opens`` (seconds) on."""

    def attempt():
        if clock.now < opens:
            raise BrokerAway(why)
        return "here"

    return attempt


def test_who_needs_a_broker_waits_for_it_and_says_so_once(monkeypatch):
    """A minute without a broker is one sentence; then it is there within a pause (7.5 s)."""
    clock, said = Hours(), []
    monkeypatch.setattr(waiting, "time", clock)
    assert waiting.patiently(away_until(60.0, clock), said.append) == "here"
    assert said == ["nobody answers; waiting until one does (Ctrl-C ends)"]
    assert 60 <= clock.now <= 67.6


def test_waiting_for_a_broker_can_be_ended(monkeypatch):
    """Who is told to stop stops within a step, with nothing in hand."""
    clock = Hours()
    monkeypatch.setattr(waiting, "time", clock)
    never = away_until(math.inf, clock)
    assert waiting.patiently(never, str, lambda: clock.now > 10) is None
    assert clock.now < 10.2


def test_what_waiting_does_not_mend_is_told_at_once():
    """A broker that does not let us in stays as it is: the error goes through."""

    def refused():
        raise TransportError("not authorized")

    with pytest.raises(TransportError, match="not authorized"):
        waiting.patiently(refused, str)
