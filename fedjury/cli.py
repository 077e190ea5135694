"""The command ``fedjury``: one name for all programs.

fedjury run --demo
fedjury serve --rounds 30
fedjury spawn --n 1000 --evil 0.2
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple, NoReturn

from fedjury.config.program import run_main


class Program(NamedTuple):
    """A subcommand: the module that it runs, what it is for, and flags that it implies."""

    module: str
    summary: str
    implied: tuple[str, ...] = ()


PROGRAMS = {
    "demo": Program(
        "fedjury.federation", "show one attack against three defences (a minute)", ("--demo",)
    ),
    "run": Program("fedjury.federation", "run a whole federation on this machine"),
    "serve": Program("fedjury.aggregator.__main__", "run the aggregator"),
    "spawn": Program("fedjury.agents.spawn", "spawn a fleet of agents"),
    "broker": Program("fedjury.broker.local", "run a broker for this machine, until Ctrl-C"),
    "enroll": Program("fedjury.broker.enrol", "make log-ins and certificates"),
    "watch": Program("fedjury.monitor.terminal.__main__", "watch a run in the terminal"),
    "page": Program("fedjury.monitor.web.__main__", "show the live page in a browser"),
    "gateway": Program("fedjury.gateway.__main__", "let agents take part over HTTP"),
    "exporter": Program("fedjury.monitor.prometheus.__main__", "export metrics to Prometheus"),
    "experiment": Program("fedjury.experiments.__main__", "run the experiment of a paper"),
    "config": Program("fedjury.config.__main__", "print every setting with its meaning"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the program that the first argument names."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(usage())
        return 0
    name, *rest = arguments
    if name in {"--version", "version"}:
        print(f"fedjury {current()}")
        return 0
    if name not in PROGRAMS:
        near = difflib.get_close_matches(name, PROGRAMS, 1)
        hint = f"did you mean {near[0]}?" if near else "fedjury --help lists them"
        print(f"error: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    program = PROGRAMS[name]
    module = importlib.import_module(program.module)
    return run_main(module.main, module.EXPECTED, [*program.implied, *rest])


def usage() -> str:
    """Return what ``fedjury --help`` prints."""
    width = max(map(len, PROGRAMS))
    lines = (f"  {name:{width}}  {program.summary}" for name, program in PROGRAMS.items())
    return "\n".join(
        [
            "usage: fedjury COMMAND ...",
            "",
            "Federated learning over MQTT that can be attacked and defends itself.",
            "",
            *lines,
            f"  {'version':{width}}  show the version",
            "",
            "fedjury COMMAND --help describes a command.",
        ]
    )


def current() -> str:
    """Return the version that is installed."""
    try:
        return version("fedjury")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"


def run() -> NoReturn:
    """Be the command ``fedjury``."""
    run_main(main, ())
