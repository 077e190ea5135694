"""Spawned agents: their processes, which join a run, and what is told of them until it is done."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fedjury.agents.assembly import CHUNK, parts, processes_for, simulated_agents_of
from fedjury.agents.shares import MOST, Claims, claimed
from fedjury.agents.work import device_of, work, work_devices
from fedjury.agents.worker_pool import WorkerPool
from fedjury.config.settings import Settings, explained
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.credentials import BrokerAddress, address_of, first_known
from fedjury.protocol.finding import with_log_ins
from fedjury.protocol.runs import await_newest
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.open_files import make_room
from fedjury.protocol.transport.waiting import patiently

REBALANCE = 1.0
"""Seconds between two looks whether replicas have come or gone."""


def spawn(settings: Settings, *, named: bool = True) -> int:
    """Start the processes of a fleet, and wait until the run is done; returns the exit code.

    ``named``: whether the run to join was chosen; if not, it is the newest at the broker.
    """
    n = settings.agents.n
    if not settings.agents.common:
        index, count = settings.agents.part
        numbers = parts(range(n), count)[index - 1]
        cut = parts(numbers, processes_for(settings, len(numbers)))
        return join(settings, dict(enumerate(cut)), named=named)
    count = min(MOST, max(1, n // CHUNK))
    with claimed(Path(settings.agents.common), count) as claims:
        first_shares(claims)
        return join(settings, dict(enumerate(parts(range(n), count))), claims, named=named)


def join(
    settings: Settings, cut: dict[int, range], claims: Claims | None = None, *, named: bool
) -> int:
    """Let agents join a run, and wait until it is done.

    ``cut``: the numbers of the agents of each process, of which the ``claims`` say which are ours;
    without them all are.
    """
    ours = dict(cut) if claims is None else {share: cut[share] for share in claims.held}
    numbers = [number for part in ours.values() for number in part]
    make_room(max(map(len, ours.values()), default=0), "agents", ", or take more --processes")
    own = settings.agents.devices
    name = (lambda i: device_of(own, i).name) if own else partition_spec_of(settings).name
    broker = with_log_ins(settings.broker, "agents", lambda: map(name, numbers), say)
    settings = settings.replaced(broker=broker)
    address = address_of(settings.broker, "agents")
    with explained():
        principal = first_known(address, map(name, numbers))
    patiently(lambda: probe(address, principal), say)
    if own:
        if not named:
            settings = in_newest(settings, address, principal)
        say(f"{len(numbers):,} devices of {own} join run {settings.run.name!r} at {address}")
        pool = WorkerPool(partial(work_devices, settings), ours, say)
        return supervise(pool, progress(len(numbers), 0), tending(settings, pool, cut, claims))
    simulated = simulated_agents_of(settings)
    with explained():
        data = simulated.check()
        notes = simulated.repeats(data), simulated.holdings(data, numbers)
    for note in (*notes, simulated.hint(numbers), *data.notes):
        if note:
            say(note)
    if not named:
        settings = in_newest(settings, address, principal)
    malicious = sum(number in simulated.without_data for number in numbers)
    kind = "evil" if simulated.spec.holding else "fake"
    say(
        f"{len(numbers):,} agents ({malicious:,} {kind}: {settings.agents.attack}) "
        f"join run {settings.run.name!r} at {address}"
    )
    late = sum(number in simulated.late for number in numbers)
    be = partial(work, settings, simulated, data)
    pool = WorkerPool(be, ours, say, fresh=simulated.device.type == "cuda")
    return supervise(pool, progress(len(numbers), late), tending(settings, pool, cut, claims))


def in_newest(settings: Settings, address: BrokerAddress, principal: str) -> Settings:
    """Return the settings of agents that join the newest run at a broker; wait until there is."""
    newest = await_newest(address, principal, say)
    return settings.replaced(run=settings.run.replaced(name=newest))


def supervise(pool: WorkerPool, shown: Callable[[int], None], tend: Callable[[], bool]) -> int:
    """Run the agents in processes of their own and tell people how they fare.

    What is frozen, the garbage collector does not touch and so does not copy for each (250 MB).
    """
    gc.collect()
    gc.freeze()
    try:
        pool.start()
        errors = pool.watch(shown, tend)
    except KeyboardInterrupt:
        say("stopping: the agents leave")
        return 130
    finally:
        pool.stop()
        pool.close()
    if errors:
        raise TransportError(errors[0])
    say("the run is done; the agents have left")
    return 0


def tending(
    settings: Settings, pool: WorkerPool, cut: dict[int, range], claims: Claims | None
) -> Callable[[], bool]:
    """Return what gives a crew more to do, or less, as replicas go and come."""
    if claims is None:
        return lambda: True
    run, due = settings.run.name, time.monotonic() + REBALANCE

    def tend() -> bool:
        nonlocal due
        if pool.done:
            claims.end(run)
        if claims.ended(run):
            return False
        if time.monotonic() < due:
            return True
        spare = claims.spare()
        for share in spare:
            pool.drop(share)
            claims.give(share)
        taken = claims.take()
        for share in taken:
            pool.add(share, cut[share])
        if spare or taken:
            agents = sum(len(cut[share]) for share in claims.held)
            shares = f"{len(claims.held)} of {claims.count} shares"
            say(f"the number of replicas changed: {agents:,} agents ({shares}) are here now")
        due = time.monotonic() + REBALANCE
        return True

    return tend


def progress(total: int, late: int) -> Callable[[int], None]:
    """Say once when all are connected, and before when all are but those who come late.

    And each time when the last is cut off, and when all who were there are back.
    """
    early = f"{total - late:,} agents are connected, {late:,} more will join later"
    steps = {total - late: early} if 0 < late < total else {}
    steps |= {total: f"all {total:,} agents are connected"}
    most, gone = 0, False

    def shown(connected: int) -> None:
        nonlocal most, gone
        if most and not connected and not gone:
            gone = True
            say("no agent is connected any more: they reconnect when the broker is back")
        elif gone and connected >= most:
            gone = False
            say(f"{connected:,} agents are connected again")
        most = max(most, connected)
        if text := steps.pop(connected, ""):
            say(text)

    return shown


def first_shares(claims: Claims) -> None:
    """Wait until there is something to do for this replica."""
    told = False
    while not claims.take():
        if not told:
            say("other replicas run all agents: waiting until a share is free")
        told = True
        time.sleep(REBALANCE)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
