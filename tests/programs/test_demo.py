"""The demo, in small: every part of it real, by the command that people use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support import warm

from fedjury.protocol.record import read

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_tells_its_story(tmp_path):
    """Undefended averaging falls, clipping holds, fakes are found, the vote rejects rounds."""
    command = [
        sys.executable,
        "run.py",
        "--demo",
        "--n",
        "60",
        "--rounds",
        "15",
        "--start",
        "13",
        "--samples",
        "20",
        "--processes",
        "1",
        "--runs",
        str(tmp_path),
        "--run",
        "small",
        "--broker-kind",
        "embedded",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "small"
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    runs: dict[str, list] = {}
    for record in map(read, map(json.loads, lines)):
        runs.setdefault(record.run, []).append(record)
    assert [len(records) for records in runs.values()] == [15, 15, 15, 15]
    undefended, clipped, detected, jury = runs.values()
    assert undefended[11].model.accuracy > 0.4
    assert undefended[-1].model.accuracy < undefended[11].model.accuracy - 0.2
    assert clipped[-1].model.accuracy > 0.85 * clipped[11].model.accuracy
    assert [len(record.detection.flagged) for record in detected] == [0] * 12 + [12, 12, 0]
    assert [len(record.detection.quarantined) for record in detected[-2:]] == [12, 12]
    assert detected[-1].model.accuracy > 0.9 * undefended[11].model.accuracy
    assert [record.accepted for record in jury] == [True] * 12 + [False] * 3
    assert jury[-1].model.accuracy == jury[11].model.accuracy
    assert set(json.loads((folder / "manifest.json").read_text())) == set(runs)
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert "Accuracy was" in page
    assert "Flagged: 12 of 12 malicious agents, 0 of 48 honest agents." in page
    assert "of 3 candidates of attacked rounds 3 were rejected; of 12 others, 0" in page
    report = (folder / "report.md").read_text()
    assert "of 12 malicious agents 12 were flagged" in report
    assert "of 12 malicious agents 12 were flagged" in done.stdout
    for name in runs:
        assert f"| {name} |" in report
        assert name in done.stdout
    again = warm.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.stdout.count("it is done already") == 4  # as after a Ctrl-C, what is done stays
    assert (folder / "report.md").read_text() == report
    files = done.stdout.splitlines()[-4:]
    assert files[0] == f"report   {folder / 'report.html'}"
    assert str(folder / "report.md") in files[1]
