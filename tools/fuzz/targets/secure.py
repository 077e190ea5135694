"""Secure aggregation, both sides of it, with a hostile wire between: ``[moves of four bytes]``.

Ten agents and a round answer each other as over a network, in bytes that are decoded. The moves say
which message goes through, which is lost, comes twice, is damaged, or is told to another. Nothing
may be raised; no agent may give shares of two kinds for one neighbour; and of the sums over one
model that agents are asked to open, no two may overlap in part.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import combinations, islice
from typing import get_args

import numpy as np

from fedjury.agents.agent import Train
from fedjury.agents.opened_sums import OpenedSums
from fedjury.agents.secure_members import SecureMembers
from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.messages import BadMessage, Decline, Message, Phase, Reason, Round, Update
from fedjury.protocol.record import Quality
from fedjury.protocol.secure import (
    SecureDown,
    SecureUp,
    UnmaskRequest,
    UnmaskShares,
)
from fedjury.protocol.topics import USUAL
from fedjury.round import machine
from fedjury.round.effects import CountInvalid, Effect, PersistSums, Publish
from fedjury.round.state import Event, GlobalModel, InvalidMessage, RoundConfig, State, Tick
from fedjury.secure.group import Terms
from tools.fuzz.examples import MANIFEST, PARAMETERS
from tools.fuzz.policies import policy
from tools.fuzz.target import Target

AGENTS = tuple(f"agent-{number}" for number in range(10))
LIMITS = Limits(PARAMETERS, size=20_000)
MANY = 400
"""Messages that are under way, at the most."""
SETTINGS = {
    "groups.size": 5,
    "groups.secure": True,
    "groups.by_seed": True,
    "groups.colluding": 0.2,
    "groups.drop_outs": 0.2,
    "groups.least": 4,
    "collect.min_updates": 2,
}

Heard = tuple[str, bytes]


def source() -> Callable[[int], bytes]:
    """Return where keys come from: the same for the same moves, as nothing is secret here."""
    return random.Random(0).randbytes


class Play:
    """A run: the round, the agents, and what is under way between them."""

    def __init__(self) -> None:
        terms = Terms("run", 0.2, 0.2, 4, 14, 1_000, source())
        self.config: RoundConfig = policy("mean", SETTINGS, secure=terms)
        self.model = np.zeros(PARAMETERS, np.float32)
        self.state = State(GlobalModel(0, self.model, Quality(0.0)), 0)
        self.members = SecureMembers("run", MANIFEST, OpenedSums(), random=source())
        self.online, self.now = set(AGENTS), 0.0
        self.up: deque[Heard] = deque(maxlen=MANY)
        self.down: deque[Heard] = deque(maxlen=MANY)
        self.refused = self.counted = 0
        self.given: dict[tuple[str, int, int], bytes] = {}
        """Agent and attempt -> the shares that it gave."""
        self.base: dict[tuple[str, int, int], bytes] = {}
        """Agent and attempt -> the model from which it has trained."""
        self.helped: dict[tuple[str, bytes], bytes] = {}
        """Agent and model -> of whom it has helped to open a sum over it."""
        self.asked: dict[bytes, set[frozenset[str]]] = defaultdict(set)
        """What stands for a model -> whose updates are in the sums that agents were asked for."""
        self.durable: set[frozenset[str]] = set()
        """Sums that were made durable since the attempt began."""

    def move(self, kind: int, agent: int, what: int, how: int) -> None:
        """Make one move."""
        match kind % 8:
            case 0:
                self.now += what / 8
                self.step(Tick(self.now, frozenset(self.online), reachable=how < 240))
            case 1:  # all that is under way comes, so many times
                for _ in range(1 + how % 4):
                    self.flow()
            case 2:
                name = AGENTS[agent % len(AGENTS)]
                (self.online.add if what % 2 else self.online.discard)(name)
            case 3 | 4:
                line = self.up if kind % 8 == 3 else self.down
                if line:
                    self.spoil(line, agent, what, how)
            case 5:
                self.step(InvalidMessage(AGENTS[agent % len(AGENTS)], Reason.MALFORMED))
            case 6:
                name = AGENTS[agent % len(AGENTS)]
                turn = self.state.round, self.state.attempt
                self.say(self.up, Decline(name, *turn, "no data"))
            case _:  # once more, from what has come
                self.offer(AGENTS[agent % len(AGENTS)], 1 + how % 3)

    def spoil(self, line: deque[Heard], agent: int, what: int, how: int) -> None:
        """Damage the next message of a line, repeat it, lose it, or tell it to another."""
        topic, payload = line[0]
        match agent % 4:
            case 0:
                damaged = bytearray(payload)
                damaged[what * 7 % len(damaged)] = how
                line[0] = topic, bytes(damaged)
            case 1:
                line.append(line[0])
            case 2:
                line.popleft()
            case _:
                place = topic.rpartition("/")[0]
                line[0] = f"{place}/{AGENTS[how % len(AGENTS)]}", payload
        line.rotate(-(what % 3))

    def flow(self) -> None:
        """Let all that is under way come."""
        for _ in range(len(self.down)):
            self.hear(self.down.popleft())
        for _ in range(len(self.up)):
            self.take(self.up.popleft())

    def say(self, line: deque[Heard], message: Message) -> None:
        """Put a message on its way."""
        line.append((USUAL.of("run", message), encode(message)))

    # ------------------------------------------------------------ agents

    def hear(self, heard: Heard) -> None:
        """Let an agent hear what it is told, if that is a message."""
        try:
            message = decode(*heard, LIMITS)
        except BadMessage:
            return
        assert isinstance(message, SecureDown)
        if (answer := self.members.answer(message)) is not None:
            assert answer.agent == message.agent  # type: ignore[union-attr]
            assert isinstance(answer, Decline | SecureUp)
            if isinstance(answer, UnmaskShares):
                key = answer.agent, answer.round, answer.attempt
                assert self.given.setdefault(key, answer.shares) == answer.shares
                assert isinstance(message, UnmaskRequest)
                over = answer.agent, self.base[key]
                assert self.helped.setdefault(over, message.survivors) == message.survivors
            if isinstance(answer, Decline):
                assert answer.why
            self.say(self.up, answer)

    def offer(self, name: str, samples: int) -> None:
        """Let an agent send its keys for the attempt at hand: its update is of all its samples."""
        update = Update(name, self.state.round, self.state.version, samples, self.model + 0.25)
        self.base[name, self.state.round, self.state.attempt] = self.model.tobytes()
        task = Train(self.state.round, self.state.attempt, self.state.version)
        for message in self.members.offer(update, task, self.model):
            self.say(self.up, message)

    # ------------------------------------------------------------ the round

    def take(self, heard: Heard) -> None:
        """Let the round have what came: it is taken, or it is counted."""
        try:
            message = decode(*heard, LIMITS)
        except BadMessage as bad:
            self.step(InvalidMessage(bad.agent, bad.reason))
            return
        assert isinstance(message, Decline | SecureUp)
        self.step(message)

    def step(self, event: Event) -> None:
        """Take one step, and check what must always hold."""
        before = self.refused
        self.state, effects = machine.step(self.state, event, self.config)
        for effect in effects:
            self.carry_out(effect)
        if isinstance(event, InvalidMessage):
            assert self.refused == before + 1
        assert set(self.state.invalid) <= {reason.value for reason in Reason}
        for sums in self.asked.values():
            assert all(a == b or a.isdisjoint(b) for a, b in combinations(sums, 2))

    def carry_out(self, effect: Effect) -> None:
        """Note an effect."""
        match effect:
            case CountInvalid():
                self.refused += 1
            case PersistSums(sums):
                for base, opened in sums.bases:
                    self.asked[base] |= {frozenset(one.survivors) for one in opened}
                self.durable = set().union(*self.asked.values())
            case Publish(Round(phase=Phase.TRAIN, version=version)):
                assert version == self.state.version
                self.durable = set()
                self.model = self.state.weights
                for name in sorted(self.state.selected & self.online):
                    self.offer(name, 1 + len(name) % 3)
            case Publish(message) if isinstance(message, get_args(SecureDown)):
                if isinstance(message, UnmaskRequest):
                    assert any(message.agent in one for one in self.durable), "asked, not written"
                self.say(self.down, message)


def one(data: bytes) -> None:
    """Play a run."""
    play = Play()
    play.step(Tick(0.0, frozenset(AGENTS)))
    for start in range(0, len(data) - 3, 4):
        play.move(*islice(data, start, start + 4))


def seeds() -> list[bytes]:
    """Return runs in which all answer, one leaves at each step, and messages are spoilt."""
    tick, flow, late = bytes([0, 0, 1, 0]), bytes([1, 0, 0, 0]), bytes([0, 0, 255, 0])
    gone, back = bytes([2, 1, 0, 0]), bytes([2, 1, 1, 0])
    whole = (flow * 4 + tick) * 2
    result = [whole]
    for step in range(5):
        before, after = flow * step, flow * (5 - step) + late + flow * 3 + late + tick
        result.append(before + gone + after + back + whole)
        for kind in (3, 4):
            for how in (step % 4, (step + 1) % 4):
                spoilt = bytes([kind, how, 30 + how, 200])
                result.append(before + spoilt * 3 + after + whole)
    again, sorry = bytes([7, 2, 0, 1]), bytes([6, 3, 0, 4])
    return [*result, flow + again + flow * 3 + sorry + late + whole, sorry + flow + late * 4]


TARGET = Target(one, seeds, longest=256)
