"""How many "poisoned" votes should reject a candidate: BAFFLE's quorum q."""

from __future__ import annotations

from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import alarms_effect, by, harm
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers import published
from fedjury.experiments.papers.baffle import BAFFLE, STEPS, BafflePlan, defence
from fedjury.experiments.papers.baffle_stable import PAPER, error_lines, rates

COLUMNS = ("judge", "who", "q")


def cases(plan: BafflePlan) -> list[Case]:
    """Make the grid: judge, configuration, quorum."""
    server = plan.scale.splits[0]
    common = {"data.server": server, "aggregation.server_lr": STEPS["eta/N"]}
    return [
        plan.case(
            {"judge": judge, "who": agent, "q": q, "seed": seed},
            common | defence(agent, judge, quorum=q),
        )
        for seed in plan.seeds
        for judge in ("lof", "calibrated")
        for agent in ("clients", "both")
        for q in plan.scale.quorums
    ]


def tables(results: list[Result]) -> list[Table]:
    """Return the table of errors by quorum."""
    rows: list[Row] = []
    for key, values in by(results, *COLUMNS).items():
        labels = dict(zip(COLUMNS, key, strict=True))
        missed, alarms = rates(values)
        message = (
            published.quorum(int(labels["q"])) if labels["judge"] == "lof" else published.UNKNOWN
        )
        found: Row = {"FN": missed, "FP": alarms, PAPER: published.shown(message), **harm(values)}
        rows.append({**labels, **found})
    return [Table("", "Errors by quorum q, of 10 validators (11 with the server)", rows)]


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw FN and FP against q."""
    lines = error_lines(results, COLUMNS, lambda r: f"{r.labels['judge']}, {r.labels['who']}")
    effect = alarms_effect(results)
    pictures.errors(figure, lines, effect, 'quorum q ("poisoned" votes that reject)')


EXPERIMENT = Experiment(
    line="quorum q = 3 to 9: missed injections against false alarms",
    title="BAFFLE's quorum, step eta/N, split 90-10",
    setup=BAFFLE,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(10.0, 4.6),
)
