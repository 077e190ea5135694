"""Uvicorn, with an end to connections that hold on to us without asking for anything."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 1000
"""Clients at a time; more are told to come again later (503)."""

LOOK = 5.0
"""Seconds between two looks at a connection."""

SILENT, LONGEST = 15.0, 600.0
"""Seconds that a connection may take to send a request's head, or stay silent between requests,
and that a request may take with all of its answer. How long a body takes is for ``body.py``."""

GRACE = 1
"""Seconds for answers under way when the server ends."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1, but nobody stays for ever.

    Uvicorn waits without end for a first request, for the end of a head that comes byte by byte,
    and for a client that does not read.
    """

    silent, longest, look = SILENT, LONGEST, LOOK

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at the connection from time to time."""
        super().connection_made(transport)
        self._asked: Any = None
        self._since = self.loop.time()
        self._watch = self.loop.call_later(self.look, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Cut the connection off if it has been in the same state for too long."""
        now = self.loop.time()
        # A request that is being answered, or None between requests.
        asked = self.cycle if self.cycle and not self.cycle.response_complete else None
        unread = self.transport.get_write_buffer_size() > 0
        state = asked or (self.cycle, unread)
        if state != self._asked:
            self._asked, self._since = state, now
        busy = asked is not None or unread
        if now - self._since > (self.longest if busy else self.silent):
            self.transport.abort()
        else:
            self._watch = self.loop.call_later(self.look, self._look)


def listen(host: str, port: int) -> socket.socket:
    """Open the socket on which to serve; port 0 is any free one.

    Raises
    ------
    OSError
        If the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048)
    # Else an answer's body waits 40 ms for its head to be acknowledged; connections inherit it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(listening: socket.socket, host: str) -> str:
    """Return where browsers find what is served at a socket on this host."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}"


class PatientServer(uvicorn.Server):
    """Ends in time: who is still being answered after a moment is hung up on."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop to listen, and end what is under way."""
        asyncio.get_running_loop().call_later(GRACE, self._hang_up)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at the first interrupt; a second, which uvicorn takes for haste, changes nothing."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def server_of(app: FastAPI) -> uvicorn.Server:
    """Make the server of an application; ``run(sockets=[...])`` serves until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_level="warning",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=int(SILENT),
        timeout_graceful_shutdown=2 * GRACE,
        server_header=False,
        date_header=False,
    )
    return PatientServer(config)
