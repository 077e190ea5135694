"""Every public command explains itself: --help with examples that are true, and short errors."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import warm

from fedjury import cli
from fedjury.agents import spawn
from fedjury.config import flags, settings
from fedjury.config.program import Program
from fedjury.config.section import example_of
from fedjury.config.toml import to_toml
from fedjury.federation import run
from fedjury.gateway import program

ROOT = Path(__file__).resolve().parents[2]

COMMANDS = [
    "python run.py",
    "python -m aggregator",
    "python agents/spawn.py",
    "python agents/device.py",
    "fedjury demo",
    "fedjury run",
    "fedjury serve",
    "fedjury spawn",
    "fedjury join",
    "fedjury broker",
    "fedjury broker check",
    "fedjury cluster up",
    "fedjury cluster join",
    "fedjury cluster status",
    "fedjury cluster down",
    "python -m fedjury.broker.embedded",
    "fedjury cells",
    "fedjury ingest",
    "fedjury enroll",
    "python -m fedjury.learning.classifier",
    "fedjury gateway",
    "python examples/mpaf_over_http/server.py",
    "python examples/mpaf_over_http/client.py",
    "python examples/mpaf_over_http/clients_sim.py",
    "python examples/mpaf_over_http/mpaf.py",
    "fedjury page",
    "python -m fedjury.monitor.web.screenshots",
    "fedjury watch",
    "fedjury exporter",
    "fedjury experiment",
    "fedjury report",
    "fedjury export",
    "fedjury config",
    "fedjury privacy",
    "fedjury completion",
    "fedjury version",
    "python -m tools.chaos",
    "python -m tools.chaos.flood",
    "python -m tools.fuzz",
    "python -m tools.benchmarks.bench",
    "python -m tools.benchmarks.where",
    "python -m tools.benchmarks.page",
    "python -m tools.benchmarks.ray_rules",
    "python -m tools.benchmarks.peers.run",
    "python -m tools.benchmarks.peers.secagg",
]
"""What people start, as they type it."""

INTERNAL = {
    "fedjury/__main__.py": "the command fedjury itself",
    "tools/judge_pictures.py": "draws the pictures of docs/judges.md; it takes no flags",
    "tools/fuzz/driver.py": "a process of python -m tools.fuzz; its flags are libFuzzer's",
    "tools/benchmarks/peers/blazefl_fedavg.py": "a process of python -m tools.benchmarks.peers.run",
    "tools/benchmarks/peers/byzfl_rules.py": "a process of python -m tools.benchmarks.peers.run",
    "tools/benchmarks/peers/flower.py": "a process of python -m tools.benchmarks.peers.run",
    "tools/benchmarks/peers/flower_secagg.py": "a process of python -m ...peers.secagg",
    "tools/benchmarks/peers/pfl_research.py": "a process of python -m tools.benchmarks.peers.run",
    "tools/benchmarks/peers/plain.py": "a process of python -m tools.benchmarks.peers.run",
    "fedjury/cluster/supervise.py": "a process of fedjury cluster up",
    "fedjury/registry/listing.py": "make docs",
}
"""What only our own programs start, and why nobody else needs to."""

READ = ("python examples/device.py ", "python examples/clinic_")
"""Examples to be read, without flags; test_device_program.py, test_clinic_examples.py run them."""

BLOCKS = re.MULTILINE | re.DOTALL

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def module_of(command: str) -> str:
    """Return the module that a command runs, with dots."""
    name = command.rpartition(" ")[2]
    if command.startswith("fedjury "):
        return cli.COMMANDS[command.removeprefix("fedjury ")].module
    if " -m " not in command:
        return name.removesuffix(".py").replace("/", ".")
    return f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name


def file_of(command: str) -> str:
    """Return the file that a command runs, as git names it."""
    return module_of(command).replace(".", "/") + ".py"


def after_python(command: str) -> list[str]:
    """Return what to give Python for a command as people type it."""
    program, *words = command.split()
    return ["-m", "fedjury", *words] if program == "fedjury" else words


def helped(command: str) -> subprocess.CompletedProcess[str]:
    """Start a command as people do who know nothing of it."""
    words = [sys.executable, *after_python(command), "--help"]
    around = {**os.environ, "COLUMNS": "80"}
    return warm.run(
        words, cwd=ROOT, env=around, text=True, capture_output=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def answers():
    """Ask every command for its help, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(COMMANDS, pool.map(helped, COMMANDS), strict=True))


