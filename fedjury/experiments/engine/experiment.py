"""What an experiment is: a grid of cells, tables, and a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from matplotlib.figure import Figure

from fedjury.experiments.engine.case import Case, Result
from fedjury.experiments.engine.metrics import Poisoned, injected
from fedjury.experiments.engine.setup import P, Setup
from fedjury.experiments.engine.tables import Row, Table


@dataclass(frozen=True)
class Experiment(Generic[P]):
    """One experiment of a paper. The first table is the one that the picture shows."""

    line: str
    """What it measures, in one line."""
    title: str
    """Of the picture."""
    setup: Setup[P]
    """What it shares with others of its kind."""
    cases: Callable[[P], list[Case]]
    tables: Callable[[list[Result]], list[Table]]
    draw: Callable[[Figure, list[Result]], None]
    size: tuple[float, float] = (10.0, 6.0)
    """Of the picture, in inches."""
    only: tuple[str, ...] = ()
    """Labels of which some can be picked (--only)."""
    legend: str = ""
    """How its tables are to be read, where not as its set-up says."""
    counts: Callable[[Result], Row] = lambda _: {}
    """What its tables count in one run, besides FN and FP, for the CSV of all runs."""
    poisoned: Poisoned = injected
    """In which rounds of a run the candidate is poisoned."""
    note: str = ""
    """What a reader of the tables has to know, in sentences."""
