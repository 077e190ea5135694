"""What a run leaves on disk, and where it goes on after a crash.

    runs/<run>/manifest.json       what was run: settings, manifest, versions of the packages
    runs/<run>/rounds.jsonl        one record a round, rejected ones included
    runs/<run>/models/000012.safetensors   the last accepted models, each with its round's record
    runs/<run>/candidate-000012.safetensors   with piggy-back: what the next round is to judge
    runs/<run>/agents-000012.npz   where agents are watched: what is known of them
    runs/<run>/rows-000012-1.bin   large arrays of that; see agent registries.py
    runs/<run>/rule-000012.safetensors   what the rule keeps, of one that keeps something
    runs/<run>/groups.key          where groups are drawn in secret: what they are drawn by
    runs/<run>/sums.json             with secure aggregation: which sums were opened over the last
                                     model; with groups.fixed, in the whole run
    runs/<run>/release.safetensors   with differential privacy: the last noisy candidate, and how
                                   often there was one
    runs/<run>/lock                held by the aggregator that uses the folder

A model is complete on disk, fsync and rename, before anybody is told of it. Its record travels
inside the file, so that a crash between the two writes loses neither. Candidate, agents and what
the rule keeps are there of two rounds: the last, and the one before the newest model, from which a
run goes on if that model is lost.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from fedjury.aggregator import release_file, rule_memory, sums_file
from fedjury.aggregator.best import BestModel
from fedjury.aggregator.durable_files import (
    StoreError,
    append,
    damaged,
    explained,
    readable,
    remove,
    replace,
    writable,
)
from fedjury.aggregator.manifest import MANIFEST, check_format
from fedjury.aggregator.records import (
    RESUMED,
    ROUNDS,
    holes,
    last_of,
    line_of,
    lines_of,
    read_records,
    until,
)
from fedjury.aggregator.registry_files import ROWS, RegistryFiles
from fedjury.aggregator.release_file import RELEASE
from fedjury.aggregator.sums_file import SUMS
from fedjury.detection.state import AgentRegistry
from fedjury.protocol.fields import jsonable
from fedjury.protocol.messages import Model, Vector
from fedjury.protocol.record import RecordError, RoundRecord, read, to_json
from fedjury.round.memory import RuleMemory
from fedjury.round.release import Release
from fedjury.round.sums import NO_SUMS, OpenedSums

__all__ = ["RunStore", "Saved", "StoreError", "read_records", "writable"]

KINDS = {
    "candidate": "candidate-*.safetensors",
    "agents": "agents-*.npz",
    "rule": "rule-*.safetensors",
}
"""What a round may leave to the next."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Where a run stopped: its accepted models, oldest first, and the last round's record."""

    models: list[Model]
    """Of consecutive versions."""
    record: RoundRecord
    pending: Vector | None = None
    """The last round's candidate, if the next round is to judge it."""
    registry: AgentRegistry | None = None
    """What was known of the agents, if anything was to be remembered."""
    memory: RuleMemory | None = None
    """What the rule kept, if it kept anything."""
    release: Release | None = None
    """The last candidate that was made with noise, if there was one."""
    sums: OpenedSums = NO_SUMS
    """Which sums were opened over the last model, under secure aggregation."""
    notes: tuple[str, ...] = ()
    """What people should know of what was lost."""


