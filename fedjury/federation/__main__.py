"""One command: broker, aggregator and agents on this machine, progress, and a report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack

from fedjury.broker.local import KINDS
from fedjury.broker.mosquitto import PAGE_PORT
from fedjury.config import flags
from fedjury.config.naming import named
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import Settings, SettingsError
from fedjury.federation.parts import EXPECTED
from fedjury.protocol.transport.open_files import make_room
from fedjury.shipped import shipped

EXAMPLES = """  %(prog)s --demo
  %(prog)s --demo --monitor
  %(prog)s --n 200 --evil 0.1 --rounds 20 --rule median
  %(prog)s --config config/demo.toml --config config/jury.toml
  %(prog)s --n 1000 --evil 0.2 --rule median --attack random --broker 127.0.0.1:1883"""

DEMO = """  %(prog)s
  %(prog)s --monitor             with the live page in a browser
  %(prog)s --n 100 --seed 1"""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = _parser(
        "Run a whole federation on this machine: broker, aggregator and agents. A run "
        "without --run is named by the time.",
        EXAMPLES,
        prog,
        "run-TIME",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="the same attack four times: undefended, with clipping, with detection, with votes",
    )
    return parser


def demo_parser(prog: str) -> ArgumentParser:
    """Return the parser of the demo's flags."""
    parser = _parser(
        "Show the same attack four times: undefended, with clipping, with detection, with votes.",
        DEMO,
        prog,
        "demo-TIME",
    )
    parser.set_defaults(demo=True)
    return parser


def _parser(description: str, examples: str, prog: str, run: str) -> ArgumentParser:
    parser = flags.parser(
        description,
        examples,
        flags.RUN_FLAGS,
        flags.AGGREGATOR_FLAGS,
        flags.AGENT_FLAGS,
        flags.BROKER_FLAGS,
        prog=prog,
        defaults={"run.name": run},
    )
    flags.add_broker(parser, "a running broker (default: start a private one)")
    parser.add_argument(
        "--broker-kind",
        choices=KINDS,
        default="auto",
        help="the private broker to start (default: mosquitto if it is there)",
    )
    parser.add_argument(
        "--monitor",
        nargs="?",
        type=int,
        const=PAGE_PORT,
        metavar="PORT",
        help="show the live page in a browser, at this port or a free one (default: %(const)s)",
    )
    return parser


def settings_of(chosen: Namespace) -> Settings:
    """Return the settings of the federation, or of the demo, that the flags describe."""
    if chosen.monitor is not None and chosen.broker is not None:
        raise SettingsError(
            "--monitor goes with the private broker; for yours, which must speak websockets: "
            "fedjury page --broker ws://HOST:PORT"
        )
    if chosen.demo:
        chosen.config.insert(0, shipped("config/demo.toml"))
    settings = flags.settings_from(chosen)
    if chosen.demo:
        from fedjury.federation.demo import check_demo  # noqa: PLC0415 - imports torch

        check_demo(settings)
    if flags.names_a_run(chosen, settings):
        return settings
    return named(settings, "demo" if chosen.demo else "run")


def work(chosen: Namespace, output: Output) -> int:
    """Run one federation, or the demo's four."""
    settings = settings_of(chosen)
    # What these import takes seconds, which help does without.
    from fedjury.federation.demo import demo  # noqa: PLC0415
    from fedjury.federation.run import private_broker, say, single  # noqa: PLC0415
    from fedjury.monitor.web.opening import stay  # noqa: PLC0415

    with ExitStack() as stack:
        page = ""
        if chosen.broker is None:
            # The broker may open what we may, and has them all.
            make_room(settings.agents.n, "agents", ", or take fewer agents (--n)")
            settings, page = stack.enter_context(
                private_broker(settings, chosen.broker_kind, chosen.monitor)
            )
        try:
            result = demo(settings) if chosen.demo else single(settings)
        except KeyboardInterrupt:
            say(f"stopped; with --run {settings.run.name} the same command resumes it")
            raise
        if result.report is not None:
            output.result(result.show, result.figures())
        if page:
            stay(page, say)
        return result.code


main = Program("fedjury run", parser_of, work)
demo_main = Program("fedjury demo", demo_parser, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
