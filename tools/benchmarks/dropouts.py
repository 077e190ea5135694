"""Members who leave in the middle of secure aggregation: groups that are lost, sums that are exact.

The real aggregator and rounds, and the real steps of a thousand agents, over a broker in memory.
The agents do not train: their updates are drawn, so that it is known what each sum has to be, to
the last bit. In each round some of each group leave just before they would send what a step asks
for; they are back for the next one. The clock is counted, so that waiting takes no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from fedjury.aggregator.assembly import build
from fedjury.aggregator.pooling import limits_of
from fedjury.aggregator.resume import resume
from fedjury.aggregator.service import Aggregator
from fedjury.aggregator.store import RunStore
from fedjury.config.settings import Settings, load
from fedjury.experiments.engine.setup import PLAIN
from fedjury.learning.weights import Matrix
from fedjury.protocol.messages import Vector
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.secure import MaskedUpdate, SecureKeys, SecureShares, UnmaskShares
from fedjury.protocol.transport.connection import Connection
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport
from fedjury.randomness import Purpose, stream
from fedjury.round.state import State, Training, Waiting
from fedjury.rules.rule import Context, Samples
from fedjury.secure.fixed_point import FixedPoint
from fedjury.secure.group import Group
from tools.benchmarks.figures import Figure
from tools.benchmarks.leavers import Kind, Members, Plan
from tools.chaos.sums_heard import SumsHeard

Choose = Callable[[int, Sequence[frozenset[str]]], Plan]
"""A round, and who is in each group -> who leaves in it, and when."""

STEPS: Mapping[str, Kind] = {
    "keys": SecureKeys,
    "shares": SecureShares,
    "masked update": MaskedUpdate,
    "shares that undo masks": UnmaskShares,
}
"""What a member sends, step by step."""

SPREAD = "any of the four"

ROUNDS = 20
SHARE = 0.1

NONE: Matrix = np.empty((0, 0), np.float32)

SETTINGS: dict[str, Any] = {
    "run.name": "drop-outs",
    "run.rounds": ROUNDS,
    "model.name": "classifier",
    "data.name": "mnist5k",
    "agents.n": 1000,
    "agents.malicious": 0.0,
    "agents.samples": 4,
    "collect.every": 1000.0,
    "groups.size": 50,
    "groups.secure": True,
    "groups.clip": 0.1,
}
"""W1's network in groups of fifty."""


class Clock:
    """Seconds that pass when somebody looks, and when nobody has anything to do."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Look at it."""
        self.now += 1e-5
        return self.now


@dataclass
class Outcome:
    """What came of all rounds of one kind."""

    left: int = 0
    """Members who left."""
    groups: int = 0
    lost: list[str] = field(default_factory=list)
    """Why groups were lost."""
    exact: int = 0
    """Groups whose mean is that of the right members, bit for bit."""
    declined: list[str] = field(default_factory=list)
    """Why members took no part in a sum who had not left."""
    overlapping: str = ""
    """Which sums over one model overlap in part, or which key came twice, if any."""
    seconds: list[float] = field(default_factory=list)
    """Processor time of each round: all agents and the aggregator."""
    records: list[RoundRecord] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """How many sums are not exact."""
        return self.groups - len(self.lost) - self.exact


class Watch:
    """Watches a run as its screen does: says who leaves, and checks each sum that was opened."""

    def __init__(self, members: Members, settings: Settings, choose: Choose) -> None:
        self.outcome = Outcome()
        self.means: Matrix = NONE
        """(groups, d): the sums that were opened in the round, as the rule got them."""
        self._members, self._groups, self._choose = members, settings.groups, choose
        self._turn = (0, 0)
        self._drawn: list[frozenset[str]] = []
        """Who was drawn into each group."""
        self._began = 0.0

    def say(self, text: str) -> None:
        """Ignore what is said."""

    def waiting(self, online: int, wanted: int) -> None:
        """Ignore how many have joined."""

    def progress(self, state: State) -> None:
        """Say who leaves in a round that was just opened; after it they are back."""
        phase = state.phase
        if isinstance(phase, Waiting) and self._members.gone:
            self._members.come(frozenset(self._members.gone))
        if not isinstance(phase, Training) or phase.secure is None:
            return
        if (state.round, state.attempt) == self._turn:
            return
        self._turn, self._began = (state.round, state.attempt), time.process_time()
        groups = phase.secure.groups.values()
        self._drawn = [group.awaited for group in groups if isinstance(group, Group)]
        plan = self._choose(state.round, self._drawn)
        self._members.plan, self.means = plan, NONE
        self.outcome.left += len(plan)
        self.outcome.groups += len(self._drawn)

    def finished(self, record: RoundRecord) -> None:
        """Count the groups of a round: each is lost, or its mean is exact, or it is not."""
        self.outcome.seconds.append(time.process_time() - self._began)
        self.outcome.records.append(record)
        assert record.groups is not None
        updates = self._members.updates(record.round)
        entries = record.groups.groups.values()
        self.outcome.lost += [group.why for group in entries if group.why]
        opened = [group.members for group in entries if not group.why]
        for members, mean in zip(opened, self.means, strict=True):
            self.outcome.exact += self._is_exact(members, mean, updates)

    def _is_exact(
        self, members: tuple[str, ...], mean: Vector, updates: Mapping[str, Vector]
    ) -> bool:
        """Say whether a mean is what the whole numbers of those who had not left come to."""
        plan, samples = self._members.plan, self._members.samples
        [drawn] = [group for group in self._drawn if members[0] in group]
        roster = [name for name in drawn if plan.get(name) is not SecureKeys]
        before = SecureKeys, SecureShares, MaskedUpdate
        there = tuple(sorted(name for name in drawn if plan.get(name) not in before))
        fixed = FixedPoint.of(self._groups.clip, len(roster), self._groups.value_bits)
        largest = max(samples[name] for name in roster)
        total = np.zeros(len(mean) + 1, np.uint32)
        for name in there:
            total += fixed.encode(updates[name], samples[name] / largest)
        weight = sum(samples[name] for name in there) / largest
        right, _clipped = fixed.decode(total, len(there), weight)
        return members == there and mean.tobytes() == right.tobytes()


