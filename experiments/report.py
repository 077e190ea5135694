"""What an experiment came to, on disk: CSV, Markdown and a picture."""

from __future__ import annotations

from pathlib import Path

from experiments import tables
from experiments.cell import Plan, Result
from experiments.experiment import Experiment

LEGEND = (
    "FN: poisoned candidates accepted, of all; FP: benign candidates rejected, of all, from the "
    "first vote on. In brackets: Wilson's 95 % interval of all repeats together; in parentheses: "
    "the lowest and the highest repeat."
)


def write(
    folder: Path, name: str, experiment: Experiment, plan: Plan, results: list[Result]
) -> None:
    """Write all files of an experiment into its folder."""
    made = experiment.tables(results)
    for table in made:
        file = "-".join(filter(None, (name, table.name)))
        tables.write_csv(folder / f"{file}.csv", table)
    lines = [f"# {name}", "", experiment.line, "", describe(plan), "", LEGEND, ""]
    if experiment.note:
        lines += [experiment.note, ""]
    for table in made:
        lines += [tables.markdown(table), ""]
    lines += [f"![{name}]({name}.png)", ""]
    (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
    draw(folder / f"{name}.png", experiment, plan, results)


def describe(plan: Plan) -> str:
    """Say in a few sentences what was run."""
    common, scale = plan.common, plan.scale
    settings = plan.settings(plan.seeds[0], {})
    first, last = plan.seeds[0], plan.seeds[-1]
    seeds = f"seeds {first} to {last}" if last > first else f"seed {first}"
    called = round(settings.agents.n * settings.sampling.share)
    return (
        f"Scale {scale.name}: {settings.data.name}, model {settings.model.name}, "
        f"{settings.agents.n} agents of whom {round(settings.agents.n * settings.agents.evil)} "
        f"evil, {called} called a round, Dirichlet {settings.agents.alpha:g}, SGD lr "
        f"{settings.training.learning_rate:g} momentum {settings.training.momentum:g} (no weight "
        f"decay: it is not supported), task {common['backdoor.task']}; "
        f"{repeats(plan)}, {seeds}."
    )


def repeats(plan: Plan) -> str:
    """Say how often each cell was run."""
    return f"{len(plan.seeds)} repeat{'s' * (len(plan.seeds) > 1)}"


def draw(file: Path, experiment: Experiment, plan: Plan, results: list[Result]) -> None:
    """Draw the picture of an experiment, in black and white if it is printed so."""
    import matplotlib as mpl  # noqa: PLC0415 - a second of start-up

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure = plt.figure(figsize=experiment.size, layout="constrained")
    experiment.draw(figure, results)
    settings = plan.settings(plan.seeds[0], {})
    figure.suptitle(
        f"{experiment.title} (scale {plan.scale.name}: {Path(settings.data.name).name}, "
        f"{settings.model.name}, {repeats(plan)})"
    )
    figure.savefig(file, dpi=120)
    plt.close(figure)
