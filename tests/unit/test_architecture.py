"""The house: who may import whom, what the pure parts must not touch, and how long things are.

All of it is read from the source, so that nothing has to be imported to be judged.
"""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]

OUTSIDE = {"tests", "runs", "data"}
"""Folders that are no part of the programs."""

LAUNCHERS = {"run.py", "aggregator/__main__.py", "agents/spawn.py", "agents/device.py"}
"""What one types in a checkout: they only start a program of the package."""

WIRING = {
    "fedjury/aggregator/advice.py",
    "fedjury/aggregator/assembly.py",
    "fedjury/aggregator/in_cells.py",
    "fedjury/aggregator/noisy.py",
    "fedjury/aggregator/secure_terms.py",
    "fedjury/aggregator/resume.py",
    "fedjury/aggregator/rule.py",
    "fedjury/aggregator/serve.py",
    "fedjury/agents/assembly.py",
    "fedjury/agents/spawn.py",
    "fedjury/agents/work.py",
    "fedjury/federation/demo.py",
    "fedjury/federation/description.py",
    "fedjury/federation/exported.py",
    "fedjury/federation/federation.py",
    "fedjury/federation/parts.py",
    "fedjury/federation/remade.py",
    "fedjury/federation/run.py",
    "fedjury/gateway/program.py",
    "fedjury/gateway/serve.py",
}
"""What makes an aggregator, agents or a federation of all the settings."""

ENTRY = {
    *LAUNCHERS,
    "fedjury/aggregator/__main__.py",
    "fedjury/agents/__main__.py",
    "fedjury/agents/join.py",
    "fedjury/cli.py",
    "fedjury/cluster/program.py",
    "fedjury/completion.py",
    "fedjury/config/__main__.py",
    "fedjury/federation/__main__.py",
    "fedjury/federation/export.py",
    "fedjury/federation/report.py",
    "fedjury/gateway/__main__.py",
    "fedjury/monitor/terminal/__main__.py",
    "fedjury/privacy/__main__.py",
    "fedjury/monitor/prometheus/__main__.py",
    "fedjury/monitor/web/__main__.py",
    "fedjury/monitor/web/screenshots.py",
    "fedjury/broker/cells.py",
    "fedjury/broker/check.py",
    "fedjury/cells/__main__.py",
    "fedjury/broker/embedded.py",
    "fedjury/broker/enrol.py",
    "fedjury/broker/__main__.py",
    "fedjury/learning/classifier.py",
    "examples/mpaf_over_http/server.py",
    "examples/mpaf_over_http/client.py",
    "examples/mpaf_over_http/mpaf.py",
    "examples/mpaf_over_http/clients_sim.py",
}
"""What one types: they read flags, and call what does the work. Nobody imports from them."""

READERS = ENTRY | WIRING

SECTIONS = "fedjury.config.sections"
"""The types of the settings: parts are handed the sections that configure them, whole."""

ALL = {
    "agents",
    "aggregator",
    "attacks",
    "broker",
    "cells",
    "cluster",
    "config",
    "detection",
    "experiments",
    "federation",
    "formatting",
    "gateway",
    "judges",
    "learning",
    "monitor",
    "privacy",
    "processes",
    "protocol",
    "randomness",
    "registry",
    "reports",
    "round",
    "rules",
    "shipped",
}
MAY_IMPORT = {
    "randomness": set(),
    "registry": set(),
    "protocol": {"processes"},
    "learning": set(),
    "judges": {"learning", "protocol"},
    "rules": {"learning"},
    "detection": {"learning", "protocol", "rules"},
    "attacks": {"learning", "judges", "protocol"},
    "privacy": {"learning"},
    "secure": {"learning", "protocol"},
    "round": {"detection", "judges", "learning", "privacy", "protocol", "rules", "secure"},
    "config": set(),
    "broker": {"processes", "protocol", "shipped"},
    "cells": {"learning", "protocol", "rules", "secure"},
    "cluster": {"broker", "cells", "learning", "processes", "protocol", "rules"},
    "formatting": set(),
    "reports": {"formatting", "judges", "learning", "protocol", "round"},
    "aggregator": {
        "cluster",
        "detection",
        "formatting",
        "judges",
        "learning",
        "privacy",
        "protocol",
        "reports",
        "round",
        "rules",
        "secure",
    },
    "agents": {"attacks", "judges", "learning", "processes", "protocol", "secure"},
    "gateway": {"broker", "learning", "processes", "protocol", "shipped"},
    "monitor": {"broker", "formatting", "gateway", "learning", "protocol"},
    "experiments": ALL - {"gateway", "monitor"},
    "federation": ALL - {"experiments", "gateway"},
    "processes": set(),
    "shipped": set(),
    "cli": {"config"},
    "completion": {"cli"},
}
"""Part of the package -> parts it may import besides itself. All may import ``registry``, which
knows folders and names alone, ``randomness``, and the sections of the settings; READERS all of
``config``."""