class RunStore:
    """The folder of one run. ``keep`` accepted models stay on disk."""

    def __init__(self, folder: Path, keep: int, best: BestModel | None = None) -> None:
        """``best``: keeps the best model beside them, if one is wanted."""
        self.folder = folder
        self._best = best
        self.keep = max(keep, 2)
        self._models = folder / "models"
        self._registry_files = RegistryFiles(folder)
        self._spare = -1  # the round before the newest model's
        writable(self._models)

    def describe(self, manifest: dict[str, Any]) -> None:
        """Write ``manifest.json``."""
        text = json.dumps(jsonable(manifest), indent=2, allow_nan=False)
        replace(self.folder / MANIFEST, f"{text}\n".encode())

    def described(self) -> dict[str, Any] | None:
        """Read ``manifest.json``; None if there is none.

        Raises
        ------
        StoreError
            If it is damaged, or not of this format.
        """
        file = self.folder / MANIFEST
        if not file.exists():
            return None
        try:
            result: dict[str, Any] = json.loads(readable(file).read_bytes())
            if not isinstance(result, dict):
                raise ValueError("it is not a table")  # noqa: TRY004 - of JSON, like the others
        except (OSError, ValueError, RecursionError) as why:
            raise damaged(file, why) from why
        check_format(self.folder, result)
        return result

    def persist(
        self,
        record: RoundRecord,
        accepted: Model | None,
        pending: Vector | None = None,
        registry: AgentRegistry | None = None,
        memory: RuleMemory | None = None,
        group: Vector | None = None,
    ) -> None:
        """Make a finished round durable: what the next needs, the accepted model, the record.

        ``group``: the candidate (d,) of one of the model's groups, which is kept with it.

        Killed at any moment of it, a run goes on after this round or after the one before.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        left = {
            "candidate": None if pending is None else save({"weights": pending}),
            "agents": None
            if registry is None
            else self._registry_files.packed(record.round, registry),
            "rule": None if memory is None else rule_memory.packed(memory),
        }
        for kind, data in left.items():
            file = self._of_round(kind, record.round)
            if data is not None:
                replace(file, data)
            else:  # a crash may have left one of an attempt at this round
                remove(file)
        kinds = tuple(kind for kind, data in left.items() if data is not None)
        record = dataclasses.replace(record, left=kinds)
        if accepted is not None:
            self.save(accepted, record, group)
            if self._best is not None:
                self._best.offer(accepted, record)
        append(self.folder / ROUNDS, line_of(record))
        self._forget(record.round)

    def persist_release(self, release: Release) -> None:
        """Make a noisy candidate durable, and how often there was one.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        replace(self.folder / RELEASE, release_file.packed(release))

    def persist_sums(self, sums: OpenedSums) -> None:
        """Make durable which sums are opened over the model at hand.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        replace(self.folder / SUMS, sums_file.packed(sums))

    def save(self, model: Model, record: RoundRecord, group: Vector | None = None) -> None:
        """Write an accepted model with its record inside, and a group's; forget the oldest."""
        # Without the time of day, so that the same run comes to the same bytes.
        plain = dataclasses.replace(record, timing=dataclasses.replace(record.timing, time=None))
        note = {"version": str(model.version), "record": json.dumps(to_json(plain))}
        tensors = {"weights": np.ascontiguousarray(model.weights)}
        if group is not None:
            tensors["group"] = np.ascontiguousarray(group)
        replace(self._file(model.version), save(tensors, metadata=note))
        self._spare = record.round - 1
        for version, file in self._files():
            if version <= model.version - self.keep:
                remove(file)

    def load(self, size: int | None = None) -> Saved | None:
        """Find where the run stopped; None if it never began.

        That is the last round of the newest model that is there; what is known of later rounds
        goes. Nothing is touched unless all of it can be read. ``size``: parameters of a model,
        where that is known.

        Raises
        ------
        StoreError
            If a file of the run is damaged, or one that is needed is gone.
        """
        read = [self._read(file, size) for _, file in self._files()]
        lines = lines_of(self.folder)
        if not read and lines:
            raise StoreError(
                f"{self.folder / ROUNDS} holds {len(lines)} rounds and {self._models} no "
                "model of them; choose another --run, or remove that file to begin again"
            )
        if not read:
            return None
        newest, note = read[-1]
        record = last_of(lines, note)
        pending, registry, memory, notes = self._left_by(record, lines, len(newest.weights))
        file, values = self.folder / RELEASE, len(newest.weights)
        release = release_file.unpacked(file, values) if file.exists() else None
        opened = self.folder / SUMS
        sums = sums_file.unpacked(opened) if opened.exists() else NO_SUMS
        records = until(record, lines, [message for _, message in read])
        self._sweep()
        if records != list(lines.values()):
            replace(self.folder / ROUNDS, b"".join(map(line_of, records)))
        self._spare = note.round - 1
        if again := [number for number in lines if number > record.round]:
            notes.append(
                f"rounds {min(again)} to {max(again)} are repeated, because their models "
                "are missing"
            )
        if lost := holes(records, record.round):
            notes.append(f"{self.folder / ROUNDS} has no record of round {lost}")
        models = _unbroken([model for model, _ in read])
        record = dataclasses.replace(record, left=())
        return Saved(models, record, pending, registry, memory, release, sums, tuple(notes))

    def group(self, version: int) -> Vector | None:
        """Return the group's candidate (d,) that is kept with an accepted model, if there is one.

        Raises
        ------
        StoreError
            If its file is damaged.
        """
        file = self._file(version)
        try:
            with safe_open(readable(file), "numpy") as opened:
                if "group" not in opened.keys():  # noqa: SIM118 - it is no dict
                    return None
                group: Vector = opened.get_tensor("group")
        except Exception as why:  # of safetensors, NumPy or the system
            raise damaged(file, why) from why
        return group

    def secret(self, name: str) -> bytes:
        """Return a key of this run that nobody else is told, made at the first time.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        file = self.folder / f"{name}.key"
        with explained(file):
            if not file.exists():
                replace(file, secrets.token_bytes(32))
                file.chmod(0o600)
            return readable(file).read_bytes()

    def newest(self) -> Model | None:
        """Return the newest model that is there; None if there is none.

        Raises
        ------
        StoreError
            If its file is damaged.
        """
        files = self._files()
        return self._read(files[-1][1], None)[0] if files else None

    @property
    def begun(self) -> bool:
        """Whether there is a model."""
        return bool(self._files())

    def _left_by(
        self, record: RoundRecord, lines: dict[int, RoundRecord], size: int
    ) -> tuple[Vector | None, AgentRegistry | None, RuleMemory | None, list[str]]:
        """Return what that round left to the next, and what to tell people of what is gone."""
        number = record.round
        candidate, agents, rule = (self._of_round(kind, number) for kind in KINDS)
        gone = [self._of_round(kind, number) for kind in KINDS if kind in record.left]
        gone = [file for file in gone if not file.exists()]
        # It is one thing that a person removed the last one, which could not be read, and another
        # that we did, for a later round had been finished that is now lost.
        later = max([*lines, *(round_ for round_, _ in self._all_left())], default=0) > number
        if gone and later:
            raise StoreError(
                f"{self.folder} cannot resume after round {number}, for {gone[0].name} is gone, "
                "which the next round needs; choose another --run"
            )
        notes = [f"{file} is missing: the run continues without it" for file in gone]
        pending = self._open(candidate, size)[0] if candidate.exists() else None
        memory = rule_memory.unpacked(rule) if rule.exists() else None
        if not agents.exists():
            return pending, None, memory, notes
        registry, told = self._registry_files.unpacked(agents, number, size)
        return pending, registry, memory, [*notes, *told]

    def _forget(self, number: int) -> None:
        """Remove what rounds left, but for this one and the one before the newest model."""
        for round_, file in self._all_left():
            if round_ not in (number, self._spare):
                remove(file)
        self._registry_files.forget({number, self._spare})

    def lighten(self) -> None:
        """Remove what detectors remember, of a run that has ended, if it is much."""
        self._registry_files.lighten({round_ for round_, _ in self._all_left()})

    def _sweep(self) -> None:
        """Remove the halves of files that a crash left."""
        whole = [MANIFEST, ROUNDS, ROWS, RELEASE, *KINDS.values(), "models/*.safetensors"]
        for pattern in whole:
            for part in self.folder.glob(str(Path(pattern).with_suffix(".part"))):
                remove(part)

    def _of_round(self, kind: str, number: int) -> Path:
        return self.folder / KINDS[kind].replace("*", f"{number:06d}")

    def _all_left(self) -> list[tuple[int, Path]]:
        """Return whatever rounds left that is still there, with their rounds."""
        files = [file for pattern in KINDS.values() for file in self.folder.glob(pattern)]
        numbers = [file.stem.rpartition("-")[2] for file in files]
        return [(int(n), file) for n, file in zip(numbers, files, strict=True) if n.isdecimal()]

    def _file(self, version: int) -> Path:
        return self._models / f"{version:06d}.safetensors"

    def _files(self) -> list[tuple[int, Path]]:
        """Return the models' versions and files, oldest first."""
        files = [file for file in self._models.glob("*.safetensors") if file.stem.isdecimal()]
        result = ((int(file.stem), file) for file in files)
        return sorted((version, file) for version, file in result if file == self._file(version))

    def _read(self, file: Path, size: int | None) -> tuple[Model, RoundRecord]:
        weights, note = self._open(file, size)
        try:
            version, message = int(note["version"]), json.loads(note["record"])
        except (KeyError, ValueError, RecursionError) as why:
            raise damaged(file, f"its note: {why}") from why
        with suppress(RecordError):
            record = read(message, RESUMED)
            if version == record.version == int(file.stem):
                return Model(version, weights), record
        raise damaged(file, "its note is not of this version")

    def _open(self, file: Path, size: int | None) -> tuple[Vector, dict[str, str]]:
        """Read weights and what is noted with them; with a size, of so many values alone."""
        readable(file)
        try:
            with safe_open(file, "numpy") as opened:
                weights: Vector = opened.get_tensor("weights")
                note = opened.metadata() or {}
        except Exception as why:  # of safetensors, NumPy or the system
            raise damaged(file, why) from why
        if weights.dtype != np.float32 or weights.ndim != 1:
            raise damaged(file, f"{weights.dtype} of shape {weights.shape}")
        if size is not None and len(weights) != size:
            raise damaged(file, f"{len(weights):,} values, not {size:,}")
        return weights, note


def _unbroken(models: list[Model]) -> list[Model]:
    """Return the models up to the newest between which none is missing."""
    first = len(models) - 1
    while first and models[first - 1].version == models[first].version - 1:
        first -= 1
    return models[first:]
