"""What fails in the plug-ins of somebody else's that a batch of agents works with.

Each is told once, and those whose work it was sit the round out; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fedjury.registry.faults import Plugin, blamed


def untold(_: str) -> None:
    """Tell nobody."""


class Faults:
    """Who sits the round out, and what was told of why."""

    def __init__(self, say: Callable[[str], None] = untold, plugins: Sequence[Plugin] = ()) -> None:
        """``plugins``: those of somebody else's that are at work where nothing checks each call."""
        self._say, self._plugins = say, plugins
        self._told: set[str] = set()
        self.out: set[str] = set()
        """Agents that decline whatever they are asked for in this round."""

    def note(self, why: Exception, names: Iterable[str] = ()) -> None:
        """Tell people what has failed, and let these agents sit the round out.

        Raises
        ------
        Exception
            What came, if it is none of somebody else's fault.
        """
        sentence = blamed(why, self._plugins)
        if not sentence:
            raise why
        self.out.update(names)
        about = sentence.partition(" fails")[0].partition(" made")[0]
        if about not in self._told:
            self._told.add(about)
            self._say(f"{sentence}; agents sit out the rounds in which it fails")
