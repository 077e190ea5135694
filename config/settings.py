"""The settings of a run: frozen records, one a section of the TOML file.

What each setting means is written once, in ``default.toml``; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting that cannot be: names the key, what is allowed, and the nearest right name."""


def _setting(default: T, low: float = -math.inf, high: float = math.inf) -> T:
    """Declare a setting with the numbers it may be; both ends are allowed."""
    value: T = field(default=default, metadata={"low": low, "high": high})
    return value


@dataclass(frozen=True)
class Run:
    """The run as a whole."""

    name: str = "run"
    seed: int = _setting(0, 0, 2**63 - 1)
    rounds: int = _setting(30, 1, 10**9)
    directory: str = "runs"


@dataclass(frozen=True)
class Broker:
    """Where the broker is and who we are to it."""

    host: str = "127.0.0.1"
    port: int = _setting(1883, 1, 65535)
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Model:
    """The network and its first weights."""

    name: str = "classifier"
    init: str = ""


@dataclass(frozen=True)
class Data:
    """The data set."""

    name: str = "mnist5k"
    root: str = "data"
    test: int = _setting(1000, 1)


@dataclass(frozen=True)
class Training:
    """How an agent trains between two rounds."""

    epochs: int = _setting(1, 1)
    batch_size: int = _setting(4, 1)
    learning_rate: float = _setting(0.1, 0)
    momentum: float = _setting(0.0, 0, 0.9999)


@dataclass(frozen=True)
class Aggregation:
    """How the updates of a round become one."""

    rule: str = "mean"
    clip: float = _setting(0.0, 0)
    server_lr: float = _setting(1.0, 0)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """Who is called to contribute."""

    share: float = _setting(1.0, 1e-9, 1)


@dataclass(frozen=True)
class Collect:
    """When a round has enough updates."""

    agents: int = _setting(0, 0)
    patience: float = _setting(120.0, 0)
    threshold: int = _setting(0, 0)
    at_least: int = _setting(1, 1)
    seconds: float = _setting(60.0, 0.01)
    attempts: int = _setting(5, 1)


@dataclass(frozen=True)
class Validation:
    """Who votes on a candidate, and how."""

    validators: int = _setting(0, 0)
    quorum: int = _setting(5, 1)
    judge: str = "lof"
    look_back: int = _setting(10, 2)
    minimum_history: int = _setting(0, 0)
    warm_up: int = _setting(0, 0)
    seconds: float = _setting(30.0, 0.01)

    @property
    def history(self) -> int:
        """Accepted models a judge needs before it judges."""
        return self.minimum_history or self.look_back + 1


@dataclass(frozen=True)
class Limits:
    """What is let in."""

    finite: bool = True
    samples: int = _setting(1000, 1)
    bytes: int = _setting(32_000_000, 1000)


@dataclass(frozen=True)
class Wire:
    """How vectors travel."""

    codec: str = "float32"
    history: str = "int7+zstd"


@dataclass(frozen=True)
class Agents:
    """The fleet."""

    n: int = _setting(1000, 1, 1_000_000)
    evil: float = _setting(0.2, 0, 1)
    attack: str = "mpaf"
    scale: float = 1e6
    start: int = _setting(1, 1)
    liars: str = "always_accept"
    samples: int = _setting(4, 0)
    split: str = "iid"
    alpha: float = _setting(0.9, 1e-9)
    degree: float = _setting(0.5, 0, 1)
    processes: int = _setting(0, 0, 1024)
    shard: str = "1/1"
    shared_downlink: bool = False

    @property
    def part(self) -> tuple[int, int]:
        """The shard as (i, k), counted from 1."""
        i, k = self.shard.split("/")
        return int(i), int(k)


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    run: Run = Run()
    broker: Broker = Broker()
    model: Model = Model()
    data: Data = Data()
    training: Training = Training()
    aggregation: Aggregation = Aggregation()
    sampling: Sampling = Sampling()
    collect: Collect = Collect()
    validation: Validation = Validation()
    limits: Limits = Limits()
    wire: Wire = Wire()
    agents: Agents = Agents()

    @property
    def expected(self) -> int:
        """Agents to wait for before the first round."""
        return self.collect.agents or self.agents.n

    def __post_init__(self) -> None:
        """Check what no section can check alone."""
        votes = self.validation
        _must(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.run.name), "run.name",
              self.run.name, "1 to 64 of A-Z a-z 0-9 _ -")  # fmt: skip
        _must(not votes.validators or votes.quorum <= votes.validators, "validation.quorum",
              votes.quorum, f"1 to validation.validators ({votes.validators})")  # fmt: skip
        _must(votes.minimum_history == 0 or 3 <= votes.minimum_history <= votes.look_back + 1,
              "validation.minimum_history", votes.minimum_history,
              f"0, or 3 to validation.look_back + 1 ({votes.look_back + 1})")  # fmt: skip
        shard = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})|dns:[\w.-]+", self.agents.shard)
        _must(shard and (not shard[1] or int(shard[1]) <= int(shard[2])), "agents.shard",
              self.agents.shard, "i/k with 1 <= i <= k, like 2/4, or dns:SERVICE")  # fmt: skip


