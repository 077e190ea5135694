"""One aggregator serves a run: a second refuses, one that vanished is followed, and gives way."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.listening import RawClient, until

from fedjury.broker import enrol
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.protocol import codec
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import AggregatorPresence, Heartbeat, Presence
from fedjury.protocol.topics import USUAL
from fedjury.protocol.transport import lookout, reconnect, succession
from fedjury.protocol.transport.connection import BrokerAway, TransportError
from fedjury.protocol.transport.mqtt_transport import MqttTransport
from fedjury.protocol.transport.succession import Seen, claim, on_message

RUN, NAME = "lab", ":aggregator"
PLACE, BEATS = f"fl/v2/{RUN}/aggregator", f"fl/v2/{RUN}/heartbeat"
AT_WORK = r"run 'lab' at 127.0.0.1:\d+ is served by another aggregator since 20\d\d-\d\d-\d\d "

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory):
    """Give a broker with logins, each good for one connection, and the folder of secrets."""
    folder = tmp_path_factory.mktemp("enrolled") / "secrets"
    folder.parent.chmod(0o755)
    enrol.main(["--n", "1", "--folder", str(folder)])
    with local_broker("mosquitto", say=lambda _: None, secrets=folder) as address:
        yield address, folder


@pytest.fixture
def anonymous():
    """Give a broker that lets everybody in."""
    with local_broker("mosquitto", say=lambda _: None) as address:
        yield BrokerAddress(address.host, address.port)


@pytest.fixture(params=["anonymous", "logins", "logins of before"])
def broker(request, tmp_path):
    """Give a broker's address, as an aggregator is told it: with which secrets, if with any."""
    if request.param == "anonymous":
        return request.getfixturevalue("anonymous")
    address, folder = request.getfixturevalue("enrolled")
    secrets = tmp_path / "aggregator"
    secrets.mkdir()
    for file in (folder / "aggregator").iterdir():
        if request.param == "logins" or "lookout" not in file.name:
            (secrets / file.name).write_bytes(file.read_bytes())
    return BrokerAddress(address.host, address.port, secrets=str(secrets))


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """Let signs of life, and their absence, take a tenth of the time."""
    monkeypatch.setattr(succession, "BEAT", 0.2)
    monkeypatch.setattr(succession, "SILENT", 1.5)
    monkeypatch.setattr(succession, "LINGER", 1.4)
    monkeypatch.setattr(succession, "TOLD", 0.5)
    monkeypatch.setattr(reconnect, "BACKOFF", (0.1, 0.2))


class Serving:
    """An aggregator's connection, read by a thread until it ends."""

    def __init__(self, address, since):
        self.transport = MqttTransport(address, RUN, sole=True).open(NAME)
        self.presence = AggregatorPresence(online=True, since=since)
        self.cuts, self.why = 0, ""
        self.parted = self.transport.pool.troubles.parted
        self.transport.pool.troubles.parted = self.note
        self.transport.join(NAME, Presence, presence=False, serves=self.presence)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        until(lambda: self.transport.connections or self.why)

    def note(self, *args, **more):
        """Count how often it is cut off."""
        self.cuts += 1
        self.parted(*args, **more)

    def _read(self):
        try:
            while not self._over.is_set():
                self.transport.receive(0.05)
        except TransportError as why:
            self.why = str(why)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self.transport.close()


def claimed(address, said=None):
    return claim(address, RUN, NAME, (said if said is not None else []).append)


def vanished(address, since, login=None):
    """Return a client that said it serves the run, and says nothing more; it stays connected."""
    client = RawClient(address, login=login)
    client.publish(PLACE, codec.encode(AggregatorPresence(online=True, since=since)), retain=True)
    return client


def test_a_second_aggregator_refuses_and_the_first_keeps_its_place(broker):
    """It says since when the other one serves; where it can look by itself, nobody is cut off."""
    with Serving(broker, claimed(broker)) as first:
        time.sleep(0.3)
        for _ in range(2):
            with pytest.raises(TransportError, match=f"^{AT_WORK}.*: stop that one first, or cho"):
                claimed(broker)
        if not looks_as_itself(broker):
            assert first.cuts == 0
        until(lambda: first.transport.connections)
        time.sleep(0.5)
        assert not first.why


def looks_as_itself(address):
    """Say whether it can only look by the login of the aggregator, and so throws that one out."""
    return [login.username for login in lookout.logins(address, NAME)] == ["aggregator"]


def test_who_said_goodbye_is_followed_at_once(broker):
    """No wait, and a later beginning."""
    with Serving(broker, claimed(broker)) as first:
        pass
    start, said = time.monotonic(), []
    assert claimed(broker, said) > first.presence.since
    as_itself = looks_as_itself(broker)
    assert time.monotonic() - start < (succession.LINGER + 1 if as_itself else 1)
    assert [("it may have been thrown out by this" in text) for text in said] == [True] * as_itself


def test_who_vanished_is_followed_after_a_while(anonymous):
    """It is connected and silent: after ten seconds (here 1.5) it counts as gone.

    The one that follows begins later, whatever the clock says.
    """
    future = time.time() + 3600
    with vanished(anonymous, future):
        said, start = [], time.monotonic()
        since = claimed(anonymous, said)
        assert 1.5 <= time.monotonic() - start < 4
        assert future < since < future + 1
    (told,) = said
    assert told.startswith("run 'lab' has had an aggregator since 2")
    assert told.endswith("waiting up to 1.5 s for a sign that it is at work")


