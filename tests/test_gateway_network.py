"""The gateway as people start it: real sockets, a real broker, and the document's clients."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
from listening import until
from test_network import ENVIRONMENT, KIND, ROOT, Programs

from aggregator import disk
from broker.local import local_broker
from monitor import app, client, clients_sim, gateway, mpaf, serving, trainees
from monitor.state import View
from monitor.visit import GatewayError, Visit

pytestmark = pytest.mark.broker

SMALL = ["--data", "digits", "--model", "mlp", "--broker-kind", KIND, "--port", "0"]
TASK = ["--data", "digits"]


class Door(Programs):
    """A gateway as a child process, and where it and its broker are."""

    def __init__(self, folder, *flags):
        super().__init__(folder, None)
        self.gateway = self.start(
            "-m", "monitor.gateway", *SMALL, "--runs", str(folder), "--run", "net", *flags
        )
        until(lambda: "http://" in self.gateway.log.read_text(), 60)
        said = self.gateway.log.read_text()
        self.address = re.search(r"http://[0-9.:]+", said)[0]
        self.broker = re.search(r"--broker ([0-9.:]+)", said)[1]

    def healthy(self):
        """Say whether there is a broker and a run."""
        return httpx.get(f"{self.address}/healthz").status_code == 200

    def history(self):
        """Return the accuracy history."""
        with Visit(self.address) as visit:
            return visit.accuracy()


@contextlib.contextmanager
def door(folder, *flags):
    """Start a gateway for as long as the with-block lasts."""
    made = Door(folder, *flags)
    try:
        yield made
    finally:
        made.gateway.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            made.gateway.wait(10)
        made.kill()


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """Start `python -m monitor.gateway 10`, with two slots to spare."""
    with door(tmp_path_factory.mktemp("ten"), "10", "--slots", "12") as made:
        until(made.healthy, 60)
        yield made


def history_in(text):
    """Return the accuracy history that a program printed."""
    return json.loads(re.search(r"accuracy: (\[.*\])", text)[1])


# ---------------------------------------------------------------- the document's programs


def test_the_simulation_is_a_command(ten):
    """The document's call: two rounds of eight honest clients and two fakes, and the history."""
    done = subprocess.run(
        [sys.executable, "monitor/clients_sim.py", ten.address, ".2", "10", "1", "8",
         "--rounds", "2", *TASK],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert "8 honest clients and 2 fakes" in done.stdout
    assert len(history_in(done.stdout)) == 3


@pytest.mark.parametrize(("evil", "fakes"), [(0.25, 2), (0, 0), (1, 10)])
def test_the_simulation_takes_part_and_reports(ten, evil, fakes, capsys):
    """Exactly round(10 * evil) fakes, none and all too; the history grows by a round each."""
    before = ten.history()
    assert clients_sim.main([ten.address, str(evil), "10", "1", "8", "--rounds", "2", *TASK]) == 0
    said = capsys.readouterr().out
    assert f"{10 - fakes} honest clients and {fakes} fakes" in said
    assert said.count("10 posted") == 2
    history = history_in(said)
    assert len(history) == len(before) + 2
    assert all(0 <= accuracy <= 1 for accuracy in history)


def test_single_clients_take_the_slots_that_are_left(ten, capsys):
    """client.py and mpaf.py post once, without a name, beside a simulation that fills the round."""
    with ThreadPoolExecutor() as pool:
        one = pool.submit(client.main, [ten.address, "20", *TASK])
        two = pool.submit(mpaf.main, [ten.address, "100"])
        until(lambda: httpx.get(f"{ten.address}/healthz").json()["answered"] == 2, 30)
        assert clients_sim.main([ten.address, "0", "8", "--rounds", "1", *TASK]) == 0
        assert one.result(30) == two.result(30) == 0
    said = capsys.readouterr().out
    assert said.count("posted as http-01") == 2
    assert said.count("accuracy: [") == 3


def test_training_over_http_learns(ten, capsys):
    """What honest clients learn is from the global model: within five rounds it gets better."""
    before = ten.history()[-1]
    assert clients_sim.main([ten.address, "0", "10", "1", "80", "--rounds", "5", *TASK]) == 0
    assert history_in(capsys.readouterr().out)[-1] > before + 0.1


def test_a_sample_size_is_respected(ten):
    """A client holds as many samples as it was told, all different, and its own."""
    data = trainees.load("digits", "data")
    with Visit(ten.address) as visit:
        start = visit.model()
    few, many = (trainees.Honest(data, [3, 4], size, seed=1) for size in (2, 50))
    assert few._indices.shape == (2, 2)
    assert all(len(set(row)) == 50 for row in many._indices.tolist())
    assert not np.array_equal(*many._indices)
    assert not np.array_equal(few.learn(start)[0], many.learn(start)[0])


@pytest.mark.parametrize(
    ("program", "arguments", "word"),
    [
        (client, ["http://127.0.0.1:9"], "no gateway answers"),
        (clients_sim, ["http://127.0.0.1:9", "2"], "percent_evil"),
        (clients_sim, ["http://127.0.0.1:9", "0", "0"], "num_clients"),
        (clients_sim, ["http://127.0.0.1:9", "nan"], "percent_evil"),
        (clients_sim, ["http://127.0.0.1:9", "0", "1" + 12 * "0"], "num_clients"),
        (clients_sim, ["http://127.0.0.1:9", "0", "9", "inf"], "scaling of inf"),
        (clients_sim, ["http://127.0.0.1:9", "0", "9", "1", "-4"], "-4 samples"),
        (clients_sim, ["http://127.0.0.1:9", "--seed", "-1"], "--seed"),
        (client, ["http://127.0.0.1:9", "99999"], "99999 samples"),
        (client, ["http://127.0.0.1:9", "--seed", "-1"], "--seed"),
        (client, ["http://127.0.0.1:9", "--rounds", "-1"], "--rounds"),
        (client, ["http://" + 80 * "a" + ".invalid"], "no gateway answers"),
        (mpaf, ["http://127.0.0.1:9", "nan"], "scaling of nan"),
        (mpaf, ["http://127.0.0.1:9", "1e39"], "scaling of"),
        (mpaf, ["http://127.0.0.1:9", "--patience", "nan"], "--patience"),
        (mpaf, ["no address at all"], "no address"),
    ],
)
def test_mistakes_are_one_sentence(program, arguments, word):
    """A wrong address or number ends a program with one line and exit code 2."""
    with pytest.raises(GatewayError, match=word) as raised:
        program.main(arguments)
    assert "\n" not in str(raised.value)


def test_another_service_is_no_gateway():
    """Whatever JSON its /healthz says: one sentence, and no waiting for a round."""
    other = httpx.MockTransport(lambda _: httpx.Response(200, json={"status": "ok"}))
    visit = Visit("x", httpx.Client(transport=other, base_url="http://x"))
    with visit, pytest.raises(GatewayError, match="is no gateway"):
        visit.next_round(0, 5)


@pytest.mark.parametrize("program", [gateway, client, mpaf, clients_sim])
def test_help_has_examples(program, capsys):
    """Each program explains itself, with an example that can be copied."""
    with pytest.raises(SystemExit):
        program.main(["--help"])
    assert program.EXAMPLES in capsys.readouterr().out


# ---------------------------------------------------------------- with agents, and without a broker


def test_http_and_mqtt_in_one_federation(tmp_path):
    """Two clients over HTTP and five agents on the broker fill rounds of seven together."""
    with door(tmp_path, "7", "--slots", "2", "--rounds", "3") as made:
        made.start(
            "agents/spawn.py", "--n", "5", "--evil", "0", "--samples", "20", "--broker",
            made.broker, "--run", "net", *TASK,
        )  # fmt: skip
        with Visit(made.address) as visit:
            after = 0
            while start := visit.next_round(after, 60):
                for name in ("ann", "bob"):
                    visit.post(start, np.zeros_like(start.weights), 1, name)
                after = start.round
            assert len(visit.accuracy()) == 4
        records = made.records()
    assert [record["updates"] for record in records] == [7, 7, 7]
    assert not any(record["refused"] for record in records)


def test_a_gateway_that_joins_later_waits_for_the_next_round(tmp_path):
    """It joins a run of agents: what was before is null, and its slots are called from then on."""
    with local_broker(KIND, say=lambda _: None) as address:
        made = Programs(tmp_path, address)
        try:
            made.aggregator("--rounds", "100000", "--validators", "0")
            made.agents()
            until(lambda: len(made.records()) > 3, 60)
            where = ["--broker", f"{address.host}:{address.port}", "--run", "net"]
            joining = made.start("-m", "monitor.gateway", *where, "--slots", "2", "--port", "0")
            until(lambda: "http://" in joining.log.read_text(), 60)
            with Visit(re.search(r"http://[0-9.:]+", joining.log.read_text())[0]) as visit:
                after = taken = 0
                while taken < 3:  # each round waits for both of us, once we are called
                    start = visit.next_round(after, 30)
                    with contextlib.suppress(GatewayError):
                        for name in ("ann", "bob"):
                            visit.post(start, np.zeros_like(start.weights), 1, name)
                        after, taken = start.round, taken + 1
                until(lambda: len(visit.accuracy()) > after, 30)
                history = visit.accuracy()
        finally:
            made.kill()
    record = made.records()[after - 1]
    assert (record["updates"], record["refused"]) == (62, {})
    assert history[0] is None
    assert history[after] == record["accuracy"]


def test_a_lost_broker_is_told_and_found_again(tmp_path):
    """Without its broker the gateway says 503; when the broker is back, posts go through again."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        address = first.enter_context(local_broker(KIND, say=lambda _: None))
        made = Programs(tmp_path, address)
        stack.callback(made.kill)
        where = ["--broker", f"{address.host}:{address.port}", "--run", "net"]
        joining = made.start("-m", "monitor.gateway", *where, "--slots", "2", "--port", "0")
        made.start(
            "-m", "aggregator", *where, "--runs", str(tmp_path), "--agents", "2", "--rounds", "9",
            "--data", "digits", "--model", "mlp", "--set", "collect.seconds=600",
        )  # fmt: skip
        until(lambda: "http://" in joining.log.read_text(), 60)
        visit = stack.enter_context(
            Visit(re.search(r"http://[0-9.:]+", joining.log.read_text())[0])
        )
        start = visit.next_round(0, 60)
        first.close()
        until(lambda: httpx.get(f"{visit.address}/healthz").status_code == 503, 10)
        answer = httpx.get(f"{visit.address}/healthz")
        assert answer.json()["error"] == "no_broker"
        with pytest.raises(GatewayError, match="no_broker"):
            visit.post(start, np.zeros_like(start.weights), 1, "ann")
        assert visit.model().version == 0
        stack.enter_context(local_broker(KIND, say=lambda _: None, port=address.port))
        until(lambda: httpx.get(f"{visit.address}/healthz").status_code == 200, 60)
        for name in ("ann", "bob"):
            visit.post(start, np.zeros_like(start.weights), 1, name)
        until(lambda: len(visit.accuracy()) == 2, 60)


# ---------------------------------------------------------------- how it ends


@pytest.mark.parametrize(
    "signs",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C twice"],
)
def test_ctrl_c_ends_everything_in_time(tmp_path, signs):
    """Within five seconds gateway, aggregator and broker are gone, even if a request is half in."""
    with door(tmp_path, "3") as made:
        until(made.healthy, 60)
        children = psutil.Process(made.gateway.pid).children(recursive=True)
        assert len(children) >= 2
        host, port = made.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as half:
            half.sendall(b"POST /model/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
            time.sleep(0.2)
            before = time.monotonic()
            for sign in signs:
                made.gateway.send_signal(sign)
                time.sleep(0.05)
            assert made.gateway.wait(10) == 130
            assert time.monotonic() - before < 5
        gone, alive = psutil.wait_procs(children, timeout=2)
        assert not alive, gone
        assert "Traceback" not in made.gateway.log.read_text()


def test_an_aggregator_that_fails_ends_the_gateway(tmp_path):
    """What the aggregator cannot do is its one sentence, and the gateway does not stay without."""
    with door(tmp_path, "3", "--rule", "avg") as made:
        assert made.gateway.wait(60) == 2
        assert "median" in made.gateway.log.read_text()
        assert "Traceback" not in made.gateway.log.read_text()


def test_a_gateway_that_is_refused_has_written_nothing(tmp_path):
    """A second gateway of a run ends in one sentence, and the first's folder is as it was."""
    with disk.held(tmp_path / "net", "net"):
        before = (tmp_path / "net" / "lock").read_bytes()
        with door(tmp_path, "3") as made:
            assert made.gateway.wait(60) == 2
            assert "run 'net' in " in made.gateway.log.read_text()
        (file,) = (tmp_path / "net").iterdir()
        assert (file.name, file.read_bytes()) == ("lock", before)


@pytest.mark.parametrize(
    ("flags", "threshold", "agents"),
    [
        ([], 100, 100), (["7"], 7, 7), (["--threshold", "7"], 7, 7),
        (["--set", "collect.threshold=7"], 7, 7), (["7", "--set", "collect.threshold=9"], 7, 7),
        (["7", "--set", "collect.agents=20"], 7, 20), (["7", "--set", "collect.agents=2"], 7, 7),
    ],
)  # fmt: skip
def test_the_threshold_is_that_of_the_settings(flags, threshold, agents):
    """A position, a flag, --set or a file, or else 100; all slots are waited for at least."""
    chosen = gateway._parser().parse_args(flags)
    assert gateway._read(chosen) == threshold
    collect = gateway._own(chosen, threshold).collect
    assert (collect.threshold, collect.agents) == (threshold, agents)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["0"], "threshold"), (["--threshold", "x"], "threshold"), (["--slots", "-1"], "--slots"),
        (["--prefix", "a/b"], "--prefix"), (["--port", "99999"], "99999"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--broker", "127.0.0.1:9"], "no MQTT broker"),
    ],
)  # fmt: skip
def test_impossible_flags_are_one_sentence(flags, word):
    """A gateway that cannot be started says why, in one line."""
    with pytest.raises(gateway.EXPECTED, match=word) as raised:
        gateway.main(["--port", "0", *flags])
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------- on a real socket


