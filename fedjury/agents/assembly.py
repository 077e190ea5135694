"""The agents that the settings describe, and how they are dealt out to processes and machines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from fedjury.config.settings import Settings
from fedjury.learning.partition import partition_spec_of

if TYPE_CHECKING:
    from fedjury.agents.simulated import SimulatedAgents

CHUNK = 100
"""Members that train in one batch (``agents.cohort``, whose import would cost seconds here)."""


def simulated_agents_of(settings: Settings) -> SimulatedAgents:
    """Return the whole fleet that the settings describe."""
    # Imports torch, which takes seconds: not before we know that there is a broker.
    import torch  # noqa: PLC0415

    from fedjury.agents.simulated import SimulatedAgents  # noqa: PLC0415

    # The processes share the cores: threads of their own would only fight, and not survive a fork.
    torch.set_num_threads(1)

    return SimulatedAgents(partition_spec_of(settings), settings)


def attack_log(file: str) -> Callable[[int, float], None]:
    """Let attackers write down when they strike and how strongly, one JSON line each.

    Nothing on the wire says so, and an experiment has to know.
    """

    def send(number: int, strength: float) -> None:
        if file:
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"round": number, "strength": round(strength, 3)}) + "\n")

    return send


def processes_for(settings: Settings, members: int) -> int:
    """Say how many processes to use: one a core, but none for less than a chunk of agents."""
    wanted = settings.agents.processes or os.cpu_count() or 1
    return max(1, min(wanted, math.ceil(members / CHUNK)))


def parts(numbers: range, count: int) -> list[range]:
    """Cut a range that begins with a chunk into ``count`` parts that are whole chunks.

    With fewer chunks than parts, parts are cut as they come: a bit may then differ.
    """
    size, step = len(numbers), CHUNK if len(numbers) >= count * CHUNK else 1
    cuts = [round(size * i / count / step) * step for i in range(count)] + [size]
    return [numbers[first:last] for first, last in pairwise(cuts)]
