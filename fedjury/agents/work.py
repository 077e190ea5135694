"""What one process of spawned agents does, from its connection to its last message."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fedjury.agents.assembly import attack_log
from fedjury.agents.worker_pool import Worker
from fedjury.config.program import out_of_memory
from fedjury.config.settings import Settings
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.credentials import BrokerAddress, address_of, first_known
from fedjury.protocol.runs import around, listed
from fedjury.protocol.transport.by_url import transport_at
from fedjury.protocol.transport.connection import Transport, TransportError
from fedjury.protocol.transport.waiting import patiently

if TYPE_CHECKING:
    from fedjury.agents.agent_runner import AgentRunner
    from fedjury.agents.simulated import SimulatedAgents
    from fedjury.learning.datasets.dataset import Dataset

REPORT = 0.2
"""Seconds between two reports of how many agents are connected."""


class Reports:
    """Tells who started the process how its agents fare, whenever they are asked to stop."""

    def __init__(self, worker: Worker, transport: Transport) -> None:
        self._worker, self._transport = worker, transport
        self._last, self._due, self._begun = -1, 0.0, worker.begun
        self._outside: Mapping[str, str] = {}

    def send(self, runner: AgentRunner, *, last: bool = False) -> None:
        """Send what is new; how many are connected not all the time, unless it is the ``last``."""
        now, transport = time.monotonic(), self._transport
        if now >= self._due or last:
            if transport.outside != self._outside:
                self._outside = dict(transport.outside)
                self._worker.send("outside", self._outside)
            if transport.connections != self._last:
                self._last, self._due = transport.connections, now + REPORT
                self._worker.send("connected", max(0, self._last - runner.connections.listeners))
        if runner.took_part and not self._begun:
            self._begun = True
            self._worker.send("begun", True)


def work(settings: Settings, simulated: SimulatedAgents, data: Dataset, worker: Worker) -> None:
    """Be one process of the fleet."""
    import torch  # noqa: PLC0415 - see simulated_agents_of

    from fedjury.agents.batch_assembly import runner_of  # noqa: PLC0415
    from fedjury.agents.waiting import Waiting  # noqa: PLC0415

    torch.set_num_threads(1)  # a process that was not forked does not know yet
    address, run = address_of(settings.broker, "agents"), settings.run.name
    transport = transport_at(address, run)
    reports = Reports(worker, transport)

    def stopping() -> bool:
        reports.send(runner)
        return worker.stopping()

    def say(text: str) -> None:
        worker.send("say", text)

    runner = runner_of(
        simulated,
        data,
        worker.numbers,
        transport,
        say,
        stopping,
        attack_log(settings.agents.attack_log),
        shared=settings.agents.shared_downlink,
        waiting=Waiting(
            run,
            f"run {run!r} at {address}",
            lambda: others(settings, address, worker.numbers),
            time.monotonic(),
        ),
    )
    runner.took_part = worker.begun
    worker.send("end", outcome(lambda: take_part(settings, runner, transport, reports, say)))


def take_part(
    settings: Settings,
    runner: AgentRunner,
    transport: Transport,
    reports: Reports,
    say: Callable[[str], None],
) -> None:
    """Connect when the broker is there, take part to the end of the run, and leave."""
    address = address_of(settings.broker, "agents")
    principal = first_known(address, runner.connections.hearers)
    if patiently(lambda: transport.open(principal), say, runner.stopping):
        runner.run()
        reports.send(runner, last=True)
        transport.close(forget=settings.broker.forget)


def outcome(attempt: Callable[[], None]) -> str:
    """Return the sentence for people with which an attempt ended, or nothing if all was well."""
    try:
        attempt()
    except (TransportError, ValueError) as why:
        return str(why)
    except Exception as why:
        if not (error := out_of_memory(why)):
            raise
        return error
    return ""


def others(settings: Settings, address: BrokerAddress, numbers: range) -> str:
    """Name the runs that are there, asking as the listener of our last agent."""
    listener = f":listener.{partition_spec_of(settings).name(numbers[-1])}"
    return listed(around(address, listener))
