"""Brokers that go, stall, keep silent, deny or drop; strangers who take a name."""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import threading
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from support.by_hand import policy, toy_manifest, vector
from support.federation import Federation
from support.listening import RawClient, until

from fedjury import processes
from fedjury.aggregator.serve import forgotten
from fedjury.aggregator.service import GONE, Aggregator
from fedjury.broker import enrol
from fedjury.broker.local import HOST, local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers
from fedjury.processes import free_port
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import (
    BadMessage,
    Model,
    Phase,
    Presence,
    Round,
    RoundLog,
    Update,
)
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.transport import connection_pool, mqtt_transport, reconnect
from fedjury.protocol.transport.connection import Connection, TransportError
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport
from fedjury.protocol.transport.mqtt_transport import MqttTransport
from fedjury.round.state import GlobalModel, State

WEIGHTS = np.linspace(-1, 1, 1300, dtype=np.float32)
BEGUN = Round(1, 1, Phase.TRAIN, 0, "all", (), 60.0)

needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None, reason="mosquitto is not installed (apt install mosquitto)"
)


@pytest.fixture
def opened():
    """Open hubs; those still open at the end are closed."""
    hubs = []

    def open_one(broker, run="lab", **more):
        address = BrokerAddress(broker.host, broker.port, **more)
        hubs.append(MqttTransport(address, run).open())
        return hubs[-1]

    yield open_one
    for hub in hubs:
        hub.close()


@pytest.fixture(scope="module")
def mosquitto():
    """Start a Mosquitto for those tests of this file that leave it as it was."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    with local_broker("mosquitto", say=lambda _: None) as running:
        yield running


def update(agent, number=1):
    return Update(agent, number, 0, 4, WEIGHTS)


def listening_to(hub, name, *kinds):
    """Join a party and wait until it hears itself: then it hears all it asked for."""
    hub.join(name, *kinds, Presence)
    until(lambda: any(m == (name, name) for m in read(hub, Presence, "agent")))
    return hub


def read(hub, kind, *fields, seconds=0.05):
    """Receive for a while; returns to whom messages of a kind came, and these fields."""
    found, deadline = [], time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        delivery = hub.receive(left)
        if delivery is not None and isinstance(delivery.message, kind):
            found.append((delivery.to, *(getattr(delivery.message, field) for field in fields)))
    return found


def gather(hub, kind, field, wanted, seconds=20.0):
    """Receive until all that is wanted has come."""
    found = set()

    def complete():
        found.update(value for _, value in read(hub, kind, field))
        return found >= set(wanted)

    until(complete, seconds)
    return found


# ---------------------------------------------------------------- a network that stalls


class Proxy:
    """A network between hubs and a broker, which forwards only while it flows."""

    def __init__(self, broker):
        self._there = broker.host, broker.port
        self._listener = socket.create_server((HOST, 0))
        self.host, self.port = self._listener.getsockname()
        self.accepted = 0
        self.flowing = threading.Event()
        self.flowing.set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _run(self):
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.02):
                if key.data is None:
                    self._accept()
                elif self.flowing.is_set():
                    self._forward(key.fileobj, key.data)
                else:
                    time.sleep(0.002)

    def _accept(self):
        near, far = self._listener.accept()[0], socket.create_connection(self._there)
        self.accepted += 1
        for one, other in ((near, far), (far, near)):
            self._selector.register(one, selectors.EVENT_READ, other)

    def _forward(self, source, target):
        with contextlib.suppress(OSError):
            if data := source.recv(65536):
                target.sendall(data)
                return
        for one in (source, target):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()


def test_a_network_that_stalls_is_noticed_and_loses_nothing(opened, mosquitto, monkeypatch):
    """After twice the keep-alive all know; once it flows they are back, with all that was said.

    The server's network is back first: what comes before it has subscribed again, only agents
    that are told of the round once more can say again.
    """
    monkeypatch.setattr(connection_pool, "WELCOME", 1.0)
    monkeypatch.setattr(reconnect, "BACKOFF", (0.2, 0.4))
    names = [f"agent-{i}" for i in range(5)]
    with Proxy(mosquitto) as near_server, Proxy(mosquitto) as proxy:
        server = listening_to(opened(near_server, keepalive=2), "server", Update)
        agents = opened(proxy, keepalive=2)
        for name in names:
            agents.join(name, Round)
        until(lambda: agents.connections == 5)
        proxy.flowing.clear()
        near_server.flowing.clear()
        stalled = time.monotonic()
        for name in names:
            agents.send(name, update(name))
        server.send("server", BEGUN)
        until(lambda: agents.connections == server.connections == 0, 8)
        assert 1.9 < time.monotonic() - stalled < 6.5
        for name in names:  # into a connection that is not there
            agents.send(name, update(name, 2))
        near_server.flowing.set()
        gather(server, Presence, "agent", ["server"])
        proxy.flowing.set()
        gather(agents, Round, "round", [1])
        said = set()

        def complete():
            said.update(m[1:] for m in read(server, Update, "agent", "round"))
            return len(said) == 10

        until(complete)
        until(lambda: agents.connections == 5)


def test_a_broker_that_does_not_answer_is_asked_again(opened, broker, monkeypatch):
    """A connection that is accepted but never welcomed is given up, and tried again."""
    monkeypatch.setattr(connection_pool, "WELCOME", 0.3)
    monkeypatch.setattr(connection_pool, "TICK", 0.1)
    monkeypatch.setattr(reconnect, "BACKOFF", (0.1, 0.2))
    with Proxy(broker) as proxy:
        hub = opened(proxy)
        before = proxy.accepted
        proxy.flowing.clear()
        hub.join("a", Round)
        until(lambda: proxy.accepted >= before + 3)
        assert hub.connections == 0
        proxy.flowing.set()
        until(lambda: hub.connections == 1)


def test_who_does_not_read_for_long_is_not_cut_off(opened, mosquitto, monkeypatch):
    """With a full inbox the broker's words are left unread, also its pongs: it is no less alive."""
    monkeypatch.setattr(mqtt_transport, "INBOX", 10)
    server = listening_to(opened(mosquitto, keepalive=1), "server", Update)
    agents = opened(mosquitto)
    agents.join("a")
    for number in range(300):
        agents.send("a", update("a", number))
    until(lambda: len(server.inbox) > 10)
    door = server.pool.connections_by_name["server"]
    since, until_then = door.since, time.monotonic() + 2.8
    while time.monotonic() < until_then:
        assert len(server.inbox) < 100
        time.sleep(0.05)
    assert (server.connections, door.since) == (1, since)
    numbers = []
    until(lambda: numbers.extend(m[1] for m in read(server, Update, "round")) or len(numbers) > 299)
    assert numbers == list(range(300))
    assert door.since == since


