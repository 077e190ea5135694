"""A model from scratch, attacked early without a defence and late with one."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import Mean, by, harm, last
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers import published
from fedjury.experiments.papers.baffle import BAFFLE, BafflePlan, defence
from fedjury.experiments.papers.baffle_stable import rates

JUDGES = ("none", "lof", "calibrated")
EARLY = (1 / 8, 3 / 8)
"""When the attacker strikes while the defence is off, as shares of the rounds."""
ON = 5 / 8
LATE = (530 / 800, 680 / 800)
STRIKES = 12
"""Late strikes, evenly spread."""


def attack_rounds(rounds: int) -> list[int]:
    """Return the rounds in which the attacker strikes."""
    first, end = LATE
    late = (first + (end - first) * i / (STRIKES - 1) for i in range(STRIKES))
    return sorted({round(rounds * share) for share in (*EARLY, *late)})


def cases(plan: BafflePlan) -> list[Case]:
    """Make a run for each judge and seed; their rounds before the defence is on are shared."""
    scale = plan.scale
    rounds, on = scale.early_rounds, round(scale.early_rounds * ON)
    common = {
        "run.rounds": rounds,
        "backdoor.inject": attack_rounds(rounds),
        "data.server": scale.splits[0],
        "aggregation.server_lr": scale.early_step,
        "validation.warm_up": on,
    }
    return [
        plan.case(
            {"judge": judge, "seed": seed},
            common | (defence("clients", judge) if judge != "none" else {}),
            trained=False,
        )
        for seed in plan.seeds
        for judge in JUDGES
    ]


def tables(results: list[Result]) -> list[Table]:
    """Return errors and where the runs end; then how long the early injections live."""
    rows: list[Row] = []
    for (judge,), values in by(results, "judge").items():
        missed, alarms = rates(values)
        judged = judge != "none"
        rows.append(
            {
                "judge": judge,
                "FN": missed if judged else None,
                "FP": alarms if judged else None,
                "accuracy at the end": Mean(tuple(last(r, "accuracy") for r in values)),
                "backdoor at the end": Mean(tuple(last(r, "backdoor") for r in values)),
                **harm(values),
            }
        )
    fading = [_fading(results, attack_round) for attack_round in early(results[0])]
    return [
        Table("", "Errors after the defence was switched on", rows),
        Table("fading", "Success of the backdoor after an early injection, no defence", fading),
    ]


def early(result: Result) -> list[int]:
    """Return the strikes before the defence is on."""
    settings = result.settings
    return [r for r in settings.backdoor.inject if r <= settings.validation.warm_up]


def _fading(results: list[Result], attack_round: int) -> Row:
    """Return the mean success so many rounds after an injection."""
    runs = [r.records for r in results if r.labels["judge"] == "none"]
    row: dict[str, str | int | Mean] = {"injected in round": attack_round}
    for later in (0, 1, 2, 5, 10):
        values = [
            run[attack_round - 1 + later].model.backdoor or 0.0
            for run in runs
            if attack_round - 1 + later < len(run)
        ]
        row[f"{later} rounds later" if later else "at once"] = Mean(tuple(values))
    return row


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw accuracy and backdoor by round, of the first seed, a panel for each judge."""
    groups = by(results, "judge")
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for axes, ((judge,), values) in zip(panels, groups.items(), strict=True):
        _curves(axes, values[0])
        axes.set_title(
            f"{judge}, seed {values[0].labels['seed']}" if judge != "none" else "no defence",
            fontsize=10,
        )
    panels[-1].set_xlabel("round")
    pictures.legend(figure)


def _curves(axes: Axes, result: Result) -> None:
    rounds = [r.round for r in result.records]
    for figure, name, drawn in (("accuracy", "main task", "-"), ("backdoor", "backdoor", "--")):
        values = [100 * (getattr(r.model, figure) or 0.0) for r in result.records]
        axes.plot(
            rounds, values, drawn, color="black" if drawn == "-" else "#b2452e", lw=1.2, label=name
        )
    for attack_round in result.settings.backdoor.inject:
        axes.axvline(attack_round, color="grey", ls=":", lw=0.9, label="injection")
    rejected = [r for r in result.records if not r.accepted]
    axes.scatter(
        [r.round for r in rejected],
        [103] * len(rejected),
        marker="x",
        s=14,
        color="#2471a3",
        label="rejected round",
    )
    if result.labels["judge"] != "none":
        axes.axvline(result.settings.validation.warm_up, color="black", lw=0.9, label="defence on")
    axes.set(ylabel="accuracy (%)", ylim=(-4, 108))
    axes.grid(alpha=0.25)


EXPERIMENT = Experiment(
    line="from scratch: early injections fade, late ones meet the defence",
    title="BAFFLE in early rounds",
    setup=BAFFLE,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(11.0, 8.0),
    note=(
        f"{published.EARLY}. "
        "10 validators, q = 5, split 90-10. Injections at 1/8 and 3/8 of the rounds; the defence "
        "is on after 5/8; 12 injections from 0.66 to 0.85. Small scale: 400 rounds and the plain "
        "mean, which learns from scratch in that time; paper: 800 rounds and step eta/N."
    ),
)
