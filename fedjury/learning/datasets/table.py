"""A table of the user's own, CSV or Parquet: a row a sample, a column what is to be learnt.

Whatever is wrong with it is one sentence with the file, the line and the column.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.registry import unknown

SUFFIXES = (".csv", ".parquet")

WHOLE = re.compile(r"\s*[+-]?\d+\s*")

LARGEST = float(np.finfo(np.float32).max)


class Table(NamedTuple):
    """What is read of a file."""

    x: npt.NDArray[np.float32]
    """(n, columns)"""
    y: npt.NDArray[Any]
    """(n,): int64 if all are written as whole numbers, else float64."""


def read(path: Path, target: str, inputs: Sequence[str] = ()) -> Table:
    """Read a table: ``target`` is the column to be learnt, ``inputs`` are those to learn from.

    Without ``inputs`` all others are. A file without rows is a table without samples.

    Raises
    ------
    ValueError
        If it cannot be read; one sentence.
    """
    try:
        return (_parquet if path.suffix == ".parquet" else _csv)(path, target, inputs)
    except UnicodeDecodeError as why:
        raise ValueError(f"{path} is no text in UTF-8 (byte {why.start:,}): save it so") from why
    except (OSError, csv.Error) as why:
        raise ValueError(f"{path} cannot be read: {why}") from why


def chosen(path: Path, names: Sequence[str], target: str, inputs: Sequence[str]) -> list[int]:
    """Return the places of the columns to learn from, then that of the target.

    Raises
    ------
    ValueError
        If there is no such column, or not which one to learn is said.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path} has two columns {twice[0]!r}: give each a name of its own")
    if not target:
        raise ValueError(
            f"which column of {path} is to be learnt? name it with --target (data.target): "
            f"{', '.join(names)}"
        )
    for name in (target, *inputs):
        if name not in names:
            raise unknown(f"column of {path}", name, names)
    if target in inputs:
        raise ValueError(f"column {target!r} of {path} cannot be learnt and learnt from")
    wanted = inputs or [name for name in names if name != target]
    if not wanted:
        raise ValueError(f"{path} has no column but {target!r}: there is nothing to learn from")
    return [names.index(name) for name in (*wanted, target)]


def _csv(path: Path, target: str, inputs: Sequence[str]) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        if not first.strip():
            return _table(array("d"), 1, whole=True)
        file.seek(0)
        rows = csv.reader(file, delimiter=max(",;\t", key=first.count))
        names = [name.strip() for name in next(rows)]
        if all(_number(name) is not None for name in names):
            raise ValueError(
                f"{path} has no header: its first line is numbers; put the columns' names above"
            )
        places = chosen(path, names, target, inputs)
        pick, values, whole = itemgetter(*places), array("d"), True
        for row in _rows(path, rows, len(names)):
            texts = pick(row)
            try:
                values.extend(map(float, texts))
            except ValueError:
                raise _fault(path, rows.line_num, names, places, row) from None
            if not all(map(_fits, values[-len(places) :])):
                raise _fault(path, rows.line_num, names, places, row)
            whole = whole and bool(WHOLE.fullmatch(texts[-1]))
    return _table(values, len(places), whole=whole)


def _rows(path: Path, rows: Any, columns: int) -> Iterator[list[str]]:
    """Yield the rows that are not empty; each must have as many fields as the header."""
    for row in rows:
        if len(row) == columns:
            yield row
        elif row:
            raise ValueError(
                f"{path}, line {rows.line_num}: {len(row)} fields, and the header has {columns}"
            )


def _fault(
    path: Path, line: int, names: Sequence[str], places: Sequence[int], row: Sequence[str]
) -> ValueError:
    """Say which field of a line is no number that can be learnt from."""
    place = next(p for p in places if (number := _number(row[p])) is None or not _fits(number))
    text, where = row[place].strip(), f"{path}, line {line}, column {names[place]!r}"
    if not text or _number(text) is not None:
        shown = repr(text) if text else "nothing"
        return ValueError(
            f"{where}: {shown} stands where a number belongs; fill it in, or leave the line out"
        )
    return ValueError(
        f"{where}: {text[:40]!r} is no number; number what is a name (classes from 0), or leave "
        "the column out (data.inputs, --inputs)"
    )


def _parquet(path: Path, target: str, inputs: Sequence[str]) -> Table:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - only this one needs it
    except ModuleNotFoundError as why:
        raise ValueError(
            f"{path}: to read Parquet the package pyarrow must be installed; or save it as CSV"
        ) from why
    try:
        table = parquet.read_table(path)
    except ArrowException as why:
        raise ValueError(f"{path} is no Parquet that can be read: {why}") from why
    names = list(table.column_names)
    columns = []
    for place in chosen(path, names, target, inputs):
        values = table.column(place).to_numpy()
        where = f"{path}, column {names[place]!r}"
        if values.dtype.kind not in "iufb":
            raise ValueError(f"{where}: {values.dtype} are no numbers")
        wrong = ~(np.abs(values.astype(np.float64)) <= LARGEST)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"{where}, row {row + 1}: {values[row]} stands where a number belongs")
        columns.append(values)
    *features, y = columns
    whole = y.dtype.kind in "iub"
    return Table(
        np.column_stack(features).astype(np.float32), y.astype(np.int64 if whole else np.float64)
    )


def _table(values: array[float], columns: int, *, whole: bool) -> Table:
    matrix = np.array(values, dtype=np.float64).reshape(-1, columns)
    y = matrix[:, -1]
    return Table(matrix[:, :-1].astype(np.float32), y.astype(np.int64) if whole else y.copy())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _fits(number: float) -> bool:
    """Say whether a number is finite, as float32 too."""
    return math.fabs(number) <= LARGEST
