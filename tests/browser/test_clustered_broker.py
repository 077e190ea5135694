"""A broker of two nodes, Aedes with Redis between them, that is none of ours: what it passes."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from support.broker_check import checked, only, verdicts
from support.listening import until
from support.npm_packages import node_for

from fedjury import processes
from fedjury.broker.local import HOST
from fedjury.broker.probe import answers

AEDES = Path(__file__).resolve().parents[1] / "support" / "aedes"

ACROSS = (
    "QoS 1",
    "retained",
    "retained by wildcard",
    "last will",
    "slow subscriber",
    "in flight",
    "same name twice",
    "session",
    "silent client",
)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Start Redis and two nodes; returns their URLs."""
    redis = shutil.which("redis-server")
    if not redis:
        pytest.skip("redis-server is not installed")
    node, folder = node_for(AEDES), tmp_path_factory.mktemp("aedes")
    shared, *ports = (processes.free_port(HOST) for _ in range(3))
    commands = [[redis, "--port", str(shared), "--bind", HOST, "--save", "", "--dir", str(folder)]]
    commands += [[node, str(AEDES / "broker.mjs"), str(port), str(shared)] for port in ports]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for command in commands:
            child = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(child.wait)
            stack.callback(child.kill)
        until(lambda: all(answers(HOST, port) for port in ports), 60)
        yield [f"mqtt://{HOST}:{port}" for port in ports]


def test_it_will_do_between_its_nodes(nodes, capsys):
    """Messages, retained ones, wills, names and sessions are the same at both.

    On a busy machine nodes may take less in time than they should, and be warned of, once.
    """
    code, found = checked(capsys, *nodes, "--agents", "200", *only(*ACROSS))
    if verdicts(found)["warning"]:
        code, found = checked(capsys, *nodes, "--agents", "200", *only(*ACROSS))
    assert (code, verdicts(found)) == (0, {"warning": [], "failed": []})


def test_it_speaks_no_mqtt_5_and_counts_nothing(nodes, capsys):
    """Which is said, and no more than a warning; a model of eight megabytes comes through."""
    code, found = checked(capsys, nodes[0], *only("MQTT version", "$SYS", "payload"))
    assert code == 0
    assert {"MQTT version", "$SYS"} <= set(verdicts(found)["warning"])
    assert found["MQTT version"]["measured"] == "3.1.1"
    came = int(found["payload"]["measured"].split()[0].replace(",", ""))
    assert came >= 8_000_000
