"""Node.js, and the packages that a folder's package.json names, or the reason to skip a test."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest


def node_for(folder):
    """Find Node.js 20, and install a folder's packages unless they are there."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if not program or not npm:
        pytest.skip("Node.js or npm is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    if int(version.stdout.lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"Node.js is {version.stdout.strip()}, the packages need v20")
    if not _installed(folder):
        install = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(
            [*install, "--prefix", str(folder)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode or not _installed(folder):
            pytest.skip(f"npm cannot install the packages: {done.stderr[-300:]}")
    return program


def _installed(folder):
    """Say whether the packages of package.json are there, in these versions."""
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    files = {name: folder / "node_modules" / name / "package.json" for name in wanted}
    return all(
        file.exists() and json.loads(file.read_text())["version"] == wanted[name]
        for name, file in files.items()
    )
