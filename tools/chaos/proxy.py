"""A network between clients and broker that can be stalled, slowed down and cut."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fedjury.broker.local import HOST

T = TypeVar("T")

CHUNK = 65_536
PATIENCE = 10.0


class Proxy:
    """Forwards a port of its own to that of the broker, on a thread of its own."""

    def __init__(self, target: int) -> None:
        self.attempts: list[float] = []
        """When clients have tried to connect (monotonic seconds)."""
        self._target = target
        self._rate = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._call(self._listen)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def stall(self) -> None:
        """Forward nothing any more, in no direction; connections stand, new ones wait."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        """Forward what has waited, and what comes."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def slow(self, rate: float) -> None:
        """Forward so many bytes a second in each direction of each connection; 0: all at once."""
        self._rate = rate

    def cut(self) -> None:
        """Break all connections."""
        self._call(self._cut)

    def close(self) -> None:
        """End it."""
        self._call(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _call(self, what: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have the thread do something, and wait for it."""
        return asyncio.run_coroutine_threadsafe(what(), self._loop).result(PATIENCE)

    # What happens on the thread.

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, HOST, 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts.append(time.monotonic())
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the broker is not there, or this is the end
        finally:
            self._tasks.discard(task)
            self._drop(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        there, here = await asyncio.open_connection(HOST, self._target)
        self._writers.add(here)
        try:
            await asyncio.gather(self._pump(reader, here), self._pump(there, writer))
        finally:
            self._drop(here)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes in one direction; a goodbye is held up by a stall as everything is."""
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if self._rate:
                    await asyncio.sleep(len(data) / self._rate)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        await self._flowing.wait()
        writer.close()

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        await self._cut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)
