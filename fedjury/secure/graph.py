"""Who is whose neighbour in a group: a Harary graph of agents in a random order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]


def numbers_in(graph: Places) -> Places:
    """Return which number each agent has among the neighbours of each of its own, (n, degree)."""
    n, degree = graph.shape
    number = np.zeros((n, n), dtype=np.int64)
    np.put_along_axis(number, graph, np.arange(degree)[np.newaxis], axis=1)
    result: Places = number[graph, np.arange(n)[:, np.newaxis]]
    return result


def draw_graph(n: int, degree: int, random: Callable[[int], bytes]) -> Places:
    """Draw the neighbours (n, degree) of each of n agents, ascending.

    All stand in a circle in a random order, and each one's neighbours are those next to it, half on
    either side; or all are neighbours. Nobody knows beforehand who its neighbours will be.
    """
    circle = np.argsort(np.frombuffer(random(8 * n), dtype="<u8"))
    away = np.arange(1, n) if degree == n - 1 else np.r_[1 : degree // 2 + 1, -(degree // 2) : 0]
    result = np.empty((n, degree), dtype=np.int64)
    result[circle] = circle[(np.arange(n)[:, np.newaxis] + away) % n]
    return np.sort(result, axis=1)
