"""The package: what it needs is said once, and its wheel works where nothing else is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fedjury.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(file):
    """Return the packages that a file pins -> their versions."""
    lines = (ROOT / file).read_text().splitlines()
    found = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    names = [canonicalize_name(name) for name, _ in found]
    assert len(set(names)) == len(names), f"{file} names a package twice"
    return dict(zip(names, (version for _, version in found), strict=True))


def wanted():
    """Return the packages that pyproject.toml wants, always or for an extra."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in found if each.name != "fedjury"}


IN_TESTS = {"ray"}
"""What an extra brings that a checkout needs for its tests only: 285 MB."""


def test_requirements_pin_what_the_package_wants():
    """requirements.txt has a version of each package that pyproject.toml wants, and no other."""
    pinned, for_tests = pins("requirements.txt"), pins("requirements-dev.txt")
    assert pinned.keys() == wanted().keys() - IN_TESTS
    pinned |= {name: for_tests[name] for name in IN_TESTS}
    odd = [name for name, each in wanted().items() if pinned[name] not in each.specifier]
    assert odd == []


def test_constraints_pin_the_same():
    """A package has one version, whichever file one reads (torch brings its own ones)."""
    pinned, constraints = pins("requirements.txt"), pins("constraints.txt")
    assert constraints["ray"] == pins("requirements-dev.txt")["ray"]
    assert pinned.keys() - constraints.keys() <= {"torch", "torchvision"}
    assert {name: constraints.get(name, version) for name, version in pinned.items()} == pinned


def test_all_is_all():
    """The extra ``all`` brings every other extra, by itself or through another."""
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {"torch", "lab", "web", "scale", "privacy", "all"}
    brought, todo = set(), {"all"}
    while todo:
        brought |= todo
        lines = [Requirement(line) for name in todo for line in extras[name]]
        todo = {extra for line in lines for extra in line.extras} - brought
    assert brought == set(extras)


# ---------------------------------------------------------------- names of before

MOVED = ROOT / "tools" / "moved"


@pytest.mark.parametrize("file", sorted(MOVED.rglob("*.py")), ids=lambda file: file.stem)
def test_a_name_of_before_is_answered_with_the_new_one(file):
    """``python -m monitor.watch`` in a checkout says what it is called now, and ends with 2."""
    old = ".".join(file.relative_to(MOVED).with_suffix("").parts)
    around = os.environ | {"PYTHONPATH": f"{ROOT}:{MOVED}"}  # as pip install -e has it
    done = subprocess.run(
        [sys.executable, "-m", old, "--help"],
        cwd=ROOT,
        env=around,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    new = re.fullmatch(rf"error: 'python -m {old}' is now called '(.+)'\n", done.stderr)[1]
    if new.startswith("fedjury "):
        assert new.split()[1] in COMMANDS
    else:
        assert find_spec(new.removeprefix("python -m "))


def test_a_checkout_that_is_installed_answers_them():
    """``make setup`` puts the folder of the old names where Python looks."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["dev-mode-dirs"] == [".", MOVED.relative_to(ROOT).as_posix()]


# ---------------------------------------------------------------- installed


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """Install the wheel, without extras, into an empty virtual environment; returns its folder."""
    folder = tmp_path_factory.mktemp("plain")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)]
    venv = folder / "venv"
    into = [*pip, "--python", str(venv / "bin" / "python"), "install", "--no-compile"]
    into += ["-c", str(ROOT / "constraints.txt")]
    with subprocess.Popen(build) as building:  # what it depends on comes meanwhile
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        subprocess.run([*into, *PROJECT["dependencies"]], check=True)
    assert building.returncode == 0
    [wheel] = folder.glob("fedjury-*.whl")
    subprocess.run([*into, str(wheel)], check=True)
    return folder


def started(plain, program, *arguments):
    """Run a program of the environment, far from the checkout."""
    around = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [plain / "venv" / "bin" / program, *arguments],
        cwd=plain,
        env=around,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
def test_the_wheel_is_imported_without_torch_at_once(plain):
    """``import fedjury`` takes less than half a second, and nothing of the laboratory."""
    code = (
        "import sys, time; before = time.perf_counter(); import fedjury\n"
        "print(time.perf_counter() - before, 'torch' in sys.modules, fedjury.__file__)"
    )
    tries = [started(plain, "python", "-c", code).stdout.split() for _ in range(3)]
    seconds, torch, file = min(tries, key=lambda said: float(said[0]))
    assert float(seconds) < 0.5
    assert torch == "False"
    assert Path(file).is_relative_to(plain)


@pytest.mark.slow
def test_the_wheel_s_command_works_without_extras(plain):
    """Help, settings, the files to deploy and completion need no extra."""
    for words in (["--help"], ["watch", "--help"], ["serve", "--help"], ["gateway", "--help"]):
        done = started(plain, "fedjury", *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: {' '.join(['fedjury', *words[:-1]])} ")
    done = started(plain, "fedjury", "config")
    assert done.stdout == (ROOT / "config" / "default.toml").read_text()
    code = "from fedjury.shipped import shipped; print(shipped('broker/acl.conf').read_text())"
    assert (
        started(plain, "python", "-c", code).stdout == (ROOT / "broker/acl.conf").read_text() + "\n"
    )
    completion = started(plain, "fedjury", "completion", "bash")
    assert "--evil" in completion.stdout
    version = json.loads(started(plain, "fedjury", "version", "--json").stdout)
    assert version == {"version": PROJECT["version"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["serve"], "torch", "torch"),
        (["run", "--broker", "127.0.0.1:1"], "jinja2", "lab"),
        (["watch", "--broker", "127.0.0.1:1"], "rich", "lab"),
        (["gateway", "--port", "0"], "uvicorn", "web"),
        (["experiment"], "matplotlib", "lab"),
        (["report", "."], "jinja2", "lab"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_an_extra_brings_is_said_in_a_sentence(plain, words, package, extra):
    """Where a package is missing, one line names it and what to type; no traceback."""
    done = started(plain, "fedjury", *words)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"error: this needs {package}, which is not installed: pip install 'fedjury\[{extra}\]'\n",
        done.stderr,
    )
