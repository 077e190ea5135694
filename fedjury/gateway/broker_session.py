"""The gateway's agents on the broker: what the run says comes in, what clients post goes out.

A ``BrokerSession`` belongs to one thread, as its hub does. A ``BrokerWorker`` is that thread:
posts go to it through a queue, and what it knows is there for everybody to look at, as an immutable
``GatewayState``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from fedjury.gateway import state
from fedjury.gateway.refusal import InvalidReason, InvalidRequest
from fedjury.gateway.state import GatewayState, ReceivedUpdate
from fedjury.protocol.checks import Limits
from fedjury.protocol.compression import or_float32
from fedjury.protocol.messages import BadMessage, Manifest, Model, Round, RoundLog, Update
from fedjury.protocol.transport.connection import Transport, TransportError
from fedjury.protocol.transport.once_only import Outside

LOG = logging.getLogger("fedjury.gateway")

WANTED = (Manifest, Round, Model, RoundLog)

READS = 200
"""Messages read before posts are looked at."""

SETTLE = 0.5
"""Seconds for what is retained to arrive before our agents join: a round that is announced in
them was opened without us."""

QUICK, IDLE = 0.005, 0.05
"""Seconds to wait for a message, while posts come and else: so long may a post wait in turn."""

BUSY = 1.0
"""Seconds after a post in which more are expected."""

PATIENCE = 10.0
"""Seconds after which a post that the worker has not looked at is given up."""

AGAIN = 1.0
"""Seconds before a hub that broke is replaced."""


def listener_of(prefix: str) -> str:
    """Name the connection through which all slots hear; no agent can have such a name."""
    return f":listener.{prefix}"


class BrokerSession:
    """Speaks for all slots on one hub."""

    def __init__(
        self, transport: Transport, state: GatewayState, prefix: str, settle: float = SETTLE
    ) -> None:
        self.state = state
        self._transport = transport
        self._listener, self._settle = listener_of(prefix), settle
        self._heard_since: float | None = None
        self._joined = self._present = False
        self._outside = Outside(LOG.warning)
        self._transport.join(self._listener, *WANTED, presence=False)

    def turn(self, wait: float = 0.0) -> None:
        """Read what has come, waiting up to ``wait`` seconds for the first message.

        Raises
        ------
        TransportError
            If there can be no more messages on this hub.
        """
        for text in self._transport.notices.take():
            LOG.warning("%s", text)
        self._outside.note(0, self._transport.outside)
        self._outside.look(len(self.state.slots))
        for taken in range(READS):
            try:
                delivery = self._transport.receive(wait if taken == 0 else 0.0)
            except BadMessage:
                continue  # whoever sent it, it is no business of those who post
            if delivery is None:
                break
            if isinstance(delivery.message, Manifest):
                self._limit(delivery.message)
            # Looked at after it came: the last of us may have connected while we waited for it.
            # Permanently: who is away for a moment may be called all the same.
            everybody = self._transport.connections > len(self.state.slots)
            self._present = self._present or (self._joined and everybody)
            self.state, again = state.on_message(
                self.state, delivery.message, present=self._present
            )
            for update in again:
                self._transport.send(update.agent, update)
        self._join()
        self.state = replace(self.state, connections=self._transport.connections)

    def take(self, posted: ReceivedUpdate) -> Update:
        """Send an update through a slot; returns it.

        Raises
        ------
        Refused
            If it cannot be taken now.
        """
        self.state, update = state.post(self.state, posted, time.monotonic())
        self._transport.send(update.agent, update)
        return update

    def close(self) -> None:
        """Say goodbye for all agents, and leave."""
        self._transport.close()

    def _limit(self, manifest: Manifest) -> None:
        limits = Limits(manifest.parameters, size=manifest.max_bytes, finite=False)
        self._transport.decoder.limit(limits)
        self._transport.codecs[Update] = or_float32(manifest.codec)

    def _join(self) -> None:
        """Connect our agents, once what was retained has been heard."""
        if self._joined or not self._transport.connections:
            return
        now = time.monotonic()
        self._heard_since = self._heard_since or now
        if now - self._heard_since >= self._settle:
            for slot in self.state.slots:
                self._transport.join(slot)
            self._joined = True


Order = tuple[ReceivedUpdate, "Future[Update]"]


class BrokerWorker:
    """Keeps a desk in a thread of its own, and a new one whenever its hub breaks."""

    def __init__(
        self, connect: Callable[[], Transport], slots: tuple[str, ...], prefix: str
    ) -> None:
        self.state = GatewayState(slots)
        self._connect, self._prefix = connect, prefix
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)

    def start(self) -> None:
        """Begin to listen and to take posts."""
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye for all agents and end."""
        self._stopping.set()
        self._thread.join(PATIENCE)

    async def post(self, update: ReceivedUpdate) -> Update:
        """Have an update sent; returns it.

        Raises
        ------
        Refused
            If it cannot be taken now.
        """
        if self._stopping.is_set():
            raise InvalidRequest(InvalidReason.NO_BROKER, "the gateway is closing")
        answer: Future[Update] = Future()
        self._orders.put((update, answer))
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            raise InvalidRequest(
                InvalidReason.NO_BROKER, "the broker accepts no messages at the moment"
            ) from None

    def _work(self) -> None:
        while not self._stopping.is_set():
            session = None
            try:
                session = BrokerSession(self._connect(), self.state, self._prefix)
                self._serve(session)
            except TransportError as why:
                LOG.warning("%s; trying again", why)
            except Exception:
                LOG.exception("the broker session failed; trying again")
            self.state = replace(session.state if session else self.state, connections=0)
            if session is not None:
                session.close()
            self._turn_away()
            self._stopping.wait(AGAIN)
        self._turn_away()

    def _serve(self, session: BrokerSession) -> None:
        busy = 0.0
        while not self._stopping.is_set():
            session.turn(QUICK if time.monotonic() < busy else IDLE)
            if self._take(session):
                busy = time.monotonic() + BUSY
            self.state = session.state

    def _take(self, session: BrokerSession) -> int:
        """Take all posts that wait; returns how many there were."""
        for count in range(READS):
            try:
                posted, answer = self._orders.get_nowait()
            except queue.Empty:
                return count
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                update = session.take(posted)
                # Before the answer: whoever has that finds the update here.
                self.state = session.state
                answer.set_result(update)
            except Exception as why:
                answer.set_exception(why)
                if not isinstance(why, InvalidRequest):
                    raise
        return READS

    def _turn_away(self) -> None:
        """Answer those who wait while there is no hub."""
        with contextlib.suppress(queue.Empty):
            while True:
                _, answer = self._orders.get_nowait()
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(
                        InvalidRequest(
                            InvalidReason.NO_BROKER, "the connection to the broker is down"
                        )
                    )
