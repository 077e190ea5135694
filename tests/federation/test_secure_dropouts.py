"""Members who leave at each step of secure aggregation, as the benchmark counts them."""

from __future__ import annotations

import numpy as np
import pytest
from support.federation import one_thread  # noqa: F401 - a fixture

from fedjury.protocol.secure import MaskedUpdate
from tools.benchmarks import dropouts, leavers

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "data__name": "digits",
    "model__name": "mlp",
    "agents__n": 20,
    "groups__size": 10,
    "groups__colluding": 0.2,
    "groups__drop_outs": 0.2,
    "run__rounds": 2,
}
"""Twenty agents in two groups of ten, of whom two may leave."""


@pytest.mark.parametrize(
    ("when", "updates"),
    [
        ("keys", 16),
        ("shares", 16),
        ("masked update", 16),
        ("shares that undo masks", 20),
    ],
)
def test_a_fifth_of_each_group_may_leave_before_any_step(when, updates, tmp_path):
    """Two of ten: no group is lost, each mean is exact, and who had sent its update is in it."""
    outcome = dropouts.run(dropouts.leaving(when, 0.2), tmp_path, **SMALL)
    assert (outcome.left, outcome.groups, outcome.exact) == (8, 4, 4)
    assert (outcome.lost, outcome.declined, outcome.overlapping) == ([], [], "")
    assert [record.updates for record in outcome.records] == [updates] * 2


def test_some_leave_at_one_step_and_some_at_another(tmp_path):
    """Each of the four steps has some of the eight who leave in two rounds of two groups."""
    choose = dropouts.leaving(dropouts.SPREAD, 0.2)
    groups = [frozenset(f"agent-{n:04d}" for n in range(i, i + 10)) for i in (0, 10)]
    plans = [choose(round_, groups) for round_ in (1, 2)]
    assert {kind for plan in plans for kind in plan.values()} == {*dropouts.STEPS.values()}
    outcome = dropouts.run(choose, tmp_path, **SMALL)
    assert (outcome.left, outcome.exact, outcome.lost) == (8, 4, [])


def test_a_group_that_lost_too_many_is_counted(tmp_path):
    """Eight of one group leave before their masked updates; two are too few."""

    def choose(_round, groups):
        return dict.fromkeys(sorted(groups[0])[:8], MaskedUpdate)

    outcome = dropouts.run(choose, tmp_path, **SMALL | {"run__rounds": 1})
    assert (outcome.groups, outcome.exact, outcome.wrong) == (2, 1, 0)
    [why] = outcome.lost
    assert why == "lost: 2 of 10 agents sent masked updates, 5 are needed"


def test_a_sum_that_is_off_by_one_is_seen(tmp_path, monkeypatch):
    """One whole number of one update differs from what was summed: one group of two is wrong."""
    drawn, calls = leavers.Members.updates, []

    def other(self, round_):
        calls.append(round_)
        rows = drawn(self, round_)
        if len(calls) > 1:  # the first is what they send
            row = rows["agent-0003"]
            row[:] = np.where(np.arange(len(row)) == 7, row + 2 * 0.1 / 16383, row)
        return rows

    monkeypatch.setattr(leavers.Members, "updates", other)
    outcome = dropouts.run(lambda _, __: {}, tmp_path, **SMALL | {"run__rounds": 1})
    assert (outcome.exact, outcome.wrong) == (1, 1)
