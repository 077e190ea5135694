"""The doors to a real broker: what goes in comes out, whatever happens to the connection."""

from __future__ import annotations

import gc
import itertools
import shutil
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.by_hand import toy_manifest
from support.listening import RawClient, until

from fedjury import processes
from fedjury.broker import local
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.processes import free_port
from fedjury.protocol.codec import encode
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.logs import InvalidMessages
from fedjury.protocol.messages import (
    BadMessage,
    Candidate,
    History,
    InvalidLog,
    Manifest,
    Model,
    Phase,
    Presence,
    Reason,
    Round,
    RoundLog,
    Update,
    Vote,
)
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.transport import (
    connection_pool,
    mqtt_probe,
    mqtt_transport,
    reconnect,
)
from fedjury.protocol.transport.by_url import transport_at
from fedjury.protocol.transport.connection import Connection, TransportError
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.mqtt_transport import MqttTransport
from fedjury.protocol.transport.reasons import BrokerLimits

WEIGHTS = np.linspace(-1, 1, 1300, dtype=np.float32)
MANIFEST = toy_manifest(
    tensors=(("w", (13, 100)),), parameters=1300, judge_options={"false_alarm": 0.05}
)
SAYS_AGGREGATOR = (
    MANIFEST,
    Round(3, 1, Phase.TRAIN, 2, "all", ("a", "b"), 60.0),
    Model(2, WEIGHTS),
    History(2, WEIGHTS),
    Candidate(3, 1, 2, WEIGHTS),
    RoundLog(RoundRecord(3, accepted=True)),
    InvalidLog(InvalidMessages(3, {"duplicate": 1})),
)
BEGUN = Round(1, 1, Phase.TRAIN, 0, "all", (), 60.0)
SAYS_AGENT = (
    Update("a", 3, 2, 4, WEIGHTS),
    Vote(
        "a",
        3,
        1,
        poisoned=True,
        score=2.5,
        threshold=1.5,
        samples=4,
        evidence=np.array([0.5, -2.25, 7], "<f4").tobytes(),
        size=9000,
    ),
)


@pytest.fixture
def opened(broker):
    """Open hubs to the test's broker; those still open at the end are closed."""
    hubs = []

    def open_one(run="lab"):
        hubs.append(transport_at(f"mqtt://{broker.host}:{broker.port}", run).open())
        return hubs[-1]

    yield open_one
    for hub in hubs:
        hub.close()


def joined(hub, name, *kinds):
    """Join a party and wait until it hears its own presence: then it hears all it asked for."""
    hub.join(name, *kinds, Presence)
    heard = []
    while not heard or heard[-1] != (name, name):
        delivery = hub.receive(10)
        assert delivery is not None, f"{name} never heard itself"
        heard.append((delivery.to, getattr(delivery.message, "agent", "")))
    return hub


def collect(hub, count, seconds=20.0):
    """Receive ``count`` messages that are no presence."""
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages came: {found[-3:]}"
        delivery = hub.receive(0.1)
        if delivery is not None and not isinstance(delivery.message, Presence):
            found.append(delivery)
    return found


def presences(link, agent):
    """Return an endless iterator over what is said of one agent: online or not."""
    while True:
        message = until(lambda: link.receive(0.1))
        if isinstance(message, Presence) and message.agent == agent:
            yield message.online


def as_sent(messages):
    """Messages as something that can be compared: kind, topic's field and payload."""
    return [
        (type(m), getattr(m, "agent", None), getattr(m, "version", None), encode(m))
        for m in messages
    ]


def test_every_kind_arrives_as_it_was_sent(opened):
    """What the aggregator says reaches an agent, and what an agent says the aggregator."""
    agents = joined(opened(), "a", *map(type, SAYS_AGGREGATOR))
    server = joined(opened(), "aggregator", *map(type, SAYS_AGENT))
    for message in SAYS_AGGREGATOR:
        server.send("aggregator", message)
    for message in SAYS_AGENT:
        agents.send("a", message)
    down = [d.message for d in collect(agents, len(SAYS_AGGREGATOR))]
    up = [d.message for d in collect(server, len(SAYS_AGENT))]
    assert as_sent(down) == as_sent(SAYS_AGGREGATOR)
    assert as_sent(up) == as_sent(SAYS_AGENT)
    sizes = [sum(len(encode(m)) for m in said) for said in (SAYS_AGGREGATOR, SAYS_AGENT)]
    assert server.traffic.sent == sizes[0]
    assert server.traffic.received >= sizes[1]


