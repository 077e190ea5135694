"""Spawn a fleet of agents that joins a federation: python agents/spawn.py --n 1000 --evil 0.2."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a script, Python puts agents/ first on the path: 'from agents import ...' would fail, and
# a file there could shadow the standard library. Who imports this keeps the path they have.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import gc
import json
import math
import multiprocessing as mp
import os
import queue
import signal
import socket
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from config import flags
from config.settings import Settings, SettingsError
from protocol.link import LinkError
from protocol.mqtt_link import BrokerAddress, MqttHub, probe

EXAMPLES = """  python agents/spawn.py --n 1000 --evil 0.2
  python agents/spawn.py --n 100 --evil 0 --broker broker.local:1883 --run lab
  python agents/spawn.py --n 1000 --evil 0.1 --attack random --scale 10 --split dirichlet
  python agents/spawn.py --n 10000 --shared-downlink
  python agents/spawn.py --n 10000 --shard 2/4 --processes 8"""

EXPECTED = (SettingsError, LinkError)
"""Errors that are one sentence to people."""

CHUNK = 100
"""Members that train in one batch (``agents.cohort``, whose import would cost seconds here)."""

GOODBYE = 10.0
"""Seconds that processes have to say goodbye."""

REPORT = 0.2
"""Seconds between two reports of how many agents are connected."""

SETTLED = 5.0
"""Seconds for which the replicas of a service must stay the same before we count them."""


def main(arguments: Sequence[str]) -> int:
    """Read the flags, start the processes, and wait until the run is done."""
    made = flags.parser(
        "Spawn agents, honest and fake, that join a federation over MQTT.", EXAMPLES,
        flags.AGENT_FLAGS, flags.RUN_FLAGS, flags.BROKER_FLAGS,
    )  # fmt: skip
    flags.add_broker(made, "where the broker listens (default: 127.0.0.1:1883)")
    settings = flags.settings_from(made.parse_args(arguments))
    address = address_of(settings)
    probe(address)
    population = population_of(settings)
    try:
        data = population.check()
        shared = population.shared(data)
    except ValueError as why:
        raise SettingsError(str(why)) from why
    if shared:
        print(
            f"the training set is too small for so many: {shared:,} times a sample is dealt again"
        )
    index, count = shard_of(settings)
    n = settings.agents.n
    numbers = parts(range(n), count)[index - 1]
    evils = sum(number in population.fakes for number in numbers)
    kind = "evil" if population.plan.holding else "fake"
    print(
        f"{len(numbers):,} agents ({evils:,} {kind}: {settings.agents.attack}) "
        f"join run {settings.run.name!r} at {address}",
        flush=True,
    )
    return supervise(settings, population, data, numbers)


def supervise(settings: Settings, population: Any, data: Any, numbers: range) -> int:
    """Run the agents in processes of their own and tell people how they fare.

    The processes are forked: libraries and data are loaded once, and the memory they take (250 MB)
    is shared by all. What is frozen, the garbage collector does not touch and so does not copy.
    """
    context = mp.get_context("fork")
    events: Any = context.Queue()
    shares = parts(numbers, processes_for(settings, len(numbers)))
    common = (settings, population, data, events, os.getpid())
    workers = [
        context.Process(target=work, args=(*common, share, i), daemon=True)
        for i, share in enumerate(shares)
    ]
    gc.collect()
    gc.freeze()
    for worker in workers:
        worker.start()
    try:
        late = sum(number in population.late for number in numbers)
        return _watch(workers, events, len(numbers), late)
    except KeyboardInterrupt:
        print("stopping: the agents say goodbye", flush=True)
        for worker in workers:
            worker.terminate()
        return 130
    finally:
        deadline = time.monotonic() + GOODBYE
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
            if worker.is_alive():
                worker.kill()


def _watch(workers: list[Any], events: Any, total: int, late: int) -> int:
    """Print what the processes report until all have ended; returns the exit code.

    Of the ``total`` agents ``late`` ones connect later than the others.
    """
    connected = [0] * len(workers)
    prompt = f"{total - late:,} agents are connected, {late:,} more come later"
    steps = {total - late: prompt} if 0 < late < total else {}
    steps |= {total: f"all {total:,} agents are connected"}
    said: set[str] = set()
    outcome: list[str] = []
    while len(outcome) < len(workers):
        try:
            index, kind, value = events.get(timeout=0.5)
        except queue.Empty:
            if any(w.exitcode not in (None, 0) for w in workers):
                raise LinkError("an agent process died; see the messages above") from None
            continue
        if kind == "connected":
            connected[index] = value
            text = steps.get(sum(connected))
            if text is not None and text not in said:
                said.add(text)
                print(text, flush=True)
        elif kind == "end":
            outcome.append(value)
        elif value not in said:
            said.add(value)
            print(value, flush=True)
    errors = [text for text in outcome if text]
    if errors:
        raise LinkError(errors[0])
    print("the run is done; the agents have said goodbye", flush=True)
    return 0


def work(
    settings: Settings, population: Any, data: Any, events: Any, parent: int,
    numbers: range, index: int,
) -> None:  # fmt: skip
    """Be one process of the fleet."""
    stop: list[int] = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, _: stop.append(number))
    from agents.population import fleet_of  # noqa: PLC0415 - see population_of

    hub = MqttHub(address_of(settings), settings.run.name)
    last, due = -1, 0.0

    def stopping() -> bool:
        nonlocal last, due
        if hub.connections != last and time.monotonic() >= due:
            last, due = hub.connections, time.monotonic() + REPORT
            events.put((index, "connected", max(0, last - fleet.ears)))
        return bool(stop) or os.getppid() != parent

    fleet = fleet_of(
        population, data, numbers, hub, lambda text: events.put((index, "say", text)), stopping,
        diary(settings.agents.diary), shared=settings.agents.shared_downlink,
    )  # fmt: skip
    error = ""
    try:
        hub.open()
        fleet.run()
        due = 0.0
        stopping()  # a run may end before it is time to say again how many are connected
        hub.close()
    except (LinkError, ValueError) as why:
        error = str(why)
    events.put((index, "end", error))


def diary(file: str) -> Callable[[int, float], None]:
    """Let attackers write down when they strike and how strongly, one JSON line each.

    Nothing on the wire says so, and an experiment has to know.
    """

    def tell(number: int, strength: float) -> None:
        if file:
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"round": number, "strength": round(strength, 3)}) + "\n")

    return tell


def address_of(settings: Settings) -> BrokerAddress:
    """Return where the broker is and who we are to it."""
    broker = settings.broker
    return BrokerAddress(broker.host, broker.port, broker.username or None, broker.password or None)


def population_of(settings: Settings) -> Any:
    """Return the whole fleet that the settings describe."""
    # Imports torch, which takes seconds: not before we know that there is a broker.
    import torch  # noqa: PLC0415

    from agents.population import Blow, Population  # noqa: PLC0415
    from learning.dealing import plan_of  # noqa: PLC0415

    # The processes share the cores: threads of their own would only fight, and not survive a fork.
    torch.set_num_threads(1)

    agents, data, hidden = settings.agents, settings.data, settings.backdoor
    return Population(
        plan=plan_of(settings), scale=agents.scale, options=dict(agents.options),
        start=agents.start, arrive=agents.arrive, liars=agents.liars,
        remember=agents.remember, data=data.name, root=data.root, test=data.test,
        blow=Blow(
            inject=tuple(hidden.inject), boost=hidden.boost, share=hidden.share,
            epochs=hidden.epochs, learning_rate=hidden.learning_rate, alpha=hidden.alpha,
            rule=settings.aggregation.rule, server_lr=settings.aggregation.server_lr,
            judged_clean=hidden.judged_clean,
        ),
    )  # fmt: skip


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


def shard_of(settings: Settings) -> tuple[int, int]:
    """Return (i, k): which of how many shards runs here.

    ``dns:NAME`` counts the addresses behind a service's name, as ``docker compose --scale`` makes
    them, and takes our own place among them.

    Raises
    ------
    SettingsError
        If our address is not among those of the service.
    """
    shard = settings.agents.shard
    if not shard.startswith("dns:"):
        return settings.agents.part
    service = shard.removeprefix("dns:")
    replicas, since = addresses(service), time.monotonic()
    while time.monotonic() - since < SETTLED:
        time.sleep(0.5)
        if (now := addresses(service)) != replicas:
            replicas, since = now, time.monotonic()
    mine = addresses(socket.gethostname())
    place = [i for i, replica in enumerate(replicas, start=1) if replica in mine]
    if not place:
        raise SettingsError(f"--shard {shard}: none of {replicas} is an address of this machine")
    return place[0], len(replicas)


def addresses(name: str) -> list[str]:
    """Return the IPv4 addresses behind a name, in order; none if it is not known."""
    try:
        return sorted(set(socket.gethostbyname_ex(name)[2]))
    except OSError:
        return []


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
