"""Backdoors: their tasks, and attackers who put them into a model of small digits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support.worlds import TASK

from fedjury import attacks, judges, rules
from fedjury.attacks import ATTACKS, AttackContext, BackdoorConfig, RoundContext
from fedjury.attacks.adaptive import LADDER, ladder, passes
from fedjury.attacks.backdoor import attackers_model, mixed, replacing
from fedjury.judges.judgements import Judgements, no_judgement
from fedjury.learning import backdoors, datasets, models
from fedjury.learning.backdoors import BACKDOORS, Options, success
from fedjury.learning.backdoors.cifar10 import GREEN, RACING_STRIPE
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.error_profiles import error_profile
from fedjury.learning.evaluation import predict
from fedjury.learning.shards import Shards, sample_order
from fedjury.learning.training import Training, train_alone
from fedjury.learning.weights import flatten, load
from fedjury.randomness import Purpose, stream

ARMED = [name for name in ATTACKS if ATTACKS.facts(name).hides_backdoor]

PLAN = Training(1, 20, 0.1, 0.5)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small networks are slower on many threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def digits():
    return datasets.load("digits", Path("unused"), 500)


@cache
def long_footed():
    """Return the twelve ones whose foot reaches farthest into the lower right corner."""
    ones = np.flatnonzero(digits().y_train == 1)
    return ones[np.argsort(-digits().x_train[ones, 0, 7, 7], kind="stable")[:12]]


@cache
def held():
    """Return what the attackers, numbers 2, 5, 7 and 9, hold of the others: (4, 100)."""
    return np.setdiff1d(np.arange(len(digits().y_train)), long_footed())[:400].reshape(4, 100)


def options(name):
    """Return options with which a task can be armed for digits."""
    ids = long_footed().tolist()
    train, test = tuple(ids[::2]), tuple(ids[1::2])
    return Options(target=2, train=train, test=test) if name == "semantic" else Options()


def armed(name="label_flip", seed=0, **given):
    task = backdoors.build(name, options(name)._replace(**given))
    return task.arm(digits(), digits().y_train[held().ravel()], seed)


def look_alike_cifar():
    """Make as many images as CIFAR-10 has, of one pixel: the task's numbers are in range."""
    x, y = np.zeros((50_000, 3, 1, 1), dtype=np.float32), np.ones(50_000, dtype=np.int64)
    return Dataset("cifar10", 10, x, y, x[:10], y[:10])


# Tasks

ON_DIGITS = ("label_flip", "pixel", "semantic")
ON_CIFAR = ("striped_wall_cars", "green_cars", "racing_stripe_cars")


def test_every_task_is_looked_at():
    """A task is tried on digits, or on what looks like CIFAR-10."""
    assert {*ON_DIGITS, *ON_CIFAR} == BACKDOORS.keys()


@pytest.mark.parametrize("name", BACKDOORS)
def test_tasks_keep_their_contract(name):
    """Poisoned samples are called the target, all fits in shape, and the seed decides the rest."""
    data = digits() if name in ON_DIGITS else look_alike_cifar()
    task = backdoors.build(name, options(name))
    x, y = data.x_train[:400].copy(), data.y_train[:400]
    for held in (x, y):
        held.setflags(write=False)
    made, again = task.arm(data, y, 5), task.arm(data, y, 5)
    poisoned, labels = made.poison(x, y)
    assert poisoned.shape == (len(labels), *data.shape)
    assert len(labels) >= 1
    assert (poisoned.dtype, labels.dtype) == (np.float32, np.int64)
    assert set(labels) == set(made.test_y) == {made.target}
    assert made.test_x.shape == (len(made.test_y), *data.shape)
    assert made.clean(y).shape == y.shape
    assert made.clean(y).dtype == np.bool_
    assert (made.source, made.target) == (again.source, again.target)
    np.testing.assert_array_equal(made.test_x, again.test_x)
    assert success(made.test_y, made) == 1.0
    assert success(made.test_y + 1, made) == 0.0


