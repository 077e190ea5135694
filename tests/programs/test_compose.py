"""The container files fit programs and each other, and do what the engine would do with them."""

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
from support.listening import until

from fedjury.agents import __main__ as spawn
from fedjury.aggregator import __main__ as aggregator
from fedjury.broker import enrol, enrolment, local, principals
from fedjury.broker.mosquitto import CONFIGURATION, PAGE, PAGE_PORT, find_mosquitto, on_loopback
from fedjury.broker.probe import answers
from fedjury.config import flags
from fedjury.config.settings import Settings
from fedjury.monitor.prometheus import __main__ as exporter
from fedjury.processes import free_port
from fedjury.protocol import finding

ROOT = Path(__file__).resolve().parents[2]
FILE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def filled(text, **environment):
    """Put settings in where the file has ${NAME:-default}, as Compose does."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: environment.get(m[1]) or m[2], text)


COMPOSE = yaml.safe_load(filled(FILE))
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROGRAMS = {
    "aggregator": (["python", "-m", "aggregator"], aggregator.main),
    "agents": (["python", "agents/spawn.py"], spawn.main),
    "exporter": (["fedjury", "exporter"], exporter.main),
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
    assert SERVICES[service]["depends_on"]["broker"] == {"condition": "service_healthy"}


def test_aggregator_and_agents_mean_the_same_federation(monkeypatch):
    """Both take the defaults, so that agents of the host's own mean the same as well."""
    server, fleet = settings_of("aggregator", monkeypatch), settings_of("agents", monkeypatch)
    assert server.run.name == fleet.run.name
    assert server.run.seed == fleet.run.seed
    assert server.data == fleet.data
    assert server.training == fleet.training == Settings().training
    assert server.run == fleet.run == Settings().run
    assert fleet.agents.n == 1000
    assert fleet.agents.malicious == 0.2


def ours():
    """Return the services that run our own image."""
    return {name: service for name, service in SERVICES.items() if service["image"] == "fedjury"}


def test_one_service_builds_and_the_others_wait_for_it():
    """Four that build one tag at once fail; those that pull ask a registry that has nothing."""
    assert [name for name, service in SERVICES.items() if "build" in service] == ["enrol"]
    assert ours().keys() == {"enrol", "aggregator", "agents", "exporter"}
    for name, service in ours().items():
        if name != "enrol":
            assert service["pull_policy"] == "never"
            needs = service["depends_on"]["enrol"]
            assert needs == {"condition": "service_completed_successfully"}


def test_who_fails_is_started_again_and_who_has_finished_is_not():
    """An aggregator whose agents were too late goes on with its run; one that is done stays so."""
    restarts = {name: service.get("restart") for name, service in SERVICES.items()}
    again = {name for name, how in restarts.items() if how == "on-failure"}
    assert again == {"aggregator", "agents"}
    assert not [how for name, how in restarts.items() if name not in again and how]


def test_ports_are_settings():
    """Each port of this machine can be another, and is open to this machine alone."""
    ports = {"FEDJURY_PORT": 1, "FEDJURY_PAGE_PORT": 2, "FEDJURY_GRAFANA_PORT": 3}
    other = yaml.safe_load(filled(FILE, **{name: str(port) for name, port in ports.items()}))
    found = [port for service in other["services"].values() for port in service.get("ports", ())]
    assert found == ["127.0.0.1:1:1883", "127.0.0.1:2:8080", "127.0.0.1:3:3000"]
    assert all(name in FILE.partition("\nx-ours")[0] for name in ports)


def test_what_is_mounted_from_this_machine_may_be_read_under_selinux():
    """Every folder of ours has the label z, which lets all containers in; volumes need none."""
    lines = [line for service in SERVICES.values() for line in service.get("volumes", ())]
    bound = [line for line in lines if line.startswith(".")]
    assert bound
    assert all("z" in line.split(":")[2].split(",") for line in bound)


def mounts(service):
    """Return what a service sees: path inside -> (what, may it write)."""
    found = {}
    for line in SERVICES[service].get("volumes", ()):
        what, inside, *mode = line.split(":")
        found[inside] = what, "ro" not in ",".join(mode).split(",")
    return found


