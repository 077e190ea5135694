"""Who is in the whole fleet, and the cohort that a process makes of its part.

Everything is drawn from the seed for the whole fleet (``fedjury.learning.partition``), of which a
process then takes its part; so a fleet is the same however it is cut into shards and processes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch

from fedjury import attacks
from fedjury.agents.connections import Colluders
from fedjury.attacks import AttackContext, validators
from fedjury.config.sections import Settings
from fedjury.learning import datasets
from fedjury.learning.datasets import own_file, split
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.device import device_named
from fedjury.learning.partition import PartitionSpec, partition
from fedjury.learning.shards import Shards
from fedjury.learning.task import task_of
from fedjury.learning.training import Training
from fedjury.learning.weights import flatten

FEW = 10
"""Agents that may be meant to be one device."""


class SimulatedAgents(NamedTuple):
    """The whole fleet: who is in it, and the settings of what they do.

    Other networks and judges that have to be imported from elsewhere than the settings' own are
    not, whatever a manifest says.
    """

    spec: PartitionSpec
    settings: Settings

    @property
    def without_data(self) -> frozenset[int]:
        """The numbers of the malicious agents."""
        return self.spec.malicious_agents

    @property
    def late(self) -> frozenset[int]:
        """The numbers of those who are not there from the beginning."""
        return self.spec.malicious_agents if self.settings.agents.arrive > 1 else frozenset()

    @property
    def colluders(self) -> Colluders:
        """What sets the malicious agents apart on the network."""
        colluding = self.spec.colluding
        late = frozenset(self.name(number) for number in self.late)
        return Colluders(
            frozenset(colluding), next(iter(colluding), ""), late, self.settings.agents.arrive
        )

    def name(self, number: int) -> str:
        """Return an agent's name on the wire."""
        return self.spec.name(number)

    def check(self) -> Dataset:
        """Load the data set, so that it is there for all processes; check whatever can be checked.

        Raises
        ------
        ValueError
            If a name or a value is not valid, or the data or the device cannot be had, or the data
            not be dealt so.
        """
        spec = self.spec
        if spec.attack == "honest":
            raise ValueError("'honest' is not an attack; for no malicious agents use --evil 0")
        attacks.ATTACKS.check(spec.attack, self.settings.agents.options)
        validators.build(self.settings.agents.vote_attack)
        split.build(spec.split, **spec.split_options)
        spec.arms()
        _ = self.device  # raises if it cannot be had
        data = datasets.chosen(self.settings.data)
        partition(spec, data)
        attacks.build(spec.attack, _tiny(data), self.settings.agents.options)
        if not self.settings.agents.repeats and (why := self.repeats(data)):
            raise ValueError(f"{why}; agents.repeats = false forbids that")
        return data

    def repeats(self, data: Dataset) -> str:
        """Say how often samples are dealt where there are too few for all; empty if not."""
        dealt = partition(self.spec, data).dealt
        distinct = dealt.size - split.repeats(dealt)
        if dealt.size == distinct:
            return ""
        return (
            f"the training set is too small for so many samples: {dealt.size:,} samples are dealt, "
            f"{distinct:,} of them different, so each {dealt.size / distinct:.1f} times on average"
        )

    def holdings(self, data: Dataset, numbers: Collection[int]) -> str:
        """Say how many samples these agents hold, and of how many; empty if they hold none."""
        whole, spec = partition(self.spec, data), self.spec
        here = frozenset(numbers)
        ours = [place for place, number in enumerate(spec.holders) if number in here]
        if not ours:
            return ""
        held = whole.held[ours]
        few, most, all_ = int(held.min()), int(held.max()), len(data.y_train)
        some = f"{most:,}" if few == most else f"{few:,} to {most:,}"
        text = (
            f"{_agents(len(ours))} hold{'s' * (len(ours) == 1)} {some} of the {all_:,} samples of "
            f"{self.settings.data.name.rpartition('/')[2]}{' each' * (len(ours) > 1)}"
        )
        if few < most:
            text += f" ({int(np.median(held)):,} in the median)"
        if empty := int((held == 0).sum()):
            text += f"; {_agents(empty)} without any sit{'s' * (empty == 1)} the rounds out"
        return text

    def hint(self, numbers: Collection[int]) -> str:
        """Say how a device with data of its own takes part, where one may be meant; else nothing.

        That is where few agents run here, as one part of several, on a file of one's own.
        """
        agents, file = self.settings.agents, self.settings.data.name
        if not (own_file.is_own(file) and agents.part[1] > 1 and len(numbers) <= FEW):
            return ""
        i, k = agents.part
        return (
            f"part {i} of {k} of a simulated fleet trains on its share of {file} alone; a device "
            "that has data of its own joins with 'fedjury join' or fedjury.Device, and trains on "
            "all of them (docs/devices.md)"
        )

    @property
    def device(self) -> torch.device:
        """Where they train and judge; processes of those on a GPU cannot be forked."""
        return device_named(self.settings.run.device)

    @property
    def there(self) -> int:
        """The first round in which malicious agents may attack: those that come late are there."""
        arrive = self.settings.agents.arrive
        return arrive + 1 if arrive > 1 else 1

    def attacked(self, round_: int) -> bool:
        """Say whether the malicious agents strike in a round."""
        if not self.spec.malicious_agents or round_ < self.there:
            return False
        return (
            round_ in self.settings.backdoor.inject
            if self.spec.armed
            else round_ >= self.settings.agents.start
        )


def _agents(count: int) -> str:
    return f"{count:,} agent{'s' * (count != 1)}"


def _tiny(data: Dataset) -> AttackContext:
    """Make a world of one agent with one sample, to try whether an attack can be built."""
    task = task_of(data)
    model = task.build("mlp", data.shape, seed=0)
    x, y = torch.from_numpy(data.x_train[:1]), torch.from_numpy(data.y_train[:1])
    held = Shards(x, y, torch.zeros((1, 1), dtype=torch.int64))
    return AttackContext(
        task, model, Training(1, 1, 0.0, 0.0), held, {0: 0}, 1.0, lambda: flatten(model)
    )
