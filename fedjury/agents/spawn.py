"""Spawn a fleet of agents that joins a federation: python agents/spawn.py --n 1000 --evil 0.2."""

from __future__ import annotations

import gc
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from fedjury.agents.shares import MOST, Claims, claimed
from fedjury.agents.worker_pool import Worker, WorkerPool
from fedjury.config import flags
from fedjury.config.program import out_of_memory
from fedjury.config.settings import Settings, SettingsError
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.credentials import BrokerAddress, address_of, first_known
from fedjury.protocol.finding import with_log_ins
from fedjury.protocol.runs import around, await_newest, listed
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_transport import MqttTransport, probe
from fedjury.protocol.transport.open_files import make_room
from fedjury.protocol.transport.waiting import patiently

if TYPE_CHECKING:
    from fedjury.agents.simulated import SimulatedAgents
    from fedjury.learning.datasets.dataset import Dataset

EXAMPLES = """  python agents/spawn.py --n 1000 --evil 0.2
  python agents/spawn.py --n 100 --evil 0 --broker broker.local:1883 --run lab
  python agents/spawn.py --n 1000 --evil 0.1 --attack random --scale 10 --split dirichlet
  python agents/spawn.py --n 10000 --shared-downlink
  python agents/spawn.py --n 10000 --shard 2/4 --processes 8
  python agents/spawn.py --n 1000 --shard auto:shards    each that is started takes its part"""

EXPECTED = (SettingsError, TransportError)
"""Errors that are one sentence to people."""

CHUNK = 100
"""Members that train in one batch (``agents.cohort``, whose import would cost seconds here)."""

REPORT = 0.2
"""Seconds between two reports of how many agents are connected."""

REBALANCE = 1.0
"""Seconds between two looks whether replicas have come or gone."""


def main(arguments: Sequence[str]) -> int:
    """Read the flags, and be the fleet of these settings."""
    parser = flags.parser(
        "Spawn agents, honest and fake, that join a federation over MQTT.",
        EXAMPLES,
        flags.AGENT_FLAGS,
        flags.RUN_FLAGS,
        flags.BROKER_FLAGS,
        prog="python agents/spawn.py",
    )
    flags.add_broker(parser, "where the broker listens (default: 127.0.0.1:1883)")
    chosen = parser.parse_args(arguments)
    settings = flags.settings_from(chosen)
    return spawn(settings, named=flags.names_a_run(chosen, settings))


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
    name = partition_spec_of(settings).name
    broker = with_log_ins(settings.broker, "agents", lambda: map(name, numbers), say)
    settings = settings.replaced(broker=broker)
    address = address_of(settings.broker, "agents")
    principal = first_known(address, map(name, numbers))
    patiently(lambda: probe(address, principal), say)
    simulated = simulated_agents_of(settings)
    try:
        data = simulated.check()
        repeats = simulated.repeats(data)
    except ValueError as why:
        raise SettingsError(str(why)) from why
    for note in (repeats, *data.notes):
        if note:
            say(note)
    if not named:
        newest = await_newest(address, principal, say)
        settings = settings.replaced(run=settings.run.replaced(name=newest))
    malicious = sum(number in simulated.without_data for number in numbers)
    kind = "evil" if simulated.spec.holding else "fake"
    say(
        f"{len(numbers):,} agents ({malicious:,} {kind}: {settings.agents.attack}) "
        f"join run {settings.run.name!r} at {address}"
    )

    def be(worker: Worker) -> None:
        work(settings, simulated, data, worker)

    late = sum(number in simulated.late for number in numbers)
    pool = WorkerPool(be, ours, say)
    return supervise(pool, progress(len(numbers), late), tending(settings, pool, cut, claims))


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
        say("stopping: the agents say goodbye")
        return 130
    finally:
        pool.stop()
        pool.close()
    if errors:
        raise TransportError(errors[0])
    say("the run is done; the agents have said goodbye")
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
            say(f"replicas have come or gone: {agents:,} agents ({shares}) are here now")
        due = time.monotonic() + REBALANCE
        return True

    return tend


def progress(total: int, late: int) -> Callable[[int], None]:
    """Say once when all are connected, and before when all are but those who come late.

    And each time when the last is cut off, and when all who were there are back.
    """
    early = f"{total - late:,} agents are connected, {late:,} more come later"
    steps = {total - late: early} if 0 < late < total else {}
    steps |= {total: f"all {total:,} agents are connected"}
    most, gone = 0, False

    def shown(connected: int) -> None:
        nonlocal most, gone
        if most and not connected and not gone:
            gone = True
            say("no agent is connected any more: they try again until the broker is back")
        elif gone and connected >= most:
            gone = False
            say(f"{connected:,} agents are connected again")
        most = max(most, connected)
        if text := steps.pop(connected, ""):
            say(text)

    return shown


