"""What is known of the agents, on disk: a small file a round, and large arrays once each.

    agents-000012.npz      what was known after round 12, but for large arrays
    rows-000012-1.bin      one of these, new in that round: its bytes as they lie in memory

An array that is the very same as before is not written again: the table in ``agents-*.npz`` says
which file holds it. What detectors remember of a thousand agents is a hundred megabytes, but of
those who were not called nothing changes; see ``detectors/sent.py``.
"""

from __future__ import annotations

import io
import json
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.aggregator.durable_files import damaged, readable, remove, replace
from fedjury.detection.registry_arrays import MEMORY, Arrays, from_arrays, to_arrays
from fedjury.detection.state import AgentRegistry

APART = 1 << 18
"""Bytes from which on an array has a file of its own."""

KEPT = 16 << 20
"""Bytes of what detectors remember that may stay when a run has ended."""

ROWS = "rows-*.bin"
TABLE = "apart"


class Place(NamedTuple):
    """Where an array lies that has a file of its own."""

    file: str
    dtype: str
    shape: list[int]
    check: int
    """Of its bytes; see ``_check``."""


Table = dict[str, Place]
"""Key of an array -> where it lies."""


class RegistryFiles:
    """The agent registries in a run's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: dict[int, Table] = {}
        """Round -> the table in its file."""
        self._written: dict[str, tuple[weakref.ref[Any], Place]] = {}
        """Key -> the array that was written or read last, and where it lies."""

    def packed(self, round_: int, registry: AgentRegistry) -> bytes:
        """Write the large arrays that are new, durably; return the rest, for the round's file."""
        arrays = to_arrays(registry)
        large = [key for key, array in arrays.items() if array.nbytes >= APART]
        table = {key: self._place(key, arrays.pop(key), round_, i) for i, key in enumerate(large)}
        self._tables[round_] = table
        self._written = {key: self._written[key] for key in table}
        if table:
            arrays[TABLE] = np.frombuffer(json.dumps(table).encode(), np.uint8)
        written = io.BytesIO()
        np.savez(written, allow_pickle=False, **arrays)
        return written.getvalue()

    def unpacked(self, file: Path, round_: int, size: int) -> tuple[AgentRegistry, list[str]]:
        """Read what was known after a round of agents who send ``size`` values.

        Returns it with what people should know of what is gone of it.

        Raises
        ------
        StoreError
            If a file is damaged.
        """
        try:
            arrays = _small(file)
            table = _table_of(arrays)
        except Exception as why:  # of NumPy, zipfile, zlib, json, the system
            raise damaged(file, why) from why
        read = {key: self._read(place) for key, place in table.items()}
        arrays |= {key: array for key, array in read.items() if array is not None}
        gone = {key: place.file for key, place in table.items() if read[key] is None}
        try:
            registry = from_arrays(_without(arrays, gone))
        except Exception as why:
            raise damaged(file, why) from why
        if registry.update_sums.rows.size and registry.update_sums.rows.shape[1] != size:
            raise damaged(
                file, f"sums of {registry.update_sums.rows.shape[1]:,} values, not {size:,}"
            )
        self._tables[round_] = table
        self._written = {
            key: (weakref.ref(array), table[key])
            for key, array in read.items()
            if array is not None
        }
        return registry, self._said_of(gone)

    def forget(self, rounds: set[int]) -> None:
        """Remove the large arrays of all rounds but these."""
        tables = [self._table(round_) for round_ in rounds]
        self._tables = dict(zip(rounds, tables, strict=True))
        needed = {place.file for table in tables for place in table.values()}
        for file in self._folder.glob(ROWS):
            if file.name not in needed:
                remove(file)

    def lighten(self, rounds: set[int]) -> None:
        """Remove what detectors remember after these rounds if it is much.

        What a rule remembers stays: without it, it would not come to the same.
        """
        places = {
            place.file
            for round_ in rounds
            for key, place in self._table(round_).items()
            if key.startswith(MEMORY)
        }
        files = [self._folder / name for name in places if (self._folder / name).is_file()]
        if sum(file.stat().st_size for file in files) > KEPT:
            for file in files:
                remove(file)

    def _place(self, key: str, array: npt.NDArray[Any], round_: int, number: int) -> Place:
        """Say where an array lies; write it first if it does not lie anywhere."""
        known, place = self._written.get(key, (None, None))
        if known is not None and known() is array and place is not None:
            return place
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        name = ROWS.replace("*", f"{round_:06d}-{number + 1}")
        replace(self._folder / name, data)
        place = Place(name, array.dtype.str, list(array.shape), _check(data))
        self._written[key] = weakref.ref(array), place
        return place

    def _read(self, place: Place) -> npt.NDArray[Any] | None:
        """Read an array; None if its file is gone."""
        file = self._folder / place.file
        if not file.exists():
            return None
        try:
            data = readable(file).read_bytes()
            array = np.frombuffer(bytearray(data), place.dtype).reshape(place.shape)
        except (OSError, TypeError, ValueError) as why:
            raise damaged(file, why) from why
        if _check(memoryview(data)) != place.check:
            raise damaged(file, "other bytes than were written")
        return array

    def _table(self, round_: int) -> Table:
        """Return the table of a round; nothing where there is none, or none that can be read."""
        if round_ not in self._tables:
            file = self._folder / f"agents-{round_:06d}.npz"
            try:
                self._tables[round_] = _table_of(_small(file))
            except Exception:
                return {}
        return self._tables[round_]

    def _said_of(self, gone: dict[str, str]) -> list[str]:
        """Tell what was lost with files that are gone."""
        if not gone:
            return []
        whose = sorted({_owner(key) for key in gone})
        if (self._folder / "ended").exists():
            whose_memory = " and ".join(whose)
            return [f"the memory of {whose_memory} was removed when the run ended: it starts again"]
        lost = sorted({self._folder / name for name in gone.values()})
        return [f"{file} is missing: the run continues without it" for file in lost]


def _small(file: Path) -> Arrays:
    """Read the arrays in a round's file."""
    with np.load(io.BytesIO(readable(file).read_bytes()), allow_pickle=False) as opened:
        return dict(opened)


def _table_of(arrays: Arrays) -> Table:
    """Take the table out of the arrays in a round's file."""
    content = json.loads(arrays.pop(TABLE).tobytes()) if TABLE in arrays else {}
    table = {key: Place(*place) for key, place in content.items()}
    for place in table.values():
        if Path(place.file).name != place.file or np.dtype(place.dtype).hasobject:
            raise ValueError(f"{place} is not the place of an array")
    return table


def _owner(key: str) -> str:
    """Say whose array it is: a detector's, or the rule's."""
    return (
        key.removeprefix(MEMORY).split(".")[0].replace("/", ".")
        if key.startswith(MEMORY)
        else "the rule"
    )


def _without(arrays: Arrays, gone: dict[str, str]) -> Arrays:
    """Leave out all that those remembered who lack a part of it: they begin again."""
    losers = {_owner(key) for key in gone}
    kept = {
        key: array
        for key, array in arrays.items()
        if not (key.startswith(MEMORY) and _owner(key) in losers)
    }
    if "the rule" in losers:
        kept |= {"past.names": np.empty(0, "S64"), "past": np.empty((0, 0), np.float32)}
    return kept


def _check(data: memoryview) -> int:
    """Return a check of bytes that notices any one that changed: all eights of them, by xor."""
    whole = len(data) // 8 * 8
    result = int(np.bitwise_xor.reduce(np.frombuffer(data[:whole], "<u8"), initial=0))
    return result ^ int.from_bytes(data[whole:], "little")
