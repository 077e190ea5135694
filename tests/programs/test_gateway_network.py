"""The gateway as people start it: real sockets and a real broker."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import threading
import time

import httpx
import numpy as np
import psutil
import pytest
from support.listening import until
from support.network import KIND, Programs

from fedjury.aggregator import durable_files
from fedjury.broker.local import local_broker
from fedjury.gateway import __main__ as gateway
from fedjury.gateway import app, program, serving
from fedjury.gateway.client import GatewayClient, GatewayError
from fedjury.gateway.state import GatewayState

HERE = ["--broker-kind", KIND, "--port", "0"]
SMALL = ("-m", "fedjury.gateway.__main__", "--data", "digits", "--model", "mlp")
TASK = ["--data", "digits"]


def health(address):
    """Ask a gateway how it is; to make ready for HTTPS each time would take most of it."""
    return httpx.get(f"{address}/healthz", verify=False)


class Door(Programs):
    """A gateway as a child process, and where it and its broker are."""

    def __init__(self, folder, program, *flags):
        super().__init__(folder, None)
        where = [*HERE, "--runs", str(folder), "--run", "net"]
        self.gateway = self.start(*program, *where, *flags)
        until(lambda: "http://" in self.gateway.log.read_text(), 100)
        said = self.gateway.log.read_text()
        self.address = re.search(r"http://[0-9.:]+", said)[0]
        self.broker = re.search(r"--broker ([0-9.:]+)", said)[1]

    def healthy(self):
        """Say whether there is a broker and a run."""
        return health(self.address).status_code == 200

    def history(self):
        """Return the accuracy history."""
        with GatewayClient(self.address) as visit:
            return visit.accuracy()


@contextlib.contextmanager
def door(folder, *flags, program=SMALL):
    """Start a gateway for as long as the with-block lasts."""
    made = Door(folder, program, *flags)
    try:
        yield made
    finally:
        made.gateway.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            made.gateway.wait(10)
        made.kill()


# ---------------------------------------------------------------- a session with it


def test_another_service_is_no_gateway():
    """Whatever JSON its /healthz says: one sentence, and no waiting for a round."""
    other = httpx.MockTransport(lambda _: httpx.Response(200, json={"status": "ok"}))
    visit = GatewayClient("x", httpx.Client(transport=other, base_url="http://x"))
    with visit, pytest.raises(GatewayError, match="is not a gateway"):
        visit.next_round(0, 5)


REMOTE = "http://gateway.invalid"
"""A gateway on another machine."""

PROXIES = [
    ("HTTP_PROXY", "http://127.0.0.1:9"),
    ("ALL_PROXY", "socks5://127.0.0.1:9"),
    ("all_proxy", "socks5h://127.0.0.1:9"),
    ("HTTP_PROXY", "ftp://127.0.0.1:9"),
]


@pytest.mark.parametrize(("variable", "proxy"), PROXIES)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_gateway_on_this_machine_is_asked_directly(server, monkeypatch, variable, proxy, host):
    """Whatever proxy the environment names, it is for other machines."""
    monkeypatch.setenv(variable, proxy)
    with GatewayClient(f"http://{host}:{server[1]}") as visit:
        assert visit.accuracy() == []


@pytest.mark.parametrize(("variable", "proxy"), PROXIES)
def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch, variable, proxy):
    """It names the variable, and how to go without: no word of the address, which is right."""
    monkeypatch.setenv(variable, proxy)
    said = rf"by {variable.upper()}; NO_PROXY"
    with pytest.raises(GatewayError, match=said) as raised, GatewayClient(REMOTE) as visit:
        visit.accuracy()
    assert "\n" not in str(raised.value)


def test_no_proxy_goes_without_and_says_nothing_of_it(monkeypatch):
    """NO_PROXY holds: a host that does not exist is just not there."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "gateway.invalid")
    with (
        pytest.raises(GatewayError, match="no gateway answers") as raised,
        GatewayClient(REMOTE) as visit,
    ):
        visit.accuracy()
    assert "PROXY" not in str(raised.value)


# ---------------------------------------------------------------- with agents, and without a broker


def test_http_and_mqtt_in_one_federation(tmp_path):
    """Two clients over HTTP and five agents on the broker fill rounds of seven together."""
    with door(tmp_path, "7", "--slots", "2", "--rounds", "3") as made:
        made.start(
            "agents/spawn.py",
            "--n",
            "5",
            "--evil",
            "0",
            "--samples",
            "20",
            "--broker",
            made.broker,
            "--run",
            "net",
            *TASK,
        )
        with GatewayClient(made.address) as visit:
            for _ in range(3):
                for name in ("ann", "bob"):
                    visit.contribute(lambda start: np.zeros_like(start.weights), 1, name)
                visit.settle(visit.model().round)
            with pytest.raises(GatewayError, match="done"):
                visit.contribute(lambda start: np.zeros_like(start.weights), 1)
            assert len(visit.accuracy()) == 4
        records = made.records()
    assert [record.updates for record in records] == [7, 7, 7]
    assert not any(record.traffic.invalid_messages for record in records)