def leaving(when: str, share: float = SHARE, seed: int = 0) -> Choose:
    """Return what says which members of each group leave: before they send ``when``, or spread."""
    kinds = [STEPS[when]] if when in STEPS else [*STEPS.values()]

    def choose(round_: int, groups: Sequence[frozenset[str]]) -> Plan:
        plan: dict[str, Kind] = {}
        for number, drawn in enumerate(groups):
            rng = stream(seed, Purpose.BENCHMARK, round_, number + 1)
            some = rng.choice(sorted(drawn), int(share * len(drawn)), replace=False)
            for i, name in enumerate(some.tolist()):
                plan[name] = kinds[(round_ + number + i) % len(kinds)]
        return plan

    return choose


def run(choose: Choose, folder: Path, **changes: Any) -> Outcome:
    """Run all rounds, ``choose`` says who leaves in each; ``agents__n=24`` for ``agents.n``."""
    given = {key.replace("__", "."): value for key, value in changes.items()}
    settings = load(overrides=dict(PLAIN) | SETTINGS | given)
    parts, broker, clock, sums = build(settings), MemoryBroker(), Clock(), SumsHeard()
    broker.listeners.append(sums.overhear)
    members = Members(broker, settings, parts.manifest)
    watch = Watch(members, settings, choose)

    def rule(vectors: Matrix, samples: Samples, context: Context) -> Vector:
        watch.means = vectors.copy()
        return parts.config.rule(vectors, samples, context)

    store = RunStore(folder, keep=2)
    history, state = resume(store, settings, parts, lambda _: None)
    hub = MemoryTransport(broker, settings.run.name)
    hub.decoder.limit(limits_of(parts.config, parts.manifest))
    connection = Connection(hub, ":aggregator")
    config = replace(parts.config, rule=rule)
    aggregator = Aggregator(connection, config, store, watch, (), clock)
    aggregator.begin(parts.manifest, history)
    members.come(members.names)
    state = aggregator.gather(state, settings.agents.n, 60.0)
    while not state.done:
        idle = not hub.inbox
        state = aggregator.turn(state)
        if not members.turn() and idle:
            clock.now += settings.collect.every if isinstance(state.phase, Waiting) else 1.0
    outcome = watch.outcome
    outcome.declined, outcome.overlapping = members.declined, sums.wrong()
    return outcome


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Let a tenth of each group leave, at each step in turn and at all four of them."""
    del repeats  # each row has twenty rounds
    torch.set_num_threads(1)
    return [figure for when in (*STEPS, SPREAD) for figure in _figures(when, say)]


def _figures(when: str, say: Callable[[str], None]) -> Iterator[Figure]:
    say(f"{SHARE:.0%} of each group leave before they send {when}, {ROUNDS} rounds")
    with TemporaryDirectory() as folder:
        outcome = run(leaving(when), Path(folder))
    opened = outcome.groups - len(outcome.lost)
    name = f"{outcome.left:,} left before {when}"
    yield Figure(f"{name}: groups lost", [len(outcome.lost)], f"of {outcome.groups}", at_most=0)
    yield Figure(f"{name}: sums not exact", [outcome.wrong], f"of {opened}", at_most=0)
    odd = len(outcome.declined) + bool(outcome.overlapping)
    yield Figure(f"{name}: refusals, sums that overlap", [odd], "", at_most=0)
    yield Figure(f"{name}: a round, processor time", outcome.seconds, "s")