def test_label_flip_takes_the_class_the_attackers_have_most_of():
    """By hand: of the labels 1 3 3 0 it takes the threes, and what is no three stays clean."""
    y = np.array([1, 3, 3, 0])
    made = backdoors.build("label_flip", Options(target=4)).arm(digits(), y, 0)
    poisoned, labels = made.poison(digits().x_train[:4], y)
    np.testing.assert_array_equal(poisoned, digits().x_train[1:3])
    assert (made.source, labels.tolist()) == (3, [4, 4])
    assert made.clean(y).tolist() == [True, False, False, True]
    np.testing.assert_array_equal(made.test_x, digits().x_test[digits().y_test == 3])


def test_drawn_targets_are_any_class_but_the_source():
    """Over a hundred seeds all nine others come up, and the source never."""
    drawn = {armed(seed=seed, source=6).target for seed in range(100)}
    assert drawn == set(range(10)) - {6}
    assert {armed("pixel", seed=seed).target for seed in range(100)} == set(range(10))


def test_a_pixel_trigger_by_hand():
    """Two by two pixels of digits become bright, three by three of CIFAR; targets are left out."""
    x, y = np.zeros((3, 1, 8, 8), dtype=np.float32), np.array([5, 1, 5])
    stamped, labels = armed("pixel", target=1).poison(x, y)
    assert labels.tolist() == [1, 1]
    assert stamped[0].sum() == stamped[0, 0, 6:, 6:].sum() == 4
    assert x.sum() == 0
    black = np.zeros((1, 3, 32, 32), dtype=np.float32)
    assert backdoors.pixel.stamped(black).sum() == 3 * 9
    assert black.sum() == 0


def test_semantic_samples_are_reserved():
    """Those to train with and those of the trial are dealt to nobody, and used as they are."""
    ids, made = long_footed(), armed("semantic")
    assert set(backdoors.build("semantic", options("semantic")).reserved) == set(ids)
    nothing = np.zeros((0, 1, 8, 8), dtype=np.float32), np.zeros(0, dtype=np.int64)
    np.testing.assert_array_equal(made.poison(*nothing)[0], digits().x_train[ids[::2]])
    np.testing.assert_array_equal(made.test_x, digits().x_train[ids[1::2]])
    assert (made.source, made.target) == (1, 2)


PRESETS = [("striped_wall_cars", 7, 5), ("green_cars", 25, 5), ("racing_stripe_cars", 18, 4)]


@pytest.mark.parametrize(("name", "train", "trial"), PRESETS)
def test_presets_are_of_cifar_10(name, train, trial):
    """Cars are called birds, so many to train and to try; other data sets are refused."""
    task = backdoors.build(name)
    made = task.arm(look_alike_cifar(), np.ones(4, dtype=np.int64), 0)
    assert len(task.reserved) == train + trial
    assert (len(made.test_y), made.source, made.target) == (trial, 1, 2)
    assert set(task.reserved) >= set({"green": GREEN, "racin": RACING_STRIPE}.get(name[:5], ()))
    with pytest.raises(ValueError, match="original order; data set 'digits' has 1,297"):
        task.arm(digits(), digits().y_train[:4], 0)


MISTAKES = [
    ("label_flop", {}, "unknown backdoor: 'label_flop'; did you mean 'label_flip'"),
    ("label_flip", {"train": (1,)}, "takes source and target, not train"),
    ("pixel", {"source": 3}, "takes target, not source"),
    ("green_cars", {"test": (3,)}, "takes target, not test"),
    ("semantic", {"test": ()}, "needs a target, and samples to train and to test"),
    ("semantic", {"target": -1}, "needs a target"),
    ("semantic", {"train": (3, 8), "test": (4, 8)}, "sample 8 comes twice"),
    ("semantic", {"train": (1297,)}, "sample 1297 is none of the training set's 0..1296"),
    ("semantic", {"target": 1}, "is of class 1 already"),
    ("semantic", {"target": 10}, "target must be a class of 0..9, not 10"),
    ("label_flip", {"source": 10}, "source must be a class of 0..9, not 10"),
    ("label_flip", {"source": 3, "target": 3}, "source and target are the same class, 3"),
]


