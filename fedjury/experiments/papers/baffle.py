"""BAFFLE's experiments (Andreina et al., ICDCS 2021): sizes, common settings, and their runs.

Set-up on the base of Bagdasaryan et al. (AISTATS 2020): 100 agents, 10 called a round, Dirichlet
0.9, batches of 64, two local epochs, one attacker who replaces the model. Their weight decay
(5e-4) is not supported. Small is for two cores, paper is the paper's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedjury.config.settings import Settings, SettingsError, load
from fedjury.experiments.engine import setup
from fedjury.experiments.engine.case import Case, Job, Labels
from fedjury.experiments.engine.metrics import HARM
from fedjury.experiments.engine.setup import Plan, Scale, Setup
from fedjury.learning.datasets.dataset import Dataset


@dataclass(frozen=True)
class BaffleScale(Scale):
    """The sizes of all experiments of BAFFLE. Numbers of rounds count from 1."""

    base_rounds: int = 150
    """Rounds of the honest federation that makes the model to start from."""
    warm_up: int = 20
    """Rounds without defence and without attack; all cells of a kind share them."""
    rounds: int = 50
    inject: tuple[int, ...] = (30, 35, 40)
    often: tuple[int, ...] = tuple(range(24, 49, 3))
    """Rounds in which the adaptive attacker strikes: more of them, to have numbers."""
    early_rounds: int = 400
    early_step: float = 1.0
    """Server step from scratch."""
    look_backs: tuple[int, ...] = (10, 20, 30)
    splits: tuple[float, ...] = (0.10, 0.05, 0.01)
    """Shares of the training set that the server keeps."""
    quorums: tuple[int, ...] = tuple(range(3, 10))
    lying: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    holdings: tuple[int, ...] = (0, 30)
    """Samples of each agent in the experiment that varies them; 0: all data shared out."""

    @property
    def look_back(self) -> int:
        """The look-back l of experiments that do not vary it."""
        return 20 if 20 in self.look_backs else self.look_backs[0]


COMMON: dict[str, Any] = {
    "agents.n": 100,
    "agents.malicious": 0.01,
    "agents.attack": "backdoor",
    "agents.split": "dirichlet",
    "agents.alpha": 0.9,
    "sampling.client_fraction": 0.1,
    "training.epochs": 2,
    "training.batch_size": 64,
    "backdoor.task": "label_flip",
    "validation.quorum": 5,
    # As published: judges look at the models as they are. baffle-bytes says what int7 changes.
    "wire.history": "float32",
    # No deadline may decide: the same seed has to give the same records on a slow machine too.
    "collect.seconds": 3600.0,
    "validation.seconds": 3600.0,
    "collect.patience": 60.0,
}
"""The settings of all its experiments, as "section.key" -> value."""

VALIDATORS = 10
"""Agents who vote, where agents vote."""

SMALL_MODELS: Mapping[str, dict[str, Any]] = {
    "mlp": {"training.learning_rate": 0.1, "training.momentum": 0.5},
    "lenet": {"training.learning_rate": 0.05, "training.momentum": 0.9},
}
"""Networks of the small scale, with their local SGD."""

SLOWER: Mapping[str, dict[str, Any]] = {"mlp": {"training.learning_rate": 0.01}}
"""What differs with colours: three times the inputs, on which the mlp dies of longer steps."""

SMALL = BaffleScale("small", ("fashion-mnist",))

PAPER = BaffleScale(
    "paper",
    ("cifar10",),
    {
        "model.name": "resnet18",
        "training.learning_rate": 0.1,
        "training.momentum": 0.9,
        "backdoor.task": "striped_wall_cars",
    },
    base_rounds=10_000,
    inject=(30, 35, 40),
    early_rounds=800,
    early_step=0.1,
)

TINY = BaffleScale(
    "tiny",
    ("digits",),
    {
        "model.name": "mlp",
        "data.test": 300,
        "agents.n": 12,
        "agents.malicious": 0.084,
        "sampling.client_fraction": 0.5,
        "training.epochs": 1,
        "training.batch_size": 10,
        "training.learning_rate": 0.2,
    },
    base_rounds=3,
    warm_up=5,
    rounds=9,
    inject=(7, 8),
    often=(7, 8),
    early_rounds=16,
    look_backs=(6,),
    splits=(0.10,),
    quorums=(3, 9),
    lying=(0.0, 0.5),
    holdings=(0,),
)
"""For tests."""

SCALES = {scale.name: scale for scale in (SMALL, PAPER, TINY)}


@dataclass(frozen=True)
class BafflePlan(Plan):
    """What an experiment of BAFFLE is run with: one data set."""

    scale: BaffleScale

    @property
    def train(self) -> int:
        """Samples in the training set."""
        return self.sets[self.common["data.name"]]

    def settings(self, seed: int, changes: Mapping[str, Any]) -> Settings:
        """Make a run's settings; agents share evenly what the server does not keep."""
        scale = self.scale
        given: dict[str, Any] = (
            {
                "run.seed": seed,
                "run.rounds": scale.rounds,
                "backdoor.inject": list(scale.inject),
                "validation.look_back": scale.look_back,
                "validation.warm_up": scale.warm_up,
            }
            | dict(self.common)
            | dict(changes)
        )
        enough = min(given["validation.look_back"], given["validation.warm_up"]) + 1
        given.setdefault("validation.minimum_history", enough)
        left = self.train * (1 - given.get("data.server", 0.0))
        return load(overrides={"agents.samples": int(left / given["agents.n"])} | given)

    def case(
        self,
        labels: Labels,
        changes: Mapping[str, Any],
        *,
        trained: bool = True,
        shared: bool = True,
    ) -> Case:
        """Make a cell.

        ``trained``: it starts from a model that an honest federation made. ``shared``: its rounds
        before the defence is switched on are a run of their own, from which other cells go on too.
        """
        settings = self.settings(int(labels["seed"]), changes)
        start = self.base(settings) if trained else None
        title = " ".join(
            f"{name[0]}{value}" if isinstance(value, int) else str(value)
            for name, value in labels.items()
        )
        return Case(labels, Job(title, settings, start, calm(settings, start) if shared else None))

    def base(self, settings: Settings) -> Job:
        """Say how the model to start from is made: plain averaging, no attack and no defence."""
        honest = undefended(settings, self.scale.base_rounds).replaced(
            aggregation=settings.aggregation.replaced(server_lr=1.0),
            backdoor=settings.backdoor.replaced(inject=[], judged_clean=False),
            groups=DEFAULT.groups,
            agents=undefended(settings, 1).agents.replaced(attack="backdoor", options={}),
        )
        return Job(f"base seed{settings.run.seed}", honest)


