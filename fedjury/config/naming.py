"""The name of a run that nobody named: by the time, and no other's."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from fedjury.config.sections import Run
from fedjury.config.settings import Settings, SettingsError


def named(settings: Settings, kind: str) -> Settings:
    """Return settings with a run's name; one that nobody chose is ``kind`` and the time.

    The folder of such a name is made here, which only one of those can who ask for it in the same
    second: the others get a number behind it.

    Raises
    ------
    SettingsError
        If the folder cannot be made.
    """
    if settings.run.name != Run().name:
        return settings
    folder, now = Path(settings.run.directory), time.strftime(f"{kind}-%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        name = now if number == 1 else f"{now}-{number}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).mkdir()
        except FileExistsError as why:
            if not folder.is_dir():  # it is a file
                raise SettingsError(f"cannot write to {folder}: {why.strerror}") from why
        except OSError as why:
            raise SettingsError(f"cannot write to {folder / name}: {why.strerror}") from why
        else:
            return settings.replaced(run=settings.run.replaced(name=name))
    raise AssertionError
