"""An aggregator from its settings to the last round: build, go on, connect, wait, run, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedjury import reports
from fedjury.aggregator import durable_files
from fedjury.aggregator.advice import advice
from fedjury.aggregator.assembly import ENVELOPE, Parts, build
from fedjury.aggregator.best import BestModel
from fedjury.aggregator.console import RunConsole, listening
from fedjury.aggregator.naming import ENDED
from fedjury.aggregator.pooling import limits_of
from fedjury.aggregator.resume import description, resume
from fedjury.aggregator.service import Aggregator, Control, Screen
from fedjury.aggregator.store import RunStore, StoreError, read_records
from fedjury.config.sections import all_vote
from fedjury.config.settings import Settings, SettingsError, explained
from fedjury.formatting import measures
from fedjury.learning.partition import partition_spec_of, terms
from fedjury.protocol.credentials import address_of
from fedjury.protocol.finding import with_log_ins
from fedjury.protocol.messages import Model, RoundLog
from fedjury.protocol.transport.by_url import transport_at
from fedjury.protocol.transport.connection import Connection, Transport, TransportError
from fedjury.protocol.transport.lookout import LOGIN as LOOKOUT
from fedjury.protocol.transport.succession import claim
from fedjury.protocol.transport.waiting import patiently
from fedjury.round.state import State

NAME = ":aggregator"
"""What it is called at the broker: no agent can have this name."""

PARTING = 1.5
"""Seconds that agents have to leave before what is retained of them is removed."""


class Ended(NamedTuple):
    """How a run ended."""

    run: str
    folder: Path
    rounds: int
    accuracy: float | None
    metrics: Mapping[str, float]
    """What else was measured of the last model, by name."""
    largest_backdoor: float | None
    """Its largest success in any model that was accepted; None where it is not measured."""
    accuracy_lost: float | None
    """Accuracy at its best minus that at the end."""
    failure: str
    """Why it was given up; empty if it was not."""
    told: list[str]
    """What there is to say of attack and defence."""

    @property
    def code(self) -> int:
        """The exit code of a program that came to this."""
        return 1 if self.failure else 0

    def show(self) -> None:
        """Print it for people."""
        first = measures(self.accuracy, self.metrics)[:1]
        reached = "".join(f"{name} {value} " for name, value in first)
        done = f"done: {reached}after {self.rounds} rounds; {self.folder}/"
        print(f"given up: {self.failure}" if self.failure else done)
        for line in self.told:
            print(line, flush=True)

    def figures(self) -> dict[str, object]:
        """Return it for programs."""
        return self._asdict() | {"folder": str(self.folder)}


def aggregate(
    settings: Settings,
    place: AbstractContextManager[str | None] | None = None,
    *,
    reporting: bool = False,
) -> Ended:
    """Build everything, run the rounds, and return how they ended.

    ``place``: what holds the run's folder meanwhile, and may say by which name the run goes; None
    where whoever calls holds it.
    """
    # More threads would spin while they wait, on cores that agents and broker need.
    threads = max(1, (os.cpu_count() or 1) // 2)
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # NumPy's
    with explained():
        parts = build(settings)
    for note in parts.notes:
        print(note, flush=True)
    name = settings.run.name
    with place or nullcontext() as given:
        if given and given != name:
            print(f"run {name!r} is over; this is {given!r}", flush=True)
            settings = settings.replaced(run=settings.run.replaced(name=given))
            parts = parts._replace(config=replace(parts.config, run=settings.run))
        folder = Path(settings.run.directory) / settings.run.name
        try:
            return conduct(settings, parts, folder, reporting=reporting)
        except KeyboardInterrupt:
            if place is not None:  # else whoever called knows by which command it goes on
                print(f"stopped; with --run {settings.run.name} the same command resumes it")
            raise


def conduct(settings: Settings, parts: Parts, folder: Path, *, reporting: bool) -> Ended:
    """Go on where the run stopped, or begin it, up to its end; returns how it ended."""
    store = store_of(settings, parts, folder)
    history, state = resume(store, settings, parts)
    ended = folder / ENDED
    if state.round < settings.run.rounds:
        durable_files.remove(ended)  # it was, with fewer rounds
    elif ended.exists() and not settings.broker.forget:
        raise SettingsError(
            f"run {settings.run.name!r} has its {state.round} rounds already (in {folder}); "
            "choose another --run, or more --rounds; --forget removes what the broker retains of it"
        )
    store.describe(description(settings, parts))
    judge = settings.validation.judge
    with RunConsole(settings.run.rounds, parts.manifest.classes, judge) as screen:
        state = serve(settings, parts, store, screen, history, state)
    done = read_records(folder)
    told = reports.conclusion(done, settings, parts.manifest.classes)
    result = Ended(
        run=settings.run.name,
        folder=folder,
        rounds=state.round,
        accuracy=state.model.quality.accuracy,
        metrics=state.model.quality.metrics,
        largest_backdoor=state.model.harm.largest_backdoor,
        accuracy_lost=state.model.harm.accuracy_lost,
        failure=state.failure,
        told=told,
    )
    if result.failure:
        return result
    if reporting:
        with durable_files.explained(folder / reports.FILES):
            reports.write(folder, reports.of_run(settings.run.name, settings, done))
    with suppress(OSError):  # a mark that there is nothing left to tell the agents, or people
        ended.touch()
    with suppress(StoreError):
        store.lighten()
    return result


def store_of(settings: Settings, parts: Parts, folder: Path) -> RunStore:
    """Return what keeps a run in a folder."""
    best = BestModel(folder, settings.evaluation, parts.manifest.tensors)
    return RunStore(folder, settings.validation.look_back + 2, best)


def serve(
    settings: Settings,
    parts: Parts,
    store: RunStore,
    screen: Screen,
    history: list[Model],
    state: State,
    control: Control | None = None,
) -> State:
    """Connect, wait for the agents, and run the rounds to their end, or until it is stopped."""
    control = control or Control()
    broker = with_log_ins(settings.broker, "aggregator", lambda: [NAME + LOOKOUT, NAME], screen.say)
    settings = settings.replaced(broker=broker)
    address = address_of(settings.broker, "aggregator")
    run = settings.run.name

    def stopped() -> bool:
        return control.stopped

    since = patiently(lambda: claim(address, run, NAME, screen.say, stopped), screen.say, stopped)
    transport = transport_at(address, run, sole=True)
    if since is None or not patiently(lambda: transport.open(NAME), screen.say, stopped):
        return state
    screen.say(f"aggregator of run {settings.run.name!r} at {address} ({transport.speaks})")
    if address.here:  # else people may reach it by another name
        screen.say(listening(settings.broker, settings.run.name, settings.validation.on))
    for line in advice(settings):
        screen.say(line)
    with serving(
        settings, parts, store, screen, history, transport, control, since=since
    ) as aggregator:
        if state.round < settings.run.rounds:
            state = gather(settings, aggregator, screen, state)
        return aggregator.run(state)


@contextmanager
def serving(
    settings: Settings,
    parts: Parts,
    store: RunStore,
    screen: Screen,
    history: list[Model],
    transport: Transport,
    control: Control | None = None,
    clock: Callable[[], float] = time.monotonic,
    since: float | None = None,
) -> Iterator[Aggregator]:
    """Publish what newcomers need over an open transport, and leave at the end.

    ``since``: when it began to serve (Unix seconds); None: now.
    """
    transport.decoder.limit(limits_of(parts.config, parts.manifest))
    done = read_records(store.folder)
    link = Connection(transport, NAME)
    aggregator = Aggregator(link, parts.config, store, screen, done, clock, control)
    try:
        transport.must_carry(4 * parts.manifest.parameters + ENVELOPE)
        partition = terms(partition_spec_of(settings), settings.data) if parts.data else ""
        aggregator.begin(parts.manifest, history, partition, since)
        for record in done[-1:]:  # who was killed may not have told of it
            aggregator.connection.publish(RoundLog(record))
        yield aggregator
    finally:
        if settings.broker.forget:
            with suppress(TransportError, KeyboardInterrupt):
                screen.say(forgotten(aggregator.forget(PARTING)))
        transport.close(forget=settings.broker.forget)


def forgotten(topics: int) -> str:
    """Say how many topics the broker was made to forget; there is always one, if it answers."""
    if not topics:
        return "the broker does not answer, so it still retains messages of the run"
    return f"the broker retains no messages of the run any more ({topics:,} topics)"


def gather(settings: Settings, aggregator: Aggregator, screen: Screen, state: State) -> State:
    """Wait for the agents.

    Raises
    ------
    TransportError
        If nobody comes.
    """
    message, there = settings.collect, aggregator.online
    state = aggregator.gather(state, message.agents, message.patience, message.settle)
    if aggregator.control.stopped:
        return state
    if not there:
        raise TransportError(
            f"no agent joined run {settings.run.name!r} within {message.patience:g} s"
        )
    if len(there) < message.agents:
        screen.say(f"starting with {len(there):,} of {message.agents:,} agents")
    elif not message.agents:
        screen.say(f"starting with {len(there):,} agents: no new one came for {message.settle:g} s")
    votes = settings.validation
    if votes.asked > len(there) and not votes.piggy_back:
        screen.say(all_vote(votes.asked, len(there)))
    return state
