"""The command ``fedjury``: one name for all programs.

fedjury run --demo
fedjury serve --rounds 30
fedjury spawn --n 1000 --evil 0.2
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple, NoReturn

from fedjury.config.program import Output, Program, run_main

EXPECTED = ()
"""Errors that are one sentence to people; the commands have their own."""


class Command(NamedTuple):
    """A command: where its program is, and what it is for."""

    module: str
    summary: str
    main: str = "main"

    def program(self) -> tuple[Program, tuple[type[Exception], ...]]:
        """Load its program, and the errors of that which are one sentence to people."""
        module = importlib.import_module(self.module)
        return getattr(module, self.main), module.EXPECTED


COMMANDS = {
    "demo": Command(
        "fedjury.federation.__main__",
        "show one attack against three defences (takes a minute)",
        "demo_main",
    ),
    "run": Command("fedjury.federation.__main__", "run a whole federation on this machine"),
    "serve": Command("fedjury.aggregator.__main__", "run the aggregator"),
    "spawn": Command("fedjury.agents.__main__", "start agents"),
    "join": Command("fedjury.agents.join", "take part as a device with data of its own"),
    "broker": Command(
        "fedjury.broker.__main__", "run a private broker on this machine, until Ctrl-C"
    ),
    "broker check": Command("fedjury.broker.check", "tell whether a broker will do"),
    "cluster up": Command(
        "fedjury.cluster.program", "run a federation on many machines", "up_main"
    ),
    "cluster join": Command(
        "fedjury.cluster.program", "let this machine take part in a cluster", "join_main"
    ),
    "cluster status": Command(
        "fedjury.cluster.program", "show the programs of a cluster", "status_main"
    ),
    "cluster down": Command("fedjury.cluster.program", "end a cluster", "down_main"),
    "ingest": Command("fedjury.cells.__main__", "keep the updates of a cell beside its broker"),
    "cells": Command("fedjury.broker.cells", "write brokers for cells of agents, with bridges"),
    "enroll": Command("fedjury.broker.enrol", "make logins and certificates"),
    "watch": Command("fedjury.monitor.terminal.__main__", "watch a run in the terminal"),
    "page": Command("fedjury.monitor.web.__main__", "show the live page in a browser"),
    "gateway": Command("fedjury.gateway.__main__", "let clients take part over HTTP"),
    "exporter": Command("fedjury.monitor.prometheus.__main__", "export metrics to Prometheus"),
    "experiment": Command("fedjury.experiments.__main__", "run the experiment of a paper"),
    "report": Command("fedjury.federation.report", "make the report of a run again"),
    "export": Command("fedjury.federation.export", "write a run's model as a file for others"),
    "config": Command("fedjury.config.__main__", "print all settings with their meanings"),
    "privacy": Command("fedjury.privacy.__main__", "plan the noise of differential privacy"),
    "completion": Command("fedjury.completion", "print a completion script for a shell"),
    "version": Command("fedjury.cli", "show the version", "version_main"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the program that the first argument names."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(usage())
        return 0
    name, *rest = arguments
    if rest and f"{name} {rest[0]}" in COMMANDS:
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name == "--version":
        name = "version"
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "fedjury --help lists them"
        print(f"error: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    program, expected = COMMANDS[name].program()
    return run_main(lambda given: program(given, f"fedjury {name}"), expected, rest)


def usage() -> str:
    """Return what ``fedjury --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
    return "\n".join(
        [
            "usage: fedjury COMMAND ...",
            "",
            "Federated learning over MQTT that can be attacked and defends itself.",
            "",
            *lines,
            "",
            "fedjury COMMAND --help describes a command.",
        ]
    )


def parsers() -> Iterator[tuple[str, str, ArgumentParser]]:
    """Yield name, summary and parser of each command; what cannot be loaded is left out.

    So are commands of two words, whose second a shell takes for an argument of the first.
    """
    for name, command in COMMANDS.items():
        if " " in name:
            continue
        with suppress(ModuleNotFoundError):  # of an extra that is not installed
            yield name, command.summary, command.program()[0].flags(f"fedjury {name}")


def current() -> str:
    """Return the version that is installed."""
    try:
        return version("fedjury")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"


def _version_parser(prog: str) -> ArgumentParser:
    return ArgumentParser(
        prog=prog,
        description="Show the version of fedjury that is installed.",
        epilog="example:\n  %(prog)s --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _version(_: Namespace, output: Output) -> int:
    output.result(lambda: print(f"fedjury {current()}"), {"version": current()})
    return 0


version_main = Program("fedjury version", _version_parser, _version)


def run() -> NoReturn:
    """Be the command ``fedjury``."""
    run_main(main, EXPECTED)


if __name__ == "__main__":
    run_main(main, EXPECTED)
