"""A hostile aggregator under secure aggregation, real agents: they say why, and share nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from support.federation import one_thread  # noqa: F401 - a fixture
from support.hostile_server import N, Server, why

from fedjury.protocol.messages import Decline, Phase, Round
from fedjury.protocol.secure import (
    BOX,
    KEY,
    MaskedUpdate,
    SecureKeys,
    SecureShares,
    UnmaskShares,
)
from fedjury.protocol.topics import USUAL
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport
from fedjury.secure.agent import roster_of
from fedjury.secure.opening import opened

pytestmark = pytest.mark.usefixtures("one_thread")


def in_memory():
    """Make a server, and its agents, in one process."""
    broker = MemoryBroker()
    return Server(*(MemoryTransport(broker, "lab", USUAL) for _ in range(2)))


@pytest.fixture
def server():
    """Make a server, with its agents' keys for the first attempt."""
    made = in_memory()
    assert len(made.announce()) == N
    return made


def test_an_honest_server_gets_the_mean(server):
    """So what the other tests see is no accident: all six help, and the sum opens."""
    result = opened(server.opened(), "lab")
    assert result.members == tuple(sorted(server.fleet.connections.of))
    assert 0 < np.abs(result.mean).max() < 0.5
    assert not [message for message in server.heard if isinstance(message, Decline)]


def test_nobody_gives_both_shares_of_a_neighbour(server):
    """Asked for all, then as if one had left: the second time each says that this is another."""
    group = server.masked()
    victim, *others = group.names
    for name in others:
        [shares] = server.asks(group, range(N), name)
        assert isinstance(shares, UnmaskShares)
        said = server.asks(group, range(1, N), name)
        assert why(said) == {"a second request that differs from the first"}
        assert not server.asks(group, range(1, N), name)  # it has left the attempt
        assert not server.asks(group, range(N), name)
    assert len(server.shares) == len(others)
    assert victim not in {message.agent for message in server.shares}


def test_the_same_request_has_the_same_answer(server):
    """As a broker may deliver it twice."""
    group = server.masked()
    name = group.names[2]
    [first], [second] = (server.asks(group, range(N), name) for _ in range(2))
    assert isinstance(first, UnmaskShares)
    assert first == second


@pytest.mark.parametrize("alive", [4, 3, 1])
def test_nobody_helps_to_open_a_sum_of_too_few(server, alive):
    """The manifest says five: of four updates nobody hears the sum."""
    group = server.masked()
    for place in range(alive):
        said = server.asks(group, range(alive), group.names[place])
        assert why(said) == {f"a sum of {alive} is of too few"}
    assert not server.shares


def test_nobody_counts_itself_out(server):
    """Nor takes for alive whose box never came."""
    group = server.masked()
    said = server.asks(group, range(1, N), group.names[0])
    assert why(said) == {"it is asked to count itself out"}
    assert not server.shares


def test_who_had_left_does_not_come_back(server):
    """A neighbour whose box was withheld is in nobody's masks, and cannot be in the sum."""
    group, said = server.step(server.group())
    group = server.taken(group, said)
    places = {name: group.graph[group.place(name)].tolist() for name in group.names}
    near = [name for name in group.names if 0 in places[name]]

    def withheld(inbox):
        if inbox.agent not in near:
            return inbox
        return replace(inbox, boxes=bytes(BOX) + inbox.boxes[BOX:])  # theirs of place 0 is first

    group, said = server.step(group, withheld)
    assert [type(message) for message in said] == [MaskedUpdate] * N
    assert len(near) == 4
    for name in near:
        said = server.asks(group, range(N), name)
        assert why(said) == {"a neighbour that had left survives"}
    assert not server.shares


@pytest.mark.parametrize(("number", "attempt"), [(1, 2), (2, 1)], ids=["attempt", "round"])
def test_over_one_model_nobody_is_in_a_second_sum_with_others(server, number, attempt):
    """Another attempt, or another round, without one of them: the others take no part."""
    server.opened()
    before = len(server.shares)
    server.announce(number, attempt)
    _, said = server.step(server.group(left_out={"agent-3"}))
    assert len(said) == N - 1
    assert {message.split(",")[0] for message in why(said)} == {
        "another sum over the same model was opened"
    }
    assert len(server.shares) == before


def test_over_one_model_the_same_members_do_not_open_a_smaller_sum(server):
    """The same six, but the sum of five of them: the difference would be one's update."""
    server.opened()
    before = len(server.shares)
    server.announce(1, 2)
    group = server.masked()
    for name in group.names[1:]:
        said = server.asks(group, range(1, N), name)
        assert why(said) == {"another sum over the same model was opened, of other agents"}
    assert len(server.shares) == before


def test_the_same_sum_may_be_opened_again(server):
    """As an aggregator that was killed does: new keys, the same members, the same mean."""
    first = opened(server.opened(), "lab")
    server.announce(1, 2)
    again = opened(server.opened(), "lab")
    np.testing.assert_array_equal(first.mean, again.mean)


