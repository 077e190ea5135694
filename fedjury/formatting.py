"""Numbers in words, the same wherever people read them."""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN = "\N{EN DASH}"
"""What was not recorded."""


def percent(share: float | None, unknown: str = "") -> str:
    """Return a share as 12.3%, or ``unknown`` if nobody knows it."""
    return unknown if share is None else f"{share:.1%}"


def points(share: float | None, unknown: str = "") -> str:
    """Return a difference of shares as points, like 0.4, or ``unknown`` if nobody knows it."""
    return unknown if share is None else f"{100 * share:.1f}"


def figure(value: float) -> str:
    """Return a measurement in four digits, like 0.03312, or 12,345."""
    return f"{value:,.0f}" if 10_000 <= abs(value) < 10**9 else f"{value:.4g}"


def measure(name: str, value: float) -> str:
    """Return what was measured under a name: accuracies are shares, the others numbers."""
    share = name.endswith("accuracy") and 0 <= value <= 1
    return percent(value) if share else figure(value)


def measures(
    accuracy: float | None, metrics: Mapping[str, float], most: int | None = None
) -> list[tuple[str, str]]:
    """Return what was measured of a model as names and values, ``most`` of them; accuracy first.

    Where agents measured accuracy too, that of the server is ``server_accuracy``.
    """
    found = dict(metrics)
    if accuracy is not None:
        found = {"server_" * ("accuracy" in metrics) + "accuracy": accuracy} | found
    return [(name, measure(name, value)) for name, value in [*found.items()][:most]]


def size(count: float | None) -> str:
    """Return a number of bytes, like 52.1 MB; a dash if nobody knows it."""
    if count is None:
        return UNKNOWN
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.95 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:,.0f} B" if units[0] == "B" else f"{count:,.1f} {units[0]}"


def processor_time(microseconds: int) -> str:
    """Return a processor time, like 35 ms or 1.2 s; a dash where nobody said it, which is 0."""
    if not microseconds:
        return UNKNOWN
    if microseconds < 999_500:
        return f"{microseconds / 1000:.3g} ms"
    return f"{microseconds / 1e6:,.1f} s"


def counts(numbers: Mapping[str, int], most: int | None = None) -> str:
    """Return names with how often each was counted, the largest numbers first, ``most`` of them."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {count:,}" for name, count in ordered[:most] if count]
    return ", ".join(shown) + (", …" if most and len(ordered) > most else "")
