"""Floods and stalls, on a real Mosquitto: what counts gets through, and nothing is lost unseen.

``FEDJURY_FLOOD=100000 pytest tests/programs/test_flood.py`` floods with that many messages.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.flooding import flood, publish
from support.listening import RawClient, until
from support.network import RUN, N, counted, ended, federation

from fedjury.broker import local
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers
from fedjury.processes import free_port
from fedjury.protocol.codec import encode
from fedjury.protocol.messages import Update
from fedjury.protocol.transport.mqtt_transport import INBOX_BYTES

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
]

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = int(os.environ.get("FEDJURY_FLOOD", "10000"))
CLIENTS = 20
ROUNDS = 3
FLAGS = ["--rounds", str(ROUNDS), "--no-report"]
HERE = f"fl/v2/{RUN}"
SLACK = 10_000_000
"""Bytes by which the memory of two runs may differ anyway."""


class Frozen:
    """A program and its children, stopped; they go on at the end."""

    def __init__(self, child):
        parent = psutil.Process(child.pid)
        self._all = [parent, *parent.children(recursive=True)]

    def __enter__(self):
        for process in self._all:
            process.suspend()
        return self

    def __exit__(self, *_):
        for process in self._all:
            process.resume()


def peak_of(child, peaks):
    """Keep an eye on the memory of a program (bytes, at its highest) until it ends."""

    def watch():
        status = Path(f"/proc/{child.pid}/status")
        with suppress(OSError):  # it has ended
            while child.poll() is None:
                lines = [line.split() for line in status.read_text().splitlines()]
                peaks.extend(1024 * int(line[1]) for line in lines if line[0] == "VmHWM:")
                time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()


def run_of(programs, meanwhile):
    """Run a federation of two shards; while the second is frozen in round 1, do something.

    Returns the memory that the aggregator took at its highest.
    """
    early, late = (programs.agents("--shard", f"{number}/2") for number in (1, 2))
    with RawClient(programs.address, f"{HERE}/agent/+", f"{HERE}/update/+") as ear:
        until(lambda: len(ear.payloads("agent/")) == N, 60)
        with Frozen(late):
            server, peaks = programs.aggregator(*FLAGS), []
            peak_of(server, peaks)
            until(lambda: len(ear.payloads("update/")) == N // 2, 60)
            ear.__exit__()
            meanwhile()
    ended(server, early, late)
    return peaks[-1]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Run a federation that nobody floods."""
    with federation("mosquitto", tmp_path_factory.mktemp("quiet")) as programs:
        programs.peak = run_of(programs, lambda: None)
    return programs


def test_a_flood_changes_nothing(quiet, tmp_path):
    """Twenty clients flood a round: all honest updates count, all refusals are counted.

    Half of the agents answer only behind the flood, so all of it lies in that round. The models
    are those of the undisturbed run, bit for bit; memory is bounded by what may wait to be read,
    and what was read is not kept.
    """
    sent = []
    answered = [f"agent-{number:02d}" for number in range(N // 2)]

    def attack():
        sent.append(flood(programs.address, RUN, MESSAGES, CLIENTS, agents=answered))

    with federation("mosquitto", tmp_path) as programs:
        peak = run_of(programs, attack)
    records, (was,) = programs.records(), sent
    refused = counted(records)
    print(
        f"{was.messages / was.seconds:,.0f} messages/s sent, {was.bytes:,} bytes; round 1 took "
        f"{records[0].timing.seconds} s; at most {peak / 1e6:.0f} MB, {quiet.peak / 1e6:.0f} MB "
        f"undisturbed; {refused}"
    )
    assert [r.updates for r in records] == [N] * ROUNDS
    assert not any(r.missing or r.traffic.dropped for r in records)
    for version in range(1, ROUNDS + 1):
        assert programs.weights(version) == quiet.weights(version)
    assert was.messages == MESSAGES
    assert sum(records[0].traffic.invalid_messages.values()) == sum(refused.values()) == was.refused
    assert refused["too_large"] >= was.kinds["large"]
    assert refused["not_finite"] == was.kinds["not finite"]
    assert peak < quiet.peak + min(was.bytes / 2, INBOX_BYTES) + SLACK


# ---------------------------------------------------------------- an aggregator that stalls

UPDATES = 3000
PARAMETERS = 13_106
DROPPED = "$SYS/broker/publish/messages/dropped"
READER = """
import sys, time
import numpy as np
from fedjury.protocol.messages import Update
from fedjury.protocol.transport.mqtt_transport import (MqttTransport)
from fedjury.protocol.credentials import (BrokerAddress)
hub = MqttTransport(BrokerAddress("127.0.0.1", int(sys.argv[1])), "lab").open()
hub.join(":aggregator", Update, presence=False)
while not hub.connections:
    hub.receive(0.1)
hub.send(":aggregator", Update("first", 0, 0, 0, np.zeros(0, np.float32)))
assert hub.receive(10).message.agent == "first"
print("ready", flush=True)
seen, until = set(), time.monotonic() + 60
while len(seen) < int(sys.argv[2]) and time.monotonic() < until:
    if delivery := hub.receive(0.1):
        seen.add(delivery.message.agent)
        until = time.monotonic() + 3
print(len(seen), flush=True)
hub.close()
"""
"""Counts whose updates come until all have, or none does for three seconds."""


@contextmanager
def bare_mosquitto(folder):
    """Start a Mosquitto as it comes, but for its counters, of which it tells every second."""
    conf, port = folder / "conf", free_port()
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nsys_interval 1\nuser root\n")
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen([find_mosquitto(), "-c", conf], stdout=log, stderr=log)
    address = local.BrokerAddress("127.0.0.1", port, "mosquitto")
    try:
        until(lambda: answers("127.0.0.1", port))
        yield address
    finally:
        child.terminate()
        child.wait(10)


def stalled(address):
    """Stop a reader while all publish; returns how many came, and how many were dropped."""
    delta = np.full(PARAMETERS, 0.5, np.float32)
    names = [f"agent-{number}" for number in range(UPDATES)]
    updates = [
        ("", f"fl/v2/lab/update/{name}", encode(Update(name, 1, 0, 4, delta)), False)
        for name in names
    ]
    command = [sys.executable, "-c", READER, str(address.port), str(UPDATES)]
    reader = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        with RawClient(address, DROPPED) as ear:
            assert reader.stdout.readline() == "ready\n"
            with Frozen(reader):
                publish(address, updates)
            came = int(reader.stdout.readline())
            # The broker tells when it next looks at its counters, and only of those that changed.
            until(lambda: int(ear.payloads(DROPPED)[-1]) == UPDATES - came)
            return came, int(ear.payloads(DROPPED)[-1])
    finally:
        reader.kill()
        reader.wait(10)
        reader.stdout.close()


def test_a_stalled_aggregator_loses_no_update():
    """3,000 updates of 52 KB wait at the broker for a process that stands still; all come."""
    with local.local_broker("mosquitto", say=lambda _: None) as address:
        assert stalled(address) == (UPDATES, 0)


def test_with_the_brokers_own_queue_it_would(tmp_path):
    """Mosquitto with its defaults drops what it has acknowledged: so the test above can fail."""
    with bare_mosquitto(tmp_path) as address:
        came, dropped = stalled(address)
    assert 1000 <= came < UPDATES
    assert dropped == UPDATES - came
