"""Fixed points: MPAF's fakes are found in real training, and no honest agent with them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.federation import one_thread  # noqa: F401 - a fixture
from support.worlds import TASK

from fedjury import detection, rules
from fedjury.attacks import RoundContext, idle_until
from fedjury.attacks.mpaf import mpaf
from fedjury.detection import SUSPECT, Observation
from fedjury.learning import datasets, models
from fedjury.learning.datasets import split
from fedjury.learning.shards import Shards, sample_order
from fedjury.learning.training import Training, train
from fedjury.learning.weights import flatten
from fedjury.protocol.compression import compress, decompress
from fedjury.rules import Context

pytestmark = pytest.mark.usefixtures("one_thread")

STRIKE = 3
"""The round in which fakes begin; before it they send zeros."""

GROUPS = split.groups(0.5)

RULES = {
    "mean": ("mean", {}),
    "median": ("median", {}),
    "trimmed": ("trimmed_mean", {"share": 0.25}),
    "clip": ("mean", {"clip": 1.0}),
}


@cache
def digits():
    return datasets.load("digits", Path("data"), 500)


def shards(agents, samples, mixtures):
    data = digits()
    rng = np.random.default_rng(0)
    dealt = split.partition(data.y_train, mixtures(agents, data.classes, rng), samples, rng)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    return Shards(x, y, torch.from_numpy(dealt))


def network(seed):
    data = digits()
    return models.build("mlp", data.shape, data.classes, seed)


def federation(
    rounds,
    *,
    honest=100,
    fakes=0,
    scale=1.0,
    rule="mean",
    samples=12,
    mixtures=GROUPS,
    called=1.0,
    sent=lambda updates: updates,
    batch=4,
):
    """Train ``honest`` agents on digits, with MPAF's fakes among them; yield what crosses."""
    data = shards(honest, samples, mixtures)
    plan, model = Training(1, batch, 0.1, 0.0), network(0)
    attack = mpaf(SimpleNamespace(fresh=lambda: flatten(network(1)), scale=scale))
    attack = idle_until(attack, STRIKE)
    aggregate = rules.build(RULES[rule][0], **RULES[rule][1])
    names = [f"honest-{i:03d}" for i in range(honest)] + [f"z-{i:03d}" for i in range(fakes)]
    weights, rng = flatten(model), np.random.default_rng(7)
    for t in range(1, rounds + 1):
        order = sample_order(0, t, range(honest), 1, samples)
        false = attack(weights, RoundContext(t, tuple(range(fakes)), 0))
        updates = sent(np.concatenate([train(model, weights, data, plan, order, TASK), false]))
        some = np.sort(rng.choice(len(names), round(called * len(names)), replace=False))
        updates = updates[some]
        yield Observation(
            t, tuple(names[i] for i in some), updates, weights, dict.fromkeys(names, 1), {}
        )
        with np.errstate(all="ignore"):
            weights = weights + aggregate(updates, np.ones(len(updates), dtype=np.int64), Context())


def flagged(rounds, **hyperparameters):
    """Return who is flagged in each round."""
    detect, memory = detection.build("fixed_point", **hyperparameters), {}
    for seen in rounds:
        scores, memory = detect(seen, memory)
        yield {name for name, score in scores.items() if score >= SUSPECT}


def fakes_of(count):
    return {f"z-{i:03d}" for i in range(count)}


# Real training


@pytest.mark.parametrize("scale", [1.0, 10.0, 1e3, 1e6])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fakes", [1, 11, 33])
def test_all_fakes_and_nobody_else_are_found_within_three_rounds(rule, fakes, scale):
    """1 %, 10 % and 25 % of all, whatever λ: precision and recall are 1.

    A crowd is found in the round it strikes; one alone in its second.
    """
    rounds = federation(STRIKE + 2, fakes=fakes, scale=scale, rule=rule)
    found = list(flagged(rounds))
    assert found[: STRIKE - 1] == [set()] * (STRIKE - 1)
    assert found[STRIKE - 1] == (fakes_of(fakes) if fakes > 1 else set())
    assert found[STRIKE] == fakes_of(fakes)
    if fakes == 1 or rule != "mean":  # else the model is not finite any more
        assert found[STRIKE + 1] == fakes_of(fakes)


BENIGN = {
    "groups": {},
    "one class each": {"mixtures": split.groups(1.0)},
    "dirichlet": {"mixtures": split.dirichlet(0.5)},
    "four samples": {"mixtures": split.iid(), "samples": 4},
    "whole batches": {"batch": 12},
}


@pytest.mark.parametrize("case", BENIGN)
def test_no_honest_agent_is_suspected(case):
    """In 25 rounds of a hundred agents on data of many kinds, not once."""
    assert set().union(*flagged(federation(25, **BENIGN[case]))) == set()


def test_fakes_called_now_and_then_are_found():
    """Of three in ten called each round, fakes are known again by name; honest agents are not."""
    rounds = federation(20, fakes=2, scale=1e6, rule="median", called=0.3)
    assert set().union(*flagged(rounds)) == fakes_of(2)


