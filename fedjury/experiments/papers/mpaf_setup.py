"""Experiments with fakes beside genuine agents: sizes, common settings, defences, and their runs.

Set-up of MPAF (Cao, Gong: CVPR workshops 2022, arXiv 2203.08669): fakes come on top of the genuine
agents, who hold the whole training set between them, split into groups of degree 0.5. Its network,
batch size and learning rate are not in what we could read; the paper's scale takes those of a
later paper of the same group (PoisonedFL).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fedjury.config.settings import load
from fedjury.experiments.engine import setup
from fedjury.experiments.engine.case import Case, Job, Labels
from fedjury.experiments.engine.setup import Plan, Scale, Setup
from fedjury.rules import RULES

COMMON: dict[str, Any] = {
    "agents.attack": "mpaf",
    "agents.scale": 1e6,
    "agents.split": "groups",
    "agents.degree": 0.5,
    "training.epochs": 1,
    "training.batch_size": 32,
    # On purpose: an undefended model overflows, and nothing may crash when it does.
    "limits.finite": False,
    # No deadline may decide: the same seed has to give the same records on a slow machine too.
    "collect.seconds": 3600.0,
    "validation.seconds": 3600.0,
    "collect.patience": 60.0,
}
"""The settings of all its experiments, as "section.key" -> value."""

MODELS: Mapping[str, dict[str, Any]] = {
    "mlp": {"training.learning_rate": 0.2},
    "classifier": {"training.learning_rate": 0.1},
    "lenet": {"training.learning_rate": 0.1},
    "cnn": {"training.learning_rate": 0.1},
}
"""Networks of the small scale, with their local SGD."""

DEFENCES: dict[str, dict[str, Any]] = {
    "mean": {"aggregation.rule": "mean"},
    "median": {"aggregation.rule": "median"},
    "trimmed_mean": {"aggregation.rule": "trimmed_mean"},
    "krum": {"aggregation.rule": "krum"},
    "multi_krum": {"aggregation.rule": "multi_krum"},
    "bulyan": {"aggregation.rule": "bulyan"},
    "geometric_median": {"aggregation.rule": "geometric_median"},
    "centered_clipping": {"aggregation.rule": "centered_clipping"},
    "dnc": {"aggregation.rule": "dnc"},
    "signguard": {"aggregation.rule": "signguard"},
    "flame": {"aggregation.rule": "flame"},
    "foundationfl": {"aggregation.rule": "foundationfl"},
    "foundationfl, lowest": {
        "aggregation.rule": "foundationfl",
        "aggregation.options": {"copied": "lowest"},
    },
    "foolsgold": {"aggregation.rule": "foolsgold"},
    "fltrust": {"aggregation.rule": "fltrust", "data.server": 0.02},
    "mean + detection": {
        "detection.detectors": ["fixed_point"],
        "detection.quarantine": True,
    },
}
"""Defences by name, as "section.key" -> value. A new one is one line."""


@dataclass(frozen=True)
class MpafScale(Scale):
    """The sizes of experiments with fakes."""

    rounds: int = 100
    genuine: int = 100
    percent: tuple[int, ...] = (0, 1, 5, 10, 15, 20, 25)
    """Fakes, in percent of the genuine."""
    betas: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    """Shares of all agents that are called in a round."""
    scales: tuple[float, ...] = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
    """Lambdas."""
    bounds: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    """M: longest updates that norm clipping lets through whole."""
    each: Mapping[str, int] = field(default_factory=dict)
    """Data set -> samples of a genuine agent, where its training set is not used whole."""

    def fake_agents(self, percent: int) -> int:
        """Say how many fakes that is."""
        return round(self.genuine * percent / 100)


class MpafAgents(NamedTuple):
    """Genuine agents, fakes beside them, and the share of all that is called in a round."""

    genuine: int
    fake_agents: int
    beta: float = 1.0

    @property
    def n(self) -> int:
        """All agents."""
        return self.genuine + self.fake_agents

    @property
    def called(self) -> int:
        """Agents called in a round."""
        return max(1, round(self.beta * self.n))

    @property
    def expected(self) -> int:
        """Fakes among them, on average."""
        return round(self.fake_agents * self.called / self.n)

    @property
    def droppable(self) -> int:
        """Updates that can be dropped at each end of a coordinate so that one is left."""
        return (self.called - 1) // 2

    def settings(self) -> dict[str, Any]:
        """Return what makes this fleet: round(n * evil) is exactly the number of fakes."""
        return {
            "agents.n": self.n,
            "agents.malicious": self.fake_agents / self.n,
            "sampling.client_fraction": self.beta,
        }


def counts(defence: str) -> bool:
    """Say whether a defence's rule has to know how many updates it is to withstand."""
    rule = DEFENCES[defence].get("aggregation.rule", "mean")
    return "count" in RULES.options(rule)


