"""A web server for the live page's files, and nothing else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

FILES = Path(__file__).resolve().parent / "page"
HOST, PORT = "127.0.0.1", 8080
SLOW = 10.0
"""Seconds after which a browser that says nothing is let go."""


class _Files(SimpleHTTPRequestHandler):
    """Hands out files; the address without more leads to the page of our broker."""

    timeout = SLOW

    def __init__(self, *args: object, start: str, **more: object) -> None:
        self.start = start
        super().__init__(*args, **more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/":
            self.send_response(302)
            self.send_header("Location", self.start)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def list_directory(self, path: object) -> None:
        """List nothing."""
        del path
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing of what is asked for."""


@contextlib.contextmanager
def served(broker: str, host: str = HOST, port: int = 0) -> Iterator[str]:
    """Serve the page of a broker for as long as a with-block lasts; yields where.

    ``broker`` is the address of its websockets, as browsers see it; ``port`` 0 is a free one.
    Raises OSError if the port cannot be had.
    """
    start = f"/index.html?{urlencode({'broker': broker}, safe=':/')}"
    server = ThreadingHTTPServer((host, port), partial(_Files, directory=str(FILES), start=start))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