def load(files: Iterable[Path] = (), overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read settings: the defaults, then each file, then ``overrides`` ("section.key" -> value).

    The environment variable FEDJURY_PASSWORD is the broker's password where none is given.

    Raises
    ------
    SettingsError
        If a file cannot be read, a key is unknown, or a value is not possible.
    """
    tables: dict[str, dict[str, Any]] = {}
    for file in files:
        for section, keys in _read(file).items():
            if not isinstance(keys, dict):
                raise SettingsError(f"{file}: {section!r} must be in a section, like [run]")
            tables.setdefault(section, {}).update(keys)
    for dotted, value in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        tables.setdefault(section, {})[key] = value
    broker = tables.setdefault("broker", {})
    if broker.get("password", "") == "":
        broker["password"] = os.environ.get("FEDJURY_PASSWORD", "")
    return _record(tables)


def field_of(dotted: str) -> tuple[type, dataclasses.Field[Any]]:
    """Return the type and the field of the setting called ``section.key``.

    Raises
    ------
    SettingsError
        If there is none, with the nearest that there is.
    """
    known = {
        f"{name}.{item.name}": (hint, item)
        for name, section in get_type_hints(Settings).items()
        for item, hint in _fields(section)
    }
    if dotted not in known:
        raise SettingsError(f"unknown setting {dotted!r}{_hint(dotted, known)}")
    return known[dotted]


def to_toml(settings: Settings) -> str:
    """Write settings so that ``load`` reads the same; the password is left out."""
    lines = []
    for section, keys in dataclasses.asdict(settings).items():
        lines.append(f"[{section}]")
        lines += [f"{k} = {_toml(v)}" for k, v in keys.items() if k != "password"]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        # JSON's escapes, but for two: TOML knows no surrogate pairs, and wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as why:
        raise SettingsError(f"cannot read {file}: {why.strerror}") from why
    except (ValueError, RecursionError) as why:  # the last: tables in tables in tables
        raise SettingsError(f"{file} is not TOML: {why}") from why


def _record(tables: Mapping[str, Mapping[str, Any]]) -> Settings:
    sections: dict[str, Any] = get_type_hints(Settings)
    values = {}
    for section, keys in tables.items():
        if section not in sections:
            raise SettingsError(f"unknown section [{section}]{_hint(section, sections)}")
        checked = {key: _value(f"{section}.{key}", value) for key, value in keys.items()}
        values[section] = sections[section](**checked)
    return Settings(**values)


def _value(dotted: str, value: Any) -> Any:
    """Check one value against its field: type first, then range."""
    kind, item = field_of(dotted)
    if kind is float and type(value) is int and abs(value) < 1e308:
        value = float(value)
    if type(value) is not kind and not (
        kind not in (str, int, float, bool) and type(value) is dict
    ):
        raise SettingsError(f"{dotted} = {value!r} must be {_called(kind)}")
    low, high = item.metadata.get("low", -math.inf), item.metadata.get("high", math.inf)
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{dotted} = {value!r} must be finite")
    if kind in (int, float) and not low <= value <= high:
        least = f"{low:,.15g} or more" if high == math.inf else f"{low:,.15g} to {high:,.15g}"
        raise SettingsError(f"{dotted} = {value!r} must be {least}")
    return value


def _called(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "a table, like { share = 0.2 }")


def _fields(section: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(section)
    return [(item, hints[item.name]) for item in dataclasses.fields(section)]


def _hint(name: str, valid: Iterable[str]) -> str:
    """Say what was probably meant; of ``section.key``, all keys of the section."""
    names = list(valid)
    near = difflib.get_close_matches(name, names, n=1)
    section = name.partition(".")[0] + "."
    fitting = [n for n in names if n.startswith(section)] or names
    meant = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{meant} valid: {', '.join(fitting)}"


def _must(right: object, key: str, value: object, allowed: str) -> None:
    if not right:
        raise SettingsError(f"{key} = {value!r} must be {allowed}")
