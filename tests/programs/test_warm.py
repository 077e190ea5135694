"""Forked programs are what started ones are: what they print, how they end, whose children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import warm

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "aggregator", "--rounds", "many"],
        ["agents/spawn.py", "--evil", "1.5"],
        [
            "-c",
            "import os, sys; print(sys.argv, os.getcwd(), os.environ['HERE'])",
            "x",
        ],
        ["-c", "import sys; sys.exit('a sentence')"],
        ["-c", "raise RuntimeError"],
        ["-c", "import atexit; atexit.register(print, 'the end'); print(end='no line, ')"],
    ],
    ids=["module", "script", "place", "sentence", "error", "end"],
)
def test_a_forked_program_is_that_program(command):
    """It prints the same and ends with the same code."""
    words = [sys.executable, *command]
    around = {**os.environ, "HERE": "there"}
    forked, started = (
        way(words, cwd=ROOT, env=around, capture_output=True, text=True, check=False)
        for way in (warm.run, subprocess.run)
    )
    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_forked_program_is_a_child_like_any_other(sign):
    """It has us as its parent, hears signals, and what it died of is told."""
    code = "import os, time; print(os.getppid(), os.getsid(0) == os.getpid(), flush=True)\n"
    words = [sys.executable, "-c", code + "time.sleep(60)"]
    with warm.Popen(words, stdout=-1, stderr=-3, start_new_session=True, text=True) as child:
        assert child.stdout.readline() == f"{os.getpid()} True\n"
        child.send_signal(sign)
        assert child.wait(10) == -sign


def test_what_cannot_be_forked_is_started():
    """Another interpreter's environment, or options for it, take an interpreter of its own."""
    assert warm.can_be_forked([sys.executable, "-m", "aggregator"], os.environ)
    assert not warm.can_be_forked([sys.executable, "-X", "dev", "-m", "x"], os.environ)
    assert not warm.can_be_forked(["/bin/true"], os.environ)
    assert not warm.can_be_forked([sys.executable, "x.py"], {"OMP_NUM_THREADS": "7"})
