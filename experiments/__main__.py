"""Run an experiment: python -m experiments baffle-stable."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from broker.local import BrokerError, local_broker
from config import flags
from config.sections import Broker
from config.settings import Settings, SettingsError
from experiments import EXPERIMENTS, campaign, cell, report
from experiments.scale import SCALES, SMALL_MODELS, TINY, Scale
from experiments.work import CellError
from learning import datasets, tables

EXAMPLES = """examples:
  python -m experiments baffle-stable
  python -m experiments baffle-quorum --repeats 3 --jobs 4
  python -m experiments baffle-early --link broker
  python -m experiments baffle-stable --data cifar10.npz --repeats 1 --model lenet
  python -m experiments baffle-stable --scale paper"""

ROOT = Path("data")
"""Where downloads are kept: the default of data.root."""

HELD_OUT = Settings().data.test


def main(arguments: Sequence[str]) -> int:
    """Run one experiment, or list them all."""
    made = _parser()
    chosen = made.parse_args(arguments)
    if not chosen.name:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:16} {experiment.line}")
        return 0
    if chosen.name not in EXPERIMENTS:
        raise SettingsError(str(tables.unknown("experiment", chosen.name, EXPERIMENTS)))
    if chosen.repeats < 1 or chosen.jobs < 0 or chosen.seed < 0:
        raise SettingsError("--repeats must be 1 or more, --jobs and --seed 0 or more")
    scale = (SCALES | {TINY.name: TINY})[chosen.scale]
    try:
        with broker(chosen.link) as address:
            how = campaign.How(chosen.link, address, chosen.jobs, chosen.fresh)
            run(chosen, scale, how)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was")
        raise
    return 0


def run(chosen: argparse.Namespace, scale: Scale, how: campaign.How) -> None:
    """Run the cells, write what they came to, and show it."""
    name = chosen.data or scale.data
    try:
        data = datasets.load(name, ROOT, scale.changes.get("data.test", HELD_OUT))
    except ValueError as why:
        raise SettingsError(str(why)) from why
    experiment = EXPERIMENTS[chosen.name]
    seeds = range(chosen.seed, chosen.seed + chosen.repeats)
    plan = cell.plan(scale, name, data, seeds, chosen.model)
    del data  # the workers load their own
    where = campaign.place(Path(chosen.runs), chosen.name, scale.name, name)
    results = campaign.run(experiment.cells(plan), where, how)
    report.write(where.folder, chosen.name, experiment, plan, results)
    print((where.folder / f"{chosen.name}.md").read_text(encoding="utf-8"))
    for file in sorted(where.folder.glob(f"{chosen.name}*")):
        print(file)
    print(f"{where.cells}/ (each cell's records and settings)")


@contextmanager
def broker(link: str) -> Iterator[Broker]:
    """Start a private broker if runs are to go over one."""
    if link == "memory":
        yield Broker()
        return
    with local_broker("auto", say=print) as address:
        yield Broker(host=address.host, port=address.port)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m experiments", epilog=EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run an experiment of a paper and set our figures beside the paper's. "
                    "Without NAME: list the experiments. A stopped one goes on where it was.",
    )  # fmt: skip
    made.add_argument("name", nargs="?", metavar="NAME", help=", ".join(EXPERIMENTS))
    made.add_argument("--repeats", type=int, default=5, help="seeds to run it with (5)")
    made.add_argument("--seed", type=int, default=0, help="the first of them (0)")
    made.add_argument("--data", help="data set by name, or an .npz file "
                      "(small: fashion-mnist, paper: cifar10)")  # fmt: skip
    made.add_argument("--model", choices=SMALL_MODELS, default="mlp", metavar="NAME",
                      help=f"network of the small scale: {', '.join(SMALL_MODELS)}; lenet takes "
                      "six times as long, with colours twenty times (mlp)")  # fmt: skip
    made.add_argument("--scale", choices=[*SCALES, TINY.name], default="small", metavar="SCALE",
                      help="small: two cores, minutes; paper: the paper's size, days")  # fmt: skip
    made.add_argument(
        "--link", choices=["memory", "broker"], default="memory",
        help="in one process, or over a private MQTT broker: the same results",
    )  # fmt: skip
    made.add_argument("--jobs", type=int, default=2,
                      help="processes (2); over a broker runs go one after the other")  # fmt: skip
    made.add_argument("--runs", default="runs", metavar="DIR", help="folder for results (runs)")
    made.add_argument("--fresh", action="store_true",
                      help="run again what is done; after a change of the code remove the folder "
                      "base-... beside it too")  # fmt: skip
    return made


if __name__ == "__main__":
    flags.run_main(main, (SettingsError, BrokerError, CellError, OSError))
