"""Who is to be enrolled: the aggregator, agents, slots of gateways, and people who watch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fedjury.broker.enrolment_file import Enrolment, Principal

PEOPLE, AGENTS, AGGREGATOR = "people", "agents", "aggregator"
"""Parts of the folder of secrets."""


def principals(
    n: int | None,
    slots: Sequence[tuple[str, int]] = (),
    names: Sequence[str] = (),
    watchers: Sequence[str] = (),
) -> list[Principal]:
    """List who is to be enrolled, and where each one's secrets go.

    ``n`` agents, named as a fleet of so many names them, each with an ear: a process may hear for
    all its agents through one more connection, named after its first. ``slots`` of HTTP gateways
    (prefix, how many); agents of these ``names``; people. The aggregator has one more login, by
    which it looks whether another is at work.
    """
    agents = names_of(n) if n is not None else []
    result = [Principal(login, AGGREGATOR) for login in ("aggregator", "aggregator.lookout")]
    result.append(Principal("watch", PEOPLE))
    result += [Principal(f"watch.{name}", f"{PEOPLE}/{name}") for name in watchers]
    result += [Principal(name, AGENTS) for name in (*agents, *names)]
    result += [Principal(f"listener.{name}", AGENTS) for name in agents]
    for prefix, count in slots:
        result += [Principal(f"{prefix}-{number:03d}", AGENTS) for number in range(count)]
        result.append(Principal(f"listener.{prefix}", AGENTS))
    return result


def names_of(n: int) -> list[str]:
    """Name the agents of a fleet of ``n``, as ``fedjury.learning.partition`` does."""
    width = len(str(n - 1))
    return [f"agent-{number:0{width}d}" for number in range(n)]


def named_otherwise(known: Enrolment, names: Sequence[str]) -> list[str]:
    """Return the agents enrolled before whose numbers have another width than these names."""
    numbered = [login for login in known.principals if re.fullmatch(r"agent-[0-9]+", login)]
    return sorted(login for login in numbered if len(login) != len(names[0]))