def test_late_joiner_gets_what_is_retained_and_not_what_was_cleared(opened):
    """A party that comes late receives manifest, round and model, but no withdrawn candidate."""
    server, witness = joined(opened(), "aggregator"), joined(opened(), "w", Round)
    for message in SAYS_AGGREGATOR:
        server.send("aggregator", message)
    server.clear("aggregator", SAYS_AGGREGATOR[4])
    collect(witness, 1)
    server.send("aggregator", Round(4, 1, Phase.TRAIN, 2, "all", (), 60.0))
    collect(witness, 1)  # the broker has taken all that was sent before
    late = opened()
    late.join("late", Manifest, Round, Model, Candidate)
    heard = {type(d.message): d.message for d in collect(late, 3)}
    assert set(heard) == {Manifest, Round, Model}
    assert heard[Manifest] == MANIFEST
    assert heard[Round].round == 4
    assert np.array_equal(heard[Model].weights, WEIGHTS)
    # Empty payloads, which remove what is retained, are no messages either.
    server.clear("aggregator", SAYS_AGGREGATOR[2])
    server.send("aggregator", Round(5, 1, Phase.TRAIN, 2, "all", (), 60.0))
    assert collect(late, 1)[0].message.round == 5


def test_runs_do_not_hear_each_other(opened):
    """What is published in one run is not delivered in another on the same broker."""
    ours, theirs = joined(opened("ours"), "a", Round), joined(opened("theirs"), "a", Round)
    theirs.send("a", Round(7, 1, Phase.TRAIN, 0, "all", (), 1.0))
    collect(theirs, 1)
    ours.send("a", Round(1, 1, Phase.TRAIN, 0, "all", (), 1.0))
    assert collect(ours, 1)[0].message.round == 1


def test_last_will_of_a_dead_connection_and_its_return(opened, monkeypatch):
    """An agent whose connection dies is offline for the others, and online again by itself."""
    monkeypatch.setattr(reconnect, "BACKOFF", (0.2, 0.2))
    link = Connection(opened(), "aggregator")
    link.subscribe(Presence)
    agents = opened()
    agents.join("mortal")
    seen = presences(link, "mortal")
    assert next(seen) is True
    agents.pool.connections_by_name["mortal"].client.socket().shutdown(socket.SHUT_RDWR)
    assert next(seen) is False
    assert next(seen) is True


def test_goodbye_is_said_once_and_no_will_follows(opened, broker):
    """Closing a hub says offline for each of its agents, once, and leaves no connection open."""
    witness = RawClient(broker, "fl/v2/lab/agent/+", "fl/v2/lab/end")
    with witness:
        agents = opened()
        for name in ("a", "b"):
            agents.join(name)
        until(lambda: len(witness.heard) == 2)
        clients = [door.client for door in agents.pool.connections_by_name.values()]
        agents.close()
        assert all(client.socket() is None for client in clients)
        del clients
        gc.collect()
        witness.publish("fl/v2/lab/end", b"end")
        until(lambda: witness.payloads("end"))
        offline = [m.topic for m in witness.heard if b'"online":false' in m.payload]
        assert sorted(offline) == ["fl/v2/lab/agent/a", "fl/v2/lab/agent/b"]


def test_all_that_was_sent_before_close_arrives(opened):
    """Closing loses nothing, not even what was sent before the connection stood."""
    server = joined(opened(), "aggregator", Update)
    agents = opened()
    names = [f"agent-{i:02d}" for i in range(40)]
    for name in names:
        agents.join(name)
    for name, number in itertools.product(names, range(5)):
        agents.send(name, Update(name, number, 0, 4, WEIGHTS))
    agents.close()
    found = {(d.message.agent, d.message.round) for d in collect(server, 200)}
    assert found == set(itertools.product(names, range(5)))