@pytest.fixture
def start(monkeypatch):
    """Return a function that runs a command with these arguments in this process."""

    def started(command, arguments):
        with monkeypatch.context() as patch:
            beside = str((ROOT / file_of(command)).parent)  # as Python has it for scripts
            patch.setattr(sys, "path", [str(ROOT), beside, *sys.path])
            patch.setattr(sys, "argv", ["pytest", *arguments])
            patch.chdir(ROOT)
            name = command.removeprefix("fedjury ")
            attribute = cli.COMMANDS[name].main if command.startswith("fedjury ") else "main"
            main = getattr(importlib.import_module(module_of(command)), attribute)
            if isinstance(main, Program):
                return main(arguments, command)
            return main(arguments) if inspect.signature(main).parameters else main()

    return started


# ---------------------------------------------------------------- each by itself


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_usage_and_an_example(answers, command):
    """``--help`` succeeds, names the command as people type it, and shows how it is used."""
    done = answers[command]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {command} ")
    _, found, examples = done.stdout.rpartition("\nexample")
    assert found
    assert [line for line in examples.splitlines() if line.strip().startswith(command)]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option(answers, command):
    """No option and no argument stands there without a word about it."""
    text = answers[command].stdout
    _, _, below = text.partition("\n\n")  # the usage line
    entries = re.findall(r"^  (\S.*(?:\n {3,}.*)*)", below.partition("\nexample")[0], re.MULTILINE)
    assert len(entries) > 1
    silent = [entry for entry in entries if not re.search(r"(?: {2,}|\n +)\S", entry)]
    assert silent == []


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_option_is_a_short_error(start, command, capsys):
    """A misspelt option ends with a sentence that names the command, and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        start(command, ["--no-such-option"])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith(f"{command}: error: ")


def main_modules() -> set[str]:
    """Return the files of ours that are programs."""
    found = set()
    for folder, inside, files in os.walk(ROOT):
        inside[:] = [
            name
            for name in inside
            if not name.startswith(".") and name not in ("runs", "data", "node_modules", "tests")
        ]
        for file in (Path(folder) / name for name in files if name.endswith(".py")):
            text = file.read_text(encoding="utf-8")
            begins = re.search(r'^if __name__ == "__main__"', text, re.MULTILINE)
            if begins or file.name == "__main__.py":
                found.add(file.relative_to(ROOT).as_posix())
    return found


def test_every_program_is_public_or_said_to_be_internal():
    """Whoever adds a program puts it into one of the two lists above."""
    public = {file_of(command) for command in COMMANDS}
    assert public.isdisjoint(INTERNAL)
    assert main_modules() == public | set(INTERNAL)


# ---------------------------------------------------------------- what is written can be typed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_program_ends_as_all_do(command):
    """One place decides how a program ends: in a sentence, by Ctrl-C, or where nobody reads it."""
    text = (ROOT / file_of(command)).read_text()
    assert re.search(r'\nif __name__ == "__main__":\n    (\w+\.)?run_main\(.*\)\n$', text)


class Read(Exception):  # noqa: N818 - it is no error
    """A command line was understood."""


CHECKED: set[str] = set()
"""Settings of which a run was found possible already: most commands have the same."""


def could_run(said: settings.Settings) -> None:
    """Check that a run of these settings could start: rule, data, model, attack, detectors, judge.

    Not where that takes a download, or a file that the reader is to bring.
    """
    text = to_toml(said.replaced(broker=settings.Settings().broker))
    if said.data.name in ("mnist5k", "digits") and not said.model.init and text not in CHECKED:
        run.check(said)
        CHECKED.add(text)


@pytest.fixture
def understood(start, monkeypatch):
    """Return a function that lets a command read its line, and do nothing else."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser, given=None, namespace=None):
        found = parse(parser, given, namespace)
        if hasattr(found, "config"):  # its flags are settings
            could_run(flags.settings_from(found))
        elif hasattr(found, "set"):  # an experiment has settings of its own
            flags.overrides_of(found.set)
        raise Read

    def read(line):
        if line.startswith(READ):
            return
        command = max((each for each in COMMANDS if line.startswith(each)), key=len, default="")
        assert command, f"{line}: not in COMMANDS"
        with pytest.raises(Read):
            start(command, shlex.split(line)[len(command.split()) :])

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    return read


