"""The container files fit the programs, and replicas share a fleet out among themselves."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from agents import spawn
from aggregator import __main__ as aggregator
from broker.local import CONFIGURATION
from config import flags
from config.settings import SettingsError

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROGRAMS = {
    "aggregator": (["python", "-m", "aggregator"], aggregator.main),
    "agents": (["python", "agents/spawn.py"], spawn.main),
}


class Parsed(Exception):  # noqa: N818 - it ends a program once its flags are read
    """The settings that a program read from its flags."""


def settings_of(service, monkeypatch):
    """Let a service's program read its command with its own parser; returns the settings."""
    read = flags.settings_from

    def stop(arguments):
        raise Parsed(read(arguments))

    program, main = PROGRAMS[service]
    words = shlex.split(SERVICES[service]["command"])
    assert words[: len(program)] == program
    monkeypatch.setattr(flags, "settings_from", stop)
    monkeypatch.chdir(ROOT)
    with pytest.raises(Parsed) as parsed:
        main(words[len(program) :])
    monkeypatch.setattr(flags, "settings_from", read)
    return parsed.value.args[0]


@pytest.mark.parametrize("service", PROGRAMS)
def test_command_is_what_the_program_takes(service, monkeypatch):
    """The commands parse with our own parsers and lead to the broker's service and port."""
    settings = settings_of(service, monkeypatch)
    assert settings.broker.host in SERVICES
    listens = re.search(r"(?m)^listener (\d+)$", CONFIGURATION.read_text(encoding="utf-8"))
    assert settings.broker.port == int(listens[1])
    assert SERVICES[service]["build"]["context"] == "."
    assert SERVICES[service]["depends_on"]["broker"] == {"condition": "service_healthy"}


def test_aggregator_and_agents_mean_the_same_federation(monkeypatch):
    """They name the same run and data, and the aggregator waits for as many as there will be."""
    server, fleet = settings_of("aggregator", monkeypatch), settings_of("agents", monkeypatch)
    assert server.run.name == fleet.run.name
    assert server.run.seed == fleet.run.seed
    assert server.data == fleet.data
    assert server.collect.agents == fleet.agents.n
    assert fleet.agents.shard == "dns:agents"
    assert fleet.agents.shard.removeprefix("dns:") in SERVICES
    assert fleet.agents.evil == 0.2


def test_broker_is_the_official_one_with_the_shipped_configuration():
    """Mosquitto 2 reads our file, cannot change it, is published on loopback only, and watched."""
    broker = SERVICES["broker"]
    assert broker["image"] == "eclipse-mosquitto:2"
    source, target, mode = broker["volumes"][0].split(":")
    assert (ROOT / source).samefile(CONFIGURATION)
    assert (target, mode) == ("/mosquitto/config/mosquitto.conf", "ro")
    assert broker["ports"] == ["127.0.0.1:1883:1883"]
    assert broker["ulimits"]["nofile"] >= 65536
    check = broker["healthcheck"]["test"]
    assert check[:2] == ["CMD", "mosquitto_sub"]
    assert "$$SYS/broker/uptime" in check  # a single dollar would be a variable of compose
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["broker"]


def test_runs_are_kept_where_the_aggregator_writes_them(monkeypatch):
    """The aggregator's folder is ./runs outside, and is made writable before it starts."""
    settings = settings_of("aggregator", monkeypatch)
    home = re.search(r"(?m)^WORKDIR (.+)$", DOCKERFILE)[1]
    assert SERVICES["aggregator"]["volumes"] == [f"./runs:{home}/{settings.run.directory}"]
    assert SERVICES["folder"]["volumes"] == SERVICES["aggregator"]["volumes"]
    assert SERVICES["folder"]["command"] == f"chmod 1777 {settings.run.directory}"
    needs = SERVICES["aggregator"]["depends_on"]["folder"]
    assert needs == {"condition": "service_completed_successfully"}


def test_agents_can_be_scaled():
    """Nothing of the agents can exist only once: no name, no port, no folder."""
    assert not {"container_name", "hostname", "ports", "volumes"} & SERVICES["agents"].keys()


def test_dockerfile_copies_what_is_there_and_ends_as_nobody_special():
    """What is copied exists and is not ignored; packages are pinned; the user is not root."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [word for line in re.findall(r"(?m)^COPY (.+)$", DOCKERFILE) for word in line.split()]
    assert copied == ["requirements.txt", "constraints.txt", "./", ".", "."]
    assert all((ROOT / name).exists() for name in copied)
    assert not {*copied, "broker", "agents", "config", "protocol", "learning"} & {*ignored}
    assert {".git", "**/.venv*", "runs", "data"} <= {*ignored}
    assert "-r requirements.txt -c constraints.txt" in DOCKERFILE
    assert re.findall(r"(?m)^USER (.+)$", DOCKERFILE) == ["fedjury"]
    assert "ENTRYPOINT" not in DOCKERFILE  # the services' commands begin with "python"
    assert re.search(r"(?m)^FROM python:3\.11-slim$", DOCKERFILE)


# ---------------------------------------------------------------- shards of a scaled service


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        """Return how late it is."""
        return self.now

    def sleep(self, seconds):
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def network(monkeypatch):
    """Put a service of four replicas behind the name 'agents', the last two of which come late."""
    clock = Clock()

    class Network:
        me = ""
        replicas = ("172.18.0.10", "172.18.0.4", "172.18.0.5", "172.18.0.6")
        late = 3.0

        def addresses(self, name):
            if name == "agents":
                there = self.replicas if clock.now >= self.late else self.replicas[:2]
                return sorted(there)
            return [self.me] if name == "me" else []

    made = Network()
    monkeypatch.setattr(spawn, "addresses", made.addresses)
    monkeypatch.setattr(spawn, "time", clock)
    monkeypatch.setattr(spawn.socket, "gethostname", lambda: "me")
    return made


def test_four_replicas_share_the_fleet_out(network, monkeypatch):
    """Four replicas run four shards of whole chunks: each agent in exactly one."""
    settings = settings_of("agents", monkeypatch)
    words = shlex.split(SERVICES["agents"]["command"])[2:]
    numbers = []
    monkeypatch.setattr(spawn, "probe", lambda _: None)
    monkeypatch.setattr(spawn, "supervise", lambda *given: numbers.append(given[-1]) or 0)
    for replica in network.replicas:
        network.me = replica
        spawn.main(words)
    assert sorted(len(mine) for mine in numbers) == [200, 200, 300, 300]
    assert sorted(n for mine in numbers for n in mine) == list(range(settings.agents.n))


def test_replicas_wait_until_all_are_there(network, monkeypatch):
    """A replica that starts before the others counts them once their number has settled."""
    settings = settings_of("agents", monkeypatch)
    network.me = "172.18.0.4"
    assert spawn.shard_of(settings) == (2, 4)


def test_a_stranger_to_the_service_is_told_so(network, monkeypatch):
    """Outside the service, or without a network of that name, it is one sentence."""
    settings = settings_of("agents", monkeypatch)
    network.me = "10.0.0.1"
    with pytest.raises(SettingsError, match=r"none of .*172\.18\.0\.4.* is an address of this"):
        spawn.shard_of(settings)
