"""Simulated agents that train otherwise than usual: optimizer, loss, and what is trained at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture

from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.batch_assembly import MismatchError, assemble
from fedjury.aggregator.assembly import build

pytestmark = pytest.mark.usefixtures("one_thread")

NO_VOTES = {"validation__validators": 0, "run__rounds": 6, "training__epochs": 5}


@pytest.mark.parametrize(
    "chosen",
    [
        {"training__optimizer": "adamw", "training__learning_rate": 0.01},
        {"training__loss": "mse", "training__learning_rate": 0.05},
        {"training__options": {"weight_decay": 0.001}},
        {"model__trainable": ["3.*"]},
        {"training__loss": f"{__name__}:focal"},
        {"training__optimizer": "torch.optim:Adagrad", "training__learning_rate": 0.02},
    ],
    ids=lambda chosen: " ".join(map(str, chosen.values())),
)
def test_twenty_agents_learn_as_they_are_told(tmp_path, chosen):
    """The manifest says how, and the agents of another process do so."""
    done = Federation(tmp_path, **NO_VOTES | chosen).whole()
    assert [r.updates for r in done.records] == [20] * 6
    assert done.accuracies[-1] > 0.6


def focal():
    """Build a loss that counts what is learnt already less."""
    from fedjury.learning.task import cross_entropy  # noqa: PLC0415 - as a module of somebody's

    def loss(outputs, labels):
        each = cross_entropy(outputs, labels)
        return each * (1 - (-each).exp()) ** 2 * 2

    return loss


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"loss": "os:system"}, "loss 'os:system' is not imported because a message names it"),
        ({"optimizer": "os:system"}, "optimizer 'os:system' is not imported because a message"),
        ({"loss": "hinge"}, "unknown loss: 'hinge'"),
        ({"optimizer": "adam", "optimizer_options": {"speed": 9}}, "unknown hyper-parameter"),
        ({"loss": "huber", "loss_options": {"delta": -1}}, "delta of loss 'huber' must be"),
    ],
)
def test_a_manifest_cannot_choose_what_is_not_here(said, sentence):
    """What a message names is looked up among ours, and imported only where our settings agree."""
    settings = settings_of()
    simulated = simulated_agents_of(settings)
    manifest = replace(build(settings).manifest, **said)
    with pytest.raises(MismatchError) as caught:
        assemble(simulated, simulated.check(), range(20), manifest)
    assert sentence in str(caught.value)


def test_agents_that_train_other_layers_say_which():
    """One side with model.trainable and one without is a sentence that names it."""
    settings = settings_of()
    simulated = simulated_agents_of(settings)
    manifest = build(settings_of(model__trainable=["3.*"])).manifest
    with pytest.raises(MismatchError, match=r"the run has 3.weight 10x32 where this program has"):
        assemble(simulated, simulated.check(), range(20), manifest)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"training__loss": "hinge"}, "unknown loss: 'hinge'"),
        ({"training__optimizer": "adan"}, "did you mean 'adam'?"),
        ({"training__options": {"decay": 1}}, "unknown hyper-parameter of optimizer 'sgd'"),
        ({"training__metrics": ["auc"]}, "unknown metric: 'auc'"),
        ({"model__trainable": ["head.*"]}, "unknown parameter in model.trainable: 'head.*'"),
    ],
)
def test_what_cannot_be_chosen_is_said_before_a_run(changes, sentence):
    """The aggregator checks names and options when it starts."""
    with pytest.raises(ValueError) as caught:
        build(settings_of(**changes))
    assert sentence in str(caught.value)
