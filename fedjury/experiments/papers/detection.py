"""Detectors at work: MPAF's fakes found, and honest agents left alone, with quarantine on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Records, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import Mean, Rate, by, rate
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers.mpaf_setup import FAKES, MpafAgents, MpafPlan
from fedjury.learning.partition import partition_spec_of

DETECTORS = ("fixed_point", "similarity", "fldetector")
COLUMNS = ("detector", "percent", "scale")
SCALES = (1.0, 10.0, 1e3, 1e6)
"""Lambdas."""

CALM = 20
"""Rounds before the strike: FLDetector's window is full by then."""

SOON = 3
"""Rounds within which fakes are to be found."""


def cases(plan: MpafPlan) -> list[Case]:
    """Make the cells: benign runs as long as the scale says, and strikes by fraction and lambda."""
    benign = [("none", 0, 1.0)]
    attacked = [("mpaf", percent, scale) for percent in _percent(plan) for scale in SCALES]
    return [
        _case(plan, data, detector, attack, percent, scale, seed)
        for seed in plan.seeds
        for data in plan.sets
        for detector in DETECTORS
        for attack, percent, scale in benign + attacked
    ]


def _percent(plan: MpafPlan) -> list[int]:
    """Return the fractions: the smallest, a tenth of the genuine, and the largest."""
    known = [percent for percent in plan.scale.percent if plan.scale.fake_agents(percent)]
    return sorted({known[0], 10, known[-1]})


def _case(
    plan: MpafPlan, data: str, detector: str, attack: str, percent: int, scale: float, seed: int
) -> Case:
    labels: dict[str, str | int | float] = {
        "data": data,
        "detector": detector,
        "attack": attack,
        "percent": percent,
        "scale": scale,
        "seed": seed,
    }
    changes: dict[str, Any] = {"detection.detectors": [detector], "detection.quarantine": True}
    if attack != "none":
        calm = min(CALM, plan.scale.rounds)
        changes |= {
            "agents.attack": attack,
            "agents.scale": scale,
            "agents.start": calm + 1,
            "run.rounds": calm + 2 * SOON,
        }
    return plan.case(
        labels, data, MpafAgents(plan.scale.genuine, plan.scale.fake_agents(percent)), changes
    )


def tables(results: list[Result]) -> list[Table]:
    """Return what became of the fakes, of honest agents in benign runs, and the targets."""
    attacked, benign = split(results)
    return [
        Table("", f"MPAF's fakes, after {SOON} rounds of their strike", _attacked(attacked)),
        Table("benign", "Benign runs: honest agents flagged or put out", _benign(benign)),
        Table("targets", "Targets (fixed_point)", _targets(attacked, benign)),
    ]


def split(results: list[Result]) -> tuple[list[Result], list[Result]]:
    """Part runs with fakes from those without."""
    attacked = [result for result in results if result.labels["attack"] != "none"]
    return attacked, [result for result in results if result.labels["attack"] == "none"]


def _attacked(results: list[Result]) -> list[Row]:
    return [
        dict(zip(("data", *COLUMNS), key, strict=True))
        | {
            "precision": precision(values),
            "recall": recall(values),
            "accuracy before": Mean(tuple(accuracy(r, before(r)) for r in values)),
            "accuracy at the end": Mean(tuple(accuracy(r, len(r.records)) for r in values)),
        }
        for key, values in by(results, "data", *COLUMNS).items()
    ]


def before(result: Result) -> int:
    """Return the last round before the strike."""
    return result.settings.agents.start - 1


def accuracy(result: Result, round_: int) -> float:
    """Return the accuracy after a round."""
    return result.records[round_ - 1].model.accuracy or 0.0


def flagged(result: Result) -> tuple[set[str], set[str]]:
    """Return who was flagged in the rounds in which fakes are to be found, and who is evil."""
    spec = partition_spec_of(result.settings)
    malicious = {spec.name(number) for number in spec.malicious_agents}
    first = before(result) + 1
    values = [r for r in result.records if first <= r.round < first + SOON]
    return {name for record in values for name in record.flagged}, malicious


