"""Quarantine beside all else: rules with a count, votes, piggy-back, a bad network, resuming."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.by_hand import pending, play, policy, published, records, start, updates, vector, vote
from support.federation import Federation, one_thread  # noqa: F401 - a fixture

from fedjury import detection, rules
from fedjury.aggregator.resume import begin
from fedjury.config.sections import Detection
from fedjury.detection import Observation
from fedjury.detection import state as detection_state
from fedjury.detection.state import PERMANENT, AgentRegistry, AgentStatus, DetectionPolicy
from fedjury.detection.update_sums import NOTHING
from fedjury.protocol.messages import Model, Phase, Round, Update
from fedjury.protocol.record import Quality, RoundRecord, to_json
from fedjury.round import aggregate
from fedjury.round.collect.update_buffer import UpdateBuffer
from fedjury.round.machine import step
from fedjury.round.state import GlobalModel, State, Tick, Training
from fedjury.rules import Context

CROWD = {name: (float(place), 1.0) for place, name in enumerate("abcdefg")}
"""Seven honest updates."""


def blames(names):
    """Make a detector that suspects these agents whenever they send anything."""
    return lambda seen, memory: ({name: float(name in names) for name in seen.names}, memory)


def guarded(names, **changes):
    """Make a quarantine of whoever is in ``names``, at the first strike."""
    return replace(DetectionPolicy({"blame": blames(names)}, Detection(offences=1)), **changes)


# Rules with a count


COUNTED = {
    "krum": {"count": 2},
    "multi_krum": {"count": 2, "best": 5},
    "bulyan": {"count": 1},
    "dnc": {"count": 3, "factor": 2.0},
    "foundationfl": {"count": 3},
    "trimmed_mean": {"count": 3},
}
"""What seven updates allow, and fewer do not."""


@pytest.mark.parametrize("name", COUNTED)
def test_a_count_is_lowered_where_suspects_are_left_out(name):
    """Seven are called and four of them caught: the run goes on, then and while they are out."""
    said = policy(rule=rules.build(name, **COUNTED[name]), detection=guarded("defg"), attempts=1)
    state, _ = start(said, CROWD)
    for number in (2, 3):
        sent = updates(state, {agent: CROWD[agent] for agent in state.selected})
        state, effects = play(state, said, *sent, Tick(number - 1.0, set(CROWD)))
        assert (state.round, state.failure, records(effects)[0].why) == (number, "", "")
    assert state.selected == set("abc")


@pytest.mark.parametrize("name", COUNTED)
def test_a_count_that_cannot_be_is_an_error_where_nobody_is_left_out(name):
    """With too few updates for other reasons people have to know."""
    matrix = np.array([*CROWD.values()][:3], dtype=np.float32)
    with pytest.raises(ValueError, match="3"):
        rules.build(name, **COUNTED[name])(matrix, np.ones(3, np.int64), Context())


def test_a_lowered_count_is_the_largest_that_can_be():
    """Krum with f = 2 of seven; of six, one left out, f = 1: n - f - 2 = 3 neighbours count."""
    six = np.array([[0], [1], [2], [10], [11], [30]], dtype=np.float32)
    lowered = rules.build("krum", count=2)(six, np.ones(6, np.int64), Context(excluded=1))
    assert lowered == rules.build("krum", count=1)(six, np.ones(6, np.int64), Context())


def test_a_front_lowers_its_count_too():
    """Nearest-neighbour mixing with f = 4 of seven; of three each stays what it is."""
    three = np.array([[0], [1], [5]], dtype=np.float32)
    rule = rules.build("mean", before={"nnm": 4})
    assert rule(three, np.ones(3, np.int64), Context(excluded=4)).tolist() == [2]
    with pytest.raises(ValueError, match="mix 3 updates"):
        rule(three, np.ones(3, np.int64), Context())


# Votes


def test_a_vote_is_shown_once():
    """A round without a vote, here for a candidate that is not finite, shows no old ones again."""
    shown = []

    def look(seen, memory):
        shown.append((dict(seen.votes), seen.accepted))
        return {}, memory

    said = policy(detection=DetectionPolicy({"look": look}), validators=2, quorum=2)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    first, other = state.validators
    state, _ = play(state, said, vote(first), vote(other), Tick(2.0, set("abc")))
    huge = updates(state, dict.fromkeys("abc", (np.inf, 0)))
    state, _ = play(state, said, *huge, Tick(3.0, set("abc")))
    play(state, said, *updates(state), Tick(4.0, set("abc")))
    assert shown == [({}, None), ({first: False, other: False}, True), ({}, None)]


def test_rounds_in_which_nobody_looks_still_say_who_is_out():
    """With piggy-back the updates of a rejected round are lost; the record is complete."""
    said = policy(piggy_back=True, quorum=1, detection=guarded("c"))
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    assert state.selected == {"a", "b"}
    against = vote("a", 2, poisoned=True), vote("b", 2, poisoned=True)
    state, effects = play(state, said, *against, Tick(2.0, set("abc")))
    [record] = records(effects)
    assert (record.accepted, record.quarantined, record.flagged) == (False, ("c",), {})


# Piggy-back


def test_what_detectors_saw_is_kept_where_the_rule_cannot_work():
    """With piggy-back such a round ends all the same; its strikes count."""
    trimmed = rules.build("trimmed_mean", count=1)
    said = policy(
        rule=trimmed, piggy_back=True, detection=DetectionPolicy({"blame": blames("c")}), quorum=2
    )
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    two = [replace(update, version=1) for update in updates(state)][1:]
    events = [*two, vote("a", 2, poisoned=True)]
    state, effects = play(state, said, *events, Tick(2.0, set("abc")))
    [record] = records(effects)
    assert (record.accepted, record.detection.flagged) == (True, {"c": "blame"})
    assert state.registry.statuses == {"c": AgentStatus(2)}


def test_a_candidate_waits_for_somebody_to_judge_it():
    """With piggy-back, and nobody there to be called, it is not thrown away but tried again."""
    said = policy(piggy_back=True, quorum=2)
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, ()))
    assert (state.phase.name, state.selected) == (Phase.JUDGE_AND_TRAIN, frozenset())
    state, effects = play(state, said, Tick(1.1, set("abc")), Tick(5.0, set("abc")))
    assert (effects, state.attempt) == ([], 1)
    state, _ = play(state, said, Tick(11.0, set("abc")))
    assert (state.round, state.attempt, state.selected) == (2, 2, set("abc"))
    assert pending(state).tolist() == [2, 2]


# Everybody is out


def test_where_everybody_is_out_the_run_says_so_and_ends():
    """Nobody is called, and after all attempts the failure says why."""
    said = policy(detection=guarded("abc"), attempts=2)
    state, _ = start(said)
    state, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    assert published(effects, Round)[-1].contributors == ()
    for now in (5.0, 12.0, 23.0):
        state, effects = play(state, said, Tick(now, set("abc")))
    assert state.phase.name is Phase.DONE
    assert state.failure == (
        "round 2 was given up after 2 attempts: 0 of 0 selected agents sent a valid update, "
        "1 needed (3 agents are in quarantine)"
    )


# A network that comes and goes, and names that do


def test_who_was_there_first_is_no_newcomer_after_an_outage():
    """Nineteen of twenty vanish for a round: they are known again, and may be called at once."""
    watch, fleet = guarded("", newcomers=1), [f"agent-{i:02d}" for i in range(20)]
    docket = detection_state.admit(AgentRegistry(), fleet, 1, watch, 0)
    docket = replace(docket, statuses={"agent-07": AgentStatus(1, PERMANENT, 3)})
    docket = detection_state.admit(docket, fleet[:1], 2, watch, 0)
    docket = detection_state.admit(docket, fleet, 3, watch, 0)
    assert set(docket.seen.values()) == {1}
    assert len(detection_state.eligible(docket, fleet, 3, watch)) == 19


def test_strikes_of_names_that_were_made_up_are_not_kept():
    """A hundred suspects with new names in each round: what is known of them does not grow."""
    watch = guarded("")
    docket = detection_state.admit(AgentRegistry(), "abc", 1, watch, 0)
    for number in range(2, 40):
        ghosts = {f"ghost-{number}-{i}" for i in range(100)}
        docket = detection_state.admit(docket, {*"abc", *ghosts}, number, watch, 0)
        out = dict.fromkeys(ghosts, AgentStatus(1, PERMANENT))
        docket = replace(docket, statuses={**docket.statuses, **out})
    assert len(docket.statuses) <= (detection_state.STRANGERS + 1) * 103


def test_records_name_only_whom_somebody_suspects():
    """A thousand agents of whom nobody looks strange take no room in the record."""
    names = tuple(f"agent-{i:03d}" for i in range(1000))
    seen = Observation(3, names, np.zeros((1000, 2), "f4"), vector(0, 0), {}, {})
    found = detection_state.inspect(
        DetectionPolicy({"blame": blames(["agent-007"])}), AgentRegistry(), seen
    )
    record = found.record(3, 0)
    assert record.suspicion == {"agent-007": 1.0}
    assert len(json.dumps(to_json(RoundRecord(3, detection=record)))) < 600


# Resuming


WATCHED = {
    "run__rounds": 7,
    "agents__n": 10,
    "agents__malicious": 0.2,
    "agents__start": 2,
    # One goes by votes on groups: tests/federation/test_blamed_groups.py
    "detection__detectors": [one for one in detection.DETECTORS if one != "group_testing"],
    "detection__quarantine": True,
    "detection__options": {"fldetector": {"window": 2}},
    "detection__readmission_after": 2,
    "aggregation__rule": "foolsgold",
    "limits__finite": False,
    "validation__validators": 4,
    "validation__quorum": 3,
    "validation__look_back": 2,
}
"""All detection, votes, and a rule that asks for the past: two of ten are caught and appeal."""


@pytest.mark.usefixtures("one_thread")
def test_a_resumed_run_suspects_whom_it_would_have(tmp_path):
    """Killed in the middle of every round, it makes the same models and the same records."""
    whole = Federation(tmp_path / "whole", **WATCHED).whole()
    assert [len(record.detection.flagged) for record in whole.records] == [0, 2, 2, 0, 0, 2, 0]
    torn = Federation(tmp_path / "torn", **WATCHED)
    for number in range(1, 8):
        torn.begin()
        torn.run(lambda state, now=number: state.round == now and len(state.updates) > 3)
        torn.crash()
    torn.whole()
    assert torn.models == whole.models
    said, right = (
        [(r.detection, r.votes.counts, r.selected) for r in run.records] for run in (torn, whole)
    )
    assert said == right


# Resuming with other settings


OUT = AgentRegistry(
    {"b": AgentStatus(1), "c": AgentStatus(2, PERMANENT, 3)},
    {"gone": {"x": np.ones(3)}},
    dict.fromkeys("abc", 1),
    dict.fromkeys("abc", 1),
    {},
    None,
    NOTHING.plus(("a",), np.ones((1, 2), "f4"), ()),
)


def resumed(watch):
    """Resume after round 4 with this watch; return the state in round 5, and the policy."""
    said = policy(detection=watch)
    state = begin([Model(0, vector(0, 0))], RoundRecord(4, model=Quality(0.5)), said, registry=OUT)
    return step(state, Tick(0.0, set("abc")), said)[0], said


@pytest.mark.parametrize(
    "watch",
    [DetectionPolicy(), DetectionPolicy({"blame": blames("")}), DetectionPolicy(newcomers=3)],
)
def test_without_quarantine_a_resumed_run_calls_everybody(watch):
    """It does not matter what else is looked at; nobody stays out whom no one keeps out."""
    state, said = resumed(watch)
    assert state.selected == set("abc")
    _, effects = play(state, said, *updates(state), Tick(1.0, set("abc")))
    assert records(effects)[0].quarantined == ()


def test_a_resumed_run_forgets_what_nobody_needs():
    """Sums of updates without a rule that asks for them, memories without their detector."""
    state, said = resumed(guarded(""))
    assert state.selected == {"a", "b"}
    sent = updates(state, dict.fromkeys("ab", (1, 0)))
    state, _ = play(state, said, *sent, Tick(1.0, set("abc")))
    assert (list(state.registry.memories), state.registry.update_sums.rows.size) == (["blame"], 0)


def test_fldetector_goes_on_with_another_window():
    """A window that was changed begins again; it is no error."""
    rng, memory = np.random.default_rng(0), {}
    for number in range(1, 30):
        seen = Observation(
            number,
            ("a", "b", "c"),
            rng.standard_normal((3, 4)).astype("f4"),
            rng.standard_normal(4).astype("f4"),
            dict.fromkeys("abc", 1),
            {},
        )
        window = 10 if number < 15 else 4
        scores, memory = detection.build("fldetector", window=window)(seen, memory)
        assert set(scores) == set("abc")
    assert memory["distances"].shape == (3, 4)


def test_without_detectors_nothing_is_looked_at():
    """Where nobody asks for them updates are aggregated as they are, and nobody is flagged."""
    buffer = UpdateBuffer.of("a").add(Update("a", 1, 0, 1, vector(1, 1)))
    state = State(GlobalModel(0, vector(0, 0)), 1, Training(buffer))
    gathered = aggregate.gather(state, Tick(0.0), policy())
    result = aggregate.aggregate(state, gathered, policy())
    assert (result.candidate.tolist(), result.detection, result.filtered) == ([1, 1], None, 0)