PURE = [
    "fedjury/randomness.py",
    "fedjury/rules/",
    "fedjury/detection/",
    "fedjury/round/",
    "fedjury/agents/agent.py",
    "fedjury/attacks/",
    "fedjury/attacks/validators/",
    "fedjury/judges/",
    "fedjury/learning/backdoors/",
    "fedjury/broker/check_verdicts.py",
    "fedjury/cluster/engine.py",
    "fedjury/cluster/partitions.py",
    "fedjury/cluster/shard.py",
    "fedjury/aggregator/cells.py",
    "fedjury/privacy/noise.py",
    "fedjury/privacy/accounting.py",
    "fedjury/privacy/releases.py",
    "fedjury/secure/",
    "fedjury/learning/partition.py",
    "fedjury/gateway/state.py",
    "fedjury/gateway/refusal.py",
    "fedjury/monitor/run_view.py",
    "fedjury/monitor/runs.py",
    "fedjury/monitor/rows.py",
    "fedjury/monitor/sanitize.py",
    "fedjury/monitor/terminal/formatting.py",
    "fedjury/monitor/terminal/text_log.py",
    "fedjury/monitor/terminal/dashboard.py",
    "fedjury/monitor/terminal/braille_plot.py",
]
"""Files and folders that are functions of values alone."""

IMPURE = {
    "asyncio",
    "concurrent",
    "datetime",
    "fileinput",
    "io",
    "multiprocessing",
    "os",
    "paho",
    "pathlib",
    "queue",
    "random",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
"""Modules with sockets, clocks, files, processes or threads in them, or a hidden seed."""

OPENERS = {
    "open",
    "fromfile",
    "tofile",
    "memmap",
    "loadtxt",
    "savetxt",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
}

LINES, FUNCTION = 430, 90

LONGER: dict[str, int] = {}
"""Files that were longer when the limit was set: they may only shrink."""


class Import(NamedTuple):
    """One imported module, or what is imported from one, and where."""

    file: str
    line: int
    name: str

    @property
    def top(self):
        """The package it belongs to."""
        return self.name.split(".")[0]

    @property
    def part(self):
        """The part of our package it belongs to; "" of what is not ours."""
        return self.name.split(".")[1] if self.name.startswith("fedjury.") else ""

    def __str__(self):
        return f"{self.file}:{self.line} imports {self.name}"


def below(folder):
    """Yield the files of Python in a folder, not those of a virtual environment in it."""
    for place, inside, files in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield from (Path(place) / file for file in files if file.endswith(".py"))


def sources():
    """Return our programs' files, as paths from the root."""
    files = [ROOT / "run.py"]
    for folder in sorted(ROOT.iterdir()):
        if folder.is_dir() and folder.name not in OUTSIDE and not folder.name.startswith("."):
            files += sorted(below(folder))
    return [file.relative_to(ROOT).as_posix() for file in files]


def tree(file):
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), file)


