"""Reading what somebody posts: never more than is allowed, and never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

from fedjury.gateway.refusal import InvalidReason, InvalidRequest
from fedjury.protocol.messages import Reason

PER_VALUE, BESIDE = 64, 65_536
"""Bytes of JSON that a parameter may take, generously indented, and what is around them."""

UNKNOWN = 1_000_000
"""Bytes of a body while no model is known."""

MOST = 256_000_000
"""Bytes of a body, whatever the model."""

HELD = 64_000_000
"""Bytes of all bodies that are being read at a time; a single one may be larger."""

SECONDS, RATE = 30.0, 100_000
"""Seconds that a body may take, and bytes for which there is one second more."""


def limit_of(parameters: int | None) -> int:
    """Say how many bytes a body may have, for a model of so many parameters."""
    return min(MOST, PER_VALUE * parameters + BESIDE) if parameters is not None else UNKNOWN


class RequestBodyReader:
    """Reads bodies, and knows how much is being read."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.held = 0
        self._seconds = seconds

    @contextmanager
    def room(self, request: Request, limit: int) -> Iterator[None]:
        """Set room aside for a body, until its request has been answered.

        Raises
        ------
        Refused
            If it says that it is larger than ``limit`` bytes, or there is no room now.
        """
        declared = announced(request)
        if declared > limit:
            raise _too_large(limit)
        needed = declared if declared >= 0 else limit
        if self.held and self.held + needed > HELD:
            raise InvalidRequest(
                InvalidReason.TOO_BUSY, "too many bodies are being read; post again in a second"
            )
        self.held += needed
        try:
            yield
        finally:
            self.held -= needed

    async def read(self, request: Request, limit: int) -> bytes:
        """Read a body of at most ``limit`` bytes.

        Raises
        ------
        Refused
            If it is larger, comes too slowly, or ends before its time.
        """
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._seconds + limit / RATE):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    chunks.append(chunk)
        except TimeoutError:
            raise InvalidRequest(InvalidReason.TOO_SLOW, "the body did not come in time") from None
        except ClientDisconnect:
            raise InvalidRequest(Reason.MALFORMED, "the body ended before its time") from None
        return b"".join(chunks)


def announced(request: Request) -> int:
    """Return what a request says of its body's size (bytes), or -1 if it says nothing.

    Of a body in chunks, Content-Length says nothing (RFC 9112, 6.3).

    Raises
    ------
    Refused
        If that is no number.
    """
    message = request.headers.get("content-length")
    if message is None or "transfer-encoding" in request.headers:
        return -1
    if not (message.isascii() and message.isdigit() and len(message) <= 20):
        raise InvalidRequest(InvalidReason.BAD_REQUEST, "Content-Length is not a number")
    return int(message)


def _too_large(limit: int) -> InvalidRequest:
    return InvalidRequest(Reason.TOO_LARGE, f"a body may have {limit:,} bytes here")
