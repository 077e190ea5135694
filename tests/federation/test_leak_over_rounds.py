"""What an aggregator works out of single agents from the sums that it has opened in many rounds."""

from __future__ import annotations

import numpy as np
import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture

from fedjury.experiments.papers.leak_attack import Equations, cosines, told_apart
from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import Update
from fedjury.protocol.topics import USUAL
from fedjury.round.state import Training
from fedjury.secure.group import Opened

pytestmark = pytest.mark.usefixtures("one_thread")

RUN = {
    "groups__size": 5,
    "groups__secure": True,
    "groups__by_seed": True,
    "groups__colluding": 0.2,
    "run__rounds": 15,
    "agents__split": "dirichlet",
    "agents__alpha": 0.3,
}
"""Twenty agents whose data differ, in groups of five: fifteen rounds of three new means each."""


def opened_by(federation):
    """Run it; returns the sums that its aggregator has opened, by round."""
    sums: dict[int, dict[int, Opened]] = {}
    federation.begin()
    take = federation.aggregator.take

    def noting(state, event):
        state = take(state, event)
        if isinstance(state.phase, Training) and state.phase.secure:
            known = {group.number: group for group in state.phase.secure.opened}
            sums.setdefault(state.round, {}).update(known)
        return state

    federation.aggregator.take = noting
    federation.run()
    return sums


def worked_out(sums):
    """Play the attack: less the mean of all, which is known as all train, each round alike long."""
    names = sorted(
        {name for groups in sums.values() for one in groups.values() for name in one.members}
    )
    known = Equations(len(names), len(sums[1][0].mean))
    for groups in sums.values():
        means = np.array([one.mean for one in groups.values()], np.float64)
        means -= means.mean(axis=0)
        members = [[names.index(name) for name in one.members] for one in groups.values()]
        known.add(members, means / np.linalg.norm(means))
    return known.solved(0.03)


@pytest.fixture(scope="module")
def true(tmp_path_factory, one_thread):  # noqa: F811
    """Return what each agent (n, d) differs by from all, over the rounds of a run in the clear."""
    clear = Federation(tmp_path_factory.mktemp("clear"), **RUN | {"groups__secure": False})
    sent: dict[int, dict[str, np.ndarray]] = {}

    def hear(topic, payload):
        if USUAL.parse(topic).kind is Update:
            update = codec.decode(topic, payload, Limits(finite=False))
            sent.setdefault(update.round, {})[update.agent] = update.delta

    clear.broker.listeners.append(hear)
    clear.whole()
    rounds = [np.array([given[name] for name in sorted(given)], float) for given in sent.values()]
    differences = [one - one.mean(axis=0) for one in rounds]
    return sum(one / np.linalg.norm(one) for one in differences)


def test_sums_of_groups_that_change_tell_single_agents(tmp_path, true):
    """After fifteen rounds every agent is known from all others by what was opened of groups."""
    alike = cosines(worked_out(opened_by(Federation(tmp_path, **RUN))), true)
    assert told_apart(alike) > 0.9
    assert np.diagonal(alike).mean() > 0.75


def test_sums_of_groups_that_stay_together_tell_no_more_than_one_round(tmp_path, true):
    """All five of a group look the same: one in five is told apart, by chance."""
    sums = opened_by(Federation(tmp_path, **RUN | {"groups__fixed": True}))
    found = worked_out(sums)
    assert len({tuple(np.round(row, 9)) for row in found}) == 4
    alike = cosines(found, true)
    assert told_apart(alike) == 0.2
    once = cosines(worked_out({1: sums[1]}), true)
    assert np.diagonal(alike).mean() < np.diagonal(once).mean() + 0.1
