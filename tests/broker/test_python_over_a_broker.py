"""A federation in Python over a real broker, and the same one simulated."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from statistics import median

import numpy as np
import pytest
from support.listening import until
from support.network import KIND
from support.strangers import Caller

import fedjury
from fedjury.broker import enrol
from fedjury.broker.local import local_broker

SIZES = {"site-a": 37, "site-b": 120, "site-c": 3}


def walking(name, where="memory:", run="walk", **given):
    """Make a device that takes a step drawn from the turn's seed, in NumPy."""
    device = fedjury.Device(name, where, run=run, **{"say": list, **given})

    @device.train
    def train(model, turn):
        model["w"] += np.random.default_rng(turn.seed).standard_normal(50)
        return fedjury.Trained(SIZES[name], {"length": float(np.linalg.norm(model["w"]))})

    @device.evaluate
    def evaluate(model, turn):
        return fedjury.Metrics(SIZES[name], length=float(np.linalg.norm(model["w"])))

    return device


def weights():
    return {"w": np.zeros(50)}


@contextmanager
def running(devices):
    """Let devices take part, each in a thread, until the block ends."""
    threads = [threading.Thread(target=device.run) for device in devices]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for device in devices:
            device.stop()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)


@pytest.fixture
def conducted():
    """Make federations; those that still run at the end are stopped."""
    made = []

    def make(*args, **given):
        made.append(fedjury.Federation(*args, **given))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_over_a_broker_and_simulated_the_model_is_the_same_bit_for_bit(tmp_path):
    """Three devices over MQTT, and the same three in one process."""
    expected = fedjury.simulate([walking(name) for name in SIZES], model=weights(), rounds=5)
    with local_broker(KIND, say=lambda _: None) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        federation = fedjury.Federation(
            "walk", url, model=weights(), devices=fedjury.Devices(min=3), folder=tmp_path, say=list
        )
        with running([walking(name, url) for name in SIZES]):
            result = federation.run(5)
    assert result.weights.tobytes() == expected.weights.tobytes()
    kept = ("round", "accepted", "updates", "length", "train_length")
    assert [[row[key] for key in kept] for row in result.history] == [
        [row[key] for key in kept] for row in expected.history
    ]
    assert result.devices == expected.devices


def test_a_federation_waits_pauses_goes_on_and_stops(tmp_path, conducted):
    """It waits for its second device, opens no round while it is paused, and stops when told to."""
    said = []
    with local_broker(KIND, say=lambda _: None) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        two = fedjury.Devices(min=2)
        federation = conducted(
            "walk", url, model=weights(), devices=two, folder=tmp_path, say=said.append
        )
        records = []
        federation.on_round(records.append)
        with running([walking("site-a", url)]):
            federation.start(10**6)
            until(lambda: "waiting for devices: 1 of 2 are there" in said, 30)
            assert not records
            with running([walking("site-b", url)]):
                until(lambda: len(records) >= 3, 30)
                federation.pause()
                time.sleep(0.5)  # the round that was open ends
                so_far = len(records)
                time.sleep(0.5)
                assert len(records) == so_far
                assert federation.wait(0) is None
                federation.go_on()
                until(lambda: len(records) >= so_far + 3, 30)
            federation.stop()
            result = federation.wait(30)
    assert result.rounds == len(records)
    assert not result.failure


def test_a_device_that_leaves_and_comes_back_costs_no_run(tmp_path, conducted):
    """With two needed, one alone waits; when the other is back, the rounds go on."""
    with local_broker(KIND, say=lambda _: None) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        federation = conducted(
            "walk",
            url,
            model=weights(),
            devices=fedjury.Devices(min=2),
            folder=tmp_path,
            deadline="1s",
            say=list,
            settings={"validation.seconds": 1.0},
        )
        records = []
        federation.on_round(records.append)
        with running([walking("site-a", url)]):
            with running([walking("site-b", url)]):
                federation.start(10**6)
                until(lambda: len(records) >= 2, 30)
            time.sleep(2.5)
            alone = len(records)
            time.sleep(1)
            assert len(records) == alone
            with running([walking("site-c", url)]):
                until(lambda: len(records) >= alone + 2, 30)
                federation.stop()
                result = federation.wait(30)
    assert not result.failure
    assert result.records[-1].updates == 2


