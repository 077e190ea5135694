"""A web server for the live page's files, and nothing else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from fedjury.protocol.topics import ROOT

FILES = Path(__file__).resolve().parent / "page"
HOST, PORT = "127.0.0.1", 8080


@contextlib.contextmanager
def served(broker: str, host: str = HOST, port: int = 0, *, root: str = ROOT) -> Iterator[str]:
    """Serve the page of a broker for as long as a with-block lasts; yields where.

    ``broker`` is the address of its websockets, as browsers see it; ``port`` 0 is a free one;
    ``root`` the topic below which the runs are.
    Raises OSError if the port cannot be had.
    """
    # Packages that a run without a page does without.
    from fastapi import FastAPI  # noqa: PLC0415
    from fastapi.responses import RedirectResponse  # noqa: PLC0415
    from fastapi.staticfiles import StaticFiles  # noqa: PLC0415

    from fedjury.gateway.serving import listen, server_of, url_of  # noqa: PLC0415

    app = FastAPI(openapi_url=None)
    content = {"broker": broker} | ({} if root == ROOT else {"root": root})
    start = f"/index.html?{urlencode(content, safe=':/')}"
    app.add_api_route("/", lambda: RedirectResponse(start, 302))
    app.mount("/", StaticFiles(directory=FILES))
    server = server_of(app)
    with listen(host, port) as listening:
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"{url_of(listening, host)}/"
        finally:
            server.should_exit = True
            thread.join()
