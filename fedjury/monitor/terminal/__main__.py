"""A run in the terminal, from its topics alone: fedjury watch."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from fedjury.config import flags
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import SettingsError
from fedjury.monitor import logins
from fedjury.monitor.listener import Listener
from fedjury.monitor.logins import Several
from fedjury.protocol.transport.connection import TransportError

EXAMPLES = """  %(prog)s                          the run on 127.0.0.1:1883
  %(prog)s --broker 127.0.0.1:1883 --run lab
  %(prog)s --broker 127.0.0.1:8883 --run lab --secrets secrets
  %(prog)s --secrets secrets --as ann    ann's own login (fedjury enroll --watch ann)
  %(prog)s --run lab --plain >> lab.log"""

EXPECTED = (SettingsError, TransportError, Several)
"""Errors that are told to people in words."""


def work(chosen: Namespace, output: Output) -> int:
    """Watch until the run is over."""
    # What draws wants a package that the flags do without.
    from fedjury.monitor.terminal.watching import show_for, watch  # noqa: PLC0415

    settings = flags.settings_from(chosen)
    name = settings.run.name if flags.names_a_run(chosen, settings) else ""
    address, principal = logins.login(settings.broker, chosen.person or "")
    listener = Listener(address, principal, name).open()
    try:
        with show_for(str(address), plain=chosen.plain) as show:
            run = watch(listener, show, name)
            output.result(lambda: show.end(run), {"run": run.name, "round": run.round})
    finally:
        listener.close()
    return 0


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = flags.parser(
        "Watch a run in the terminal, from its messages; as plain lines where the "
        "output is no terminal. Ends when the run is over.",
        EXAMPLES,
        flags.LISTENER_FLAGS,
        prog=prog,
    )
    flags.add_broker(parser, "address of the broker (default: 127.0.0.1:1883)")
    logins.add_flags(parser, "the run to watch (default: the only one)")
    parser.add_argument("--plain", action="store_true", help="a line for each round and event")
    return parser


main = Program("fedjury watch", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
