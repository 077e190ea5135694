"""Detectors: what all of them promise, and each by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest

from fedjury import detection
from fedjury.detection import DETECTORS, SUSPECT, GroupVerdict, Observation, rows
from fedjury.detection.angles import beside_median, nearest_sines
from fedjury.detection.rows import Rows, recall, renewed

SHARED = {"detector", "rows", "angles", "gaps", "sent", "sketch"}
"""Files that detectors share."""

D = 40


@pytest.fixture(params=DETECTORS)
def detect(request):
    """Build each detector of the table as it comes."""
    return detection.build(request.param)


def named(n):
    return tuple(f"agent-{i:03d}" for i in range(n))


def seen_in(round_, names, seed=0, **changes):
    """Make a round of noise in which the first three agents pull towards the same place, and lie.

    Everybody votes; the last six joined before round 6, together. All are in pairs, and those of
    the first three were voted down.
    """
    names = tuple(names)
    rng = np.random.default_rng([seed, round_])
    weights = 0.1 * rng.standard_normal(D).astype(np.float32)
    updates = rng.standard_normal((len(names), D)).astype(np.float32)
    updates[:3] = np.float32(1000) * (np.ones(D, dtype=np.float32) - weights)
    joined = {name: 6 if i > len(names) - 7 else 1 for i, name in enumerate(names)}
    votes = {name: i < 3 for i, name in enumerate(names)}
    pairs = rng.permutation(len(names))
    groups = tuple(
        GroupVerdict(tuple(names[i] for i in pair), left_out=bool(min(pair) < 3))
        for pair in (pairs[i : i + 2] for i in range(0, len(names), 2))
    )
    seen = Observation(round_, names, updates, weights, joined, votes, True, groups)
    return seen._replace(**changes)


def played(detect, rounds, memory=None):
    """Show a detector rounds one after the other; return what it said of each, and its memory."""
    memory, said = memory or {}, []
    for seen in rounds:
        scores, memory = detect(seen, memory)
        said.append(dict(scores))
    return said, memory


def saved(memory):
    """Write a memory down and read it again, as a resumed run does."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **memory)
    file.seek(0)
    with np.load(file, allow_pickle=False) as loaded:
        return {key: loaded[key] for key in loaded.files}


def locked(seen, memory):
    """Forbid to write what a detector is given."""
    for array in (seen.updates, seen.weights, *memory.values()):
        array.setflags(write=False)


# What every detector promises


def test_scores_are_of_those_who_are_known_and_between_0_and_1(detect):
    """Also of fakes, liars and newcomers, some of whom are flagged."""
    said, _ = played(detect, [seen_in(t, named(20)) for t in range(1, 16)])
    for scores in said:
        assert set(scores) <= set(named(20))
        assert all(type(score) is float for score in scores.values())
        assert all(0 <= score <= 1 for score in scores.values())
    assert any(score >= SUSPECT for scores in said for score in scores.values())


def test_what_is_given_is_not_written(detect):
    """Neither updates nor weights nor the memory, nor does a memory change with the weights.

    Updates it may keep as they are: nobody writes to them any more.
    """
    memory = {}
    for seen in (seen_in(t, named(12)) for t in range(1, 16)):
        locked(seen, memory)
        _, memory = detect(seen, memory)
        before = {key: value.tobytes() for key, value in memory.items()}
        seen.weights.setflags(write=True)
        seen.weights[:] = 7
        assert before == {key: value.tobytes() for key, value in memory.items()}


def test_memory_survives_being_saved(detect):
    """A memory is plain arrays; a run resumed in any round says the same, bit for bit."""
    rounds = [seen_in(t, named(12)) for t in range(1, 16)]
    whole, _ = played(detect, rounds)
    assert whole == played(detect, rounds)[0]
    memory, said = {}, []
    for seen in rounds:
        scores, memory = detect(seen, saved(memory))
        said.append(dict(scores))
        assert all(value.dtype.kind in "biufS" for value in memory.values())
    assert said == whole


