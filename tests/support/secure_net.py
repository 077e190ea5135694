"""What tests share that run federations under secure aggregation by the real programs."""

from __future__ import annotations

from dataclasses import replace

from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.batch_assembly import runner_of
from fedjury.config.settings import load
from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import BadMessage, Manifest, Model, Phase, Round, Update
from fedjury.protocol.topics import USUAL
from fedjury.protocol.transport.connection import Connection
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport

AGENTS = 12
SAMPLES = 20
SECURE = {
    "groups.size": 6,
    "groups.secure": True,
    "groups.by_seed": True,
    "groups.colluding": 0.2,
    "groups.drop_outs": 0.2,
}
"""Twelve agents in two groups of six, drawn by the seed so that runs can be compared."""


def flags(settings):
    """Return how programs are told settings."""
    pairs = [f"{key}={str(value).lower()}" for key, value in settings.items()]
    return [word for pair in pairs for word in ("--set", pair)]


TO_THE_AGGREGATOR = ["--agents", str(AGENTS), "--validators", "0", "--clip", "0"]
TO_THE_AGGREGATOR += [*flags(SECURE), "--set", "aggregation.server_lr=1"]
TO_AGENTS = ["--n", str(AGENTS), "--evil", "0"]


def decoded(heard):
    """Go through messages of the protocol among topics and payloads, in the order they came."""
    for topic, payload in heard:
        try:
            yield codec.decode(topic, payload, Limits(finite=False))
        except BadMessage:
            continue


def true_updates(heard, run, agents=AGENTS):
    """Return what each agent has trained in each round: (round, agent) -> Update.

    Agents like those of the run are told the same in the clear: its manifest, models and rounds.
    ``heard``: the topics and payloads that crossed the broker.
    """
    settings = load(
        overrides={
            "run.name": run,
            "data.name": "digits",
            "model.name": "mlp",
            "agents.n": agents,
            "agents.malicious": 0.0,
            "agents.samples": SAMPLES,
        }
    )
    population, broker = simulated_agents_of(settings), MemoryBroker()
    hub = MemoryTransport(broker, run, USUAL)
    fleet = runner_of(population, population.check(), range(agents), hub, str)
    aggregator = Connection(MemoryTransport(broker, run, USUAL), "aggregator")
    aggregator.subscribe(Update)
    fleet.join()
    updates, told = {}, set()
    for message in decoded(heard):
        match message:
            case Manifest() if not told:
                aggregator.publish(replace(message, secure={}, codec="float32"))
                told.add(0)
            case Model():
                aggregator.publish(message)
            case Round(number, phase=Phase.TRAIN) if number not in told:
                aggregator.publish(message)
                told.add(number)
                while sum(number == known for known, _ in updates) < agents:
                    fleet.turn()
                    while (said := aggregator.receive(0)) is not None:
                        updates[number, said.agent] = said
    return updates
