"""A development broker in Python: amqtt, set up for this machine alone.

MQTT 3.1.1 only, a clean session for everybody, no $SYS counters, keep-alives not enforced, and
a second connection under a client's name does not end the first. It loses nothing that is
published while its subscriber is connected, and it installs with pip. Several times slower
than Mosquitto.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import time
from typing import TYPE_CHECKING, Any

from amqtt.broker import Broker

from fedjury.config.program import run_main

if TYPE_CHECKING:
    from amqtt.session import Session

SHUTDOWN_SECONDS = 3.0
"""How long the goodbyes to clients that do not read may take."""


class _Payload(bytes):
    """A message's bytes that print as their length."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


class _Subscriptions(dict[str, Any]):
    """The broker's subscriptions, which print as their number of topic filters."""

    def __repr__(self) -> str:
        return f"<{len(self)} topic filters>"


class DevelopmentBroker(Broker):  # type: ignore[misc]  # amqtt is not marked as typed
    """amqtt's broker without four habits that hurt.

    The first two, at 1,000 clients, are the same: amqtt 0.12.1 formats its debug messages even
    where nobody reads them, which spells out every payload that is published (half of a round's
    time) and every subscription at each new one (seconds while 1,000 clients connect).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._subscriptions = _Subscriptions()

    async def _broadcast_message(
        self,
        session: Session | None,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        """Hand a message to the subscribers."""
        await super()._broadcast_message(session, topic, _Payload(data or b""), force_qos)

    async def _client_message_loop(self, client_session: Session, handler: Any) -> None:
        """Serve a client; before it is let go, what it published is handed on.

        amqtt acknowledges a message, and forgets it if its client leaves before it was handed on.
        """
        ended, waiting = handler.wait_disconnect, client_session.delivered_message_queue

        async def ended_and_told() -> Any:
            result = await ended()
            until = time.monotonic() + SHUTDOWN_SECONDS
            while not waiting.empty() and time.monotonic() < until:  # noqa: ASYNC110 - amqtt's queue
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)  # for the last one, which is on its way
            return result

        handler.wait_disconnect = ended_and_told
        await super()._client_message_loop(client_session, handler)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Send what is retained under a topic filter to a client that subscribed to it.

        amqtt also calls this for every new connection with everybody's filters, so that a
        client gets messages it never asked for, and those it asks for twice.
        """
        # From the end: a client that just subscribed is the last one.
        holders = reversed(self._subscriptions.get(subscription[0], []))
        if any(holder is session for holder, _ in holders):
            await super()._publish_retained_messages_for_subscription(subscription, session)


def configuration(port: int, websockets: int = 0) -> dict[str, Any]:
    """Describe the broker to amqtt: loopback, anonymous, connections without limit."""
    ports = {"default": ("tcp", port), "people": ("ws", websockets)}
    return {
        "listeners": {
            name: {"type": kind, "bind": f"127.0.0.1:{number}", "max_connections": 0}
            for name, (kind, number) in ports.items()
            if number
        },
        # Naming the plugins leaves out the others: two that log every packet, and the one that
        # publishes $SYS.
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


async def serve(port: int, websockets: int = 0) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT; ``websockets`` is a port for these, 0 for none.

    Raises
    ------
    amqtt.errors.BrokerError
        If the port cannot be opened.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = DevelopmentBroker(configuration(port, websockets))
    await broker.start()
    await stop.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(broker.shutdown(), SHUTDOWN_SECONDS)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m fedjury.broker.embedded",
        description="The development broker, in the foreground, on 127.0.0.1 (MQTT 3.1.1 only).",
        epilog="example:\n  python -m fedjury.broker.embedded --port 1883 --websockets ws://127.0.0.1:8080",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, required=True, help="the TCP port to listen on")
    parser.add_argument(
        "--websockets",
        default="",
        metavar="ws://127.0.0.1:PORT",
        help="speak MQTT over websockets there too (default: do not)",
    )
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(levelname)s: %(message)s")
    # A busy broker makes and drops tasks by the thousand: look for cycles less often.
    gc.set_threshold(50_000)
    asyncio.run(serve(chosen.port, int(chosen.websockets.rpartition(":")[2] or 0)))


if __name__ == "__main__":
    run_main(lambda _: main(), ())
