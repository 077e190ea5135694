"""The run's folder survives: kills between any two operations, full disks, damage, other runs."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager, suppress

import pytest
from support.cutting import CASES, FULL, Torn, contents, cut, every_case, federation, same_run
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture

from fedjury.aggregator.store import StoreError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Hold each case as it goes if nothing happens."""
    return every_case(tmp_path_factory.mktemp("undisturbed"))


@contextmanager
def failing(run, number, at, why=None):
    """Let the disk fail while this round is made durable; yields a list for the disk."""
    store = run.aggregator._store
    persist, met = store.persist, []

    def persisting(record, *left):
        if record.round != number:
            return persist(record, *left)
        with cut(run.folder, at, why) as broken:
            met.append(broken)
            return persist(record, *left)

    store.persist = persisting
    yield met
    store.persist = persist


# Killed


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("number", [1, 3])
def test_killed_between_any_two_operations_a_run_is_the_same_run(
    tmp_path, undisturbed, case, number
):
    """Whatever a kill leaves of a round's files, the run goes on to the same models."""
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
        assert run.models.keys() == undisturbed[case].models.keys()
    assert {"write rounds.jsonl", "half of rounds.jsonl"} <= set(met[0].done)
    assert not met[0].hit


def test_all_that_is_written_is_durable_before_what_stands_on_it(tmp_path):
    """Files, the folders that name them, then the record: each is synced before the next begins.

    Only then is anything removed.
    """
    run = federation(tmp_path, "all of it")
    run.begin()
    with failing(run, 5, 10**6) as met:
        run.run()

    def whole(part, folder):
        steps = ["open", "write", "half of", "fsync", "replace"]
        return [f"{step} {part}.part" for step in steps] + [f"open {folder}", f"fsync {folder}"]

    lab = tmp_path.name
    assert met[0].done == [
        *whole("candidate-000005", lab),
        *whole("agents-000005", lab),
        *whole("000004", "models"),
        "unlink 000000.safetensors",
        *(f"{step} rounds.jsonl" for step in ("open", "write", "half of", "fsync")),
        "unlink candidate-000003.safetensors",
        "unlink agents-000003.npz",
    ]


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
    whole, refused = undisturbed[case], []
    for at in range(operations(tmp_path / "whole", case)):
        why = WHY[at % len(WHY)]
        run = federation(tmp_path / str(at), case)
        run.begin()
        run.run(lambda state: state.round == 3)
        before, told = contents(run.folder), []
        with failing(run, 3, at, why) as met, heard_after(run, 3, told):
            try:
                run.run(lambda state: state.round == 4)
            except StoreError as error:
                refused.append(str(error))
                assert told == []
        assert met[0].hit == bool(refused)
        if refused:
            check_sentence(refused.pop(), run.folder, why)
        after = contents(run.folder)
        assert not [name for name in after if name.endswith(".part")] or why not in FULL
        for name in before.keys() & after.keys():
            assert after[name].startswith(before[name]), name
        run.crash()
        run.whole()
        same_run(run, whole)


def operations(folder, case):
    """Count what is done to the disk for round 3."""
    run = federation(folder, case)
    run.begin()
    with failing(run, 3, 10**6) as met:
        run.run(lambda state: state.round == 4)
    assert len(met[0].done) > 3
    return len(met[0].done)


@contextmanager
def heard_after(run, number, told):
    """Write down the topics of all that is published once a round was to be made durable."""
    store = run.aggregator._store
    persist = store.persist

    def persisting(record, *left):
        if record.round == number:
            run.broker.listeners.append(lambda topic, _: told.append(topic))
        persist(record, *left)

    store.persist = persisting
    yield


def check_sentence(said, folder, why):
    """Check that it says what could not be written, why, and what to do."""
    assert re.fullmatch(
        rf"cannot write to {folder}/\S+: {os.strerror(why)}; nothing was lost, and the same "
        r"command resumes from it once [a-z ]+",
        said,
    )
    assert said.endswith("once there is room") == (why in (errno.ENOSPC, errno.EDQUOT))
