"""Which sums agents have helped to open, over which models; kept in a file, if there is one.

An update follows from its base model and its agent's data, so over one model an agent helps to open
one sum alone, also after it was started again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedjury.secure.agent import Opened

KEPT = 100
"""Models of which each agent remembers its sum: none is in force for longer."""


class OpenedSums:
    """The sums of the agents of one process."""

    def __init__(self, file: Path | None = None) -> None:
        """``file``: where they are kept, a line each; it need not exist.

        Raises
        ------
        ValueError
            If it holds something else.
        """
        self._file = file
        self._sums: dict[str, dict[bytes, Opened]] = {}
        if file is not None and file.exists():
            self._read(file)

    def _read(self, file: Path) -> None:
        """Read what is kept; the last line may be cut short: nobody was told of that sum."""
        from fedjury.secure.agent import Opened  # noqa: PLC0415 - without it 8 MB are saved

        lines, whole = file.read_text(encoding="utf-8").splitlines(), True
        for number, line in enumerate(lines, 1):
            try:
                agent, *parts = json.loads(line)
                base, roster, survivors = map(bytes.fromhex, parts)
            except (ValueError, TypeError) as why:
                if number < len(lines):
                    raise ValueError(f"{file}, line {number}: no sum that was opened") from why
                whole = False
                break
            self._keep(agent, base, Opened(roster, survivors))
        if not whole or len(lines) > 2 * sum(map(len, self._sums.values())):
            self._rewrite(file)

    def over(self, agent: str, base: bytes) -> Opened | None:
        """Return the sum that an agent has helped to open over a model, if there is one."""
        return self._sums.get(agent, {}).get(base)

    def add(self, agent: str, base: bytes, opened: Opened) -> None:
        """Remember a sum, before its shares are sent."""
        if self.over(agent, base) == opened:
            return
        self._keep(agent, base, opened)
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(_line(agent, base, opened))
                file.flush()
                os.fsync(file.fileno())

    def _keep(self, agent: str, base: bytes, opened: Opened) -> None:
        known = self._sums.setdefault(agent, {})
        known[base] = opened
        while len(known) > KEPT:
            del known[next(iter(known))]

    def _rewrite(self, file: Path) -> None:
        """Leave out what is no longer of use."""
        lines = (
            _line(agent, base, opened)
            for agent, known in self._sums.items()
            for base, opened in known.items()
        )
        fresh = file.with_name(f"{file.name}.new")
        fresh.write_text("".join(lines), encoding="utf-8")
        fresh.replace(file)


def opened_sums_in(folder: str | Path, run: str, name: str) -> OpenedSums:
    """Return those that agents of a run keep in a folder, by the name of the first of them.

    They are kept nowhere if there is no folder.

    Raises
    ------
    ValueError
        If they cannot be read, or the folder cannot be had.
    """
    if not folder:
        return OpenedSums()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return OpenedSums(Path(folder) / f"{run}.{name}.sums.jsonl")
    except OSError as why:
        raise ValueError(f"{folder} cannot keep which sums were opened: {why.strerror}") from why


def _line(agent: str, base: bytes, opened: Opened) -> str:
    return json.dumps([agent, base.hex(), opened.roster.hex(), opened.survivors.hex()]) + "\n"
