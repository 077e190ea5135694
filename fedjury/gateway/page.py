"""The page of the global model: written once for many who ask, and sent slice by slice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import anyio
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fedjury.gateway.json_tensors import tensors_json
from fedjury.gateway.state import GatewayState
from fedjury.protocol.messages import Vector

SLICE = 65_536
"""Bytes of a model sent at once."""


def where(state: GatewayState) -> tuple[int, str]:
    """Return the number of the round and its phase."""
    now = state.round
    return (now.round, now.phase.value) if now else (max(0, len(state.history) - 1), "waiting")


class Sliced(Response):
    """An answer that goes out slice by slice, so that who reads slowly holds no copy of it all."""

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        """Send it."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for start in range(0, len(self.body), SLICE):
            last = start + SLICE >= len(self.body)
            part = self.body[start : start + SLICE]
            await send({"type": "http.response.body", "body": part, "more_body": not last})


class Written(NamedTuple):
    """A page, what it was written from, and where the round and its settings stood."""

    weights: Vector
    stood: object
    content: bytes


class ModelPage:
    """The JSON of the global model, written once for each version and state of the round."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._lock = asyncio.Lock()
        self._pages: dict[bool, Written] = {}

    async def of(self, view: GatewayState, *, full: bool) -> bytes:
        """Return the state dict of a view that has a model and a manifest.

        If ``full``, with the run, its round and how to train besides.
        """
        assert view.model is not None
        weights = view.model.weights
        state = await self._page(False, weights, None, lambda: _tensors(view))
        if not full:
            return state
        stood = where(view), view.manifest
        return await self._page(True, weights, stood, lambda: self._written(view, state))

    async def _page(
        self, full: bool, weights: Vector, stood: object, write: Callable[[], bytes]
    ) -> bytes:
        """Return the page that was written from this, or have it written now."""
        async with self._lock:
            page = self._pages.get(full)
            if page is None or page.weights is not weights or page.stood != stood:
                page = Written(weights, stood, await anyio.to_thread.run_sync(write))
                self._pages[full] = page
        return page.content

    def _written(self, view: GatewayState, state: bytes) -> bytes:
        model, manifest = view.model, view.manifest
        assert model is not None
        assert manifest is not None
        number, phase = where(view)
        return orjson.dumps(
            {
                "run": self._run,
                "model": manifest.model,
                "round": number,
                "phase": phase,
                "version": model.version,
                "classes": manifest.classes,
                "input_shape": manifest.input_shape,
                "training": {
                    "epochs": manifest.epochs,
                    "batch_size": manifest.batch_size,
                    "learning_rate": manifest.learning_rate,
                    "momentum": manifest.momentum,
                    "loss": manifest.loss,
                    "loss_options": manifest.loss_options,
                    "optimizer": manifest.optimizer,
                    "optimizer_options": manifest.optimizer_options,
                },
                "state": orjson.Fragment(state),
            }
        )


def _tensors(state: GatewayState) -> bytes:
    """Write the global model as a state dict."""
    assert state.model is not None
    assert state.manifest is not None
    return tensors_json(state.model.weights, state.manifest.tensors)
