"""An ingest worker finds the broker of its cell, and takes part in a run there."""

from __future__ import annotations

from collections.abc import Callable

from fedjury.cells.worker import IngestWorker, Place
from fedjury.config.sections import Broker
from fedjury.protocol.cells import worker_login_of
from fedjury.protocol.credentials import BrokerAddress, address_of
from fedjury.protocol.transport.connection import Connection
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.mqtt_transport import MqttTransport
from fedjury.protocol.transport.waiting import patiently


def name_in(cell: int) -> str:
    """Return the name under which the worker of a cell connects: none that an agent can have."""
    return f":{worker_login_of(cell)}"


def found(
    broker: Broker,
    cell: int,
    say: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> BrokerAddress:
    """Wait until the broker of a cell answers, or it is to be stopped; returns its address."""
    address = address_of(broker, "workers")
    patiently(lambda: probe(address, name_in(cell)), say, stopped)
    return address


def worker_at(address: BrokerAddress, run: str, place: Place) -> IngestWorker:
    """Return the worker of a cell, connected to its broker."""
    name = name_in(place.cell)
    return IngestWorker(Connection(MqttTransport(address, run, sole=True).open(name), name), place)
