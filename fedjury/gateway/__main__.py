"""The HTTP door to a federation: fedjury gateway 10."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI

from fedjury.broker.local import KINDS, BrokerError, local_broker
from fedjury.config import flags
from fedjury.config.naming import named
from fedjury.config.settings import Settings, SettingsError, load
from fedjury.config.toml import to_toml
from fedjury.gateway import app
from fedjury.gateway.broker_session import BrokerWorker, SessionTransport, listener_of
from fedjury.gateway.local_aggregator import local_aggregator
from fedjury.gateway.serving import listen, server_of
from fedjury.gateway.state import names_of
from fedjury.protocol.credentials import address_of, first_known
from fedjury.protocol.runs import await_newest
from fedjury.protocol.topics import NAME
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_transport import MqttTransport, probe
from fedjury.protocol.transport.open_files import make_room

EXAMPLES = """  fedjury gateway                       100 updates close a round; port 5000
  fedjury gateway 10
  fedjury gateway 10 --rule median --set limits.finite=false
  fedjury gateway 60 --slots 10        ten over HTTP, fifty over MQTT
  fedjury gateway --broker 127.0.0.1:1883 --run lab --slots 20"""

EXPECTED = (SettingsError, TransportError, BrokerError)
"""Errors that are one sentence to people."""

THRESHOLD = 100
OWN = Path(__file__).with_name("gateway.toml")
"""What a federation of our own has different from others."""
MOST_SLOTS = 100_000
PREFIX = 58
"""Characters of the prefix: with a dash and up to five digits a name may have 64."""


class Command(NamedTuple):
    """A program that serves: as people type it, and how a federation of its own begins."""

    prog: str = "fedjury gateway"
    examples: str = EXAMPLES
    start: Callable[[Settings], Settings] = lambda settings: settings


GATEWAY = Command()


def main(arguments: Sequence[str], command: Command = GATEWAY) -> int:
    """Read the flags, start what is missing, and serve until Ctrl-C."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    chosen = _parser(command).parse_args(arguments)
    threshold = _read(chosen)
    slots = names_of(chosen.prefix, chosen.slots or threshold)
    try:
        listening = listen(chosen.host, chosen.port)
    except (OSError, UnicodeError) as why:
        raise SettingsError(f"cannot listen on {chosen.host} port {chosen.port}: {why}") from why
    with ExitStack() as stack:
        stack.enter_context(listening)
        listener = listener_of(chosen.prefix)
        make_room(len(slots) + 1, "slots", ", or take fewer --slots")
        first_known(address_of(flags.settings_from(chosen).broker, "agents"), [listener])
        if chosen.broker is None:
            settings = named(_own(chosen, max(threshold, len(slots))), "gateway")
            settings = command.start(settings)
            secrets = Path(settings.broker.secrets) if settings.broker.secrets else None
            broker = local_broker(chosen.broker_kind, say=_say, secrets=secrets)
            ours = stack.enter_context(broker)
            where = settings.broker.replaced(host=ours.host, port=ours.port)
            settings = settings.replaced(broker=where)
        else:
            settings = flags.settings_from(chosen)
            address = address_of(settings.broker, "agents")
            probe(address, listener)
            if not flags.names_a_run(chosen, settings):
                name = await_newest(address, listener, _say)
                settings = settings.replaced(run=settings.run.replaced(name=name))
        server = _server(settings, slots, chosen.prefix)
        _say(_greeting(chosen, settings, listening.getsockname()[1], len(slots)))
        codes: list[int] = []
        if chosen.broker is None:
            stack.enter_context(_aggregator(settings, server, codes))
        server.run(sockets=[listening])
        return next((code for code in codes if code), 0)


def defaults() -> Settings:
    """Return the settings of a federation of our own where nobody says anything."""
    return load([OWN])


def _shown() -> dict[str, object]:
    """Return what --help says of the defaults that differ from the aggregator's."""
    ours, others = defaults().model_dump(), Settings().model_dump()
    differ = {
        f"{section}.{key}": value or "none" if isinstance(value, list) else value
        for section, keys in ours.items()
        for key, value in keys.items()
        if value != others[section][key]
    }
    return differ | {
        "run.name": "gateway-TIME; with --broker: the newest",
        "collect.threshold": "THRESHOLD",
    }


