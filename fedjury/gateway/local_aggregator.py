"""A federation of the gateway's own: a private broker, and an aggregator beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fedjury.processes import death, dying_with_parent, stop
from fedjury.shipped import PACKAGE

GOODBYE = 2.0
"""Seconds that the aggregator has to end by itself."""


@contextmanager
def local_aggregator(settings: str, password: str, ended: Callable[[int], None]) -> Iterator[None]:
    """Run an aggregator with these settings, in TOML, as long as the with-block lasts.

    ``ended`` is called with its exit code, from another thread, if it ends before that.
    """
    # A file of settings in the run's folder could be another gateway's by the time it is read.
    command = ["-m", "fedjury.aggregator", "--config", "-", "--no-report"]
    # Python finds our programs whatever the folder: paths mean the same to both.
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]))
    child = subprocess.Popen(
        [*dying_with_parent(), sys.executable, *command],
        stdin=subprocess.PIPE,
        # The password is in no argument; and Ctrl-C is for us, who then end it.
        env={**os.environ, "FEDJURY_PASSWORD": password, "PYTHONPATH": path},
        start_new_session=True,
    )
    assert child.stdin is not None
    with suppress(BrokenPipeError), child.stdin:  # one that died at once did not read it
        child.stdin.write(settings.encode())
    leaving = threading.Event()

    def watch() -> None:
        code = child.wait()
        if leaving.is_set():
            return
        if code < 0:  # it could not say so itself
            print(f"error: the aggregator died ({death(code)})", file=sys.stderr, flush=True)
        ended(abs(code))

    watching = threading.Thread(target=watch, name="aggregator", daemon=True)
    watching.start()
    try:
        yield
    finally:
        leaving.set()
        stop(child, GOODBYE)
        watching.join()
