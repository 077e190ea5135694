"""Command-line flags: short names for the settings people change most, ``--set`` for the rest."""

from __future__ import annotations

import argparse
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fedjury.config import renamed
from fedjury.config.program import run_main
from fedjury.config.run_sections import Broker
from fedjury.config.section import Flag, bounds, example_of, range_of, type_of
from fedjury.config.settings import Settings, SettingsError, field_of, fields, load
from fedjury.registry import KINDS

__all__ = ["add_broker", "parser", "run_main", "settings_from"]

NEGATIVE = re.compile(r"-\.?\d")
"""What begins with a dash and is a value all the same, like -1e6; argparse's own knows no exponent
before Python 3.14."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that names the plug-ins there are; looked for when it is asked for, not before."""

    def _expand_help(self, action: argparse.Action) -> str:
        return named(super()._expand_help(action))


def named(text: str) -> str:
    """Put all plug-ins of a kind in the place of the kind in braces, like ``{rule}``."""
    kinds = {kind.mark.kind: kind for kind in KINDS}
    return re.sub(r"\{(\w+)\}", lambda match: kinds[match[1]].listed(), text)


METAVARS: Mapping[Any, str] = {
    int: "N",
    float: "X",
    str: "NAME",
    list[str]: "LIST",
    list[int]: "LIST",
}
MOST = 10**8
"""A range that ends later is not worth a word in ``--help``."""


def _flags(*settings: str) -> dict[str, str]:
    """Return the flags of these settings, or of all in these sections: flag -> "section.key"."""
    wanted = [
        key for name in settings for key in fields() if key == name or key.startswith(f"{name}.")
    ]
    return {flag.name: key for key in wanted if (flag := _flag_of(key))}


def _flag_of(dotted: str) -> Flag | None:
    return next((item for item in field_of(dotted).metadata if isinstance(item, Flag)), None)


RUN_FLAGS = _flags("run.name", "run.seed", "run.device", "data")
BROKER_FLAGS = _flags("broker")
LISTENER_FLAGS = {flag: key for flag, key in BROKER_FLAGS.items() if key != "broker.forget"}
"""For who only listens, and has nothing to remove."""
AGGREGATOR_FLAGS = _flags(
    "run.rounds",
    "run.directory",
    *(
        "model",
        "aggregation",
        "sampling",
        "groups",
        "collect",
        "cells",
        "validation",
        "evaluation",
        "detection",
        "wire",
    ),
)
AGENT_FLAGS = _flags("agents", "backdoor")

TITLES = {
    "run": RUN_FLAGS,
    "aggregator": AGGREGATOR_FLAGS,
    "agents": AGENT_FLAGS,
    "broker": BROKER_FLAGS,
}
"""Headings of ``--help``."""


def parser(
    description: str,
    examples: str,
    *groups: Mapping[str, str],
    prog: str | None = None,
    defaults: Mapping[str, object] = MappingProxyType({}),
) -> argparse.ArgumentParser:
    """Make a parser that knows ``--config``, ``--set`` and these flags.

    ``prog``: the program as people type it, like "python run.py". ``defaults``: of the settings
    that have another default in this program, what ``--help`` says of it.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=textwrap.fill(description, 80),
        epilog=f"examples:\n{examples}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser._negative_number_matcher = NEGATIVE  # noqa: SLF001 - there is no other way
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="TOML file with what differs from config/default.toml, - for standard input; may be "
        "given more than once",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="any setting of config/default.toml, like --set agents.malicious_validators=0.1",
    )
    for old in renamed.FLAGS:
        parser.add_argument(old, action=renamed.OldFlag, nargs="?", help=argparse.SUPPRESS)
    for group in groups:
        title = next(
            (title for title, flags in TITLES.items() if group.items() <= flags.items()), ""
        )
        place = parser.add_argument_group(title or "settings")
        for name, dotted in group.items():
            _add(place, name, dotted, defaults)
    return parser


def _add(
    place: argparse._ArgumentGroup, name: str, dotted: str, defaults: Mapping[str, object]
) -> None:
    field, flag = field_of(dotted), _flag_of(dotted)
    kind = type_of(field)
    if kind is bool:
        _add_switch(place, name, dotted)
        return
    default = defaults.get(dotted, field.default)
    if isinstance(default, list | dict):
        default = ", ".join(default)
    low, high = bounds(field)
    notes = [range_of(field)] if high <= MOST else [f"{low:,.15g} or more"] if low >= 1 else []
    notes += [f"default: {default}"] if default != "" else []
    text = f"{field.description} ({'; '.join(notes)})" if notes else f"{field.description}"
    metavar = (flag and flag.metavar) or METAVARS.get(kind, "TABLE")
    place.add_argument(
        name, dest=dotted, default=None, metavar=metavar, help=text.replace("%", "%%")
    )


def _add_switch(place: argparse._ArgumentGroup, name: str, dotted: str) -> None:
    """Add a switch, and where it is on unless something else is said, its opposite too."""
    field = field_of(dotted)
    switches = [(name, "true", field.description)]
    if field.default:
        switches = [(name, "true", f"{field.description} (default)")]
        switches.append((f"--no-{name[2:]}", "false", f"the opposite of {name}"))
    for switch, value, text in switches:
        place.add_argument(
            switch, dest=dotted, default=None, action="store_const", const=value, help=text
        )


def add_broker(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--broker``, which takes host:port or a URL, to a parser."""
    parser.add_argument("--broker", default=None, metavar="HOST:PORT", help=text)


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Turn parsed flags into settings.

    Raises
    ------
    SettingsError
        If a value is not possible.
    """
    overrides = overrides_of(arguments.set)
    for dotted, text in vars(arguments).items():
        if "." in dotted and text is not None:
            overrides[dotted] = _read(dotted, text)
    if getattr(arguments, "broker", None):
        overrides |= _broker_at(arguments.broker)
    return load(arguments.config, overrides)


def overrides_of(pairs: Iterable[str]) -> dict[str, Any]:
    """Read what --set was given, "section.key" -> value.

    Raises
    ------
    SettingsError
        If one is no SECTION.KEY=VALUE, or there is no such setting.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        dotted, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair} must be SECTION.KEY=VALUE")
        overrides[dotted] = _read(dotted, text)
    return overrides


def names_a_run(arguments: argparse.Namespace, settings: Settings) -> bool:
    """Return whether somebody chose the run's name, on the command line or in a file."""
    typed = getattr(arguments, "run.name", None) is not None
    typed = typed or any(pair.startswith("run.name=") for pair in arguments.set)
    return typed or settings.run.name != Settings().run.name


def _read(dotted: str, text: str) -> Any:
    """Read a value as the setting's type; what cannot be read is refused by ``load``."""
    kind = type_of(field := field_of(dotted))
    if kind is str:
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind == list[str] and text == "none":
        return []
    if kind == list[str] and not text.startswith("["):
        return [name.strip() for name in text.split(",") if name.strip()]
    if kind not in (int, float):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except ValueError as why:
            raise SettingsError(
                f"{dotted} = {text} must be TOML, like {example_of(field)}"
            ) from why
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        return text


def _broker_at(url: str) -> dict[str, Any]:
    """Read an address as settings of the section broker."""
    try:
        broker = Broker.at(url)
    except SettingsError as why:
        raise SettingsError(f"--broker {why}") from None
    return {f"broker.{key}": getattr(broker, key) for key in broker.model_fields_set}
