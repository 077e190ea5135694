"""The gateway at work: a broker and an aggregator where it brings them, and the HTTP server."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from fedjury.broker.local import local_broker
from fedjury.config.settings import Settings
from fedjury.config.toml import to_toml
from fedjury.gateway import app
from fedjury.gateway.broker_session import BrokerWorker, listener_of
from fedjury.gateway.local_aggregator import local_aggregator
from fedjury.gateway.serving import server_of
from fedjury.protocol.credentials import address_of
from fedjury.protocol.transport.by_url import transport_at
from fedjury.protocol.transport.connection import Transport

Say = Callable[[str], None]


def serve(
    settings: Settings,
    listening: socket.socket,
    slots: tuple[str, ...],
    prefix: str,
    greet: Callable[[Settings], object],
    own: str = "",
    say: Say = print,
) -> int:
    """Serve until Ctrl-C; returns the exit code.

    ``slots``: names of the agents that HTTP clients are, which begin with ``prefix``. ``greet``: is
    told the settings once it is there. ``own``: the kind of broker to start, with an aggregator
    beside it; empty to join those that the settings name.
    """
    with ExitStack() as stack:
        if own:
            secrets = Path(settings.broker.secrets) if settings.broker.secrets else None
            ours = stack.enter_context(local_broker(own, say=say, secrets=secrets))
            where = settings.broker.replaced(host=ours.host, port=ours.port)
            settings = settings.replaced(broker=where)
        server = _server(settings, slots, prefix)
        greet(settings)
        codes: list[int] = []
        if own:
            stack.enter_context(_aggregator(settings, server, codes))
        server.run(sockets=[listening])
        return next((code for code in codes if code), 0)


def _aggregator(
    settings: Settings, server: uvicorn.Server, codes: list[int]
) -> AbstractContextManager[None]:
    """Start an aggregator; the server ends with it, unless all rounds are done."""

    def ended(code: int) -> None:
        codes.append(code)
        if code:
            server.should_exit = True

    return local_aggregator(to_toml(settings), settings.broker.password, ended)


def _server(settings: Settings, slots: tuple[str, ...], prefix: str) -> uvicorn.Server:
    """Put worker, application and server together."""

    def connect() -> Transport:
        address = address_of(settings.broker, "agents")
        return transport_at(address, settings.run.name).open(listener_of(prefix))

    session = BrokerWorker(connect, slots, prefix)

    @asynccontextmanager
    async def open_hours(_: FastAPI) -> AsyncIterator[None]:
        session.start()
        yield
        session.stop()

    return server_of(app.build(session, settings.run.name, open_hours))
