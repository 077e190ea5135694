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

from broker import install, local

ROOT = Path(__file__).resolve().parent.parent
PAYLOAD = os.urandom(52_000)


def silent(line):
    """Say nothing."""


@pytest.fixture(scope="module", params=["mosquitto", "embedded"])
def address(request):
    if request.param == "mosquitto" and not install.find_mosquitto():
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


@pytest.mark.broker
def test_a_message_there_and_back(address):
    with Client(address) as client:
        client.subscribe("there/+")
        client.publish("there/a", PAYLOAD)
        message = client.receive()
        assert (message.topic, message.qos, message.payload) == ("there/a", 1, PAYLOAD)


@pytest.mark.broker
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


@pytest.mark.broker
def test_the_will_of_a_client_that_drops_dead(address):
    with Client(address) as witness:
        witness.subscribe("state/+")
        mortal = Client(address, will=("state/mortal", b"offline", 1, True))
        mortal.publish("state/mortal", b"online")
        assert witness.receive().payload == b"online"
        mortal.drop_dead()
        assert witness.receive().payload == b"offline"


@pytest.mark.broker
@pytest.mark.parametrize("problem", [None, RuntimeError, KeyboardInterrupt])
def test_the_child_is_gone_afterwards(problem):
    ends = pytest.raises(problem) if problem else contextlib.nullcontext()
    with ends, local.local_broker(say=silent) as address:
        socket.create_connection(address[:2], timeout=1).close()
        if problem:
            raise problem
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address[:2], timeout=1)


@pytest.mark.broker
@pytest.mark.skipif(not local._dying_with_parent(), reason="no setpriv of util-linux here")
def test_the_child_dies_with_a_killed_parent():
    command = [sys.executable, "-u", "-m", "broker.local"]
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
        while local._answers(address):
            assert time.monotonic() < deadline
            time.sleep(0.02)


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


def test_auto_without_mosquitto_says_what_it_takes_instead(monkeypatch):
    monkeypatch.setattr(local, "find_mosquitto", lambda: None)
    said = []
    assert local._choose("auto", said.append) == "embedded"
    assert "3.1.1 only" in said[0]
    with pytest.raises(local.BrokerError, match="apt install mosquitto"):
        local._choose("mosquitto", said.append)
    with pytest.raises(local.BrokerError, match="one of auto, mosquitto, embedded"):
        local._choose("rabbit", said.append)


def test_the_private_configuration_is_the_shipped_one_on_loopback():
    shipped = local.CONFIGURATION.read_text().splitlines()
    private = local.private_configuration(4711).splitlines()
    changed = [(a, b) for a, b in zip(shipped, private, strict=True) if a != b]
    assert changed == [("listener 1883", "listener 4711 127.0.0.1")]
    assert "max_queued_messages 100000" in private


def test_installing_says_why_not(monkeypatch):
    said = []
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    assert not install.install_mosquitto(said.append)
    assert len(said) == 1


def test_installing_keeps_the_service_off_and_reports_apts_error(monkeypatch, tmp_path):
    policy = tmp_path / "policy-rc.d"
    seen = []

    def run(*command):
        seen.append((command[1], policy.exists()))
        return "E: no such host" if "install" in command else ""

    monkeypatch.setattr(install, "POLICY", policy)
    monkeypatch.setattr(install, "_obstacle_to_apt", lambda: "")
    monkeypatch.setattr(install, "_run_quietly", run)
    said = []
    assert not install.install_mosquitto(said.append)
    assert "E: no such host" in said[-1]
    assert seen == [("update", True), ("install", True)]
    assert not policy.exists()


def test_what_a_program_says_last_is_its_error():
    assert install._run_quietly("true") == ""
    script = "print('E: first'); print('more'); raise SystemExit(1)"
    assert install._run_quietly(sys.executable, "-c", script) == "E: first"
    assert "No such file" in install._run_quietly("no-such-program-here")