def shares(result: Result) -> tuple[Count, Count]:
    """Count the evil among those flagged, and those flagged among the evil."""
    found, malicious = flagged(result)
    right = len(found & malicious)
    return Count(right, len(found)), Count(right, len(malicious))


def precision(results: list[Result]) -> Rate:
    """Return the share of those flagged that is evil."""
    return rate(results, lambda r: shares(r)[0])


def recall(results: list[Result]) -> Rate:
    """Return the share of the evil that was flagged."""
    return rate(results, lambda r: shares(r)[1])


def counts(result: Result) -> Row:
    """Count those flagged and those of them that are evil, and the evil, where fakes attack."""
    if result.labels["attack"] == "none":
        return {}
    right = shares(result)
    return {"precision": right[0], "recall": right[1]}


def _benign(results: list[Result]) -> list[Row]:
    return [
        {
            "data": data,
            "detector": detector,
            "rounds": len(values[0].records),
            "suspicions": ever(values, lambda r: [n for x in r for n in x.flagged]),
            "agents flagged": ever(values, lambda r: {n for x in r for n in x.flagged}),
            "ever in quarantine": ever(values, lambda r: {n for x in r for n in x.quarantined}),
            "permanently": ever(values, permanent),
            "accuracy at the end": Mean(tuple(accuracy(r, len(r.records)) for r in values)),
        }
        for (data, detector), values in by(results, "data", "detector").items()
    ]


def permanent(records: Records) -> tuple[str, ...]:
    """Return the agents that are never called again at the end."""
    return records[-1].detection.permanent if records[-1].detection else ()


def ever(results: list[Result], names: Callable[[Records], Any]) -> Mean:
    """Count names in the records of runs."""
    return Mean(tuple(float(len(names(result.records))) for result in results), "")


def _targets(attacked: list[Result], benign: list[Result]) -> list[Row]:
    ours = [r for r in attacked if r.labels["detector"] == "fixed_point"]
    calm = [r for r in benign if r.labels["detector"] == "fixed_point"]
    rows = [
        target(f"precision within {SOON} rounds", precision(ours), least=0.99),
        target(f"recall within {SOON} rounds", recall(ours), least=0.99),
    ]
    if calm:
        out = ever(calm, permanent)
        rows.append(
            target(
                f"honest agents out permanently, {len(calm[0].records)} benign rounds", out, most=0
            )
        )
    return rows


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw recall and precision by lambda, a line for each detector and fraction."""
    attacked, _ = split(results)
    data = attacked[0].labels["data"]
    attacked = [result for result in attacked if result.labels["data"] == data]
    fractions = list(by(attacked, "percent"))
    panels = figure.subplots(2, len(fractions), squeeze=False, sharey=True)
    for column, (percent,) in enumerate(fractions):
        values = [result for result in attacked if result.labels["percent"] == percent]
        for row, (name, share) in enumerate((("recall", recall), ("precision", precision))):
            lines: dict[str, dict[float, Rate]] = {}
            for (detector, scale), runs in by(values, "detector", "scale").items():
                place = float(SCALES.index(float(scale)))
                lines.setdefault(str(detector), {})[place] = share(runs)
            axes = panels[row, column]
            pictures.rates(axes, lines, None)
            pictures.as_rate(axes, name)
            axes.set_xticks(range(len(SCALES)), [f"{scale:g}" for scale in SCALES])
            axes.set(xlabel="λ", title=f"fakes {percent} % of the genuine")
    pictures.legend(figure)


EXPERIMENT = Experiment(
    line="detectors at work: MPAF's fakes found within three rounds, honest agents left alone",
    title="Detection of MPAF under the mean, with quarantine",
    setup=FAKES,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(11.0, 6.5),
    counts=counts,
    legend=(
        "Precision and recall are shares of agents. Other "
        "figures: in parentheses, the lowest and the highest repeat; accuracies are of one round."
    ),
    note=(
        f"The rule is the mean. Fakes are idle for {CALM} rounds and then strike; who was "
        f"flagged "
        f"in one of the next {SOON} rounds is flagged. Flagged agents are left out of the round, "
        "and in quarantine after two."
    ),
)
