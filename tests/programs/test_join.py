"""Devices without a line of code: ``fedjury join``, over a real broker, on files of their own."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import warm
from support.listening import until
from support.network import ENVIRONMENT, KIND, ROOT, Programs

from fedjury.aggregator.store import read_records
from fedjury.broker.local import local_broker
from fedjury.processes import free_port
from fedjury.protocol.credentials import BrokerAddress

ROUNDS = 4


def table(path, seed, count=90):
    """Write noisy samples of price = 2 pressure - flow + 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 2))
    price = x @ [2, -1] + 1 + rng.normal(0, 0.1, count)
    lines = [f"{a:.4f},{b:.4f},{c:.4f}" for (a, b), c in zip(x, price, strict=True)]
    path.write_text("\n".join(["pressure,flow,price", *lines]))
    return path


def test_devices_join_with_tables_of_numbers_and_a_model_of_their_own(tmp_path):
    """Three learn a line together and vote on it; one has no samples; SIGTERM lets each leave."""
    port = free_port()
    programs = Programs(tmp_path, BrokerAddress("127.0.0.1", port))
    devices = []

    def join(name, file, *more):
        own = ["--broker", f"mqtt://127.0.0.1:{port}", "--run", "prices", "--name", name]
        own += ["--data", str(file), "--target", "price", "--model", "tests.support.sensor:Sensor"]
        devices.append(programs.start("agents/device.py", *own, *more))

    (tmp_path / "empty.csv").write_text("pressure,flow,price\n")
    join("site-0", tmp_path / "empty.csv")
    try:
        until(lambda: "waiting until one does" in devices[0].log.read_text(), 60)
        with local_broker(KIND, say=lambda _: None, port=port):
            for i in (1, 2):
                join(f"site-{i}", table(tmp_path / f"{i}.csv", i), "--optimizer", "adamw")
            join("site-3", table(tmp_path / "3.csv", 3), "--epochs", "8", "--batch-size", "5")
            server = programs.start(
                "-m",
                "aggregator",
                *("--broker", f"127.0.0.1:{port}", "--run", "prices", "--runs", str(tmp_path)),
                *("--data", str(table(tmp_path / "all.csv", 9)), "--target", "price"),
                *("--model", "tests.support.sensor:sensor", "--rounds", str(ROUNDS)),
                *("--agents", "4", "--validators", "3", "--look-back", "2"),
                *("--set", "training.learning_rate=0.05", "--set", "aggregation.server_lr=1"),
            )
            assert server.wait(100) == 0, server.log.read_text()
            records = read_records(tmp_path / "prices")
            assert [r.updates for r in records] == [3] * ROUNDS
            assert all(r.accepted for r in records)
            assert "site-3" in {name for r in records for name in r.votes.voters}
            last = load_file(tmp_path / "prices" / "models" / f"{ROUNDS:06}.safetensors")
            np.testing.assert_allclose(last["weights"], [2, -1, 1], atol=0.4)
            for device in devices:
                device.send_signal(signal.SIGTERM)
            assert [device.wait(20) for device in devices] == [0] * 4
            logs = "".join(device.log.read_text() for device in devices)
            assert "Traceback" not in logs
            assert "site-0 joins run 'prices' at mqtt" in logs
            assert "with no samples, and sits the rounds out" in logs
    finally:
        for device in devices:
            device.kill()
            device.wait()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--data", "{}"], "which column of {} is to be learnt? name it with --target"),
        (["--data", "{}", "--target", "prize"], "unknown column of {}: 'prize'; did you mean 'pr"),
        (["--data", "{}.txt"], "--data {}.txt must end in .npz, .csv, .parquet"),
        ([], "which samples does this device hold?"),
        (["--data", "{}", "--target", "price", "--loss", "msee"], "unknown loss: 'msee'; did you"),
        (["--data", "{}", "--target", "price", "--epochs", "0"], "epochs must be 1 or more, not 0"),
        (["--data", "{}", "--target", "price", "--model", "acme:N"], "there is no module 'acme'"),
        (["--data", "{}", "--target", "price", "--name", "a/b", "--run", "x"], "the device 'a/b'"),
        (["--data", "{}", "--target", "price", "--broker", "http://x", "--run", "x"], "no transpo"),
        (["--data", "{}", "--target", "price", "--device", "tpu", "--run", "x"], "device must be"),
    ],
)
def test_what_people_do_wrong_is_one_sentence(tmp_path, given, sentence):
    """Exit code 2 and a sentence that names file, column or flag; nothing is connected."""
    file = table(tmp_path / "mine.csv", 1, 5)
    words = ["-m", "fedjury", "join", *(word.format(file) for word in given)]
    done = warm.run(
        [warm.sys.executable, *words],
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert sentence.format(file) in done.stderr