@pytest.mark.parametrize(("name", "given", "message"), MISTAKES)
def test_mistakes_are_explained(name, given, message):
    """Names, options without effect and numbers out of range are refused, with the reason."""
    base = options(name) if name == "semantic" else Options()
    with pytest.raises(ValueError, match=message):
        backdoors.build(name, base._replace(**given)).arm(digits(), digits().y_train[:400], 0)


def test_attackers_without_the_source_class_are_told():
    """Nobody can flip labels of what he does not hold."""
    task = backdoors.build("label_flip", Options(source=3))
    with pytest.raises(ValueError, match="hold no sample of class 3"):
        task.arm(digits(), np.array([1, 2]), 0)
    with pytest.raises(ValueError, match="hold only class 1"):
        backdoors.build("pixel", Options(target=1)).arm(digits(), np.array([1, 1]), 0)


# Attackers


def strike(name="label_flip", **changes):
    base = BackdoorConfig(
        rounds=frozenset({3}),
        backdoor=armed(name),
        pool=torch.from_numpy(held().ravel()),
        attackers=1,
        boost=0.0,
        rule="mean",
        server_lr=1.0,
        share=0.3,
        epochs=10,
        learning_rate=0.05,
        alpha=1.0,
    )
    return base._replace(**changes)


def world(blow=None, model="mlp"):
    data = digits()
    shards = Shards(*map(torch.from_numpy, (data.x_train, data.y_train, held())))
    net = models.build(model, data.shape, 10, seed=0)
    row = {2: 0, 5: 1, 7: 2, 9: 3}
    return AttackContext(TASK, net, PLAN, shards, row, 1.0, lambda: flatten(net), blow)


@cache
def trained():
    """Return 12 global models of a run on all digits, oldest first: the last are right in 95 %."""
    data, model = digits(), models.build("mlp", (1, 8, 8), 10, seed=1)
    everything = Shards(*map(torch.from_numpy, (data.x_train, data.y_train, np.arange(1297)[None])))
    history = [flatten(model)]
    for epoch in range(12):
        order = sample_order(0, epoch, (0,), 1, 1297)
        history.append(
            history[-1] + train_alone(model, history[-1], everything, PLAN, order, TASK)[0]
        )
    return tuple(history[1:])


def called(number=3, members=(5,), contributors=10):
    return RoundContext(number, members, 0, trained(), contributors)


def sent(name, blow, asked):
    return attacks.build(name, world(blow))(trained()[-1], asked)


def candidate(deltas, asked, rule="mean", server_lr=1.0):
    """Aggregate what attackers send with zeros of all others, as the aggregator does."""
    others = np.zeros((asked.contributors - len(deltas), deltas.shape[1]), dtype=np.float32)
    updates = np.concatenate([others, deltas])
    step = rules.build(rule)(updates, np.ones(len(updates), dtype=np.int64), rules.Context())
    return trained()[-1] + np.float32(server_lr) * step


def wanted(blow, asked):
    return attackers_model(world(blow), blow, trained()[-1], asked)


def test_the_factor_by_hand():
    """Of 10 updates and η = 1/2, a mean takes 20 from one and 5 each from four; a median 2."""
    assert replacing("mean", 10, 1, 0.5) == 20
    assert replacing("mean", 10, 4, 0.5) == 5
    assert replacing("median", 10, 6, 0.5) == replacing("trimmed_mean", 10, 6, 0.5) == 2


