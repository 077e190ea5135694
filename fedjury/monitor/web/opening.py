"""The live page of a broker that was just started: where it is, and a browser to see it in."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import webbrowser
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

from fedjury.broker.local import BrokerAddress
from fedjury.monitor.web.serving import served
from fedjury.protocol.topics import ROOT


@contextlib.contextmanager
def opened(address: BrokerAddress, say: Callable[[str], None], root: str = ROOT) -> Iterator[str]:
    """Say where the page is and open it where there is a screen; yields its address.

    Where the broker does not serve it, we do, as long as the with-block lasts. ``root``: the topic
    below which the runs are.
    """
    with contextlib.ExitStack() as stack:
        where = page_at(address.page, root) if address.page else ""
        where = where or stack.enter_context(served(address.websockets, root=root))
        say(f"the live page: {where}")
        if _screen():
            with contextlib.suppress(webbrowser.Error):
                webbrowser.open(where)
        yield where


def page_at(page: str, root: str) -> str:
    """Return the address at which a page shows the runs below a root."""
    return page if root == ROOT else f"{page}?{urlencode({'root': root}, safe=':/')}"


def stay(where: str, say: Callable[[str], None]) -> None:
    """Keep the page after the run, until Ctrl-C, if there is somebody who could press it."""
    if not sys.stdin.isatty():
        return
    say(f"the page stays at {where} until Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def _screen() -> bool:
    """Say whether a browser would be seen: without a screen a text browser takes the terminal."""
    return sys.platform == "darwin" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