def defended(defence: str, f: int) -> dict[str, Any]:
    """Return the settings of a defence that reckons with ``f`` fakes in a round."""
    settings = dict(DEFENCES[defence])
    if counts(defence):
        settings["aggregation.options"] = {**settings.get("aggregation.options", {}), "count": f}
    return settings


@dataclass(frozen=True)
class MpafPlan(Plan):
    """What an experiment with fakes is run with: one data set or several."""

    scale: MpafScale

    def case(
        self, labels: Labels, data: str, agents: MpafAgents, changes: Mapping[str, Any]
    ) -> Case:
        """Make a cell; the genuine agents share the training set evenly."""
        # What a server keeps for itself (data.server) is not theirs to share.
        left = self.sets[data] * (1 - changes.get("data.server", 0.0))
        each = min(int(left / agents.genuine), self.scale.each.get(data, int(left)))
        given: dict[str, Any] = {
            "run.seed": int(labels["seed"]),
            "run.rounds": self.scale.rounds,
            "data.name": data,
            "agents.samples": each,
        }
        settings = load(overrides=dict(self.common) | given | agents.settings() | dict(changes))
        title = " ".join(str(value) for value in labels.values())
        return Case(labels, Job(title, settings))


SMALL = MpafScale("small", ("mnist5k", "fashion-mnist"), each={"fashion-mnist": 100})

PAPER = MpafScale(
    "paper",
    ("mnist", "fashion-mnist"),
    {"model.name": "cnn", "training.learning_rate": 0.01},
    rounds=500,
    genuine=1000,
)
"""How many rounds the paper has could not be read."""

TINY = MpafScale(
    "tiny",
    ("digits",),
    {"model.name": "mlp", "data.test": 300, "training.learning_rate": 0.2},
    rounds=3,
    genuine=20,
    percent=(0, 5, 10, 25),
    betas=(0.5, 1.0),
    scales=(1.0, 1e6),
    bounds=(0.1, 1.0),
    each={"digits": 20},
)
"""For tests."""

SCALES = {scale.name: scale for scale in (SMALL, PAPER, TINY)}


plan = setup.planner(MpafPlan, SCALES, COMMON, MODELS)


def describe(plan: MpafPlan) -> str:
    """Say in a few words what was run."""
    common, scale = plan.common, plan.scale
    return (
        f"model {common['model.name']}, {scale.genuine} genuine agents and fakes beside them, "
        f"{scale.rounds} rounds, groups of degree {common['agents.degree']:g}, SGD lr "
        f"{common['training.learning_rate']:g}, batches of {common['training.batch_size']}, "
        f"{common['training.epochs']} local epoch"
    )


LEGEND = (
    "Accuracy: the mean over the last ten rounds; in parentheses: the lowest and the highest "
    "repeat. Fakes are counted in percent of the genuine agents. A model whose outputs are not "
    "finite is wrong about everything: 0 %."
)

FAKES = Setup(SCALES, MODELS, plan, describe, LEGEND)
