"""What several test files share: a private broker of either kind, and a small federation."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Before torch is imported, and for the programs too: on networks as small as those of tests
threads wait for each other, where the cores are busy most of the time."""

MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    # Hundreds of small runs make each of their files durable: on a disk they wait for little else.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell has it for what runs in the background; programs that we start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from fedjury.broker.local import local_broker  # noqa: E402
from fedjury.broker.mosquitto import find_mosquitto  # noqa: E402

LANES = ("programs", "broker", "browser", "federation", "unit")
"""The folders of the tests, those with the longest tests first."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark each test with its lane, its folder: ``pytest -m unit``. The lanes of long tests begin.

    A worker takes a whole file, but of the long tests each that shares nothing with its file.
    """
    here = Path(__file__).parent
    lanes = {item: item.path.relative_to(here).parts[0] for item in items}
    for item, lane in lanes.items():
        if lane in LANES:
            item.add_marker(lane)
        if lane in ("federation", "unit") or shares(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: LANES.index(lanes[item]) if lanes[item] in LANES else -1)


def shares(item):
    """Return whether a test uses what is made once for its file."""
    made = [found[-1] for found in item._fixtureinfo.name2fixturedefs.values()]
    return any(each.scope == "module" and each.argname != "one_thread" for each in made)


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request, tmp_path):
    """Start a real broker on a free loopback port; each test runs on both kinds."""
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    with local_broker(request.param, say=lambda _: None, log=tmp_path / "broker.log") as address:
        yield address
