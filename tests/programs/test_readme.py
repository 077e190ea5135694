"""The README's commands, run from a fresh copy, in its order, on a machine of their own.

"A machine of their own" is a network namespace (unshare, nsenter): so the ports that are printed
are free, whatever else runs here. Runs are made small by what is put behind a command (fewer agents
and rounds); nothing else is changed.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

import pytest
from support.machine import Machine, needs_a_machine

from fedjury.registry import KINDS, listing

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

SMALL = {
    "python run.py": ["--n", "40", "--rounds", "2"],  # config/jury.toml has 40 validators
    "python -m aggregator": ["--rounds", "2", "--agents", "20"],
    "python agents/spawn.py": ["--n", "20"],
    "fedjury enroll": ["--n", "20"],
    "python examples/mpaf_over_http/clients_sim.py": ["--rounds", "2"],
    "python -m fedjury.learning.classifier": ["--epochs", "1"],
}
"""What is put behind a command to make it small."""

SERVES = (
    "fedjury broker",
    "mosquitto -c",
    "mosquitto_sub",
    "python -m aggregator",
    "python examples/mpaf_over_http/server.py",
    "fedjury watch",
)
"""What goes on while others are typed, in a terminal of its own."""

RECIPES = {
    "python run.py --rule middle_half": "test_the_recipes_work_as_new_files",
    "python fedjury/run.py": "test_the_recipes_work_outside_the_checkout",
}
"""Commands that want files that are printed beside them."""

ELSEWHERE = {
    **RECIPES,
    "make": "CI runs make setup, make check and make test; the demo has test_demo.py",
    "docker": "there is no engine here; test_compose.py runs the services' commands",
    "XDG_CONFIG_HOME=secrets/people": "hears the containers' run",
    "fedjury experiment": "test_experiments.py and test_matrix.py run each of them",
    "fedjury join": "test_join.py; it wants a file of the reader's own",
    "python run.py --demo": "test_demo.py; its page stays until Ctrl-C",
}
"""What is not typed here, and why."""

STANDS_FOR = {"docker compose up -d broker aggregator": "python -m aggregator"}
"""What a service runs (test_compose.py), where the next command joins it; the broker with
logins is there already."""


def typed():
    """Return the commands of the README's blocks in order, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [" ".join(re.sub(r"\s#\s.*", "", line).split()) for line in lines]
    begins = re.compile(r"(python|fedjury|make|docker|mosquitto(_sub)?|[A-Z_]+=\S+) ")
    return [line for line in lines if begins.match(f"{line} ")]


@pytest.fixture(scope="module")
def machine():
    with tempfile.TemporaryDirectory() as folder:
        # Mosquitto, started by root, becomes a user of its own, who has to get to its files.
        Path(folder).chmod(0o755)
        made = Machine(Path(folder))
        yield made
        made.close()


def small(command: str) -> str:
    """Return a command that makes a small run."""
    more = [flags for begin, flags in SMALL.items() if command.startswith(begin)]
    return " ".join([command, *(more[0] if more else [])])


@needs_a_machine
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_the_commands_work_as_they_are_printed_and_in_their_order(machine):
    """Each ends well, or serves until others have used it; none is forgotten."""
    waiting = []
    for printed in typed():
        command = STANDS_FOR.get(printed, printed)
        if any(command.startswith(begin) for begin in ELSEWHERE):
            continue
        if command.startswith("mosquitto -c"):
            machine.stop("fedjury broker")  # its port is wanted
        child = machine.start(small(command))
        if command.startswith(SERVES):
            waiting.append((command, child))
            if command.startswith(("python examples/mpaf_over_http/server", "mosquitto -c")):
                time.sleep(2)  # clients over HTTP, and people, do not wait for their server
            continue
        machine.end_of(child)
        if command.startswith("python agents/spawn.py"):  # so ends its aggregator
            machine.end_of(
                [one for begin, one in waiting if begin.startswith("python -m aggregator")][-1]
            )
    heard = [machine.said(one) for begin, one in waiting if begin.startswith("mosquitto_sub")]
    assert any("/log/round" in text for text in heard)
    for command, child in waiting:
        # Who listens without a login is refused where the broker is changed for one that wants it.
        if not command.startswith("mosquitto_sub"):
            assert child.poll() in (None, 0, 130, -15), (command, machine.said(child))


def test_every_command_is_typed_or_said_to_be_tested_elsewhere():
    """Nothing that is printed in a block is left out by the way it begins."""
    known = (*SMALL, *SERVES, *ELSEWHERE, "python examples/mpaf_over_http/client.py")
    assert [line for line in typed() if not line.startswith(known)] == []
    assert len(typed()) > 20


@pytest.fixture(scope="module")
def recipes():
    """Return the printed files by name, and the printed commands for here and for elsewhere."""
    texts = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    files = dict(zip(re.findall(r"`(middle_half\.py|zero\.py)`", README), texts, strict=True))
    inside, outside = [line for line in typed() if line.startswith(tuple(RECIPES))]
    return files, inside, outside


@needs_a_machine
@pytest.mark.slow
def test_the_recipes_work_as_new_files(machine, recipes):
    """Files as printed, in the folders that the text names: they run, and help and lists agree."""
    files, inside, _ = recipes
    folders = {"middle_half.py": "fedjury/rules", "zero.py": "fedjury/attacks"}
    for name, text in files.items():
        (machine.folder / folders[name] / name).write_text(text, encoding="utf-8")
    try:
        machine.end_of(machine.start(inside))
        said = machine.end_of(machine.start("python run.py --help"))
        assert {"middle_half,", "zero"} <= set(said.split())
        tested = "tests/unit/test_registry.py tests/unit/test_config.py -k 'plugin or chosen'"
        said = machine.end_of(machine.start(f"python -m pytest -vv -p no:cacheprovider {tested}"))
        assert "[rule-middle_half]" in said
        assert "[attack-zero]" in said
        machine.end_of(machine.start("python -m fedjury.registry.listing"))
        assert "| `zero` | Back to zero" in (machine.folder / "docs" / "plugins.md").read_text()
    finally:
        for name in files:
            (machine.folder / folders[name] / name).unlink()


@needs_a_machine
def test_the_recipes_work_outside_the_checkout(machine, recipes):
    """The same files in somebody's own folder, by package.module:name, with an option set."""
    files, _, outside = recipes
    mine = machine.folder.parent / "acme"
    mine.mkdir()
    for name, text in files.items():
        (mine / name).write_text(text, encoding="utf-8")
    said = machine.end_of(machine.start(outside, machine.folder.parent))
    assert "round   2/2" in said
    [story] = (machine.folder.parent / "runs").glob("run-*/report.md")
    assert "They pull the model towards zero." in story.read_text(encoding="utf-8")
    wrong = machine.start(outside.replace("middle_half:", "middle_haf:"), machine.folder.parent)
    assert wrong.wait(100) == 2
    assert "there is no module 'acme.middle_haf'" in machine.said(wrong).splitlines()[-1]


def test_lists_of_plugins_are_up_to_date():
    """What the README and docs/plugins.md list is what there is; ``make docs`` writes it."""
    for file in listing.FILES:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert listing.PLACE.search(text)
        assert listing.filled(text) == text, f"{file}: make docs"
    plugins = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert [kind for _, kind, _ in listing.PLACE.findall(plugins)] == [k.mark.kind for k in KINDS]
