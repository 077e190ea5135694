"""What an aggregator is made of, from its settings: what cannot work is said before it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.federation import settings_of

from fedjury.aggregator.assembly import build, detection_policy_of
from fedjury.aggregator.rule import TRIED
from fedjury.learning import datasets
from fedjury.learning.partition import partition, partition_spec_of
from fedjury.registry import rule
from fedjury.rules import Context

BULYAN = {"aggregation__rule": "bulyan", "aggregation__options": {"count": 5}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (BULYAN, r"at least 23 updates to withstand 5 Byzantine ones \(4 \* 5 \+ 3\), not 20"),
        (BULYAN | {"agents__n": 40, "sampling__client_fraction": 0.5}, "23 updates .* not 20"),
        (BULYAN | {"agents__n": 40, "collect__threshold": 22}, "23 updates .* not 22"),
        (
            {"aggregation__rule": "trimmed_mean", "aggregation__options": {"count": 10}},
            "trimming 10 at each end leaves nothing of 20 updates",
        ),
        ({"aggregation__options": {"name": "krum"}}, "name is not an option of the rule"),
        ({"aggregation__options": {"clip": "1"}}, "pre-aggregation clip must be a number"),
        (
            {"aggregation__pre_aggregation": {"nmm": 3}},
            "unknown pre-aggregation: 'nmm'; did you mean 'nnm'",
        ),
        ({"aggregation__pre_aggregation": {"nnm": "3"}}, "pre-aggregation nnm must be a number"),
        (
            {"aggregation__rule": "foolsgold", "aggregation__pre_aggregation": {"bucketing": 2}},
            "must know which agent sent which update",
        ),
        ({"detection__detectors": ["brust"]}, "unknown detector: 'brust'; did you mean 'burst'"),
        (
            {"detection__detectors": ["burst"], "detection__options": {"fixed_point": {}}},
            "options of a detector that is not used: fixed_point",
        ),
        (
            {"detection__detectors": ["burst"], "detection__options": {"burst": {"crowds": 3}}},
            "hyper-parameter of detector 'burst': 'crowds'; did you mean 'crowd'",
        ),
    ],
)
def test_what_cannot_work_is_said_at_the_start(changes, message):
    """A rule that needs more updates than there will be fails here, and not in round 1."""
    with pytest.raises(ValueError, match=message):
        build(settings_of(**changes))


@rule(needs=["server_update"])
def needy():
    """Build somebody's rule that needs what the server learns."""
    return lambda updates, samples, context: context.server_update


def crashing():
    """Build somebody's rule that fails when it is called."""
    return lambda updates, samples, context: {}["a"]


def matrix_maker():
    """Build somebody's rule that returns what it is given."""
    return lambda updates, samples, context: updates


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("needy", "needs an update of the server's own: with data.server above 0"),
        (
            "crashing",
            r"rule 'test_assembly:crashing' fails: KeyError: 'a' \(.*test_assembly.py, line \d+\)",
        ),
        ("matrix_maker", r"made an update of shape \(20, 2\) of 20 of shape \(2,\)"),
    ],
)
def test_a_rule_of_somebody_elses_is_tried_at_the_start(name, message):
    """What it needs and is not given, how it fails, and what it makes: said before round 1."""
    with pytest.raises(ValueError, match=message):
        build(settings_of(aggregation__rule=f"{__name__}:{name}"))


def test_clipping_may_stand_among_the_options():
    """The error of a misspelt option lists it, so there it works."""
    rule = build(settings_of(aggregation__options={"clip": 1.0})).config.rule
    updates = np.array([[3.0, 4.0]], np.float32)
    np.testing.assert_allclose(rule(updates, np.ones(1, np.int64), Context()), [0.6, 0.8])


def test_a_rule_is_not_tried_on_crowds():
    """With more agents than it takes to compare all with all quickly, the first round tells."""
    many = BULYAN | {"agents__n": TRIED + 1, "agents__samples": 1}
    assert build(settings_of(**many)).config.run.rounds


def test_the_watch_is_what_the_settings_say():
    """Detectors are built with their options; a rule that asks for the past gets it."""
    settings = settings_of(
        detection__detectors=["burst", "fixed_point"],
        detection__quarantine=True,
        detection__offences=3,
        detection__readmission_after=7,
        detection__readmissions=0,
        sampling__newcomers=4,
        detection__options={"fixed_point": {"crowd": 5}},
        aggregation__rule="foolsgold",
    )
    watch = detection_policy_of(settings)
    assert list(watch.detectors) == ["burst", "fixed_point"]
    assert (watch.rules, watch.newcomers, watch.update_sums) == (settings.detection, 4, True)
    assert detection_policy_of(settings_of()).remembers is False


def test_the_server_trains_as_an_agent_does():
    """FLTrust's server moves the model by its own data, the same way each time it is asked."""
    policy = build(settings_of(aggregation__rule="fltrust", data__server=0.05)).config
    start = np.zeros(2410, np.float32)
    update = policy.server_update(start, 3)
    assert update.shape == (2410,)
    assert np.abs(update).max() > 0
    np.testing.assert_array_equal(update, policy.server_update(start, 3))
    assert (update != policy.server_update(start, 4)).any()
    assert build(settings_of(data__server=0.05)).config.server_update is None


@pytest.mark.parametrize(("server", "epochs"), [(0.3, 1), (0.3, 2), (0.01, 1)])
def test_the_server_takes_as_many_steps_as_an_agent(server, epochs):
    """Agents of 10 samples take one step an epoch; so does the server, over all that it keeps.

    After one epoch that is the gradient of its whole loss, times the learning rate.
    """
    settings = settings_of(
        agents__samples=10,
        aggregation__rule="fltrust",
        data__server=server,
        training__epochs=epochs,
    )
    data = datasets.load("digits", Path("data"), 500)
    held = partition(partition_spec_of(settings), data).server
    parts = build(settings, data)
    start = parts.model.read()
    x, y = torch.from_numpy(data.x_train[held]), torch.from_numpy(data.y_train[held])
    parts.model.load(start)
    for _ in range(epochs):
        sgd = torch.optim.SGD(parts.model.model.parameters(), lr=0.2)
        sgd.zero_grad()
        F.cross_entropy(parts.model.model(x), y).backward()
        sgd.step()
    expected = parts.model.read() - start
    np.testing.assert_allclose(parts.config.server_update(start, 3), expected, rtol=1e-3, atol=1e-6)
