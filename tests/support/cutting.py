"""A disk that dies, or refuses, at one chosen operation, and the runs that are to survive it."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from support.federation import Federation

from fedjury import detection

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""A disk that refuses in this way still removes and shortens files."""


class Torn(BaseException):
    """The moment at which a process dies: nothing in it may catch that, or do anything after."""


class Disk:
    """Counts what is done to a folder's files, and fails from operation number ``at`` on.

    ``why``: the errno with which it refuses; None: the process dies. A write counts twice, for it
    may be cut off in its middle.
    """

    def __init__(self, folder: Path, at: int, why: int | None = None) -> None:
        self.folder, self.at, self.why = str(folder), at, why
        self.done: list[str] = []
        self.hit = False
        self._open: dict[int, str] = {}
        self._real = {
            name: getattr(os, name)
            for name in ("open", "write", "fsync", "replace", "unlink", "ftruncate", "mkdir")
        }

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        """Put ourselves between this process and its files."""
        patch.setattr(os, "open", self._opening)
        patch.setattr(os, "write", self._writing)
        for name in ("fsync", "ftruncate"):
            patch.setattr(os, name, self._with_number(name))
        for name in ("replace", "unlink", "mkdir"):
            patch.setattr(os, name, self._with_path(name))

    def _moment(self, what: str, file: str) -> None:
        """Fail, if it is time to."""
        spared = self.why in FULL and what in ("unlink", "ftruncate")
        if not spared and (self.hit or len(self.done) >= self.at):
            self.hit = True
            raise Torn if self.why is None else OSError(self.why, os.strerror(self.why))
        if not self.hit:
            self.done.append(f"{what} {Path(file).name}")

    def _opening(self, path, flags, *more, **named):
        number = None
        if str(path).startswith(self.folder):
            self._moment("open", str(path))
        number = self._real["open"](path, flags, *more, **named)
        self._open.pop(number, None)
        if str(path).startswith(self.folder):
            self._open[number] = str(path)
        return number

    def _writing(self, number, data):
        if number in self._open:
            self._moment("write", self._open[number])
            try:
                self._moment("half of", self._open[number])
            except BaseException:
                self._real["write"](number, data[: len(data) // 2])
                raise
        return self._real["write"](number, data)

    def _with_number(self, name):
        def operate(number, *more):
            if number in self._open:
                self._moment(name, self._open[number])
            return self._real[name](number, *more)

        return operate

    def _with_path(self, name):
        def operate(path, *more, **named):
            if str(path).startswith(self.folder):
                self._moment(name, str(path))
            return self._real[name](path, *more, **named)

        return operate


@contextmanager
def cut(folder: Path, at: int, why: int | None = None):
    """Let operation number ``at`` on a folder be the last one; yields the disk."""
    disk = Disk(folder, at, why)
    with pytest.MonkeyPatch.context() as patch:
        disk.patch(patch)
        yield disk


ROUNDS = 5
SMALL = {"agents__n": 6, "run__rounds": ROUNDS, "validation__look_back": 2}
PIGGY = {"validation__piggy_back": True, "validation__quorum": 6}
WATCHED = {
    "agents__n": 8,
    "agents__malicious": 0.25,
    "agents__start": 2,
    "limits__finite": False,
    # One goes by votes on groups: tests/federation/test_blamed_groups.py
    "detection__detectors": [one for one in detection.DETECTORS if one != "group_testing"],
    "detection__quarantine": True,
    "detection__offences": 1,
    "detection__readmission_after": 1,
    "aggregation__rule": "foolsgold",
    "detection__options": {"fldetector": {"window": 2}},
}
REJECTED = {
    "validation__validators": 3,
    "validation__quorum": 2,
    "validation__warm_up": 2,
    "agents__malicious_validators": 1.0,
    "agents__vote_attack": "always_reject",
}
CASES = {
    "accepted": {},
    "rejected": REJECTED,
    "piggy-back": PIGGY,
    "docket": WATCHED,
    "agent registry, rejected": {**WATCHED, **REJECTED},
    "all of it": {**PIGGY, **WATCHED},
}
"""Rounds that accept a model, or reject one (from round 3 on), and that leave more than that."""


def federation(folder, case, **changes):
    return Federation(folder, **SMALL | CASES[case] | changes)


def every_case(folder):
    """Let each case go as it goes if nothing happens."""
    return {case: federation(folder / case, case).whole() for case in CASES}


def essence(r):
    """Return what a record says whatever happened on the way."""
    verdict = r.accepted, r.judged, r.votes.counts
    return r.round, r.version, r.model.accuracy, r.selected, r.flagged, *verdict


def same_run(run, whole):
    """Check that a run came to the same, on the network as far as it was heard, and on disk."""
    assert run.models.items() <= whole.models.items()
    assert [essence(r) for r in run.records] == [essence(r) for r in whole.records]
    assert [r.round for r in run.records] == [*range(1, ROUNDS + 1)]
    mine, other = (
        {f.name: load_file(f)["weights"].tobytes() for f in r.folder.rglob("*.safetensors")}
        for r in (run, whole)
    )
    assert mine == other
    assert not [*run.folder.rglob("*.part")]


def contents(folder):
    """Return the bytes of all files of a run."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
