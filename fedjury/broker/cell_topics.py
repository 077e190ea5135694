"""Which messages go up from the broker of a cell to the core's, and which come down.

It follows from who may say what. What the access rules let an agent write goes up, and everything
else that the protocol has is said at the core, and comes down. Attackers of an experiment speak to
each other, whichever cell they are in: their two topics, and no others, go both ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, get_args

from fedjury.broker.mosquitto import COLLUSION, RULES
from fedjury.protocol import messages
from fedjury.protocol.cells import CellUp, GroupSumRequest, SumRequest
from fedjury.protocol.membership import PLACE, CellLink
from fedjury.protocol.messages import Message
from fedjury.protocol.secure import MaskedUpdate
from fedjury.protocol.topics import CHANNELS, ROOT, below

KEPT: tuple[type[Message], ...] = (messages.Update, MaskedUpdate, messages.Presence)
"""What stays in a cell that keeps its updates: the ingest worker beside its broker takes these, and
says in its own messages who is there, and what they have sent."""

AT_THE_CORE: tuple[type[Message], ...] = (messages.Heartbeat,)
"""What aggregators say to each other alone crosses no bridge."""

WORKER_SAYS: tuple[type[Message], ...] = get_args(CellUp)
"""What the ingest worker of a cell says goes up, and what all are told comes down: nothing where
updates do not stay in their cells."""
WORKER_HEARS: tuple[type[Message], ...] = (SumRequest, GroupSumRequest)

WORKER_REPEATS: tuple[type[Message], ...] = (messages.Manifest, messages.Round)
"""What a worker that has lost its updates may say again at its own broker: agents that hear it send
the very same updates once more."""


class Directions(NamedTuple):
    """Filters of topics, as a broker takes them."""

    up: tuple[str, ...]
    down: tuple[str, ...]
    both: tuple[str, ...] = ()


def directions(
    cell: int, root: str = ROOT, run: str = "+", *, keep: bool = False, collusion: bool = True
) -> Directions:
    """Return what goes which way between the broker of a cell and the core's.

    ``run``: the only run there is, or + for all. ``keep``: updates stay in their cells.
    ``collusion``: attackers of an experiment may communicate.
    """
    topics = below(root)
    of_agents, of_colluders = said_by_agents(), said_by_agents(COLLUSION)
    aside = {*WORKER_SAYS, *WORKER_HEARS, *AT_THE_CORE}
    up: list[type[Message]] = []
    down: list[type[Message]] = []
    for kind, channel in CHANNELS.items():
        if channel.beside or kind in aside or not topics.has(kind):
            continue  # what bridges and workers say is added below
        if kind in of_agents:
            if not (keep and kind in KEPT):
                up.append(kind)
        elif kind not in of_colluders:
            down.append(kind)
    says, hears = worker_topics(cell, root, run) if keep else ((), ())
    return Directions(
        (*topics.filters(run, up), *says),
        (*topics.filters(run, down), *hears),
        tuple(topics.filters(run, of_colluders)) if collusion else (),
    )


def worker_topics(
    cell: int, root: str = ROOT, run: str = "+"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a cell's ingest worker says, and what it alone or all workers are told."""
    topics = below(root)
    says = tuple(topics.where(run, kind, cell) for kind in WORKER_SAYS)
    return says, tuple(topics.where(run, kind, cell) for kind in WORKER_HEARS)


def said_by_agents(rules: str = "") -> list[type[Message]]:
    """Return the kinds of messages that access rules (by default the shipped ones) let agents say.

    They stand there as ``pattern write fl/v2/+/update/%u``: under an agent's own name, or, where
    agents speak to each other, under none.
    """
    lines = rules or RULES.read_text(encoding="utf-8")
    written = re.findall(rf"(?m)^pattern (?:read)?write {re.escape(ROOT)}/\+/(.*)$", lines)
    topics = {topic.replace("%u", "{agent}") for topic in written}
    return [kind for kind, channel in CHANNELS.items() if channel.topic in topics]


def link_of(cell: int, root: str) -> str:
    """Return where the bridge of a cell says whether it is connected."""
    return below(root).of("", CellLink(cell, online=True))


def place_of(cell: int, root: str) -> str:
    """Return where the presence of a cell's agents is once more, run by run."""
    return f"{root}/{PLACE}/{cell}"


def as_rules(access: str, topics: Iterable[str]) -> list[str]:
    """Return lines of access rules."""
    return [f"topic {access} {topic}" for topic in topics]
