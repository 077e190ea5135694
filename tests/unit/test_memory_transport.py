"""The broker in memory behaves as one on a network does: retained messages, presence, runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedjury.protocol import checks, codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import (
    BadMessage,
    Candidate,
    History,
    Model,
    Phase,
    Presence,
    Reason,
    Round,
    Update,
    Vote,
)
from fedjury.protocol.transport.connection import Connection
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport

WEIGHTS = np.array([1, -2], dtype=np.float32)


def a_round(number):
    return Round(number, 0, Phase.TRAIN, 0, "all", (), 1.0)


def an_update(agent, number=1):
    return Update(agent, number, 0, 4, WEIGHTS)


def everything(hub):
    """Take all that is in the inbox: to whom, and what."""
    return [(to, message) for to, message, _ in iter(lambda: hub.receive(0), None)]


@pytest.fixture
def broker():
    return MemoryBroker()


@pytest.fixture
def server(broker):
    """Give the aggregator's link to the run ``lab``."""
    return Connection(MemoryTransport(broker, "lab"), "aggregator")


@pytest.fixture
def fleet(broker):
    """Give a hub for agents of the run ``lab``."""
    return MemoryTransport(broker, "lab")


def test_messages_arrive_in_order(server, fleet):
    """A subscriber gets what was published, as it was said and in that order."""
    server.subscribe(Update)
    for number in (3, 1, 2):
        fleet.send("ann", an_update("ann", number))
    assert [server.receive(0).round for _ in range(3)] == [3, 1, 2]
    assert server.receive(0) is None


def test_only_what_was_asked_for_arrives(server, fleet):
    """Who subscribes to updates gets no votes."""
    server.subscribe(Update)
    fleet.send("ann", Vote("ann", 1, 0, poisoned=False, score=1.0, threshold=2.0, samples=4))
    fleet.send("ann", an_update("ann"))
    assert isinstance(server.receive(0), Update)
    assert server.receive(0) is None


def test_everybody_gets_a_broadcast(server, fleet):
    """Each party of a hub gets its own delivery of what everybody gets."""
    for name in ("ann", "bob"):
        fleet.join(name, Round, presence=False)
    server.publish(a_round(1))
    assert everything(fleet) == [("ann", a_round(1)), ("bob", a_round(1))]


def test_late_joiners_get_what_is_retained(server, fleet):
    """The latest round waits for who joins later; an update does not."""
    server.publish(a_round(1))
    server.publish(a_round(2))
    fleet.send("ann", an_update("ann"))
    fleet.join("bob", Round, Update, presence=False)
    assert everything(fleet) == [("bob", a_round(2))]


def test_what_was_cleared_is_not_there_for_late_joiners(server, fleet):
    """Clearing removes the retained message, and tells nobody anything."""
    fleet.join("ann", Candidate, presence=False)
    candidate = Candidate(1, 0, 0, WEIGHTS)
    server.publish(candidate)
    server.clear(candidate)
    fleet.join("bob", Candidate, presence=False)
    assert [to for to, _ in everything(fleet)] == ["ann"]


def test_clearing_one_version_leaves_the_others(server, fleet):
    """Each version of the history is retained for itself."""
    for version in (1, 2, 12):
        server.publish(History(version, WEIGHTS))
    server.clear(History(1, WEIGHTS))
    fleet.join("ann", History, presence=False)
    assert [message.version for _, message in everything(fleet)] == [2, 12]


def test_fetch_brings_one_version(server, fleet):
    """A party that asks for a version gets that one alone, and nothing where there is none."""
    for version in (1, 12):
        server.publish(History(version, WEIGHTS * version))
    fleet.join("ann", Round, presence=False)
    fleet.fetch("ann", History, 2)
    assert everything(fleet) == []
    fleet.fetch("ann", History, 12)
    [(to, message)] = everything(fleet)
    assert (to, message.version) == ("ann", 12)
    np.testing.assert_array_equal(message.weights, [12, -24])


def test_fetch_brings_what_is_retained_now(server, fleet):
    """A candidate that nobody subscribes to is had by asking, as it is at that moment, once."""
    fleet.join("ann", Round, presence=False)
    fleet.fetch("ann", Candidate)
    assert everything(fleet) == []
    for attempt in (1, 2):
        server.publish(Candidate(1, attempt, 0, WEIGHTS))
    fleet.fetch("ann", Candidate)
    server.publish(Candidate(2, 1, 0, WEIGHTS))
    assert [(to, m.round, m.attempt) for to, m in everything(fleet)] == [("ann", 1, 2)]


def test_a_delivery_says_how_many_bytes_it_took(server, fleet):
    """The payload's length as it travelled: an int8 candidate is a quarter of a float32 one."""
    fleet.join("ann", Model, Candidate, presence=False)
    weights = np.zeros(1000, dtype=np.float32)
    server.transport.codecs[Candidate] = "int8"
    sent = Model(1, weights), Candidate(2, 1, 1, weights)
    for message in sent:
        server.publish(message)
    came = [fleet.receive(0).size for _ in sent]
    assert came == [len(codec.encode(sent[0])), len(codec.encode(sent[1], "int8"))]
    assert came[1] < came[0] / 3


def test_presence_is_said_and_taken_back(server, fleet):
    """Who joins with presence is online until the hub is closed, and offline after."""
    server.subscribe(Presence)
    fleet.join("bob", Round)
    fleet.join("ann", Round)
    fleet.join("eve", Round, presence=False)
    fleet.close()
    said = [(message.agent, message.online) for message in iter(lambda: server.receive(0), None)]
    assert said == [("bob", True), ("ann", True), ("ann", False), ("bob", False)]


