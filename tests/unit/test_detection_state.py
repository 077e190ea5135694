"""Suspicion, quarantine and appeals; newcomers; what is kept on disk of all that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.by_hand import (
    accepted_models,
    play,
    policy,
    published,
    records,
    start,
    updates,
    vector,
    vote,
)

from fedjury.aggregator.store import RunStore, StoreError
from fedjury.config.sections import Detection
from fedjury.detection import Observation, registry_arrays
from fedjury.detection import state as detection_state
from fedjury.detection.state import PERMANENT, AgentRegistry, AgentStatus, DetectionPolicy
from fedjury.detection.update_sums import NOTHING
from fedjury.protocol.messages import Model, Phase, Round
from fedjury.protocol.record import DetectionRecord, RoundRecord, Truth
from fedjury.round.machine import step
from fedjury.round.state import GlobalModel, State, Tick


def long_updates(seen, memory):
    """Suspect whoever sends an update longer than 5; remember how often that was."""
    lengths = np.linalg.norm(seen.updates, axis=1)
    scores = {name: min(1.0, float(x) / 10) for name, x in zip(seen.names, lengths, strict=True)}
    before = memory.get("count", np.zeros(1, np.int64))
    return scores, {"count": before + sum(score >= 0.5 for score in scores.values())}


LOOKING = DetectionPolicy({"long": long_updates})
GUARDED = replace(LOOKING, rules=Detection(offences=2, readmission_after=3, readmissions=2))
FAKE = {"a": (1, 0), "b": (3, 0), "c": (60, 80)}
"""Two honest updates whose mean is (2, 0), and one of length 100."""


def rounds(said, *deltas, online="abc", state=None):
    """Go through a round for each set of deltas, in which those answer who are called."""
    effects = []
    if state is None:
        state, effects = start(said, online)
    for some in deltas:
        mine = {name: delta for name, delta in some.items() if name in state.selected}
        state, more = play(state, said, *updates(state, mine), Tick(1.0, set(online)))
        effects += more
    return state, effects


# A round


def test_detectors_look_and_change_nothing():
    """Without quarantine suspicion is written down; the model is what it would have been."""
    _, effects = rounds(policy(detection=LOOKING), FAKE)
    [record] = records(effects)
    assert record.detection.flagged == {"c": "long"}
    assert record.detection.suspicion == {"a": 0.1, "b": 0.3, "c": 1.0}
    assert record.detection.filtered == 0
    assert record.detection.quarantined == record.detection.permanent == ()
    _, plain = rounds(policy(), FAKE)
    assert (
        accepted_models(effects)[0].weights.tolist() == accepted_models(plain)[0].weights.tolist()
    )


def test_records_of_runs_without_detectors_say_nothing_of_suspicion():
    """Nobody looked, so nobody was found innocent."""
    _, effects = rounds(policy(), FAKE)
    assert records(effects)[0].detection is None


def test_under_quarantine_the_suspected_are_left_out_of_the_round():
    """(60, 80) is left out at once: the mean of (1, 0) and (3, 0) is (2, 0)."""
    _, effects = rounds(policy(detection=GUARDED), FAKE)
    assert accepted_models(effects)[0].weights.tolist() == [2, 0]
    assert records(effects)[0].detection.filtered == 1


def test_where_all_are_suspected_the_model_stays():
    """With nobody left to learn from, the round ends with the model as it was."""
    state, effects = rounds(policy(detection=GUARDED), dict.fromkeys("abc", (9, 9)))
    assert accepted_models(effects)[0].weights.tolist() == [0, 0]
    assert records(effects)[0].detection.filtered == 3
    assert state.round == 2


def test_memory_goes_from_round_to_round():
    """A detector gets back what it returned the round before."""
    state, _ = rounds(policy(detection=LOOKING), FAKE, FAKE, FAKE)
    assert state.registry.memories["long"]["count"].tolist() == [3]


def test_a_round_that_is_repeated_is_looked_at_once():
    """Too few updates: the attempt that failed leaves no trace in what is known of the agents."""
    said = policy(detection=LOOKING, min_updates=3)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state, {"c": (60, 80)}), Tick(11.0, set("abc")))
    assert state.attempt == 2
    assert state.registry.statuses == {}
    state, _ = play(state, said, *updates(state, FAKE), Tick(12.0, set("abc")))
    assert state.registry.statuses == {"c": AgentStatus(1)}


def test_the_last_vote_is_shown_to_detectors():
    """They see who said what of the last candidate, and what became of it; at first nothing."""
    shown = []

    def look(seen, memory):
        shown.append((dict(seen.votes), seen.accepted))
        return {}, memory

    said = policy(detection=DetectionPolicy({"look": look}), validators=2, quorum=2)
    state, _ = rounds(said, FAKE)
    assert state.phase.name is Phase.VALIDATE
    first, second = state.validators
    votes = vote(first, poisoned=True), vote(second)
    state, _ = play(state, said, *votes, Tick(2.0, set("abc")))
    rounds(said, FAKE, state=state)
    assert shown == [({}, None), ({first: True, second: False}, True)]


# Quarantine


def test_two_strikes_lead_to_quarantine():
    """Flagged in two rounds, c is not called in the next three; then once more."""
    state, effects = rounds(policy(detection=GUARDED), FAKE, FAKE)
    assert records(effects)[-1].detection.quarantined == ("c",)
    called = []
    for _ in range(4):
        called.append("".join(sorted(state.selected)))
        state, _ = rounds(policy(detection=GUARDED), FAKE, state=state)
    assert called == ["ab", "ab", "ab", "abc"]


def test_who_is_not_called_is_told_so():
    """While c is out the others are called by name; before and after, everybody is."""
    state, effects = rounds(policy(detection=GUARDED), *[FAKE | {"c": (2, 0)}], FAKE, FAKE, FAKE)
    assert [message.contributors for message in published(effects, Round)] == [
        "all",
        "all",
        "all",
        ("a", "b"),
        ("a", "b"),
    ]
    assert state.selected == {"a", "b"}


def test_who_is_in_quarantine_does_not_vote_either():
    """Validators are drawn from those who may be called."""
    said = policy(detection=GUARDED, validators=3, quorum=3)
    out = AgentRegistry(
        {"c": AgentStatus(2, 9)}, admitted=dict.fromkeys("abc", 1), seen=dict.fromkeys("abc", 1)
    )
    state, effects = step(
        State(GlobalModel(0, vector(0, 0)), 0, registry=out), Tick(0.0, set("abc")), said
    )
    assert state.validators == ("a", "b")
    [said_so] = [e.message for e in effects if isinstance(e.message, Round)]
    assert said_so.validators == ("a", "b")


CASES = [  # strikes, until, failed; flagged?; strikes, until, failed after round 5
    (AgentStatus(), True, AgentStatus(1)),
    (AgentStatus(), False, AgentStatus()),
    (AgentStatus(1), False, AgentStatus()),
    (AgentStatus(1), True, AgentStatus(2, 9, 0)),  # rounds 6, 7 and 8 without it
    (AgentStatus(2, 6, 0), True, AgentStatus(2, 6, 0)),  # still out: it cannot have sent anything
    (AgentStatus(2, 5, 0), True, AgentStatus(2, 9, 1)),  # an appeal that failed
    (AgentStatus(2, 5, 1), True, AgentStatus(2, PERMANENT, 2)),  # the second one
    (AgentStatus(2, 5, 1), False, AgentStatus(1, 5, 1)),  # heard, and still watched
    (AgentStatus(1, 5, 1), True, AgentStatus(2, PERMANENT, 2)),
    (AgentStatus(1, 5, 1), False, AgentStatus()),  # cleared
]


@pytest.mark.parametrize(("before", "flagged", "after"), CASES)
def test_where_an_agent_stands(before, flagged, after):
    """Offences add up and wear off; out for three rounds; the second failure is permanent."""
    assert detection_state.judged(before, flagged, 5, GUARDED) == after


def test_without_a_limit_there_is_always_another_appeal():
    """With appeals = 0 nobody stays out permanently."""
    endless = replace(GUARDED, rules=GUARDED.rules.replaced(readmissions=0))
    assert detection_state.judged(AgentStatus(2, 5, 99), True, 5, endless) == AgentStatus(2, 9, 100)


def test_an_honest_agent_comes_back():
    """Flagged twice for an accident, c is called in round 6 and cleared by two good rounds."""
    good = FAKE | {"c": (2, 0)}
    state, effects = rounds(policy(detection=GUARDED), FAKE, FAKE, *[good] * 6)
    assert state.registry.statuses == {}
    assert [len(record.detection.quarantined) for record in records(effects)] == [
        0,
        1,
        1,
        1,
        1,
        0,
        0,
        0,
    ]


# Newcomers


def test_newcomers_are_let_in_a_few_a_round():
    """Who was there at the start is in; of eight who come later two are let in each round."""
    said = policy(detection=DetectionPolicy(newcomers=2), rounds=99)
    state, _ = rounds(said, {})
    crowd = "abcdefghijk"
    sizes = []
    for _ in range(6):
        sent = updates(state, dict.fromkeys(state.selected, (1, 0)))
        state, _ = play(state, said, *sent, Tick(1.0, set(crowd)))
        sizes.append(len(state.selected))
    assert sizes == [5, 7, 9, 11, 11, 11]
    assert sorted(state.registry.admitted.values()) == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert set(state.registry.seen.values()) == {1, 2}


def test_a_later_attempt_lets_nobody_else_in():
    """A round that is repeated is still the same round."""
    said = policy(detection=DetectionPolicy(newcomers=1), min_updates=3, attempts=9)
    docket = detection_state.admit(AgentRegistry(), "abc", 1, said.detection, 0)
    once = detection_state.admit(docket, "abcdef", 2, said.detection, 0)
    assert detection_state.admit(once, "abcdef", 2, said.detection, 0) == once
    assert len(once.admitted) == 4


def test_names_are_free_to_make_up_and_not_kept():
    """A thousand names that came and went are forgotten; those who are there are not."""
    watch = DetectionPolicy(newcomers=1)
    docket = detection_state.admit(AgentRegistry(), "abc", 1, watch, 0)
    for number in range(50):
        ghosts = {*"abc", *(f"ghost-{number}-{i}" for i in range(10))}
        docket = detection_state.admit(docket, ghosts, number + 2, watch, 0)
    assert len(docket.seen) <= detection_state.STRANGERS * 13 + 13
    assert {docket.seen[name] for name in "abc"} == {1}


# The past


def test_updates_add_up_by_name():
    """Rows are found by name; who is not kept and did not send is forgotten."""
    assert NOTHING.of(("a",), 2).tolist() == [[0, 0]]
    past = NOTHING.plus(("a", "c"), np.array([[1, 2], [3, 4]], "f4"), ())
    past = past.plus(("b", "c"), np.array([[5, 5], [1, 1]], "f4"), kept=("a", "c"))
    assert past.of(("a", "b", "c", "d"), 2).tolist() == [[1, 2], [5, 5], [4, 5], [0, 0]]
    past = past.plus(("a",), np.array([[1, 0]], "f4"), kept=("b",))
    assert past.of(("a", "b", "c"), 2).tolist() == [[2, 2], [5, 5], [0, 0]]


def test_the_past_stays_finite():
    """What is not finite adds nothing, and sums stop at the end of float32."""
    huge = float(np.finfo(np.float32).max)
    past = NOTHING.plus(("a", "b"), np.array([[huge], [np.nan]], "f4"), "ab")
    past = past.plus(("a", "b"), np.array([[huge], [1]], "f4"), "ab")
    assert past.of(("a", "b"), 1).tolist() == [[huge], [1]]


# On disk


def docket():
    """Make an agent registry with something in every field."""
    return AgentRegistry(
        {"a": AgentStatus(2, 7, 1), "c": AgentStatus(1)},
        {"long": {"count": np.array([3])}, "crowd": {"x.y": np.ones((2, 3), np.float32)}},
        {"a": 1, "b": 1, "c": 4},
        {"a": 1, "b": 2},
        {"b": True, "c": False},
        False,
        NOTHING.plus(("a", "b"), np.array([[1, 2], [3, 4]], "f4"), ()),
    )


def test_a_docket_survives_the_disk(tmp_path):
    """What is read is what was written, of the last round alone."""
    store = RunStore(tmp_path, keep=3)
    store.save(Model(0, vector(0, 0)), RoundRecord(0, version=0))
    store.persist(RoundRecord(1, version=0), None, None, AgentRegistry())
    store.persist(RoundRecord(2, version=0), None, None, docket())
    found = RunStore(tmp_path, keep=3).load().registry
    assert [file.name for file in tmp_path.glob("*.npz")] == ["agents-000002.npz"]
    before, after = registry_arrays.to_arrays(docket()), registry_arrays.to_arrays(found)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    assert found.statuses == docket().statuses
    assert (found.votes, found.verdict) == ({"b": True, "c": False}, False)


def test_an_empty_docket_survives_the_disk():
    """Before anything is known nothing is."""
    found = registry_arrays.from_arrays(registry_arrays.to_arrays(AgentRegistry()))
    assert (found.statuses, found.memories, found.verdict) == ({}, {}, None)


def test_a_damaged_docket_is_named(tmp_path):
    """A file cut short is an error with its name, and nothing in it is unpickled."""
    store = RunStore(tmp_path, keep=3)
    store.save(Model(0, vector(0, 0)), RoundRecord(0, version=0))
    store.persist(RoundRecord(1, version=0), None, None, docket())
    [file] = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"agents-000001\.npz is damaged .* remove it"):
        RunStore(tmp_path, keep=3).load()
    np.savez(file.with_suffix(""), verdict=np.array([{}], dtype=object))
    with pytest.raises(StoreError, match="damaged"):
        RunStore(tmp_path, keep=3).load()


# Against the truth


def test_precision_and_recall_by_hand():
    """Flagged: x, y, h; evil: x, y, z, w. Two of three are right, two of four are found."""
    record = DetectionRecord(flagged={"x": "long"}, quarantined=("h", "y"), permanent=("h",))
    told = detection_state.against_truth(record, frozenset("xyzw"))
    assert told == Truth(precision=2 / 3, recall=0.5, wrongly_quarantined=1, wrongly_permanent=1)
    nobody = detection_state.against_truth(DetectionRecord(), set())
    assert (nobody.precision, nobody.recall) == (None, None)


def test_several_detectors_are_heard_by_the_highest_score():
    """Of two detectors the one that is surer counts, and is named."""
    mild = lambda seen, memory: (dict.fromkeys(seen.names, 0.6), memory)  # noqa: E731
    watch = DetectionPolicy({"mild": mild, "long": long_updates})
    seen = Observation(1, ("a", "c"), np.array([[1, 0], [60, 80]], "f4"), vector(0, 0), {}, {})
    found = detection_state.inspect(watch, AgentRegistry(), seen)
    assert found.scores == {"a": 0.6, "c": 1.0}
    assert found.flagged == {"a": "mild", "c": "long"}
