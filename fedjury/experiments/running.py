"""Running an experiment as it was asked for: its plan, the cells that were picked, its files."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from fedjury.broker.local import local_broker
from fedjury.config.flags import overrides_of
from fedjury.config.sections import Broker
from fedjury.config.settings import Settings, SettingsError
from fedjury.experiments import EXPERIMENTS
from fedjury.experiments.engine import report, runner
from fedjury.experiments.engine.case import Case
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.setup import P, Plan
from fedjury.learning import datasets
from fedjury.registry import unknown

ROOT = Path("data")
"""Where downloads are kept: the default of data.root."""

ELSEWHERE = ("run.", "data.", "broker.")
"""Settings that no --set of an experiment changes."""

HELD_OUT = Settings().data.test


class Written(NamedTuple):
    """What an experiment came to."""

    name: str
    text: str
    """Its tables, in Markdown."""
    files: list[Path]
    cases: Path
    """The folder of each cell's records and settings."""

    def show(self) -> None:
        """Print it for people."""
        print(self.text)
        for file in self.files:
            print(file)
        print(f"{self.cases}/ (each cell's records and settings)")

    def figures(self) -> dict[str, object]:
        """Return where it is, for programs."""
        files = [str(file) for file in self.files]
        return {"experiment": self.name, "files": files, "cases": str(self.cases)}


def run(chosen: Namespace) -> Written:
    """Run an experiment, over a private broker if it is to be."""
    with broker(chosen.link) as address:
        return _run(chosen, runner.How(chosen.link, address, chosen.jobs, chosen.fresh))


def _run(chosen: Namespace, how: runner.How) -> Written:
    """Run the cells, and write what they came to."""
    experiment = EXPERIMENTS[chosen.name]
    given = overrides_of(chosen.set)
    plan = with_settings(planned(experiment, chosen), given)
    where = runner.place(Path(chosen.runs), chosen.name, plan.scale.name, *plan.sets)
    cases = picked(experiment, plan, chosen.only)
    check_settings(cases, given)
    results = runner.run(cases, where, how)
    name = named(chosen.name, [*chosen.only, *chosen.set])
    spent = runner.spent(results, where)
    files = report.write(where.folder, name, experiment, plan, results, spent)
    text = (where.folder / f"{name}.md").read_text(encoding="utf-8")
    return Written(name, text, files, where.cases)


def named(name: str, chosen: Sequence[str]) -> str:
    """Name an experiment's files; those of what was chosen of it stand beside the whole."""
    words = (re.sub(r"[^A-Za-z0-9.]+", "-", each).strip("-") for each in chosen)
    return "-".join([name, *words])


def with_settings(plan: P, given: Mapping[str, Any]) -> P:
    """Return a plan all of whose cells have other settings (--set).

    Raises
    ------
    SettingsError
        If another flag says it.
    """
    for key in given:
        if key.startswith(ELSEWHERE):
            flags = "--seed, --data, --link and --runs"
            raise SettingsError(f"--set {key}: experiments take that from {flags}")
    return replace(plan, common={**plan.common, **given})


def check_settings(cases: Sequence[Case], given: Mapping[str, Any]) -> None:
    """Refuse settings (--set) that some cells do not have, because the experiment varies them.

    Raises
    ------
    SettingsError
        If there is one.
    """
    for key, wanted in given.items():
        section, _, name = key.partition(".")
        found = {repr(getattr(getattr(case.settings, section), name)) for case in cases}
        # Numbers of settings that take words as well are still as they were typed.
        if found not in ({repr(wanted)}, {str(wanted)}):
            values = ", ".join(sorted(found))
            raise SettingsError(
                f"--set {key}={wanted}: this experiment sets it itself, to {values}"
            )


def planned(experiment: Experiment[Any], chosen: Namespace) -> Plan:
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
