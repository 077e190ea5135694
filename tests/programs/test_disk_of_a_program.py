"""The run's folder on real file systems: the real programs stop in one sentence, and go on."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager

import msgpack
import numpy as np
import pytest
from support.cutting import contents
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture
from support.listening import RawClient, until
from support.network import KIND, RUN, ended, scenario
from support.network import federation as on_broker

from fedjury.aggregator.store import RunStore, StoreError, read_records
from fedjury.protocol.messages import Model
from fedjury.protocol.record import RoundRecord

pytestmark = pytest.mark.usefixtures("one_thread")


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
    mount("-t", "tmpfs", "-o", "size=56k", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_file_system_loses_nothing(small, tmp_path):
    """What does not fit leaves nothing behind, and what was there is read again."""

    def persist(store, numbers):
        for number in numbers:
            weights = np.full(3900, number, np.float32)
            store.persist(RoundRecord(number, version=number), Model(number, weights))

    store = RunStore(small, keep=4)
    store.save(Model(0, np.zeros(3900, np.float32)), RoundRecord(0, version=0))
    with pytest.raises(StoreError, match=r"3.safetensors: No space left .* once there is room$"):
        persist(store, range(1, 9))
    assert not [*small.rglob("*.part")]
    assert [m.version for m in RunStore(small, keep=4).load().models] == [0, 1, 2]
    (small / "rounds.jsonl").write_bytes((small / "rounds.jsonl").read_bytes() + b'{"round":3,"ver')
    mount("-o", "remount,size=1m", small)
    again = RunStore(small, keep=4)
    assert again.load().record == RoundRecord(2, version=2)
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
        file = scenario(programs.folder, settings_of(**self.changes))
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
            rf"^error: cannot write to {self.folder}/?(.*): {why}; nothing was lost, and "
            "the same command resumes from it once [a-z ]+$",
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