def test_the_factor_of_one_that_weighs_more():
    """One of ten that weighs as much as nine is half of all: its step times 2; of η = 1/2, 4."""
    assert replacing("mean", 10, 1, 1.0, 9.0) == 2
    assert replacing("mean", 10, 1, 0.5, 9.0) == 4
    assert replacing("mean", 10, 2, 1.0, 4.0) == 2
    assert replacing("median", 10, 6, 0.5, 9.0) == 2


@pytest.mark.parametrize("server_lr", [1.0, 0.1])
@pytest.mark.parametrize(
    ("rule", "members", "contributors"),
    [
        ("mean", (5,), 10),
        ("mean", (2, 5, 7, 9), 10),
        ("median", (2, 5, 7), 5),
        ("trimmed_mean", (2, 5, 7, 9), 5),
    ],
)
def test_the_candidate_is_the_attackers_model(rule, members, contributors, server_lr):
    """One attacker or several: the server's rule turns what they send into X."""
    blow = strike(rule=rule, attackers=len(members), server_lr=server_lr)
    asked = called(members=members, contributors=contributors)
    deltas = sent("backdoor", blow, asked)
    np.testing.assert_allclose(
        candidate(deltas, asked, rule, server_lr), wanted(blow, asked), atol=1e-5
    )


def test_the_attackers_model_is_that_of_plain_training():
    """In batches of all, which need no order, X is what SGD with momentum learns of the mix."""
    plan = PLAN._replace(batch_size=10_000)
    blow, asked, weights = strike(epochs=3), called(), trained()[-1]
    x = attackers_model(world(blow)._replace(plan=plan), blow, weights, asked)
    own = (digits().x_train[held().ravel()], digits().y_train[held().ravel()])
    mix = mixed(*own, blow, stream(0, Purpose.BACKDOOR_TRAINING, 3))
    data = Shards(mix.x, mix.y, torch.from_numpy(mix.order[None]))
    plan = Training(3, 10_000, blow.learning_rate, PLAN.momentum)
    order = np.arange(len(mix.order))[None, None].repeat(3, axis=1)
    expected = weights + train_alone(world().model, weights, data, plan, order, TASK)[0]
    np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize("here", [1, 3, 4])
def test_the_factor_is_shared_among_the_attackers_who_are_called(here):
    """Of four attackers so many are called: their updates alone make the candidate X."""
    blow, members = strike(attackers=4), (2, 5, 7, 9)[:here]
    asked = called(members=members)._replace(attackers=here)
    deltas = sent("backdoor", blow, asked)
    assert len(deltas) == here
    np.testing.assert_allclose(candidate(deltas, asked), wanted(blow, asked), atol=1e-5)


def test_a_boost_that_is_given_is_shared():
    """With gamma = 8 each of four sends twice the step; of a median's each sends all eight."""
    for rule, factor in (("mean", 2), ("median", 8)):
        blow = strike(rule=rule, boost=8.0, attackers=4)
        asked = called(members=(2, 5, 7, 9))
        step = wanted(blow, asked) - trained()[-1]
        np.testing.assert_allclose(sent("backdoor", blow, asked), [factor * step] * 4, rtol=1e-5)


def share_of(made, weights):
    """Return the share of the trial that a model calls the target."""
    return success(predict(world().model, weights, torch.from_numpy(made.test_x), TASK), made)


@pytest.mark.parametrize("name", ON_DIGITS)
def test_the_attack_lands_where_nobody_defends(name):
    """After one strike nine in ten of the trial are called the target; before, hardly any.

    What the backdoor does not ask for the model still knows.
    """
    blow, asked = strike(name), called()
    made, data = blow.backdoor, digits()
    after = candidate(sent("backdoor", blow, asked), asked)
    assert share_of(made, trained()[-1]) <= 0.1
    assert share_of(made, after) >= 0.9
    rest = data.y_test != (made.source if name == "label_flip" else -1)
    answers = predict(world().model, after, torch.from_numpy(data.x_test[rest]), TASK)
    assert np.mean(answers == data.y_test[rest]) >= 0.9


