"""Rules that keep something between rounds: momentum by hand, and what they may not do."""

from __future__ import annotations

import numpy as np
import pytest
from support.updates import matrix, ones

from fedjury import rules
from fedjury.rules import Context, applied


def steps(name, updates, **options):
    """Apply a rule to one update after the other, each of which is accepted; returns the steps."""
    rule, state, made = rules.build(name, **options), {}, []
    for update in updates:
        row = np.array([update], np.float32)
        step, state = applied(rule, name, row, ones(1), Context(state=state), keeps=True)
        made.append(step.tolist())
    return made, state


def test_momentum_by_hand():
    """V = .5 v + Δ from 0: 4, then 2 + 2 = 4, then 2 - 8 = -6."""
    made, state = steps("fedavgm", [[4], [2], [-8]], momentum=0.5)
    assert made == [[4], [4], [-6]]
    assert state["velocity"].tolist() == [-6]


def test_without_momentum_it_is_its_base():
    """β = 0: the median of 1, 5, 9 is 5, whatever came before."""
    rule = rules.build("fedavgm", momentum=0.0, base="median")
    context = Context(state={"velocity": np.full(1, 100, np.float32)})
    assert rule(matrix([1], [5], [9]), ones(3), context)[0].tolist() == [5]


def test_adam_by_hand():
    """β₁ = β₂ = .5, τ = 1: of Δ = 2 m = 1, v = .5 + 2 = 2.5; then of 0 m = .5, v = 1.25."""
    made, state = steps("fedadam", [[2], [0]], beta1=0.5, beta2=0.5, tau=1.0)
    np.testing.assert_allclose(made, [[1 / (2.5**0.5 + 1)], [0.5 / (1.25**0.5 + 1)]], rtol=1e-6)
    np.testing.assert_allclose([state["m"], state["v"]], [[0.5], [1.25]], rtol=1e-6)


def test_yogi_by_hand():
    """V = 1 grows by half of Δ² = 4 to 3, as v < Δ²; then shrinks by half of 1 to 2.5."""
    made, state = steps("fedyogi", [[2], [1]], beta1=0.5, beta2=0.5, tau=1.0)
    np.testing.assert_allclose(state["v"], [2.5], rtol=1e-6)
    np.testing.assert_allclose(made, [[1 / (3**0.5 + 1)], [1 / (2.5**0.5 + 1)]], rtol=1e-6)


@pytest.mark.parametrize("base", ["fltrust", "fedadam"])
def test_a_base_may_need_nothing_beside_the_updates(base):
    """Neither data of the server's nor a state of its own."""
    with pytest.raises(ValueError, match=rf"base '{base}' needs \w+: take another rule"):
        rules.build("fedavgm", base=base)


WRONG = {
    "no state": (lambda u: u[0], "must return the update and a dict of what it keeps"),
    "a list": (lambda u: (u[0], [1]), "keeps list; it must be a dict of NumPy arrays"),
    "a number": (lambda u: (u[0], {"n": 3}), "keeps 'n' of int; it must be an array of numbers"),
    "objects": (lambda u: (u[0], {"o": np.array([None])}), "keeps 'o' of object; it must be"),
    "texts": (lambda u: (u[0], {"t": np.array(["a"])}), "keeps 't' of <U1; it must be"),
    "no name": (lambda u: (u[0], {3: u}), "keeps something under 3, which is no name"),
    "too long": (lambda u: (u, {}), r"made an update of shape \(2, 1\) of 2 of shape \(1,\)"),
    "nothing": (lambda _: (None, {}), "made no update but NoneType"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_rule_that_keeps_something_else_is_told_so(what):
    """One sentence with the rule's name, and what it did."""
    function, message = WRONG[what]
    rule = lambda updates, samples, context: function(updates)  # noqa: E731
    with pytest.raises(ValueError, match=rf"^rule 'mine' .*{message}"):
        applied(rule, "mine", matrix([1], [2]), ones(2), Context(), keeps=True)


def test_what_is_kept_cannot_be_changed_afterwards():
    """Neither by who made it nor by the rule in the next round."""
    array = np.array([1.0])
    rule = lambda updates, samples, context: (updates[0], {"mine": array})  # noqa: E731
    _, state = applied(rule, "mine", matrix([1]), ones(1), Context(), keeps=True)
    array[0] = 7
    assert state["mine"].tolist() == [1]
    with pytest.raises(ValueError, match="read-only"):
        state["mine"][0] = 8
