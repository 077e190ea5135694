"""What one process of spawned agents does, from its connection to its last message."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fedjury.agents.assembly import attack_log
from fedjury.agents.waiting import Waiting
from fedjury.agents.worker_pool import Worker
from fedjury.config.program import out_of_memory
from fedjury.config.settings import Settings
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.credentials import BrokerAddress, address_of, first_known
from fedjury.protocol.runs import around, listed
from fedjury.protocol.transport.by_url import transport_at
from fedjury.protocol.transport.connection import Transport, TransportError
from fedjury.protocol.transport.waiting import patiently
from fedjury.registry.elsewhere import found_elsewhere
from fedjury.registry.wrong import failure

if TYPE_CHECKING:
    from fedjury.agents.agent_runner import AgentRunner
    from fedjury.agents.device import Device
    from fedjury.agents.simulated import SimulatedAgents
    from fedjury.learning.datasets.dataset import Dataset

Say = Callable[[str], None]

Make = Callable[[Transport, Say, Callable[[], bool]], "AgentRunner"]
"""Transport, what tells people, what says whether to stop -> what takes part."""

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
            gc.freeze()  # a thousand connections are no garbage: they need not be looked through
            self._worker.send("begun", True)


def work(settings: Settings, simulated: SimulatedAgents, data: Dataset, worker: Worker) -> None:
    """Be one process of the fleet."""
    import torch  # noqa: PLC0415 - see simulated_agents_of

    from fedjury.agents.batch_assembly import runner_of  # noqa: PLC0415

    torch.set_num_threads(1)  # a process that was not forked does not know yet
    address = address_of(settings.broker, "agents")

    def make(transport: Transport, say: Say, stopping: Callable[[], bool]) -> AgentRunner:
        return runner_of(
            simulated,
            data,
            worker.numbers,
            transport,
            say,
            stopping,
            attack_log(settings.agents.attack_log),
            shared=settings.agents.shared_downlink,
            waiting=waiting_in(settings, lambda: others(settings, address, worker.numbers)),
        )

    be_process(settings, worker, make)


def work_devices(settings: Settings, worker: Worker) -> None:
    """Be one process of a fleet of devices that somebody else's function makes."""
    from fedjury.agents.device_fleet import fleet_runner  # noqa: PLC0415 - as in ``work``

    def make(transport: Transport, say: Say, stopping: Callable[[], bool]) -> AgentRunner:
        return fleet_runner(
            [device_of(settings.agents.devices, number) for number in worker.numbers],
            transport,
            say,
            stopping,
            shared=settings.agents.shared_downlink,
            waiting=waiting_in(settings, lambda: ""),
        )

    be_process(settings, worker, make)


def device_of(name: str, number: int) -> Device:
    """Make a device by the function of this name.

    Raises
    ------
    ValueError
        If the function cannot be had, fails, or makes something else; one sentence.
    """
    from fedjury.agents.device import Device  # noqa: PLC0415 - a fleet of ours needs none

    make = found_elsewhere("function that makes devices", name, name)
    try:
        made = make(number)
    except Exception as why:
        raise ValueError(f"{name} fails at device {number}: {failure(why)}") from why
    if not isinstance(made, Device):
        raise ValueError(f"{name} made a {type(made).__name__}, not a fedjury.Device")  # noqa: TRY004 - of a setting
    return made


def waiting_in(settings: Settings, elsewhere: Callable[[], str]) -> Waiting:
    """Return what says what the agents of a run wait for."""
    run, address = settings.run.name, address_of(settings.broker, "agents")
    return Waiting(run, f"run {run!r} at {address}", elsewhere, time.monotonic())


def be_process(settings: Settings, worker: Worker, make: Make) -> None:
    """Let what ``make`` returns take part in the run, and tell who started the process of it."""
    transport = transport_at(address_of(settings.broker, "agents"), settings.run.name)
    reports = Reports(worker, transport)

    def stopping() -> bool:
        reports.send(runner)
        return worker.stopping()

    def say(text: str) -> None:
        worker.send("say", text)

    runner = make(transport, say, stopping)
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