# ---------------------------------------------------------------- a broker that goes


@needs_mosquitto
def test_three_hundred_come_back_without_a_stampede(opened, monkeypatch):
    """While the broker is gone one knocks for all; then all connect, 32 at a time at most."""
    attempts, crowd = [], [0]
    connect = connection_pool.Client.connect

    def counted(client, *args):
        attempts.append(time.monotonic())
        return connect(client, *args)

    monkeypatch.setattr(connection_pool.Client, "connect", counted)
    with local_broker("mosquitto", say=lambda _: None) as first:
        hub = opened(first)
        due = hub.pool._connect_due

        def watched(now):
            due(now)
            waiting = sum(
                door.client.socket() is not None and not door.connected
                for door in hub.pool.connections_by_name.values()
            )
            crowd.append(waiting)

        hub.pool._connect_due = watched
        for number in range(300):
            hub.join(f"agent-{number:03d}", Model)
        until(lambda: hub.connections == 300)
    until(lambda: hub.connections == 0)
    time.sleep(0.8)  # whose pause is over by now finds nobody
    attempts.clear()
    time.sleep(1.0)
    assert len(attempts) <= 3
    with local_broker("mosquitto", say=lambda _: None, port=first.port):
        until(lambda: hub.connections == 300, 10)
        hub.close()
    assert max(crowd) == connection_pool.CONNECTING


# ---------------------------------------------------------------- a name that another takes


class Thief:
    """Connects under another's client id, again and again, as soon as it is thrown out."""

    def __init__(self, broker, name):
        name = name.encode()
        head = b"\x00\x04MQTT\x04\x02\x01\x2c" + len(name).to_bytes(2, "big")
        self._hello = bytes([0x10, len(head + name)]) + head + name
        self._broker = broker.host, broker.port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._steal, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(5)

    def _steal(self):
        while not self._ended.wait(0.02):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(self._broker, timeout=0.2) as connection,
            ):
                connection.sendall(self._hello)
                while not self._ended.is_set():
                    with contextlib.suppress(TimeoutError):
                        if not connection.recv(100):
                            break


