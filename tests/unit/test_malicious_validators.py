"""Liars: what each says, by hand, and that the numbers they make up can be believed."""

from __future__ import annotations

import numpy as np
import pytest
from support.worlds import TASK

from fedjury import judges
from fedjury.attacks import validators
from fedjury.attacks.validators import VOTE_ATTACKS, Turn
from fedjury.attacks.validators.believable import believable
from fedjury.attacks.validators.invented import Inventor
from fedjury.judges import judgements
from fedjury.judges.judgements import Judgements

HONEST = np.array([False, True, False, True])
"""Two who find the candidate clean, and two who find it poisoned."""


def turn(*, struck, members=(2, 3, 5, 7), number=4, seed=0):
    return Turn(number, 1, members, seed, struck)


SAYS = {
    ("always_accept", True): "0000",
    ("always_accept", False): "0000",
    ("always_reject", True): "1111",
    ("always_reject", False): "1111",
    ("honest", True): "0101",
    ("honest", False): "0101",
    ("hide", True): "0000",
    ("hide", False): "0101",
    ("deny", True): "0101",
    ("deny", False): "1111",
    ("invert", True): "0000",
    ("invert", False): "1111",
    ("deny_group", True): "0000",
    ("deny_group", False): "1111",
    ("adaptive", True): "0000",
    ("adaptive", False): "0101",
}


def test_every_liar_is_looked_at():
    """The table of what they say has all but the one who tosses a coin."""
    assert {name for name, _ in SAYS} == VOTE_ATTACKS.keys() - {"random"}


@pytest.mark.parametrize(("name", "struck"), SAYS)
def test_what_liars_say(name, struck):
    """Each liar's verdicts, when its own side has struck and when not."""
    said = validators.build(name)(HONEST, turn(struck=struck))
    assert "".join(str(int(verdict)) for verdict in said) == SAYS[name, struck]


def test_those_who_deny_one_group_name_the_first_honest_one():
    """Of groups 2 and 5, which hold none of theirs, group 2; else their judge's own verdicts."""
    deny = validators.build("deny_group")
    for group, said in ((2, "1111"), (5, "0101"), (7, "0101")):
        asked = turn(struck=False)._replace(group=group, honest_groups=(2, 5))
        assert "".join(str(int(verdict)) for verdict in deny(HONEST, asked)) == said
    asked = turn(struck=True)._replace(group=0, honest_groups=(2, 5))
    assert not deny(HONEST, asked).any()


def test_an_adaptive_liar_denies_what_is_in_doubt():
    """It denies what is doubted by more than three quarters; never what its own side sent."""
    vote, doubts = validators.build("adaptive"), (0.0, 0.0, 0.75, 0.8)
    own = np.array([False, True, False, False])
    assert vote(own, turn(struck=False)._replace(doubts=doubts)).tolist() == [0, 1, 0, 1]
    assert vote(own, turn(struck=True)._replace(doubts=doubts)).tolist() == [0, 0, 0, 0]


def test_doubts_by_hand():
    """Of four accepted models 1, 3, 3 and 5 one looks better than a 2, and three than a 4."""
    evidence = np.array([[1, 3, 3, 5, 2], [1, 3, 3, 5, 4], [1, 3, 3, 5, 3], [0, 0, 0, 0, 0]], float)
    none = np.zeros(4)
    seen = Judgements(none > 0, none, none, evidence)
    assert judgements.doubts(seen).tolist() == [0.25, 0.75, 0.25, 0.0]
    assert judgements.doubts(judgements.no_judgement(2)).tolist() == [0, 0]


def test_doubts_of_a_judge_without_evidence():
    """Scores of -1, 2 and 9 have come no part, half and all of the way to a threshold of 4."""
    score, limit = np.array([-1.0, 2.0, 9.0]), np.full(3, 4.0)
    seen = Judgements(score > limit, score, limit, np.zeros((3, 0)))
    assert judgements.doubts(seen).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("name", VOTE_ATTACKS)
@pytest.mark.parametrize("struck", [False, True])
def test_liars_say_one_thing_each_and_write_nothing(name, struck):
    """There is a verdict of each, the same each time, and the honest ones are not written."""
    for many in (0, 1, 5):
        own = np.arange(many) % 2 == 1
        own.setflags(write=False)
        asked = turn(struck=struck, members=tuple(range(many)))
        said = validators.build(name)(own, asked)
        assert (said.dtype, said.shape) == (np.bool_, (many,))
        np.testing.assert_array_equal(validators.build(name)(own, asked), said)


# Numbers that fit


CASES = [("lof", {"reading": r}) for r in "ABCD"] + [("calibrated", {})]


@pytest.fixture(params=CASES, ids=str)
def judge(request):
    name, settings = request.param
    return judges.build(name, minimum_history=11, **settings)


def counted(validators_, models=11, samples=40, seed=0):
    """Make the errors of accepted models, (validators, models, 20)."""
    return np.random.default_rng(seed).binomial(samples, 0.02, (validators_, models, 20))


def rngs(many, seed=0):
    return [np.random.default_rng([seed, i]) for i in range(many)]


@pytest.mark.parametrize("samples", [4, 40, 500])
def test_numbers_fit_the_verdict(judge, samples):
    """Each opinion says what is wanted, by a score that is above its threshold or not."""
    wanted = np.arange(60) % 2 == 1
    said = believable(judge, counted(60, samples=samples), wanted, rngs(60), samples).judgements
    np.testing.assert_array_equal(said.poisoned, wanted)
    np.testing.assert_array_equal(said.score > said.threshold * (1 + 1e-9), wanted)
    assert all(np.isfinite(part).all() for part in said)
    if samples > 4:
        assert len(set(said.score.tolist())) > 40


