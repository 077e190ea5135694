"""Run a broker for this machine: fedjury broker."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

from fedjury.broker import local, mosquitto
from fedjury.broker.local import HOST, KINDS, BrokerAddress, BrokerError, say_now
from fedjury.config.program import Output, Program, run_main

EXAMPLES = """examples:
  %(prog)s                              at port 1883, Mosquitto if it is there
  %(prog)s --port 1883 --kind embedded  without Mosquitto
  %(prog)s --port 1883 --secrets secrets  with logins (fedjury enroll)
  %(prog)s --port 1883 --page   and the live page at port 8080
  %(prog)s check mqtt://10.0.0.1        whether another broker will do
"""

EXPECTED = (BrokerError,)
"""Errors that are one sentence to people."""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = ArgumentParser(
        prog=prog,
        description="A private MQTT broker on 127.0.0.1, for this machine only, until Ctrl-C.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kind", choices=KINDS, default="auto", help="which broker to start (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=None,
        help=f"TCP port of MQTT; 0: any free one (default: {mosquitto.PORT}, or "
        "a free one if that is taken)",
    )
    parser.add_argument(
        "--secrets",
        type=Path,
        metavar="DIR",
        help="made by fedjury enroll (default: no logins)",
    )
    parser.add_argument(
        "--page",
        type=int,
        nargs="?",
        const=mosquitto.PAGE_PORT,
        metavar="PORT",
        help="serve the live page there, with websockets (%(const)s)",
    )
    return parser


def work(chosen: Namespace, output: Output) -> int:
    """Run a broker until Ctrl-C."""
    if chosen.port is not None and not 0 <= chosen.port <= 65535:
        raise BrokerError(f"--port {chosen.port} must be 0 to 65535")

    def begun(broker: BrokerAddress) -> None:
        output.result(lambda: show(broker, chosen), broker._asdict() | {"page": broker.page})

    port = local.usual_port() if chosen.port is None else chosen.port
    with suppress(KeyboardInterrupt):
        local.follow(chosen.kind, port, chosen.secrets, chosen.page, begun)
    return 0


def show(broker: BrokerAddress, chosen: Namespace) -> None:
    """Say where the broker is, and what to type next."""
    say_now(f"{broker.kind} broker on {broker.host}:{broker.port}, stop it with Ctrl-C")
    say_now(following(broker.port, chosen.secrets, port_was_chosen=chosen.port is not None))
    if broker.websockets:
        another = f"fedjury page --broker {broker.websockets}"
        say_now(f"the live page: {broker.page or another}")


def following(port: int, secrets: Path | None, *, port_was_chosen: bool) -> str:
    """Say what to type next, in other terminals."""
    usual = port == mosquitto.PORT
    flags = "" if usual else f" --broker {HOST}:{port}"
    flags += f" --secrets {secrets}" if secrets is not None else ""
    taken = "" if usual or port_was_chosen else f"port {mosquitto.PORT} is taken; "
    return (
        f"{taken}in other terminals: fedjury serve{flags}   and: "
        f"fedjury spawn --n 1000 --evil 0.2{flags}"
    )


main = Program("fedjury broker", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
