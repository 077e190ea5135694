"""Plug-ins of somebody else: ``package.module:name``."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedjury.registry.wrong import failure, unknown

ELSEWHERE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
"""``package.module:name``."""


def found_elsewhere(kind: str, name: str, place: str) -> Callable[..., Any]:
    """Import what ``place`` names, for the plug-in ``name`` of this kind.

    Raises
    ------
    ValueError
        If it cannot be had: it is not so written, the module or the name is not there, the module
        fails, or what is there cannot be called.
    """
    if not ELSEWHERE.fullmatch(place):
        raise ValueError(f"{kind} {name!r} must be written package.module:name")
    module, _, path = place.partition(":")
    result = _imported(f"{kind} {name!r}", module)
    for part in path.split("."):
        if not hasattr(result, part):
            public = [key for key in vars(result) if not key.startswith("_")]
            raise unknown(f"name in module {module!r} for a {kind}", part, public)
        result = getattr(result, part)
    if not callable(result):
        raise ValueError(f"{kind} {name!r} is a {type(result).__name__}, not a function")  # noqa: TRY004 - of a setting
    called: Callable[..., Any] = result
    return called


def _imported(what: str, name: str) -> Any:
    """Import a module of somebody else's, also from the folder where one stands."""
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.append(here)  # behind all else, so that nothing there hides what is installed
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as why:
        if why.name and f"{name}.".startswith(f"{why.name}."):
            raise ValueError(
                f"{what}: there is no module {why.name!r}, neither in {here} nor installed"
            ) from why
        raise ValueError(f"{what} cannot be imported: {failure(why)}") from why
    except (Exception, SystemExit) as why:
        raise ValueError(f"{what} cannot be imported: {failure(why)}") from why
