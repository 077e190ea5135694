"""The private broker: both kinds carry messages, start and stop cleanly, and fail clearly."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from fedjury import processes
from fedjury.broker import __main__ as program
from fedjury.broker import enrolment, local, mosquitto, pid_file
from fedjury.broker.enrolment_file import Principal
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers

ROOT = Path(__file__).resolve().parents[2]
PAYLOAD = os.urandom(52_000)


def silent(line):
    """Say nothing."""


@pytest.fixture(scope="module", params=["mosquitto", "embedded"])
def address(request):
    if request.param == "mosquitto" and not find_mosquitto():
        pytest.skip("no mosquitto on this machine")
    with local.local_broker(request.param, say=silent) as running:
        yield running


class Client:
    """A paho client on threads whose messages land in a queue."""

    def __init__(self, address, will=None):
        self.inbox = queue.Queue()
        self.granted = queue.Queue()
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self.paho.on_message = lambda _client, _data, message: self.inbox.put(message)
        self.paho.on_subscribe = lambda *_: self.granted.put(True)
        if will:
            self.paho.will_set(*will)
        self.paho.connect(address.host, address.port, keepalive=60)
        self.paho.loop_start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()

    def subscribe(self, topic):
        """Subscribe and wait until the broker agrees."""
        self.paho.subscribe(topic, qos=1)
        self.granted.get(timeout=5)

    def publish(self, topic, payload, *, retain=False):
        """Publish and wait for the broker's receipt."""
        self.paho.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def receive(self):
        """Wait for the next message."""
        return self.inbox.get(timeout=5)

    def drop_dead(self):
        """End the connection without a goodbye."""
        self.paho.loop_stop()
        self.paho.socket().shutdown(socket.SHUT_RDWR)
        self.paho.socket().close()


def test_a_message_there_and_back(address):
    with Client(address) as client:
        client.subscribe("there/+")
        client.publish("there/a", PAYLOAD)
        message = client.receive()
        assert (message.topic, message.qos, message.payload) == ("there/a", 1, PAYLOAD)


def test_retained_reaches_a_late_client_once_and_only_if_it_asks(address):
    with Client(address) as early, Client(address) as bystander:
        early.subscribe("kept/model")
        early.publish("kept/model", PAYLOAD, retain=True)
        early.receive()
        with Client(address) as late, Client(address) as stranger:
            late.subscribe("kept/#")
            message = late.receive()
            assert message.retain
            assert message.payload == PAYLOAD
            # A message after it proves that nothing is still under way.
            stranger.subscribe("end")
            late.subscribe("end")
            bystander.publish("end", b"")
            assert late.receive().topic == "end"
            assert stranger.receive().topic == "end"
            bystander.publish("kept/model", b"", retain=True)


def test_the_will_of_a_client_that_drops_dead(address):
    with Client(address) as witness:
        witness.subscribe("state/+")
        mortal = Client(address, will=("state/mortal", b"offline", 1, True))
        mortal.publish("state/mortal", b"online")
        assert witness.receive().payload == b"online"
        mortal.drop_dead()
        assert witness.receive().payload == b"offline"


@pytest.mark.parametrize("problem", [None, RuntimeError, KeyboardInterrupt])
def test_the_child_is_gone_afterwards(problem):
    ends = pytest.raises(problem) if problem else contextlib.nullcontext()
    with ends, local.local_broker(say=silent) as address:
        socket.create_connection(address[:2], timeout=1).close()
        if problem:
            raise problem
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address[:2], timeout=1)


@pytest.mark.skipif(not processes.dying_with_parent(), reason="no setpriv of util-linux here")
def test_the_child_dies_with_a_killed_parent():
    command = [sys.executable, "-u", "-m", "fedjury.broker"]
    with tempfile.TemporaryDirectory() as folder:  # a killed parent cannot tidy up
        Path(folder).chmod(0o755)
        environment = {**os.environ, "TMPDIR": folder}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as parent:
            line = next(line for line in parent.stdout if " broker on " in line)
            parent.kill()
        address = local.BrokerAddress(local.HOST, int(re.search(r":(\d+)", line)[1]), "any")
        deadline = time.monotonic() + 5
        while answers(*address[:2]):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("taken", [False, True])
