"""Listening to a broker as people do: a connection that says nothing, on a thread of its own."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from dataclasses import replace

from fedjury.monitor import watched
from fedjury.monitor.watched import Sight, State
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import Manifest, PastLog, Presence, RefusedLog, Round, RoundLog
from fedjury.protocol.topics import topic_for
from fedjury.protocol.transport.link import LinkError
from fedjury.protocol.transport.mqtt_client import probe
from fedjury.protocol.transport.mqtt_network import Network
from fedjury.protocol.transport.notices import Notices
from fedjury.protocol.transport.reasons import CUT_OFF, RIVAL

KINDS = (Manifest, Round, PastLog, RefusedLog, RoundLog)
"""What is heard of every run; who is online, of those runs alone that are known."""

TURN = 0.1
"""Seconds that a turn of the loop may wait."""

KEEPALIVE = 10
"""Seconds of silence after which the broker is asked whether it is still there."""

NOTICES = 20


class Ear:
    """Listens to one run, or to all (``run`` empty), until it is closed."""

    def __init__(self, address: BrokerAddress, party: str, run: str = "") -> None:
        self.address = address._replace(keepalive=min(address.keepalive, KEEPALIVE))
        self._party, self._run = party, run or "+"
        self._batch: list[watched.Heard] = []
        self._asked: set[str] = set()
        """Runs of which we hear who is online."""
        self._notices: deque[str] = deque(maxlen=NOTICES)
        self._sight = Sight(now=time.monotonic(), since=time.monotonic())
        self._failure = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ear", daemon=True)

    def open(self) -> Ear:
        """Find the broker and begin to listen; returns itself.

        Raises
        ------
        LinkError
            If the broker cannot be reached, or does not let us in.
        """
        protocol = probe(self.address, self._party).protocol
        # Where nobody logs in, this is what tells two who listen apart.
        name = f"watch-{uuid.uuid4().hex[:8]}"
        self._network = Network(self.address, name, self._take, sole=False)
        self._network.notices = Explained(self._party)
        self._network.open(protocol)
        filters = [topic_for(self._run, kind) for kind in KINDS]
        self._network.add(self._party, filters, presence=False)
        self._thread.start()
        return self

    @property
    def sight(self) -> Sight:
        """What there is to see now.

        Raises
        ------
        LinkError
            If there will be nothing more.
        """
        if self._failure:
            raise LinkError(f"the connection to the broker broke: {self._failure}")
        return replace(self._sight, now=time.monotonic(), notices=tuple(self._notices))

    def close(self) -> None:
        """Hang up."""
        if self._thread.is_alive():
            self._stopping.set()
            self._network.wake()
            self._thread.join(2.0)

    # On the thread.

    def _take(self, _: str, topic: str, payload: bytes) -> None:
        self._batch.append((topic, bytes(payload)))

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                self._network.turn(TURN, reading=True)
                self._notices.extend(self._network.notices.take())
                self._look()
                self._ask()
            self._network.hang_up(time.monotonic() + 0.5)
        except Exception as why:  # whoever looks is told
            self._failure = str(why) or type(why).__name__
        finally:
            self._network.close()

    def _look(self) -> None:
        """Take in what has come, and whether the broker is there."""
        now, seen = time.monotonic(), self._sight
        connected = self._network.connections > 0
        if connected != seen.connected:
            seen = replace(seen, connected=connected, since=now)
            if connected:
                seen = replace(seen, state=watched.reconnected(seen.state))
            else:
                seen = replace(seen, outages=seen.outages + 1, lost=now)
        if self._batch:
            heard, self._batch = self._batch, []
            seen = replace(seen, state=_heard(seen.state, heard, now))
        self._sight = seen

    def _ask(self) -> None:
        """Hear who is online in the runs that are known, and no longer in those that are not."""
        known = self._sight.state.runs.keys()
        for run in known - self._asked:
            self._network.subscribe(self._party, topic_for(run, Presence), once=False)
        door = self._network.doors[self._party]
        for run in self._asked - known:
            topic = topic_for(run, Presence)
            door.filters.remove(topic)
            door.client.unsubscribe(topic)
        self._asked = set(known)


def _heard(state: State, heard: list[watched.Heard], now: float) -> State:
    """Take messages in; one that breaks us, which none should, is passed over."""
    try:
        return watched.hear_all(state, heard, now)
    except Exception:
        if len(heard) == 1:
            return replace(state, odd=state.odd + 1)
    for message in heard:
        state = _heard(state, [message], now)
    return state


class Explained(Notices):
    """Notices, with a way out where two use the same log-in."""

    def __init__(self, party: str) -> None:
        super().__init__()
        self._login = party.removeprefix(":")

    def add(self, text: str, kind: str) -> None:
        """Tell this, if nothing of its kind was told."""
        if kind in (RIVAL, CUT_OFF):
            text = (
                f"the broker cuts us off again and again: it seems that another program uses the "
                f"log-in {self._login!r}, which is good for one connection; 'python -m "
                "fedjury.broker.enrol --watch NAME' makes one more, for --as NAME"
            )
        super().add(text, kind)