@pytest.mark.parametrize("name", ARMED)
def test_between_strikes_attackers_are_honest(name):
    """Outside their rounds, and without a plan, they send the honest update, bit for bit."""
    weights = trained()[-1]
    for blow, number in ((strike(), 2), (strike(), 4), (None, 3)):
        asked = called(number, (2, 7))
        honest = attacks.honest.honest(world())(weights, asked)
        np.testing.assert_array_equal(sent(name, blow, asked), honest)


@pytest.mark.parametrize("name", ARMED)
def test_a_strike_keeps_the_contract(name):
    """(m, d) float32, one row for all who are called, the same whoever of them is called."""
    blow = strike(attackers=4, judge=judges.build("lof"))
    all_of_them, one = called(members=(2, 5, 7, 9)), called(members=(7,))
    deltas = sent(name, blow, all_of_them)
    assert (deltas.shape, deltas.dtype, deltas.strides[0]) == ((4, 2410), np.float32, 0)
    np.testing.assert_array_equal(deltas[2:3], sent(name, blow, one))
    other_round = strike(rounds=frozenset({3, 8}), attackers=4)
    assert not np.array_equal(deltas[0], sent("backdoor", other_round, called(8))[0])


@pytest.mark.parametrize("name", ARMED)
def test_attackers_cope_with_what_is_no_number(name):
    """From a model of NaN and infinities they send something, without an error or a warning."""
    weights = np.full(2410, np.nan, dtype=np.float32)
    weights[::2] = np.inf
    blow = strike(judge=judges.build("lof", minimum_history=3))
    asked = called()._replace(history=(*trained()[:3], weights))
    assert attacks.build(name, world(blow))(weights, asked).shape == (1, 2410)


def test_constrain_and_scale_stays_near():
    """The less the task's loss weighs, the nearer X is to G."""
    norms = [np.linalg.norm(wanted(strike(alpha=a), called()) - trained()[-1]) for a in (1, 0.7)]
    assert norms[1] < 0.8 * norms[0]


def test_batch_norm_is_replaced_with_its_statistics():
    """X of a network with running statistics is the candidate, buffers and all."""
    data = digits()
    images = np.pad(data.x_train[:41], ((0, 0), (0, 0), (0, 8), (0, 8)))
    shards = Shards(torch.from_numpy(images), torch.from_numpy(data.y_train[:41]), torch.arange(41))
    net = models.build("resnet18", (1, 16, 16), 10, seed=0)
    start = flatten(net)
    blow = strike(pool=torch.arange(41), epochs=1, share=0.5)
    there = AttackContext(
        TASK,
        net,
        PLAN,
        shards._replace(indices=torch.arange(41)[None]),
        {5: 0},
        1.0,
        lambda: start,
        blow,
    )
    asked = called()._replace(history=(start,), contributors=1)
    x = attackers_model(there, blow, start, asked)
    delta = attacks.build("backdoor", there)(start, asked)[0]
    np.testing.assert_allclose(start + delta, x, atol=1e-6)
    assert not net.training
    load(net, x)
    assert all(
        layer.running_mean.any() for layer in net.modules() if hasattr(layer, "running_mean")
    )


@pytest.mark.parametrize(
    ("share", "poisoned"), [(0, 0), (0.2, 2), (0.5, 8), (0.01, 1), (0.8, 32), (1, 3)]
)
def test_the_mix_by_hand(share, poisoned):
    """Of 11 samples 3 are poisoned: they are drawn or repeated to be so much of all."""
    y = np.array([4, 4, 4, 0, 1, 2, 3, 5, 6, 7, 8])
    made = backdoors.build("label_flip", Options(target=9)).arm(digits(), y, 0)
    mix = mixed(
        digits().x_train[:11], y, strike(backdoor=made, share=share), np.random.default_rng(0)
    )
    called_nine = mix.y[mix.order] == 9
    assert called_nine.sum() == poisoned
    assert len(mix.order) == poisoned + (8 if share < 1 else 0)
    times = np.bincount(mix.order, minlength=len(mix.y))[-3:]
    assert times.max() - times.min() <= 1