@needs_mosquitto
def test_there_is_no_war_over_a_name(opened, mosquitto, monkeypatch):
    """An agent whose name is taken comes back ever more slowly, says so once, and works again."""
    monkeypatch.setattr(reconnect, "BACKOFF", (0.05, 30.0))
    hub = listening_to(opened(mosquitto), "a", Round)
    listening_to(hub, "b", Round)
    times = []
    connected = hub.pool._connected

    def noted(door, *answer):
        times.append((time.monotonic(), door.name))
        connected(door, *answer)

    hub.pool._connected = noted
    with Thief(mosquitto, "lab.a"):
        until(lambda: len(times) >= 5)
        assert {name for _, name in times} == {"a"}
        pauses = [later[0] - sooner[0] for sooner, later in pairwise(times)]
        assert pauses[-1] >= 0.35  # 0.8 s, give or take a half
        assert sum(pauses) < 10
        (told,) = hub.notices.take()
        assert told.startswith("the broker lets a in and cuts it off, again and again, and does")
        hub.send("b", BEGUN)
        assert {"b"} <= {m[0] for m in read(hub, Round, seconds=0.3)}
    until(lambda: hub.connections == 2)
    hub.send("b", replace(BEGUN, round=2))
    heard = set()
    until(lambda: heard.update(read(hub, Round, "round")) or {("a", 2), ("b", 2)} <= heard)
    assert hub.notices.take() == []


@needs_mosquitto
def test_the_only_one_of_its_name_gives_way_to_who_will_not(opened, mosquitto, monkeypatch):
    """An aggregator that is thrown out again and again ends with one sentence.

    It counts how often, not for how long it was let alone: two such wait ever longer.
    """
    monkeypatch.setattr(reconnect, "BACKOFF", (0.02, 0.1))
    monkeypatch.setattr(connection_pool, "SETTLED", -1.0)
    address = BrokerAddress(mosquitto.host, mosquitto.port)
    with contextlib.closing(MqttTransport(address, "lab", sole=True).open()) as hub:
        hub.join(":aggregator", presence=False)
        until(lambda: hub.receive(0.02) or hub.connections)
        with Thief(mosquitto, "lab.:aggregator"), pytest.raises(TransportError) as raised:
            until(lambda: hub.receive(0.05))
    said = "and does not say why: perhaps another client of run 'lab' uses its name, and has our"
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@needs_mosquitto
def test_a_broker_that_dies_again_and_again_is_no_rival(monkeypatch):
    """However often the broker is restarted, an aggregator waits for it."""
    monkeypatch.setattr(reconnect, "BACKOFF", (0.02, 0.1))
    monkeypatch.setattr(reconnect, "ATTEMPTS", (0.02, 0.1))
    port = free_port()
    hub = MqttTransport(BrokerAddress(HOST, port), "lab", sole=True)
    try:
        for number in range(7):
            with local_broker("mosquitto", say=lambda _: None, port=port):
                if not number:
                    hub.open()
                    hub.join(":aggregator", presence=False)
                until(lambda: hub.receive(0.02) or hub.connections)
            until(lambda: hub.receive(0.02) or not hub.connections)
            read(hub, Presence, seconds=0.2)  # it finds nobody there
        assert hub.notices.take() == []
    finally:
        hub.close()


# ---------------------------------------------------------------- what the broker denies, and drops


@needs_mosquitto
def test_what_the_broker_denies_is_told_once(tmp_path):
    """An agent that speaks in another's name is told so, once; what it may say still arrives."""
    secrets = tmp_path / "secrets"
    assert enrol.main(["--n", "2", "--folder", str(secrets)]) == 0
    with local_broker("mosquitto", say=lambda _: None, secrets=secrets) as there:
        where = [
            BrokerAddress(there.host, there.port, secrets=str(secrets / part))
            for part in ("aggregator", "agents")
        ]
        server = MqttTransport(where[0], "lab", sole=True).open(":aggregator")
        agents = MqttTransport(where[1], "lab").open("agent-0")
        try:
            server.join(":aggregator", Update, Presence, presence=False)
            agents.join("agent-0", Round)
            gather(server, Presence, "agent", ["agent-0"])
            for number in range(3):
                agents.send("agent-0", update("agent-1", number))
            agents.send("agent-0", update("agent-0", 7))
            assert gather(server, Update, "agent", ["agent-0"]) == {"agent-0"}
            said = []
            until(lambda: said.extend(agents.notices.take()) or said)
            until(lambda: agents.pool.connections_by_name["agent-0"].unacknowledged == 0)
            said.extend(agents.notices.take())
            (told,) = said
            refused = "the broker refused a message of agent-0: Not authorized; its access rules do"
            assert told.startswith(refused)
        finally:
            agents.close()
            server.close()


