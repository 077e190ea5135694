"""The container files fit the programs, and replicas share a fleet out among themselves."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
import yaml
from listening import until

from agents import spawn
from aggregator import __main__ as aggregator
from broker import enrol, local
from broker.answering import answers
from broker.install import find_mosquitto
from broker.mosquitto import CONFIGURATION, PAGE, PAGE_PORT, on_loopback
from config import flags
from config.settings import SettingsError
from monitor import exporter

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROGRAMS = {
    "aggregator": (["python", "-m", "aggregator"], aggregator.main),
    "agents": (["python", "agents/spawn.py"], spawn.main),
    "exporter": (["python", "-m", "monitor.exporter"], exporter.main),
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


def mounts(service):
    """Return what a service sees: path inside -> (what, may it write)."""
    found = {}
    for line in SERVICES[service].get("volumes", ()):
        what, inside, *mode = line.split(":")
        found[inside] = what, mode != ["ro"]
    return found


HOME = re.search(r"(?m)^WORKDIR (.+)$", DOCKERFILE)[1]


def test_broker_is_the_official_one_with_the_enrolments_configuration():
    """Mosquitto 2 reads what enrolment wrote, cannot change it, and is published on loopback."""
    broker = SERVICES["broker"]
    assert broker["image"] == "eclipse-mosquitto:2.0"
    assert mounts("broker") == {f"{HOME}/secrets/broker": ("broker", False)}
    assert broker["command"] == f"mosquitto -c {HOME}/secrets/broker/mosquitto.conf"
    assert broker["user"] == "1883:1883"  # the image's own, for whom port 1883 is not too low
    assert broker["ports"] == ["127.0.0.1:1883:1883", "127.0.0.1:8080:8080"]
    assert broker["ulimits"]["nofile"] >= 65536
    assert {name for name, service in SERVICES.items() if "ports" in service} == {
        "broker", "grafana"
    }  # fmt: skip
    needs = broker["depends_on"]["enrol"]
    assert needs == {"condition": "service_completed_successfully"}


def test_each_service_sees_its_own_secrets_alone():
    """Who is enrolled lies with nobody who serves, and no service can read another's password."""
    assert mounts("enrol") == {
        f"{HOME}/secrets": ("enrolment", True),
        **{f"{HOME}/secrets/{part}": (part, True)
           for part in ("broker", "aggregator", "agents", "people")},
        f"{HOME}/secrets/people/exporter": ("exporter", True),
    }  # fmt: skip
    seen = {
        service: {what for what, _ in mounts(service).values() if what in COMPOSE["volumes"]}
        for service in SERVICES
    }
    assert seen.pop("enrol") == {*COMPOSE["volumes"]}
    assert seen == {
        "broker": {"broker"}, "watch": {"people"}, "folder": set(), "aggregator": {"aggregator"},
        "agents": {"agents"}, "exporter": {"exporter"}, "prometheus": set(), "grafana": set(),
    }  # fmt: skip
    assert not any(
        writes for service in seen for what, writes in mounts(service).values()
        if what in COMPOSE["volumes"]
    )  # fmt: skip
    for service in ("aggregator", "agents"):
        assert "--secrets secrets" in SERVICES[service]["command"]
        assert f"{HOME}/secrets/{service}" in mounts(service)


def steps_of_enrolment():
    """Return the commands of the enrolment, as lists of words."""
    shell, flag, script = shlex.split(SERVICES["enrol"]["command"])
    assert (shell, flag) == ("sh", "-c")
    return [shlex.split(step) for step in script.split("&&")]


def test_everybody_who_comes_is_enrolled(monkeypatch):
    """The agents that spawn have a login each, and the aggregator and people have theirs."""
    fleet = settings_of("agents", monkeypatch)
    first, *_ = steps_of_enrolment()
    assert first[:3] == ["python", "-m", "broker.enrol"]
    chosen = enrol._parser().parse_args(first[3:])
    logins = {party.login for party in enrol.parties(chosen.n, watchers=chosen.watch)}
    assert chosen.n == fleet.agents.n
    assert chosen.tls is None
    assert chosen.page == PAGE_PORT
    assert f"127.0.0.1:{PAGE_PORT}:{PAGE_PORT}" in SERVICES["broker"]["ports"]
    assert {"aggregator", "watch"} <= logins
    words = shlex.split(SERVICES["exporter"]["command"])
    person = words[words.index("--as") + 1]
    assert f"watch.{person}" in logins
    assert f"{HOME}/secrets/people/{person}" in mounts("exporter")


@pytest.mark.broker
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be the users of the containers")
@pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_the_users_of_the_containers_can_read_what_is_theirs():
    """Enrolment by its own command, twice; then broker, healthcheck and watch as their users."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        # Volumes that are new.
        for part in ("broker", "aggregator", "agents", "people", "people/exporter"):
            (folder / "secrets" / part).mkdir(parents=True)
        for _ in range(2):
            enrol_in(folder)
        assert_owners(folder)
        serve_as_containers_do(folder)


def enrol_in(folder):
    """Run the enrolment's command in a folder, with a thousand agents as it says."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in steps_of_enrolment():
        command = [sys.executable if word == "python" else word for word in words]
        subprocess.run(
            command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60
        )


def assert_owners(folder):
    """Check that each folder and all in it belong to the user of its service alone."""
    users = {"broker": 1883, "aggregator": 1000, "agents": 1000, "people": 1000}
    for part, user in users.items():
        home = folder / "secrets" / part
        paths = [home, *home.iterdir()]
        assert len(paths) > 1
        assert {path.stat().st_uid for path in paths} == {user}
        assert {path.stat().st_mode & 0o077 for path in paths} == {0}


