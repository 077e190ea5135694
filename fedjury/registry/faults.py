"""What goes wrong in a plug-in of somebody else's while it works, in one sentence."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

from fedjury.registry.table import Registry
from fedjury.registry.wrong import failure

Plugin = tuple[Registry[Any], str]
"""A kind, and a name of it."""

Tell = Callable[[str, str], None]
"""Tells people a sentence, the first of each kind: (sentence, kind)."""


class NotTheirs(Exception):  # noqa: N818 - it says whose fault it is not
    """Something that happens while a plug-in works, and in which it has no part."""


class PluginError(ValueError):
    """A plug-in fails, or returns something else than its kind does; one sentence."""


@contextmanager
def working(registry: Registry[Any], name: str) -> Iterator[None]:
    """Turn what a plug-in raises into a sentence with its name, file and line.

    Raises
    ------
    PluginError
        That sentence. One of ours that says what it lacks raises its own ``ValueError``.
    """
    try:
        yield
    except (MemoryError, PluginError, NotTheirs):
        raise
    except Exception as why:
        if isinstance(why, ValueError) and name in registry.own and "read-only" not in str(why):
            raise
        raise PluginError(f"{registry.kind} {name!r} fails: {registry.failure(name, why)}") from why


def theirs(*plugins: Plugin) -> tuple[Plugin, ...]:
    """Return those that are not ours; a name may be empty."""
    return tuple((kind, name) for kind, name in plugins if name and name not in kind.own)


def blamed(why: Exception, plugins: Iterable[Plugin]) -> str:
    """Return the sentence for an exception that one of these plug-ins has caused; "" if none has.

    ``plugins``: those of somebody else's that were at work, whose work is mixed with ours: a loss
    and a network are called by the thousand, and nothing may stand around each call. The exception
    says through which lines it went. If these are in no file of theirs, all are named.
    """
    if isinstance(why, MemoryError):
        return ""
    if isinstance(why, PluginError):
        return str(why)
    known = [*plugins]
    if not known:
        return ""
    place = [frame.f_code for frame, _ in traceback.walk_tb(why.__traceback__)][::-1]
    for fits in (_is_of, _is_in_file_of):
        for code in place:
            for kind, name in known:
                if fits(code, kind.resolve(name)):
                    return f"{kind.kind} {name!r} fails: {kind.failure(name, why)}"
    named = " or ".join(f"{kind.kind} {name!r}" for kind, name in known)
    return f"{named} fails: {failure(why)}"


def _is_of(code: CodeType, builder: Callable[..., Any]) -> bool:
    """Say whether a line is inside what builds a plug-in: its function, or its class."""
    own = getattr(builder, "__qualname__", "")
    inside = code.co_qualname == own or code.co_qualname.startswith(f"{own}.")
    return bool(own) and inside and _is_in_file_of(code, builder)


def _is_in_file_of(code: CodeType, builder: Callable[..., Any]) -> bool:
    try:
        return code.co_filename == inspect.getfile(builder)
    except TypeError:  # of what is written in C
        return False
