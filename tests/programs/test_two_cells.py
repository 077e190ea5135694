"""A federation in two cells comes to the models that it comes to on one broker, whatever breaks.

Validators vote on candidates, and some agents are malicious. More of this: ``tools.chaos``.
"""

from __future__ import annotations

import pytest

from fedjury.broker.mosquitto import find_mosquitto
from tools.chaos.faults.outcome import PACE
from tools.chaos.harness import PLAIN, Harness

pytestmark = pytest.mark.skipif(not find_mosquitto(), reason="no Mosquitto (apt install mosquitto)")


@pytest.fixture(scope="module")
def lab():
    """Start the parent of all programs, and a broker."""
    with Harness() as made:
        yield made


def test_two_cells_give_one_brokers_models_though_each_broker_dies_and_a_link_breaks(lab):
    """``kill -9`` of a cell's broker, of the core's, and a link that is down for three seconds.

    Nothing that was acknowledged is lost: nobody is missing, no vote, and no broker drops anything.
    """
    quiet = lab.quiet()
    with lab.federation(cells=True) as made:
        made.start(pace=PACE)
        made.train(1)
        lab.cells.brokers[0].kill()
        lab.cells.brokers[0].start()
        made.train(3)
        lab.broker.kill()
        lab.broker.start()
        made.reach(6)
        lab.cells.down(1, 3.0)
        result = made.finish()
    assert result.survived, result.last_words
    assert result.against(quiet) == ""
    assert result.lost == 0
    assert any(record.votes.poisoned for record in result.records)
    assert not any(record.cells for record in result.records)
    assert lab.dropped() == 0


def test_attackers_of_different_cells_collude(lab):
    """What the coordinator in one cell decides, those in the other send: as on one broker."""
    setup = PLAIN | {"run.rounds": 4, "agents.attack": "alie", "agents.malicious": 0.25}
    quiet = lab.quiet(setup)
    with lab.federation(setup, cells=True) as made:
        result = made.start().finish()
    assert result.survived, result.last_words
    assert result.against(quiet) == ""
