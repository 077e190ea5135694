"""The faults by name: what is done, how often, and whether every bit has to be the same."""

from __future__ import annotations

from typing import NamedTuple

from chaos.faults import agents, aggregator, broker, disk, network
from chaos.faults.outcome import Fault, Outcome
from chaos.lab import DETECTION, PIGGY_BACK

__all__ = ["FAULTS", "Outcome", "Row"]


class Row(NamedTuple):
    """A fault: what people read of it, and how often it is injected."""

    what: str
    inject: Fault
    times: int = 5
    quick: int = 1
    """Times in the short version; 0: it has no part in that."""


FAULTS: dict[str, Row] = {
    "random-kills": Row(
        "aggregator: kill -9 at random moments", aggregator.at_random(aggregator.PLAIN), 150, 4
    ),
    "random-kills-piggy-back": Row(
        "the same with piggy-back", aggregator.at_random(PIGGY_BACK), 50, 2
    ),
    "random-kills-detection": Row(
        "the same with detection and quarantine", aggregator.at_random(DETECTION), 50, 2
    ),
    "before-first": Row("aggregator: kill -9 before the first round", aggregator.at_point("gathering")),
    "opening": Row("... when a round has opened", aggregator.at_point("opening")),
    "collecting": Row("... when half of the updates are in", aggregator.at_point("collecting")),
    "aggregating": Row("... when it aggregates", aggregator.at_point("aggregating")),
    "validating": Row("... when it counts votes", aggregator.at_point("validating")),
    "unrecorded": Row(
        "... with the model on disk, before its record", aggregator.at_point("unrecorded")
    ),
    "unpublished": Row(
        "... between persist and publish", aggregator.at_point("unpublished")
    ),
    "published": Row("... after publishing, before the next round", aggregator.at_point("published")),
    "last": Row("... with the last round on disk", aggregator.at_point("unpublished", last=True)),
    "ending": Row("... after the last round", aggregator.at_point("ending", last=True)),
    "writing": Row("... at each fsync", aggregator.writing, 30, 3),
    "unpublished-piggy-back": Row(
        "between persist and publish, with piggy-back", aggregator.at_point("unpublished", PIGGY_BACK)
    ),
    "unpublished-detection": Row(
        "between persist and publish, with detection", aggregator.at_point("unpublished", DETECTION)
    ),
    "terminated": Row("aggregator: SIGTERM and started again", aggregator.asked_to_end),
    "broker-lost": Row(
        "broker: kill -9 in mid-round, what it retained is lost", broker.killed(keep=False)
    ),
    "broker-kept": Row("the same, what it retained is kept", broker.killed(keep=True)),
    "broker-again": Row("broker: kill -9 again and again in one run", broker.again_and_again, 5, 0),
    "broker-away": Row("broker: away for 5 s", broker.killed(keep=False, away=5.0), 3, 0),
    "broker-minute": Row("broker: away for a minute", broker.killed(keep=False, away=60.0), 1, 0),
    "broker-paused": Row("broker: stopped for longer than the keep-alive", broker.paused, 3),
    "stall-aggregator": Row(
        "network stalls for longer than the keep-alive: aggregator",
        network.stalled("aggregator"), 3,
    ),
    "stall-agents": Row("... agents", network.stalled("agents"), 3),
    "stall-all": Row("... all", network.stalled("aggregator", "agents"), 3, 0),
    "cut-aggregator": Row("connections break: aggregator", network.cut("aggregator")),
    "cut-agents": Row("... agents", network.cut("agents")),
    "cut-all": Row("... all", network.cut("aggregator", "agents")),
    "in-flight": Row(
        "connection breaks with acknowledged answers on their way to the aggregator",
        network.in_flight(broker=False),
    ),
    "in-flight-broker": Row(
        "broker: kill -9 with such answers", network.in_flight(broker=True)
    ),
    "slow-network": Row("40 kB/s for each agent", network.slow, 2, 0),
    "agents-restarted": Row("agents: kill -9 and started again by hand", agents.restarted),
    "agents-revived": Row("agents: kill -9 of a process, which spawn starts again", agents.revived),
    "half-gone": Row("half of the agents gone for good", agents.gone, 2),
    "mute": Row("half connect and never answer", agents.unanswering("mute", 0), 1),
    "slow-agents": Row(
        "half are a thousand times slower",
        agents.unanswering("slow", agents.LATE, "wrong_round"), 1,
    ),
    "disk-full": Row("disk full when a round is written", disk.full, 6, 2),
    "checkpoint-cut": Row("a checkpoint cut in half", disk.cut_in_half),
}
