"""Attackers who lie about their samples: what it gains them, and what the cap leaves of it."""

from __future__ import annotations

import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture
from test_injections import ATTACK, DEFENCE, INJECT

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTED = {
    "aggregation__options": {"weighted": True},
    "backdoor__boost": 2.0,  # shared by two: each sends the plain step to its model
    "run__rounds": INJECT[0],
}
"""Two of six who are called strike once, without making their updates longer."""


def ran(folder, **changes):
    return Federation(folder, **ATTACK | changes).whole()


def test_without_a_cap_claims_replace_the_model(tmp_path):
    """Each holds 90 samples: a third of the weight; of 1,000 claimed 85 %, of 10⁹ everything."""
    honest = ran(tmp_path / "honest", **WEIGHTED)
    capped = ran(tmp_path / "capped", **WEIGHTED, agents__claimed_samples=10**9)
    free = {"limits__samples": 2 * 10**9}
    endless = ran(tmp_path / "free", **WEIGHTED, **free, agents__claimed_samples=10**9)
    told, some, most = (run.records[-1].model.backdoor for run in (honest, capped, endless))
    assert told < 0.5
    assert 0.8 < some <= most


@pytest.mark.parametrize(("cap", "other"), [(90, 0), (1000, 1000)])
def test_what_is_above_the_cap_gains_nothing(tmp_path, cap, other):
    """Capped at what all hold a lie changes no bit; capped at 1,000 it is one of 1,000."""
    setup = WEIGHTED | {"limits__samples": cap}
    lying = ran(tmp_path / "lying", **setup, agents__claimed_samples=10**6)
    plain = ran(tmp_path / "plain", **setup, agents__claimed_samples=other)
    assert lying.models == plain.models


def test_a_boost_that_is_not_given_takes_the_weight_into_account(tmp_path):
    """With the factor that it takes X becomes the model: as with honest numbers, so with lies."""
    setup = {key: value for key, value in WEIGHTED.items() if key != "backdoor__boost"}
    for claimed in (0, 900):
        done = ran(tmp_path / str(claimed), **setup, agents__claimed_samples=claimed)
        assert done.records[-1].model.backdoor > 0.9


def test_a_claim_gives_a_vote_no_weight(tmp_path):
    """Liars who deny every honest round, with a million samples each, are two votes all the same.

    All verdicts and models are those of the run in which they say how many they hold.
    """
    setup = DEFENCE | {
        "validation__look_back": 8,
        "validation__quorum": 5,
        "agents__vote_attack": "deny",
        "run__rounds": 14,
        "backdoor__inject": [13],
    }
    honest = ran(tmp_path / "honest", **setup)
    lying = ran(tmp_path / "lying", **setup, agents__claimed_samples=10**6)
    assert [r.accepted for r in lying.records] == [r.accepted for r in honest.records]
    assert [r.votes.poisoned for r in lying.records] == [r.votes.poisoned for r in honest.records]
    assert max(r.votes.poisoned for r in honest.records[:12]) >= 2  # they do deny
    assert lying.models == honest.models
