"""What is known of the agents, on disk: large arrays are written once, and survive kills."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from support.cutting import Torn, cut, federation, same_run
from support.federation import one_thread  # noqa: F401 - a fixture

from fedjury.aggregator import durable_files, registry_files
from fedjury.aggregator.store import RunStore, StoreError
from fedjury.detection.registry_arrays import to_arrays
from fedjury.detection.state import AgentRegistry, AgentStatus
from fedjury.detection.update_sums import UpdateSums
from fedjury.protocol.messages import Model
from fedjury.protocol.record import Quality, RoundRecord

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Take arrays from 400 bytes on for large ones."""
    monkeypatch.setattr(registry_files, "APART", 400)


def large(value):
    return np.full((10, 11), value, np.float32)


OLD = large(1)
"""What did not change from round to round."""


def docket(number):
    """Make what is known after a round: of two detectors, of which one has something new."""
    return AgentRegistry(
        {"ann": AgentStatus(number % 3)},
        {"new": {"last": large(number), "few": np.arange(3)}, "old": {"rows.1": OLD}},
    )


def record(number):
    return RoundRecord(number, model=Quality(0.5))


def persist(folder, *numbers, store=None):
    """Make these rounds durable; returns the store."""
    store = store or RunStore(folder, keep=3)
    for number in numbers:
        store.persist(record(number), None, None, docket(number))
    return store


@pytest.fixture
def folder(tmp_path):
    """Hold a run that has begun."""
    RunStore(tmp_path, keep=3).save(Model(0, np.zeros(11, np.float32)), record(0))
    return tmp_path


def rows(folder):
    return {file.name: file.stat().st_ino for file in folder.glob("rows-*")}


def same_docket(found, expected):
    before, after = to_arrays(expected), to_arrays(found)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)


def test_what_is_the_same_is_not_written_again(folder):
    """Of two arrays one is new in every round; the other's file stays, also over a restart."""
    store = persist(folder, 1)
    first = rows(folder)
    assert {*first} == {"rows-000001-1.bin", "rows-000001-2.bin"}
    persist(folder, 2, 3, store=store)
    assert {*rows(folder)} == {"rows-000001-2.bin", "rows-000003-1.bin"}
    again = RunStore(folder, keep=3)
    found = again.load().registry
    same_docket(found, docket(3))
    again.persist(record(4), None, None, found)
    assert rows(folder)["rows-000001-2.bin"] == first["rows-000001-2.bin"]
    assert len(rows(folder)) == 2
    assert (folder / "agents-000004.npz").stat().st_size < 4000


def test_a_crash_leaves_what_belongs_together(folder, tmp_path_factory):
    """Killed between any two operations in round 3, the run has round 2's arrays or round 3's."""
    reached = []
    for at in range(100):
        place = tmp_path_factory.mktemp("torn") / "lab"
        place.mkdir()
        (place / "models").mkdir()
        first = folder / "models" / "000000.safetensors"
        (place / "models" / first.name).write_bytes(first.read_bytes())
        store = persist(place, 1, 2)
        with cut(place, at) as died, suppress(Torn):
            persist(place, 3, store=store)
        heir = RunStore(place, keep=3)
        saved = heir.load()
        same_docket(saved.registry, docket(saved.record.round))
        reached.append(saved.record.round)
        persist(place, 3, store=heir)
        same_docket(RunStore(place, keep=3).load().registry, docket(3))
        assert not [*place.glob("*.part")]
        assert len(rows(place)) == 2
        if not died.hit:
            break
    assert not died.hit
    assert (min(reached), max(reached)) == (2, 3)
    assert {"fsync rows-000003-1.part", "unlink rows-000002-1.bin"} <= set(died.done)


@pytest.mark.parametrize("refuses", [False, True])
def test_large_files_are_written_whole(tmp_path, monkeypatch, refuses):
    """Past the system's cache, where there is a way past it, and to the last byte."""
    real = fcntl.fcntl

    def unless_direct(number, command, flags=0):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no such thing here")
        return real(number, command, flags)

    if refuses:
        monkeypatch.setattr(fcntl, "fcntl", unless_direct)
    data = np.random.default_rng(0).bytes(2 * durable_files.PIECE + 5)
    for _ in range(2):
        durable_files.replace(tmp_path / "large.bin", data)
        assert (tmp_path / "large.bin").read_bytes() == data


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-4])


def one_byte(file):
    data = bytearray(file.read_bytes())
    data[99] ^= 4
    file.write_bytes(data)


def no_file(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("spoil", [cut_short, one_byte, no_file])
def test_damage_is_named_and_what_we_say_to_do_helps(folder, spoil):
    """Without the file only the detector that lacks it begins again."""
    persist(folder, 1)
    file = folder / "rows-000001-1.bin"
    spoil(file)
    with pytest.raises(StoreError, match=rf"^{re.escape(str(file))} is damaged \(.*\); remove it"):
        RunStore(folder, keep=3).load()
    file.rmdir() if file.is_dir() else file.unlink()
    saved = RunStore(folder, keep=3).load()
    assert saved.notes == (f"{file} is missing: the run continues without it",)
    assert [*saved.registry.memories] == ["old"]
    assert saved.registry.statuses == {"ann": AgentStatus(1)}


@pytest.mark.parametrize(("most", "goes"), [(2 * 440, False), (2 * 440 - 1, True)])
def test_much_that_detectors_remember_goes_with_the_end_of_a_run(folder, monkeypatch, most, goes):
    """Two arrays of 440 bytes stay if so much may; what the rule remembers stays in any case."""
    monkeypatch.setattr(registry_files, "KEPT", most)
    store = RunStore(folder, keep=3)
    names = np.array([b"ann"] * 10, "S64")
    whole = replace(docket(1), update_sums=UpdateSums(names, large(7)))
    store.persist(record(1), None, None, whole)
    (folder / "ended").touch()
    store.lighten()
    saved = RunStore(folder, keep=3).load()
    assert [*saved.registry.memories] == ([] if goes else ["new", "old"])
    assert saved.notes == (
        ("the memory of new and old was removed when the run ended: it starts again",)
        if goes
        else ()
    )
    assert saved.registry.update_sums.rows.tolist() == large(7).tolist()
    assert saved.registry.statuses == whole.statuses


def test_a_run_that_is_killed_comes_to_the_same(tmp_path):
    """All detectors and a rule that remembers, with everything in files of its own."""
    whole = federation(tmp_path / "whole", "agent registry, rejected").whole()
    run = federation(tmp_path / "killed", "agent registry, rejected")
    run.begin()
    run.run(lambda state: state.round == 4)
    assert len(rows(run.folder)) >= 4
    run.crash()
    run.whole()
    same_run(run, whole)
