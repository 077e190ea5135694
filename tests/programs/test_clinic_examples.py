"""The clinics of examples/: a script, the same as a device, and a server."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

from safetensors.numpy import load_file
from support import warm
from support.lines import written
from support.network import KIND, Programs

from fedjury.broker.local import local_broker

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
MOST, CHANGED = 15, 5


def lines_of(name):
    """Return the lines of an example that one has to write."""
    return written((EXAMPLES / name).read_text(encoding="utf-8"))


def test_a_device_and_a_server_take_fifteen_lines_at_the_most():
    """Without blank lines, comments, docstrings and imports."""
    assert len(lines_of("clinic_device.py")) <= MOST
    assert len(lines_of("clinic_server.py")) <= MOST


def test_from_script_to_device_five_lines_change():
    """So many are new or not as they were."""
    difference = difflib.ndiff(lines_of("clinic_script.py"), lines_of("clinic_device.py"))
    assert sum(line.startswith("+ ") for line in difference) <= CHANGED


def test_docs_tell_how_many_lines_there_are():
    """The page's table has the numbers of today."""
    page = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
    row = re.search(r"^\| fedjury \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    assert row.groups() == (
        str(len(lines_of("clinic_device.py"))),
        str(len(lines_of("clinic_server.py"))),
    )


def test_five_clinics_train_one_model(tmp_path):
    """The script trains by itself; the devices and the server, begun in any order, together."""
    script = [sys.executable, str(EXAMPLES / "clinic_script.py"), "0"]
    alone = warm.run(script, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert 0 < float(alone.stdout) < 100
    with local_broker(KIND, say=lambda _: None) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        programs = Programs(tmp_path, broker)
        try:
            devices = [
                programs.start("examples/clinic_device.py", str(number), url) for number in range(5)
            ]
            server = [sys.executable, str(EXAMPLES / "clinic_server.py"), url]
            done = warm.run(
                server, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=100
            )
            assert all(device.poll() is None for device in devices)
        finally:
            programs.kill()
    assert done.stdout.count("  5 updates") == 20
    [error] = re.findall(r"error at the clinics: ([0-9.]+)", done.stdout)
    assert float(error) < 100  # an untrained model is wrong by 170
    assert load_file(tmp_path / "clinics.safetensors")["1.weight"].shape == (16, 10)
