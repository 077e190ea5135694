"""Programs under a root of their own, on a broker with logins that were made for that root."""

from __future__ import annotations

import json
import urllib.request

import pytest
from support.listening import until
from support.network import Programs, ended

from fedjury.aggregator.store import read_records
from fedjury.broker import enrol
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto

ROOT = "acme/plant-7/fl/v2"
FLAGS = [
    "--config",
    "config/undefended.toml",
    "--data",
    "digits",
    "--validators",
    "3",
    "--rounds",
    "3",
    "--quorum",
    "2",
]

pytestmark = pytest.mark.skipif(not find_mosquitto(), reason="logins need Mosquitto")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """Enrol six agents and two listeners for the root."""
    folder = tmp_path_factory.mktemp("enrolled") / "secrets"
    people = ["--watch", "exporter"]
    assert enrol.main(["--n", "6", *people, "--root", ROOT, "--folder", str(folder)]) == 0
    return folder


@pytest.fixture
def programs(secrets, tmp_path):
    """Start programs on a broker that knows the enrolment."""
    log = tmp_path / "broker.log"
    with local_broker("mosquitto", say=lambda _: None, log=log, secrets=secrets) as address:
        programs = Programs(tmp_path, address)
        try:
            yield programs
        finally:
            programs.kill()


def test_a_whole_federation_below_a_root_of_four_levels(programs, secrets, tmp_path):
    """With logins: aggregator, agents that are told no run, watch and exporter all find it."""
    address = programs.address
    where = [
        "--broker",
        f"{address.host}:{address.port}",
        "--secrets",
        str(secrets),
        "--root",
        ROOT,
    ]
    exporter = programs.start(
        "-m", "fedjury", "exporter", *where, "--as", "exporter", "--port", "0"
    )
    until(lambda: "/metrics" in exporter.log.read_text(), 60)
    watch = programs.start("-m", "fedjury", "watch", *where, "--run", "lab", "--plain")
    agents = programs.start("agents/spawn.py", *where, "--n", "6", "--data", "digits")
    until(lambda: "waiting for a run" in agents.log.read_text(), 60)
    server = programs.start(
        "-m", "aggregator", *where, "--run", "lab", "--runs", str(tmp_path), "--agents", "6", *FLAGS
    )
    ended(server, agents, watch)
    records = read_records(tmp_path / "lab")
    assert [record.updates for record in records] == [6] * 3
    assert [len(record.votes.voters) for record in records] == [3] * 3
    assert f"-t '{ROOT}/lab/log/#'" in server.log.read_text()
    assert "round   3" in watch.log.read_text() or "round 3" in watch.log.read_text()
    url = exporter.log.read_text().split()[-1]
    with urllib.request.urlopen(url, timeout=10) as page:
        assert 'run="lab"' in page.read().decode()


def test_logins_for_one_root_are_of_no_use_below_another(programs, secrets, tmp_path):
    """Nobody comes who speaks below the usual root, though each is let in by the broker."""
    address = programs.address
    where = ["--broker", f"{address.host}:{address.port}", "--secrets", str(secrets)]
    agents = programs.start(
        "agents/spawn.py", *where, "--run", "lab", "--n", "6", "--data", "digits"
    )
    until(lambda: "all 6 agents are connected" in agents.log.read_text(), 60)
    flags = [*FLAGS, "--agents", "6", "--set", "collect.patience=3", "--root", ROOT]
    flags += ["--set", "collect.wait=false"]
    server = programs.start(
        "-m", "aggregator", *where, "--run", "lab", "--runs", str(tmp_path), *flags
    )
    assert server.wait(60) == 2
    assert "no agent joined run 'lab' within 3 s" in server.log.read_text()
    register = json.loads((secrets / "register.json").read_text())
    assert register["root"] == ROOT
