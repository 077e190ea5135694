"""One federation on this machine: checked, run by two processes, and reported on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from fedjury import processes
from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.work import device_of
from fedjury.aggregator.assembly import build
from fedjury.aggregator.durable_files import explained, held
from fedjury.aggregator.store import read_records, writable
from fedjury.broker.local import local_broker
from fedjury.config.settings import Settings, SettingsError
from fedjury.federation.description import told, too_late
from fedjury.federation.parts import AGENTS_LOG, Part, start, watch
from fedjury.federation.result import Result, finish
from fedjury.monitor.web.opening import opened

GOODBYE = 5.0
"""Seconds that processes have to end once they are told to."""


def single(settings: Settings) -> Result:
    """Run one federation and report on it."""
    folder = Path(settings.run.directory) / settings.run.name
    if code := federation(settings, folder):
        return Result(folder, code)
    name = settings.run.name
    return finish(folder, told(f"Run {name}", settings, [(name, settings, read_records(folder))]))


@contextmanager
def private_broker(
    settings: Settings, kind: str, page: int | None
) -> Iterator[tuple[Settings, str]]:
    """Start a broker for us alone; yields the settings that lead to it, and where its page is."""
    secrets = Path(settings.broker.secrets) if settings.broker.secrets else None
    with ExitStack() as stack:
        address = stack.enter_context(local_broker(kind, say=say, secrets=secrets, page=page))
        broker = settings.broker.replaced(host=address.host, port=address.port)
        where = stack.enter_context(opened(address, say, broker.root)) if address.websockets else ""
        yield settings.replaced(broker=broker), where


def federation(settings: Settings, folder: Path, *, telling: bool = True) -> int:
    """Run an aggregator and its agents, each in processes of their own; returns the exit code.

    ``telling``: say what people should know of the agents and their data.
    """
    writable(folder)
    # Imports torch, which takes seconds and 150 MB: once, and both programs begin with it.
    from fedjury.agents import batch_assembly, spawn  # noqa: F401, PLC0415
    from fedjury.aggregator import serve  # noqa: PLC0415

    notes = check(settings), too_late(settings)
    for note in notes if telling else ():
        if note:
            say(note)
    # Settings are handed on in memory. A file of them could be another's by the time it is read.
    # And the aggregator does not have to wait and see how many come.
    known = settings.replaced(collect=settings.collect.replaced(agents=settings.expected))

    def be_aggregator() -> int:
        ended = serve.aggregate(known)
        ended.show()
        return ended.code

    serving = Part("aggregator", be_aggregator)
    joining = Part("agents", lambda: spawn.spawn(settings))
    file = folder / AGENTS_LOG
    running: list[BaseProcess] = []
    with held(folder, settings.run.name), explained(file), file.open("w", encoding="utf-8") as log:
        try:
            start(running, serving)
            start(running, joining, log)
            return watch(running[0], running[1], file)
        finally:
            processes.end(running, GOODBYE)


def check(settings: Settings) -> str:
    """Refuse what agents or aggregator would refuse, before anything is started.

    Returns what people should know of the data; empty if nothing.

    Raises
    ------
    SettingsError
        If a name, a value, the data or a file of weights will not do.
    """
    plain = settings.replaced(run=settings.run.replaced(device="cpu"))
    try:
        if settings.agents.devices:
            device_of(settings.agents.devices, 0)
            build(plain)
            return ""
        simulated = simulated_agents_of(settings)
        data = simulated.check()
        # Not on a GPU: a process that has begun to use it cannot be forked, as this one will be.
        build(plain, data)
        return simulated.repeats(data)
    except ValueError as why:
        raise SettingsError(str(why)) from why


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
