"""How many samples each agent holds, as people write it: 4, or "lognormal(mean=4, sigma=1)"."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from fedjury.config.section import must

MOST = 10**9
"""Samples that an agent may hold at the most: more than any data set has."""


@dataclass(frozen=True)
class Uniform:
    """Each agent holds from ``low`` to ``high`` samples, every number as likely."""

    low: int
    high: int = 0
    """0: as many above an equal share of the training set as ``low`` is below it."""

    def flaw(self) -> str:
        """Return which values are allowed, if one of these is not."""
        if not 0 <= self.low <= MOST:
            return f"low from 0 to {MOST:,}"
        fits = not self.high or max(1, self.low) <= self.high <= MOST
        return "" if fits else "high at least low, and at least 1"


@dataclass(frozen=True)
class LogNormal:
    """Agents' sizes vary by factors exp(sigma * z), where z is standard normal."""

    mean: float = 0.0
    """Samples an agent holds on average, exactly; 0: the whole training set is shared out."""
    sigma: float = 1.0
    least: int = 0
    """What each agent is given first; the rest is shared out by the draw."""

    def flaw(self) -> str:
        """Return which values are allowed, if one of these is not."""
        if not 0 <= self.sigma <= 10:
            return "sigma from 0 to 10"
        return _flaw(self.mean, self.least)


@dataclass(frozen=True)
class Dirichlet:
    """Agents' shares of all that they hold together are drawn from Dir(alpha, ..., alpha)."""

    mean: float = 0.0
    """See ``LogNormal``."""
    alpha: float = 0.5
    """Small: few agents hold nearly everything; large: all hold as many."""
    least: int = 0

    def flaw(self) -> str:
        """Return which values are allowed, if one of these is not."""
        if not 1e-3 <= self.alpha <= 1e6:
            return "alpha from 0.001 to 1,000,000"
        return _flaw(self.mean, self.least)


Sizes = int | Uniform | LogNormal | Dirichlet
"""How many samples each agent holds; 0: the training set is divided evenly."""

DISTRIBUTIONS: dict[str, type[Uniform | LogNormal | Dirichlet]] = {
    "uniform": Uniform,
    "lognormal": LogNormal,
    "dirichlet": Dirichlet,
}


def _form(name: str) -> str:
    return f"{name}({', '.join(option.name for option in fields(DISTRIBUTIONS[name]))})"


FORMS = ", ".join(map(_form, DISTRIBUTIONS))

ALLOWED = (
    f"a number of samples, 0 to {MOST:,} (0: the training set divided evenly), or one of {FORMS}, "
    'like "lognormal(mean=4, sigma=1)"'
)


def sizes_of(key: str, value: object) -> Sizes:
    """Read sizes from a setting: a whole number, or a distribution's name with its numbers.

    Numbers stand in the order of the distribution's options, or behind their names.

    Raises
    ------
    SettingsError
        If it is neither, in a sentence that says what is possible.
    """
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,12}\s*", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        must(0 <= value <= MOST, key, value, ALLOWED)
        return value
    match = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", value) if isinstance(value, str) else None
    must(match and match[1] in DISTRIBUTIONS, key, value, ALLOWED)
    assert match is not None
    return _distribution(key, str(value), match[1], match[2])


def _distribution(key: str, text: str, name: str, inside: str) -> Sizes:
    """Read what stands between the parentheses of a distribution."""
    kind = DISTRIBUTIONS[name]
    types = {option.name: option.type for option in fields(kind)}
    names, given = list(types), dict[str, float]()
    for place, part in enumerate(filter(None, map(str.strip, inside.split(",")))):
        before, equals, after = part.rpartition("=")
        option = before.strip() if equals else names[place] if place < len(names) else ""
        known = option in types and option not in given
        must(known, key, text, f"{_form(name)}, each number once")
        whole = types[option] == "int"
        number = _number(after, whole=whole)
        allowed = f"{_form(name)} with {option} a {'whole ' if whole else ''}number, 0 or more"
        must(number is not None, key, text, allowed)
        assert number is not None
        given[option] = number
    must(given or kind is not Uniform, key, text, "uniform(low, high), at least with low")
    result = kind(**given)  # type: ignore[arg-type]
    flaw = result.flaw()
    must(not flaw, key, text, f"{_form(name)} with {flaw}")
    return result


def _number(text: str, *, whole: bool) -> float | None:
    """Read a number of digits, without signs and names like "nan"; None if it is not one."""
    plain = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?\s*", text, re.IGNORECASE)
    if not plain:
        return None
    if not whole:
        return float(text)
    return int(text) if text.strip().isascii() and text.strip().isdigit() else None


def _flaw(mean: float, least: int) -> str:
    """Return which mean and least number are allowed, if these are not."""
    if not 0 <= mean <= MOST:
        return f"mean from 0 to {MOST:,}"
    return "" if least <= (mean or MOST) else "least at most the mean"
