"""Models and updates as JSON: named tensors as nested lists, and strictly back.

JSON has no infinity, so what is not finite travels as ``"Infinity"``, ``"-Infinity"`` or
``"NaN"``: strings that Python's ``float``, NumPy and JavaScript's ``Number`` all read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from fedjury.gateway.refusal import InvalidRequest
from fedjury.protocol.messages import Reason, Vector

Layout = Sequence[tuple[str, tuple[int, ...]]]
"""The names and shapes of a model's tensors, in the order in which its vector holds them."""

NAMED = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def quote(text: object) -> str:
    """Quote what somebody sent, short and in ASCII."""
    return ascii(str(text)[:40])


# ---------------------------------------------------------------- out


def tensors_json(vector: Vector, layout: Layout) -> bytes:
    """Write a vector (d,) as a JSON object: tensor name -> nested lists."""
    return orjson.dumps(named(vector, layout), option=orjson.OPT_SERIALIZE_NUMPY)


def named(vector: Vector, layout: Layout) -> dict[str, Any]:
    """Cut a vector (d,) into its tensors, as orjson takes them."""
    cuts = np.cumsum([math.prod(shape) for _, shape in layout])[:-1]
    parts = np.split(np.ascontiguousarray(vector, dtype=np.float32), cuts)
    return {
        name: _writable(part.reshape(shape))
        for (name, shape), part in zip(layout, parts, strict=True)
    }


def _writable(tensor: npt.NDArray[np.float32]) -> Any:
    """Return a tensor that is finite as it is, else as lists with strings in them."""
    if tensor.ndim and np.isfinite(tensor).all():
        return tensor
    mixed = tensor.astype(object)
    mixed[np.isnan(tensor)] = "NaN"
    mixed[np.isposinf(tensor)] = "Infinity"
    mixed[np.isneginf(tensor)] = "-Infinity"
    return mixed.tolist()


# ---------------------------------------------------------------- in


def strict_json(data: bytes) -> Any:
    """Read JSON that says one thing only: no key twice, and no NaN, which JSON does not have.

    Raises
    ------
    Refused
        If it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidRequest(Reason.MALFORMED, "nested too deeply") from None
    except ValueError as why:  # of JSON, of UTF-8, and of numbers with thousands of digits
        text = str(why) if isinstance(why, json.JSONDecodeError) else type(why).__name__
        raise InvalidRequest(Reason.MALFORMED, f"not JSON: {text[:100]}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise InvalidRequest(Reason.MALFORMED, "a key appears twice in an object")
    return result


def _no_constant(name: str) -> None:
    raise InvalidRequest(Reason.MALFORMED, f'{name} is not JSON; write "{name}", as a string')


def vector_of(tensors: Mapping[str, Any], layout: Layout) -> Vector:
    """Put named tensors together to a vector (d,); it may hold infinities and NaN.

    Raises
    ------
    Refused
        If a tensor is missing or unknown, or has another shape, or holds anything but numbers.
    """
    wanted = dict(layout)
    if tensors.keys() != wanted.keys():
        odd = sorted(tensors.keys() ^ wanted.keys())[:3]
        raise InvalidRequest(
            Reason.MISSING_KEY, f"missing or unknown tensors: {', '.join(map(quote, odd))}"
        )
    parts = [_numbers(name, _flat(name, tensors[name], shape)) for name, shape in layout]
    return np.concatenate(parts, dtype=np.float32)


def _flat(name: str, value: Any, shape: tuple[int, ...]) -> list[Any]:
    """Flatten nested lists that must have this shape."""
    if not shape:
        return [value]
    if type(value) is not list:
        raise InvalidRequest(
            Reason.WRONG_TYPE, f"{quote(name)} is not nested as deeply as its shape"
        )
    if len(value) != shape[0]:
        raise InvalidRequest(
            Reason.WRONG_LENGTH, f"{quote(name)} has a list of {len(value)}, not {shape[0]}"
        )
    if len(shape) == 1:
        return value
    return list(chain.from_iterable(_flat(name, item, shape[1:]) for item in value))


def _numbers(name: str, values: list[Any]) -> Vector:
    """Make an array of JSON numbers and the three strings; too large for float32 is infinite."""
    kinds = set(map(type, values))
    if not kinds <= {float, int, str}:
        raise InvalidRequest(
            Reason.WRONG_TYPE, f"{quote(name)} holds something that is not a number"
        )
    if kinds - {float}:
        values = [value if type(value) is float else _number(name, value) for value in values]
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float64).astype(np.float32)


def _number(name: str, value: int | str) -> float:
    if isinstance(value, str):
        if value not in NAMED:
            raise InvalidRequest(
                Reason.WRONG_TYPE, f"{quote(name)} holds the string {quote(value)}"
            )
        return NAMED[value]
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