def test_a_gateway_that_joins_later_waits_for_the_next_round(tmp_path):
    """It joins a run of agents: what was before is null, and its slots are called from then on."""
    with local_broker(KIND, say=lambda _: None) as address:
        made = Programs(tmp_path, address)
        try:
            made.aggregator("--rounds", "100000", "--validators", "0", "--detect", "none")
            made.agents()
            until(lambda: len(made.records()) > 3, 60)
            where = ["--broker", f"{address.host}:{address.port}", "--run", "net"]
            joining = made.start(
                "-m", "fedjury.gateway.__main__", *where, "--slots", "2", "--port", "0"
            )
            until(lambda: "http://" in joining.log.read_text(), 60)
            with GatewayClient(re.search(r"http://[0-9.:]+", joining.log.read_text())[0]) as visit:
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
    assert (record.updates, record.traffic.invalid_messages) == (62, {})
    assert history[0] is None
    assert history[after] == record.model.accuracy


def test_a_lost_broker_is_told_and_found_again(tmp_path):
    """Without its broker the gateway says 503; when the broker is back, posts go through again."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        address = first.enter_context(local_broker(KIND, say=lambda _: None))
        made = Programs(tmp_path, address)
        stack.callback(made.kill)
        where = ["--broker", f"{address.host}:{address.port}", "--run", "net"]
        joining = made.start(
            "-m", "fedjury.gateway.__main__", *where, "--slots", "2", "--port", "0"
        )
        made.start(
            "-m",
            "aggregator",
            *where,
            "--runs",
            str(tmp_path),
            "--agents",
            "2",
            "--rounds",
            "9",
            "--data",
            "digits",
            "--model",
            "mlp",
            "--set",
            "collect.seconds=600",
        )
        until(lambda: "http://" in joining.log.read_text(), 60)
        visit = stack.enter_context(
            GatewayClient(re.search(r"http://[0-9.:]+", joining.log.read_text())[0])
        )
        start = visit.next_round(0, 60)
        first.close()
        until(lambda: health(visit.address).status_code == 503, 10)
        answer = health(visit.address)
        assert answer.json()["error"] == "no_broker"
        with pytest.raises(GatewayError, match="no_broker"):
            visit.post(start, np.zeros_like(start.weights), 1, "ann")
        assert visit.model().version == 0
        stack.enter_context(local_broker(KIND, say=lambda _: None, port=address.port))
        until(lambda: health(visit.address).status_code == 200, 60)
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
    with durable_files.held(tmp_path / "net", "net"):
        before = (tmp_path / "net" / "lock").read_bytes()
        with door(tmp_path, "3") as made:
            assert made.gateway.wait(60) == 2
            assert "run 'net' in " in made.gateway.log.read_text()
        (file,) = (tmp_path / "net").iterdir()
        assert (file.name, file.read_bytes()) == ("lock", before)


@pytest.mark.parametrize(
    ("flags", "threshold", "agents"),
    [
        ([], 100, 100),
        (["7"], 7, 7),
        (["--threshold", "7"], 7, 7),
        (["--set", "collect.threshold=7"], 7, 7),
        (["7", "--set", "collect.threshold=9"], 7, 7),
        (["7", "--set", "collect.agents=20"], 7, 20),
        (["7", "--set", "collect.agents=2"], 7, 7),
    ],
)
def test_the_threshold_is_that_of_the_settings(flags, threshold, agents):
    """A position, a flag, --set or a file, or else 100; all slots are waited for at least."""
    chosen = gateway.main.flags().parse_args(flags)
    assert program.read(chosen) == threshold
    collect = program.own_settings(chosen, threshold).collect
    assert (collect.threshold, collect.agents) == (threshold, agents)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["0"], "threshold"),
        (["--threshold", "x"], "threshold"),
        (["--slots", "-1"], "--slots"),
        (["--prefix", "a/b"], "--prefix"),
        (["--port", "99999"], "99999"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--broker", "127.0.0.1:9"], "no MQTT broker"),
    ],
)
def test_impossible_flags_are_one_sentence(flags, word):
    """A gateway that cannot be started says why, in one line."""
    with pytest.raises(gateway.EXPECTED, match=word) as raised:
        gateway.main(["--port", "0", *flags])
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------- on a real socket


class Nobody:
    """A desk without a broker."""

    state = GatewayState(())

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
        socket.create_connection(server, timeout=10) as client,
        contextlib.suppress(OSError),
    ):
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