HOME = re.search(r"(?m)^WORKDIR (.+)$", DOCKERFILE)[1]


def test_broker_is_the_official_one_with_the_enrolments_configuration():
    """Mosquitto 2 reads what enrolment wrote, cannot change it, and is published on loopback."""
    broker = SERVICES["broker"]
    assert broker["image"] == "eclipse-mosquitto:2.0"
    assert mounts("broker") == {f"{HOME}/secrets/broker": ("./secrets/broker", False)}
    assert broker["command"] == f"mosquitto -c {HOME}/secrets/broker/mosquitto.conf"
    assert broker["user"] == "1883:1883"  # the image's own, for whom port 1883 is not too low
    assert broker["ports"] == ["127.0.0.1:1883:1883", "127.0.0.1:8080:8080"]
    assert broker["ulimits"]["nofile"] >= 65536
    assert {name for name, service in SERVICES.items() if "ports" in service} == {
        "broker",
        "grafana",
    }
    needs = broker["depends_on"]["enrol"]
    assert needs == {"condition": "service_completed_successfully"}


def test_each_service_sees_its_own_secrets_alone():
    """Who is enrolled lies with nobody who serves, and no service can read another's password."""
    assert mounts("enrol")[f"{HOME}/secrets"] == ("./secrets", True)
    seen = {
        name: {
            what.removeprefix("./secrets/")
            for what, _ in mounts(name).values()
            if what.startswith("./secrets")
        }
        for name in SERVICES
        if name != "enrol"
    }
    assert {name: what for name, what in seen.items() if what} == {
        "broker": {"broker"},
        "watch": {"people"},
        "aggregator": {"aggregator"},
        "agents": {"agents"},
        "exporter": {"people/exporter"},
    }
    assert not any(
        writes for name in seen for what, writes in mounts(name).values() if "secrets" in what
    )
    for name in ("aggregator", "agents"):
        assert "--secrets secrets" in SERVICES[name]["command"]
        assert f"{HOME}/secrets/{name}" in mounts(name)


def test_the_secrets_are_where_programs_of_this_machine_look():
    """Without a flag they find what compose made; it is not copied into the image."""
    assert mounts("enrol")[f"{HOME}/secrets"][0] == f"./{finding.FOLDER}"
    assert finding.FOLDER in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_everybody_who_comes_is_enrolled(monkeypatch):
    """The agents that spawn have a login each, and the aggregator and people have theirs."""
    fleet = settings_of("agents", monkeypatch)
    chosen = enrol.main.flags().parse_args(shlex.split(SERVICES["enrol"]["command"]))
    logins = {party.login for party in principals.principals(chosen.n, watchers=chosen.watch)}
    assert chosen.n == fleet.agents.n
    assert chosen.tls is None
    assert chosen.page == PAGE_PORT
    assert f"127.0.0.1:{PAGE_PORT}:{PAGE_PORT}" in SERVICES["broker"]["ports"]
    assert {"aggregator", "watch"} <= logins
    words = shlex.split(SERVICES["exporter"]["command"])
    person = words[words.index("--as") + 1]
    assert f"watch.{person}" in logins
    assert f"{HOME}/secrets/people/{person}" in mounts("exporter")


OWNER = 4711
"""The user to whom the checkout belongs, who is nobody in the containers."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be the users of the containers")
@pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_the_users_of_the_containers_can_read_what_is_theirs():
    """Enrolment by its own command, twice; then broker, healthcheck and watch as their users."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "docker-compose.yml").touch()
        os.chown(folder / "docker-compose.yml", OWNER, OWNER)
        # What the engine makes, as root, of folders that are not there.
        for part in ("broker", "aggregator", "agents", "people", "people/exporter"):
            (folder / "secrets" / part).mkdir(parents=True)
        (folder / "runs").mkdir()
        command = shlex.split(SERVICES["enrol"]["command"])
        for words in (command, command, ["--renew", "agent-007"]):
            assert enrol_in(folder, words).returncode == 0
            assert_owners(folder)
        assert (folder / "runs").stat().st_mode & 0o7777 == 0o1777
        serve_as_containers_do(folder)


