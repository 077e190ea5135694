"""fedjury broker check: which brokers will do, which will not, and that nothing of it is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from support.broker_check import checked, configured, only, verdicts
from support.listening import RawClient, until

from fedjury import cli, processes
from fedjury.broker import enrolment, local, principals
from fedjury.broker.local import HOST
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.config.program import run_main
from fedjury.protocol.credentials import BrokerAddress

pytestmark = pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto on this machine")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(capsys):
    """Return a function that checks a broker."""
    return partial(checked, capsys)


def left_at(url):
    """Return what is retained at a broker below the topics of our runs."""
    host, _, port = url.removeprefix("mqtt://").partition(":")
    address = BrokerAddress(host, int(port))
    with RawClient(address, "fl/#", "end") as client:
        client.publish("end", b"x")
        until(lambda: client.payloads("end"))
        return [one.topic for one in client.heard if one.topic != "end"]


# ---------------------------------------------------------------- which will do


def test_mosquitto_as_it_comes_will_do_with_warnings(check, tmp_path):
    """Its defaults hold a round of a thousand updates, and hardly more."""
    with configured(tmp_path) as (url,):
        code, found = check(url)
        assert code == 0
        slow = ["retained by wildcard", "slow subscriber", "in flight"]
        assert verdicts(found) == {"warning": slow, "failed": []}
        assert found["slow subscriber"]["measured"].startswith("1,020 of 3,000 arrived, 3,000 ack")
        assert found["in flight"]["measured"] == "20 at a time"
        assert left_at(url) == []


@pytest.mark.parametrize("secret", [False, True])
def test_our_own_configuration_will_do_without_a_warning(check, secret, tmp_path):
    """Without logins, and with them and the rules of who may say what."""
    folder, more = None, []
    if secret:
        folder = tmp_path / "secrets"
        enrolment.enrol(folder, principals.principals(3))
        more = ["--secrets", str(folder)]
    with local.local_broker("mosquitto", print, tmp_path / "log", secrets=folder) as there:
        code, found = check(f"mqtt://{HOST}:{there.port}", *more)
    assert (code, verdicts(found)) == (0, {"warning": [], "failed": []})
    refused = "an agent cannot send updates for another"
    assert (found["access"]["measured"] == refused) == secret


def test_what_two_nodes_share_will_do_and_two_brokers_will_not(check, tmp_path):
    """Messages, retained ones, wills and sessions must be the same at both."""
    shared = ("QoS 1", "retained", "last will", "same name twice", "session")
    with configured(tmp_path, ports=2) as urls:
        code, found = check(*urls, *only(*shared))
        assert (code, verdicts(found)) == (0, {"warning": [], "failed": []})
        one, other = (url.removeprefix("mqtt://") for url in urls)
        assert {each["nodes"] for each in found.values()} == {f"{one} to {other}"}
        with configured(tmp_path) as (apart,):
            code, found = check(urls[0], apart, *only("QoS 1", "retained"))
            assert (code, verdicts(found)["failed"]) == (1, ["QoS 1", "retained"])
            assert found["QoS 1"]["measured"] == "0 of 200 arrived, 200 acknowledged"


# ---------------------------------------------------------------- which will not


@pytest.mark.parametrize(
    ("setting", "more", "verdict", "measured"),
    [
        ("max_queued_messages 100", (), "failed", "120 of 3,000 arrived"),
        ("max_queued_messages 100", ("--agents", "50"), "warning", "120 of 150 arrived"),
        ("max_queued_bytes 50000", (), "failed", " of 3,000 arrived"),
    ],
)
def test_a_broker_that_drops_what_waits(check, setting, more, verdict, measured, tmp_path):
    """Whether it will do depends on how many agents there are to be."""
    with configured(tmp_path, setting) as (url,):
        code, found = check(url, *more, *only("slow subscriber"))
    assert code == (verdict == "failed")
    assert found["slow subscriber"]["verdict"] == verdict
    assert measured in found["slow subscriber"]["measured"]


@pytest.mark.parametrize(
    ("setting", "probes", "said"),
    [
        ("retain_available false", ("retained", "retained by wildcard", "last will"), "0x9a"),
        ("max_qos 0", ("QoS 1",), "a subscription with QoS 1 was granted with QoS 0"),
    ],
)
def test_a_broker_that_lacks_what_fedjury_needs(check, setting, probes, said, tmp_path):
    """It says no, and the table why."""
    with configured(tmp_path, setting) as (url,):
        code, found = check(url, *only(*probes))
    assert (code, verdicts(found)["failed"]) == (1, list(probes))
    assert all(said in one["measured"] for one in found.values())


@pytest.mark.parametrize(
    ("setting", "parameters", "verdict", "measured"),
    [
        ("max_packet_size 100000", 13_106, "warning", "64,536 bytes came through; 523,288 did not"),
        ("max_packet_size 100000", 100_000, "failed", "the broker ended the connection"),
        ("message_size_limit 100000", 100_000, "failed", "refused with reason 0x95"),
    ],
)
def test_a_broker_that_takes_no_large_messages(
    check, setting, parameters, verdict, measured, tmp_path
):
    """Whether it will do depends on the model."""
    with configured(tmp_path, setting) as (url,):
        code, found = check(url, "--parameters", str(parameters), *only("payload"))
    assert code == (verdict == "failed")
    assert found["payload"]["verdict"] == verdict
    assert measured in found["payload"]["measured"]


@pytest.mark.parametrize(
    ("setting", "probe"),
    [("sys_interval 0", "$SYS"), ("max_inflight_messages 1", "in flight")],
)
def test_what_fedjury_does_without_is_a_warning(check, setting, probe, tmp_path):
    """Counters that are not there, and messages one by one."""
    with configured(tmp_path, setting) as (url,):
        code, found = check(url, *only(probe))
    assert (code, verdicts(found)) == (0, {"warning": [probe], "failed": []})


def test_a_short_queue_loses_nothing_of_who_reads(check, tmp_path):
    """Messages that are read as they come need no room."""
    with configured(tmp_path, "max_queued_messages 10\nmax_inflight_messages 10") as (url,):
        code, found = check(url, *only("QoS 1"))
    assert (code, verdicts(found)) == (0, {"warning": [], "failed": []})


# ---------------------------------------------------------------- which cannot be asked


def ended(arguments, capsys):
    """Run a check that cannot be; returns its exit code and what it says."""
    with pytest.raises(SystemExit) as end:
        run_main(cli.main, (), ["broker", "check", *arguments])
    return end.value.code, capsys.readouterr().err


def test_where_no_broker_is(capsys):
    """One sentence, and exit code 2."""
    url = f"mqtt://{HOST}:{processes.free_port(HOST)}"
    code, text = ended([url], capsys)
    assert code == 2
    assert text.startswith("error: no MQTT broker answers at ")
    assert text.count("\n") == 1


def test_a_run_that_is_on_is_not_disturbed(capsys, tmp_path):
    """With the aggregator's login we would end its connection."""
    folder = tmp_path / "secrets"
    enrolment.enrol(folder, principals.principals(3))
    with local.local_broker("mosquitto", print, tmp_path / "log", secrets=folder) as there:
        secret = (folder / "aggregator" / "aggregator.password").read_text().strip()
        with RawClient(there, login=("aggregator", secret)) as aggregator:
            state = json.dumps({"online": True, "since": 1.0}).encode()
            aggregator.publish("fl/v2/mine/aggregator", state, retain=True)
            url = f"mqtt://{HOST}:{there.port}"
            code, text = ended([url, "--secrets", str(folder)], capsys)
            assert code == 2
            assert "the aggregator of run 'mine' is connected" in text
            assert not aggregator.lost.is_set()


def test_secrets_of_nobody(capsys, tmp_path):
    """An agent's login is needed too."""
    (tmp_path / "aggregator").mkdir()
    code, text = ended([f"mqtt://{HOST}", "--secrets", str(tmp_path)], capsys)
    assert code == 2
    assert "no secret of an agent is in" in text


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    """What it has retained by then is removed."""
    with configured(tmp_path, "max_queued_messages 100000") as (url,):
        command = [sys.executable, "-m", "fedjury", "broker", "check", url, "--agents", "20000"]
        child = subprocess.Popen([*command, "--only", "retained by wildcard"], cwd=ROOT)
        until(lambda: left_at(url))
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert left_at(url) == []