def test_another_model_in_between_does_not_make_an_agent_forget(server):
    """A model of another version, then the first once more: the sum over that is known."""
    server.opened()
    server.base(0.1, version=1)
    server.announce(2, 1, version=1)
    server.opened(version=1)
    before = len(server.shares)
    server.base(0.0)
    server.announce(3, 1)
    _, said = server.step(server.group(left_out={"agent-3"}))
    assert {message.split(",")[0] for message in why(said)} == {
        "another sum over the same model was opened"
    }
    assert len(server.shares) == before


def test_an_update_stands_for_the_model_that_it_was_trained_from(server):
    """A server that shows another model of the same version afterwards gets no second sum of it.

    What was learnt in a round is kept for its next attempt: it is still of the first model.
    """
    server.opened()
    before = len(server.shares)
    server.base(0.1)
    server.announce(1, 2)
    _, said = server.step(server.group(left_out={"agent-3"}))
    assert {message.split(",")[0] for message in why(said)} == {
        "another sum over the same model was opened"
    }
    assert len(server.shares) == before


def test_a_model_that_comes_while_agents_train_is_no_obstacle():
    """A round that is over before they are ready: their update is of the model of before."""
    server = in_memory()
    server.tell(Round(1, 1, Phase.TRAIN, 0, "all", (), 60.0))
    server.base(0.1, version=1)
    assert {type(message) for message in server.answers()} <= {SecureKeys}


@pytest.mark.parametrize("after", [SecureShares, MaskedUpdate])
def test_a_group_that_changes_in_mid_attempt_is_left(server, after):
    """Told of other members once its secrets are shared, an agent takes no part; the same: fine."""
    group, said = server.step(server.group())
    if after is MaskedUpdate:
        group, _ = server.step(server.taken(group, said))
    else:
        group = server.taken(group, said)
    for name in group.names:
        server.tell(group.peers[name])
        once_more = server.answers()
        assert once_more == ([group.shares[name]] if after is SecureShares else [])
        server.tell(replace(group.peers[name], roster=roster_of([*group.names, "mallory"])))
        assert why(server.answers()) == {"its group was changed in the middle of an attempt"}
    assert not server.shares


def other_peers(**change):
    """Return what changes a message with the neighbours."""
    return lambda peers: replace(peers, **change)


def cut(count):
    """Return what leaves so many neighbours."""

    def change(peers):
        size = KEY * count
        return replace(
            peers,
            names=" ".join(peers.names.split(" ")[:count]),
            places=peers.places[: 4 * count],
            mask_keys=peers.mask_keys[:size],
            box_keys=peers.box_keys[:size],
            threshold=min(peers.threshold, count),
        )

    return change


WEAK = bytes([1]) + bytes(KEY - 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_peers(threshold=1), "a threshold of 1 is too low"),
        (other_peers(threshold=2), "a threshold of 2 is too low"),
        (other_peers(threshold=N), "a threshold of 6 is above 4 neighbours"),
        (other_peers(members=4), "a group of 4 is too small"),
        (cut(3), "3 neighbours are too few"),
        (other_peers(bits=4), "sums of 4 bits are none"),
        (other_peers(clip=0.0), "the clip is none"),
        (other_peers(weight=1), "its weight is not the number of its samples"),
    ],
)
def test_terms_worse_than_the_manifest_says_are_declined(server, change, said):
    """Each member says what is wrong, and shares nothing."""
    assert why(server.step(server.group(), change)[1]) == {said}


@pytest.mark.parametrize("kind", ["mask_keys", "box_keys"])
def test_a_key_without_a_secret_is_declined(server, kind):
    """In a victim's neighbours' places: a point of low order, with which all secrets are zero."""

    def weak(peers):
        keys = getattr(peers, kind)
        return replace(peers, **{kind: keys[:KEY] + WEAK + keys[2 * KEY :]})

    _, said = server.step(server.group(), weak)
    assert len(said) == N
    for text in why(said):
        assert re.fullmatch(r"a key of agent-\d is none", text)


def test_each_helps_to_open_one_sum_over_a_model_however_often_it_is_asked(server):
    """Three attempts, one of them without one agent; in each, all with one missing are asked for.

    The server begins with sums of five, so the first that is asked for is the only one.
    """
    sums = defaultdict(set)
    for attempt in (1, 2, 3):
        if attempt > 1:
            server.announce(1, attempt)
        group, said = server.step(server.group(left_out={"agent-1"} if attempt == 2 else ()))
        if any(isinstance(message, Decline) for message in said):
            continue
        group, said = server.step(server.taken(group, said))
        group = server.taken(group, said)
        n = len(group.names)
        for missing in (*range(n), None):
            alive = [place for place in range(n) if place != missing]
            for name in group.names:
                if any(isinstance(m, UnmaskShares) for m in server.asks(group, alive, name)):
                    sums[name].add(tuple(group.names[place] for place in alive))
    assert len(sums) == N - 1  # the first to be left out has left
    assert all(len(known) == 1 for known in sums.values())