def test_detectors_are_blind_to_order(detect):
    """Which row is whose does not matter, beyond the rounding of a sum."""
    order = np.random.default_rng(3).permutation(12)
    rounds = [seen_in(t, named(12)) for t in range(1, 16)]
    shuffled = [
        seen._replace(
            names=tuple(seen.names[i] for i in order),
            updates=seen.updates[order],
            joined={name: seen.joined[name] for name in sorted(seen.joined, reverse=True)},
            votes={name: seen.votes[name] for name in sorted(seen.votes, reverse=True)},
        )
        for seen in rounds
    ]
    for one, other in zip(played(detect, rounds)[0], played(detect, shuffled)[0], strict=True):
        assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0, 3e38, 1e-45])
def test_detectors_survive_anything(detect, bad):
    """Rows, whole rounds and models of such values raise nothing, not even a warning."""
    rounds = [seen_in(t, named(9)) for t in range(1, 20)]
    for seen in rounds[2::3]:
        seen.updates[seen.round % 9] = bad
        seen.updates[(seen.round + 1) % 9, 1] = bad
    rounds[14].updates[:] = bad
    rounds[15].weights[:] = bad
    rounds[16] = rounds[16]._replace(weights=np.full(D, bad, dtype=np.float32))
    for scores in played(detect, rounds)[0]:
        assert all(0 <= score <= 1 for score in scores.values())


def test_one_sender_and_nobody(detect):
    """One agent alone, who cannot be compared, is not flagged for its updates; nor is nobody."""
    alone = [
        seen_in(t, named(1), joined={"agent-000": 1}, votes={}, accepted=None) for t in range(1, 16)
    ]
    assert all(scores["agent-000"] < SUSPECT for scores in played(detect, alone)[0])
    empty = [seen_in(t, (), joined={}, votes={}, accepted=None) for t in range(1, 4)]
    said, memory = played(detect, [*empty, *alone, *empty])
    assert not said[-1]
    saved(memory)


def test_agents_vanish_and_return(detect):
    """Who is called varies; scores are of those who were there, and the others are no obstacle."""
    names = named(16)
    rng = np.random.default_rng(1)
    rounds = []
    for t in range(1, 30):
        some = tuple(sorted(rng.choice(names, rng.integers(0, 9), replace=False)))
        rounds.append(seen_in(t, some, joined=dict.fromkeys(names, 1)))
    for seen, scores in zip(rounds, played(detect, rounds)[0], strict=True):
        assert set(scores) <= set(names)
        assert set(scores) == set(seen.names) or set(scores) >= set(seen.votes)


def test_memory_is_bounded(detect):
    """With other names in every round a memory holds what a few agents take, not all there were."""
    memory = {}
    for t in range(1, 60):
        names = tuple(f"r{t:03d}-{i:02d}" for i in range(20))
        _, memory = detect(seen_in(t, names), memory)
    assert sum(value.nbytes for value in memory.values()) < 8 * 20 * (4 * D + 64)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("fixed_point", {"parallel": 0.0}),
        ("fixed_point", {"fixed": 1.0}),
        ("fixed_point", {"crowd": 1}),
        ("length", {"limit": 1.0}),
        ("similarity", {"limit": 0.0}),
        ("fldetector", {"window": 0}),
        ("fldetector", {"server_lr": 0.0}),
        ("burst", {"chance": 0.0}),
        ("burst", {"crowd": 0}),
        ("burst", {"probation": 0}),
        ("dissent", {"errs": 0.95}),
        ("dissent", {"chance": 1.0}),
        ("group_testing", {"chance": 0.0}),
        ("group_testing", {"uneven": 0.9}),
        ("group_testing", {"half_life": -1.0}),
    ],
)
def test_values_that_cannot_be_meant_are_errors(name, wrong):
    """An error names what was given."""
    with pytest.raises(ValueError, match=r"must be|it takes|at least"):
        detection.build(name, **wrong)


# length


