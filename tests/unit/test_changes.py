"""What a candidate changes: answers, zero change vectors, and who is told what, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.by_hand import vote

from fedjury import judges
from fedjury.aggregator.console import RunConsole
from fedjury.attacks.validators.invented_changes import invented_changes
from fedjury.config.sections import Validation
from fedjury.learning.error_profiles import answers_changed, error_profile, sizes
from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.messages import Update
from fedjury.protocol.record import RoundRecord, Votes, read, to_json
from fedjury.reports.jury import still_share, untrusted
from fedjury.round import verdict


def test_answers_that_differ_are_counted():
    """Of five samples two are called something else; no class twice is the same answer."""
    assert answers_changed(np.array([0, 1, 2, -1, 2]), np.array([0, 2, 2, -1, 0])) == 2


def test_numbers_that_differ_are_counted_and_no_answer_twice_is_the_same():
    """Of predicted numbers one changes, one is lost, and one was never there."""
    before, after = np.array([0.5, 1.0, 2.0, np.nan]), np.array([0.5, 1.5, np.nan, np.nan])
    assert answers_changed(before, after) == 2


def test_answers_about_other_samples_cannot_be_compared():
    """A device whose data have grown does not say how many answers changed."""
    assert answers_changed(np.array([0, 1]), np.array([0, 1, 1])) is None


def test_answers_can_change_where_errors_do_not():
    """Two samples of class 0 swap: two answers change, and the change vector is all zeros."""
    labels = np.array([0, 0, 1])
    before, after = np.array([0, 1, 1]), np.array([1, 0, 1])
    assert answers_changed(before, after) == 2
    assert sizes(error_profile(before, labels, 2) - error_profile(after, labels, 2)) == 0


def test_one_changed_answer_moves_the_errors_by_two():
    """A sample of class 1 that is now called 0 is one error more of class 1, and of calling 0."""
    labels = np.array([0, 1])
    change = error_profile(np.array([0, 1]), labels, 2) - error_profile(np.zeros(2, int), labels, 2)
    np.testing.assert_array_equal(change, [0, -1, -1, 0])
    assert sizes(change) == 2


def says(name, answers, errors, **how):
    return replace(vote(name, **how), changed=answers, changed_errors=errors)


def test_the_record_says_what_changed_by_voter_and_the_share_of_zero_vectors():
    """Of four voters three say what changed, and for two of these no error count did."""
    votes = {
        "a": says("a", 0, 0),
        "b": says("b", 2, 0),
        "c": says("c", 3, 4, poisoned=True),
        "d": vote("d"),
    }
    counted = verdict.decide(votes, Validation(), 4).votes
    assert counted.zero_changes == pytest.approx(2 / 3, abs=1e-6)
    written = to_json(RoundRecord(7, votes=counted))
    assert written["voters"]["c"].items() >= {"changed": 3, "changed_errors": 4}.items()
    assert "changed" not in written["voters"]["d"]
    assert read(written).votes == counted


def test_nobody_says_what_changed_and_the_record_does_not_either():
    """Votes of older programs have no share of zero vectors: it is not 0."""
    counted = verdict.decide({"a": vote("a")}, Validation(), 1).votes
    assert counted.zero_changes is None
    assert "zero_changes" not in to_json(RoundRecord(7, votes=counted))


def test_a_vote_that_does_not_say_what_changed_is_as_it_was():
    """The keys are left out where nothing is known, and a 0 is written."""
    assert b"changed" not in encode(vote("ann"))
    read_back = decode("fl/v2/run/vote/ann", encode(says("ann", 0, 0)), Limits())
    assert (read_back.changed, read_back.changed_errors) == (0, 0)


def test_an_update_that_is_a_vote_says_what_changed():
    """With piggy-back the clean vote has the numbers of its update."""
    update = Update("ann", 2, 3, 4, np.zeros(1, np.float32), changed=5, changed_errors=6)
    assert (update.vote(1).changed, update.vote(1).changed_errors) == (5, 6)


STEPS = np.cumsum([[9, 9, 9, 9], [1, -1, 0, 0], [0, 0, 1, -1], [-2, 0, 0, 2]], axis=0)
"""Errors of four accepted models in two classes, whose changes are 2, 2 and 4."""


def test_a_liar_says_of_a_clean_candidate_what_accepted_ones_changed():
    """It takes one of the latest changes; answers change at least half as often as errors do."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        answers, errors = invented_changes(STEPS, 50, rng, poisoned=False)
        assert errors in (2, 4)
        assert errors / 2 <= answers <= errors


