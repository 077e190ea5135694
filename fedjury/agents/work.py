"""What one process of spawned agents does, from its connection to its last message."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fedjury.agents.assembly import attack_log
from fedjury.agents.worker_pool import Worker
from fedjury.config.program import out_of_memory
from fedjury.config.settings import Settings
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.credentials import BrokerAddress, address_of, first_known
from fedjury.protocol.runs import around, listed
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_transport import MqttTransport
from fedjury.protocol.transport.waiting import patiently

if TYPE_CHECKING:
    from fedjury.agents.simulated import SimulatedAgents
    from fedjury.learning.datasets.dataset import Dataset

REPORT = 0.2
"""Seconds between two reports of how many agents are connected."""


def work(settings: Settings, simulated: SimulatedAgents, data: Dataset, worker: Worker) -> None:
    """Be one process of the fleet."""
    import torch  # noqa: PLC0415 - see simulated_agents_of

    from fedjury.agents.simulated import runner_of  # noqa: PLC0415
    from fedjury.agents.waiting import Waiting  # noqa: PLC0415

    torch.set_num_threads(1)  # a process that was not forked does not know yet
    address = address_of(settings.broker, "agents")
    transport = MqttTransport(address, settings.run.name)
    last, due, begun = -1, 0.0, worker.begun
    outside: dict[str, str] = {}

    def stopping() -> bool:
        nonlocal last, due, begun, outside
        if transport.outside != outside and time.monotonic() >= due:
            outside = dict(transport.outside)
            worker.send("outside", outside)
        if transport.connections != last and time.monotonic() >= due:
            last, due = transport.connections, time.monotonic() + REPORT
            worker.send("connected", max(0, last - runner.listeners))
        if runner.took_part and not begun:
            begun = True
            worker.send("begun", begun)
        return worker.stopping()

    runner = runner_of(
        simulated,
        data,
        worker.numbers,
        transport,
        lambda text: worker.send("say", text),
        stopping,
        attack_log(settings.agents.attack_log),
        shared=settings.agents.shared_downlink,
        waiting=Waiting(
            settings.run.name,
            f"run {settings.run.name!r} at {address}",
            lambda: others(settings, address, worker.numbers),
            time.monotonic(),
        ),
    )
    runner.took_part = worker.begun
    error = ""
    try:
        principal = first_known(address, runner.parties)
        if patiently(
            lambda: transport.open(principal), lambda text: worker.send("say", text), stopping
        ):
            runner.run()
            due = 0.0
            stopping()  # a run may end before it is time to say again how many are connected
            transport.close(forget=settings.broker.forget)
    except (TransportError, ValueError) as why:
        error = str(why)
    except Exception as why:
        if not (error := out_of_memory(why)):
            raise
    worker.send("end", error)


def others(settings: Settings, address: BrokerAddress, numbers: range) -> str:
    """Name the runs that are there, asking as the listener of our last agent."""
    listener = f":listener.{partition_spec_of(settings).name(numbers[-1])}"
    return listed(around(address, listener))