def test_who_shouts_is_suspected_and_who_has_more_data_is_not():
    """Norms 1, 1, 1, 10, 29, 30 and 1e6, a median of 10 and a limit of 3: 30 is just too long."""
    detect = detection.build("length", limit=3.0)
    rows = np.zeros((7, D), dtype=np.float32)
    rows[:, 0] = [1, 1, 1, 10, 29, 30, 1e6]
    scores, memory = detect(seen_in(1, named(7), updates=rows), {})
    assert list(scores.values()) == pytest.approx([0, 0, 0, 0, 29 / 60, 0.5, 1])
    assert memory == {}


def test_zeros_and_what_is_not_finite_do_not_make_the_usual_length():
    """Four idle fakes of nine send zeros: the median is that of the others. Inf is too long."""
    detect = detection.build("length")
    rows = np.zeros((9, D), dtype=np.float32)
    rows[:, 0] = [0, 0, 0, 0, 1, 1, 1, 1, np.inf]
    scores, _ = detect(seen_in(1, named(9), updates=rows), {})
    assert list(scores.values()) == [0, 0, 0, 0, 0, 0, 0, 0, 1]
    rows[1:6, 1] = np.nan  # most are not finite: the model is ruined, and nobody is to blame
    scores, _ = detect(seen_in(1, named(9), updates=rows), {})
    assert not any(scores.values())


# Rows by name


def floats(*values):
    return np.array(values, dtype=np.float64)


def test_rows_are_found_by_name_whatever_their_length():
    """New names come in, known ones are replaced, and "ab" is not "a"."""
    kept = renewed(recall({}), ("b", "ab"), {"x": floats(2, 12)}, now=1, online=9)
    kept = renewed(kept, ("a", "b"), {"x": floats(1, 22)}, now=2, online=9)
    assert kept.names.tolist() == [b"a", b"ab", b"b"]
    assert kept.last.tolist() == [2, 1, 2]
    assert rows.aligned(kept, "x", ("b", "c", "ab", "abc"), -1.0).tolist() == [22, -1, 12, -1]


def test_those_heard_of_longest_ago_make_room():
    """Twice as many are remembered as are online; after a thousand rounds nobody is."""
    kept = Rows(np.array([b"a", b"b", b"c"]), np.array([5, 3, 4]), {"x": floats(1, 2, 3)})
    now = renewed(kept, ("d",), {"x": floats(4)}, now=6, online=1)
    assert now.names.tolist() == [b"a", b"d"]
    assert renewed(kept, ("d",), {"x": floats(4)}, now=1004, online=9).names.tolist() == [
        b"a",
        b"d",
    ]


# Angles


def test_sines_by_hand():
    """Of 0°, 30° and 90°: the nearest is 30° away, the next one 90° or more, or 60°."""
    three = np.array([[2, 0], [np.sqrt(3), 1], [0, 9]], dtype=np.float32)
    everybody = np.arange(3)
    assert nearest_sines(three, everybody, 1) == pytest.approx([0.5, 0.5, np.sqrt(3) / 2])
    assert nearest_sines(three, everybody, 2) == pytest.approx([1, np.sqrt(3) / 2, 1])
    assert nearest_sines(three, everybody, 3).tolist() == [1, 1, 1]
    assert nearest_sines(-three[:2], np.array([1]), 1) == pytest.approx([0.5])


def test_sines_in_many_blocks(monkeypatch):
    """The result does not depend on how many rows and columns are taken at a time."""
    updates = np.random.default_rng(0).standard_normal((23, 50)).astype(np.float32)
    whole = nearest_sines(updates, np.arange(23), 2)
    monkeypatch.setattr("fedjury.detection.angles.BLOCK", 40)
    monkeypatch.setattr("fedjury.detection.angles.SENDERS", 5)
    np.testing.assert_allclose(nearest_sines(updates, np.arange(23), 2), whole, rtol=1e-12)


def test_nobody_sticks_out_where_most_are_equal():
    """Beside a median of nothing no value is small: the crowd is the majority."""
    assert beside_median(floats(0, 0, 0, 0.5)).tolist() == [1, 1, 1, 1]
    assert beside_median(floats(0, 0.5, 1)).tolist() == [0, 1, 2]