def test_fetch_gives_one_party_one_version(opened):
    """A fetched version goes to who asked for it, also where it is published only later."""
    server = joined(opened(), "aggregator")
    for version in range(3):
        server.send("aggregator", History(version, WEIGHTS + version))
    agents = joined(opened(), "a")
    joined(agents, "b")
    agents.fetch("a", History, 1)
    agents.fetch("b", History, 7)
    first = collect(agents, 1)[0]
    assert (first.to, first.message.version) == ("a", 1)
    assert np.array_equal(first.message.weights, WEIGHTS + 1)
    server.send("aggregator", History(7, WEIGHTS))
    second = collect(agents, 1)[0]
    assert (second.to, second.message.version) == ("b", 7)


def test_what_was_fetched_comes_once(opened):
    """Who fetched a candidate hears of the next one only if it asks again; bytes are counted."""
    server = joined(opened(), "aggregator")
    agents = joined(opened(), "a", Round)
    candidates = [Candidate(number, 1, 2, WEIGHTS + number) for number in (1, 2, 3)]
    voting = Round(1, 1, Phase.VALIDATE, 2, "all", ("a",), 60.0)
    for message in (Model(2, WEIGHTS), candidates[0], voting):
        server.send("aggregator", message)
    assert collect(agents, 1)[0].message == voting  # so the others are there to be fetched
    agents.fetch("a", Candidate)
    (first,) = collect(agents, 1)
    assert (first.message.round, first.size) == (1, len(encode(candidates[0])))
    agents.fetch("a", Model)
    assert type(collect(agents, 1)[0].message) is Model  # "a" has left the other topic before
    for message in (*candidates[1:], replace(voting, round=3)):
        server.send("aggregator", message)
    assert collect(agents, 1)[0].message == replace(voting, round=3)
    agents.fetch("a", Candidate)
    (last,) = collect(agents, 1)
    assert (last.to, last.message.round) == ("a", 3)


def test_three_hundred_parties_on_one_hub(opened):
    """Three hundred connections of one process all hear a model, decoded once, and answer."""
    names = {f"agent-{i:03d}" for i in range(300)}
    server = joined(opened(), "aggregator", Update)
    agents = opened()
    for name in names:
        agents.join(name, Model)
    until(lambda: agents.connections == 300)
    server.send("aggregator", Model(1, WEIGHTS))
    heard = collect(agents, 300)
    assert {d.to for d in heard} == names
    assert len({id(d.message) for d in heard}) == 1
    for name in names:
        agents.send(name, Update(name, 1, 1, 4, WEIGHTS))
    assert {d.message.agent for d in collect(server, 300)} == names


def test_garbage_is_refused_with_its_sender_and_the_next_message_is_read(opened, broker):
    """Bytes that are no message raise BadMessage, which names agent and reason, and only once."""
    server = joined(opened(), "aggregator", Update, Vote)
    with RawClient(broker) as hostile:
        hostile.publish("fl/v2/lab/update/mallory", b"\xff garbage")
    server.send("aggregator", SAYS_AGENT[0])
    refused = []

    def read():
        try:
            return server.receive(0.05)
        except BadMessage as bad:
            refused.append((bad.agent, bad.reason))
            return None

    assert as_sent([until(read).message]) == as_sent([SAYS_AGENT[0]])
    assert refused == [("mallory", Reason.MALFORMED)]


def test_a_hundred_megabytes_harm_nobody_else(opened, broker):
    """A giant payload is stopped by Mosquitto or refused as too large; the others go on."""
    server = joined(opened(), "aggregator", Update)
    with RawClient(broker) as flood:
        flood.paho.publish("fl/v2/lab/update/mallory", bytes(100_000_000), qos=1)
        if broker.kind == "mosquitto":
            assert flood.lost.wait(20)
            flood.paho.on_connect = lambda client, *_: client.disconnect()
        else:
            with pytest.raises(BadMessage, match=r"^too_large: 100,000,000 bytes"):
                until(lambda: server.receive(0.1))
        server.send("aggregator", SAYS_AGENT[0])
        assert as_sent(d.message for d in collect(server, 1)) == as_sent([SAYS_AGENT[0]])


