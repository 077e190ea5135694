"""Agents are in cells, and the broker of one, that of the core or the link between them is gone."""

from __future__ import annotations

import time
from random import Random

from fedjury.protocol.membership import GRACE
from tools.chaos.faults.network import RATE
from tools.chaos.faults.outcome import Fault, mid_round
from tools.chaos.harness import PLAIN, Federation, Harness, Result, Setup

OUTAGE = 12.0
"""Seconds that a link is down: less than a cell may be cut off without its agents being missed."""

SLOW = 6.0
"""Seconds that a link is slow, for several rounds."""

DEAD = GRACE + 2.0
"""Seconds that the broker of a cell is gone, where that is too long."""

HASTY: Setup = PLAIN | {
    "run.rounds": 200,
    "collect.seconds": 2.0,
    "collect.min_updates": 8,
    "validation.seconds": 2.0,
}
"""A round does not wait for long, and half of the agents do."""


def cell_killed(harness: Harness, _: Federation, random: Random) -> None:
    """``kill -9`` the broker of a cell, and start it again."""
    broker = random.choice(harness.cells.brokers)
    broker.kill()
    broker.start()


def core_killed(harness: Harness, _: Federation, __: Random) -> None:
    """``kill -9`` the core's broker, and start it again."""
    harness.broker.kill()
    harness.broker.start()


def worker_killed(_: Harness, run: Federation, random: Random) -> None:
    """``kill -9`` the ingest worker of a cell, and start another in its place."""
    cell = random.randrange(len(run.workers))
    run.workers[cell].kill()
    run.workers[cell] = run.ingest(cell + 1)


def link_down(seconds: float) -> Fault:
    """Break the link between a cell and the core for some seconds."""

    def down(harness: Harness, _: Federation, random: Random) -> None:
        harness.cells.down(random.randrange(len(harness.cells.links)), seconds)

    return mid_round(down, cells=True, seconds=60.0 + seconds)


def link_slow(setup: Setup) -> Fault:
    """Give the link between a cell and the core little bandwidth for some seconds."""

    def slow(harness: Harness, _: Federation, random: Random) -> None:
        link = random.choice(harness.cells.links)
        link.slow(RATE)
        time.sleep(SLOW)
        link.slow(0.0)

    return mid_round(slow, setup, cells=True, seconds=60.0 + SLOW)


def undisturbed(*_: object) -> None:
    """Do nothing."""


def gone(harness: Harness, _: Federation, random: Random) -> None:
    """``kill -9`` the broker of a cell, and start it again long after its agents are missed."""
    broker = random.choice(harness.cells.brokers)
    broker.kill()
    time.sleep(DEAD)
    broker.start()


def came_back(run: Federation, result: Result) -> str:
    """Say what is wrong with a run in which a cell was gone: it must be missed, and come back."""
    missed = {cell for record in result.records for cell in record.cells}
    if len(missed) != 1:
        return f"the records say that agents of {len(missed)} cells were missing"
    alone = [r.round for r in result.records if r.selected == run.settings.agents.n // 2]
    if not alone:
        return "no round went on without the agents of that cell"
    last = result.records[-1]
    return "" if last.updates == run.settings.agents.n else f"{last.updates} agents came back"


KEEPING: Setup = PLAIN | {"cells.count": 2}
"""Updates stay in their cells, and only sums of them go up."""

ROWS: dict[str, Fault] = {
    "quiet": mid_round(undisturbed, cells=True),
    "killed": mid_round(cell_killed, cells=True),
    "killed-training": mid_round(cell_killed, cells=True, training=True),
    "core": mid_round(core_killed, cells=True),
    "core-training": mid_round(core_killed, cells=True, training=True),
    "link": link_down(OUTAGE),
    "slow": link_slow(PLAIN),
    "keeping-slow": link_slow(KEEPING),
    "worker": mid_round(worker_killed, KEEPING, cells=True),
    "worker-training": mid_round(worker_killed, KEEPING, cells=True, training=True),
    "keeping-killed": mid_round(cell_killed, KEEPING, cells=True),
    "keeping-core": mid_round(core_killed, KEEPING, cells=True),
    "gone": mid_round(gone, HASTY, cells=True, same=False, seconds=150.0, check=came_back),
}