def imports_in(module, file):
    """Find all imports, those inside functions and for annotations alone included."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = file.removesuffix(".py").split("/")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            yield from (Import(file, node.lineno, f"{base}.{alias.name}") for alias in node.names)


@cache
def trees():
    """Return the syntax trees of all our files; read once, and only where they are looked at."""
    return {file: tree(file) for file in sources()}


@cache
def imports():
    return [found for file, module in trees().items() for found in imports_in(module, file)]


def reached(folder, modules):
    """Return the files of a folder that these modules import, directly or not, and themselves."""
    package = folder.replace("/", ".")
    todo, seen = {module.removeprefix(f"{package}.") for module in modules}, set()
    while todo:
        name = todo.pop()
        file = f"{folder}/{name}.py"
        if name in seen or file not in trees():
            continue
        seen.add(name)
        todo |= {
            found.name.removeprefix(f"{package}.").split(".")[0]
            for found in imports_in(trees()[file], file)
            if found.name.startswith(f"{package}.")
        }
    return seen


def is_pure(file):
    return any(file == part or (part.endswith("/") and file.startswith(part)) for part in PURE)


def listed(offenders):
    """Write offenders below each other, for the message of a failed test."""
    return "\n" + "\n".join(map(str, offenders))


# The test's own eyes


def part_of(file):
    """Return which part of the package a file belongs to; "" for those outside."""
    names = file.removesuffix(".py").split("/")
    return names[1] if names[0] == "fedjury" and len(names) > 1 else ""


def test_all_parts_are_seen():
    """Every package and every pure part exists, and has been read."""
    assert {part_of(file) for file in trees()} - {"", "__init__", "__main__"} == set(MAY_IMPORT)
    assert set(trees()) >= READERS
    for part in PURE:
        assert any(file.startswith(part) for file in trees()), part


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import config", "config"),
        ("import fedjury.config.flags as f", "fedjury.config.flags"),
        ("from fedjury.config import flags", "fedjury.config.flags"),
        ("def f():\n    from fedjury.config.flags import load", "fedjury.config.flags.load"),
        ("if TYPE_CHECKING:\n    import config", "config"),
        ("from . import agent_batch", "fedjury.agents.agent_batch"),
        ("from .agent_batch import AgentBatch", "fedjury.agents.agent_batch.AgentBatch"),
        ("from .. import config", "fedjury.config"),
    ],
)
def test_imports_are_found_wherever_they_hide(code, name):
    """Inside functions, for annotations alone, relative: an import is an import."""
    [found] = imports_in(ast.parse(code), "fedjury/agents/agent.py")
    assert found.name.removeprefix(".") == name


# Who imports whom


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_parts_import_only_what_they_may(part):
    """Protocol, learning and config stand alone; aggregator and agents never meet."""
    may = {part, "registry", "randomness"} | MAY_IMPORT[part]
    offenders = [
        found
        for found in imports()
        if part_of(found.file) == part
        and found.name.startswith("fedjury.")
        and found.part not in may
        and not (found.file in READERS and found.part == "config")
        and not found.name.startswith(f"{SECTIONS}.")
    ]
    assert not offenders, listed(offenders)


def test_nobody_imports_from_an_entry_point():
    """What a program is made of is in a module beside it, where anything else can use it too."""
    programs = {file.removesuffix(".py").replace("/", ".") for file in ENTRY if "__main__" in file}
    starters = LAUNCHERS | {"tools/chaos/loaded.py"}
    offenders = [
        found
        for found in imports()
        if found.file not in starters
        and any(f"{found.name}.".startswith(f"{program}.") for program in programs)
    ]
    assert not offenders, listed(offenders)


def test_the_package_imports_nothing_around_it():
    """It is installed without the checkout's tools, tests and examples."""
    offenders = [
        found
        for found in imports()
        if part_of(found.file) and found.top in {"tools", "tests", "examples", "run"}
    ]
    assert not offenders, listed(offenders)


def test_only_entry_points_import_config():
    """Settings are read at the door and handed on as values; experiments and tools make them up."""
    readers = {
        found.file
        for found in imports()
        if found.part == "config" and not found.name.startswith(f"{SECTIONS}.")
    }
    inside = "fedjury/config/", "fedjury/experiments/", "tools/"
    outside = {file for file in readers if not file.startswith(inside)}
    assert outside == {file for file in READERS if not file.startswith(inside)}
    sections = reached("fedjury/config", {SECTIONS})
    kinds = {
        "run_sections",
        "round_sections",
        "agent_sections",
        "privacy_sections",
        "group_sections",
    }
    assert sections == {"section", "sections", "sizes", *kinds}


def test_only_the_mqtt_client_knows_paho():
    """One file knows the MQTT library, so that another one could take its place."""
    offenders = [found for found in imports() if part_of(found.file) and found.top == "paho"]
    assert {found.file for found in offenders} == {"fedjury/protocol/transport/mqtt_client.py"}, (
        listed(offenders)
    )


def test_one_file_knows_ray():
    """The engine is an extra: all else must work, and be tried, without it."""
    assert {found.file for found in imports() if found.top == "ray"} == {
        "fedjury/cluster/ray_engine.py"
    }


def test_pure_parts_import_nothing_impure():
    """Rules, rounds, verdicts, agents, learners and judges see no socket, clock, file or thread."""
    offenders = [found for found in imports() if is_pure(found.file) and found.top in IMPURE]
    assert not offenders, listed(offenders)


def test_pure_parts_open_nothing():
    """Pure parts open no file."""
    offenders = []
    for file, module in trees().items():
        for node in ast.walk(module):
            if is_pure(file) and isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
                name = called.id if isinstance(called, ast.Name) else called
                if name in OPENERS:
                    offenders.append(f"{file}:{node.lineno} calls {ast.unparse(node)}")
    assert not offenders, listed(offenders)


# Size


def test_files_are_short():
    """No file is longer than LINES; those that were may only shrink."""
    length = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in trees()}
    long = {file: lines for file, lines in length.items() if lines > LONGER.get(file, LINES)}
    assert not long, listed(f"{file} has {lines} lines" for file, lines in long.items())
    short_now = [file for file in LONGER if length[file] <= LINES]
    assert not short_now, f"short enough now, take them off LONGER: {short_now}"


def test_functions_are_short():
    """No function is longer than FUNCTION lines, its docstring included."""
    offenders = [
        f"{file}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for file, module in trees().items()
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > FUNCTION
    ]
    assert not offenders, listed(offenders)
