"""What people are told where a broker cannot be had, or does not do as we ask: the right reason.

Real Mosquittos in configurations that do not fit, TLS with certificates that do not hold, and, for
what no broker here says, raw servers.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import re
import resource
from pathlib import Path

import numpy as np
import pytest
from support.listening import until
from support.strange_brokers import connack, raw_broker, tls_broker
from test_outages import BEGUN, mosquitto_with, needs_mosquitto, read

from fedjury import processes
from fedjury.broker.local import local_broker
from fedjury.config.settings import load
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import Model, Presence
from fedjury.protocol.transport import mqtt_client, once_only, open_files, reasons, reconnect
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.mqtt_transport import MqttTransport
from fedjury.protocol.transport.reasons import BrokerLimits, Reason

LARGE = Model(1, np.zeros(20_000, np.float32))
"""80 KB."""


def no_way(where, party=""):
    """Return the sentence with which a broker cannot be had."""
    with pytest.raises(TransportError) as raised:
        probe(where, party)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ---------------------------------------------------------------- what a broker does not do


@needs_mosquitto
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("retain_available false", "retains no messages, which agents that join later"),
        ("max_qos 0", "does not accept messages with QoS 1; set"),
    ],
)
def test_what_a_broker_will_never_do_is_told_before_anything_starts(tmp_path, line, said):
    """A broker that retains nothing, or acknowledges nothing, is told with the setting to change.

    It is no rival that takes our place.
    """
    with mosquitto_with(tmp_path, line) as where:
        text = no_way(where)
    assert text.startswith(f"the broker at {where} {said}")
    assert "configuration" in text


@needs_mosquitto
def test_a_model_larger_than_the_broker_takes_is_told_before_it_is_sent(tmp_path):
    """max_packet_size below a model: both numbers, and what to raise; a smaller one may go."""
    with (
        mosquitto_with(tmp_path, "max_packet_size 50000") as where,
        contextlib.closing(MqttTransport(where, "lab", sole=True).open()) as hub,
    ):
        hub.must_carry(50_000)
        with pytest.raises(TransportError) as raised:
            hub.must_carry(80_000)
    assert str(raised.value).startswith(
        f"the broker at {where} takes messages of 50,000 bytes at most, and one of ours has 80,000"
        "; raise max_packet_size in its configuration"
    )


@needs_mosquitto
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "max_packet_size 50000",
            "the broker at WHERE takes messages of 50,000 bytes at most, and one of ours has 80,",
        ),
        (
            "message_size_limit 50000",
            "the broker refused a message of :aggregator: Packet too large; raise max_packet_size",
        ),
    ],
)
@pytest.mark.parametrize("sole", [True, False])
def test_a_message_that_is_too_large_is_no_rival(tmp_path, monkeypatch, line, said, sole):
    """CONNACK or PUBACK say why. The only one of its name ends with it; others tell it once."""
    monkeypatch.setattr(reconnect, "BACKOFF", (0.01, 0.02))
    with (
        mosquitto_with(tmp_path, line) as where,
        contextlib.closing(MqttTransport(where, "lab", sole=sole).open()) as hub,
    ):
        said = said.replace("WHERE", str(where))
        hub.join(":aggregator", Model, presence=False)
        until(lambda: hub.receive(0.02) or hub.connections)
        hub.send(":aggregator", LARGE)
        if sole:
            with pytest.raises(TransportError) as raised:
                until(lambda: hub.receive(0.05))
            assert str(raised.value).startswith(said)
        else:
            read(hub, Presence, seconds=0.5)
        told = hub.notices.take()
    assert [text.startswith(said) for text in told] == [True], told


@needs_mosquitto
def test_who_does_not_fit_is_counted_and_told(tmp_path, monkeypatch):
    """Of thirty at a broker that takes twenty connections the rest is told of, and what to raise.

    Mosquitto 2.0 miscounts whom it turned away, and lets some more in than it says.
    """
    monkeypatch.setattr(once_only, "QUIET", 0.3)
    monkeypatch.setattr(reconnect, "BACKOFF", (0.05, 0.1))
    with (
        mosquitto_with(tmp_path, "max_connections 20") as where,
        contextlib.closing(MqttTransport(where, "lab").open()) as hub,
    ):
        said = []
        outside = once_only.Outside(said.append)
        for number in range(30):
            hub.join(f"a{number}")

        def told():
            read(hub, Presence)
            outside.note(0, hub.outside)
            outside.look(30)
            return said

        until(told)
        assert 20 <= hub.connections < 30
        count = re.match(r"(\d+) of 30 agents cannot connect: it closes the connection", said[0])
        assert 0 < int(count[1]) <= 10
        assert "max_connections" in said[0]
        # And who comes when it is full is not told that no broker is there.
        assert "max_connections" in no_way(where)


def test_the_counts_of_all_places_are_told_once_they_stand_still(monkeypatch):
    """Three and one in two processes are four; less is told again, and so is that all are in."""
    said, clock = [], iter(range(0, 1000, 2))
    # Two seconds later at each look; three must pass.
    outside = once_only.Outside(said.append, lambda: next(clock))
    outside.note(0, dict.fromkeys("abc", "full"))
    outside.look(9)
    outside.note(1, {"d": "no secret"})
    for _ in range(6):
        outside.look(9)
    assert said == ["4 of 9 agents cannot connect: full (3 of them; others for other reasons)"]
    for left in ({"a": "full"}, {}):
        outside.note(0, left)
        outside.note(1, {})
        for _ in range(3):
            outside.look(9)
    assert said[1:] == ["1 of 9 agents cannot connect: full", "all agents are connected now"]


# ---------------------------------------------------------------- the reasons of MQTT


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0x85, "Client identifier not valid; it does not take RUN.NAME"),
        (0x86, "Bad user name or password; give --secrets"),
        (0x88, "Server unavailable; try again later"),
        (0x97, "Quota exceeded; it has its maximum number of clients or messages; raise that"),
        (0x9F, "Connection rate exceeded; it accepts fewer new connections per second"),
    ],
)
def test_the_reason_of_a_connack_is_told(code, said):
    """A broker that says in MQTT 5 why it does not let us in is quoted, with what to do."""
    with raw_broker(connack(code), b"") as where:
        assert no_way(where).startswith(f"the broker at {where} rejects the connection: {said}")


def test_a_broker_that_tells_of_its_limits_in_another_way():
    """Whoever refuses the retained last will of MQTT 5 as such is told like one who says so."""
    with raw_broker(connack(reasons.NO_RETAIN)) as where:
        assert "retains no messages" in no_way(where)


def test_the_reason_of_a_disconnect_is_told(monkeypatch):
    """A broker that says why it cuts somebody off is quoted, and taken for no rival's."""
    monkeypatch.setattr(reconnect, "BACKOFF", (0.01, 0.02))
    with (
        raw_broker(connack(0) + b"\xe0\x01\x97") as where,
        contextlib.closing(MqttTransport(where, "lab", sole=True).open()) as hub,
    ):
        hub.join(":aggregator", presence=False)
        with pytest.raises(TransportError) as raised:
            until(lambda: hub.receive(0.05))
        said = (
            "the broker disconnected :aggregator: Quota exceeded; it has its maximum number of "
            "clients or messages"
        )
        assert str(raised.value).startswith(said)
        (told,) = hub.notices.take()
        assert told.startswith(said)


