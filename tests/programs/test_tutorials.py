"""The tutorials: each file is written as it is printed, each command is typed as it is printed."""

from __future__ import annotations

import re
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from support.listening import until
from support.machine import Machine, needs_a_machine

ROOT = Path(__file__).resolve().parents[2]

FILE = re.compile(r"`(\w+\.py)`[^`]*:\n\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A file that is printed: its name, and what is in it."""

SKIPPED = ("pip ", "sudo ")
"""What changes the machine itself."""


def text_of(name):
    """Return a tutorial."""
    return (ROOT / "docs" / f"tutorial-{name}.md").read_text(encoding="utf-8")


def files_of(text):
    """Return the files that a tutorial prints, each after its name."""
    blocks = re.findall(
        r"(?:^|[^`])`(\w+\.py)`[^`]*:\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == text.count("```python\n")
    return dict(blocks)


def commands_of(text):
    """Return the commands of its blocks, in order and without comments."""
    plain = re.sub(r"^```python\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```\n(.*?)^```$", plain, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [" ".join(re.sub(r"\s#\s.*", "", line).split()) for line in lines]
    return [line for line in lines if line and not line.startswith(SKIPPED)]


@pytest.fixture
def machine():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # Mosquitto, started by root, becomes a user of its own
        made = Machine(Path(folder), warm=True)
        yield made
        made.close()


@needs_a_machine
@pytest.mark.slow
def test_the_engineer_s_five_devices(machine):
    """From enrolment to the model, with a device that is stopped and started again.

    It is forked, as all here are: a Python of its own would not be back in time on busy cores.
    """
    text = text_of("engineer")
    folder = machine.folder.parent / "pumps"
    folder.mkdir()
    for name, content in files_of(text).items():
        quick = content.replace('every="2s"', 'every="0.6s"').replace('"20s"', '"10s"')
        (folder / name).write_text(quick, encoding="utf-8")
    commands = commands_of(text)
    last = commands.index("python use.py")
    running = {}
    for command in commands[:last]:
        running[command] = machine.start(command, folder)
        if not command.startswith(("fedjury broker", "python server.py", "python device.py")):
            machine.end_of(running[command])
    server = running["python server.py"]
    until(lambda: re.search(r"round +6/30", machine.said(server)), 60)
    stopped = running["python device.py pump-3"]
    stopped.send_signal(signal.SIGINT)  # "Stop pump-3 with Ctrl-C while the run goes on."
    assert "pump-3: stopping" in machine.end_of(stopped)
    # Where it left in the middle of a round, that one waits for it until the deadline.
    until(lambda: "4 updates" in machine.said(server).partition("round   6/30")[2], 30)
    machine.start("python device.py pump-3", folder)
    said = machine.end_of(server)
    assert len(re.findall(r"round +[0-9]+/30", said)) == 30
    assert said.count("clean, 0 silent") >= 28
    assert re.findall("([45]) updates", said)[-1] == "5"
    assert re.search(r"round 1: error [0-9.]+ days, [45] pumps", said)
    [error] = re.findall(r"round 21: error ([0-9.]+) days", said)
    assert float(error) < 8  # what is to be predicted varies by ten days
    assert "the model errs most at pump-" in said
    assert load_file(folder / "pumps.safetensors")["1.weight"].shape == (16, 5)
    used = machine.end_of(machine.start(commands[last], folder))
    assert float(used.split()[0]) < 8
    if find_spec("onnx"):
        machine.end_of(machine.start(commands[last + 1], folder))
        assert (folder / "pumps.onnx").exists()


@needs_a_machine
@pytest.mark.slow
def test_the_researcher_s_rule_and_attack(machine):
    """The rule withstands the attack that ruins the mean, in a smaller run, and in memory."""
    text = text_of("researcher")
    for name, content in files_of(text).items():
        (machine.folder / name).write_text(content, encoding="utf-8")
    said = {}
    for command in commands_of(text):
        small = command.replace("--n 100", "--n 40")
        said[command] = machine.end_of(machine.start(small))
    accuracy = dict(
        re.findall(r"(\w+): .* before, ([0-9.]+)% at the end", said["python compare.py"])
    )
    assert float(accuracy["undefended"]) < 60
    assert float(accuracy["bounded"]) > 80
    assert "2 passed" in said["python -m pytest test_mine.py"]
    report = (machine.folder / "runs" / "bounded" / "report.md").read_text(encoding="utf-8")
    assert "They sent the model's last step back, several times over." in report
    [last] = re.findall(r"round 11: accuracy ([0-9.]+)%", said["python hospitals.py"])
    assert float(last) > 85
    assert "worst: hospital-" in said["python hospitals.py"]
