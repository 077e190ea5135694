"""Serve the live page for a broker that does not serve it itself: fedjury page."""

from __future__ import annotations

import argparse
import re
import signal

from fedjury.config.program import Output, Program, run_main
from fedjury.config.run_sections import ROOTS, is_root
from fedjury.config.settings import SettingsError
from fedjury.monitor.web.serving import HOST, PORT, served
from fedjury.protocol.topics import ROOT

EXAMPLES = """examples:
  %(prog)s --broker ws://127.0.0.1:9001
  %(prog)s --broker wss://fl.example.org:8081 --host 0.0.0.0 --port 80

The broker must speak MQTT over websockets. Mosquitto does, and can serve the page itself:
  fedjury broker --port 1883 --page          a private broker on this machine
  fedjury enroll --n 1000 --page             one with logins
  fedjury run --monitor                      with a whole federation
"""


def parser_of(prog: str) -> argparse.ArgumentParser:
    """Return the parser of its flags."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve the live page, which shows the runs on a broker.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--broker",
        required=True,
        type=_websockets,
        metavar="ws://HOST:PORT",
        help="its websocket address, as browsers reach it",
    )
    parser.add_argument("--host", default=HOST, help="address to serve at (default: %(default)s)")
    parser.add_argument("--port", default=PORT, type=int, help="port; 0: a free one (%(default)s)")
    parser.add_argument(
        "--root",
        default=ROOT,
        type=_root,
        metavar="TOPIC",
        help="topic below which the runs are (default: %(default)s)",
    )
    return parser


def work(chosen: argparse.Namespace, output: Output) -> int:
    """Serve the page until Ctrl-C."""
    if not 0 <= chosen.port <= 65535:
        raise SettingsError(f"--port {chosen.port} must be 0 to 65535")
    try:
        with served(chosen.broker, chosen.host, chosen.port, root=chosen.root) as where:
            line = f"the live page: {where}  (stop it with Ctrl-C)"
            output.result(lambda: print(line, flush=True), {"page": where})
            signal.pause()
    except OSError as why:
        where = f"{chosen.host}:{chosen.port}"
        raise SettingsError(f"{where} cannot be used: {why.strerror or why}") from None
    return 0


def _websockets(text: str) -> str:
    if not re.fullmatch(r"wss?://[A-Za-z0-9.:\[\]_-]{1,253}(/[\w./-]*)?", text):
        raise argparse.ArgumentTypeError(f"{text} must be like ws://HOST:PORT or wss://HOST:PORT")
    return text


def _root(text: str) -> str:
    if not is_root(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be {ROOTS}")
    return text


EXPECTED = (SettingsError,)
"""Errors that are one sentence to people."""

main = Program("fedjury page", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
