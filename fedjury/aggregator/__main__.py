"""Run an aggregator: fedjury serve --config config/jury.toml."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fedjury.aggregator import durable_files
from fedjury.aggregator.durable_files import StoreError
from fedjury.aggregator.naming import claimed
from fedjury.config import flags
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import SettingsError
from fedjury.protocol.transport.connection import TransportError

EXAMPLES = """  %(prog)s
  %(prog)s --config config/jury.toml --run lab --rounds 50
  %(prog)s --rule trimmed_mean --set 'collect.seconds=20' --broker broker.local:1883"""

EXPECTED = (SettingsError, TransportError, StoreError)
"""Errors that are one sentence to people."""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = flags.parser(
        "Run the aggregator of a federation over MQTT.",
        EXAMPLES,
        flags.RUN_FLAGS,
        flags.AGGREGATOR_FLAGS,
        flags.BROKER_FLAGS,
        prog=prog,
    )
    flags.add_broker(parser, "address of the broker (default: 127.0.0.1:1883)")
    parser.add_argument(
        "--agents",
        dest="collect.agents",
        metavar="N",
        default=None,
        help="agents to wait for before the first round (default: until no "
        "new one has come for a few seconds)",
    )
    parser.add_argument(
        "--no-report",
        action="store_true",
        help="leave out reports.html, report.md and accuracy.png",
    )
    return parser


def work(chosen: Namespace, output: Output) -> int:
    """Be the aggregator of these settings."""
    settings = flags.settings_from(chosen)
    directory, name = Path(settings.run.directory), settings.run.name
    named = flags.names_a_run(chosen, settings)
    place = durable_files.held(directory / name, name) if named else claimed(directory, name)
    from fedjury.aggregator.serve import aggregate  # noqa: PLC0415 - imports torch, which help does without

    ended = aggregate(settings, place, reporting=not chosen.no_report)
    output.result(ended.show, ended.figures())
    return ended.code


main = Program("fedjury serve", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