def test_one_that_was_cut_off_gives_way(broker, monkeypatch):
    """Back in the network, it looks, finds who followed, and ends; the other one stays where it is.

    It says so in a sentence, instead of taking its place from the other again and again.
    """
    with Serving(broker, claimed(broker)) as first:
        with first.transport.held():  # nothing comes or goes, as in a network that is cut
            until(lambda: first.transport.connections)
            since = claimed(broker)
            following = Serving(broker, since)
        with following:
            until(lambda: first.why)
            assert first.why.startswith("another aggregator took over run 'lab' at 20")
            assert first.why.endswith("and the run goes on from the other one's folder")
            until(lambda: following.transport.connections)
            time.sleep(0.5)
            assert not following.why
            if not looks_as_itself(broker):
                assert following.cuts == 0


def test_of_two_that_come_at_once_one_stays(anonymous):
    """Both have looked and found nobody; the later one stays, in whatever order they connect."""
    early, late = claimed(anonymous), claimed(anonymous) + 1
    with Serving(anonymous, late) as second, Serving(anonymous, early) as first:
        until(lambda: first.why)
        assert first.why.startswith("another aggregator took over")
        until(lambda: second.transport.connections)
        time.sleep(0.5)
        assert not second.why


def test_what_a_predecessor_leaves_behind_is_corrected(anonymous):
    """A last will that comes a minute late must not have the run's aggregator look offline."""
    with Serving(anonymous, claimed(anonymous)) as serving, RawClient(anonymous, PLACE) as other:
        until(lambda: other.payloads(PLACE))
        late = AggregatorPresence(online=False, since=serving.presence.since - 60)
        other.publish(PLACE, codec.encode(late), retain=True)
        until(lambda: other.payloads(PLACE)[-1] == codec.encode(serving.presence))
        with RawClient(anonymous, PLACE) as newcomer:
            until(lambda: newcomer.payloads(PLACE))
            assert newcomer.payloads(PLACE) == [codec.encode(serving.presence)]


def test_signs_of_life_come_while_it_is_busy(anonymous):
    """The network's thread gives them, while whoever owns the transport computes."""
    transport = MqttTransport(anonymous, RUN, sole=True).open(NAME)
    with contextlib.closing(transport), RawClient(anonymous, BEATS) as other:
        transport.join(NAME, presence=False, serves=AggregatorPresence(online=True, since=3.5))
        time.sleep(1.5)
        assert len(other.payloads(BEATS)) >= 3
        assert set(other.payloads(BEATS)) == {codec.encode(Heartbeat(3.5))}
        with pytest.raises(TransportError, match="is served by another aggregator since 1970"):
            claimed(anonymous)


def test_without_a_broker_there_is_nobody_to_look_at(anonymous):
    """Whoever waits for the broker goes on waiting; who asks to stop is not kept."""
    nowhere = BrokerAddress("127.0.0.1", 1)
    with pytest.raises(BrokerAway, match=r"no MQTT broker answers at 127\.0\.0\.1:1"):
        claimed(nowhere)
    with vanished(anonymous, 1.0):
        start = time.monotonic()
        claim(anonymous, RUN, NAME, print, lambda: True)
        assert time.monotonic() - start < 1


def test_a_login_that_is_refused_is_not_needed(enrolled, tmp_path):
    """Where the broker does not know the login to look by, it looks by its own."""
    address, folder = enrolled
    secrets = tmp_path / "aggregator"
    secrets.mkdir()
    password = (folder / "aggregator" / "aggregator.password").read_bytes()
    (secrets / "aggregator.password").write_bytes(password)
    (secrets / "aggregator.lookout.password").write_text("of another enrolment")
    where = BrokerAddress(address.host, address.port, secrets=str(secrets))
    with Serving(where, claimed(where)) as first:
        with pytest.raises(TransportError, match=AT_WORK):
            claimed(where)
        time.sleep(0.5)
        assert not first.why


# What is heard


@pytest.mark.parametrize(
    ("topic", "payload", "seen"),
    [
        (PLACE, b'{"online":true,"since":7}', Seen(7.0, online=True, beat=1.0)),
        (PLACE, b'{"online":false,"since":7}', Seen(7.0)),
        (BEATS, b'{"since":7}', Seen(7.0, online=True, beat=1.0)),
        (BEATS, b'{"since":2}', Seen(5.0, online=True, beat=1.0)),
        (PLACE, b"", Seen(5.0, online=True, beat=1.0)),
        (PLACE, b"garbage", Seen(5.0, online=True, beat=1.0)),
        ("fl/v2/lab/round", b"{}", Seen(5.0, online=True, beat=1.0)),
    ],
)
def test_what_is_known_of_aggregators(topic, payload, seen):
    """Presence and signs of life count; a goodbye takes back the sign before it."""
    assert on_message(Seen(5.0, online=True, beat=1.0), topic, payload, 9.0, USUAL) == seen
    assert on_message(Seen(), BEATS, b'{"since":7}', 9.0, USUAL) == Seen(7.0, online=True, beat=9.0)


# The programs


def test_the_program_says_it_in_one_line(anonymous, tmp_path):
    """A second aggregator with a folder of its own ends with exit code 2 and no traceback."""
    with Serving(anonymous, claimed(anonymous)) as first:
        where = ["--broker", f"127.0.0.1:{anonymous.port}", "--run", RUN]
        flags = ["--data", "digits", "--runs", str(tmp_path), *where]
        command = [sys.executable, "-m", "fedjury.aggregator", *flags]
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2
        assert "is served by another aggregator since" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert first.cuts == 0
