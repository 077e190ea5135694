"""Finding Mosquitto on this machine, and installing it where that is ours to do."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

Say = Callable[[str], None]

SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where packages put Mosquitto and where the PATH of a plain user does not look."""

PACKAGES = ("mosquitto", "mosquitto-clients")
POLICY = Path("/usr/sbin/policy-rc.d")
NO_MOSQUITTO_SERVICE = '#!/bin/sh\ncase "$*" in *mosquitto*) exit 101 ;; esac\n'


def find_mosquitto() -> Path | None:
    """Find the Mosquitto broker on PATH or in the folders for system programs."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(SBIN))
    return Path(found) if found else None


def install_mosquitto(say: Say) -> bool:
    """Install Mosquitto and its command-line clients with apt, if this process may.

    Says what it does, or why it does not, in one line each. The packaged service is neither
    started nor enabled: port 1883 stays free.
    """
    obstacle = _obstacle_to_apt()
    if obstacle:
        say(f"Mosquitto is not installed: {obstacle}")
        return False
    say(f"installing Mosquitto: apt-get install {' '.join(PACKAGES)} (service not started)")
    with _service_kept_off():
        # A package source that cannot be read matters only if the installation then fails.
        _run_quietly("apt-get", "update", "-q")
        problem = _run_quietly(
            "apt-get", "install", "-q", "-y", "--no-install-recommends", *PACKAGES
        )
    if problem:
        say(f"Mosquitto is not installed: apt-get failed, is there a network? ({problem})")
        return False
    # Else the next boot starts it.
    _run_quietly("update-rc.d", "mosquitto", "disable")
    return True


def _obstacle_to_apt() -> str:
    """Say why this process cannot install a package; empty if it can."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    family = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    if not {"debian", "ubuntu"} & set(family) or not shutil.which("apt-get"):
        return "only Debian and Ubuntu are known here; use your system's packages"
    if os.geteuid() != 0:
        return f"that needs root; run `sudo apt install {' '.join(PACKAGES)}`"
    return ""


@contextlib.contextmanager
def _service_kept_off() -> Iterator[None]:
    """Keep packages from starting a mosquitto service meanwhile.

    Debian asks /usr/sbin/policy-rc.d before it starts a service. Where an administrator (or a
    container image) has put one already, that one decides.
    """
    try:
        with POLICY.open("x", encoding="ascii") as policy:
            policy.write(NO_MOSQUITTO_SERVICE)
    except FileExistsError:
        yield
        return
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _run_quietly(*command: str) -> str:
    """Run a program without showing its output; say what went wrong, empty if nothing did."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as problem:
        return str(problem)
    if done.returncode == 0:
        return ""
    lines = done.stdout.strip().splitlines()
    errors = [line for line in lines if line.startswith("E: ")]
    return (errors or lines[-1:] or [f"exit status {done.returncode}"])[0]