@contextlib.contextmanager
def mosquitto_with(folder, *lines):
    """Run a Mosquitto with these lines in its configuration."""
    port = free_port()
    file = folder / "mosquitto.conf"
    said = [f"listener {port} {HOST}", "allow_anonymous true", "user root", *lines]
    file.write_text("\n".join(said) + "\n")
    with (folder / "mosquitto.log").open("wb") as log:
        child = subprocess.Popen([find_mosquitto(), "-c", file], stdout=log, stderr=log)
    try:
        until(lambda: answers(HOST, port))
        yield BrokerAddress(HOST, port)
    finally:
        processes.stop(child)


@needs_mosquitto
def test_what_the_broker_drops_is_counted(opened, tmp_path):
    """Of 50 messages for one who never acknowledges, 1 is in flight, 10 wait: 39 are counted."""
    few = ("max_queued_messages 10", "max_inflight_messages 1", "sys_interval 1")
    with (
        mosquitto_with(tmp_path, *few) as there,
        socket.create_connection(there[:2]) as stalled,
    ):
        topic = b"\x00\x12fl/v2/lab/update/+\x01"
        hello = b"\x00\x04MQTT\x04\x02\x01\x2c\x00\x04deaf"
        stalled.sendall(bytes([0x10, len(hello)]) + hello)
        stalled.sendall(bytes([0x82, 2 + len(topic), 0, 1]) + topic)
        assert stalled.recv(4) == b"\x20\x02\x00\x00"
        assert stalled.recv(5) == b"\x90\x03\x00\x01\x01"
        hub = listening_to(opened(there), "server")
        hub.watch_drops("server")
        until(lambda: hub.pool.drops.last is not None)
        for number in range(50):
            hub.send("server", update("a", number))
        until(lambda: hub.dropped)
        assert hub.dropped == 39
        assert read(hub, object) == []  # the count itself is no message of ours
        hub.close()


# ---------------------------------------------------------------- leaving nothing behind


def test_forgetting_leaves_nothing_of_the_run_and_all_of_others(opened, broker, monkeypatch):
    """What anybody retained below the run is gone, garbage too, whatever waits to be read."""
    monkeypatch.setattr(mqtt_transport, "CLEARED", 3)  # topics emptied at a time
    server = listening_to(opened(broker), "server", Update)
    agents = opened(broker)
    agents.join("a")
    for message in (BEGUN, Model(1, WEIGHTS), RoundLog(RoundRecord(1))):
        server.send("server", message)
    kept = ["fl/v2/lab2/round", "fl/v2/labor/of/love", "fl/v2/la", "fl/v3/lab/round"]
    garbage = ["fl/v2/lab/update/mallory", "fl/v2/lab/x/y/z", "fl/v2/lab/history/-1"]
    with RawClient(broker) as mallory:
        for topic in (*kept, *garbage):
            mallory.publish(topic, b"?", retain=True)
        for number in range(30):
            agents.send("a", update("a", number))
        until(lambda: len(server.inbox) >= 30)
        # round, model, log/round, two presences
        assert server.forget("server") == 5 + len(garbage)
        assert server.receive(0.1) is None
        server.close(forget=True)
        agents.close(forget=True)
        with RawClient(broker, "fl/v2/#", "fl/v3/#") as late:
            until(lambda: len(late.heard) >= len(kept))
            time.sleep(0.2)
            assert sorted(m.topic for m in late.heard) == sorted(kept)
        for topic in kept:
            mallory.publish(topic, b"", retain=True)


@pytest.mark.parametrize("forget", [False, True])
def test_a_goodbye_may_leave_no_presence(opened, broker, forget):
    """Those who listen hear that all are offline; who comes later hears it, or nothing at all."""
    with RawClient(broker, "fl/v2/lab/agent/+") as witness:
        agents = opened(broker)
        for name in "ab":
            agents.join(name)
        until(lambda: len(witness.heard) == 2)
        agents.close(forget=forget)
        until(lambda: len(witness.payloads("agent/")) == 4)
        with RawClient(broker, "fl/v2/lab/agent/+", "fl/v2/lab/end") as late:
            late.publish("fl/v2/lab/end", b"end")
            until(lambda: late.payloads("end"))
            assert len(late.payloads("agent/")) == (0 if forget else 2)
        for name in "ab":
            witness.publish(f"fl/v2/lab/agent/{name}", b"", retain=True)


