"""Building an entry of a table by its name, with errors that help.

Rules, judges, learners, data sets: each kind has one explicit table, name -> builder. A name
or a hyper-parameter comes from a settings file, where a slip of the pen must not go unnoticed.
"""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")


def build(
    table: Mapping[str, Callable[..., T]],
    kind: str,
    name: str,
    hyperparameters: Mapping[str, object],
    also: Iterable[str] = (),
) -> T:
    """Call the builder ``table[name]`` with the hyper-parameters as keywords.

    ``kind`` is what messages call an entry ("rule"); ``also`` are hyper-parameters that the
    caller takes care of itself and that messages should list too.

    Raises
    ------
    ValueError
        If the name or a hyper-parameter is not known, with the valid ones and the nearest, or
        if one without a default is missing. What the builder itself raises passes through.
    """
    if name not in table:
        raise unknown(kind, name, table)
    parameters = inspect.signature(table[name]).parameters
    for given in hyperparameters:
        if given not in parameters:
            raise unknown(f"hyper-parameter of {kind} {name!r}", given, [*parameters, *also])
        _check_type(kind, name, given, parameters[given].annotation, hyperparameters[given])
    required = (p.name for p in parameters.values() if p.default is p.empty)
    if missing := [p for p in required if p not in hyperparameters]:
        raise ValueError(f"{kind} {name!r} needs {', '.join(missing)}")
    return table[name](**hyperparameters)


PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}


def _check_type(kind: str, name: str, key: str, annotation: object, value: object) -> None:
    """Refuse a value of the wrong type, where the builder wants numbers, text or the like."""
    names = str(annotation).split(" | ")
    if not all(part in PLAIN for part in names):
        return
    allowed = {PLAIN[part] for part in names}
    if type(value) not in allowed and not (type(value) is int and float in allowed):
        wanted = " or ".join(part for part in names if part != "None")
        raise ValueError(f"{key} of {kind} {name!r} must be {wanted}, not {value!r}")


def unknown(what: str, given: str, valid: Iterable[str]) -> ValueError:
    """Make the error for a name that is not valid: the nearest that is, then all of them."""
    names = list(valid)
    nearest = difflib.get_close_matches(given, names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return ValueError(f"unknown {what}: {given!r}; {hint}valid: {', '.join(names) or 'none'}")
