"""A URL says which transport goes there; ``tests/broker`` speaks to brokers at mqtt and mqtts."""

from __future__ import annotations

import pytest

from fedjury.protocol.messages import Phase, Round
from fedjury.protocol.transport.by_url import address_at, transport_at
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_transport import MqttTransport

BEGUN = Round(1, 0, Phase.TRAIN, 0, "all", (), 1.0)


def test_memory_is_shared_by_name():
    """Who names the same memory hears each other; who names another does not."""
    one, two, other = (transport_at(f"memory:{name}", "lab").open() for name in ("a", "a", "b"))
    for hub in (two, other):
        hub.join("agent-1", Round, presence=False)
    one.send(":aggregator", BEGUN)
    assert two.receive(0).message == BEGUN
    assert other.receive(0) is None


def test_memory_forgets_what_nobody_uses():
    """What was retained in memory is gone when the last who used it has left."""
    first = transport_at("memory:gone", "lab")
    first.send(":aggregator", BEGUN)
    first.close()
    del first
    late = transport_at("memory:gone", "lab")
    late.join("agent-1", Round, presence=False)
    assert late.receive(0) is None


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker.local:7", ("broker.local", 7, False)),
        ("mqtt://broker.local", ("broker.local", 1883, False)),
        ("broker.local:7", ("broker.local", 7, False)),
        ("mqtts://[::1]", ("::1", 8883, True)),
        ("MQTTS://broker.local:7/", ("broker.local", 7, True)),
    ],
)
def test_brokers_are_spoken_to_over_mqtt(url, address):
    """Mqtt is plain, mqtts encrypted, each with its usual port."""
    there = address_at(url)
    assert (there.host, there.port, there.tls) == address
    assert isinstance(transport_at(url, "lab"), MqttTransport)


@pytest.mark.parametrize("scheme", ["http", "amqp", "file"])
def test_a_scheme_that_nobody_speaks_is_one_sentence(scheme):
    """The sentence names the scheme, and all that there are."""
    with pytest.raises(TransportError) as why:
        transport_at(f"{scheme}://broker.local:80", "lab")
    assert str(why.value) == (
        f"no transport speaks {scheme}: a broker is at mqtt://HOST:PORT, at mqtts://HOST:PORT "
        "(TLS), or, within one process, at memory:NAME"
    )


@pytest.mark.parametrize("url", ["mqtt://", "mqtt://h:99999", "mqtt://ann:secret@h", ""])
def test_an_address_that_cannot_be_is_one_sentence(url):
    """What is wrong is said; a password is not."""
    with pytest.raises(TransportError, match=r"the address .* must be HOST:PORT") as why:
        transport_at(url, "lab")
    assert "secret" not in str(why.value)
