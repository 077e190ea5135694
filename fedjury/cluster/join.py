"""A further machine of a cluster: a node of Ray, in a program that ends with it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from fedjury.cluster import environment, ray_nodes
from fedjury.cluster.folder import ClusterError
from fedjury.cluster.known import below, end
from fedjury.cluster.up import START, Program, last_line


def join(address: str, host: str, token: Path, say: Callable[[str], None]) -> int:
    """Be a machine of the cluster until Ctrl-C, or until the cluster has ended.

    Raises
    ------
    ClusterError
        If there is no cluster, or the token is not its own.
    """
    if not token.is_file():
        raise ClusterError(f"--token {token} is no file; it is in the folder of the cluster")
    os.environ.update(environment.settings(token.resolve()))
    own = ray_nodes.own_folder()
    options = {"num_cpus": os.cpu_count() or 1}
    command = ray_nodes.node(host, address, own, options)
    program = Program("ray-node", command, own / "node.log", ray_nodes.STARTED)
    try:
        _start(program, f"--token {token} is not the token of the cluster at {address}")
        say(f"this machine ({host}) takes part in the cluster at {address}")
        while program.ended is None:
            time.sleep(0.2)
        say(f"the cluster has ended: {last_line(program.log)}")
    finally:
        left = below(program.child.pid) if program.child else []
        program.stop(START / 4)
        end(left, 2.0)
        shutil.rmtree(own, ignore_errors=True)
    return 0


def _start(program: Program, refused: str) -> None:
    try:
        program.start()
    except ClusterError as why:
        if "InvalidAuthToken" in str(why):
            raise ClusterError(refused) from None
        raise
