"""Liars: what each says, by hand, and that all their lies can be believed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import validators
from agents.validators import LIARS, Turn
from learning.validation.opinions import Opinions, no_opinion

HONEST = Opinions(
    np.array([False, True, False, True]), np.array([1.0, 3.0, 2.0, 1.5]),
    np.array([1.25, 1.0, 2.0, 1.25]),
    np.array([[1.0, 3.0, 2.0], [0.0, 0.5, 9.0], [2.0, 2.0, 2.0], [-1.0, 1.0, 4.0]]),
)  # fmt: skip
"""Two who find the candidate clean, one of them with a tie, and two who find it poisoned."""


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
}


def test_every_liar_is_looked_at():
    """The table of what they say has all but the one who tosses a coin."""
    assert {name for name, _ in SAYS} == LIARS.keys() - {"random"}


@pytest.mark.parametrize(("name", "struck"), SAYS)
def test_what_liars_say(name, struck):
    """Each liar's verdicts, when its own side has struck and when not."""
    said = validators.build(name)(HONEST, turn(struck=struck))
    assert "".join(str(int(verdict)) for verdict in said.poisoned) == SAYS[name, struck]


def test_a_lie_by_hand():
    """Score and threshold change places where they must; of a tie the score is raised."""
    said = validators.build("always_reject")(HONEST, turn(struck=False))
    np.testing.assert_array_equal(said.score, [1.25, 3.0, 5.0, 1.5])
    np.testing.assert_array_equal(said.threshold, [1.0, 1.0, 2.0, 1.25])
    said = validators.build("hide")(HONEST, turn(struck=True))
    np.testing.assert_array_equal(said.score, [1.0, 1.0, 2.0, 1.25])
    np.testing.assert_array_equal(said.threshold, [1.25, 3.0, 2.0, 1.5])


def test_evidence_of_a_lie_by_hand():
    """What was seen of the candidate fits the lie; accepted models, and truths, are left alone.

    For "poisoned" it is the largest of the past and as much more as that varied, and 1; for
    "clean" it is the mean of the past.
    """
    said = validators.build("always_reject")(HONEST, turn(struck=False))
    rows = [[1, 3, 3 + 2 + 1], [0, 0.5, 9], [2, 2, 2 + 0 + 1], [-1, 1, 4]]
    np.testing.assert_array_equal(said.evidence, rows)
    said = validators.build("hide")(HONEST, turn(struck=True))
    rows = [[1, 3, 2], [0, 0.5, 0.25], [2, 2, 2], [-1, 1, 0]]
    np.testing.assert_array_equal(said.evidence, rows)


@pytest.mark.parametrize("numbers", [0, 1])
def test_without_a_past_there_is_nothing_to_fit(numbers):
    """Of no accepted model nothing is made up: the evidence stays what it is."""
    own = HONEST._replace(evidence=np.full((4, numbers), 7.0))
    said = validators.build("always_reject")(own, turn(struck=False))
    np.testing.assert_array_equal(said.evidence, own.evidence)


def test_who_has_no_opinion_can_still_lie():
    """Zeros for scores become 1 above 0 for a poisoned verdict, and stay for a clean one."""
    members = turn(struck=False, members=(1, 2))
    said = validators.build("invert")(no_opinion(2), members)
    assert [list(part) for part in said[:3]] == [[True, True], [1, 1], [0, 0]]
    assert said.evidence.shape == (2, 0)
    said = validators.build("always_accept")(no_opinion(2), members)
    assert [list(part) for part in said[:3]] == [[False, False], [0, 0], [0, 0]]


Numbers = st.floats(0, 1e9)


@pytest.mark.parametrize("name", LIARS)
@given(
    scores=st.lists(st.tuples(Numbers, Numbers), max_size=6), struck=st.booleans(),
    numbers=st.integers(0, 4),
)  # fmt: skip
def test_lies_can_be_believed(name, scores, struck, numbers):
    """Whatever is said fits its numbers, they are finite, and the input is not written."""
    score, threshold = np.array(scores, dtype=float).reshape(-1, 2).T.copy()
    saw = np.outer(score, np.arange(1, numbers + 1))
    own = Opinions(score > threshold, score, threshold, saw)
    for part in own:
        part.setflags(write=False)
    asked = turn(struck=struck, members=tuple(range(len(scores))))
    said = validators.build(name)(own, asked)
    assert said.poisoned.dtype == np.bool_
    assert {part.shape for part in said[:3]} == {(len(scores),)}
    assert said.evidence.shape == saw.shape
    np.testing.assert_array_equal(said.poisoned, said.score > said.threshold)
    json.dumps([part.tolist() for part in said], allow_nan=False)
    again = validators.build(name)(own, asked)
    assert all(np.array_equal(a, b) for a, b in zip(said, again, strict=True))


def test_a_coin_is_fair_and_everybodys_own():
    """Of 10,000 tosses half are poisoned, up to four deviations; another round's differ.

    An agent's coin does not depend on who else is asked.
    """
    toss, many = validators.build("random"), tuple(range(10_000))
    said = toss(no_opinion(10_000), turn(struck=False, members=many)).poisoned
    assert abs(said.sum() - 5000) < 4 * 50
    other = toss(no_opinion(10_000), turn(struck=False, members=many, number=5)).poisoned
    assert abs((said == other).sum() - 5000) < 4 * 50
    few = toss(no_opinion(2), turn(struck=False, members=(7, 4000))).poisoned
    np.testing.assert_array_equal(few, said[[7, 4000]])


def test_a_misspelt_liar_is_explained():
    """The nearest name is offered."""
    with pytest.raises(ValueError, match="unknown liar: 'always_acept'; did you mean 'always_acc"):
        validators.build("always_acept")
