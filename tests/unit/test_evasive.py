"""Attackers who train against the judge: each part by hand, and what a strike of theirs does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.federation import one_thread  # noqa: F401 - a fixture
from support.worlds import TASK
from test_backdoors import armed, called, digits, held, share_of, strike, trained, world

from fedjury import attacks, judges
from fedjury.attacks.evasive import allowances, imagined, probabilities, soft_profile, votes
from fedjury.judges.judgements import Judgements
from fedjury.learning.error_profiles import error_profile
from fedjury.learning.evaluation import predict

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_soft_profile_by_hand():
    """Of three samples labelled 0, 1, 1 with so much for 0 and 1: what is missing, and where."""
    found = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    # Class 0 lacks 0.1, class 1 lacks 0.4; 0.4 is wrongly called 0, and 0.1 wrongly 1.
    np.testing.assert_allclose(soft_profile(found, labels), [0.1, 0.4, 0.4, 0.1], rtol=1e-6)
    twice = soft_profile(found, labels, torch.tensor([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(twice, [0.1, 0.8, 0.8, 0.1], rtol=1e-6)


def test_of_sure_answers_the_soft_profile_is_the_counted_one():
    """Where all of a model's probability is on one class, errors are whole, and the same."""
    rng = np.random.default_rng(0)
    answers, labels = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    sure = torch.from_numpy(np.where(np.eye(4)[answers] > 0, 60.0, -60.0).astype(np.float32))
    soft = soft_profile(probabilities(sure), torch.from_numpy(labels))
    np.testing.assert_allclose(soft, error_profile(answers, labels, 4), atol=1e-5)


def test_a_single_output_is_that_of_class_one():
    """An output of 0 leaves both classes at one half; log 3 gives three quarters to class 1."""
    found = probabilities(torch.tensor([[0.0], [float(np.log(3))]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)


def at_most(*limits):
    """Make a judge that rejects models with more new errors of a kind than its limit."""

    def judge(accepted, candidates):
        score = (candidates - accepted[:, -1] - np.array(limits)).max(axis=1).astype(float)
        nothing = np.zeros((len(score), 0))
        return Judgements(score > 0, score, np.zeros(len(score)), nothing)

    return judge


def test_allowances_are_what_the_judge_lets_pass():
    """Bisection finds each limit, none below 0 and none above what was asked for."""
    accepted = np.zeros((2, 3, 4), np.int64)
    accepted[:, -1] = [[9, 0, 3, 1], [2, 2, 2, 2]]
    found = allowances(at_most(0, 3, 17, 500), accepted, 100)
    np.testing.assert_array_equal(found, [[0, 3, 17, 100]] * 2)


def test_votes_are_shares_of_the_imagined_jury():
    """Of two validators the first sees two more errors, the second three: one half at limit 2."""
    accepted = np.zeros((2, 1, 2), np.int64)
    candidates = np.array([[[2, 0], [0, 0]], [[3, 0], [0, 0]]])
    np.testing.assert_array_equal(votes(at_most(2, 2), accepted, candidates), [0.5, 0.0])
    np.testing.assert_array_equal(votes(at_most(1, 1), accepted, candidates), [1.0, 0.0])


def test_an_imagined_jury_holds_parts_of_what_is_there():
    """No sample twice, never more than is there; another round imagines others."""
    labels = np.array([3] * 30 + [5] * 10)
    jury = imagined(labels, 12, 10, called(3))
    assert len(jury) == 12
    for places in jury:
        assert len(set(places.tolist())) == len(places) <= 40
        assert len(places)
    shares = [float(np.mean(labels[places] == 5)) for places in jury]
    assert min(shares) < 0.2 < max(shares)  # some lack the rarer class, others hold most of it
    again, other = (imagined(labels, 12, 10, called(number)) for number in (3, 4))
    assert all(np.array_equal(one, two) for one, two in zip(jury, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(jury, other, strict=True))


JUDGE = judges.build("calibrated", minimum_history=5)


def submitted(name, judge=JUDGE, **options):
    """Return how strongly attackers strike a good model, and the model that they aim at."""
    told: list[float] = []
    blow = strike(judge=judge, learning_rate=0.1)
    there = world(blow)._replace(send=lambda _round, strength: told.append(strength))
    asked = called(contributors=1)
    delta = attacks.build(name, there, options)(trained()[-1], asked)[0]
    return told[0], trained()[-1] + delta


def own_success(model):
    """Return the share of the attackers' own samples of the source class called the target."""
    pool = held().ravel()
    poisoned, _ = armed().poison(digits().x_train[pool], digits().y_train[pool])
    answers = predict(world().model, model, torch.from_numpy(poisoned), TASK)
    return np.mean(answers == armed().target)


@pytest.mark.parametrize("judge", [JUDGE, at_most(*[5] * 20)], ids=["calibrated", "five errors"])
def test_training_against_the_judge_gets_more_in_than_backing_down(monkeypatch, judge):
    """Of the same jury's votes: with ways to train it has more of the backdoor than without."""
    strength, trained_against = submitted("evasive", judge)
    monkeypatch.setattr("fedjury.attacks.evasive.REACHES", ())
    _, backed_down = submitted("evasive", judge)
    assert strength > 0
    assert own_success(trained_against) > own_success(backed_down)


def test_what_it_submits_its_jury_lets_pass():
    """The jury that it imagines, asked once more, rejects the model no more often than allowed."""
    _, model = submitted("evasive", rejected=0.2, honest_part=False)
    pool = held().ravel()
    labels = digits().y_train[pool]
    jury = imagined(labels, 20, 10, called())
    seen = world().data.x[pool]

    def counted(weights):
        answers = predict(world().model, weights, seen, TASK)
        return [error_profile(answers[own], labels[own], 10) for own in jury]

    accepted = np.stack([counted(weights) for weights in trained()], axis=1)
    assert votes(JUDGE, accepted, np.array(counted(model))[:, None])[0] <= 0.2


def test_it_stands_down_where_nothing_passes():
    """Before a judge that rejects everything it trains honestly, and says so."""
    strength, model = submitted("evasive", at_most(*[-1] * 20))
    honest = attacks.honest.honest(world())(trained()[-1], called(contributors=1))[0]
    assert strength == 0
    np.testing.assert_array_equal(model, trained()[-1] + honest)


def test_before_a_judge_that_lets_all_pass_most_of_the_backdoor_wins():
    """Where nothing is rejected nine in ten of the trial are called the target."""
    _, model = submitted("evasive", at_most(*[10**6] * 20))
    assert share_of(strike().backdoor, model) >= 0.9


@pytest.mark.parametrize("wrong", [{"jury": 0}, {"rejected": 1.5}, {"penalty": -1.0}])
def test_options_that_make_no_sense_are_refused(wrong):
    """The sentence says what they must be."""
    with pytest.raises(ValueError, match="jury >= 1, rejected 0 to 1 and penalty >= 0"):
        attacks.build("evasive", world(), wrong)
