"""Listening to a broker as people do: a connection that says nothing, on a thread of its own."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from dataclasses import replace

from fedjury.monitor import run_view
from fedjury.monitor.runs import Snapshot, State
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import HistoryLog, InvalidLog, Manifest, Presence, Round, RoundLog
from fedjury.protocol.topics import Topics
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.connection_pool import ConnectionPool
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.once_only import OnceOnlyWarnings
from fedjury.protocol.transport.reasons import CUT_OFF, RIVAL

KINDS = (Manifest, Round, HistoryLog, InvalidLog, RoundLog)
"""What is heard of every run; who is online, of those runs alone that are known."""

TURN = 0.1
"""Seconds that a turn of the loop may wait."""

KEEPALIVE = 10
"""Seconds of silence after which the broker is asked whether it is still there."""

NOTICES = 20


class Listener:
    """Listens to one run, or to all (``run`` empty), until it is closed."""

    def __init__(self, address: BrokerAddress, principal: str, run: str = "") -> None:
        self.address = address._replace(keepalive=min(address.keepalive, KEEPALIVE))
        self._principal, self._run = principal, run or "+"
        self._batch: list[run_view.Received] = []
        self._asked: set[str] = set()
        """Runs of which we hear who is online."""
        self._notices: deque[str] = deque(maxlen=NOTICES)
        self._snapshot = Snapshot(now=time.monotonic(), since=time.monotonic())
        self._failure = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="listener", daemon=True)

    def open(self) -> Listener:
        """Find the broker and begin to listen; returns itself.

        Raises
        ------
        TransportError
            If the broker cannot be reached, or does not let us in.
        """
        protocol = probe(self.address, self._principal).protocol
        # Where nobody logs in, this is what tells two who listen apart.
        name = f"watch-{uuid.uuid4().hex[:8]}"
        self._pool = ConnectionPool(self.address, name, self._take, sole=False)
        self._pool.troubles.notices = Explained(self._principal)
        self._pool.open(protocol)
        filters = self.address.topics.filters(self._run, KINDS)
        self._pool.add(self._principal, filters, presence=False)
        self._thread.start()
        return self

    @property
    def snapshot(self) -> Snapshot:
        """What there is to see now.

        Raises
        ------
        TransportError
            If there will be nothing more.
        """
        if self._failure:
            raise TransportError(f"the connection to the broker broke: {self._failure}")
        return replace(self._snapshot, now=time.monotonic(), notices=tuple(self._notices))

    def close(self) -> None:
        """Hang up."""
        if self._thread.is_alive():
            self._stopping.set()
            self._pool.wake()
            self._thread.join(2.0)

    # On the thread.

    def _take(self, _: str, topic: str, payload: bytes) -> None:
        self._batch.append((topic, bytes(payload)))

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                self._pool.turn(TURN, reading=True)
                self._notices.extend(self._pool.troubles.notices.take())
                self._look()
                self._ask()
            self._pool.hang_up(time.monotonic() + 0.5)
        except Exception as why:  # whoever looks is told
            self._failure = str(why) or type(why).__name__
        finally:
            self._pool.close()

    def _look(self) -> None:
        """Take in what has come, and whether the broker is there."""
        now, seen = time.monotonic(), self._snapshot
        connected = self._pool.connections > 0
        if connected != seen.connected:
            seen = replace(seen, connected=connected, since=now)
            if connected:
                seen = replace(seen, state=run_view.reconnected(seen.state))
            else:
                seen = replace(seen, outages=seen.outages + 1, lost=now)
        if self._batch:
            heard, self._batch = self._batch, []
            seen = replace(seen, state=taken_in(seen.state, heard, now, self.address.topics))
        self._snapshot = seen

    def _ask(self) -> None:
        """Hear who is online in the runs that are known, and no longer in those that are not."""
        known = self._snapshot.state.runs.keys()
        for run in known - self._asked:
            topic = self.address.topics.where(run, Presence)
            self._pool.subscribe(self._principal, topic, once=False)
        connection = self._pool.connections_by_name[self._principal]
        for run in self._asked - known:
            topic = self.address.topics.where(run, Presence)
            connection.filters.remove(topic)
            connection.client.unsubscribe(topic)
        self._asked = set(known)


def taken_in(state: State, heard: list[run_view.Received], now: float, topics: Topics) -> State:
    """Take messages in; one that breaks us, which none should, is passed over."""
    try:
        return run_view.on_messages(state, heard, now, topics)
    except Exception:
        if len(heard) == 1:
            return replace(state, malformed=state.malformed + 1)
    for message in heard:
        state = taken_in(state, [message], now, topics)
    return state


class Explained(OnceOnlyWarnings):
    """Notices, with a way out where two use the same login."""

    def __init__(self, principal: str) -> None:
        super().__init__()
        self._login = principal.removeprefix(":")

    def add(self, text: str, kind: str) -> None:
        """Tell this, if nothing of its kind was told."""
        if kind in (RIVAL, CUT_OFF):
            text = (
                f"the broker keeps disconnecting this program: it seems that another one uses the "
                f"login {self._login!r}, which allows one connection; 'fedjury enroll "
                "--watch NAME' makes one more, for --as NAME"
            )
        super().add(text, kind)
