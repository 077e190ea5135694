"""Two runs of one name on one broker, below two roots: neither hears the other."""

from __future__ import annotations

import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture

from fedjury.protocol.transport.memory_transport import MemoryBroker

pytestmark = pytest.mark.usefixtures("one_thread")

DEEP = "acme/plant-7/fl/v2"


def test_runs_below_two_roots_do_not_hear_each_other(tmp_path):
    """Each comes to the models that it comes to alone, and tells nobody below the other root."""
    alone = Federation(tmp_path / "alone", run__rounds=3).whole()
    broker = MemoryBroker()
    two = [
        Federation(tmp_path / str(i), broker=broker, broker__root=root, run__rounds=3, run__seed=i)
        for i, root in enumerate(["fl/v2", DEEP])
    ]
    for run in two:
        run.begin()
    while not all(run.state.done for run in two):
        for run in two:
            if not run.state.done:
                run.turn()
    assert two[0].models == alone.models
    assert len(two[1].models) == 4
    assert two[1].models != alone.models
    assert [record.updates for run in two for record in run.records] == [20] * 6
    assert {topic.split("/lab/")[0] for topic in broker.retained} == {"fl/v1", "fl/v2", DEEP}


def test_a_run_below_another_root_leaves_nothing_beside_it(tmp_path):
    """What is said to programs of version 1 is said beside the usual root alone."""
    run = Federation(tmp_path, broker__root="fl2", run__rounds=1).whole()
    assert {topic.split("/")[0] for topic in run.broker.retained} == {"fl2"}
    assert run.aggregator.forget(0.0) > 0
    assert not run.broker.retained
