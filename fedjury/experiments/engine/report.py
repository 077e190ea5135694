"""What an experiment came to, on disk: CSV, Markdown and a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from fedjury.experiments.engine import intervals, runs, tables
from fedjury.experiments.engine.case import Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import alarms_effect
from fedjury.experiments.engine.runner import Spent
from fedjury.experiments.engine.setup import P, Plan


def write(
    folder: Path,
    name: str,
    experiment: Experiment[P],
    plan: P,
    results: list[Result],
    spent: Spent,
) -> list[Path]:
    """Write all files of an experiment into its folder, and return which they are."""
    effect = alarms_effect(results, experiment.poisoned)
    result = [table.with_effect(effect) for table in experiment.tables(results)]
    files = []
    for table in (*result, runs.table(experiment, results)):
        files.append(folder / f"{'-'.join(filter(None, (name, table.name)))}.csv")
        tables.write_csv(files[-1], table)
    rates = any(table.has_rates for table in result)
    paragraphs = [
        f"# {name}",
        experiment.line,
        describe(experiment, plan),
        str(spent),
        experiment.legend or experiment.setup.legend,
        intervals.explained(effect, len(plan.seeds)) if rates else "",
        experiment.note,
        *map(tables.markdown, result),
        f"![{name}]({name}.png)",
    ]
    lines = [line for text in paragraphs if text for line in (text, "")]
    files += [folder / f"{name}.md", folder / f"{name}.png"]
    files[-2].write_text("\n".join(lines), encoding="utf-8")
    draw(files[-1], experiment, plan, results)
    return files


def describe(experiment: Experiment[P], plan: P) -> str:
    """Say in a few sentences what was run."""
    first, last = plan.seeds[0], plan.seeds[-1]
    seeds = f"seeds {first} to {last}" if last > first else f"seed {first}"
    what = f"{', '.join(plan.sets)}, {experiment.setup.describe(plan)}"
    return f"Scale {plan.scale.name}: {what}; {repeats(plan)}, {seeds}."


def repeats(plan: Plan) -> str:
    """Say how often each cell was run."""
    return f"{len(plan.seeds)} repeat{'s' * (len(plan.seeds) > 1)}"


def draw(file: Path, experiment: Experiment[P], plan: P, results: list[Result]) -> None:
    """Draw the picture of an experiment, in black and white if it is printed so."""
    figure = Figure(figsize=experiment.size, layout="constrained")
    experiment.draw(figure, results)
    sets = ", ".join(Path(name).name for name in plan.sets)
    figure.suptitle(
        f"{experiment.title} (scale {plan.scale.name}: {sets}, {plan.common['model.name']}, "
        f"{repeats(plan)})"
    )
    figure.savefig(file, dpi=120)
