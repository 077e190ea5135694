"""Spawn a fleet of agents that joins a federation: fedjury spawn --n 1000 --evil 0.2."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from fedjury.config import flags
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import SettingsError
from fedjury.protocol.transport.connection import TransportError

EXAMPLES = """  %(prog)s --n 1000 --evil 0.2
  %(prog)s --n 100 --evil 0 --broker broker.local:1883 --run lab
  %(prog)s --n 1000 --evil 0.1 --attack random --scale 10 --split dirichlet
  %(prog)s --n 10000 --shared-downlink
  %(prog)s --n 10000 --shard 2/4 --processes 8
  %(prog)s --n 1000 --shard auto:shards    each that is started takes its part"""

EXPECTED = (SettingsError, TransportError)
"""Errors that are one sentence to people."""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = flags.parser(
        "Spawn agents, honest and fake, that join a federation over MQTT.",
        EXAMPLES,
        flags.AGENT_FLAGS,
        flags.RUN_FLAGS,
        flags.BROKER_FLAGS,
        prog=prog,
    )
    flags.add_broker(parser, "address of the broker (default: 127.0.0.1:1883)")
    return parser


def work(chosen: Namespace, _: Output) -> int:
    """Be the fleet of these settings."""
    settings = flags.settings_from(chosen)
    from fedjury.agents.spawn import spawn  # noqa: PLC0415 - help needs no agents

    return spawn(settings, named=flags.names_a_run(chosen, settings))


main = Program("fedjury spawn", parser_of, work, results=False)


if __name__ == "__main__":
    run_main(main, EXPECTED)