def work(settings: Settings, simulated: SimulatedAgents, data: Dataset, worker: Worker) -> None:
    """Be one process of the fleet."""
    from fedjury.agents.simulated import runner_of  # noqa: PLC0415 - see population_of
    from fedjury.agents.waiting import Waiting  # noqa: PLC0415

    address = address_of(settings.broker, "agents")
    transport = MqttTransport(address, settings.run.name)
    last, due, begun = -1, 0.0, worker.begun
    outside: dict[str, str] = {}

    def stopping() -> bool:
        nonlocal last, due, begun, outside
        if transport.outside != outside and time.monotonic() >= due:
            outside = dict(transport.outside)
            worker.send("outside", outside)
        if transport.connections != last and time.monotonic() >= due:
            last, due = transport.connections, time.monotonic() + REPORT
            worker.send("connected", max(0, last - runner.listeners))
        if runner.took_part and not begun:
            begun = True
            worker.send("begun", begun)
        return worker.stopping()

    runner = runner_of(
        simulated,
        data,
        worker.numbers,
        transport,
        lambda text: worker.send("say", text),
        stopping,
        attack_log(settings.agents.attack_log),
        shared=settings.agents.shared_downlink,
        waiting=Waiting(
            settings.run.name,
            f"run {settings.run.name!r} at {address}",
            lambda: others(settings, address, worker.numbers),
            time.monotonic(),
        ),
    )
    runner.took_part = worker.begun
    error = ""
    try:
        principal = first_known(address, runner.parties)
        if patiently(
            lambda: transport.open(principal), lambda text: worker.send("say", text), stopping
        ):
            runner.run()
            due = 0.0
            stopping()  # a run may end before it is time to say again how many are connected
            transport.close(forget=settings.broker.forget)
    except (TransportError, ValueError) as why:
        error = str(why)
    except Exception as why:
        if not (error := out_of_memory(why)):
            raise
    worker.send("end", error)


def others(settings: Settings, address: BrokerAddress, numbers: range) -> str:
    """Name the runs that are there, asking as the listener of our last agent."""
    listener = f":listener.{partition_spec_of(settings).name(numbers[-1])}"
    return listed(around(address, listener))


def attack_log(file: str) -> Callable[[int, float], None]:
    """Let attackers write down when they strike and how strongly, one JSON line each.

    Nothing on the wire says so, and an experiment has to know.
    """

    def send(number: int, strength: float) -> None:
        if file:
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"round": number, "strength": round(strength, 3)}) + "\n")

    return send


def simulated_agents_of(settings: Settings) -> SimulatedAgents:
    """Return the whole fleet that the settings describe."""
    # Imports torch, which takes seconds: not before we know that there is a broker.
    import torch  # noqa: PLC0415

    from fedjury.agents.simulated import SimulatedAgents  # noqa: PLC0415

    # The processes share the cores: threads of their own would only fight, and not survive a fork.
    torch.set_num_threads(1)

    return SimulatedAgents(
        partition_spec_of(settings),
        settings.agents,
        settings.data,
        settings.backdoor,
        settings.aggregation,
        settings.model.name,
        settings.validation.judge,
    )


def processes_for(settings: Settings, members: int) -> int:
    """Say how many processes to use: one a core, but none for less than a chunk of agents."""
    wanted = settings.agents.processes or os.cpu_count() or 1
    return max(1, min(wanted, math.ceil(members / CHUNK)))


def parts(numbers: range, count: int) -> list[range]:
    """Cut a range that begins with a chunk into ``count`` parts that are whole chunks.

    With fewer chunks than parts, parts are cut as they come: a bit may then differ.
    """
    size, step = len(numbers), CHUNK if len(numbers) >= count * CHUNK else 1
    cuts = [round(size * i / count / step) * step for i in range(count)] + [size]
    return [numbers[first:last] for first, last in pairwise(cuts)]


def first_shares(claims: Claims) -> None:
    """Wait until there is something to do for this replica."""
    told = False
    while not claims.take():
        if not told:
            say("other replicas hold all shares of the fleet: waiting until one comes free")
        told = True
        time.sleep(REBALANCE)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
