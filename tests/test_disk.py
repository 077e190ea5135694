"""The run's folder survives: kills between any two operations, full disks, damage, other runs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
from cutting import Torn, cut
from federation import Federation, one_thread  # noqa: F401 - a fixture
from safetensors.numpy import load_file, save_file

from aggregator import detectors, disk
from aggregator.described import changes, check_format
from aggregator.store import RunStore, StoreError, read_records
from protocol.messages import Model

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDS = 5
SMALL = {"agents__n": 6, "run__rounds": ROUNDS, "validation__look_back": 2}
PIGGY = {"validation__piggy_back": True, "validation__quorum": 6}
WATCHED = {
    "agents__n": 8, "agents__evil": 0.25, "agents__start": 2, "limits__finite": False,
    "detection__detectors": [*detectors.DETECTORS], "detection__quarantine": True,
    "detection__strikes": 1, "detection__appeal": 1, "aggregation__rule": "foolsgold",
    "detection__options": {"fldetector": {"window": 2}},
}  # fmt: skip
CASES = {
    "accepted": {},
    "rejected": {
        "validation__validators": 3, "validation__quorum": 2, "validation__warm_up": 2,
        "agents__lying": 1.0, "agents__liars": "always_reject",
    },
    "piggy-back": PIGGY,
    "docket": WATCHED,
    "all of it": {**PIGGY, **WATCHED},
}  # fmt: skip
"""Rounds that accept a model, or reject one (from round 3 on), and that leave more than that."""


def federation(folder, case, **changes):
    return Federation(folder, **SMALL | CASES[case] | changes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Hold each case as it goes if nothing happens."""
    return {case: federation(tmp_path_factory.mktemp("run"), case).whole() for case in CASES}


def same_run(run, whole):
    """Check that a run came to the same, on the network and on disk."""
    assert run.models == whole.models
    told = ("round", "version", "accepted", "accuracy", "votes", "judged", "suspected", "called")
    for mine, other in zip(run.records, whole.records, strict=True):
        assert {key: mine.get(key) for key in told} == {key: other.get(key) for key in told}
    mine, other = (
        {f.name: load_file(f)["weights"].tobytes() for f in r.folder.rglob("*.safetensors")}
        for r in (run, whole)
    )
    assert mine == other
    assert not [*run.folder.rglob("*.part")]


@contextmanager
def failing(run, number, at, why=None):
    """Let the disk fail while this round is made durable; yields a list for the disk."""
    store = run.aggregator._store
    persist, met = store.persist, []

    def persisting(record, *left):
        if record["round"] != number:
            return persist(record, *left)
        with cut(run.folder, at, why) as broken:
            met.append(broken)
            return persist(record, *left)

    store.persist = persisting
    yield met
    store.persist = persist


def contents(folder):
    """Return the bytes of all files of a run."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


# Killed


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("number", [1, 3])
def test_killed_between_any_two_operations_a_run_is_the_same_run(
    tmp_path, undisturbed, case, number
):
    """Whatever a kill leaves of a round's files, the run goes on to the same models."""
    seen = []
    for at in range(100):
        run = federation(tmp_path / str(at), case)
        run.begin()
        with failing(run, number, at) as met, suppress(Torn):
            run.run()
        if not met[0].hit:
            break
        run.crash()
        run.whole()
        same_run(run, undisturbed[case])
        seen = met[0].done
    assert not met[0].hit
    assert {"write rounds.jsonl", "half of rounds.jsonl"} <= set(seen)
    assert len(seen) == len(met[0].done) - 1


@pytest.mark.parametrize("case", ["piggy-back"])
def test_killed_while_it_begins_a_run_begins_again(tmp_path, undisturbed, case):
    """Folder, manifest and first model: whatever is there of them, the run begins."""
    for at in range(100):
        run = federation(tmp_path / str(at), case)
        with cut(run.folder, at) as broken, suppress(Torn):
            run.begin()
            run.crash()
        if not broken.hit:
            break
        run.whole()
        same_run(run, undisturbed[case])
    assert at > 10
    assert not broken.hit


@pytest.mark.parametrize("case", ["accepted", "all of it"])
def test_killed_while_it_mends_a_run_is_mended_later(tmp_path, undisturbed, case):
    """What a kill left is put right by the next start, or the one after."""
    run = federation(tmp_path / "torn", case)
    run.begin()
    for at in range(100):
        with failing(run, 3, at) as met, suppress(Torn):
            run.run()
        if met and met[0].done[-1:] == ["write rounds.jsonl"]:
            break
        shutil.rmtree(run.folder)
        run = federation(tmp_path / "torn", case)
        run.begin()
    (run.folder / "models" / "000004.part").write_bytes(b"half")
    for at in range(100):
        heir = federation(tmp_path / str(at), case)
        shutil.copytree(run.folder, heir.folder)
        with cut(heir.folder, at) as broken, suppress(Torn):
            heir.begin()
            heir.crash()
        if not broken.hit:
            break
        heir.whole()
        same_run(heir, undisturbed[case])
    assert {"unlink 000004.part", "replace rounds.part"} <= set(broken.done)
    assert not broken.hit


# Full, or not to be written


WHY = [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EFBIG]


@pytest.mark.parametrize("case", ["accepted", "rejected", "all of it"])
def test_what_cannot_be_written_is_not_told_of_and_not_lost(tmp_path, undisturbed, case):
    """A disk that refuses ends the run with one sentence; with room it goes on to the same models.

    Nothing of the round is published, no half file stays behind where one may be removed, and
    what was there before has not changed.
    """
    for at in range(100):
        why = WHY[at % len(WHY)]
        run = federation(tmp_path / str(at), case)
        run.begin()
        run.run(lambda state: state.round == 3)
        before, told = contents(run.folder), []
        with failing(run, 3, at, why) as met:
            persist = run.aggregator._store.persist

            def noting(record, *left, run=run, told=told, persist=persist):
                told.append(len(run.broker.listeners))
                run.broker.listeners.append(lambda topic, _: told.append(topic))
                persist(record, *left)

            run.aggregator._store.persist = noting
            try:
                run.run(lambda state: state.round > 3)
            except StoreError as error:
                said = str(error)
                assert said.startswith(f"cannot write to {run.folder}")
                assert os.strerror(why) in said
                assert "the same command goes on" in said
                assert ("once there is room" in said) == (why in (errno.ENOSPC, errno.EDQUOT))
                assert told[1:] == []
        if not met[0].hit:
            break
        if why in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            assert not [*run.folder.rglob("*.part")]
        after = contents(run.folder)
        for name in before.keys() & after.keys():
            assert after[name].startswith(before[name]), name
        run.crash()
        run.whole()
        same_run(run, undisturbed[case])
    assert at > 5
