"""What is wrong with a name, a value or a module, in one sentence."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

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
    alone = SimpleNamespace(__annotations__={"option": annotation})
    module = sys.modules.get(getattr(builder, "__module__", None) or "")
    names = vars(module) if module else {}
    try:
        plain = get_type_hints(alone, names)["option"]
        misfit = _checked(get_type_hints(alone, names, include_extras=True)["option"], plain)
    except Exception:
        return
    if said := misfit(value):
        raise ValueError(f"{what} must be {said}, not {value!r}")


def _checked(annotation: Any, plain: Any) -> Callable[[object], str]:
    """Make what says what a value must be, in words, if it does not fit; empty if it does."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError  # noqa: PLC0415 - 0.2 s to import

    strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=strict)
    parts = get_args(plain) if get_origin(plain) in (Union, UnionType) else [plain]
    kinds = " or ".join(inspect.formatannotation(one) for one in parts if one is not NoneType)

    def misfit(value: object) -> str:
        try:
            adapter.validate_python(value)
        except ValidationError as why:
            error = why.errors()[0]
            said = error["msg"].removeprefix("Input should be ")
            if error["type"] == "literal_error":
                return said
            return f"{kinds} {said}" if error["type"].startswith(("greater", "less")) else kinds
        return ""

    return misfit