class Nobody:
    """A desk without a broker."""

    view = View(())

    async def post(self, posted):
        """Nobody gets so far."""


@pytest.fixture
def server(monkeypatch):
    """Serve in a thread, with little patience; yields the address."""
    for name, seconds in (("silent", 0.5), ("longest", 1.0), ("look", 0.1)):
        monkeypatch.setattr(serving.PatientProtocol, name, seconds)
    with serving.listen("127.0.0.1", 0) as listening:
        running = serving.server_of(app.build(Nobody(), "net"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        until(lambda: running.started, 10)
        yield listening.getsockname()
        running.should_exit = True
        thread.join()


def answer_to(address, head, flood=0):
    """Send a head, and zeros until the server hangs up; returns its answer and what it took."""
    sent = 0
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(head)
        with contextlib.suppress(OSError):
            while sent < flood:
                sent += client.send(bytes(65_536))
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := client.recv(65_536):
                answer += more
    return answer, sent


def test_a_hundred_megabytes_are_answered_without_being_read(server):
    """The answer is a 413 and a closed connection, and most of the body was never taken."""
    head = b"POST /model/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    answer, sent = answer_to(server, head + b"Content-Length: 100000000\r\n\r\n", 100_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"error":"too_large"' in answer
    assert sent < 20_000_000  # what lies in the buffers of two sockets


def test_a_hundred_megabytes_in_chunks_are_cut_off(server):
    """A body of unknown size is read up to the limit, and refused."""
    head = b"POST /model/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5f5e100\r\n"
    answer, sent = answer_to(server, head, 100_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 20_000_000


@pytest.mark.parametrize(
    "head", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_silent_connections_are_cut_off(server, head):
    """Who says nothing, half a head, or nothing more after a request, does not stay for ever."""
    before = time.monotonic()
    answer, _ = answer_to(server, head)
    assert 0.3 < time.monotonic() - before < 5
    assert bool(answer) == head.endswith(b"\r\n\r\n")


def test_a_head_that_comes_byte_by_byte_is_cut_off(server):
    """A byte now and then does not keep a connection open."""
    before = time.monotonic()
    with (
        socket.create_connection(server, timeout=10) as client, contextlib.suppress(OSError),
    ):  # fmt: skip
        while time.monotonic() - before < 8:
            client.sendall(b"G")
            time.sleep(0.1)
    assert time.monotonic() - before < 5


def test_a_body_that_never_ends_is_cut_off(server):
    """A request that takes too long is ended, whatever is still to come."""
    before = time.monotonic()
    answer_to(server, b"POST /model/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1")
    assert time.monotonic() - before < 5


def test_what_is_not_http_is_told_so(server):
    """Garbage gets a 400, and the server goes on."""
    assert answer_to(server, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")[0].startswith(b"HTTP/1.1 400")
    assert answer_to(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[0].startswith(
        b"HTTP/1.1 503"
    )
