"""The peers' own virtual environment: tools/benchmarks/peers/.venv, made when it is missing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = str(VENV / "bin" / "python")


class Failed(Exception):  # noqa: N818
    """Something could not be installed or measured; the message says why in one sentence."""


def make() -> None:
    """Make the environment if it is missing."""
    if (VENV / "bin" / "pip").exists():
        return
    print(f"making {VENV}", flush=True)
    result = subprocess.run(
        [sys.executable, "-m", "venv", VENV], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise Failed("cannot make a virtual environment; on Debian: apt install python3-venv")


def install(what: str, packages: Sequence[str], flags: Sequence[str] = ()) -> None:
    """Install these packages in the versions of requirements.txt, those that are missing."""
    pinned = [requirement(package) for package in packages]
    start = time.monotonic()
    print(f"{what}: installing {' '.join(pinned)} ... ", end="", flush=True)
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    constraints = str(HERE / "constraints.txt")
    done = subprocess.run(
        [*pip, "-c", constraints, *flags, *pinned], capture_output=True, text=True, check=False
    )
    print(f"{time.monotonic() - start:.0f} s", flush=True)
    if done.returncode:
        raise Failed(f"pip could not install {' '.join(pinned)}: {reason(done.stderr)}")


def requirement(package: str) -> str:
    """Find a package's line in requirements.txt."""
    lines = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.partition("==")[0].partition("[")[0] == package)


def reason(stderr: str) -> str:
    """Pick the first line that pip calls an error, cut to a readable length."""
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if "ERROR:" in line]
    telling = [line for line in errors if not line.startswith("Ignored the following versions")]
    return (telling or ["it did not say why"])[0][:300]


def version(package: str) -> str:
    """Return the version of a package in the environment."""
    site = next((VENV / "lib").glob("python3*")) / "site-packages"
    return next(iter(metadata.distributions(name=package, path=[str(site)]))).version
