"""From an address to the transport that goes there: the one place that knows all of them."""

from __future__ import annotations

from typing import NamedTuple

from fedjury.config.sections import Broker, SettingsError
from fedjury.protocol.credentials import BrokerAddress, address_of
from fedjury.protocol.topics import ROOT, below
from fedjury.protocol.transport.connection import Transport, TransportError
from fedjury.protocol.transport.memory_transport import MemoryTransport, broker_named
from fedjury.protocol.transport.mqtt_transport import MqttTransport


class MemoryAddress(NamedTuple):
    """A broker in the memory of this process, by its name, and the root of our topics there."""

    name: str
    root: str = ROOT

    def __str__(self) -> str:
        return f"memory:{self.name}"


Address = BrokerAddress | MemoryAddress


def address_at(url: str, root: str = ROOT) -> Address:
    """Return what a URL names: memory:NAME, mqtt://HOST:PORT or mqtts://HOST:PORT.

    ``root``: the topic below which the runs are.

    Raises
    ------
    TransportError
        If no transport speaks that, or there can be no such host, port or root.
    """
    try:
        Broker().replaced(root=root)
    except SettingsError as why:
        raise TransportError(str(why)) from None
    scheme, colon, name = url.partition(":")
    if colon and scheme == "memory":
        return MemoryAddress(name, root)
    if name.startswith("//") and scheme.lower() not in ("mqtt", "mqtts"):
        raise TransportError(
            f"no transport speaks {scheme}: a broker is at mqtt://HOST:PORT, at mqtts://HOST:PORT "
            "(TLS), or, within one process, at memory:NAME"
        )
    try:
        return address_of(Broker.at(url).replaced(root=root), "")
    except SettingsError as why:
        raise TransportError(f"the address {why}") from None


def transport_at(where: Address | str, run: str, *, sole: bool = False) -> Transport:
    """Return the transport of a run to an address, or to a URL; it is yet to be opened.

    ``sole``: it ends when another connects under the name of one of its parties.

    Raises
    ------
    TransportError
        If no transport speaks what the URL names.
    """
    address = address_at(where) if isinstance(where, str) else where
    if isinstance(address, MemoryAddress):
        return MemoryTransport(broker_named(address.name), run, below(address.root))
    return MqttTransport(address, run, sole=sole)
