"""Which run an aggregator conducts that was given none: the unfinished one, or the next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedjury.aggregator import durable_files
from fedjury.aggregator.durable_files import StoreError

ENDED = "ended"
"""A file in a run's folder: all its rounds are done, and everybody has been told."""


@contextmanager
def claimed(directory: Path, name: str) -> Iterator[str]:
    """Hold the folder of the newest run of ``name``, or of the next one if that is over.

    Runs are called ``name``, ``name-2``, ``name-3`` and so on. Yields what the run is called.

    Raises
    ------
    StoreError
        If an aggregator is at work there, or nobody may write there.
    """
    number = _newest(directory, name)
    while True:
        run = _called(name, number)
        folder = directory / run
        if not (folder / ENDED).exists():
            with ExitStack() as held:
                try:
                    held.enter_context(durable_files.held(folder, run))
                except StoreError as why:
                    raise StoreError(f"{why}; --run NAME chooses another run") from why
                if not (folder / ENDED).exists():  # else it came to its end just now
                    yield run
                    return
        number += 1


def _called(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _newest(directory: Path, name: str) -> int:
    """Return the number of the newest run of a name, 1 if there is none."""
    pattern = re.compile(re.escape(name) + "-([1-9][0-9]{0,8})")
    result = [pattern.fullmatch(folder.name) for folder in directory.glob(f"{name}-*")]
    return max([1, *(int(match[1]) for match in result if match)])
