"""Run an aggregator: python -m aggregator --config config/jury.toml."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedjury import reports
from fedjury.aggregator import durable_files, manifest, records
from fedjury.aggregator.assembly import ENVELOPE, Parts, advice, build
from fedjury.aggregator.console import RunConsole, listening
from fedjury.aggregator.naming import ENDED, claimed
from fedjury.aggregator.service import Aggregator
from fedjury.aggregator.store import RunStore, StoreError, read_records
from fedjury.config import flags
from fedjury.config.sections import all_vote
from fedjury.config.settings import Settings, SettingsError
from fedjury.learning.partition import partition_spec_of, terms
from fedjury.learning.weights import Vector, flatten
from fedjury.protocol.credentials import address_of
from fedjury.protocol.finding import with_log_ins
from fedjury.protocol.messages import Manifest, Model, RoundLog
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.schema import Limits
from fedjury.protocol.transport.connection import Connection, TransportError
from fedjury.protocol.transport.mqtt_transport import MqttTransport
from fedjury.protocol.transport.waiting import patiently
from fedjury.round.aggregate import measured, step_between
from fedjury.round.detection_state import AgentRegistry, resumed
from fedjury.round.state import RoundConfig, State

EXAMPLES = """  python -m aggregator
  python -m aggregator --config config/jury.toml --run lab --rounds 50
  python -m aggregator --rule trimmed_mean --set 'collect.seconds=20' --broker broker.local:1883"""

EXPECTED = (SettingsError, TransportError, StoreError)
"""Errors that are one sentence to people."""

NAME = ":aggregator"
"""What it is called at the broker: no agent can have this name."""

PARTING = 1.5
"""Seconds that agents have to leave before what is retained of them is removed."""

PACKAGES = ("torch", "numpy", "scikit-learn", "paho-mqtt", "msgpack", "safetensors")


def main(arguments: Sequence[str]) -> int:
    """Read the flags, and be the aggregator of these settings."""
    parser = flags.parser(
        "Run the aggregator of a federation over MQTT.",
        EXAMPLES,
        flags.RUN_FLAGS,
        flags.AGGREGATOR_FLAGS,
        flags.BROKER_FLAGS,
        prog="python -m aggregator",
    )
    flags.add_broker(parser, "where the broker listens (default: 127.0.0.1:1883)")
    parser.add_argument(
        "--agents",
        dest="collect.agents",
        metavar="N",
        default=None,
        help="agents to wait for before the first round (default: until nobody "
        "new has come for a few seconds)",
    )
    parser.add_argument(
        "--no-report",
        action="store_true",
        help="leave out reports.html, report.md and accuracy.png",
    )
    chosen = parser.parse_args(arguments)
    settings = flags.settings_from(chosen)
    directory, name = Path(settings.run.directory), settings.run.name
    named = flags.names_a_run(chosen, settings)
    place = durable_files.held(directory / name, name) if named else claimed(directory, name)
    return aggregate(settings, place, reporting=not chosen.no_report)


def aggregate(
    settings: Settings,
    place: AbstractContextManager[str | None] | None = None,
    *,
    reporting: bool = False,
) -> int:
    """Build everything and run the rounds; returns the exit code.

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


def conduct(settings: Settings, parts: Parts, folder: Path, *, reporting: bool) -> int:
    """Go on where the run stopped, or begin it, up to its end; returns the exit code."""
    store = RunStore(folder, keep=settings.validation.look_back + 2)
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
    with RunConsole(settings.run.rounds, parts.manifest.classes) as screen:
        state = serve(settings, parts, store, screen, history, state)
        done = read_records(folder)
        told = reports.conclusion(done, settings, parts.manifest.classes)
        if state.failure:
            screen.say(f"given up: {state.failure}")
            for line in told:
                screen.say(line)
            return 1
        if reporting:
            with durable_files.explained(folder / reports.FILES):
                reports.write(folder, reports.of_run(settings.run.name, settings, done))
        with suppress(OSError):  # a mark that there is nothing left to tell the agents, or people
            ended.touch()
        with suppress(StoreError):
            store.lighten()
        screen.say(
            f"done: accuracy {state.accuracy or 0:.1%} after {state.round} rounds; {folder}/"
        )
        for line in told:
            screen.say(line)
    return 0


def serve(
    settings: Settings,
    parts: Parts,
    store: RunStore,
    screen: RunConsole,
    history: list[Model],
    state: State,
) -> State:
    """Connect, wait for the agents, and run the rounds to their end."""
    broker = with_log_ins(settings.broker, "aggregator", lambda: [NAME], screen.say)
    settings = settings.replaced(broker=broker)
    address = address_of(settings.broker, "aggregator")
    transport = MqttTransport(address, settings.run.name, sole=True)
    patiently(lambda: transport.open(NAME), screen.say)
    limits = settings.limits
    transport.decoder.limit(Limits(parts.manifest.parameters, limits.size, limits.finite))
    done = read_records(store.folder)
    aggregator = Aggregator(Connection(transport, NAME), parts.config, store, screen, done)
    try:
        screen.say(f"aggregator of run {settings.run.name!r} at {address} ({transport.speaks})")
        if address.here:  # else people may reach it by another name
            screen.say(listening(address.port, settings.run.name, settings.broker.secrets))
        for line in advice(settings):
            screen.say(line)
        transport.must_carry(4 * parts.manifest.parameters + ENVELOPE)
        partition = terms(partition_spec_of(settings), settings.data)
        aggregator.begin(parts.manifest, history, partition)
        for record in done[-1:]:  # who was killed may not have told of it
            aggregator.connection.publish(RoundLog(record))
        if state.round < settings.run.rounds:
            state = gather(settings, aggregator, screen, state)
        return aggregator.run(state)
    finally:
        if settings.broker.forget:
            with suppress(TransportError, KeyboardInterrupt):
                screen.say(forgotten(aggregator.forget(PARTING)))
        transport.close(forget=settings.broker.forget)