def calm(settings: Settings, start: Job | None) -> Job | None:
    """Return a run's rounds before its defence is switched on, as a run of its own, if any."""
    rounds = settings.validation.warm_up
    if not rounds:
        return None
    before = undefended(settings, rounds)
    return Job(f"rounds 1 to {rounds} seed{settings.run.seed}", before, start)


DEFAULT = Settings()
KEPT = 30
"""Look-back of runs that others go on from: the longest there is."""


def undefended(settings: Settings, rounds: int) -> Settings:
    """Take the validators away, and what concerns them."""
    liars = DEFAULT.agents
    return settings.replaced(
        run=settings.run.replaced(rounds=rounds),
        validation=DEFAULT.validation.replaced(validators=0, look_back=KEPT),
        agents=settings.agents.replaced(
            malicious_validators=liars.malicious_validators, vote_attack=liars.vote_attack
        ),
    )


def defence(agent: str, judge: str = "lof", **changes: Any) -> dict[str, Any]:
    """Return the settings of a defence; ``look_back=10`` stands for validation.look_back."""
    chosen = {
        "judged_by": agent,
        "judge": judge,
        "validators": 0 if agent == "server" else VALIDATORS,
    }
    return {f"validation.{name}": value for name, value in (chosen | changes).items()}


def plan(scale: str, sets: Mapping[str, Dataset], seeds: range, model: str) -> BafflePlan:
    """Plan an experiment on the one data set; ``model``: the network, where the scale is open.

    Raises
    ------
    SettingsError
        If there are several data sets.
    """
    if len(sets) > 1:
        raise SettingsError(f"--data: BAFFLE's experiments take one data set, not {len(sets)}")
    [(name, data)] = sets.items()
    size = SCALES[scale]
    common = setup.common(size, COMMON | {"data.name": name}, SMALL_MODELS, model)
    if "model.name" not in size.changes and data.shape[0] > 1:
        common |= SLOWER.get(common["model.name"], {})
    return BafflePlan(size, common, {name: len(data.y_train)}, seeds)


def describe(plan: BafflePlan) -> str:
    """Say in a few words what was run."""
    common = plan.common
    settings = plan.settings(plan.seeds[0], {})
    called = round(settings.agents.n * settings.sampling.client_fraction)
    return (
        f"model {settings.model.name}, "
        f"{settings.agents.n} agents of whom "
        f"{round(settings.agents.n * settings.agents.malicious)} "
        f"evil, {called} called a round, Dirichlet {settings.agents.alpha:g}, SGD lr "
        f"{settings.training.learning_rate:g} momentum {settings.training.momentum:g} (no weight "
        f"decay: it is not supported), task {common['backdoor.task']}"
    )


def split_name(server: float) -> str:
    """Name a split as the paper does: 0.05 is 95-5."""
    return f"{100 - 100 * server:.0f}-{100 * server:.0f}"


STEPS = {"eta/N": 0.1, "mean": 1.0}
"""Server step -> aggregation.server_lr: with 10 of 100 called, a tenth of their mean is Σ / N."""

LEGEND = (
    "FN: poisoned candidates accepted, of all; FP: benign candidates rejected, of all, from the "
    "first vote on. In parentheses: the lowest and the highest repeat."
)

BAFFLE = Setup(SCALES, SMALL_MODELS, plan, describe, f"{LEGEND} {HARM}")