@pytest.mark.parametrize("encoding", ["float16", "int8"])
def test_rounding_on_the_wire_does_not_hide_a_crowd(encoding):
    """All fakes are rounded alike."""

    def rounded(updates):
        return np.stack([decompress(compress(row, encoding)) for row in updates])

    rounds = federation(STRIKE, fakes=11, scale=1e3, rule="median", sent=rounded)
    assert list(flagged(rounds))[-1] == fakes_of(11)


# By hand


def seen(round_, weights, **updates):
    weights = np.array(weights, dtype=np.float32)
    rows = np.array(list(updates.values()), dtype=np.float32)
    return Observation(round_, tuple(updates), rows, weights, dict.fromkeys(updates, 1), {})


def scored(*rounds):
    detect, memory = detection.build("fixed_point"), {}
    for one in rounds:
        scores, memory = detect(one, memory)
    return scores


def test_the_change_of_an_update_by_hand():
    """The model goes by (1, 0), and z sends 2 (w' - w) with w' = (3, 1).

    b changes by (-2, 1), of which 1 is left beside its length √5, the update's own being √34. The
    median is that of 1, 1, 1, 1/√5 and 0.
    """
    first = seen(1, [0, 0], a=[1, 0], b=[5, 4], c=[0, -1], d=[-1, 1], z=[6, 2])
    second = seen(2, [1, 0], a=[1, 9], b=[3, 5], c=[0, 7], d=[-1, 8], z=[4, 2])
    scores = scored(first, second)
    assert scores["z"] == 1
    assert scores["b"] == pytest.approx(0.1 / (0.1 + 1 / np.sqrt(5)))
    assert scores["a"] == pytest.approx(0.1 / 1.1)


def test_a_model_that_stays_tells_nothing_of_one_alone():
    """After a rejected round both updates are the same; the round after tells again."""
    rows = {"a": [1, 0, 0], "b": [5, 4, 0], "c": [0, -1, 2], "d": [-1, 1, 1]}
    first = seen(1, [0, 0, 0], **rows, z=[6, 2, 2])
    again = first._replace(round=2)
    assert scored(first, again)["z"] < SUSPECT
    moved = seen(3, [1, 0, 0], **{name: row[::-1] for name, row in rows.items()}, z=[4, 2, 2])
    assert scored(first, again, moved)["z"] == 1


def test_zeros_are_not_suspect_and_do_not_make_one_forget():
    """Who is idle between two strikes is known again; many zeros are no crowd."""
    rows = {"a": [1, 0, 0], "b": [5, 4, 0], "c": [0, -1, 2], "d": [-1, 1, 1]}
    strike = seen(1, [0, 0, 0], **rows, y=[0, 0, 0], z=[6, 2, 2])
    low = seen(2, [2, 1, 0], **rows, x=[0, 0, 0], y=[0, 0, 0], z=[0, 0, 0])
    assert {scored(strike, low)[name] for name in "xyz"} == {0}
    again = seen(3, [1, 0, 0], **{name: row[::-1] for name, row in rows.items()}, z=[4, 2, 2])
    assert scored(strike, low, again)["z"] == 1


def test_an_update_that_moved_the_mean_alone_is_no_fixed_point():
    """The model went where z pushed it. That z pushes no longer is no pull to where it was."""
    rows = {"a": [1, 0, 0], "b": [5, 4, 0], "c": [0, -1, 2], "d": [-1, 1, 1]}
    first = seen(1, [0, 0, 0], **rows, z=[0, 0, 1000])
    second = seen(2, [0, 0, 200], **{n: row[::-1] for n, row in rows.items()}, z=[1, 0, 0])
    assert scored(first, second)["z"] < SUSPECT


def test_what_is_not_finite_is_suspect_at_once_but_not_of_most_nor_in_a_ruined_model():
    """NaN among finite updates is no honest training; where the model is huge it may be."""
    nan, fine = [np.nan, 0], {"a": [1, 0], "b": [0, 1], "c": [-1, 3]}
    assert scored(seen(1, [1, 1], **fine, z=nan))["z"] == 1
    assert scored(seen(1, [np.inf, 1], **fine, z=nan))["z"] == 0
    assert scored(seen(1, [1, 1], a=[1, 0], x=nan, y=nan, z=nan))["z"] == 0
    assert scored(seen(1, [1, 1], **fine), seen(2, [99, 1], **fine, z=nan))["z"] == 0


def test_twins_are_no_crowd_and_a_majority_is_the_honest():
    """Two agents with the same data send the same; and where most agree, they are not flagged."""
    others = {"a": [1, 0, 0], "b": [5, 4, 0], "c": [0, -1, 2], "d": [-1, 1, 1]}
    twins = scored(seen(1, [0, 0, 0], **others, x=[1, 2, 3], y=[2, 4, 6]))
    assert max(twins.values()) < SUSPECT
    triplets = scored(seen(1, [0, 0, 0], **others, x=[1, 2, 3], y=[2, 4, 6], z=[1, 2, 3]))
    assert {name for name, score in triplets.items() if score >= SUSPECT} == {"x", "y", "z"}
    most = {name: [1, 2, 3] for name in "pqrst"}
    assert max(scored(seen(1, [0, 0, 0], **others, **most)).values()) < SUSPECT