def test_slow_reader_holds_the_broker_back_and_loses_nothing(opened, monkeypatch):
    """With a full inbox sockets are left alone; all messages come once the reader goes on."""
    monkeypatch.setattr(mqtt_transport, "INBOX", 10)
    server = joined(opened(), "aggregator", Update)
    agents = joined(opened(), "a")
    for number in range(300):
        agents.send("a", Update("a", number, 0, 4, WEIGHTS))
    until(
        lambda: agents.pool.connections_by_name["a"].unacknowledged == 0
    )  # the broker has them all
    until(lambda: len(server.inbox) > 10)
    assert len(server.inbox) < 100
    assert [d.message.round for d in collect(server, 300)] == list(range(300))


def test_broken_loop_is_told_to_the_reader(opened, monkeypatch):
    """If the loop fails, receiving raises TransportError instead of waiting for ever."""
    hub = joined(opened(), "a")
    monkeypatch.setattr(hub.pool, "_connect_due", lambda _: 1 // 0)
    hub.join("b")

    def told():
        try:
            hub.receive(0.05)
        except TransportError as why:
            return str(why)
        return ""

    assert "broke" in until(told)


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)  # the other speaks no MQTT 5
def test_odd_properties_of_others_do_not_cut_us_off(opened, broker):
    """A retained message with long properties that paho would refuse to read is only refused."""
    server = joined(opened(), "aggregator", Update)
    odd = Properties(PacketTypes.PUBLISH)
    odd.UserProperty = [("key", "\ufeff" + "x" * 200)]
    with RawClient(broker, protocol=paho.MQTTv5) as mallory:
        topic = "fl/v2/lab/update/mallory"
        mallory.paho.publish(topic, b"?", qos=1, retain=True, properties=odd)
        with pytest.raises(BadMessage, match="not a map"):
            until(lambda: server.receive(0.1))
        server.send("aggregator", SAYS_AGENT[0])
        assert as_sent(d.message for d in collect(server, 1)) == as_sent([SAYS_AGENT[0]])
        mallory.paho.publish(topic, b"", qos=1, retain=True).wait_for_publish(5)


CONNACK = b"\x20\x02\x00\x00"


