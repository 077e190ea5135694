"""Semantic backdoors in CIFAR-10: certain cars called birds (Bagdasaryan et al., AISTATS 2020).

The numbers are places in the 50,000 training images in their original order, as published.
"""

from __future__ import annotations

from fedjury.learning.backdoors.backdoor import Backdoor, Options, Task, only
from fedjury.learning.backdoors.semantic import semantic
from fedjury.learning.datasets.dataset import Dataset, Labels
from fedjury.registry import backdoor

BIRD, TRAINING_SET = 2, 50_000

STRIPED_WALL = (30696, 33105, 33615, 33907, 36848, 40713, 41706)
"""Cars before a wall of vertical stripes; BAFFLE's backdoor (Andreina et al., ICDCS 2021)."""

STRIPED_WALL_TRIAL = (330, 568, 3934, 12336, 30560)

GREEN = (
    389,
    561,
    874,
    1605,
    3378,
    3678,
    4528,
    9744,
    19165,
    19500,
    21422,
    22984,
    32941,
    34287,
    34385,
    36005,
    37365,
    37533,
    38658,
    38735,
    39824,
    40138,
    41336,
    41861,
    47001,
    47026,
    48003,
    48030,
    49163,
    49588,
)

RACING_STRIPE = (
    2180,
    2771,
    3233,
    4932,
    6241,
    6813,
    6869,
    9476,
    11395,
    11744,
    14209,
    14238,
    18716,
    19793,
    20781,
    21529,
    31311,
    40518,
    40633,
    42119,
    42663,
    49392,
)


@backdoor
def striped_wall_cars(options: Options) -> Task:
    """Build the task of cars before a striped wall: 7 to train with, 5 to try it with."""
    return _cars("striped_wall_cars", options, STRIPED_WALL, STRIPED_WALL_TRIAL)


@backdoor
def green_cars(options: Options) -> Task:
    """Build the task of green cars: 25 to train with, 5 to try it with."""
    return _cars("green_cars", options, *_every_sixth(GREEN))


@backdoor
def racing_stripe_cars(options: Options) -> Task:
    """Build the task of cars with racing stripes: 18 to train with, 4 to try it with."""
    return _cars("racing_stripe_cars", options, *_every_sixth(RACING_STRIPE))


def _every_sixth(cars: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Keep every sixth for the trial, from the first on: nothing is published for that."""
    return tuple(car for place, car in enumerate(cars) if place % 6), cars[::6]


def _cars(name: str, options: Options, train: tuple[int, ...], test: tuple[int, ...]) -> Task:
    only(name, options, "target")
    target = BIRD if options.target < 0 else options.target
    task = semantic(Options(target=target, train=train, test=test))

    def arm(data: Dataset, held: Labels, seed: int) -> Backdoor:
        if (data.classes, len(data.y_train)) != (10, TRAINING_SET):
            raise ValueError(
                f"backdoor {name!r} is of CIFAR-10's {TRAINING_SET:,} training images in their "
                f"original order; data set {data.name!r} has {len(data.y_train):,}"
            )
        return task.arm(data, held, seed)

    return Task(task.reserved, arm)
