"""The record of a round: typed inside, JSON outside, and read without believing anything."""

from __future__ import annotations

import ast
import json
import pickle
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjury.protocol.fields import MAX_ENTRIES, MAX_TEXT, rows
from fedjury.protocol.harm import Harm
from fedjury.protocol.logs import InvalidMessages, RoundRepeated
from fedjury.protocol.pooled import Pooled
from fedjury.protocol.record import (
    Ballot,
    DetectionRecord,
    Figures,
    Quality,
    RecordError,
    RoundRecord,
    Timing,
    Traffic,
    Truth,
    Votes,
    read,
    table,
    to_json,
)

ROOT = Path(__file__).resolve().parents[2]

FULL = RoundRecord(
    round=7,
    run="lab",
    attempt=2,
    version=6,
    accepted=False,
    why="voted down",
    judged=6,
    lost="the candidate is not finite",
    selected=20,
    updates=17,
    declined=1,
    missing=2,
    absent=("agent-3", "agent-9"),
    model=Quality(0.5, None, {"loss": -1.5}),
    candidate=Quality(0.25, 0.75, {"loss": -1.25}),
    harm=Harm(0.125, 0.75, 0.25),
    training={"loss": 0.5},
    trained={"ann": Figures(40, {"loss": 0.5})},
    evaluated={"bob": Figures(30, {"rmse": 1.5})},
    votes=Votes(
        poisoned=2,
        clean=1,
        silent=1,
        voters={":server": Ballot(True, 2.5, 1.5, 0), "ann": Ballot(False, 0.5, 1.5, 300)},
        rejects_at=2,
        replaced=("bob",),
        median_samples=40,
        pooled=Pooled(True, 2.5, 1.25, 9, 2),
    ),
    traffic=Traffic({"duplicate": 3}, 4000, 300, 0),
    timing=Timing(1.5, 12.0, 1_700_000_000.125),
    detection=DetectionRecord({"eve": 0.9}, {"eve": "burst"}, 1, ("eve",), ()),
    truth=Truth(strength=2.0, precision=1.0, recall=0.5, wrongly_quarantined=0),
    left=("agents",),
)
JSON = {
    "round": 7,
    "run": "lab",
    "attempt": 2,
    "version": 6,
    "accepted": False,
    "why": "voted down",
    "judged": 6,
    "lost": "the candidate is not finite",
    "selected": 20,
    "updates": 17,
    "declined": 1,
    "missing": 2,
    "absent": ["agent-3", "agent-9"],
    "accuracy": 0.5,
    "backdoor": None,
    "metrics": {"loss": -1.5},
    "candidate_accuracy": 0.25,
    "candidate_backdoor": 0.75,
    "candidate_metrics": {"loss": -1.25},
    "largest_backdoor": 0.125,
    "best_accuracy": 0.75,
    "accuracy_lost": 0.25,
    "training": {"loss": 0.5},
    "trained": {"ann": {"samples": 40, "metrics": {"loss": 0.5}}},
    "evaluated": {"bob": {"samples": 30, "metrics": {"rmse": 1.5}}},
    "votes": {"poisoned": 2, "clean": 1, "silent": 1},
    "voters": {
        ":server": {"poisoned": True, "score": 2.5, "threshold": 1.5, "size": 0},
        "ann": {"poisoned": False, "score": 0.5, "threshold": 1.5, "size": 300},
    },
    "quorum": 2,
    "replaced": ["bob"],
    "voter_samples": 40,
    "pooled": {
        "poisoned": True,
        "score": 2.5,
        "threshold": 1.25,
        "validators": 9,
        "left_out": 2,
        "secret_sums": 0,
    },
    "invalid_messages": {"duplicate": 3},
    "bytes_in": 4000,
    "bytes_out": 300,
    "dropped": 0,
    "seconds": 1.5,
    "updates_per_second": 12.0,
    "time": 1_700_000_000.125,
    "suspicion": {"eve": 0.9},
    "flagged": {"eve": "burst"},
    "filtered": 1,
    "quarantined": ["eve"],
    "permanent": [],
    "strength": 2.0,
    "precision": 1.0,
    "recall": 0.5,
    "wrongly_quarantined": 0,
    "left": ["agents"],
}