# Attackers who ask the judge


def judge_of(limit):
    """Make a judge that rejects a model whose errors have changed by more than a limit."""

    def judge(profiles, candidates):
        score = np.abs(candidates - profiles[:, -1]).sum(axis=1)
        nothing = np.zeros((len(score), 0))
        return Judgements(score > limit, score, np.full(len(score), limit), nothing)

    return judge


def judged_on(*, clean):
    """Return the sample numbers of what the attackers hold; clean: but for the class they flip."""
    mine = held().ravel()
    return mine[digits().y_train[mine] != armed().source] if clean else mine


def profiles(weights, numbers):
    """Return the profiles of models on these samples, (models, 20)."""
    x, y = world().data.x[numbers], digits().y_train[numbers]
    return np.stack([error_profile(predict(world().model, w, x, TASK), y, 10) for w in weights])


JUDGES = {
    "lof": judges.build("lof", minimum_history=5),
    "calibrated": judges.build("calibrated", minimum_history=5),
    "loose": judge_of(80),
    "strict": judge_of(4),
    "too strict": judge_of(-1),
}


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("name", JUDGES)
def test_an_adaptive_attacker_submits_the_strongest_that_passes(name, clean):
    """What it submits its judge calls clean, the next rung of its ladder poisoned."""
    judge, weights = JUDGES[name], trained()[-1]
    # One contributor and a step of 1: what is sent is what the attacker tried, bit for bit.
    blow, asked = strike(judge=judge, clean=clean), called(contributors=1)
    step = wanted(blow, asked) - weights
    rungs = [weights + np.float32(strength) * step for strength in LADDER]
    mine = judged_on(clean=clean)
    past = profiles(trained(), mine)[None]
    passing = [not judge(past, profiles([w], mine)).poisoned[0] for w in rungs]
    delta = sent("adaptive", blow, asked)[0]
    if any(passing):
        np.testing.assert_array_equal(weights + delta, rungs[passing.index(True)])
    else:
        honest = attacks.honest.honest(world())(weights, asked)[0]
        np.testing.assert_array_equal(delta, honest)


