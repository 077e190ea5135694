"""How many "poisoned" votes should reject a candidate: BAFFLE's quorum q."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.cell import Cell, Result
from fedjury.experiments.engine.counting import Rate
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.grouping import by
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers import published
from fedjury.experiments.papers.baffle import BAFFLE, STEPS, BafflePlan, defence
from fedjury.experiments.papers.baffle_stable import PAPER, rates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("judge", "who", "q")


def cells(plan: BafflePlan) -> list[Cell]:
    """Make the grid: judge, configuration, quorum."""
    server = plan.scale.splits[0]
    common = {"data.server": server, "aggregation.server_lr": STEPS["eta/N"]}
    return [
        plan.cell(
            {"judge": judge, "who": who, "q": q, "seed": seed},
            common | defence(who, judge, quorum=q),
        )
        for seed in plan.seeds
        for judge in ("lof", "calibrated")
        for who in ("clients", "both")
        for q in plan.scale.quorums
    ]


def tables(results: list[Result]) -> list[Table]:
    """Return the table of errors by quorum."""
    rows: list[Row] = []
    for key, some in by(results, *COLUMNS).items():
        labels = dict(zip(COLUMNS, key, strict=True))
        missed, alarms = rates(some)
        said = published.quorum(int(labels["q"])) if labels["judge"] == "lof" else published.UNKNOWN
        rows.append(labels | {"FN": missed, "FP": alarms, PAPER: published.shown(said)})
    return [Table("", "Errors by quorum q, of 10 validators (11 with the server)", rows)]


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw FN and FP against q."""
    lines: tuple[dict[str, dict[float, Rate]], ...] = ({}, {})
    for (judge, who, q), some in by(results, *COLUMNS).items():
        for line, rate in zip(lines, rates(some), strict=True):
            line.setdefault(f"{judge}, {who}", {})[float(q)] = rate
    pictures.errors(figure, lines, 'quorum q ("poisoned" votes that reject)')


EXPERIMENT = Experiment(
    line="quorum q = 3 to 9: missed injections against false alarms",
    title="BAFFLE's quorum, step eta/N, split 90-10",
    setup=BAFFLE,
    cells=cells,
    tables=tables,
    draw=draw,
    size=(10.0, 4.6),
)
