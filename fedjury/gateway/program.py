"""The HTTP door to a federation as a program: its flags, and how a federation of its own is set."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from fedjury.broker.local import KINDS, BrokerError, say_now
from fedjury.config import flags
from fedjury.config.naming import named
from fedjury.config.program import Output
from fedjury.config.settings import Settings, SettingsError, load
from fedjury.gateway.state import names_of
from fedjury.protocol.credentials import address_of, first_known
from fedjury.protocol.runs import await_newest
from fedjury.protocol.topics import NAME
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.open_files import make_room

EXAMPLES = """  %(prog)s                       100 updates close a round; port 5000
  %(prog)s 10
  %(prog)s 10 --rule median --set limits.finite=false
  %(prog)s 60 --slots 10        ten over HTTP, fifty over MQTT
  %(prog)s --broker 127.0.0.1:1883 --run lab --slots 20"""

EXPECTED = (SettingsError, TransportError, BrokerError)
"""Errors that are one sentence to people."""

THRESHOLD = 100

OWN = Path(__file__).with_name("gateway.toml")
"""What a federation of our own has different from others."""

MOST_SLOTS = 100_000

PREFIX = 58
"""Characters of the prefix: with a dash and up to five digits a name may have 64."""


def work(
    chosen: Namespace,
    output: Output,
    start: Callable[[Settings], Settings] = lambda settings: settings,
) -> int:
    """Start what is missing, and serve until Ctrl-C; ``start``: changes a federation of our own."""
    # Serving wants packages that the flags do without.
    from fedjury.gateway.broker_session import listener_of  # noqa: PLC0415
    from fedjury.gateway.serve import serve  # noqa: PLC0415
    from fedjury.gateway.serving import listen, url_of  # noqa: PLC0415

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    threshold = read(chosen)
    slots = names_of(chosen.prefix, chosen.slots or threshold)
    try:
        listening = listen(chosen.host, chosen.port)
    except (OSError, UnicodeError) as why:
        raise SettingsError(f"cannot listen on {chosen.host} port {chosen.port}: {why}") from why
    with listening:
        listener = listener_of(chosen.prefix)
        make_room(len(slots) + 1, "slots", ", or take fewer --slots")
        first_known(address_of(flags.settings_from(chosen).broker, "agents"), [listener])
        own = chosen.broker_kind if chosen.broker is None else ""
        if own:
            settings = start(named(own_settings(chosen, max(threshold, len(slots))), "gateway"))
        else:
            settings = joined(chosen, listener)
        port, where = listening.getsockname()[1], url_of(listening, chosen.host)

        def greet(settings: Settings) -> None:
            text = _greeting(settings, where, len(slots))
            data = {"run": settings.run.name, "port": port, "slots": len(slots)}
            output.result(lambda: say_now(text), data)

        return serve(settings, listening, slots, chosen.prefix, greet, own, say_now)


def joined(chosen: Namespace, listener: str) -> Settings:
    """Return the settings of a run to join, on a broker that answers."""
    settings = flags.settings_from(chosen)
    address = address_of(settings.broker, "agents")
    probe(address, listener)
    if flags.names_a_run(chosen, settings):
        return settings
    name = await_newest(address, listener, say_now)
    return settings.replaced(run=settings.run.replaced(name=name))


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


def parser_of(prog: str, examples: str = EXAMPLES) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = flags.parser(
        "The HTTP gateway to a federation. Without --broker it starts a broker and an "
        "aggregator of "
        "its own, to which all flags of fedjury serve apply; a round then waits a year for "
        "its updates, there are 100,000, and there is no defence (fedjury/gateway/gateway.toml).",
        examples,
        flags.RUN_FLAGS,
        flags.AGGREGATOR_FLAGS,
        flags.BROKER_FLAGS,
        prog=prog,
        defaults=_shown(),
    )
    _add_own(parser)
    flags.add_broker(
        parser, "join a run on this broker (default: start a broker and an aggregator)"
    )
    parser.add_argument(
        "--broker-kind",
        choices=KINDS,
        default="auto",
        help="the private broker to start (default: mosquitto if it is there)",
    )
    return parser


def _add_own(parser: ArgumentParser) -> None:
    """Add what the gateway alone has: how many take part, and where."""
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
        help="address to listen on (default: %(default)s)",
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
        help="agents on the broker to post as (default: the threshold)",
    )
    add(
        "--prefix",
        default="http",
        metavar="NAME",
        help="of their names; two gateways of a run need two (default: %(default)s)",
    )


def read(chosen: Namespace) -> int:
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


def own_settings(chosen: Namespace, agents: int) -> Settings:
    """Read the settings of a federation of our own, which waits for so many agents, or more."""
    chosen.config.insert(0, OWN)
    settings = flags.settings_from(chosen)
    agents = max(agents, settings.collect.agents)
    return settings.replaced(collect=settings.collect.replaced(agents=agents))


def _greeting(settings: Settings, where: str, slots: int) -> str:
    """Say where we are and how to take part."""
    broker = f"{settings.broker.host}:{settings.broker.port}"
    return (
        f"gateway of run {settings.run.name!r} at {where}, {slots:,} slots; "
        f"MQTT agents: --broker {broker} --run {settings.run.name}"
    )
