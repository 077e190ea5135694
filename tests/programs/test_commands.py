"""The programs as people start them: what they say, how they fail, how they end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from support import warm
from support.listening import RawClient, until

from fedjury import processes
from fedjury.agents import __main__ as spawn
from fedjury.aggregator import __main__ as aggregator
from fedjury.broker.local import local_broker
from fedjury.config.settings import SettingsError
from fedjury.federation import parts, run

ROOT = Path(__file__).resolve().parents[2]
SPAWN = [str(ROOT / "agents" / "spawn.py")]
AGGREGATOR = ["-m", "aggregator"]
RUN = [str(ROOT / "run.py"), "--broker-kind", "embedded"]
"""Always with the kind of broker: else run.py, as root, may install one with apt."""

SMALL = ["--data", "digits"]
MARK = "FEDJURY_TEST"
"""Environment variable by which descendants are known, in whatever session they are."""

IN_TIME = 15
"""Seconds in which a program that was stopped ends: .3 alone, 2 on cores that 12 others share."""


def offline(mark="1"):
    """Return an environment from which no download gets out."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "ftp_proxy"), "http://127.0.0.1:9")
    return {**os.environ, **nowhere, MARK: mark, "OMP_NUM_THREADS": "1"}


def said(arguments, cwd=ROOT, seconds=60):
    """Run a program to its end; returns exit code, stdout, stderr."""
    done = warm.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=offline(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def refused(arguments, *words):
    """Run a program that must refuse: exit code 2, one sentence on stderr with all these words."""
    code, _, errors = said(arguments)
    assert code == 2, errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1, errors
    assert "Traceback" not in errors
    assert all(word in errors for word in words), errors


@pytest.fixture(scope="module")
def address():
    """Start the embedded broker for all of this file."""
    with local_broker("embedded", say=lambda _: None) as running:
        yield running


@pytest.fixture(scope="module")
def there(address):
    """Return the flags that lead to the broker."""
    return ["--broker", f"{address.host}:{address.port}"]


@pytest.fixture
def closed():
    """Return the address of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


# ---------------------------------------------------------------- help


@pytest.mark.parametrize(
    ("program", "example"),
    [
        ([str(ROOT / "run.py")], "python run.py --demo"),
        (SPAWN, "python agents/spawn.py --n 1000 --evil 0.2"),
        (AGGREGATOR, "python -m aggregator --config"),
        (["-m", "fedjury.broker"], "fedjury broker --port 1883"),
        (["-m", "fedjury.learning.classifier"], "python -m fedjury.learning.classifier"),
    ],
    ids=["run", "spawn", "aggregator", "broker", "classifier"],
)
def test_help_shows_an_example(program, example):
    """Every program explains itself, with an example that can be copied."""
    code, text, errors = said([*program, "--help"])
    assert (code, errors) == (0, "")
    assert example in text.partition("example")[2]


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--evil", "1.5"], ("agents.malicious", "1.5", "0 to 1")),
        (["--evil", "much"], ("agents.malicious", "a number")),
        (["--n", "0"], ("agents.n", "1 to 1,000,000")),
        (["--shard", "3/2"], ("agents.shard", "3/2", "like 2/4")),
        (["--run", "a/b"], ("run.name", "a/b")),
        (["--broker", "host:port"], ("--broker host:port", "HOST:PORT")),
        (["--config", "no-such.toml"], ("cannot read no-such.toml", "No such file")),
        (["--config", "README-of-nothing/x"], ("cannot read",)),
        (["--config", "run.py"], ("run.py is not TOML",)),
        (["--set", "validation.qorum=7"], ("did you mean 'validation.quorum'",)),
        (["--set", "colour=red"], ("unknown setting 'colour'",)),
        (["--set", "run.rounds"], ("--set run.rounds must be",)),
        (["--set", "limits.finite=maybe"], ("limits.finite", "true or false")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_setting_is_one_sentence(flags, words):
    """A setting that cannot be is named with what it may be, before anything is started."""
    refused([*SPAWN, *flags], *words)


def test_unknown_attack_is_one_sentence(there):
    """A misspelt attack ends spawn.py with one sentence that has the names there are."""
    refused([*SPAWN, *there, "--attack", "bribe"], "bribe", "mpaf", "random", "history")


def test_unknown_rule_is_one_sentence(closed):
    """A misspelt rule ends the aggregator with one sentence that has the names there are."""
    refused(
        [*AGGREGATOR, "--broker", closed, "--rule", "avg"], "avg", "mean", "median", "trimmed_mean"
    )


def refused_here(main, flags, words):
    """Call a program's main in this process; it must refuse with one line that has all words."""
    with pytest.raises(SettingsError) as raised:
        main(flags)
    assert "\n" not in str(raised.value)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--attack", "honest"], ("'honest' is not an attack", "--evil 0")),
        (["--split", "fair"], ("fair", "iid", "dirichlet", "groups")),
        (["--vote-attack", "maybe"], ("maybe", "always_accept")),
        (["--data", "minst"], ("minst", "mnist5k", "digits")),
        (["--attack", "backdoor", "--task", "flip"], ("flip", "label_flip", "pixel")),
        (["--attack", "backdoor", "--task", "semantic"], ("needs a target",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_name_lists_the_known_for_agents(flags, words, there):
    """A misspelt split, lie or data set is one sentence with the names there are."""
    refused_here(spawn.main, [*there, *flags], words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "gpt"], ("gpt", "classifier", "mlp")),
        (["--codec", "gif"], ("gif", "float32", "int8+zstd")),
        (["--validators", "5", "--quorum", "9"], ("validation.quorum", "0 to", "(5)")),
        (["--judge", "jury"], ("jury", "lof", "calibrated")),
        (["--set", "validation.options={ reading = 'E' }"], ("'E'", "A, B, C, D")),
        (["--set", "validation.options={ false_alarm = 0.1 }"], ("false_alarm", "reading")),
        (["--judged-by", "server"], ("data.server", "to judge with")),
        (["--set", "agents.attack=backdoor", "--set", "backdoor.task=flip"], ("label_flip",)),
        (["--set", "agents.attack=backdoor", "--set", "backdoor.source=11"], ("0..9, not 11",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_name_lists_the_known_for_the_aggregator(flags, words, closed):
    """A misspelt model or codec, or a quorum nobody can reach, is one sentence."""
    refused_here(aggregator.main, ["--broker", closed, *SMALL, "--model", "mlp", *flags], words)


@pytest.mark.parametrize("program", ["spawn", "aggregator"])
def test_without_a_broker_they_wait_and_say_how_to_start_one(program, closed, tmp_path):
    """Where nobody listens, programs say where they looked and what to type; Ctrl-C ends them."""
    port = closed.rpartition(":")[2]
    lonely = [*AGGREGATOR, "--model", "mlp", "--runs", str(tmp_path)]
    words = [*(SPAWN if program == "spawn" else lonely), "--broker", closed, *SMALL]
    with Started(words, ROOT, tmp_path / "log") as waiting:
        waiting.says("waiting until one does (Ctrl-C ends)")
        text = waiting.log.read_text()
        assert f"no MQTT broker answers at {closed} (Connection refused)" in text
        assert f"start one with 'fedjury broker --port {port}'" in text
        waiting.interrupt()
        assert waiting.child.wait(IN_TIME) == 130
        assert "Traceback" not in waiting.log.read_text()


def test_data_that_cannot_be_downloaded(closed):
    """Without internet a data set to download fails soon, and names those that need none."""
    started = time.monotonic()
    refused(
        [*AGGREGATOR, "--broker", closed, "--data", "mnist", "--data-root", "/nonexistent-x"],
        "mnist",
        "digits",
        "mnist5k",
    )
    assert time.monotonic() - started < 20


def test_whole_federation_refuses_what_its_agents_refuse(tmp_path):
    """A mistake that is the agents' to notice is refused before anything starts."""
    code, _, errors = said(
        [*RUN, *SMALL, "--model", "mlp", "--n", "9", "--attack", "bribe", "--runs", str(tmp_path)]
    )
    assert code == 2
    assert errors.startswith("error: unknown attack: 'bribe'; valid: adaptive, alie, ")
    assert errors.count("\n") == 1


# ---------------------------------------------------------------- the import path


def test_import_leaves_the_path_and_the_standard_library_alone():
    """Importing agents.spawn changes nothing on the path; attacks/random.py shadows nothing."""
    code = (
        "import sys; before = list(sys.path)\n"
        "import fedjury.agents.spawn, fedjury.attacks, random\n"
        "print(sys.path == before, hasattr(random, 'SystemRandom'))"
    )
    assert said(["-c", code])[1:] == ("True True\n", "")


# ---------------------------------------------------------------- being stopped


class Started:
    """A program in a session of its own, like one in a terminal, its output in a file."""

    def __init__(self, arguments, folder, log=None):
        self.mark = uuid.uuid4().hex
        self.log = log or folder / "output.log"
        with self.log.open("wb") as output:
            self.child = warm.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env=offline(self.mark),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.family():
            os.kill(process, signal.SIGKILL)
        self.child.wait()

    def says(self, words, seconds=60):
        """Wait until these words are in the output."""
        until(lambda: words in self.log.read_text() or self.child.poll() is not None, seconds)
        assert words in self.log.read_text()

    def interrupt(self):
        """Press Ctrl-C: the terminal sends it to the whole process group."""
        os.killpg(self.child.pid, signal.SIGINT)

    def family(self):
        """Return the process ids of all that it started and that still run."""
        return [int(p.name) for p in Path("/proc").glob("[0-9]*") if self._ours(p)]

    def _ours(self, process):
        # What is forked has the environment that its parent began with: there its session tells.
        with contextlib.suppress(OSError):
            environment = (process / "environ").read_bytes()  # nothing, of one that has ended
            ours = os.getsid(int(process.name)) == self.child.pid
            return f"{MARK}={self.mark}".encode() in environment or (ours and bool(environment))
        return False


@pytest.mark.parametrize(
    ("stop", "n", "processes"),
    [(signal.SIGINT, 60, 2), (signal.SIGTERM, 10, 1)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_agents_wait_and_say_goodbye(stop, n, processes, address, there, tmp_path):
    """Agents without an aggregator say that they wait; stopped, they leave as offline, in time.

    So does an aggregator without agents.
    """
    run = f"stop-{stop:d}"
    flags = [*SMALL, "--n", f"{n}", "--evil", "0.2", "--processes", f"{processes}", "--run", run]
    lonely = [
        *AGGREGATOR,
        *there,
        *SMALL,
        "--model",
        "mlp",
        "--run",
        "lonely",
        "--runs",
        str(tmp_path),
    ]
    with (
        RawClient(address, f"fl/v2/{run}/agent/+") as witness,
        Started([*SPAWN, *there, *flags], tmp_path) as agents,
        Started(lonely, ROOT, tmp_path / "lonely.log") as alone,
    ):
        alone.says("waiting for agents")
        alone.child.send_signal(stop)
        assert alone.child.wait(IN_TIME) == 130
        text = alone.log.read_text()
        assert text.count("with --run lonely the same command resumes it") == 1
        assert "Traceback" not in text
        agents.says(f"{n} agents ({n // 5} fake: mpaf)")
        agents.says(f"all {n} agents are connected")
        if stop is signal.SIGINT:
            agents.says("waiting for an aggregator")
            agents.interrupt()
        else:
            agents.child.send_signal(stop)
        assert agents.child.wait(IN_TIME) == 130
        text = agents.log.read_text()
        assert "stopping: the agents leave" in text
        assert "Traceback" not in text
        until(lambda: offline_agents(witness) == n)
        until(lambda: not agents.family(), IN_TIME)


def offline_agents(witness):
    """Count the agents whose last word was that they are offline."""
    last = {m.topic: json.loads(m.payload)["online"] for m in list(witness.heard)}
    return list(last.values()).count(False)


def endless(folder, name):
    """Start a small federation that would run for hours."""
    flags = [
        *SMALL,
        "--model",
        "mlp",
        "--n",
        "20",
        "--evil",
        "0",
        "--rounds",
        "100000",
        "--processes",
        "1",
        "--run",
        name,
        "--runs",
        str(folder),
    ]
    return Started([*RUN, *flags], folder)


def broker_of(federation):
    """Return the process id of a federation's private broker."""
    (found,) = (
        pid
        for pid in federation.family()
        if b"fedjury.broker.embedded" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return found


@pytest.mark.parametrize(
    ("stop", "broker"),
    [(signal.SIGINT, "there"), (signal.SIGTERM, "stopped"), (signal.SIGINT, "gone")],
    ids=["Ctrl-C", "SIGTERM, broker stopped", "Ctrl-C, broker gone"],
)
def test_an_interrupt_leaves_nothing_of_a_federation_behind(tmp_path, stop, broker):
    """Stopped in mid-run, broker, aggregator and agents end within five seconds; the exit is 130.

    Also where the broker does not answer, or is no longer there.
    """
    with endless(tmp_path, "long") as federation:
        federation.says("round   2/100000", 90)
        assert len(federation.family()) >= 4
        port = re.search(r"127\.0\.0\.1:(\d+)", (tmp_path / "long" / "agents.log").read_text())[1]
        if broker == "stopped":
            os.kill(broker_of(federation), signal.SIGSTOP)
        elif broker == "gone":
            os.kill(broker_of(federation), signal.SIGKILL)
            federation.says("the connection to the broker is lost")
        if stop is signal.SIGINT:
            federation.interrupt()
        else:
            federation.child.send_signal(stop)
        assert federation.child.wait(IN_TIME) == 130
        until(lambda: not federation.family(), IN_TIME)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)), timeout=1)
        text = federation.log.read_text()
        assert text.count("the same command resumes it") == 1
        log = (tmp_path / "long" / "agents.log").read_text()
        assert "stopping: the agents leave" in log
        assert "Traceback" not in text + log


def test_a_killed_federation_leaves_nothing_behind(tmp_path):
    """Kill -9 of the one command ends broker, aggregator and agents all the same."""
    with endless(tmp_path, "killed") as federation:
        federation.says("round   2/100000", 90)
        federation.child.kill()
        federation.child.wait(IN_TIME)
        until(lambda: not federation.family(), 20)


class Deaf:
    """A program that says when it is up, and how it was told to end."""

    def __init__(self, file):
        self.file = file

    def main(self):
        """Wait to be told."""
        self.file.write_text("up")
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.2)  # a second interrupt would tear this apart
            self.file.write_text("told once")
        return 130


def test_a_part_of_a_federation_is_told_to_end_by_one_alone(tmp_path):
    """Ctrl-C in a terminal reaches all: aggregator and agents wait until run.py tells them."""
    file, running = tmp_path / "said", []
    parts.start(running, parts.Part("deaf", Deaf(file).main))
    try:
        until(lambda: file.exists() and file.read_text() == "up")
        os.kill(running[0].pid, signal.SIGINT)
        time.sleep(0.1)
        assert running[0].exitcode is None
    finally:
        processes.end(running, run.GOODBYE)
    assert (running[0].exitcode, file.read_text()) == (130, "told once")


# ---------------------------------------------------------------- the end of a run


def retained(address, run):
    """Return what is retained of a run at the broker: topic -> payload."""
    with RawClient(address, f"fl/v2/{run}/#", "fl/v2/end/of/it") as late:
        late.publish("fl/v2/end/of/it", b"end")
        until(lambda: late.payloads("end/of/it"))
        return {m.topic: m.payload for m in late.heard if m.retain}


def test_a_run_can_be_forgotten(address, there, tmp_path):
    """With --forget nothing of a run is left at the broker once it is over, whoever it was for."""
    flags = [
        *SMALL,
        "--model",
        "mlp",
        "--n",
        "20",
        "--evil",
        "0",
        "--rounds",
        "2",
        "--forget",
        "--validators",
        "3",
        "--quorum",
        "2",
        "--run",
        "gone",
        "--runs",
        str(tmp_path),
    ]
    with RawClient(address, "fl/v2/gone/#") as witness:
        code, _, errors = said([str(ROOT / "run.py"), *there, *flags])
        assert (code, errors) == (0, "")
        heard = {m.topic for m in witness.heard if m.payload}
        assert heard >= {f"fl/v2/gone/{w}" for w in ("manifest", "model", "history/2", "log/round")}
        assert sum("gone/agent/" in topic for topic in heard) == 20
    # Settings lie nowhere in between, where another run's could be read instead.
    assert not [*tmp_path.rglob("*.toml")]
    assert retained(address, "gone") == {}


def test_killed_before_it_could_say_that_all_is_done(address, there, tmp_path, capsys):
    """The same command says "done", and the agents leave; all that is left then is to forget."""
    flags = [*there, *SMALL, "--run", "late"]
    mine = [*flags, "--model", "mlp", "--agents", "5", "--runs", str(tmp_path)]
    file = tmp_path / "late" / "rounds.jsonl"
    with (
        Started([*SPAWN, *flags, "--n", "5", "--evil", "0"], tmp_path) as agents,
        Started([*AGGREGATOR, *mine, "--rounds", "100000"], ROOT, tmp_path / "log") as doomed,
    ):
        until(lambda: file.exists() and file.read_text().count("\n") > 2, 60)
        doomed.child.kill()
        doomed.child.wait()
        lines = file.read_text().splitlines(keepends=True)
        rounds = str(len([line for line in lines if line.endswith("\n")]))
        assert agents.child.poll() is None
        assert aggregator.main([*mine, "--rounds", rounds]) == 0
        assert "done: accuracy" in capsys.readouterr().out
        assert agents.child.wait(10) == 0
        assert "the run is done; the agents have left" in agents.log.read_text()
    left = retained(address, "late")
    assert json.loads(left["fl/v2/late/round"])["phase"] == "done"
    assert json.loads(left["fl/v2/late/log/round"])["round"] == int(rounds)
    with pytest.raises(SettingsError, match=f"^run 'late' has its {rounds} rounds already"):
        aggregator.main([*mine, "--rounds", rounds])
    assert aggregator.main([*mine, "--rounds", rounds, "--forget"]) == 0
    assert retained(address, "late") == {}