def test_without_a_port_it_is_where_programs_look_or_they_are_told(taken, monkeypatch, capsys):
    """It listens at the programs' own default, or says with which flag they find it."""
    with socket.create_server((local.HOST, 0)) as server:
        port = server.getsockname()[1]
        if not taken:
            server.close()
        monkeypatch.setattr(local.mosquitto, "PORT", port)
        monkeypatch.setattr(local, "_follow", lambda _: None)
        with pytest.raises(local.BrokerError, match="stopped by itself"):  # for it is not followed
            program.main(["--kind", "embedded"])
    first, following, *_ = capsys.readouterr().out.splitlines()
    at = re.fullmatch(r"embedded broker on (127\.0\.0\.1:(\d+)), stop it with Ctrl-C", first)
    assert (int(at[2]) == port) == (not taken)
    flags = f" --broker {at[1]}" if taken else ""
    assert following == (
        f"{f'port {port} is taken; ' if taken else ''}in other terminals: "
        f"fedjury serve{flags}   and: fedjury spawn --n 1000 --evil 0.2{flags}"
    )


def test_a_child_that_dies_is_a_clear_error(monkeypatch, tmp_path):
    command = [sys.executable, "-c", "print('the disk is full'); raise SystemExit(3)"]
    monkeypatch.setattr(local, "_command", lambda *_: command)
    log = tmp_path / "broker.log"
    with (
        pytest.raises(local.BrokerError, match=r"(?s)ended with status 3 .*the disk is full"),
        local.local_broker("embedded", say=silent, log=log),
    ):
        pytest.fail("a dead broker was handed out")
    assert log.read_text() == "the disk is full\n"


def test_a_child_that_never_answers_is_stopped(monkeypatch):
    monkeypatch.setattr(local, "START_SECONDS", 0.2)
    monkeypatch.setattr(local, "_command", lambda *_: ["sleep", "60"])
    with (
        pytest.raises(local.BrokerError, match="did not answer"),
        local.local_broker("embedded", say=silent),
    ):
        pytest.fail("a silent broker was handed out")


def test_a_taken_port_is_a_clear_error():
    with socket.create_server((local.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(local.BrokerError, match=f"port {port} .* cannot be used"),
            local.local_broker("embedded", say=silent, port=port),
        ):
            pytest.fail("a broker on a taken port was handed out")


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_browsers_get_in_from_this_machine_alone(kind, tmp_path):
    """The port for the page answers at 127.0.0.1, and at no other address of this machine."""
    with local.local_broker(kind, say=lambda _: None, log=tmp_path / "log", page=0) as address:
        port = int(address.websockets.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), 5).close()
        for other in ("127.0.0.2", "::1"):
            with pytest.raises(OSError):
                socket.create_connection((other, port), 5)


def test_the_pages_port_is_another_if_it_is_taken_and_must_be_one():
    """A page need not be where it was wanted, but a port that cannot be is an error."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with local.local_broker("embedded", page=number) as address:
            assert address.websockets.startswith("ws://127.0.0.1:")
            assert not address.websockets.endswith(f":{number}")
    with (
        pytest.raises(local.BrokerError, match="must be 0 to 65535"),
        local.local_broker("embedded", page=65536),
    ):
        pass


def test_auto_without_mosquitto_says_what_it_takes_instead(monkeypatch):
    monkeypatch.setattr(local, "find_mosquitto", lambda: None)
    said = []
    assert local.choose("auto", said.append) == "embedded"
    assert "3.1.1 only" in said[0]
    with pytest.raises(local.BrokerError, match="apt install mosquitto"):
        local.choose("mosquitto", said.append)
    with pytest.raises(local.BrokerError, match="one of auto, mosquitto, embedded"):
        local.choose("rabbit", said.append)


def lines_of(text):
    """Return the lines of a configuration that say something."""
    return {line for line in text.splitlines() if line and not line.startswith("#")}


SECURE = {
    "allow_anonymous false",
    "password_file secrets/broker/passwords",
    "acl_file secrets/broker/acl",
    "use_username_as_clientid true",
}
"""What makes the shipped configuration know everybody."""


def test_the_private_configuration_is_the_shipped_one_open_on_loopback():
    """Without secrets everybody is let in, and only from this machine; all else is as shipped."""
    shipped = lines_of(mosquitto.CONFIGURATION.read_text())
    private = lines_of(local.private_configuration(4711))
    assert shipped - private == {"listener 1883", *SECURE}
    assert private - shipped == {"listener 4711 127.0.0.1", "allow_anonymous true"}
    assert "max_queued_messages 100000" in private
    assert "max_queued_bytes 1073741824" in private


def enrolled(folder, **settings):
    """Enrol two parties."""
    parties = Principal("aggregator", "aggregator"), Principal("agent-0", "agents")
    enrolment.enrol(folder, parties, **settings)
    return folder


def test_with_secrets_it_is_the_enrolments(tmp_path):
    """Everybody logs in; files are named as seen from their folder, wherever that was moved to."""
    enrolled(tmp_path / "made").rename(tmp_path / "moved")
    shipped = lines_of(mosquitto.CONFIGURATION.read_text())
    private = lines_of(local.private_configuration(4711, tmp_path / "moved"))
    assert shipped - private == {
        "listener 1883",
        "password_file secrets/broker/passwords",
        "acl_file secrets/broker/acl",
    }
    assert private - shipped == {
        "listener 4711 127.0.0.1",
        "password_file passwords",
        "acl_file acl",
    }


@pytest.mark.parametrize("tls", ["", "passwords"])
def test_the_page_of_a_private_broker_is_on_loopback(tmp_path, tls):
    """Its port is bound to this machine, encrypted as the other, and wants the same logins."""
    enrolled(tmp_path, tls=tls, hosts=["localhost"], page=8080)
    private = local.private_configuration(4711, tmp_path, (4712, Path("/there")))
    _, _, people = private.partition("listener 4712 127.0.0.1\n")
    assert people.startswith("socket_domain ipv4\nprotocol websockets\n")
    assert ("http_dir /there\n" in people) == (not tls)
    assert "use_username_as_clientid true" in people
    assert ("certfile server.crt" in people) == bool(tls)
    assert "8080" not in private
    assert "websockets" not in local.private_configuration(4711, tmp_path)


def test_with_certificates_it_speaks_tls_on_loopback(tmp_path):
    """The listener's lines come with it, and no password file."""
    enrolled(tmp_path, tls="certificates", hosts=["localhost"])
    private = local.private_configuration(4711, tmp_path).splitlines()
    first = private.index("listener 4711 127.0.0.1")
    assert private[first + 1 : first + 7] == [
        "cafile ca.crt",
        "certfile server.crt",
        "keyfile server.key",
        "crlfile crl.pem",
        "require_certificate true",
        "use_identity_as_username true",
    ]
    assert not any(line.startswith("password_file") for line in private)


@pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto on this machine")
@pytest.mark.parametrize("tls", ["", "certificates", "passwords"])
def test_a_broker_with_secrets_runs_once_and_reads_them_again(tmp_path, tls):
    """It is told by its pid file, which means nothing any more once the broker is gone."""
    hosts = ["localhost"] if tls else []
    secrets = enrolled(tmp_path / "secrets", tls=tls, hosts=hosts)
    log = tmp_path / "broker.log"
    assert not pid_file.tell(secrets / "broker")
    with local.local_broker("mosquitto", say=silent, log=log, secrets=secrets) as address:
        assert answers(*address[:2], tls=bool(tls))
        read = log.read_text().count("history")  # a warning of each reading of the ACL
        assert pid_file.tell(secrets / "broker")
        deadline = time.monotonic() + 5
        while log.read_text().count("history") == read:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert answers(*address[:2], tls=bool(tls))
        with (
            pytest.raises(local.BrokerError, match="is running already"),
            local.local_broker("mosquitto", say=silent, secrets=secrets),
        ):
            pytest.fail("a second broker with the same secrets was handed out")
    assert not pid_file.tell(secrets / "broker")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as another user")
@pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto on this machine")
def test_roots_broker_runs_as_the_owner_of_its_secrets(tmp_path):
    """It reads what is its own, though it could not get to it through the folders above."""
    secrets = enrolled(tmp_path / "secrets")
    tmp_path.chmod(0o700)
    for owner in (1883, 0):
        for path in (secrets / "broker", *(secrets / "broker").iterdir()):
            os.chown(path, owner, owner)
        with local.local_broker("mosquitto", say=silent, secrets=secrets) as address:
            child = Path(f"/proc/{(secrets / 'broker' / pid_file.NAME).read_text()}")
            assert child.stat().st_uid == owner
            assert answers(*address[:2])


def test_what_is_needed_for_secrets_is_told(tmp_path, monkeypatch):
    """The embedded broker knows nobody; a folder without an enrolment is of no use."""
    for kind in ("embedded", "auto"):
        monkeypatch.setattr(local, "find_mosquitto", lambda: None)
        with (
            pytest.raises(local.BrokerError, match="logins need Mosquitto"),
            local.local_broker(kind, say=silent, secrets=tmp_path),
        ):
            pytest.fail("a broker that knows nobody was handed out")
    monkeypatch.undo()
    if find_mosquitto():
        with (
            pytest.raises(local.BrokerError, match=r"fedjury enroll --n 1000"),
            local.local_broker("mosquitto", say=silent, secrets=tmp_path),
        ):
            pytest.fail("a broker without an enrolment was handed out")
