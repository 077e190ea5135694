"""Command-line flags: short names for the settings people change most, ``--set`` for the rest."""

from __future__ import annotations

import argparse
import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fedjury.config.program import run_main
from fedjury.config.settings import Settings, SettingsError, field_of, like, load
from fedjury.registry import KINDS

__all__ = ["Flag", "add_broker", "parser", "run_main", "settings_from"]

NEGATIVE = re.compile(r"-\.?\d")
"""What begins with a dash and is a value all the same, like -1e6; argparse's own knows no exponent
before Python 3.14."""


class Flag:
    """A flag: the setting it stands for and what ``--help`` says of it."""

    def __init__(self, setting: str, text: str, metavar: str | None = None) -> None:
        self.setting = setting
        self.text = text
        self.metavar = metavar


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that names the plug-ins there are; looked for when it is asked for, not before."""

    def _expand_help(self, action: argparse.Action) -> str:
        return named(super()._expand_help(action))


def named(text: str) -> str:
    """Put all plug-ins of a kind in the place of the kind in braces, like ``{rule}``."""
    kinds = {kind.mark.kind: kind for kind in KINDS}
    return re.sub(r"\{(\w+)\}", lambda found: kinds[found[1]].listed(), text)


RUN_FLAGS = {
    "--run": Flag("run.name", "name of the run on the broker and of its folder", "NAME"),
    "--seed": Flag("run.seed", "all randomness comes from it"),
    "--data": Flag("data.name", "data set: {dataset}, or a path to an .npz file", "NAME"),
    "--data-root": Flag("data.root", "folder for downloads", "DIR"),
}
BROKER_FLAGS = {
    "--username": Flag("broker.username", "log-in at the broker", "NAME"),
    "--password": Flag(
        "broker.password", "its password; better: in the environment, as FEDJURY_PASSWORD", "SECRET"
    ),
    "--secrets": Flag("broker.secrets", "folder made by fedjury enroll", "DIR"),
    "--ca": Flag("broker.ca", "TLS: who vouches for the broker, a PEM file or 'system'", "FILE"),
    "--forget": Flag("broker.forget", "at the end remove what is retained of the run"),
}
LISTENER_FLAGS = {
    name: flag for name, flag in BROKER_FLAGS.items() if flag.setting != "broker.forget"
}
"""For who only listens, and has nothing to remove."""
AGGREGATOR_FLAGS = {
    "--rounds": Flag("run.rounds", "rounds to finish"),
    "--runs": Flag("run.directory", "folder that holds one folder a run", "DIR"),
    "--model": Flag("model.name", "the network: {model}", "NAME"),
    "--init": Flag(
        "model.init", "weights to start from: classifier.pth, or a model of another run", "FILE"
    ),
    "--rule": Flag(
        "aggregation.rule",
        "how updates become one: {rule}; or package.module:name, as of all plug-ins",
        "NAME",
    ),
    "--before": Flag(
        "aggregation.before",
        "in front of the rule, in this order, like '{ bucketing = 2, nnm = 20 }'",
        "TABLE",
    ),
    "--clip": Flag("aggregation.clip", "longest update let through whole (L2 norm); 0: off"),
    "--share": Flag("sampling.share", "share of the agents called each round"),
    "--threshold": Flag("collect.threshold", "updates that close a round; 0: all called"),
    "--who": Flag("validation.who", "who judges: clients, server, both", "NAME"),
    "--judge": Flag("validation.judge", "how candidates are judged: {judge}", "NAME"),
    "--validators": Flag("validation.validators", "agents who vote on each candidate"),
    "--quorum": Flag("validation.quorum", "'poisoned' votes that reject a candidate"),
    "--look-back": Flag("validation.look_back", "l: a judge sees the last l + 1 accepted models"),
    "--detect": Flag(
        "detection.detectors",
        "who looks for fakes: {detector}; with commas; or none",
        "LIST",
    ),
    "--quarantine": Flag("detection.quarantine", "suspected agents are no longer called"),
    "--codec": Flag("wire.codec", "how updates travel: {codec}; each with +zstd", "NAME"),
}
AGENT_FLAGS = {
    "--n": Flag("agents.n", "agents in the whole fleet"),
    "--evil": Flag("agents.evil", "share of evil agents: exactly round(n * evil)"),
    "--attack": Flag(
        "agents.attack",
        "what evil agents do: {attack}",
        "NAME",
    ),
    "--scale": Flag("agents.scale", "scaling of mpaf, random and history (lambda)"),
    "--start": Flag("agents.start", "round in which evil agents begin to strike"),
    "--arrive": Flag("agents.arrive", "above 1: round in which evil agents connect, all at once"),
    "--task": Flag("backdoor.task", "of a backdoor: {backdoor}", "NAME"),
    "--inject": Flag("backdoor.inject", "rounds in which it strikes, like [30,35,40]", "LIST"),
    "--liars": Flag(
        "agents.liars",
        "how evil agents vote: {liar}",
        "NAME",
    ),
    "--samples": Flag("agents.samples", "samples of each genuine agent; 0: all data shared out"),
    "--split": Flag("agents.split", "how data are dealt: {split}", "NAME"),
    "--alpha": Flag("agents.alpha", "of dirichlet: the smaller, the fewer classes an agent has"),
    "--degree": Flag("agents.degree", "of groups: share of the group's class, q"),
    "--processes": Flag("agents.processes", "processes to spread them over; 0: one a core"),
    "--shard": Flag(
        "agents.shard",
        "the part of the fleet that runs here, like 2/4; auto:FOLDER: its part among all that are "
        "started with this folder",
        "I/K",
    ),
    "--shared-downlink": Flag(
        "agents.shared_downlink", "a process receives the model once for all its agents"
    ),
}


def parser(
    description: str,
    examples: str,
    *groups: dict[str, Flag],
    prog: str | None = None,
    defaults: Mapping[str, object] = MappingProxyType({}),
) -> argparse.ArgumentParser:
    """Make a parser that knows ``--config``, ``--set`` and these flags.

    ``prog``: the program as people type it, like "python run.py". ``defaults``: of the settings
    that have another default in this program, what ``--help`` says of it.
    """
    made = argparse.ArgumentParser(
        prog=prog,
        description=textwrap.fill(description, 80),
        epilog=f"examples:\n{examples}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    made._negative_number_matcher = NEGATIVE  # noqa: SLF001 - there is no other way
    made.add_argument(
        "--config",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="TOML file with what differs from config/default.toml, - for standard input; may be "
        "given more than once",
    )
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="any setting of config/default.toml, like --set validation.quorum=7",
    )
    for group in groups:
        for name, flag in group.items():
            _add(made, name, flag, defaults)
    return made


def _add(
    made: argparse.ArgumentParser, name: str, flag: Flag, defaults: Mapping[str, object]
) -> None:
    kind, item = field_of(flag.setting)
    if kind is bool:
        _add_switch(made, name, flag, on=bool(item.default))
        return
    default = defaults.get(flag.setting, item.default)
    if default is MISSING and item.default_factory is not MISSING:  # a list, or a table
        default = ", ".join(item.default_factory())
    shown = f"{flag.text} (default: {default})" if default != "" else flag.text
    metavar = flag.metavar or ("N" if kind is int else "X")
    made.add_argument(name, dest=flag.setting, default=None, metavar=metavar, help=shown)


def _add_switch(made: argparse.ArgumentParser, name: str, flag: Flag, *, on: bool) -> None:
    """Add a switch, and where it is on unless something else is said, its opposite too."""
    switches = [(name, "true", flag.text)]
    if on:
        switches = [(name, "true", f"{flag.text} (default)")]
        switches.append((f"--no-{name[2:]}", "false", f"the opposite of {name}"))
    for switch, value, text in switches:
        made.add_argument(
            switch, dest=flag.setting, default=None, action="store_const", const=value, help=text
        )


def add_broker(made: argparse.ArgumentParser, text: str) -> None:
    """Add ``--broker host:port`` to a parser."""
    made.add_argument("--broker", default=None, metavar="HOST:PORT", help=text)


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Turn parsed flags into settings.

    Raises
    ------
    SettingsError
        If a value is not possible.
    """
    overrides: dict[str, Any] = {}
    for pair in arguments.set:
        dotted, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair} must be SECTION.KEY=VALUE")
        overrides[dotted] = _read(dotted, text)
    for dotted, text in vars(arguments).items():
        if "." in dotted and text is not None:
            overrides[dotted] = _read(dotted, text)
    if getattr(arguments, "broker", None):
        overrides["broker.host"], overrides["broker.port"] = _host_and_port(arguments.broker)
    return load(arguments.config, overrides)


def names_a_run(arguments: argparse.Namespace, settings: Settings) -> bool:
    """Return whether somebody chose the run's name, on the command line or in a file."""
    typed = getattr(arguments, "run.name", None) is not None
    typed = typed or any(pair.startswith("run.name=") for pair in arguments.set)
    return typed or settings.run.name != Settings().run.name


def _read(dotted: str, text: str) -> Any:
    """Read a value as the setting's type; what cannot be read is refused by ``load``."""
    kind, _ = field_of(dotted)
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
            raise SettingsError(f"{dotted} = {text} must be TOML, like {like(dotted)}") from why
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        return text


def _host_and_port(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[(.+)\]|([^:/\[\]]+))(?::([0-9]{1,5}))?", text)
    port = int(found[3] or 1883) if found else 0
    if not found or not 1 <= port <= 65535:
        raise SettingsError(
            f"--broker {text} must be HOST:PORT with a port from 1 to 65535; an IPv6 address goes "
            "in brackets, like [::1]:1883"
        )
    return found[1] or found[2], port
