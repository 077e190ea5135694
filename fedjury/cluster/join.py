"""A further machine of a cluster: a node of Ray, in a program that ends with it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from fedjury.cluster import environment, ray_nodes
from fedjury.cluster.folder import ClusterError
from fedjury.cluster.known import Descendants
from fedjury.cluster.up import START, Program


def join(address: str, host: str, token: Path, say: Callable[[str], None]) -> int:
    """Be a machine of the cluster until Ctrl-C, or until the cluster has ended.

    Raises
    ------
    ClusterError
        If there is no cluster, or the token is not its own.
    """
    if not re.fullmatch(r"[^:\s]+:\d{1,5}", address):
        raise ClusterError(f"{address} must be HOST:PORT, like 10.0.0.1:6390")
    if not token.is_file():
        raise ClusterError(f"--token {token} is no file; it is in the folder of the cluster")
    os.environ.update(environment.settings(token.resolve()))
    own = ray_nodes.own_folder()
    options = {"num_cpus": os.cpu_count() or 1}
    command = ray_nodes.node(host, address, own, options)
    started = Descendants()
    program = Program("ray-node", command, own / "node.log", ray_nodes.started)
    try:
        _start(program, address, token)
        while True:
            say(f"this machine ({host}) takes part in the cluster at {address}")
            while program.ended is None:
                time.sleep(0.2)
            say("this machine has lost the cluster, and looks for it again")
            if not _answers(address):
                say("the cluster has ended")
                return 0
            _start(program, address, token)
    finally:
        program.stop(START / 4)
        started.end(2.0)
        shutil.rmtree(own, ignore_errors=True)


def _answers(address: str) -> bool:
    """Wait until somebody listens at the cluster's address again; whether anybody does."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, int(port)), 1.0):
                return True
        except OSError:
            time.sleep(0.5)
    return False


def _start(program: Program, address: str, token: Path) -> None:
    """Start a node.

    Raises
    ------
    ClusterError
        If that fails.
    """
    try:
        program.start()
    except ClusterError as why:
        if "InvalidAuthToken" not in str(why):
            raise
        refused = f"--token {token} is not the token of the cluster at {address}"
        raise ClusterError(refused) from None
