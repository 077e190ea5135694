"""Validators who lie: how many a quorum withstands."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import (
    Rate,
    alarms_effect,
    by,
    harm,
    judged,
    rate,
    voted,
)
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers.baffle import BAFFLE, STEPS, BafflePlan, defence
from fedjury.experiments.papers.baffle_stable import rates
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.record import RoundRecord

HOW = ("hide", "deny", "invert")
"""Vote clean on poison, poisoned on clean, or both."""

JUDGES = ("lof", "calibrated")
COLUMNS = ("judge", "how", "share")
ERRS = 0.4
"""Share of honest validators who judge wrongly: the paper's rho."""

BOUND = (1 - ERRS) * 10 / (2 - ERRS)
"""n_M < (1 - rho) n / (2 - rho): liars of 10 validators that BAFFLE withstands, 3.75."""

WORSE = 0.1
"""How much higher FN and FP may be with liars up to the bound than without."""


def cases(plan: BafflePlan) -> list[Case]:
    """Make the grid: judge, how they lie, their share of the agents."""
    common = {"data.server": plan.scale.splits[0], "aggregation.server_lr": STEPS["eta/N"]}
    return [
        plan.case(
            {"judge": judge, "how": how, "share": share, "seed": seed},
            common
            | defence("clients", judge)
            | {"agents.vote_attack": how, "agents.malicious_validators": share},
        )
        for seed in plan.seeds
        for judge in JUDGES
        for how in HOW
        for share in plan.scale.lying
    ]


def liars(result: Result, record: RoundRecord) -> int:
    """Count the liars among those who voted in a round."""
    spec = partition_spec_of(result.settings)
    lying = {spec.name(number) for number in spec.malicious_validators}
    return len(lying.intersection(record.votes.voters))


Verdicts = list[tuple[int, bool, bool]]
"""(liars among the voters, poisoned, accepted), one a round."""


def verdicts(result: Result) -> Verdicts:
    """Return what became of each candidate that was voted on."""
    inject = set(result.settings.backdoor.inject)
    return [
        (liars(result, record), judged(record) in inject, bool(record.accepted))
        for record in voted(result.records)
    ]


def wrong(results: list[Result], *, poisoned: bool, fewest: int, most: int) -> Rate:
    """Return the share of wrong verdicts on poisoned, or on benign, candidates.

    Only rounds with ``fewest`` to ``most`` liars among the voters count.
    """
    return rate(
        results,
        lambda result: wrongly(verdicts(result), poisoned=poisoned, fewest=fewest, most=most),
    )


def wrongly(found: Verdicts, *, poisoned: bool, fewest: int, most: int) -> Count:
    """Count the verdicts of one run on poisoned, or on benign, candidates, and the wrong ones."""
    accepted = [ok for n, bad, ok in found if bad is poisoned and fewest <= n <= most]
    return Count(sum(ok is poisoned for ok in accepted), len(accepted))


def counts(result: Result) -> Row:
    """Count wrong verdicts by the number of liars among the voters."""
    found = verdicts(result)
    return {
        f"{name} with {n} liars": wrongly(found, poisoned=poisoned, fewest=n, most=n)
        for n in range(11)
        for name, poisoned in (("FN", True), ("FP", False))
    }


def tables(results: list[Result]) -> list[Table]:
    """Return errors by share of liars, by their number among the voters, and the targets."""
    shares: list[Row] = []
    for key, values in by(results, *COLUMNS).items():
        missed, alarms = rates(values)
        shares.append(
            dict(zip(COLUMNS, key, strict=True)) | {"FN": missed, "FP": alarms, **harm(values)}
        )
    numbers: list[Row] = []
    targets: list[Row] = []
    for (judge, how), values in by(results, "judge", "how").items():
        within = [r for r in values if 10 * float(r.labels["share"]) <= int(BOUND)]
        for n in range(11):
            missed = wrong(values, poisoned=True, fewest=n, most=n)
            alarms = wrong(values, poisoned=False, fewest=n, most=n)
            if missed.of or alarms.of:
                numbers.append(
                    {"judge": judge, "how": how, "liars of 10": n, "FN": missed, "FP": alarms}
                )
        targets += _targets(f"{judge}, {how}", within)
    return [
        Table("", "Errors by the share of agents who lie (clients vote, q = 5)", shares),
        Table("numbers", "Errors by the number of liars among the 10 voters", numbers),
        Table(
            "targets",
            "Up to the bound: 1 to 3 liars among the voters, against none (shares up to .3)",
            targets,
        ),
    ]


def _targets(case: str, results: list[Result]) -> list[Row]:
    rows: list[Row] = []
    for name, poisoned in (("FN", True), ("FP", False)):
        none = wrong(results, poisoned=poisoned, fewest=0, most=0)
        values = wrong(results, poisoned=poisoned, fewest=1, most=int(BOUND))
        limit = None if none.value is None else none.value + WORSE
        rows.append({**target(f"{name}, {case}", values, limit), "without liars": none})
    return rows


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw FN and FP by the share of liars, then by their number among the voters."""
    hows, effect = by(results, "how"), alarms_effect(results)
    axes = figure.subplots(4, len(hows), squeeze=False, sharex="row", sharey=True)
    for column, ((how,), values) in enumerate(hows.items()):
        judges = {str(judge): cells_ for (judge,), cells_ in by(values, "judge").items()}
        for row, (name, poisoned) in enumerate((("FN", True), ("FP", False))):
            shares = {judge: by_share(runs, poisoned=poisoned) for judge, runs in judges.items()}
            numbers = {judge: by_number(runs, poisoned=poisoned) for judge, runs in judges.items()}
            _panel(axes[row, column], name, shares, "share of agents who lie", 10, effect)
            _panel(axes[row + 2, column], name, numbers, "liars among the 10 voters", 1, effect)
        axes[0, column].set_title(f"liars {how}", fontsize=10)
    pictures.legend(figure)


def by_share(results: list[Result], *, poisoned: bool) -> dict[float, Rate]:
    """Return the wrong verdicts by the share of agents who lie."""
    return {
        float(share): wrong(values, poisoned=poisoned, fewest=0, most=10)
        for (share,), values in by(results, "share").items()
    }


def by_number(results: list[Result], *, poisoned: bool) -> dict[float, Rate]:
    """Return the wrong verdicts by the number of liars among the voters."""
    return {float(n): wrong(results, poisoned=poisoned, fewest=n, most=n) for n in range(11)}


def _panel(
    axes: Axes,
    name: str,
    lines: dict[str, dict[float, Rate]],
    x: str,
    scale: float,
    effect: float | None,
) -> None:
    """Draw rates and the bound; ``scale``: what x has to be multiplied with for liars of 10."""
    pictures.rates(axes, lines, effect, gap=1 / scale)
    pictures.as_rate(axes, name)
    axes.axvline(
        BOUND / scale, color="black", ls="--", lw=1, label=f"bound: {BOUND:.2f} of 10 (rho .4)"
    )
    axes.set_xlabel(x)


EXPERIMENT = Experiment(
    line="malicious validators: errors by their share and number, with the paper's bound",
    title="BAFFLE and malicious validators, q = 5, step eta/N",
    setup=BAFFLE,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(12.0, 12.0),
    counts=counts,
    note=(
        "hide: vote clean on poison; deny: vote poisoned on clean; invert: both. The attacker "
        "always lies. Bound of the paper for rho = .4 of honest validators who judge wrongly: "
        f"n_M < (1 - rho) n / (2 - rho) = {BOUND:.2f} of 10."
    ),
)