def lines_of(text: str) -> list[str]:
    """Return the command lines of ours in a text, without what is said beside them."""
    whole = re.sub(r"\\\n\s*", " ", text).replace(":PORT", ":1883")
    lines = [re.split(r"\s{2,}|\s[#>|&]", line.strip())[0] for line in whole.splitlines()]
    return [
        line for line in lines if line.startswith(("python ", "fedjury ")) and "..." not in line
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_can_be_typed(answers, command, understood):
    """Every example is a command line that its program understands, with settings that exist."""
    lines = lines_of(answers[command].stdout.rpartition("\nexample")[2])
    assert lines
    for line in lines:
        understood(line)


def commands_in(document: Path) -> list[str]:
    """Return the command lines of ours in a document, in blocks of code and in sentences."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, BLOCKS)
    sentences = re.sub(r"^```\w*\n.*?^```", "", text, flags=BLOCKS)
    inline = [
        " ".join(found.split()) for found in re.findall(r"`((?:python|fedjury) [^`]+)`", sentences)
    ]
    return [line for block in (*blocks, *inline) for line in lines_of(block)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_commands_of_the_documents_can_be_typed(document, understood):
    """Every command in a document is understood by its program, and its settings exist."""
    printed = set(re.findall(r"`(\w+)\.py`", document.read_text(encoding="utf-8")))
    for line in commands_in(document):
        # Files printed beside it are put there, and run, by test_readme.py and test_tutorials.py.
        if not printed.intersection(re.split(r"[\s:.]", line)):
            understood(line)


def test_there_are_commands_in_the_readme():
    """The test above has something to do."""
    assert len(commands_in(ROOT / "README.md")) > 15


# ---------------------------------------------------------------- what else flags say


def test_a_negative_number_needs_no_equals_sign():
    """``--scale -1e6`` is a number, though it begins with a dash."""
    made = flags.parser("A test.", "  none", flags.AGENT_FLAGS)
    found = flags.settings_from(made.parse_args(["--scale", "-1e6", "--start", "3"]))
    assert (found.agents.scale, found.agents.start) == (-1e6, 3)


EXAMPLES = {key: found for key, field in settings.fields().items() if (found := example_of(field))}


@pytest.mark.parametrize(("setting", "example"), EXAMPLES.items())
def test_what_errors_suggest_is_possible(setting, example):
    """The table that an error shows as an example is one that can be set."""
    made = flags.parser("A test.", "  none")
    found = flags.settings_from(made.parse_args(["--set", f"{setting}={example}"]))
    section, key = setting.split(".")
    assert getattr(getattr(found, section), key)


def test_the_gateway_tells_its_own_defaults(answers):
    """Where the gateway's federation has other defaults, its help says those."""
    for command in ("fedjury gateway", "python examples/mpaf_over_http/server.py"):
        text = " ".join(answers[command].stdout.split())
        rounds = program.defaults().run.rounds
        assert f"rounds to run, rejected ones included (1 or more; default: {rounds})" in text
        assert f"updates that close a round (default: {program.THRESHOLD})" in text
        assert "drawn at random; 0: none (default: 0)" in text
        assert re.search(r"resnet18 \(default: classifier\)", text)
        assert re.search(r"--rule NAME [^(]*\(default: mean\)", text)


def test_agents_say_when_the_broker_is_lost_and_back(monkeypatch):
    """One line when nobody is connected any more, and one when all who were there are back."""
    said = []
    monkeypatch.setattr(spawn, "say", said.append)
    shown = spawn.progress(10, 0)
    for connected in (0, 4, 10, 6, 10, 3, 0, 0, 5, 10, 0, 10):
        shown(connected)
    lost = "no agent is connected any more: they reconnect when the broker is back"
    again = "10 agents are connected again"
    assert said == ["all 10 agents are connected", lost, again, lost, again]
