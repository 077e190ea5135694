"""Run an experiment: fedjury experiment baffle-stable."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedjury.broker.local import BrokerError, local_broker
from fedjury.config import flags
from fedjury.config.sections import Broker
from fedjury.config.settings import Settings, SettingsError
from fedjury.experiments import EXPERIMENTS
from fedjury.experiments.engine import report, runner
from fedjury.experiments.engine.case import Case
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.setup import Plan
from fedjury.experiments.engine.workers import CaseError
from fedjury.learning import datasets
from fedjury.registry import unknown

EXAMPLES = """examples:
  fedjury experiment
  fedjury experiment mpaf --scale tiny --repeats 1      seconds, to see that it works
  fedjury experiment baffle-stable
  fedjury experiment baffle-quorum --repeats 3 --jobs 4
  fedjury experiment baffle-early --link broker
  fedjury experiment baffle-stable --data cifar10.npz --repeats 1 --model lenet
  fedjury experiment mpaf --repeats 3
  fedjury experiment mpaf --data fashion-mnist --model lenet
  fedjury experiment matrix --repeats 1
  fedjury experiment matrix --only attack=mpaf,alie --only guard=alone --link broker
  fedjury experiment baffle-stable --scale paper"""

ROOT = Path("data")
"""Where downloads are kept: the default of data.root."""

HELD_OUT = Settings().data.test


def main(arguments: Sequence[str]) -> int:
    """Run one experiment, or list them all."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if not chosen.name:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:16} {experiment.line}")
        return 0
    if chosen.name not in EXPERIMENTS:
        raise SettingsError(str(unknown("experiment", chosen.name, EXPERIMENTS)))
    if chosen.repeats < 1 or chosen.jobs < 0 or chosen.seed < 0:
        raise SettingsError("--repeats must be 1 or more, --jobs and --seed 0 or more")
    try:
        with broker(chosen.link) as address:
            run(chosen, runner.How(chosen.link, address, chosen.jobs, chosen.fresh))
    except KeyboardInterrupt:
        print("stopped; the same command resumes")
        raise
    return 0


def run(chosen: argparse.Namespace, how: runner.How) -> None:
    """Run the cells, write what they came to, and show it."""
    experiment = EXPERIMENTS[chosen.name]
    plan = planned(experiment, chosen)
    where = runner.place(Path(chosen.runs), chosen.name, plan.scale.name, *plan.sets)
    results = runner.run(picked(experiment, plan, chosen.only), where, how)
    name = f"{chosen.name}-picked" if chosen.only else chosen.name  # beside the whole one
    report.write(where.folder, name, experiment, plan, results)
    print((where.folder / f"{name}.md").read_text(encoding="utf-8"))
    for file in sorted(where.folder.glob(f"{name}*")):
        print(file)
    print(f"{where.cases}/ (each cell's records and settings)")


def planned(experiment: Experiment[Any], chosen: argparse.Namespace) -> Plan:
    """Make the plan of an experiment from what was asked for.

    Raises
    ------
    SettingsError
        If a data set cannot be had, or the experiment knows no such network.
    """
    setup = experiment.setup
    scale = setup.scales[chosen.scale]
    test = scale.changes.get("data.test", HELD_OUT)
    try:
        if chosen.model and chosen.model not in setup.models:
            raise unknown("network of this experiment", chosen.model, setup.models)
        sets = {name: datasets.load(name, ROOT, test) for name in chosen.data or scale.data}
    except ValueError as why:
        raise SettingsError(str(why)) from why
    seeds = range(chosen.seed, chosen.seed + chosen.repeats)
    plan: Plan = setup.plan(chosen.scale, sets, seeds, chosen.model)
    return plan


def picked(experiment: Experiment[Any], plan: Plan, only: Sequence[str]) -> list[Case]:
    """Return the cells of an experiment, or of those the ones that were picked.

    Raises
    ------
    SettingsError
        If nothing can be picked by that label, or no cell has that value.
    """
    cases = experiment.cases(plan)
    for pick in only:
        label, _, names = pick.partition("=")
        if label not in experiment.only:
            can = ", ".join(experiment.only) or "nothing can be picked here"
            raise SettingsError(f"--only {pick} must be LABEL=NAME,NAME with a label of: {can}")
        known = dict.fromkeys(str(case.labels[label]) for case in cases)
        for name in names.split(","):
            if name not in known:
                why = unknown(label, name, known)
                raise SettingsError(f"--only {pick}, at scale {plan.scale.name}: {why}")
        wanted = {*names.split(","), "none"}  # without an attack: what all others are held against
        cases = [case for case in cases if str(case.labels[label]) in wanted]
    return cases


@contextmanager
def broker(link: str) -> Iterator[Broker]:
    """Start a private broker if runs are to go over one."""
    if link == "memory":
        yield Broker()
        return
    with local_broker("auto", say=print) as address:
        yield Broker(host=address.host, port=address.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedjury experiment",
        epilog=EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run an experiment of a paper and set our figures beside the paper's.\n"
        "Without NAME: list the experiments. A stopped one resumes.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        metavar="N",
        help="seeds to run it with (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the first of them (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        action="append",
        metavar="NAME",
        help="data set by name, or an .npz file, instead of the experiment's own; "
        "more than once for several, where it takes several",
    )
    parser.add_argument(
        "--model",
        default="",
        metavar="NAME",
        help="network of the small scale; lenet takes six times as long, with "
        "colours twenty times (default: mlp)",
    )
    parser.add_argument(
        "--scale",
        choices=["small", "paper", "tiny"],
        default="small",
        help="tiny: seconds, to try it; small: two cores, minutes; paper: the "
        "paper's size, days (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="LABEL=NAMES",
        help="of the matrix: some rows or columns, like attack=mpaf,alie; more than "
        "once for several labels (attack, rule, guard)",
    )
    parser.add_argument(
        "--link",
        choices=["memory", "broker"],
        default="memory",
        help="in one process, or over a private MQTT broker: the same results "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=2,
        metavar="N",
        help="processes; over a broker runs go one after the other (default: %(default)s)",
    )
    parser.add_argument(
        "--runs", default="runs", metavar="DIR", help="folder for results (default: %(default)s)"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="run again what is done; after a change of the code remove the folder "
        "base-... beside it too",
    )
    return parser


EXPECTED = (SettingsError, BrokerError, CaseError, OSError)
"""Errors that are one sentence to people."""


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