def enrol_in(folder, words):
    """Run the enrolment's command in a folder, as its service does."""
    program = [word if word == "sh" else ROOT / word for word in SERVICES["enrol"]["entrypoint"]]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OWNER_FILE": str(folder / "docker-compose.yml"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(
        [*program, *words],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="the enrolment of the containers is root's")
def test_an_enrolment_with_tls_is_left_to_who_made_it(tmp_path):
    """Containers speak without TLS: they say so, and how to keep secrets of their own."""
    (tmp_path / "docker-compose.yml").touch()
    (tmp_path / "runs").mkdir()
    enrolment.enrol(
        tmp_path / "secrets", principals.principals(2), tls="passwords", hosts=["localhost"]
    )
    done = enrol_in(tmp_path, ["--n", "2"])
    assert done.returncode == 2
    assert "FEDJURY_SECRETS=" in done.stderr


def assert_owners(folder):
    """Check that each folder is for the user of its service, and the checkout's owner, alone."""
    for part, user, group in (
        ("broker", 1883, 1883),
        ("aggregator", OWNER, 1000),
        ("agents", OWNER, 1000),
        ("people", OWNER, 1000),
    ):
        paths = [folder / "secrets" / part, *(folder / "secrets" / part).rglob("*")]
        assert len(paths) > 1
        assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {(user, group)}
        assert {path.stat().st_mode & 0o027 for path in paths} == {0}
    assert (folder / "secrets").stat().st_uid == OWNER


def serve_as_containers_do(folder):
    """Start the broker as its user, look after its health, and watch as people do."""
    port = free_port()
    shown = (folder / "secrets" / "broker" / "mosquitto.conf").read_text()
    configuration = folder / "there.conf"  # the same, where this machine has nothing yet
    page = folder / "secrets" / "broker" / "page"
    browsers = free_port()
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
        secret = folder / "secrets" / "agents" / "agent-007.password"
        for number in (OWNER, 1000):  # the host's own programs, and the containers'
            subprocess.run([*user(number), "cat", secret], check=True, stdout=subprocess.DEVNULL)
        words = shlex.split(SERVICES["watch"]["command"])
        assert words[:3] == ["mosquitto_sub", "-h", "broker"]
        assert SERVICES["watch"]["user"] == "1000:1000"
        inside = SERVICES["watch"]["environment"]["XDG_CONFIG_HOME"]
        assert mounts("watch") == {inside: ("./secrets/people", False)}
        watching = subprocess.Popen(
            [
                *user(1000),
                words[0],
                "-p",
                str(port),
                *words[3:],
                "-t",
                "$SYS/broker/version",
                "-C",
                "1",
                "-W",
                "10",
            ],
            env={**os.environ, "XDG_CONFIG_HOME": str(folder / "secrets" / "people")},
            stdout=subprocess.PIPE,
            text=True,
        )
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
    assert runs.items() <= mounts("enrol").items()


def test_agents_can_be_scaled(monkeypatch):
    """Nothing of the agents can exist only once, and they share out in a volume of their own."""
    assert not {"container_name", "hostname", "ports"} & SERVICES["agents"].keys()
    common = settings_of("agents", monkeypatch).agents.common
    written = {inside: what for inside, (what, writes) in mounts("agents").items() if writes}
    assert written == {common: "shards"}
    assert "shards" in COMPOSE["volumes"]
    made = re.search(r"mkdir -p (.+) && chown fedjury: \1\n", DOCKERFILE)[1]
    assert common.removeprefix(f"{HOME}/") in made.split()  # a volume takes its owner from there


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


GRAFANA = ROOT / "fedjury" / "monitor" / "prometheus" / "grafana"


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
    assert inside[folder][0] == "./fedjury/monitor/prometheus/grafana/dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(folder)
    assert (GRAFANA / "dashboards" / Path(home).name).exists()
