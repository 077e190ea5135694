"""The runs on a broker, for Prometheus: fedjury exporter --port 9100."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from fedjury.config import flags
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import Settings, SettingsError
from fedjury.monitor import logins
from fedjury.monitor.listener import Listener
from fedjury.protocol.transport.connection import TransportError

EXAMPLES = """  %(prog)s                    of 127.0.0.1:1883, on port 9100
  %(prog)s --broker 127.0.0.1:1883 --port 9100
  %(prog)s --secrets secrets --as exporter   (fedjury enroll --watch exporter)
  curl -s http://127.0.0.1:9100/metrics"""

EXPECTED = (SettingsError, TransportError)
"""Errors that are one sentence to people."""

PORT = 9100


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = flags.parser(
        "Listen to the runs on a broker and serve what Prometheus reads under /metrics. The "
        "dashboard for Grafana is in fedjury/monitor/prometheus/grafana/.",
        EXAMPLES,
        flags.LISTENER_FLAGS,
        prog=prog,
    )
    flags.add_broker(parser, "address of the broker (default: 127.0.0.1:1883)")
    logins.add_flags(parser, "of this run only (default: of all)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0: any free one")
    return parser


def work(chosen: Namespace, output: Output) -> int:
    """Serve until Ctrl-C."""
    # Serving wants packages that the flags do without.
    from fedjury.gateway.serving import listen, url_of  # noqa: PLC0415
    from fedjury.monitor.prometheus.serving import serve  # noqa: PLC0415

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
        where = f"{url_of(listening, chosen.host)}/metrics"
        line = f"runs at {address}: {where}"
        output.result(lambda: print(line, flush=True), {"metrics": where})
        try:
            serve(listener, listening)
        finally:
            listener.close()
    return 0


main = Program("fedjury exporter", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
