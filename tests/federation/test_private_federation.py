"""Differential privacy in whole runs: killed wherever, a round has one candidate, and all count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture

from fedjury.aggregator import release_file
from fedjury.aggregator.store import StoreError
from fedjury.privacy.accounting import epsilon
from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import Candidate
from fedjury.round.effects import PersistRelease, Publish
from fedjury.round.release import Release
from fedjury.round.state import Voting

pytestmark = pytest.mark.usefixtures("one_thread")

PRIVATE = {
    "run__rounds": 5,
    "privacy__noise": 0.5,
    "privacy__clip": 1.0,
    "privacy__delta": 0.01,
    "wire__history": "float32",
}
JURY = {"validation__validators": 5, "validation__look_back": 3, "validation__minimum_history": 3}
PIGGY = {
    "validation__piggy_back": True,
    "validation__quorum": 3,
    "validation__look_back": 3,
    "validation__minimum_history": 3,
}
VOTES = pytest.mark.parametrize("votes", [{}, JURY, PIGGY], ids=["none", "jury", "piggy-back"])


class Watched(Federation):
    """A federation of which every candidate that is published is kept, by its round."""

    def __init__(self, *args, **changes):
        self.candidates: dict[int, set[bytes]] = {}
        super().__init__(*args, **changes)

    def watch(self, topic, payload):
        """Keep a candidate's weights."""
        super().watch(topic, payload)
        if topic == self.topics.where(self.settings.run.name, Candidate) and payload:
            message = codec.decode(topic, payload, Limits(finite=False), self.topics)
            self.candidates.setdefault(message.round, set()).add(message.weights.tobytes())


class KilledError(Exception):
    """The aggregator died."""


def kill_before(run, effect_number):
    """Let the aggregator die before it carries out this effect, counted from 0."""
    carry_out, done = run.aggregator.carry_out, []

    def dying(effect, state):
        if len(done) == effect_number:
            raise KilledError
        done.append(effect)
        carry_out(effect, state)

    run.aggregator.carry_out = dying
    return done


def release_of(folder):
    return release_file.unpacked(folder / release_file.RELEASE)


@VOTES
def test_what_is_spent_is_in_every_record(tmp_path, votes):
    """One candidate a round; epsilon is the library's, and the folder holds the last one.

    With piggy-back a round whose agents vote the last candidate down makes none itself.
    """
    run = Watched(tmp_path, **PRIVATE, **votes).whole()
    made = 0
    for record in run.records:
        made += record.accepted is not False or votes != PIGGY
        said = record.privacy
        assert (said.releases, said.delta, said.noise) == (made, 0.01, 0.5)
        assert said.epsilon == pytest.approx(epsilon(((0.5, made),), 0.01), abs=1e-6)
    kept = release_of(tmp_path)
    assert kept.releases == ((0.5, made),)
    if not votes:
        assert kept.candidate.tobytes() == run.models[5]


def test_two_runs_of_one_seed_have_other_noise(tmp_path):
    """All else is the same: the updates of round 1, and who sends them."""
    one, other = (Watched(tmp_path / name, **PRIVATE).whole() for name in ("one", "other"))
    assert one.models[0] == other.models[0]
    assert one.models[1] != other.models[1]


@VOTES
def test_killed_before_any_effect_a_round_has_one_candidate(tmp_path, votes):
    """Whatever was published of a round, before and after: the same noisy candidate, bit for bit.

    No more is told than is counted. One that was drawn and not told may be counted besides, where
    with piggy-back the round has to be gone through again for its votes.
    """
    for number in range(100):
        run = Watched(tmp_path / str(number), **PRIVATE | {"run__rounds": 3}, **votes)
        run.begin()
        done = kill_before(run, number)
        try:
            run.run()
        except KilledError:
            run.crash()
            run.whole()
        else:
            assert number > 10
            break
        assert [len(found) for found in run.candidates.values()] == [1] * len(run.candidates)
        made = sum(one.accepted is not False or votes != PIGGY for one in run.records)
        counted = run.records[-1].privacy.releases
        untold = votes == PIGGY and bool(done) and isinstance(done[-1], PersistRelease)
        assert made <= counted <= made + untold
    else:
        pytest.fail("it never came to its end")


def test_a_vote_goes_on_with_the_candidate_it_began_with(tmp_path):
    """Killed while validators vote: they get the same one again, under the same attempt."""
    run = Watched(tmp_path, **PRIVATE, **JURY)
    run.begin()
    run.run(lambda state: state.round == 3 and isinstance(state.phase, Voting))
    before = release_of(tmp_path)
    run.crash()
    run.begin()
    assert run.state.phase.release.candidate.tobytes() == before.candidate.tobytes()
    run.run()
    assert run.candidates[3] == {before.candidate.tobytes()}
    assert [record.round for record in run.records] == [1, 2, 3, 4, 5]
    assert run.records[2].updates == len(before.contributors) == 20


