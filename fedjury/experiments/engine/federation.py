"""One federation, from its settings to the records of its rounds: in this process, or over MQTT.

Both ways run the real aggregator, agents, store and messages, and come to the same records.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import torch

from fedjury.agents.assembly import attack_log, simulated_agents_of
from fedjury.agents.batch_assembly import runner_of
from fedjury.aggregator.assembly import build
from fedjury.aggregator.resume import description, resume
from fedjury.aggregator.serve import serving
from fedjury.aggregator.store import RunStore, read_records
from fedjury.config.settings import Settings, explained
from fedjury.detection.state import against_truth
from fedjury.experiments.engine.case import MODEL, Records, Watch
from fedjury.federation import run
from fedjury.learning import weights
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.record import RoundRecord, Truth
from fedjury.protocol.transport.by_url import transport_at
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.memory_transport import broker_named
from fedjury.round.state import State

OnRound = Callable[[], None]


class _Screen:
    """Tells of finished rounds and of nothing else."""

    def __init__(self, on_round: OnRound) -> None:
        self._on_round = on_round

    def waiting(self, online: int, wanted: int) -> None:
        """Say nothing."""

    def progress(self, state: State) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Ignore what is said of the network: there is none."""

    def finished(self, record: RoundRecord) -> None:
        """Count a round."""
        del record
        self._on_round()


def in_memory(
    settings: Settings, folder: Path, on_round: OnRound, watch: Watch | None = None
) -> Records:
    """Run a federation in this process, over a broker that is a dictionary.

    If the folder holds its first rounds, it goes on after them. ``watch`` sees all messages.

    Raises
    ------
    SettingsError
        If the settings ask for what cannot be had.
    TransportError
        If the run was given up.
    """
    with explained():
        simulated = simulated_agents_of(settings)
        data = simulated.check()
        parts = build(settings, data)
    store = RunStore(folder, keep=settings.validation.look_back + 2)
    history, state = resume(store, settings, parts)
    store.describe(description(settings, parts))
    where = f"memory:{uuid4().hex}"
    broker = broker_named(where.partition(":")[2])
    broker.listeners += [watch] if watch else []
    transport = transport_at(where, settings.run.name)
    agents = settings.agents
    runner = runner_of(
        simulated,
        data,
        range(agents.n),
        transport_at(where, settings.run.name),
        send=attack_log(agents.attack_log),
        shared=agents.shared_downlink,
    )
    screen = _Screen(on_round)
    with serving(settings, parts, store, screen, history, transport) as aggregator:
        runner.join()
        state = aggregator.gather(state, settings.expected, settings.collect.patience)
        while not state.done:
            state = aggregator.turn(state)
            runner.turn()
        aggregator.end()
    if state.failure:
        raise TransportError(state.failure)
    return with_truth(read_records(folder), settings)


def over_broker(settings: Settings, folder: Path, on_round: OnRound) -> Records:
    """Run a federation as ``run.py`` does: aggregator and agents in processes, over MQTT.

    Raises
    ------
    TransportError
        If it does not come to its end.
    """
    if run.federation(settings, folder):
        raise TransportError("the aggregator stopped")
    records = with_truth(read_records(folder), settings)
    for _ in records:
        on_round()
    return records


def with_truth(records: Records, settings: Settings) -> Records:
    """Add to each record what only an experiment knows.

    How strongly the attackers struck in its round, as they wrote down; and, where somebody looks
    for fakes, how right they were.
    """
    diary_file, spec = settings.agents.attack_log, partition_spec_of(settings)
    malicious = frozenset(spec.name(number) for number in spec.malicious_agents)
    file = Path(diary_file)
    lines = file.read_text(encoding="utf-8").splitlines() if diary_file and file.exists() else []
    told = {note["round"]: note["strength"] for note in map(json.loads, lines)}
    return [
        replace(record, truth=replace(_found(record, malicious), strength=told.get(record.round)))
        for record in records
    ]


def _found(record: RoundRecord, malicious: frozenset[str]) -> Truth:
    return against_truth(record.detection, malicious) if record.detection else Truth()


LINKS: dict[str, Callable[[Settings, Path, OnRound], Records]] = {
    "memory": in_memory,
    "broker": over_broker,
}


def save_model(settings: Settings, folder: Path) -> None:
    """Save the last model of a finished run so that others start from it (model.init)."""
    with explained():
        model = build(settings).model.model
    saved = RunStore(folder, keep=settings.validation.look_back + 2).load()
    assert saved is not None
    weights.load(model, saved.models[-1].weights)
    torch.save(model.state_dict(), folder / MODEL)
