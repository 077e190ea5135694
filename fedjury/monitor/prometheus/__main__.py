"""The runs on a broker, for Prometheus: fedjury exporter --port 9100."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from fedjury.config import flags
from fedjury.config.settings import Settings, SettingsError
from fedjury.gateway.serving import listen, server_of
from fedjury.monitor import logins
from fedjury.monitor.listener import Listener
from fedjury.monitor.prometheus.metrics import registry_of
from fedjury.protocol.transport.connection import TransportError

EXAMPLES = """  fedjury exporter                    of 127.0.0.1:1883, on port 9100
  fedjury exporter --broker 127.0.0.1:1883 --port 9100
  fedjury exporter --secrets secrets --as exporter   (fedjury.broker.enrol --watch exporter)
  curl -s http://127.0.0.1:9100/metrics"""

EXPECTED = (SettingsError, TransportError)
"""Errors that are one sentence to people."""

PORT = 9100


def main(arguments: Sequence[str]) -> int:
    """Read the flags and serve until Ctrl-C."""
    parser = flags.parser(
        "Listen to the runs on a broker and serve what Prometheus reads under /metrics. The "
        "dashboard for Grafana is in fedjury/monitor/prometheus/grafana/.",
        EXAMPLES,
        flags.LISTENER_FLAGS,
        prog="fedjury exporter",
    )
    flags.add_broker(parser, "where the broker is (default: 127.0.0.1:1883)")
    logins.add_as(parser, "watch")
    parser.add_argument(
        "--run",
        dest="run.name",
        default=None,
        metavar="NAME",
        help="of this run alone (default: of all)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0: any free one")
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.port <= 65535:
        raise SettingsError(f"--port {chosen.port} cannot be: 0 to 65535")
    settings = flags.settings_from(chosen)
    address, principal = logins.login(settings.broker, chosen.person or "")
    named = getattr(chosen, "run.name") or settings.run.name != Settings().run.name
    try:
        listening = listen(chosen.host, chosen.port)
    except (OSError, UnicodeError) as why:
        raise SettingsError(f"cannot listen on {chosen.host} port {chosen.port}: {why}") from why
    with listening:
        listener = Listener(address, principal, settings.run.name if named else "").open()
        host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        port = listening.getsockname()[1]
        print(f"runs at {address}: http://{host}:{port}/metrics", flush=True)
        try:
            server_of(app_of(registry_of(lambda: listener.snapshot))).run(sockets=[listening])
        finally:
            listener.close()
    return 0


def app_of(registry: CollectorRegistry) -> FastAPI:
    """Make what answers over HTTP."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/metrics", response_class=Response)
    async def get_metrics() -> Response:
        """Return what Prometheus reads; 503 if there will be nothing more."""
        try:
            return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
        except TransportError as why:
            return Response(f"{why}\n", 503, media_type="text/plain")

    @app.get("/", response_class=Response)
    async def get_root() -> Response:
        """Say where it is."""
        return Response("fedjury: see /metrics\n", media_type="text/plain")

    return app


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