def _parser(command: Command) -> ArgumentParser:
    parser = flags.parser(
        "The HTTP door to a federation. Without --broker it starts a broker and an aggregator of "
        "its own, to which all flags of python -m aggregator apply; a round then waits a year for "
        "its updates, there are 100,000, and nothing defends them (fedjury/gateway/gateway.toml).",
        command.examples,
        flags.RUN_FLAGS,
        flags.AGGREGATOR_FLAGS,
        flags.BROKER_FLAGS,
        prog=command.prog,
        defaults=_shown(),
    )
    add = parser.add_argument
    add(
        "count",
        metavar="THRESHOLD",
        nargs="?",
        type=int,
        default=None,
        help=f"updates that close a round (default: {THRESHOLD})",
    )
    add(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where to listen (default: %(default)s)",
    )
    add(
        "--port",
        type=int,
        default=5000,
        metavar="N",
        help="TCP port to listen on; 0: any free one (default: %(default)s)",
    )
    add(
        "--slots",
        type=int,
        default=0,
        metavar="N",
        help="agents to stand for on the broker (default: the threshold)",
    )
    add(
        "--prefix",
        default="http",
        metavar="NAME",
        help="of their names; two gateways of a run need two (default: %(default)s)",
    )
    flags.add_broker(parser, "join the run of an aggregator on this broker (default: start both)")
    add(
        "--broker-kind",
        choices=KINDS,
        default="auto",
        help="the private broker to start (default: mosquitto if it is there)",
    )
    return parser


def _read(chosen: Namespace) -> int:
    """Check the flags that are the gateway's own; returns the threshold."""
    if chosen.count is not None:
        setattr(chosen, "collect.threshold", str(chosen.count))
    message = getattr(chosen, "collect.threshold")
    if message is None:  # as a file or --set has it
        message = str(flags.settings_from(chosen).collect.threshold or THRESHOLD)
    if not message.isdecimal() or not 1 <= int(message) <= MOST_SLOTS:
        raise SettingsError(f"a threshold of {message} cannot be: 1 to {MOST_SLOTS:,}")
    if not 0 <= chosen.slots <= MOST_SLOTS:
        raise SettingsError(f"--slots {chosen.slots} cannot be: 1 to {MOST_SLOTS:,}")
    if not 0 <= chosen.port <= 65535:
        raise SettingsError(f"--port {chosen.port} cannot be: 0 to 65535")
    if not NAME.fullmatch(chosen.prefix) or len(chosen.prefix) > PREFIX:
        raise SettingsError(f"--prefix {chosen.prefix!r} must be 1 to {PREFIX} of A-Z a-z 0-9 _ -")
    setattr(chosen, "collect.threshold", message)
    return int(message)


def _own(chosen: Namespace, agents: int) -> Settings:
    """Read the settings of a federation of our own, which waits for so many agents, or more."""
    chosen.config.insert(0, OWN)
    settings = flags.settings_from(chosen)
    agents = max(agents, settings.collect.agents)
    return settings.replaced(collect=settings.collect.replaced(agents=agents))


def _aggregator(
    settings: Settings, server: uvicorn.Server, codes: list[int]
) -> AbstractContextManager[None]:
    """Start an aggregator; the server ends with it, unless all rounds are done."""

    def ended(code: int) -> None:
        codes.append(code)
        if code:
            server.should_exit = True

    return local_aggregator(to_toml(settings), settings.broker.password, ended)


def _server(settings: Settings, slots: tuple[str, ...], prefix: str) -> uvicorn.Server:
    """Put worker, application and server together."""

    def connect() -> SessionTransport:
        address = address_of(settings.broker, "agents")
        transport = MqttTransport(address, settings.run.name).open(listener_of(prefix))
        return SessionTransport(transport, lambda: transport.connections)

    session = BrokerWorker(connect, slots, prefix)

    @asynccontextmanager
    async def open_hours(_: FastAPI) -> AsyncIterator[None]:
        session.start()
        yield
        session.stop()

    return server_of(app.build(session, settings.run.name, open_hours))


def _greeting(chosen: Namespace, settings: Settings, port: int, slots: int) -> str:
    """Say where we are and how to take part."""
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    broker = f"{settings.broker.host}:{settings.broker.port}"
    return (
        f"gateway of run {settings.run.name!r} at http://{host}:{port}, {slots:,} slots; "
        f"MQTT agents: --broker {broker} --run {settings.run.name}"
    )


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