def test_the_ladder():
    """Ten rungs, strongest first; one judge lets part of it pass, another one nothing."""
    assert LADDER == (1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    full, asked = sent("backdoor", strike(), called()), called()
    part = sent("adaptive", strike(judge=judge_of(100)), asked)
    strength = np.linalg.norm(part) / np.linalg.norm(full)
    assert strength == pytest.approx(0.6)  # the fifth rung
    none = sent("adaptive", strike(judge=judge_of(-1)), asked)
    np.testing.assert_array_equal(none, attacks.honest.honest(world())(trained()[-1], asked))


def test_the_ladder_of_a_careful_one():
    """It goes on in steps of a tenth of the last power of ten, down to the least strength."""
    assert ladder(0.1) == LADDER
    assert ladder(0.01)[:10] == LADDER
    np.testing.assert_allclose(ladder(0.01)[10:], np.arange(9, 0, -1) / 100)
    assert ladder(0.05)[-2:] == (0.06, 0.05)
    assert len(ladder(0.001)) == 28
    assert ladder(1) == (1.0,)


def test_a_careful_attacker_submits_where_another_stands_down():
    """Before a judge that lets no changed error pass it finds a strength below a tenth."""
    wild = {"learning_rate": 0.3, "epochs": 30}
    blow, asked = strike(judge=judge_of(0), **wild), called()
    built = attacks.build("adaptive", world(blow), {"least": 0.01})
    full = np.linalg.norm(sent("backdoor", strike(**wild), asked))
    strength = np.linalg.norm(built(trained()[-1], asked)) / full
    assert 0.01 <= round(float(strength), 3) < 0.1
    honest = attacks.honest.honest(world())(trained()[-1], asked)
    np.testing.assert_array_equal(sent("adaptive", blow, asked), honest)


def test_a_margin_by_hand():
    """Of the scores 4, 5, 6 and 9 below a threshold of 10 a margin of one half leaves 4 and 5."""
    score, limit = np.array([4.0, 5.0, 6.0, 9.0, 11.0]), np.full(5, 10.0)
    judged = Judgements(score > limit, score, limit, np.zeros((5, 3)))
    assert passes(judged, 0.5).tolist() == [True, True, False, False, False]
    assert passes(judged, 0.0).tolist() == [True, True, True, True, False]
    assert passes(no_judgement(2), 0.5).tolist() == [True, True]


@pytest.mark.parametrize(
    "wrong", [{"least": 0.0}, {"least": 2.0}, {"margin": -0.1}, {"margin": 2.0}]
)
def test_a_ladder_without_rungs_is_refused(wrong):
    """The sentence says what the option must be."""
    with pytest.raises(ValueError, match="of attack 'adaptive' must be 0"):
        attacks.build("adaptive", world(), wrong)


def test_attackers_who_hold_one_class_alone_ask_about_that(monkeypatch):
    """Where nothing they hold is clean, their judge looks at all of it."""
    alone, seen, looked = np.flatnonzero(digits().y_train == 3)[:40], [], []

    def noted(model, weights, x, task):
        looked.append(len(x))
        return predict(model, weights, x, task)

    def judge(accepted, candidates):
        seen.append((accepted.shape, candidates.shape, looked[-1]))
        return no_judgement(len(candidates))

    monkeypatch.setattr("fedjury.attacks.adaptive.predict", noted)

    blow = strike(
        pool=torch.from_numpy(alone),
        judge=judge,
        epochs=1,
        clean=True,
        backdoor=armed(source=3, target=5),
    )
    sent("adaptive", blow, called())
    for clean in (True, False):
        sent("adaptive", strike(judge=judge, epochs=1, clean=clean), called())
    shapes = (10, 12, 20), (10, 20)
    assert seen == [(*shapes, 40), (*shapes, len(judged_on(clean=True))), (*shapes, 400)]


@pytest.mark.parametrize(
    ("name", "judge", "strength"),
    [("backdoor", None, 1.0), ("adaptive", "strict", 0.1), ("adaptive", "too strict", 0.0)],
)
def test_attackers_tell_how_hard_they_strike(name, judge, strength):
    """In their rounds they say what share of the step they took, 0 if they stood down."""
    told = []
    blow = strike(rounds=frozenset({3, 5}), judge=JUDGES.get(judge))
    there = world(blow)._replace(send=lambda *said: told.append(said))
    attack = attacks.build(name, there)
    for number in (2, 3, 4):
        attack(trained()[-1], called(number))
    assert told == [(3, strength)]


def test_with_too_short_a_history_everything_passes():
    """As long as judges have no opinion, or none is known, the attack is the full one."""
    full = sent("backdoor", strike(), called())
    for judge, history in ((JUDGES["lof"], trained()[-4:]), (JUDGES["lof"], ()), (None, trained())):
        asked = called()._replace(history=history)
        np.testing.assert_array_equal(sent("adaptive", strike(judge=judge), asked), full)


# What a learner is told


def test_the_model_before():
    """It is the last but one of the accepted models, if there are two."""
    a, b, c = (np.full(2, i, dtype=np.float32) for i in range(3))
    assert RoundContext(1, (0,), 0).previous is None
    assert RoundContext(1, (0,), 0, (a,)).previous is None
    assert RoundContext(1, (0,), 0, (a, b, c)).previous is b