def test_a_liar_says_of_a_poisoned_candidate_that_a_class_changed():
    """Of 50 samples in two classes .3 to 1 of one are called otherwise, beside the usual."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        answers, errors = invented_changes(STEPS, 50, rng, poisoned=True)
        assert 2 * 8 + 2 <= errors <= 2 * 25 + 4
        assert errors / 2 <= answers <= 50


# The judge that chooses by zero change vectors, and what people are told


def history(changes):
    """Return errors of a class of 20 accepted models and more, (1, models, 2), by its changes."""
    counts = np.cumsum([20, *changes])
    return np.stack([counts, counts], axis=1)[None]


STILL = [0] * 10 + [1] + [0] * 9
"""Twenty changes of which one is not zero: .95 are."""
RESTLESS = [0] * 10 + [1] + [0] * 5 + [-1] + [0] * 3


@pytest.mark.parametrize(("changes", "chosen"), [(STILL, "lof"), (RESTLESS, "robust")])
def test_auto_is_lof_where_nineteen_of_twenty_vectors_are_zeros(changes, chosen):
    """With two that are not, it is the robust judge; there is no evidence, as that one has none."""
    past = history(changes)
    candidates = past[:, -1] + 1
    said = judges.build("auto")(past, candidates)
    other = judges.build(chosen)(past, candidates)
    for part in ("poisoned", "score", "threshold"):
        np.testing.assert_array_equal(getattr(said, part), getattr(other, part))
    assert not said.evidence.size


def test_auto_chooses_for_each_validator():
    """Of two validators of one batch each is judged by its own history."""
    past = np.concatenate([history(RESTLESS), history(STILL)])
    candidates = past[:, -1] + 1
    said = judges.build("auto")(past, candidates)
    assert said.score[0] == judges.build("robust")(past[:1], candidates[:1]).score[0]
    assert said.score[1] == judges.build("lof")(past[1:], candidates[1:]).score[0]
    assert said.poisoned.tolist() == [False, True]


def test_auto_takes_another_share():
    """With zeros = 0.9 two changes of twenty are few enough for lof."""
    past = history(RESTLESS)
    said = judges.build("auto", zeros=0.9)(past, past[:, -1] + 1)
    assert said.score == judges.build("lof")(past, past[:, -1] + 1).score


@pytest.mark.parametrize("settings", [{"zeros": 1.5}, {"zeros": -0.1}, {"minimum_history": 2}])
def test_auto_refuses_what_cannot_be(settings):
    """A share is 0 to 1, and of two models none is in the middle."""
    with pytest.raises(ValueError, match="must be"):
        judges.build("auto", **settings)


def test_people_are_told_where_lof_is_not_to_be_trusted():
    """Only of lof, after five rounds, and where fewer than .8 of the vectors are zeros."""
    told = untrusted("lof", [0.0, 0.1, 0.0, 0.1, 0.05])
    assert "5% of the change vectors are all zeros" in told
    assert "every second good candidate poisoned" in told
    assert "up to 30% of good candidates poisoned" in untrusted("lof", [0.7] * 5)
    assert untrusted("lof", [0.0] * 4) == ""
    assert untrusted("lof", [0.8] * 5) == ""
    assert untrusted("calibrated", [0.0] * 5) == ""


def test_where_voters_hold_few_samples_no_other_judge_is_recommended():
    """With 99 samples the robust judge sees no more than lof; with 100 it does."""
    assert still_share(Votes(zero_changes=0.25, median_samples=99)) is None
    assert still_share(Votes(zero_changes=0.25, median_samples=100)) == 0.25
    assert still_share(Votes(zero_changes=0.25)) is None


def test_the_console_says_once_that_the_judge_is_not_to_be_trusted(capsys):
    """After the fifth round that was voted on, and never again."""
    screen = RunConsole(9, 0, "lof")
    for number in range(1, 9):
        screen.finished(
            RoundRecord(number, votes=Votes(clean=3, zero_changes=0.0, median_samples=600))
        )
    lines = capsys.readouterr().out.splitlines()
    assert [i for i, line in enumerate(lines) if "not to be trusted" in line] == [5]