def test_presence_is_retained(fleet, server):
    """An aggregator that comes late learns who is there and who has left."""
    fleet.join("ann", Round)
    fleet.close()
    fleet.join("bob", Round)
    server.subscribe(Presence)
    seen = {message.agent: message.online for message in iter(lambda: server.receive(0), None)}
    assert seen == {"ann": False, "bob": True}


def test_goodbye_is_said_once(server, fleet):
    """Closing twice is closing once."""
    server.subscribe(Presence)
    fleet.join("ann")
    fleet.close()
    fleet.close()
    assert [server.receive(0).online for _ in range(2)] == [True, False]
    assert server.receive(0) is None


def test_nothing_arrives_after_the_end(server, fleet):
    """Who has closed no longer hears anything."""
    fleet.join("ann", Round, presence=False)
    fleet.close()
    server.publish(a_round(1))
    assert everything(fleet) == []


def test_an_aggregator_is_no_agent(server, broker):
    """A link joins without presence: nothing is said of it."""
    server.subscribe(Update)
    server.close()
    assert broker.retained == {}


@pytest.mark.parametrize(("mine", "other"), [("a", "ab"), ("ab", "a"), ("a-b", "a")])
def test_runs_do_not_hear_each_other(broker, mine, other):
    """A run whose name begins another's gets none of its messages, early, late or fetched."""
    here, there = MemoryTransport(broker, mine), MemoryTransport(broker, other)
    here.join("ann", Round, Model, History, Update, Presence, presence=False)
    there.join("bob", Round)
    for message in (a_round(1), Model(1, WEIGHTS), History(1, WEIGHTS), an_update("bob")):
        there.send("bob", message)
    here.join("late", Round, Model, History, Presence, presence=False)
    here.fetch("ann", History, 1)
    assert everything(here) == []
    assert len(everything(there)) == 1  # its own round


def test_traffic_counts_payloads(server, fleet):
    """Each payload counts where it is sent, and once for everybody who receives it."""
    for name in ("ann", "bob"):
        fleet.join(name, Round, presence=False)
    size = len(codec.encode(a_round(1)))
    server.publish(a_round(1))
    server.clear(a_round(1))
    everything(fleet)
    assert server.transport.traffic == (0, size)
    assert fleet.traffic == (2 * size, 0)


def test_broadcasts_are_decoded_once(server, fleet):
    """All parties of a hub share the one object that a broadcast was decoded to."""
    for name in ("ann", "bob"):
        fleet.join(name, Model, presence=False)
    server.publish(Model(1, WEIGHTS))
    (_, first), (_, second) = everything(fleet)
    assert first is second


def test_the_hubs_codec_is_used(broker):
    """With int8, 0.4 of a block whose largest is 127 is rounded away on the wire."""
    sender, taker = MemoryTransport(broker, "lab"), MemoryTransport(broker, "lab")
    sender.codecs[Update] = "int8"
    taker.join("aggregator", Update, presence=False)
    sender.send("ann", Update("ann", 1, 0, 4, np.array([127, 0.4], dtype=np.float32)))
    [(_, message)] = everything(taker)
    np.testing.assert_allclose(message.delta, [127, 0], rtol=1e-6)


@pytest.mark.parametrize("size", [0, 3, checks.MAX_EVIDENCE])
def test_what_a_judge_saw_arrives(server, fleet, size):
    """A vote, and an update that is one, carry their evidence to the last bit."""
    server.subscribe(Update, Vote)
    seen = np.linspace(-1, 1, size, dtype="<f4").tobytes()
    vote = Vote("ann", 1, 0, poisoned=True, score=3.0, threshold=2.0, samples=4, evidence=seen)
    fleet.send("ann", vote)
    fleet.send("ann", replace(an_update("ann"), evidence=seen))
    assert server.receive(0) == vote
    assert server.receive(0).evidence == seen


def test_evidence_that_is_none_is_refused(server, fleet):
    """Who sends a NaN among it has not voted."""
    server.subscribe(Vote)
    odd = np.array([1, np.nan, 2], "<f4").tobytes()
    fleet.send(
        "ann", Vote("ann", 1, 0, poisoned=True, score=3.0, threshold=2.0, samples=4, evidence=odd)
    )
    with pytest.raises(BadMessage, match=f"^{Reason.NOT_FINITE}") as caught:
        server.receive(0)
    assert caught.value.agent == "ann"


def test_bad_messages_are_raised_and_passed(server, fleet, broker):
    """Bytes that are no message are one BadMessage with its sender; the next one is read."""
    server.subscribe(Update)
    broker.publish("fl/v2/lab/update/eve", b"\x07")
    broker.publish("fl/v2/lab/update/eve", b"")
    broker.publish("fl/v2/lab/update/a/b", b"")
    fleet.send("ann", an_update("ann"))
    for sender, reason in (
        ("eve", Reason.WRONG_TYPE),
        ("eve", Reason.MALFORMED),
        ("", Reason.UNKNOWN_TOPIC),
    ):
        with pytest.raises(BadMessage) as caught:
            server.receive(0)
        assert (caught.value.agent, caught.value.reason) == (sender, reason)
    assert server.receive(0).agent == "ann"


def test_the_hubs_limits_hold(server, fleet):
    """What the decoder of a hub does not let in is refused on arrival."""
    server.subscribe(Update)
    server.transport.decoder.limit(Limits(parameters=3))
    fleet.send("ann", an_update("ann"))
    with pytest.raises(BadMessage, match="2 parameters, not 3"):
        server.receive(0)