def forgotten(topics: int) -> str:
    """Say how many topics the broker was made to forget; there is always one, if it answers."""
    if not topics:
        return "the broker does not answer: what it retains of the run is still there"
    return f"the broker retains nothing of it any more ({topics:,} topics)"


def gather(settings: Settings, aggregator: Aggregator, screen: RunConsole, state: State) -> State:
    """Wait for the agents.

    Raises
    ------
    TransportError
        If nobody comes.
    """
    message, there = settings.collect, aggregator.online
    state = aggregator.gather(state, message.agents, message.patience, message.settle)
    if not there:
        raise TransportError(
            f"no agent joined run {settings.run.name!r} within {message.patience:g} s"
        )
    if len(there) < message.agents:
        screen.say(f"starting with {len(there):,} of {message.agents:,} agents")
    elif not message.agents:
        screen.say(f"starting with {len(there):,} agents: nobody new came for {message.settle:g} s")
    votes = settings.validation
    if votes.asked > len(there) and not votes.piggy_back:
        screen.say(all_vote(votes.asked, len(there)))
    return state


def resume(store: RunStore, settings: Settings, parts: Parts) -> tuple[list[Model], State]:
    """Go on where the run stopped, or begin with version 0.

    Raises
    ------
    StoreError
        If the folder holds another run, or one that cannot go on.
    """
    now, before = description(settings, parts), store.described()
    told = manifest.changes(store.folder, before, now) if store.begun else []
    records.check(store.folder)
    saved = store.load(parts.manifest.parameters if before else None)
    if saved is None:
        store.describe(now)
        first = Model(0, flatten(parts.model))
        record = RoundRecord(0, settings.run.name, model=measured(parts.config, first.weights))
        store.save(first, record)
        return [first], begin([first], record, parts.config)
    history = fitting(saved.models, store, settings, parts.manifest)
    number, latest = saved.record.round, history[-1].version
    print(f"run {settings.run.name!r} goes on after round {number}, at version {latest}")
    for line in (*told, *saved.notes):
        print(line)
    return history, begin(history, saved.record, parts.config, saved.pending, saved.registry)


def fitting(
    models: list[Model], store: RunStore, settings: Settings, manifest: Manifest
) -> list[Model]:
    """Return the accepted models that the next round needs, of those that were kept.

    Raises
    ------
    StoreError
        If they are those of another model, or too few.
    """
    wanted, kept, version = settings.validation.look_back + 1, len(models), models[-1].version
    for model in models:
        if len(model.weights) != manifest.parameters:
            raise StoreError(
                f"{store.folder} holds a run of another model ({len(model.weights):,} parameters, "
                f"not {manifest.parameters:,}); choose another --run"
            )
    voting = settings.validation
    votes = voting.asked or voting.piggy_back or voting.server
    if votes and 3 <= kept < min(wanted, version + 1):
        raise StoreError(
            f"{store.folder} keeps the last {kept} models, too few to look back at {wanted - 1}; "
            f"go on with --look-back {kept - 1} at most"
        )
    # Some rules go by the step between the last two.
    if kept < min(wanted if votes else 2, version + 1):
        raise StoreError(
            f"{store.folder} lacks version {version - kept}, which the next round needs; remove "
            "the models after it to go on from an older one, or choose another --run"
        )
    return models[-wanted:]


def begin(
    history: list[Model],
    record: RoundRecord,
    config: RoundConfig,
    pending: Vector | None = None,
    registry: AgentRegistry | None = None,
) -> State:
    """Return the state after the round of this record, with these accepted models."""
    profiles = (
        ()
        if config.server_validator is None
        else tuple(map(config.server_validator.profile, weights_of(history)))
    )
    step = None
    if len(history) > 1:
        step = step_between(history[-2].weights, history[-1].weights, config.aggregation.server_lr)
    return State(
        version=history[-1].version,
        weights=history[-1].weights,
        round=record.round,
        step=step,
        accuracy=record.model.accuracy,
        backdoor=record.model.backdoor,
        profiles=profiles,
        pending=pending if config.validation.piggy_back else None,
        registry=resumed(registry or AgentRegistry(), config.detection),
    )


def weights_of(history: list[Model]) -> list[Vector]:
    """Return the vectors of models."""
    return [model.weights for model in history]


def description(settings: Settings, parts: Parts) -> dict[str, Any]:
    """Write down what was run, so that it can be run again."""
    message = settings.model_dump()
    del message["broker"]["password"]
    packages = {name: version(name) for name in PACKAGES}
    return {
        "format": manifest.FORMAT,
        "settings": message,
        "manifest": asdict(parts.manifest),
        "data": dict(parts.data),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "packages": packages,
    }


@contextmanager
def explained() -> Iterator[None]:
    """Turn what tables and builders refuse into an error of the settings."""
    try:
        yield
    except ValueError as why:
        raise SettingsError(str(why)) from why


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
