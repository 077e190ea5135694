"""What several test files share: a private broker of either kind, and a small federation."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

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

from support.work_units import scheduler  # noqa: E402

from fedjury.broker.local import local_broker  # noqa: E402
from fedjury.broker.mosquitto import find_mosquitto  # noqa: E402

LANES = ("programs", "broker", "browser", "federation", "unit")
"""The folders of the tests, those with the longest tests first."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark each test with its lane, the folder it lies in; lanes of long tests begin."""
    lanes = {item: item.path.relative_to(TESTS).parts[0] for item in items}
    for item, lane in lanes.items():
        if lane in LANES:
            item.add_marker(lane)
    items.sort(key=lambda item: LANES.index(lanes[item]) if lanes[item] in LANES else -1)


def pytest_collection_finish():
    """Keep what is imported and collected out of the garbage collector's way."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal tests out to workers, in the order of lanes, by ``support.work_units``."""
    return scheduler(config, log)


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request, tmp_path):
    """Start a real broker on a free loopback port; each test runs on both kinds."""
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    with local_broker(request.param, say=lambda _: None, log=tmp_path / "broker.log") as address:
        yield address