def test_a_hub_that_never_opened_can_be_closed():
    """Closing what has not been opened, or twice, does nothing."""
    hub = MqttTransport(BrokerAddress(HOST, 1), "lab")
    hub.close()
    hub.close()


# ---------------------------------------------------------------- the aggregator and its broker


class Screen:
    """Keeps what people are told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        """Keep a sentence."""
        self.said.append(text)

    def progress(self, state):
        """Ignore where the round stands."""

    def waiting(self, online, wanted):
        """Ignore how many are there."""


class Board:
    """An aggregator over memory, agents that only say they are there, and a clock by hand."""

    def __init__(self, online, connections=1, **changes):
        broker = MemoryBroker()
        self.now, self.screen = 0.0, Screen()
        self.hub, self.agents = MemoryTransport(broker, "lab"), MemoryTransport(broker, "lab")
        self.hub.connections = connections
        self.agents.join("ear", Round, presence=False)
        said = policy(collect_seconds=10, **{"sampling.names": 0}, **changes)  # needs no key
        link = Connection(self.hub, "aggregator")
        self.aggregator = Aggregator(link, said, None, self.screen, clock=self.seconds)
        self.look = lambda: self.now
        self.aggregator.connection.subscribe(Update, Presence)
        self.state = State(GlobalModel(0, vector(0, 0)), 0)
        for name in online:
            self.says(name)
        self.turn()

    def seconds(self):
        """Look at the clock."""
        return self.look()

    def says(self, name, *, online=True):
        """Let an agent say that it is there."""
        self.agents.send(name, Presence(name, online, 0.0))

    def turn(self, now=None):
        """Read all that has come, and look at the clock; returns the rounds that are announced."""
        self.now = self.now if now is None else now
        while self.hub.inbox:
            self.state = self.aggregator.read(self.state, 0)
        self.state = self.aggregator.turn(self.state)
        announced = []
        while self.agents.inbox:
            with contextlib.suppress(BadMessage):
                announced.append(self.agents.receive().message)
        return announced


def test_while_the_broker_is_gone_the_round_waits():
    """People hear that it is gone and back, once; no deadline passes meanwhile."""
    board = Board("abc", min_updates=2)
    assert board.state.selected == {"a", "b", "c"}
    board.hub.connections = 0
    for now in (5.0, 11.0, 100.0, 1000.0):
        assert board.turn(now) == []
    board.hub.connections = 1
    assert board.turn(1001.0) == []
    assert board.screen.said == [GONE, "the broker is back"]
    assert (board.state.round, board.state.attempt) == (1, 1)
    board.turn(1009.9)
    assert board.state.attempt == 1
    (again,) = board.turn(1010.0)  # ten seconds after the last look without a broker
    assert (again.round, again.attempt) == (1, 2)


def test_who_does_not_come_back_with_the_broker_is_no_longer_called():
    """After collect.seconds those are gone who have not said again that they are there."""
    board = Board("abcd", min_updates=2)
    board.hub.connections = 0
    board.turn(50.0)
    board.hub.connections = 1
    board.turn(51.0)
    board.says("b")
    board.says("c")
    board.says("c", online=False)
    board.turn(55.0)
    assert board.aggregator.online == {"a", "b", "d"}  # they may yet come
    board.turn(59.9)
    assert board.aggregator.online == {"a", "b", "d"}
    board.says("d")
    board.turn(60.9)
    board.turn(61.0)
    assert board.aggregator.online == {"b", "d"}
    board.says("a")  # late, but there
    board.turn(62.0)
    assert board.aggregator.online == {"a", "b", "d"}


def test_a_broker_that_goes_again_gives_everybody_their_time_again():
    """Who was not heard before the second outage is waited for after it."""
    board = Board("ab")
    for connections, now in ((0, 10.0), (1, 11.0), (0, 20.0), (1, 30.0)):
        board.hub.connections = connections
        board.turn(now)
    board.says("a")
    board.turn(39.9)
    assert board.aggregator.online == {"a", "b"}
    board.turn(40.0)
    assert board.aggregator.online == {"a"}


def test_a_first_connection_is_no_outage():
    """A run that begins before its connection stands says nothing of a broker that is back."""
    board = Board("", connections=0)
    board.hub.connections = 1
    board.turn()
    assert board.screen.said == []


def test_more_agents_than_the_limit_are_refused_and_counted(tmp_path):
    """Of eight who say they are there five count; the rest, who do not know it, are refused."""
    lab = Federation(
        tmp_path, agents__n=8, limits__agents=5, collect__agents=5, run__rounds=2
    ).whole()
    first, second = lab.records
    assert (first.selected, first.traffic.invalid_messages) == (5, {"too_many": 3})
    assert (second.selected, second.updates, second.missing) == (5, 5, 0)
    assert second.traffic.invalid_messages.keys() <= {"wrong_round", "not_selected"}


def test_who_leaves_makes_room():
    """The limit is of those online: one who is refused can come once another has gone."""
    board = Board("abc", agents_cap=2)
    assert board.aggregator.online == {"a", "b"}
    assert board.state.invalid == {"too_many": 1}
    board.says("b")  # again: no newcomer
    board.says("a", online=False)
    board.says("c")
    board.turn()
    assert board.aggregator.online == {"b", "c"}
    assert board.state.invalid == {"too_many": 1}


def test_forgetting_waits_for_the_agents_but_not_for_ever():
    """What is retained is removed once all have left, or after the patience."""
    for leaves in (True, False):
        board = Board("a")
        board.aggregator.connection.publish(MANIFEST)
        broker = board.hub.broker
        assert broker.retained.keys() == {"fl/v2/lab/manifest", *OTHERS}

        def tick(board=board, leaves=leaves):
            board.now += 0.5
            if leaves and board.now == 1.0:
                board.says("a", online=False)
            return board.now

        board.look = tick
        assert board.aggregator.forget(5.0) == 4
        assert broker.retained == {}
        assert (board.now < 3) == leaves
        assert board.now < 7


def test_a_broker_that_is_gone_forgets_nothing():
    """That is told as it is."""
    board = Board("a")
    board.hub.connections = 0
    assert board.aggregator.forget(0.0) == 0
    assert "does not answer" in forgotten(0)
    assert forgotten(1234) == "the broker retains no messages of the run any more (1,234 topics)"


OTHERS = {"fl/v2/lab/round", "fl/v2/lab/agent/a", "fl/v2/lab/log/history"}
MANIFEST = toy_manifest()


# ---------------------------------------------------------------- cells


def hears(board, topic, payload):
    """Let an aggregator hear what a bridge says."""
    board.hub.inbox.append(("aggregator", f"fl/v2/.cells/{topic}", payload))


def member(board, cell, agent):
    """Let an aggregator hear which cell an agent is in."""
    hears(board, f"{cell}/lab/agent/{agent}", b'{"online":true,"since":0.0,"votes":true}')


def test_agents_of_a_cell_that_is_cut_off_are_called_no_more_until_it_is_back():
    """After 20 s, and as soon as they say again that they are there."""
    board = Board("abcd", min_updates=2)
    for cell, agent in ((1, "a"), (1, "b"), (2, "c"), (2, "d")):
        member(board, cell, agent)
    hears(board, "2/link", b"0")
    board.turn(1.0)
    assert board.screen.said == ["cell 2 is cut off: in 20 s its 2 agents count as offline"]
    for now in (5.0, 12.0, 20.9):
        board.turn(now)
        assert board.aggregator.online == {"a", "b", "c", "d"}
    board.turn(21.0)
    assert board.aggregator.online == {"a", "b"}
    hears(board, "2/link", b"1")
    board.says("c")
    board.says("d")
    board.turn(30.0)
    assert board.screen.said[1:] == ["cell 2 is back"]
    board.turn(60.0)
    assert board.aggregator.online == {"a", "b", "c", "d"}


def test_while_the_core_is_gone_no_cell_is_given_up():
    """A cell that was cut off before has its 20 s once the aggregator hears again."""
    board = Board("ab", min_updates=1)
    member(board, 1, "a")
    hears(board, "1/link", b"0")
    board.turn(1.0)
    board.hub.connections = 0
    board.turn(100.0)
    board.hub.connections = 1
    board.turn(101.0)
    board.says("a")
    board.says("b")
    board.turn(120.9)
    assert board.aggregator.online == {"a", "b"}
    board.turn(121.0)
    assert board.aggregator.online == {"b"}
