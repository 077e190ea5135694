"""The processes of Ray on a machine: which commands start them. Nothing here imports Ray."""

from __future__ import annotations

import ipaddress
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from fedjury.cluster.folder import ClusterError

ALONE = "127.0.0.2"
"""This machine for itself. Ray takes 127.0.0.1 for any of its outer addresses."""

PREFIX = "fjr-"
"""How the name of the folder of Ray's own files begins."""

STARTED = b"Ray runtime started"
"""What a node says as soon as it is there."""


def needed() -> None:
    """Refuse where Ray is not installed.

    Raises
    ------
    ClusterError
        If it is not.
    """
    if find_spec("ray") is None:
        raise ClusterError(
            "a cluster needs Ray, which is not installed: pip install 'fedjury[scale]'"
        )


def private(host: str) -> str:
    """Return the address of a machine in a cluster.

    Raises
    ------
    ClusterError
        If it is none of a private network.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ClusterError(f"--host {host} must be an address like 10.0.0.1, not a name") from None
    if not address.is_private or address.is_unspecified:
        raise ClusterError(
            f"--host {host} is no private address: whoever reaches a machine of the cluster and "
            "has its token can run anything there"
        )
    return ALONE if host == "127.0.0.1" else host


def started(said: bytes) -> bool:
    """Return whether a node is there, by what it has said."""
    return STARTED in said


def head(host: str, port: int, own: Path, options: Mapping[str, object]) -> list[str]:
    """Return the command that starts the first machine of a cluster, and stays."""
    first = ["--head", f"--port={port}", "--include-dashboard=false"]
    return [*_start(host, own, options), *first]


def node(host: str, address: str, own: Path, options: Mapping[str, object]) -> list[str]:
    """Return the command that lets a machine take part in a cluster, and stays."""
    return [*_start(host, own, options), f"--address={address}"]


def _start(host: str, own: Path, options: Mapping[str, object]) -> list[str]:
    # Folders of what its actors start are in its own: nobody else removes those of who is killed.
    program = ["env", f"TMPDIR={own}", sys.executable, "-m", "ray.scripts.scripts", "start"]
    quiet = ["--block", "--disable-usage-stats", "--include-log-monitor=false", "--log-color=false"]
    where = [f"--node-ip-address={host}", f"--temp-dir={own}"]
    chosen = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return [*program, *quiet, *where, *chosen]


def own_folder() -> Path:
    """Make a folder for Ray's own files; its path is short, as sockets are in it."""
    return Path(tempfile.mkdtemp(prefix=PREFIX))


def remove(own: Path) -> None:
    """Remove Ray's own files, and no others, of a cluster that was killed."""
    if own.name.startswith(PREFIX):
        shutil.rmtree(own, ignore_errors=True)


def keep_logs(own: Path, logs: Path) -> None:
    """Move what Ray has logged to the other logs, and remove its folder."""
    sessions = [folder for folder in own.glob("session_*") if not folder.is_symlink()]
    for number, session in enumerate(sorted(sessions), start=1):
        with suppress(OSError):  # logs that cannot be kept are no reason to leave the rest
            shutil.copytree(session / "logs", logs / f"ray-{number}")
    shutil.rmtree(own, ignore_errors=True)
