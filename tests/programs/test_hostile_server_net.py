"""A hostile aggregator under secure aggregation on a real broker: its agents are MQTT clients."""

from __future__ import annotations

import pytest
from support.hostile_server import N, Server, why
from support.network import KIND

from fedjury.broker.local import local_broker
from fedjury.protocol.secure import UnmaskShares
from fedjury.protocol.transport.by_url import transport_at
from fedjury.secure.opening import opened

WAIT = 0.005
"""Seconds for what is on its way."""


@pytest.fixture
def server():
    """Make a server, with its agents' keys for the first attempt."""
    with local_broker(KIND, say=lambda _: None) as address:
        agents, own = (
            transport_at(f"mqtt://{address.host}:{address.port}", "lab") for _ in range(2)
        )
        agents.open("agent-0")
        own.open("aggregator")
        try:
            made = Server(agents, own, WAIT)
            assert len(made.announce()) == N
            yield made
        finally:
            own.close()
            agents.close()


def test_nobody_gives_both_shares_of_a_neighbour(server):
    """Once more the same answer; asked for another sum each declines, and says nothing else."""
    group = server.masked()
    for name in group.names[1:3]:
        [shares], [again] = (server.asks(group, range(N), name) for _ in range(2))
        assert isinstance(shares, UnmaskShares)
        assert again == shares
        said = server.asks(group, range(1, N), name)
        assert why(said) == {"a second request that differs from the first"}
        assert not server.asks(group, range(N), name)


def test_over_one_model_nobody_is_in_a_second_sum_with_others(server):
    """An honest sum opens; another attempt without one of the members gets no share."""
    result = opened(server.opened(), "lab")
    assert len(result.members) == N
    before = len(server.shares)
    server.announce(1, 2)
    _, said = server.step(server.group(left_out={"agent-3"}))
    assert {text.split(",")[0] for text in why(said)} == {
        "another sum over the same model was opened"
    }
    assert len(server.shares) == before
