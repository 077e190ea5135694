"""What is wrong with a name, a value or a module, in one sentence."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

HERE = f"{Path(__file__).parent}{os.sep}"
"""Frames from here are not shown."""


def unknown(what: str, given: str, valid: Iterable[str]) -> ValueError:
    """Make the error for a name that is not valid: the nearest that is, then all of them."""
    names = list(valid)
    nearest = difflib.get_close_matches(given, names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return ValueError(f"unknown {what}: {given!r}; {hint}valid: {', '.join(names) or 'none'}")


def failure(why: BaseException, file: str | None = None) -> str:
    """Say what an exception in somebody else's module is, and in which line of it.

    ``file``: the module's; if it is not known, the first that the exception went through.
    """
    if isinstance(why, SyntaxError):
        return f"SyntaxError: {why.msg} ({why.filename}, line {why.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(why.__traceback__)
        if not frame.filename.startswith(HERE)
        and not frame.filename.startswith("<frozen ")
        and f"{os.sep}importlib{os.sep}" not in frame.filename
    ]
    text = " ".join(f"{type(why).__name__}: {why}".split())
    if not frames:
        return text
    theirs = ([f for f in frames if f.filename == (file or frames[0].filename)] or frames)[-1]
    return f"{text} ({theirs.filename}, line {theirs.lineno})"


def check_type(
    what: str, parameter: inspect.Parameter, builder: Callable[..., Any], value: object
) -> None:
    """Refuse a value that is not what the annotation says; one that cannot be read allows all.

    No text is taken for a number, and no bool for a whole one; a whole number is a float.
    """
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    alone = SimpleNamespace(__annotations__={"option": annotation})
    try:
        hints = get_type_hints(alone, vars(sys.modules[builder.__module__]))
        fits = _validator(hints["option"])
    except Exception:
        return
    if not fits(value):
        kinds = [part for part in written.split(" | ") if part != "None"]
        raise ValueError(f"{what} must be {' or '.join(kinds)}, not {value!r}")


def _validator(annotation: Any) -> Callable[[object], bool]:
    from pydantic import ConfigDict, TypeAdapter, ValidationError  # noqa: PLC0415 - 0.2 s to import

    strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=strict)

    def fits(value: object) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return fits