@pytest.mark.parametrize(("name", "settings"), [CASES[0], CASES[1], CASES[2], CASES[4]], ids=str)
def test_a_lie_changes_the_candidate_alone(name, settings):
    """Threshold and evidence of accepted models are the true ones (in D all are of one set).

    But for the few with a history after which the judge calls every candidate poisoned.
    """
    judge, accepted = judges.build(name, minimum_history=11, **settings), counted(60)
    true = judge(accepted, accepted[:, -1])
    said = believable(judge, accepted, np.arange(60) % 2 == 1, rngs(60), 40).judgements
    kept = (said.evidence[:, :-1] == true.evidence[:, :-1]).all(axis=1)
    assert kept.sum() >= (60 if name == "calibrated" else 55)
    np.testing.assert_array_equal(said.threshold[kept], true.threshold[kept])


def test_a_lie_does_not_depend_on_who_else_lies(judge):
    """Bit for bit what each would say alone."""
    accepted, wanted = counted(9), np.arange(9) % 3 == 1
    together = believable(judge, accepted, wanted, rngs(9), 40).judgements
    for i in range(9):
        alone = believable(judge, accepted[[i]], wanted[[i]], rngs(9)[i : i + 1], 40).judgements
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_[i])


def test_before_the_history_is_full_clean_is_what_the_honest_say(judge):
    """Zeros and no evidence; who says "poisoned" then, which nobody honest does, makes up more."""
    said = believable(judge, counted(9, models=5), np.arange(9) % 3 == 1, rngs(9), 40).judgements
    clean = ~said.poisoned
    assert (said.poisoned.sum(), said.evidence.shape) == (3, (9, 0))
    assert not said.score[clean].any()
    assert not said.threshold.any()
    assert len(set(said.score[~clean])) == 3
    assert (said.score[~clean] > 0).all()


def stubborn(verdict):
    """Make a judge that says the same of everything, by three numbers of evidence."""

    def judge(accepted, candidates):
        many = len(candidates)
        columns = np.full(many, verdict), np.full(many, 2.0 + verdict), np.full(many, 2.5)
        return Judgements(*columns, np.tile([1.0, 2.0, 1.5 + verdict], (many, 1)))

    return judge


@pytest.mark.parametrize("verdict", [False, True])
def test_a_judge_that_is_never_of_that_opinion_is_overruled(verdict):
    """The score is put on the other side of the threshold, and the evidence with it."""
    said = believable(
        stubborn(verdict), counted(4), np.full(4, not verdict), rngs(4), 40
    ).judgements
    assert (said.poisoned != verdict).all()
    np.testing.assert_array_equal(said.score > said.threshold, said.poisoned)
    # Poisoned: above 2 + (2 - 1); clean: the mean of 1 and 2.
    assert (said.evidence[:, -1] == 1.5).all() if verdict else (said.evidence[:, -1] > 3).all()


def test_nobody_lies_about_nothing(judge):
    """Of no liars there are no opinions."""
    assert believable(
        judge, counted(0), np.zeros(0, np.bool_), [], 40
    ).judgements.poisoned.shape == (0,)


# Errors that are made up


def test_made_up_errors_are_errors():
    """Both halves add up to the same; from guessing they fall to a few in a hundred."""
    found = Inventor(3, 200, TASK).history(range(30), range(40))
    halves = found.reshape(30, 40, 2, 10).sum(axis=3)
    np.testing.assert_array_equal(halves[:, :, 0], halves[:, :, 1])
    rate = halves[:, :, 0].mean(axis=0) / 200
    assert rate[0] == pytest.approx(0.87, abs=0.03)  # versions swing, and nobody errs in all
    assert rate[20:] == pytest.approx(np.full(20, 0.04), abs=0.03)
    moved = np.abs(np.diff(found[:, 20:], axis=1)).sum(axis=2)
    assert 0 < moved.mean() < 0.1 * 200


def test_made_up_errors_are_of_agent_and_version_alone():
    """Another inventor makes up the same, whoever is asked with whom; other agents have others."""
    one, other = Inventor(3, 40, TASK), Inventor(3, 40, TASK)
    found = one.history([4, 7, 9], range(5, 16))
    other.history([9], [12])
    np.testing.assert_array_equal(other.history([7], range(10, 16))[0], found[1, 5:])
    one.forget(14)
    np.testing.assert_array_equal(one.history([4, 7, 9], range(5, 16)), found)
    rows = {row.tobytes() for agent in found for row in agent}
    assert len(rows) > 15
    assert (Inventor(4, 40, TASK).history([4], range(5, 16)) != found[:1]).any()


def test_a_coin_is_fair_and_everybodys_own():
    """Of 10,000 tosses half are poisoned, up to four deviations; another round's differ.

    An agent's coin does not depend on who else is asked.
    """
    toss, many = validators.build("random"), tuple(range(10_000))
    said = toss(np.zeros(10_000, np.bool_), turn(struck=False, members=many))
    assert abs(said.sum() - 5000) < 4 * 50
    other = toss(np.zeros(10_000, np.bool_), turn(struck=False, members=many, number=5))
    assert abs((said == other).sum() - 5000) < 4 * 50
    few = toss(np.zeros(2, np.bool_), turn(struck=False, members=(7, 4000)))
    np.testing.assert_array_equal(few, said[[7, 4000]])


def test_a_misspelt_vote_attack_is_explained():
    """The nearest name is offered."""
    with pytest.raises(ValueError, match="vote attack: 'always_acept'; did you mean 'always_acc"):
        validators.build("always_acept")
