"""Run an experiment: fedjury experiment baffle-stable."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from fedjury.broker.local import BrokerError
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import SettingsError
from fedjury.experiments import EXPERIMENTS
from fedjury.experiments.engine.case import CaseError
from fedjury.registry import unknown

EXAMPLES = """examples:
  %(prog)s
  %(prog)s mpaf --scale tiny --repeats 1      seconds, to see that it works
  %(prog)s baffle-stable
  %(prog)s baffle-quorum --repeats 3 --jobs 4
  %(prog)s baffle-early --link broker
  %(prog)s baffle-stable --data cifar10.npz --repeats 1 --model lenet
  %(prog)s mpaf --repeats 3
  %(prog)s mpaf --data fashion-mnist --model lenet
  %(prog)s matrix --repeats 1
  %(prog)s matrix --only attack=mpaf,alie --only guard=alone --link broker
  %(prog)s judge-alarms --set validation.look_back=10
  %(prog)s baffle-stable --scale paper"""


def work(chosen: argparse.Namespace, output: Output) -> int:
    """Run one experiment, or list them all."""
    if not chosen.name:
        found = {name: experiment.line for name, experiment in EXPERIMENTS.items()}
        output.result(lambda: show(found), found)
        return 0
    if chosen.name not in EXPERIMENTS:
        raise SettingsError(str(unknown("experiment", chosen.name, EXPERIMENTS)))
    if chosen.repeats < 1 or chosen.jobs < 0 or chosen.seed < 0:
        raise SettingsError("--repeats must be 1 or more, --jobs and --seed 0 or more")
    from fedjury.experiments.running import run  # noqa: PLC0415 - imports torch

    try:
        written = run(chosen)
    except KeyboardInterrupt:
        print("stopped; the same command resumes")
        raise
    output.result(written.show, written.figures())
    return 0


def show(experiments: Mapping[str, str]) -> None:
    """Print what each experiment is."""
    for name, line in experiments.items():
        print(f"{name:16} {line}")


FLAGS: dict[str, dict[str, Any]] = {
    "--repeats": {
        "type": int,
        "default": 5,
        "metavar": "N",
        "help": "seeds to run it with (default: %(default)s)",
    },
    "--seed": {
        "type": int,
        "default": 0,
        "metavar": "N",
        "help": "the first of them (default: %(default)s)",
    },
    "--data": {
        "action": "append",
        "metavar": "NAME",
        "help": "data set by name, or an .npz file, instead of the experiment's own; "
        "more than once for several, where it takes several",
    },
    "--model": {
        "default": "",
        "metavar": "NAME",
        "help": "network of the small scale; lenet takes six times as long, with "
        "colours twenty times (default: mlp)",
    },
    "--scale": {
        "choices": ["small", "paper", "tiny"],
        "default": "small",
        "help": "tiny: seconds, to try it; small: two cores, minutes; paper: the "
        "paper's size, days (default: %(default)s)",
    },
    "--only": {
        "action": "append",
        "default": [],
        "metavar": "LABEL=NAMES",
        "help": "of the matrix: some rows or columns, like attack=mpaf,alie; more than "
        "once for several labels (attack, rule, guard)",
    },
    "--set": {
        "action": "append",
        "default": [],
        "metavar": "SECTION.KEY=VALUE",
        "help": "a setting of all cells that the experiment does not vary itself; more than once "
        "for several",
    },
    "--link": {
        "choices": ["memory", "broker"],
        "default": "memory",
        "help": "in one process, or over a private MQTT broker: the same results "
        "(default: %(default)s)",
    },
    "--jobs": {
        "type": int,
        "default": 2,
        "metavar": "N",
        "help": "processes; over a broker runs go one after the other (default: %(default)s)",
    },
    "--runs": {
        "default": "runs",
        "metavar": "DIR",
        "help": "folder for results (default: %(default)s)",
    },
    "--fresh": {
        "action": "store_true",
        "help": "run again what is done; after a change of the code remove the folder "
        "base-... beside it too",
    },
}
"""The flags, as argparse takes them."""


def parser_of(prog: str) -> argparse.ArgumentParser:
    """Return the parser of its flags."""
    parser = argparse.ArgumentParser(
        prog=prog,
        epilog=EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run an experiment of a paper and set our figures beside the paper's.\n"
        "Without NAME: list the experiments. A stopped one resumes.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(EXPERIMENTS))
    for flag, how in FLAGS.items():
        parser.add_argument(flag, **how)
    return parser


EXPECTED = (SettingsError, BrokerError, CaseError, OSError)
"""Errors that are one sentence to people."""

main = Program("fedjury experiment", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
