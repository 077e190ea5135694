"""Exactly so many liars among the ten voters of each round."""

from __future__ import annotations

import numpy as np
import pytest

from fedjury.attacks import validators
from fedjury.attacks.validators import Turn
from fedjury.experiments.papers.exact_liars import name_of
from fedjury.randomness import Purpose, draw

AGENTS = 100


def voters(seed, round_):
    """Return the numbers of those whom the aggregator asks."""
    names = [f"agent-{number:02}" for number in range(AGENTS)]
    drawn = draw(names, 10, seed, round_, Purpose.VALIDATORS)
    return tuple(int(name.removeprefix("agent-")) for name in drawn)


def said(lie, liars, own, members, *, attacked=False, round_=7):
    turn = Turn(round_, 1, members, 3, attacked)
    return validators.build(name_of(lie, liars, AGENTS))(np.array(own), turn).sum()


@pytest.mark.parametrize("liars", [2, 3, 4])
def test_so_many_of_the_voters_lie(liars):
    """Where all judge clean those who deny say poisoned; the others say what they found."""
    for round_ in range(20):
        members = voters(3, round_)
        assert said("deny", liars, [False] * 10, members, round_=round_) == liars
        hidden = said("hide", liars, [True] * 10, members, attacked=True, round_=round_)
        assert hidden == 10 - liars
        assert said("deny", liars, [False] * 10, members, attacked=True, round_=round_) == 0


def test_they_are_as_many_where_voters_are_in_several_processes():
    """Each process knows its own voters only; no vote is counted twice or lost."""
    members = voters(3, 7)
    parts = [members[:4], members[4:5], members[5:]]
    assert sum(said("deny", 3, [False] * len(part), part) for part in parts) == 3


def test_a_name_that_says_no_number_is_none():
    """The sentence says what is missing."""
    with pytest.raises(ValueError, match="many_liars"):
        validators.build("fedjury.experiments.papers.exact_liars:many_liars")
