"""The run's folder survives: kills between any two operations, full disks, damage, other runs."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

import msgpack
import numpy as np
import pytest
from cutting import CASES, FULL, Torn, contents, cut, every_case, federation, same_run
from federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture
from listening import RawClient, until
from test_network import KIND, RUN, ended
from test_network import federation as on_broker

from fedjury.aggregator.store import RunStore, StoreError, read_records
from fedjury.config.toml import to_toml
from fedjury.protocol.messages import Model
from fedjury.protocol.record import RoundRecord

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
        rf"cannot write to {folder}/\S+: {os.strerror(why)}; what was there is kept, and the same "
        r"command goes on from it once [a-z ]+",
        said,
    )
    assert said.endswith("once there is room") == (why in (errno.ENOSPC, errno.EDQUOT))


# Real file systems, and the real programs


def mounted(*arguments):
    """Mount something; says whether we could."""
    command = ["mount", *map(str, arguments)]
    return not subprocess.run(command, capture_output=True, check=False).returncode


def mount(*arguments):
    """Mount something, or skip the test where we may not."""
    if not mounted(*arguments):
        pytest.skip("not permitted to mount a file system here")


@pytest.fixture
def small(tmp_path):
    """Yield a file system of its own, of so little room that a run does not fit."""
    folder = tmp_path / RUN
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=60k", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_file_system_loses_nothing(small, tmp_path):
    """What does not fit leaves nothing behind, and what was there is read again."""

    def persist(store, numbers):
        for number in numbers:
            weights = np.full(4000, number, np.float32)
            store.persist(RoundRecord(number, version=number), Model(number, weights))

    store = RunStore(small, keep=4)
    store.save(Model(0, np.zeros(4000, np.float32)), RoundRecord(0, version=0))
    with pytest.raises(StoreError, match=r"3.safetensors: No space left .* once there is room$"):
        persist(store, range(1, 9))
    assert not [*small.rglob("*.part")]
    assert [m.version for m in RunStore(small, keep=4).load().models] == [0, 1, 2]
    (small / "rounds.jsonl").write_bytes((small / "rounds.jsonl").read_bytes() + b'{"round":3,"ver')
    mount("-o", "remount,size=1m", small)
    again = RunStore(small, keep=4)
    assert again.load().record == RoundRecord(2, version=2, judged=2)
    persist(again, range(3, 9))
    saved = RunStore(small, keep=4).load()
    assert [m.version for m in saved.models] == [5, 6, 7, 8]
    assert all((m.weights == m.version).all() for m in saved.models)
    assert [r.round for r in read_records(small)] == [*range(1, 9)]


READ_ONLY = "Read-only file system"
REPORT = "report.html, report.md or accuracy.png"

NETWORK = {
    "run__name": RUN,
    "run__rounds": 6,
    "validation__look_back": 2,
    "agents__processes": 1,
}

LIMITED = (
    "import resource, runpy, sys; size = int(sys.argv.pop(1))\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
    "runpy.run_module('aggregator', run_name='__main__', alter_sys=True)"
)
"""An aggregator that may not write a file of more than so many bytes."""


class Scene:
    """A federation on a broker whose aggregator runs into trouble with its disk."""

    def __init__(self, programs, **changes):
        self.programs, self.folder = programs, programs.run
        self.changes = NETWORK | changes
        file = programs.folder / "scenario.toml"
        file.write_text(to_toml(settings_of(**self.changes)), encoding="utf-8")
        broker = f"{programs.address.host}:{programs.address.port}"
        self._flags = ["--config", str(file), "--broker", broker]

    def agents(self):
        """Start all agents."""
        return self.programs.start("agents/spawn.py", *self._flags)

    def aggregator(self, limit=None):
        """Start the aggregator; with a limit, it may not write longer files."""
        program = ["-m", "aggregator"] if limit is None else ["-c", LIMITED, str(limit)]
        return self.programs.start(*program, *self._flags, "--runs", str(self.programs.folder))

    def refused(self, program, why):
        """Wait until a program gives up with one sentence; returns the file that it names."""
        assert program.wait(60) == 2, program.log.read_text()
        said = program.log.read_text()
        assert "Traceback" not in said
        [file] = re.findall(
            rf"^error: cannot write to {self.folder}/?(.*): {why}; what was there is kept, and "
            "the same command goes on from it once [a-z ]+$",
            said.splitlines()[-1],
        )
        # Nothing half-written stays where it may be removed.
        assert why == READ_ONLY or not [*self.folder.rglob("*.part")]
        return file

    def rounds(self):
        """Return the rounds that are on record."""
        return [record.round for record in self.programs.records()]

    def is_that_in_memory(self, folder):
        """Check that the run came to the models that it comes to where nothing happens."""
        alone = Federation(folder, **self.changes).whole()
        assert self.rounds() == [record.round for record in alone.records]
        kept = sorted(int(file.stem) for file in (self.folder / "models").iterdir())
        assert len(kept) == 4
        for version in kept:
            assert self.programs.weights(version) == alone.models[version]


@contextmanager
def scene(folder, **changes):
    with on_broker(KIND, folder) as programs:
        yield Scene(programs, **changes)


def told(spy, kind):
    """Return the rounds or versions that somebody who listens has heard of."""
    if kind == "model":
        return [msgpack.unpackb(payload)["version"] for payload in spy.payloads("/model")]
    return [json.loads(payload)["round"] for payload in spy.payloads("log/round")]


@pytest.mark.broker
def test_an_aggregator_whose_disk_is_full_stops_and_goes_on_with_room(small, tmp_path):
    """The real programs, a file system that is full at version 3, and then has room again.

    Nobody hears of what was not written; the agents stay, and the models are those of a run that
    nothing happened to.
    """
    with scene(tmp_path) as run, RawClient(run.programs.address, f"fl/v2/{RUN}/#") as spy:
        doomed, agents = run.aggregator(), run.agents()
        assert run.refused(doomed, "No space left on device") == "models/000003.safetensors"
        assert run.rounds() == [1, 2]
        time.sleep(0.2)
        assert (told(spy, "log"), told(spy, "model")) == ([0, 1, 2], [0, 1, 2])
        assert run.refused(run.aggregator(), "No space left on device")
        mount("-o", "remount,size=10m", small)
        ended(run.aggregator(), agents)
        run.is_that_in_memory(tmp_path / "memory")
        assert (run.folder / "accuracy.png").stat().st_size > 10_000


@pytest.mark.broker
def test_an_aggregator_whose_disk_becomes_read_only_stops_and_goes_on(tmp_path):
    """In mid-run nothing can be written any more; once it can, the run comes to the same models."""
    with scene(tmp_path, run__rounds=60) as run:
        run.folder.mkdir()
        doomed, agents = run.aggregator(), run.agents()
        until(lambda: len(run.programs.records()) >= 2, 60)
        mount("--bind", run.folder, run.folder)
        try:
            until(lambda: mounted("-o", "remount,bind,ro", run.folder), 10)  # not while it writes
            before = contents(run.folder)
            # It names what it could not write, and not what it never has.
            assert re.match(r"models/|rounds\.jsonl$", run.refused(doomed, READ_ONLY))
            assert len(run.rounds()) < 60
            assert run.refused(run.aggregator(), READ_ONLY) == "lock"
            assert contents(run.folder) == before
        finally:
            subprocess.run(["umount", "-l", run.folder], check=True)
        ended(run.aggregator(), agents)
        run.is_that_in_memory(tmp_path / "memory")


@pytest.mark.broker
def test_an_aggregator_that_may_write_no_larger_files_stops_and_goes_on(tmp_path):
    """Its records outgrow what it may write, in mid-run: no half line stays, and none is lost.

    Before that not even the first model fits, and after it, only the report does not.
    """
    with scene(tmp_path, run__rounds=40) as run:
        agents = run.agents()
        assert run.refused(run.aggregator(9_000), "File too large") == "models/000000.safetensors"
        assert run.refused(run.aggregator(12_000), "File too large") == "rounds.jsonl"
        lines = (run.folder / "rounds.jsonl").read_bytes()
        assert lines.endswith(b"}\n")
        assert 11_000 < len(lines) <= 12_000
        assert 5 < len(run.rounds()) < 40
        assert run.refused(run.aggregator(30_000), "File too large") == REPORT
        ended(agents)
        assert len(run.rounds()) == 40
        ended(run.aggregator())
        assert (run.folder / "accuracy.png").stat().st_size > 30_000
        run.is_that_in_memory(tmp_path / "memory")


@pytest.mark.broker
def test_a_second_aggregator_is_told_of_the_first(tmp_path):
    """Of two real aggregators on one folder the second ends; once the first is dead, one may."""
    with scene(tmp_path) as run:
        first = run.aggregator()
        until(lambda: "aggregator of run" in first.log.read_text(), 60)
        before = contents(run.folder)
        second = run.aggregator()
        assert second.wait(60) == 2
        assert second.log.read_text().splitlines()[-1] == (
            f"error: run '{RUN}' in {run.folder} is in use by another aggregator "
            f"(process {first.pid})"
        )
        assert contents(run.folder) == before
        first.kill()
        first.wait()
        ended(run.aggregator(), run.agents())
        run.is_that_in_memory(tmp_path / "memory")
