"""Programs of version 1 and ours: each is told in one sentence, and old records are read."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from support.federation import Federation

from fedjury.agents.agent_runner import AgentRunner
from fedjury.aggregator.records import lines_of
from fedjury.protocol import runs
from fedjury.protocol.fields import jsonable
from fedjury.protocol.messages import PROTOCOL, Manifest, Manifest1, Presence1
from fedjury.protocol.record import RoundRecord, read, to_json
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport

OLD_ROUNDS = Path(__file__).parent / "protocol1_rounds.jsonl"
"""What an aggregator of version 1 wrote of three rounds with votes and a quarantine."""

OLD_KEYS = {
    "model",
    "tensors",
    "parameters",
    "classes",
    "input_shape",
    "epochs",
    "batch_size",
    "learning_rate",
    "momentum",
    "codec",
    "history_codec",
    "max_bytes",
    "judge",
    "judge_options",
    "look_back",
    "minimum_history",
    "protocol",
}
"""Exactly what a reader of version 1 wants a manifest to have: it refuses one more, or less."""


def small(folder, **changes):
    return Federation(folder, agents__n=4, run__rounds=1, validation__validators=0, **changes)


def test_an_aggregator_tells_agents_of_version_1_where_they_look(tmp_path):
    """They find the run by its presence, and read in the manifest that it is not for them."""
    run = small(tmp_path)
    run.begin()
    manifest = json.loads(run.broker.retained["fl/v1/lab/manifest"])
    assert manifest.keys() == OLD_KEYS
    assert manifest["protocol"] == PROTOCOL == 2
    there = json.loads(run.broker.retained["fl/v1/lab/aggregator"])
    assert there.keys() == {"online", "since", "deals"}
    assert there["online"] is True


def test_what_version_1_is_told_is_forgotten_with_the_run(tmp_path):
    """``--forget`` leaves nothing of either version behind."""
    run = small(tmp_path)
    run.begin()
    run.run()
    run.aggregator.forget(0.0)
    assert not [topic for topic in run.broker.retained if topic.startswith("fl/v1/")]


@pytest.mark.parametrize(("protocol", "sentences"), [(1, 1), (PROTOCOL, 0)])
def test_agents_say_so_where_the_aggregator_is_older(protocol, sentences):
    """An aggregator of version 1 retains its manifest below fl/v1; ours says there that it is 2."""
    broker, said = MemoryBroker(), []
    old = json.dumps(jsonable(asdict(Manifest1(protocol)))).encode()
    broker.publish("fl/v1/lab/manifest", old, retain=True)
    agents = AgentRunner(
        MemoryTransport(broker, "lab"),
        ["ann", "bob"],
        assemble=lambda _: pytest.fail("there is no run to take part in"),
        say=said.append,
        stopping=lambda: False,
    )
    agents.join()
    agents.turn()
    assert len(said) == sentences
    assert all("speaks protocol 1, and these agents speak 2" in text for text in said)


def test_who_looks_for_a_run_is_told_of_one_that_is_too_old():
    """It is no run to join, and not nothing either."""
    old = json.dumps(jsonable(asdict(Manifest1(1)))).encode()
    known = runs.on_message(runs.NONE, "fl/v1/lab/manifest", old)
    assert runs.newest(known) == ""
    assert known["lab"].protocol == 1
    known = runs.on_message(known, "fl/v1/lab/aggregator", b'{"online":true,"since":1,"deals":""}')
    assert runs.newest(known) == ""


def test_the_shapes_for_version_1_are_no_messages_of_ours():
    """Nothing that handles a manifest takes one of these for it."""
    assert not issubclass(Manifest1, Manifest)
    assert Presence1(online=True, since=1.0).deals == ""


def test_a_run_folder_of_version_1_is_read(tmp_path):
    """Every key that had another name is found under it: nothing of the old rounds is lost."""
    (tmp_path / "rounds.jsonl").write_bytes(OLD_ROUNDS.read_bytes())
    records = lines_of(tmp_path)
    for line in OLD_ROUNDS.read_text().splitlines():
        old = json.loads(line)
        record = records[old["round"]]
        assert (record.selected, record.updates) == (old["called"], old["updates"])
        assert record.traffic.invalid_messages == old["refused"]
        assert record.detection.flagged == old["suspected"]
        assert record.detection.filtered == old["left_out"]
        assert list(record.detection.permanent) == old["for_good"]
        sizes = {name: vote["bytes"] for name, vote in old["voters"].items()}
        assert {name: vote.size for name, vote in record.votes.voters.items()} == sizes
    assert any(record.detection.flagged for record in records.values())
    assert any(vote.size for record in records.values() for vote in record.votes.voters.values())


def test_what_is_written_has_the_new_keys_alone():
    """An old record, read and written, says the same under the keys of version 2."""
    old = {
        "round": 3,
        "called": 9,
        "refused": {"not_called": 2, "wrong_keys": 1},
        "for_good": ["a"],
    }
    record = read({**old, "suspected": {"a": "length"}, "wrongly_for_good": 1, "left_out": 1})
    new = to_json(record)
    assert new.keys().isdisjoint({*old, "suspected", "left_out", "wrongly_for_good"} - {"round"})
    assert new["invalid_messages"] == {"not_selected": 2, "missing_key": 1}
    assert (new["selected"], new["filtered"], new["permanent"]) == (9, 1, ["a"])
    assert (new["flagged"], new["wrongly_permanent"]) == ({"a": "length"}, 1)
    assert read(new) == record


def test_where_a_record_has_both_keys_the_new_one_counts():
    """A stranger cannot overrule what version 2 says by what version 1 would have."""
    assert read({"round": 1, "selected": 4, "called": 9}) == RoundRecord(1, selected=4, judged=1)
