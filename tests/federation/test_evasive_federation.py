"""Attackers who train against the judge, in a whole federation: when they strike, and how."""

from __future__ import annotations

import numpy as np
import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture
from test_injections import ATTACK, DEFENCE

pytestmark = pytest.mark.usefixtures("one_thread")

SETUP = (
    ATTACK
    | DEFENCE
    | {
        "agents__attack": "evasive",
        "validation__judge": "robust",
        "validation__look_back": 8,
        "validation__quorum": 4,
        "run__rounds": 14,
        "backdoor__inject": [12, 14],
    }
)
"""Two of ten agents strike in rounds 12 and 14; eight validators vote."""


@pytest.fixture(scope="module")
def struck(tmp_path_factory):
    return Federation(tmp_path_factory.mktemp("struck"), **SETUP).whole()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Run the same federation, in which the attackers never strike."""
    setup = SETUP | {"backdoor__inject": []}
    return Federation(tmp_path_factory.mktemp("quiet"), **setup).whole()


def test_it_strikes_in_its_rounds_alone(struck, quiet):
    """Until the strike both runs are the same, bit for bit; then the candidates differ."""
    assert [r.candidate for r in struck.records[:11]] == [r.candidate for r in quiet.records[:11]]
    assert struck.records[11].candidate != quiet.records[11].candidate


def test_it_puts_in_less_than_one_who_does_not_care(struck, tmp_path):
    """A plain backdoor is voted down; one that was trained to pass costs the model little."""
    setup = SETUP | {"agents__attack": "backdoor"}
    plain = Federation(tmp_path, **setup).whole().records[11]
    careful = struck.records[11]
    assert plain.candidate.backdoor > careful.candidate.backdoor
    assert plain.accepted is False
    assert plain.votes.poisoned > careful.votes.poisoned
    assert careful.candidate.accuracy > 0.9


def test_two_processes_strike_alike(struck, tmp_path):
    """Attackers in one process or in three: the same models."""
    again = Federation(tmp_path, fleets=3, **SETUP).whole()
    assert again.models.keys() == struck.models.keys()
    for version, weights in struck.models.items():
        np.testing.assert_array_equal(again.models[version], weights)
