"""Files of a public set that somebody carried in by hand, in whatever of the usual forms.

torchvision opens files of certain names in a certain folder and nothing else. Browsers, mirrors and
other programs keep them packed, with a dot in the name, or one folder higher.
"""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError)
"""What reading a damaged archive raises."""

MISSING = "missing"
IN_THE_WAY = "a folder, which is in the way of a file"


class Files(NamedTuple):
    """The files of a set: what torchvision opens, and where."""

    folder: str
    """Below the folder for downloads."""
    names: tuple[str, ...]
    archives: tuple[str, ...] = ()
    """Files that hold all of them; such names may also lie in the folder for downloads itself."""
    also: tuple[str, ...] = ()
    """Folders besides that are searched, however they are spelt."""


def idx(*prefixes: str) -> tuple[str, ...]:
    """Return the names of images and labels of some parts, as MNIST has them."""
    kinds = ("images-idx3", "labels-idx1")
    return tuple(f"{prefix}-{kind}-ubyte" for prefix in prefixes for kind in kinds)


def lacking(root: Path, files: Files) -> dict[str, str]:
    """Return which files torchvision would not find, or could not read, and why."""
    wrong = {name: _flaw(root / files.folder / name) for name in files.names}
    return {name: why for name, why in wrong.items() if why}


def carry_in(root: Path, files: Files, into: Path) -> list[str]:
    """Put what is lacking and lies near into a folder, unpacked; returns what was found damaged."""
    wanted = {name for name, why in lacking(root, files).items() if why != IN_THE_WAY}
    complaints = []
    for file in _near(root, files):
        try:
            for name, source in _contents(file, files):
                if name not in wanted:
                    continue
                if why := _copied(source, into / files.folder / name):
                    complaints.append(f"{file} is {why}")
                else:
                    wanted.remove(name)
        except DAMAGED:
            complaints.append(f"{file} is damaged or cut short")
    return complaints


def advice(root: Path, files: Files) -> str:
    """Say which files are missing or damaged, where they were looked for, and where to put them."""
    wanted = lacking(root, files)
    home = root / files.folder
    told = [f"{home / name} is {why}" for name, why in wanted.items() if why != MISSING]
    if absent := [name for name, why in wanted.items() if why == MISSING]:
        values = f" of its {len(files.names)} files" if len(absent) < len(files.names) else ""
        places = ", ".join(map(str, _places(root, files)))
        looked = f", looked for in {places}" if places else ""
        packed = " or ".join(files.archives) or "packed as .gz or not"
        told.append(
            f"missing{values}: {', '.join(absent)}{looked}; put them ({packed}) into {home}"
        )
    return "; ".join(told)


def _flaw(file: Path) -> str:
    """Say what is wrong with a file: missing, empty, or of another length than it says itself."""
    if file.is_dir():
        return IN_THE_WAY
    if not file.is_file():
        return MISSING
    size = file.stat().st_size
    if "-idx" not in file.name:
        return "" if size else "empty"
    with file.open("rb") as opened:
        head = opened.read(16)
    axes = head[3] if head[:3] == b"\0\0\x08" and len(head) > 3 else 0
    if axes not in (1, 3) or len(head) < 4 + 4 * axes:
        return "not in MNIST's IDX format"
    wanted = 4 + 4 * axes + math.prod(struct.unpack_from(f">{axes}I", head, 4))
    return "" if size == wanted else f"damaged or cut short ({size:,} bytes, not {wanted:,})"


def _copied(source: IO[bytes], target: Path) -> str:
    """Copy a file; returns what is wrong with the copy, and then there is none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    why = "damaged or cut short"
    try:
        with target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        why = _flaw(target)
    finally:
        if why:
            target.unlink()
    return why


def _places(root: Path, files: Files) -> Sequence[Path]:
    """Return the folders that are there and may hold files of the set."""
    wanted = {_spelt(name) for name in (Path(files.folder).parts[0], *files.also)}
    if not root.is_dir():
        return []
    result = [d for d in sorted(root.iterdir()) if d.is_dir() and _spelt(d.name) in wanted]
    return [*result, root] if files.archives else result


def _near(root: Path, files: Files) -> Iterator[Path]:
    """Yield files that may be, or hold, some of the set's."""
    for place in _places(root, files):
        for file in sorted(place.glob("*") if place == root else place.rglob("*")):
            named = _plain(file.name) in files.names or file.name in files.archives
            if named and file.is_file():
                yield file


def _contents(file: Path, files: Files) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the set's files in a file: itself, unpacked, or those in an archive."""
    if file.name not in files.archives:
        with file.open("rb") as opened:
            yield _plain(file.name), _unpacked(opened)
    elif zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for entry in archive.namelist():
                if (name := _plain(Path(entry).name)) in files.names:
                    with archive.open(entry) as opened:
                        yield name, _unpacked(opened)
    else:
        with tarfile.open(file) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None and (name := Path(member.name).name) in files.names:
                    yield name, stream


def _unpacked(opened: IO[bytes]) -> IO[bytes]:
    """Read a file unpacked if it is packed, whatever its name says."""
    packed = opened.read(2) == b"\x1f\x8b"
    opened.seek(0)
    return gzip.GzipFile(fileobj=opened) if packed else opened  # type: ignore[return-value]


def _spelt(name: str) -> str:
    """Return a folder's name without what people spell differently."""
    return name.lower().replace("-", "").replace("_", "")


def _plain(name: str) -> str:
    """Return how torchvision calls a file that may be packed, or have a dot for a dash."""
    return name.removesuffix(".gz").replace(".idx", "-idx")