def test_a_record_by_hand_there_and_back():
    """Its parts lie beside each other in JSON, under the keys that readers have always known."""
    assert to_json(FULL) == JSON
    assert list(to_json(FULL)) == list(JSON)
    assert read(json.loads(json.dumps(JSON))) == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def test_a_plain_round_says_nothing_of_what_there_was_not():
    """Nobody was asked, no detector looked, no candidate was made: these keys are not there."""
    said = to_json(RoundRecord(1, timing=Timing(0.5, 4.0)))
    assert (said["votes"], said["voters"]) == ({}, {})
    absent = {"quorum", "replaced", "voter_samples", "pooled", "flagged", "candidate_accuracy"}
    absent |= {"lost"}
    assert not absent & said.keys()
    found = read(said)
    assert (found.candidate, found.detection, found.truth) == (None, None, None)
    assert read(to_json(RoundRecord(1, detection=DetectionRecord()))).detection == DetectionRecord()


def test_a_run_that_begins_says_how_its_model_is():
    """Round 0 has no updates, votes or traffic to speak of."""
    said = to_json(RoundRecord(0, run="lab", model=Quality(0.125), timing=Timing(time=5.0)))
    keys = {"round": 0, "run": "lab", "version": 0, "accepted": None}
    assert said == keys | {"accuracy": 0.125, "backdoor": None, "time": 5.0}


def test_harm_by_hand():
    """The largest of accepted models' backdoors, and accuracy since its best; null is no zero."""
    before = Harm().after(0.5)
    assert before == Harm(None, 0.5, 0.0)
    first = before.after(0.75, 0.25)
    assert first == Harm(0.25, 0.75, 0.0)
    second = first.after(0.625, 0.125)
    assert second == Harm(0.25, 0.75, 0.125)
    unmeasured = second.after(None)
    assert unmeasured == Harm(0.25, 0.75, None)
    assert unmeasured.after(0.8, 0.3) == Harm(0.3, 0.8, 0.0)
    assert Harm().after(None) == Harm().after(float("nan"), float("nan")) == Harm()


def test_where_nothing_is_measured_a_record_says_nothing_of_harm():
    """The keys are not there; of half of it the other half is not."""
    assert (
        not {"largest_backdoor", "best_accuracy", "accuracy_lost"} & to_json(RoundRecord(1)).keys()
    )
    half = to_json(RoundRecord(1, harm=Harm().after(0.5)))
    assert (half["best_accuracy"], half["accuracy_lost"]) == (0.5, 0.0)
    assert "largest_backdoor" not in half


@pytest.mark.parametrize(("said", "known"), [(0, 0.0), (0.0, 0.0), (None, None)])
def test_not_measured_is_not_zero(said, known):
    """An accuracy may be null, and stays so through both directions."""
    found = read({"round": 1, "accuracy": said}).model.accuracy
    assert (found, type(found)) == (known, type(known))
    assert to_json(RoundRecord(1, model=Quality(known)))["accuracy"] == known


def test_old_records_are_read():
    """The first ones say neither the run nor the time, nor whose candidate the verdict is about."""
    old = {"round": 3, "version": 2, "accepted": True, "updates": 8, "accuracy": 0.4, "seconds": 2}
    found = read(old)
    assert (found.run, found.timing.time, found.judged) == ("", None, 3)
    assert (found.model.accuracy, found.timing.seconds, found.updates) == (0.4, 2.0, 8)
    assert read(old | {"judged": None}).judged is None


# Strangers

WRONG = [
    ("accuracy", 1.5),
    ("largest_backdoor", 1.5),
    ("accuracy_lost", -0.1),
    ("accuracy", "0.5"),
    ("accuracy", True),
    ("accuracy", float("nan")),
    ("attempt", -1),
    ("attempt", 2**31),
    ("attempt", 1.0),
    ("accepted", 1),
    ("why", 7),
    ("absent", "ann"),
    ("absent", ["x"] * (MAX_ENTRIES + 1)),
    ("votes", [1]),
    ("votes", {"poisoned": None}),
    ("voters", {"ann": True, "../x": {"poisoned": True}, "bob": {"score": 1.0}}),
    ("pooled", {"score": float("inf"), "threshold": "high", "validators": -1}),
    ("seconds", -1),
    ("bytes_in", 10**400),
    ("invalid_messages", {"duplicate": "many", "malformed": -1}),
    ("suspicion", {"eve": 2, "not a name": 0.5}),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_what_cannot_be_is_as_if_it_were_not_said(key, value):
    """Another type, no number, out of range or too long: that value is dropped, the rest stays."""
    said = {"round": 7, "updates": 8, "accuracy": 0.5, "an unknown key": {}} | {key: value}
    right = {k: v for k, v in said.items() if k != key}
    found = read(said)
    assert found.updates == 8
    plain = read(right | ({"suspicion": {}} if key == "suspicion" else {}))
    assert found == plain


@pytest.mark.parametrize("value", [None, 7, [], "x", {}, {"round": None}, {"round": True}])
def test_what_has_no_round_is_refused(value):
    """Everything else may be missing."""
    with pytest.raises(RecordError, match=r"it is not a map|'round'"):
        read(value)


@pytest.mark.parametrize("said", [{}, {"version": "2"}, {"version": -1}])
def test_who_needs_more_says_so(said):
    """A key that is needed must be there and fit; the error names it."""
    with pytest.raises(RecordError, match="'version'"):
        read({"round": 7, **said}, needs=("round", "version"))


def test_texts_are_bounded_and_move_no_cursor():
    """Whoever reads records may print them."""
    assert len(read({"round": 1, "why": "x" * 10**6}).why) == MAX_TEXT
    assert read({"round": 1, "why": "a\x1b[2J\u202eb"}).why == "a\ufffd[2J\ufffdb"


def test_reasons_are_those_of_the_protocol():
    """Others are put together, so that nobody can make up a thousand."""
    found = read({"round": 1, "invalid_messages": {"duplicate": 2, "x": 3, "y": 4}})
    assert found.traffic.invalid_messages == {"duplicate": 2, "other": 7}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(JSON)), values))