def serve_as_containers_do(folder):
    """Start the broker as its user, look after its health, and watch as people do."""
    port = local._free_port(0)
    shown = (folder / "secrets" / "broker" / "mosquitto.conf").read_text()
    configuration = folder / "there.conf"  # the same, where this machine has nothing yet
    page = folder / "secrets" / "broker" / "page"
    browsers = local._free_port(0)
    configuration.write_text(on_loopback(shown, port, (browsers, page)))

    def user(number):
        return ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]

    check = SERVICES["broker"]["healthcheck"]["test"]
    assert check[0] == "CMD-SHELL"
    health = check[1].replace("$$", "$").replace("-t health", f"-t health -p {port}")
    checking = [*user(1883), "sh", "-c", health]
    assert subprocess.run(checking, check=False, capture_output=True, timeout=20).returncode == 1
    broker = subprocess.Popen(
        [*user(1883), str(find_mosquitto()), "-c", str(configuration)], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: answers(local.HOST, port))
        subprocess.run(checking, check=True, capture_output=True, timeout=20)
        shown = httpx.get(f"http://{local.HOST}:{browsers}/board.js")
        assert shown.text == (PAGE / "board.js").read_text(encoding="utf-8")
        words = shlex.split(SERVICES["watch"]["command"])
        assert words[:3] == ["mosquitto_sub", "-h", "broker"]
        assert SERVICES["watch"]["user"] == "1000:1000"
        inside = SERVICES["watch"]["environment"]["XDG_CONFIG_HOME"]
        assert mounts("watch") == {inside: ("people", False)}
        watching = subprocess.Popen(
            [*user(1000), words[0], "-p", str(port), *words[3:], "-t", "$SYS/broker/version",
             "-C", "1", "-W", "10"],
            env={**os.environ, "XDG_CONFIG_HOME": str(folder / "secrets" / "people")},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert "mosquitto version" in watching.communicate(timeout=20)[0]
    finally:
        broker.terminate()
        broker.wait(10)


def test_the_healthcheck_is_compose_and_asks_as_a_stranger():
    """It needs no password: that it is refused is the answer of a broker that is well."""
    test = SERVICES["broker"]["healthcheck"]["test"]
    assert "$$? -eq 5" in test[1]  # a single dollar would be a variable of compose
    assert not re.search(r"-[uP]\b", test[1])


def test_runs_are_kept_where_the_aggregator_writes_them(monkeypatch):
    """The aggregator's folder is ./runs outside, and is made writable before it starts."""
    settings = settings_of("aggregator", monkeypatch)
    runs = {f"{HOME}/{settings.run.directory}": ("./runs", True)}
    assert runs.items() <= mounts("aggregator").items()
    assert mounts("folder") == runs
    assert SERVICES["folder"]["command"] == f"chmod 1777 {settings.run.directory}"
    needs = SERVICES["aggregator"]["depends_on"]["folder"]
    assert needs == {"condition": "service_completed_successfully"}


def test_agents_can_be_scaled():
    """Nothing of the agents can exist only once: no name, no port, no folder to write in."""
    assert not {"container_name", "hostname", "ports"} & SERVICES["agents"].keys()
    assert not any(writes for _, writes in mounts("agents").values())


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


# ---------------------------------------------------------------- who watches with a dashboard


GRAFANA = ROOT / "monitor" / "grafana"


def parsed(file):
    """Read a YAML file of Grafana's folder."""
    return yaml.safe_load((GRAFANA / file).read_text(encoding="utf-8"))


def test_only_who_asks_for_it_gets_the_dashboard():
    """Exporter, Prometheus and Grafana are in one profile, official and pinned to a version."""
    observed = {name for name in SERVICES if SERVICES[name].get("profiles") == ["observe"]}
    assert observed == {"exporter", "prometheus", "grafana"}
    assert re.fullmatch(r"prom/prometheus:v\d+\.\d+\.\d+", SERVICES["prometheus"]["image"])
    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", SERVICES["grafana"]["image"])


def test_grafana_is_for_looking_on_this_machine_alone():
    """Strangers may look, nobody can log in, and no port is open to other machines."""
    said = SERVICES["grafana"]["environment"]
    assert said["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert said["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert said["GF_AUTH_BASIC_ENABLED"] == "false"  # else admin:admin would do
    assert said["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert said["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_mounted_is_there_and_is_found():
    """Exporter, Prometheus, Grafana and the dashboard lead to one another."""
    inside = mounts("prometheus") | mounts("grafana")
    assert not any(writes for _, writes in inside.values())
    assert all((ROOT / what).exists() for what, _ in inside.values())
    [scraped] = parsed("prometheus.yml")["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"exporter:{exporter.PORT}"]}]
    words = shlex.split(SERVICES["exporter"]["command"])
    assert words[words.index("--port") + 1] == str(exporter.PORT)
    assert words[words.index("--host") + 1] == "0.0.0.0"
    [source] = parsed("provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = parsed("provisioning/dashboards/fedjury.yml")["providers"]
    folder = provider["options"]["path"]
    assert inside[folder][0] == "./monitor/grafana/dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(folder)
    assert (GRAFANA / "dashboards" / Path(home).name).exists()


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
    monkeypatch.setattr(spawn, "probe", lambda *_: None)
    monkeypatch.setattr(spawn, "first_known", lambda *_: "")
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
