"""Rounds with differential privacy by hand: what is durable when, and what is spent by whom."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.by_hand import (
    pending,
    plain,
    play,
    policy,
    published,
    records,
    start,
    updates,
    validating,
    vector,
    vote,
)
from support.noise import LARGEST, largest, silent

from fedjury import rules
from fedjury.config.sections import Privacy
from fedjury.privacy.accounting import epsilon
from fedjury.privacy.noisy_mean import NoisyMean
from fedjury.protocol.messages import Candidate, Model, Phase, Round
from fedjury.protocol.spent import Spent
from fedjury.round.effects import Persist, PersistRelease, Publish
from fedjury.round.machine import step
from fedjury.round.state import GlobalModel, State, Tick, Waiting

ABC = set("abc")


def private(*, source=silent, noise=2.0, clip=3.0, expected=4, **changes):
    """Make a policy with noise that can be worked out by hand."""
    mean = NoisyMean(Privacy(noise=noise, clip=clip), expected, source)
    return replace(policy(**changes), noisy=mean)


def order(effects):
    """Say in which order what is made durable and published."""
    return [
        type(effect.message if isinstance(effect, Publish) else effect).__name__
        for effect in effects
    ]


def test_the_candidate_by_hand():
    """(1, 0), (3, 0) and (2, 6) cut to norm 3, over the expected 4 agents, not over 3."""
    state, effects = validating(private(validators=3))
    cut = np.array((2, 6)) * 3 / math.sqrt(40)
    [candidate] = published(effects, Candidate)
    np.testing.assert_allclose(candidate.weights, (cut + vector(4, 0)) / 4, rtol=1e-6)
    assert state.releases == ((2.0, 1),)


def test_samples_do_not_count():
    """An agent that claims a thousand samples has the say of any other."""
    said = private(samples_cap=1000)
    state, _ = start(said)
    claims = [replace(one, samples=10 ** (3 * (one.agent == "c"))) for one in updates(state)]
    state, _ = play(state, said, *claims, Tick(2.0, ABC))
    np.testing.assert_allclose(state.weights, (1.237171, 0.711512), rtol=1e-6)


def test_noise_is_that_of_clip_and_expected():
    """8.57 times noise 2 and clip 3, over 4."""
    state, _ = start(said := private(source=largest))
    quiet, _ = play(state, private(), *updates(state), Tick(2.0, ABC))
    state, _ = play(state, said, *updates(state), Tick(2.0, ABC))
    np.testing.assert_allclose(state.weights - quiet.weights, [LARGEST * 6 / 4] * 2, rtol=1e-5)


def test_a_candidate_is_durable_before_anybody_is_told_of_it():
    """With validators before it is published for them, without before the model is."""
    state, effects = validating(private(validators=3))
    assert order(effects) == ["PersistRelease", "Candidate", "Round"]
    assert effects[0].release.candidate is effects[1].message.weights
    state, _ = start(said := private())
    state, effects = play(state, said, *updates(state), Tick(2.0, ABC))
    assert order(effects) == ["PersistRelease", "Persist", "Model", "RoundLog", "Round"]


def test_a_rejected_candidate_spends_too():
    """Two rounds, the first voted down: the record of the second says what both cost."""
    said = private(validators=3)
    state, effects = validating(said)
    state, more = play(state, said, *(vote(name, poisoned=True) for name in "abc"), Tick(4.0, ABC))
    state, last = play(
        state, said, *updates(state), Tick(5.0, ABC), *(vote(n, 2) for n in "abc"), Tick(6.0, ABC)
    )
    first, second = records(effects + more + last)
    assert (first.accepted, second.accepted) == (False, True)
    for record, count in ((first, 1), (second, 2)):
        cost = round(epsilon(((2.0, count),), 1e-5), 6)
        assert record.privacy == Spent(cost, 1e-5, count, 2.0)


def test_one_that_cannot_be_used_spends_too():
    """Its record says how good it is, so it was told."""
    said = replace(private(), flaw=lambda _: "it answers nothing")
    state, _ = start(said)
    state, effects = play(state, said, *updates(state), Tick(2.0, ABC))
    assert order(effects)[:2] == ["PersistRelease", "Persist"]
    [record] = records(effects)
    assert (record.accepted, record.privacy.releases) == (False, 1)


def test_a_round_that_is_repeated_without_a_candidate_spends_nothing():
    """Too few updates came: nothing was made of them."""
    said = private(min_updates=3)
    state, _ = start(said)
    state, effects = play(state, said, *updates(state)[:2], Tick(11.0, ABC))
    assert (state.attempt, state.releases) == (2, ())
    assert "PersistRelease" not in order(effects)


def test_without_noise_nothing_is_said_of_it():
    """No field of the record, and no file."""
    state, _ = start(said := policy())
    _, effects = play(state, said, *updates(state), Tick(2.0, ABC))
    assert "PersistRelease" not in order(effects)
    assert records(effects)[0].privacy is None


def test_piggy_back_publishes_what_is_durable():
    """The candidate of round 1 is written down twice before the agents of round 2 get it."""
    said = private(piggy_back=True)
    state, _ = start(said)
    state, effects = play(state, said, *updates(state), Tick(2.0, ABC))
    assert order(effects) == ["PersistRelease", "Persist", "RoundLog", "Candidate", "Round"]
    [release] = [one.release for one in effects if isinstance(one, PersistRelease)]
    assert release.candidate is pending(state)
    trained = [replace(one, version=1) for one in updates(state)]
    state, effects = play(state, said, *trained, Tick(3.0, ABC))
    assert order(effects)[:3] == ["PersistRelease", "Persist", "Model"]
    assert (records(effects)[0].privacy.releases, state.version) == (2, 1)


def resumed(release, **changes):
    """Return a run that stopped after such a candidate was made durable."""
    before = State(
        GlobalModel(0, vector(0, 0)), 0, Waiting(release=release), releases=release.releases
    )
    return step(before, Tick(100.0, ABC), private(source=largest, **changes))


def released(**changes):
    """Return what round 1 makes durable first."""
    _, effects = validating(private(**changes))
    return effects[0].release


def test_a_resumed_round_puts_the_same_candidate_to_the_vote():
    """No update is asked for, no noise is drawn, and nothing more is spent."""
    release = replace(released(validators=3), attempt=2)
    state, effects = resumed(release, validators=3)
    assert plain(effects) == plain(
        [
            Publish(Candidate(1, 2, 0, release.candidate)),
            Publish(Round(1, 2, Phase.VALIDATE, 0, "all", ("a", "b", "c"), 5)),
        ]
    )
    votes = [vote(name, 1, 2) for name in "abc"]
    state, effects = play(state, private(validators=3), *votes, Tick(101.0, ABC))
    [record] = records(effects)
    assert (record.accepted, record.attempt, record.updates) == (True, 2, 3)
    assert record.privacy.releases == 1
    assert published(effects, Model)[0].weights.tolist() == release.candidate.tolist()


def test_without_validators_a_resumed_round_accepts_it_at_once():
    """It is the model, and the next round begins."""
    release = released()
    state, effects = resumed(release)
    assert order(effects) == ["Persist", "Model", "RoundLog", "Round"]
    assert state.weights.tolist() == release.candidate.tolist()
    assert (state.round, state.version, state.releases) == (2, 1, ((2.0, 1),))


def test_one_that_cannot_be_used_is_not_put_to_the_vote_again():
    """It is rejected for the same reason."""
    release = replace(released(validators=3), why="it answers nothing")
    state, effects = resumed(release, validators=3)
    assert published(effects, Candidate) == []
    assert records(effects)[0].why == "it answers nothing"
    assert state.round == 2


@pytest.mark.parametrize(("rule", "velocity"), [("fedavgm", [1.0, 2.0]), ("fedyogi", None)])
def test_a_rule_goes_on_with_what_it_kept(rule, velocity):
    """Of another rule than the run is resumed with it is of no use."""
    kept = {"velocity": vector(1, 2)}
    release = replace(released(), rule="fedavgm", rule_state=kept)
    said = private(**{"aggregation.rule": rule})
    said = replace(said, rule=rules.build(rule), rule_state=True)
    before = State(GlobalModel(0, vector(0, 0)), 0, Waiting(release=release))
    state, effects = step(before, Tick(100.0, ABC), said)
    state_of = state.memory.accepted.get("velocity")
    assert (None if state_of is None else state_of.tolist()) == velocity
    assert isinstance(effects[0], Persist)


def test_momentum_goes_by_the_noisy_mean():
    """Two rounds of equal updates with momentum .5: v and v + .5 v, of the same noisy mean."""
    said = private(**{"aggregation.rule": "fedavgm"}, source=largest)
    said = replace(said, rule=rules.build("fedavgm", momentum=0.5), rule_state=True)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(2.0, ABC))
    first = state.weights
    state, _ = play(state, said, *updates(state), Tick(3.0, ABC))
    np.testing.assert_allclose(state.weights - first, 1.5 * first, rtol=1e-5)
