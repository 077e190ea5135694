"""The aggregator connects to the workers of cells when it needs them, and again if it must."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from fedjury.cluster.engine import WorkerLost
from fedjury.cluster.lazy_engine import LazyEngine


class Workers:
    """Workers of which the first is lost at the first call."""

    def __init__(self, lost):
        self.lost = lost

    def call(self, worker, method, *arguments):
        """Begin a call."""
        return worker, method

    def result(self, call):
        """Return what was called."""
        if self.lost:
            raise WorkerLost(call[0])
        return call


@pytest.fixture
def ray_engine(monkeypatch):
    """Put a module in the place of the one that imports Ray; ``said`` is what it was asked."""
    module = ModuleType("fedjury.cluster.ray_engine")
    module.said, module.found = [], [Workers(lost=True), Workers(lost=False)]
    module.connect = lambda *given: module.said.append(given)
    module.engine = lambda cells: module.found.pop(0)
    monkeypatch.setitem(sys.modules, "fedjury.cluster.ray_engine", module)
    monkeypatch.setattr("fedjury.cluster.ray_engine", module, raising=False)
    return module


def test_workers_are_looked_for_when_they_are_needed(ray_engine):
    """Not before; once connected, and looked for again after one was lost."""
    engine = LazyEngine("10.0.0.1:6390", "lab", 2)
    assert (engine.workers, ray_engine.said) == (2, [])
    with pytest.raises(WorkerLost):
        engine.result(engine.call(1, "clear"))
    assert engine.result(engine.call(1, "clear")) == (1, "clear")
    assert ray_engine.said == [("10.0.0.1:6390", "10.0.0.1", "lab")]


def test_no_cluster_is_a_lost_worker(ray_engine):
    """The round does what it does then: it waits, and goes on without."""

    def refused(*_):
        raise ConnectionError("no cluster")

    ray_engine.connect = refused
    with pytest.raises(WorkerLost):
        LazyEngine("10.0.0.1:6390", "lab", 2).call(0, "clear")