def test_any_json_is_a_record_or_refused(said):
    """What is let in can be written as strict JSON, and comes back the same."""
    try:
        once = read(said)
    except RecordError:
        return
    again = read(json.loads(json.dumps(to_json(once), allow_nan=False)))
    assert again == once or not once.round  # of round 0 only the beginning is written


# The type and what is said of it


def test_nothing_of_a_record_can_be_changed():
    """It is frozen, and so are all its parts."""
    for part in (FULL, *(getattr(FULL, field.name) for field in fields(FULL))):
        if is_dataclass(part):
            with pytest.raises(FrozenInstanceError):
                setattr(part, fields(part)[0].name, 1)


def test_the_documents_table_is_made_of_the_type():
    """To mend it, print fedjury.protocol.record.table() into docs/protocol.md."""
    assert table() in (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    documented = {key for key, *_ in rows(RoundRecord)}
    assert {key for key in JSON if key not in ("votes", "pooled")} <= documented


ELSEWHERE = {
    "fedjury/broker/enrolment_file.py": "the enrolment",
    "fedjury/experiments/engine/runner.py": "a case that was kept",
    "fedjury/experiments/papers/group_leak.py": "what a run was watched for",
    "fedjury/experiments/papers/secure_votes.py": "the labels of a case",
    "fedjury/aggregator/store.py": "the metadata of a model's file",
    "fedjury/judges/applied.py": "the parts of judgements",
    "fedjury/aggregator/rule_memory.py": "the metadata of a file of the rule's",
    "fedjury/aggregator/release_file.py": "the metadata of a noisy candidate's file",
    "fedjury/aggregator/sums_file.py": "the sums that were opened over a model",
    "fedjury/experiments/engine/federation.py": "the attack log",
    "fedjury/gateway/client.py": "the gateway's JSON",
    "fedjury/aggregator/assembly.py": "the metrics of a task",
    "fedjury/detection/registry_arrays.py": "the arrays of what is known of the agents",
    "fedjury/config/renamed.py": "old names of settings",
    "fedjury/federation/exported.py": "a run's manifest and a file's metadata",
    "fedjury/federation/outcome.py": "columns of a table",
    "fedjury/monitor/run_view.py": "what a topic says",
    "fedjury/round/announcement.py": "who is called by number",
    "fedjury/cluster/supervise.py": "the plan of a cluster",
    "fedjury/round/selection.py": "who is called by number",
}
"""Files that look keys up which a record has too, in something else, and in what."""


def test_nobody_reads_a_record_by_its_keys():
    """Only ``fedjury.protocol`` knows them: all others read fields of the type."""
    kinds = (RoundRecord, RoundRepeated, InvalidMessages)
    keys = {word for kind in kinds for key, *_ in rows(kind) for word in key.split(".")}
    found = set()
    for file in sorted(
        [*(ROOT / "fedjury").rglob("*.py"), *(ROOT / "tools" / "chaos").rglob("*.py")]
    ):
        name = file.relative_to(ROOT).as_posix()
        looked = map(looked_up, ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        if keys.intersection(looked) and not name.startswith("fedjury/protocol/"):
            found.add(name)
    assert found == set(ELSEWHERE)


def looked_up(node):
    """Return the text that is looked up by ``x["text"]`` or ``x.get("text")``, if one is."""
    match node:
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(key)), *_]):
            return key
    return None
