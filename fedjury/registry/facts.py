"""What a plug-in says of itself: the mark above it, and its first line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, overload

from fedjury.registry.wrong import unknown

F = TypeVar("F", bound=Callable[..., Any])

MARK = "__fedjury_facts__"
"""The attribute of a marked function that holds its facts."""


class Need(StrEnum):
    """What a rule or a detector cannot do without.

    A rule that does not say needs the updates of the round, row by row; a detector, who sent one.
    """

    SUM = "sum"
    """Only their sum: it compares no row with another, so one group of all agents will do."""
    UPDATES = "updates"
    """Of a detector: what each agent has sent, and not only who has."""
    SERVER_UPDATE = "server_update"
    """The update that the server trained on data of its own."""
    UPDATE_SUMS = "update_sums"
    """What each agent sent in earlier rounds, added up; so it must be known who sent what."""
    STATE = "state"
    """What it returned beside the last accepted update: it keeps something between rounds."""


@dataclass(frozen=True)
class Facts:
    """What the rest has to know of a plug-in."""

    summary: str = ""
    """One line for people: the first of its file's docstring where it is called like its file,
    else of its own."""
    report: str = ""
    """What a report says of it: of an attack what its agents do, in a sentence; of a detector what
    those did whom it names, like "joined in one crowd"."""
    needs: frozenset[Need] = frozenset()
    compares_all: bool = False
    """Of a rule, or a step before one: it compares all updates with each other, which takes the
    square of their number in time and memory."""
    holds_data: bool = False
    """Agents of this attack hold data and train like honest ones; those of all others hold none."""
    colludes: bool = False
    """They tell each other what they learnt."""
    hides_backdoor: bool = False
    """They put a backdoor into the model, in rounds of their choice."""


@dataclass(frozen=True)
class Mark:
    """A decorator that marks functions as plug-ins of a kind and keeps their facts.

    Its arguments are literals, for they are read from the source.
    """

    kind: str
    allowed: frozenset[str] = frozenset()
    """The facts that plug-ins of this kind have, beside the summary."""
    words: str = ""
    """What messages call such a plug-in, if not by its kind."""

    @overload
    def __call__(self, plugin: F, /) -> F: ...

    @overload
    def __call__(self, /, **facts: Any) -> Callable[[F], F]: ...

    def __call__(self, plugin: F | None = None, /, **facts: Any) -> F | Callable[[F], F]:
        """Mark a function, as it is or with these facts; ``name``: if it is not the function's."""
        if plugin is None:
            return lambda marked: self._marked(marked, facts)
        return self._marked(plugin, facts)

    def _marked(self, plugin: F, facts: Mapping[str, Any]) -> F:
        module = sys.modules.get(plugin.__module__)
        name = facts.get("name", plugin.__name__)
        of_file = module.__doc__ if module else None
        summary = summary_of(name, plugin.__module__, plugin.__doc__, of_file)
        setattr(plugin, MARK, self.facts(summary, **facts))
        return plugin

    def facts(
        self,
        summary: str,
        *,
        name: str = "",
        report: str = "",
        needs: Iterable[str] = (),
        compares_all: bool = False,
        **true: bool,
    ) -> Facts:
        """Return the facts that a mark states, and those that follow.

        Raises
        ------
        ValueError
            If plug-ins of this kind have no such fact, or there is no such need.
        """
        del name  # it is the index's business
        others = {"needs": needs, "report": report, "compares_all": compares_all}
        given = {*true, *(fact for fact, value in others.items() if value)}
        for odd in sorted(given - self.allowed):
            raise unknown(
                f"fact of a {self.words or self.kind}", odd, sorted({*self.allowed, "name"})
            )
        for need in needs:
            if need not in set(Need):
                raise unknown("need of a rule or a detector", need, Need)
        # Who has nothing to train with learns nothing to tell others, and has nothing to poison.
        holds = any(true.values())
        facts = true | {"holds_data": holds, "compares_all": compares_all}
        return Facts(summary, report, frozenset(map(Need, needs)), **facts)


def summary_of(name: str, module: str, own: str | None, of_file: str | None) -> str:
    """Return the first line of a file's docstring if it has the plug-in's name, else of its own."""
    text = of_file if name == module.rpartition(".")[2] and of_file else own
    return (text or "").strip().partition("\n")[0]