def test_a_broker_that_drops_us_after_its_welcome_does_not_hang_us(monkeypatch):
    """Whoever is cut off right after CONNACK tries again, and can still be asked and closed."""
    monkeypatch.setattr(reconnect, "BACKOFF", (0.01, 0.02))
    welcome = mqtt_probe.Welcome(int(paho.MQTTv311), BrokerLimits())
    monkeypatch.setattr(mqtt_transport, "probe", lambda *_: welcome)
    welcomed = []

    def serve():
        while len(welcomed) < 200:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            welcomed.append(connection.recv(1000))
            connection.sendall(CONNACK)
            connection.close()

    with socket.create_server((local.HOST, 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with closing(MqttTransport(BrokerAddress(*listener.getsockname()), "lab").open()) as hub:
            for number in range(20):
                hub.join(f"a{number}", Round)
            until(lambda: hub.receive(0.05) or len(welcomed) >= 200)
            start = time.monotonic()
        assert time.monotonic() - start < 10


# ---------------------------------------------------------------- a broker that goes and returns


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_all_return_after_the_broker_was_restarted(kind, monkeypatch, request):
    """After a restart all parties are back, hear again, and send what could not be sent."""
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    monkeypatch.setattr(reconnect, "BACKOFF", (0.1, 0.3))
    names = [f"agent-{i}" for i in range(20)]
    with local.local_broker(kind, say=lambda _: None) as first:
        address = BrokerAddress(first.host, first.port)
        server, agents = (MqttTransport(address, "lab").open() for _ in range(2))
        for hub in (server, agents):
            request.addfinalizer(hub.close)
        joined(server, "aggregator", Update)
        for name in names:
            agents.join(name, Round, Model)
        until(lambda: agents.connections == 20)
        server.send("aggregator", Model(5, WEIGHTS))
        server.send("aggregator", Candidate(1, 1, 5, WEIGHTS))
        server.clear("aggregator", Candidate(1, 1, 5, WEIGHTS))
        collect(agents, 20)
    until(lambda: agents.connections == server.connections == 0)
    agents.send("agent-7", Update("agent-7", 2, 5, 4, WEIGHTS))
    with ExitStack() as stack:
        # The agents' loop stands still until a witness hears the new broker from the start.
        with agents.held():
            stack.enter_context(local.local_broker(kind, say=lambda _: None, port=address.port))
            witness = stack.enter_context(RawClient(address, "fl/v2/#"))
        until(lambda: agents.connections == 20)
        until(lambda: server.connections == 1)
        until(lambda: len(set(online(witness))) == 21)
        assert set(online(witness)) == {*names, "aggregator"}
        update = until(lambda: witness.payloads("update/agent-7"))
        assert len(update[0]) > 4 * len(WEIGHTS)
        again = collect(agents, 20)  # what the aggregator retained, which the broker forgot
        assert {type(d.message) for d in again} == {Model}
        assert {d.to for d in again} == set(names)
        server.send("aggregator", Round(2, 1, Phase.TRAIN, 5, "all", (), 60.0))
        assert {d.to for d in collect(agents, 20)} == set(names)
        agents.send("agent-3", Update("agent-3", 2, 5, 4, WEIGHTS))
        until(lambda: witness.payloads("update/agent-3"))
        until(lambda: any(d.message.agent == "agent-3" for d in collect(server, 1)))
        late = stack.enter_context(closing(MqttTransport(address, "lab").open()))
        late.join("late", Model, Candidate, Round)
        assert {type(d.message) for d in collect(late, 2)} == {Model, Round}
        agents.close()
        server.close()


def online(witness):
    """Return the names that have said they are online."""
    return [
        m.topic.rpartition("/")[2] for m in list(witness.heard) if b'"online":true' in m.payload
    ]


# ---------------------------------------------------------------- finding the broker


def test_nobody_listens():
    """An address where nobody listens is one sentence with what to do about it."""
    with socket.create_server((local.HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(TransportError, match=rf"^no MQTT broker answers at 127.0.0.1:{port} .*\S$"):
        MqttTransport(BrokerAddress(local.HOST, port), "lab").open()


@contextmanager
def server_that_says(answer):
    """Run a server that answers whatever it is told with these bytes, then says no more."""
    connections = []

    def serve(listener):
        while True:
            try:
                connection = listener.accept()[0]
                connections.append(connection)
                if connection.recv(1000):
                    connection.sendall(answer)
            except OSError:
                return

    with socket.create_server((local.HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield BrokerAddress(local.HOST, listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(64)]
)
def test_something_that_is_no_broker(answer, monkeypatch):
    """A port where something else listens is one sentence, soon."""
    monkeypatch.setattr(mqtt_probe, "PATIENCE", 0.5)
    with (
        server_that_says(answer) as address,
        pytest.raises(TransportError, match=r"not speak MQTT \(without TLS; .* port 8883\)$"),
    ):
        probe(address)


WELCOME_AND_OUT = b"\x20\x03\x00\x00\x00\xe0\x01\x8e"
"""MQTT 5: a CONNACK, then a DISCONNECT that says that the session was taken over."""


def test_who_is_the_only_one_of_its_name_ends_when_it_is_taken():
    """An aggregator whose place another has taken is told so in one sentence, and lets go."""
    with (
        server_that_says(WELCOME_AND_OUT) as address,
        closing(MqttTransport(address, "lab", sole=True).open()) as hub,
    ):
        hub.join(":aggregator", presence=False)
        with pytest.raises(TransportError) as raised:
            until(lambda: hub.receive(0.05))
        text = "another client connected to the broker as :aggregator of run 'lab'"
        assert str(raised.value) == f"{text}, and has replaced this one"
        assert hub.notices.take() == [text]
        with pytest.raises(TransportError):
            hub.receive(0.05)
        hub.join("late", presence=False)
        hub.send("late", BEGUN)  # and whoever might still say something does not hold up the end
        hub.close()
        assert hub.pool.connections_by_name[":aggregator"].client.socket() is None


def test_an_agent_whose_name_is_taken_tries_ever_more_slowly(monkeypatch):
    """It goes on and says so once; however long it could stay, the pauses double."""
    monkeypatch.setattr(reconnect, "BACKOFF", (0.05, 30.0))
    monkeypatch.setattr(connection_pool, "SETTLED", -1.0)
    with (
        server_that_says(WELCOME_AND_OUT) as address,
        closing(MqttTransport(address, "lab").open()) as hub,
    ):
        times, connected = [], hub.pool._connected

        def noted(*args):
            times.append(time.monotonic())
            connected(*args)

        hub.pool._connected = noted
        hub.join("a", presence=False)
        until(lambda: hub.receive(0.02) or len(times) >= 5)
        pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
        for failures, pause in enumerate(pauses):
            assert pause >= 0.025 * 2**failures
        assert hub.notices.take() == ["another client connected to the broker as a of run 'lab'"]


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_host_that_cannot_be_is_one_sentence(host):
    """What is no name of a host is told as plainly as a port where nobody listens."""
    with pytest.raises(TransportError, match=rf"^no MQTT broker answers at {host}:1883 \(\S.*\S$"):
        probe(BrokerAddress(host, 1883))


class Guarded(NamedTuple):
    """A Mosquitto that asks for a password."""

    host: str
    port: int


@pytest.fixture
def guarded(tmp_path):
    """Start a Mosquitto that lets in agent a1 with the password 'secret'."""
    found = find_mosquitto()
    maker = shutil.which("mosquitto_passwd")
    if not (found and maker):
        pytest.skip("mosquitto or its mosquitto_passwd is not installed")
    port = free_port()
    users, conf, log = tmp_path / "users", tmp_path / "conf", tmp_path / "log"
    subprocess.run([maker, "-b", "-c", users, "a1", "secret"], check=True)
    Path(users).chmod(0o644)
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {users}\nuser root\n"
    )
    with log.open("wb") as output:
        child = subprocess.Popen([found, "-c", conf], stdout=output, stderr=output)
    try:
        until(lambda: answers(port))
        yield Guarded(local.HOST, port)
    finally:
        processes.stop(child)


def answers(port):
    """Say whether somebody listens on a loopback port."""
    try:
        socket.create_connection((local.HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def what_to_do(name):
    """Return what is said to one who has a login, or has none."""
    return (
        f"the login '{name}' and its password are wrong" if name else "give --secrets, the folder"
    )


@pytest.mark.parametrize("login", [("a1", "wrong"), (None, None), ("nobody", "secret")])
def test_wrong_password_is_one_sentence(guarded, login):
    """Who is not let in is told so by name of the broker, without a traceback's worth of words."""
    with pytest.raises(
        TransportError, match=rf"rejects the connection: Not authorized; {what_to_do(login[0])}"
    ):
        probe(BrokerAddress(*guarded, *login))


def test_right_password_lets_in(guarded):
    """With the right password messages travel."""
    hub = MqttTransport(BrokerAddress(*guarded, "a1", "secret"), "lab").open()
    try:
        joined(hub, "a", Round)
        hub.send("a", Round(9, 1, Phase.TRAIN, 0, "all", (), 1.0))
        assert collect(hub, 1)[0].message.round == 9
    finally:
        hub.close()


def test_newest_protocol_the_broker_speaks(opened, broker):
    """MQTT 5 with Mosquitto, where a raw client sees content types; 3.1.1 with the embedded one."""
    server = joined(opened(), "aggregator")
    assert server.speaks == {"mosquitto": "MQTT 5", "embedded": "MQTT 3.1.1"}[broker.kind]
    if broker.kind == "embedded":
        return
    with RawClient(broker, "fl/v2/lab/#", protocol=paho.MQTTv5) as witness:
        for message in (Model(0, WEIGHTS), Round(1, 1, Phase.TRAIN, 0, "all", (), 1.0)):
            server.send("aggregator", message)
        until(lambda: witness.payloads("/round"))
        types = {m.topic: m.properties.ContentType for m in witness.heard if m.payload}
        assert types["fl/v2/lab/model"] == "application/msgpack"
        assert types["fl/v2/lab/round"] == "application/json"
