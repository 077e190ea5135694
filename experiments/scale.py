"""How large an experiment is: small for two cores, paper for the paper's size.

Set-up of BAFFLE (Andreina et al., ICDCS 2021) on the base of Bagdasaryan et al. (AISTATS 2020):
100 agents, 10 called a round, Dirichlet 0.9, batches of 64, two local epochs, one attacker who
replaces the model. Their weight decay (5e-4) is not supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scale:
    """The sizes of all experiments. Numbers of rounds count from 1."""

    name: str
    data: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What differs from ``COMMON``, as "section.key" -> value."""
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
    "agents.n": 100, "agents.evil": 0.01, "agents.attack": "backdoor", "agents.split": "dirichlet",
    "agents.alpha": 0.9, "sampling.share": 0.1,
    "training.epochs": 2, "training.batch_size": 64, "backdoor.task": "label_flip",
    "validation.quorum": 5,
    # As published: judges look at the models as they are. baffle-bytes says what int7 changes.
    "wire.history": "float32",
    # No deadline may decide: the same seed has to give the same records on a slow machine too.
    "collect.seconds": 3600.0, "validation.seconds": 3600.0, "collect.patience": 60.0,
}  # fmt: skip
"""The settings of all experiments, as "section.key" -> value."""

VALIDATORS = 10
"""Agents who vote, where agents vote."""

SMALL_MODELS: Mapping[str, dict[str, Any]] = {
    "mlp": {"training.learning_rate": 0.1, "training.momentum": 0.5},
    "lenet": {"training.learning_rate": 0.05, "training.momentum": 0.9},
}  # fmt: skip
"""Networks of the small scale, with their local SGD."""

SLOWER: Mapping[str, dict[str, Any]] = {"mlp": {"training.learning_rate": 0.01}}
"""What differs with colours: three times the inputs, on which the mlp dies of longer steps."""

SMALL = Scale("small", "fashion-mnist")

PAPER = Scale(
    "paper", "cifar10",
    {
        "model.name": "resnet18", "training.learning_rate": 0.1, "training.momentum": 0.9,
        "backdoor.task": "striped_wall_cars",
    },
    base_rounds=10_000, inject=(30, 35, 40), early_rounds=800, early_step=0.1,
)  # fmt: skip

TINY = Scale(
    "tiny", "digits",
    {
        "model.name": "mlp", "data.test": 300, "agents.n": 12, "agents.evil": 0.084,
        "sampling.share": 0.5, "training.epochs": 1, "training.batch_size": 10,
        "training.learning_rate": 0.2,
    },
    base_rounds=3, warm_up=5, rounds=9, inject=(7, 8), often=(7, 8), early_rounds=16,
    look_backs=(6,), splits=(0.10,), quorums=(3, 9), lying=(0.0, 0.5), holdings=(0,),
)  # fmt: skip
"""For tests."""

SCALES = {"small": SMALL, "paper": PAPER}