def test_rounds_that_are_repeated_spend_again(tmp_path):
    """The models of the last two rounds are lost: what was told of them still counts."""
    run = Watched(tmp_path, **PRIVATE).whole()
    for version in (4, 5):
        (tmp_path / "models" / f"{version:06d}.safetensors").unlink()
    run.crash()
    again = Watched(tmp_path, **PRIVATE).whole()
    assert [one.privacy.releases for one in again.records] == [1, 2, 3, 6, 7]


def test_other_noise_counts_as_such(tmp_path):
    """Three rounds with .5, and after the run is resumed two with 2."""
    run = Watched(tmp_path, **PRIVATE | {"run__rounds": 3}).whole()
    run.crash()
    run.settings = settings_of(**PRIVATE | {"privacy__noise": 2.0})
    run.whole()
    spent = run.records[-1].privacy
    assert spent.epsilon == pytest.approx(epsilon(((0.5, 3), (2.0, 2)), 0.01), abs=1e-6)
    assert (spent.releases, spent.noise) == (5, 2.0)


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        (0.0, 0.5, "has 2 rounds and no release.safetensors"),
        (0.5, 0.0, "holds a run with differential privacy"),
    ],
)
def test_noise_is_for_all_rounds_of_a_run(tmp_path, first, then, why):
    """It is neither begun nor left off in mid-run."""
    usual = PRIVATE | {"run__rounds": 2}
    run = Watched(tmp_path, **usual | {"privacy__noise": first}).whole()
    run.crash()
    run.settings = settings_of(**PRIVATE | {"privacy__noise": then})
    with pytest.raises(StoreError, match=why):
        run.begin()


@pytest.mark.parametrize("size", [0, 50, -5])
def test_a_damaged_release_is_told(tmp_path, size):
    """Without it nobody knows what was spent, so the run does not go on."""
    run = Watched(tmp_path, **PRIVATE | {"run__rounds": 2}).whole()
    run.crash()
    file = tmp_path / release_file.RELEASE
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(StoreError, match=r"release\.safetensors"):
        run.begin()


def test_a_release_comes_back_as_it_was(tmp_path):
    """With all that the round needs to go on."""
    candidate = np.array([1 / 3, -0.0, np.inf], np.float32)
    kept = {"velocity": np.array([1, 2, 3], np.float32)}
    release = Release(
        7, 2, 5, candidate, "it is not finite", ("a", "b"), "fedavgm", kept, ((0.1, 3), (2.0, 4))
    )
    file = tmp_path / release_file.RELEASE
    file.write_bytes(release_file.packed(release))
    back = release_file.unpacked(file, 3)
    assert back.candidate.tobytes() == candidate.tobytes()
    assert back.rule_state["velocity"].tolist() == [1, 2, 3]
    for name in ("round", "attempt", "version", "why", "contributors", "rule", "releases"):
        assert getattr(back, name) == getattr(release, name)
    with pytest.raises(StoreError):
        release_file.unpacked(file, 4)


def test_enough_agents_learn_all_the_same(tmp_path):
    """Noise of a tenth of an update's length, twenty agents: nearly as good as without."""
    usual = {"run__rounds": 12, "agents__samples": 60}
    loud = Federation(tmp_path / "loud", **PRIVATE | usual | {"privacy__noise": 20.0}).whole()
    calm = Federation(tmp_path / "calm", **PRIVATE | usual | {"privacy__noise": 0.02}).whole()
    assert calm.accuracies[-1] > 0.75
    assert loud.accuracies[-1] < calm.accuracies[-1] - 0.2
    assert math.isfinite(loud.records[-1].privacy.epsilon)


def test_publishing_waits_for_the_disk(tmp_path):
    """Where the disk refuses the noisy candidate, nobody hears of it."""
    run = Watched(tmp_path, **PRIVATE, **JURY)
    aggregator = run.begin()
    heard = []
    carry_out = aggregator.carry_out

    def full(effect, state):
        if isinstance(effect, PersistRelease):
            raise StoreError("the disk is full")
        if isinstance(effect, Publish) and isinstance(effect.message, Candidate):
            heard.append(effect)
        carry_out(effect, state)

    aggregator.carry_out = full
    with pytest.raises(StoreError):
        run.run()
    assert heard == []
    assert run.candidates == {}
