"""What Prometheus asks over HTTP, and the answers."""

from __future__ import annotations

import socket

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from fedjury.gateway.serving import server_of
from fedjury.monitor.listener import Listener
from fedjury.monitor.prometheus.metrics import RunsCollector
from fedjury.protocol.transport.connection import TransportError


def serve(listener: Listener, listening: socket.socket) -> None:
    """Answer with what a listener hears, until Ctrl-C."""
    server_of(app_of(RunsCollector(lambda: listener.snapshot))).run(sockets=[listening])


def app_of(collector: Collector) -> FastAPI:
    """Make what answers over HTTP."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/metrics", response_class=Response)
    async def get_metrics() -> Response:
        """Return what Prometheus reads; 503 if there will be nothing more."""
        try:
            return Response(generate_latest(collector), media_type=CONTENT_TYPE_LATEST)
        except TransportError as why:
            return Response(f"{why}\n", 503, media_type="text/plain")

    @app.get("/", response_class=Response)
    async def get_root() -> Response:
        """Say where it is."""
        return Response("fedjury: see /metrics\n", media_type="text/plain")

    return app