@pytest.mark.parametrize(
    ("code", "often", "final"),
    [
        (0, False, "does not say why: perhaps another client of run 'lab' uses its name, and has"),
        (0x97, False, "Quota exceeded; it has its maximum"),
        (0x95, True, "Packet too large; raise"),
        (0x9A, True, "Retain not supported; it retains"),
        (0x9B, True, "QoS not supported; it does"),
    ],
)
def test_only_a_session_that_was_taken_over_is_a_rival(code, often, final):
    """What will be refused again ends at once, other reasons and none after six times."""
    told = Reason(code, mqtt_client.numbered(code).words)
    cuts = [reasons.of_cut("x", "lab", told, BrokerLimits(), times) for times in range(1, 8)]
    assert [bool(cut.final) for cut in cuts] == [often] * 5 + [True] * 2
    assert final in cuts[-1].final
    assert "replaced this one" not in cuts[-1].final


def test_reasons_without_advice_are_their_words():
    """What we know nothing about is still quoted, an unknown number too."""
    for code, words in ((0x83, "Implementation specific error"), (0xFE, "reason 0xfe")):
        reason = mqtt_client.numbered(code)
        assert reason.refuses
        assert reasons.refused(reason, "ann") == words
        assert reasons.no_receipt(reason) == reasons.cut_off(reason, BrokerLimits()) == words


# ---------------------------------------------------------------- TLS


