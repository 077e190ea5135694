"""What an aggregator measures and trains, where a network, loss or optimizer is somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedjury.learning.weights import Vector
from fedjury.protocol.record import Quality
from fedjury.registry.faults import Plugin, PluginError, Tell, blamed


def server_update(
    learn: Callable[[Vector, int], Vector], plugins: Sequence[Plugin]
) -> Callable[[Vector, int], Vector]:
    """Return the server's training as one that fails in a sentence; then there is no candidate."""

    def learnt(weights: Vector, round_: int) -> Vector:
        try:
            return learn(weights, round_)
        except Exception as why:
            if said := blamed(why, plugins):
                raise PluginError(said) from why
            raise

    return learnt


def flaw(find: Callable[[Vector], str], plugins: Sequence[Plugin]) -> Callable[[Vector], str]:
    """Return the look for flaws as one to which a network that fails is one."""

    def found(weights: Vector) -> str:
        try:
            return find(weights)
        except Exception as why:
            if said := blamed(why, plugins):
                return said
            raise

    return found


def measure(
    look: Callable[[Vector], Quality], plugins: Sequence[Plugin], tell: Tell
) -> Callable[[Vector], Quality]:
    """Return the measuring as one that measures nothing where that fails."""

    def measured(weights: Vector) -> Quality:
        try:
            return look(weights)
        except Exception as why:
            if said := blamed(why, plugins):
                tell(f"{said}; nothing is measured where it fails", "measuring")
                return Quality()
            raise

    return measured