def test_a_device_whose_train_function_never_returns_costs_nobody_else(tmp_path, conducted):
    """One round waits for it until the deadline; the later ones do not, and go on without it."""
    deadline, asked, let_go = 1.0, threading.Event(), threading.Event()
    with local_broker(KIND, say=lambda _: None) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        stuck = walking("site-c", url)

        @stuck.train
        def train(model, turn):
            asked.set()
            let_go.wait(60)
            return fedjury.Trained(1)

        federation = conducted(
            "walk",
            url,
            model=weights(),
            devices=fedjury.Devices(min=2),
            folder=tmp_path,
            deadline=f"{deadline:g}s",
            say=list,
            settings={"collect.missed": 1, "collect.agents": 3},
        )
        records = []
        federation.on_round(records.append)
        with running([walking("site-a", url), walking("site-b", url), stuck]):
            try:
                federation.start(10**6)
                assert asked.wait(20)
                until(lambda: len([r for r in records if r.missing]) >= 4, 20)
                federation.stop()
                result = federation.wait(20)
            finally:
                let_go.set()
    first, *later = (record for record in result.records if record.missing)
    assert first.timing.seconds >= deadline
    assert median(record.timing.seconds for record in later) < deadline
    assert {(r.absent, r.updates, r.accepted) for r in (first, *later)} == {(("site-c",), 2, True)}


def test_what_cannot_be_is_raised_by_wait(tmp_path, conducted):
    """A folder that another process's run is in, told where the result is asked for."""
    federation = conducted("walk", "memory:", model=weights(), folder=tmp_path, say=list)
    federation.start(1)
    with pytest.raises(Exception, match=r"fedjury\.simulate"):
        federation.wait(30)


@pytest.mark.skipif(KIND != "mosquitto", reason="log-ins need Mosquitto")
def test_a_device_is_in_two_runs_with_one_login(tmp_path, conducted):
    """So is the aggregator; an agent that calls itself like the device does not throw it out."""
    enrol.main(
        ["--name", "site-a", "--name", "mallory", "--many-runs", "--folder", str(tmp_path / "s")]
    )
    with local_broker(KIND, say=lambda _: None, secrets=tmp_path / "s") as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        reach = {"secrets": tmp_path / "s", "say": list}
        federations = [
            conducted(name, url, model=weights(), folder=tmp_path, **reach)
            for name in ("walk", "run")
        ]
        devices = [walking("site-a", url, run=name, **reach) for name in ("walk", "run")]
        records = []
        federations[0].on_round(records.append)
        watching = (tmp_path / "s" / "people" / "watch.password").read_text()
        there = "fl/v2/+/agent/site-a"
        with Caller(broker, "watch", watching, there) as watch, running(devices):
            for each in federations:
                each.start(10**6)
            until(lambda: len(records) >= 2, 30)
            password = (tmp_path / "s" / "agents" / "mallory.password").read_text()
            for taken in ("walk.site-a", "run.site-a", "walk.:aggregator", "site-a"):
                with Caller(broker, "mallory", password, client_id=taken) as caller:
                    assert caller.let_in
            seen = len(records)
            until(lambda: len(records) >= seen + 2, 30)
            time.sleep(0.5)
            told = [topic for topic, _ in watch.heard]
            assert sorted(told) == ["fl/v2/run/agent/site-a", "fl/v2/walk/agent/site-a"]
            for each in federations:
                each.stop()
            results = [each.wait(30) for each in federations]
    for result in results:
        assert result.rounds >= 2
        assert {row["updates"] for row in result.history} == {1}
        assert {row["missing"] for row in result.history} == {0}


def test_a_federation_may_be_below_another_topic(tmp_path):
    """Its setting and the device's root are the same, and they hear each other there."""
    root = "plant-7/fl"
    with local_broker(KIND, say=lambda _: None) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        device = fedjury.Device("site-a", url, run="walk", root=root, say=lambda _: None)
        device.train(lambda model, turn: fedjury.Trained(1))
        where = {"broker.root": root}
        federation = fedjury.Federation(
            "walk", url, model=weights(), folder=tmp_path, say=list, settings=where
        )
        with running([device]):
            assert federation.run(2).rounds == 2