WRONG = {
    "expired": ({"since": -9, "until_": -2}, "certificate has expired; it has expired; have a new"),
    "not yet valid": (
        {"since": 2, "until_": 9},
        "not yet valid; it is not valid yet; this machine",
    ),
    "another address": ({"name": "192.0.2.7"}, "it does not name 127.0.0.1; connect by a name"),
    "another authority": ({"ca": False}, "was not signed by the known authority (--ca, or"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_certificate_that_does_not_hold_is_told_with_what_to_do(tmp_path, case):
    """Expired, not yet valid, for another address, by an unknown authority: reason and remedy."""
    wrong, said = WRONG[case]
    with tls_broker(tmp_path, **wrong) as where:
        text = no_way(where)
    assert text.startswith(f"the certificate of the broker at {where} cannot be trusted: ")
    assert said in text
    if "valid" in case or case == "expired":
        assert re.search(r"clock .*says \d{4}-\d\d-\d\d \d\d:\d\d UTC", text)


# ---------------------------------------------------------------- logins that protect nothing


@needs_mosquitto
@pytest.mark.parametrize("how", ["secrets", "username", "nothing"])
def test_a_log_in_at_a_broker_that_lets_anybody_in_is_told(tmp_path, how):
    """With --secrets or --username it is told once that they are of no use; without, nothing."""
    (tmp_path / "a.password").write_text("x")
    more = {"secrets": {"secrets": str(tmp_path)}, "username": {"username": "a"}, "nothing": {}}
    with local_broker("mosquitto", say=lambda _: None) as there:
        address = BrokerAddress(there.host, there.port, **more[how])
        with contextlib.closing(MqttTransport(address, "lab").open("a")) as hub:
            told = hub.notices.take()
    if how == "nothing":
        assert told == []
    else:
        (text,) = told
        where = f"{there.host}:{there.port}"
        assert text.startswith(f"warning: the broker at {where} accepts clients without a login")


# ---------------------------------------------------------------- what is our own


@pytest.fixture
def few_files():
    """Give a function that lets this process open only so many files more; undone at the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow(more):
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        used = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
        # The limit is on a file's number, and what ran before may have left gaps below it.
        free = itertools.islice((n for n in itertools.count() if n not in used), more)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, before[1]))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_too_few_open_files_are_told_before_anything_starts(monkeypatch):
    """The soft limit is raised to the hard one; where that is not enough, the number is told."""
    limits = [(30, 400)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    monkeypatch.setattr(open_files, "_open", lambda: 10)
    open_files.make_room(300)
    assert limits[1:] == [(400, 400)]
    with pytest.raises(TransportError) as raised:
        open_files.make_room(400, "agents")
    assert str(raised.value).startswith(
        "400 agents in one process need 434 open files, and 400 are allowed: raise that ('ulimit "
        "-n 434'"
    )


@needs_mosquitto
def test_files_that_run_out_are_not_the_broker_s_fault(few_files, monkeypatch):
    """Whom this process has no file for is told so; the others work, and all come once it has."""
    monkeypatch.setattr(reconnect, "BACKOFF", (0.05, 0.1))
    with local_broker("mosquitto", say=lambda _: None) as there:
        hub = MqttTransport(BrokerAddress(there.host, there.port), "lab").open()
        with contextlib.closing(hub):
            few_files(6)
            for number in range(10):
                hub.join(f"a{number}")
            until(lambda: read(hub, Presence) or hub.outside)
            told = hub.notices.take()
            assert 0 < hub.connections < 10
            few_files(50)
            until(lambda: read(hub, Presence) or hub.connections == 10)
            assert hub.outside == {}
            hub.send("a0", BEGUN)
    (text,) = told
    assert re.match(r"a\d cannot connect: this process cannot open more files \(\d+\)", text)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
def test_an_error_of_our_own_says_nothing_of_a_broker(number):
    """Where we cannot open a connection, nobody is told to start a broker."""
    there = BrokerAddress("x", 1)
    said = reasons.unreachable(there, OSError(number, "no"))
    assert said.startswith("no connection to the broker at x:1 can be opened: this ")
    assert "start" not in said
    assert "start it there" in reasons.unreachable(there, OSError(errno.ECONNREFUSED, "no"))


def test_a_process_that_was_killed_may_have_been_too_large():
    """What the system kills with SIGKILL says where to look; other ends have their names."""
    assert processes.death(-9).startswith(
        "SIGKILL: so the system ends processes when memory has run"
    )
    assert (processes.death(-11), processes.death(3)) == ("SIGSEGV", "exit code 3")


def test_settings_reach_the_sentence():
    """The address in a sentence is the one that people gave."""
    said = load([], {"broker.host": "h", "broker.port": 7}).broker
    assert f"{said.host}:{said.port}" in reasons.lacking("h:7", BrokerLimits(retain=False))
