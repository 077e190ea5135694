"""Devices as processes of their own, on a real broker: examples/device.py, as people start it."""

from __future__ import annotations

import signal

from support.listening import until
from support.network import KIND, Programs

from fedjury.aggregator.store import read_records
from fedjury.broker.local import local_broker
from fedjury.processes import free_port
from fedjury.protocol.credentials import BrokerAddress

ROUNDS = 6
AGGREGATOR = ["--data", "digits", "--validators", "0", "--rounds", str(ROUNDS), "--seed", "1"]


def test_devices_wait_for_their_broker_train_and_stay(tmp_path):
    """Started before the broker they wait; with the run done they wait for the next; SIGTERM ends.

    The second device comes when the first has been waiting alone.
    """
    port = free_port()
    programs = Programs(tmp_path, BrokerAddress("127.0.0.1", port))
    url = f"mqtt://127.0.0.1:{port}"
    devices = [programs.start("examples/device.py", "site-0", url)]
    try:
        until(lambda: "waiting until one does" in devices[0].log.read_text(), 60)
        with local_broker(KIND, say=lambda _: None, port=port):
            flags = ["--broker", f"127.0.0.1:{port}", "--run", "digits", "--agents", "3"]
            server = programs.start(
                "-m", "aggregator", *flags, "--runs", str(tmp_path), *AGGREGATOR
            )
            devices += [programs.start("examples/device.py", f"site-{i}", url) for i in (1, 2)]
            assert server.wait(100) == 0
            records = read_records(tmp_path / "digits")
            assert [r.updates for r in records] == [3] * ROUNDS
            assert records[-1].model.accuracy > 0.7
            assert all(device.poll() is None for device in devices)
            for device in devices:
                device.send_signal(signal.SIGTERM)
            assert [device.wait(10) for device in devices] == [0, 0, 0]
            assert "Traceback" not in "".join(device.log.read_text() for device in devices)
    finally:
        for device in devices:
            device.kill()
            device.wait()
