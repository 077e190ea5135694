"""A round, told of messages and of the time in any order: ``[policy, then moves of four bytes]``.

Every message travels as bytes and is decoded, as over a network: what is no message comes to the
round as a refusal. Whatever is said, the round must not fall over, must take each agent's first
answer and no other, must count every message that it does not take, and must not grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.counts import packed
from fedjury.protocol.messages import (
    BadMessage,
    GroupVotes,
    Model,
    Reason,
    Update,
    Vote,
    turn_of,
)
from fedjury.protocol.record import Quality
from fedjury.protocol.topics import USUAL
from fedjury.round import machine
from fedjury.round.collect.update_buffer import UpdateBuffer
from fedjury.round.effects import CountInvalid, Effect, Persist, Publish
from fedjury.round.state import (
    GlobalModel,
    InvalidMessage,
    JudgingAndTraining,
    RoundConfig,
    State,
    Tick,
    Training,
    VotingOnGroups,
)
from tools.fuzz.examples import EVIDENCE, PARAMETERS
from tools.fuzz.policies import AGENTS, ATTEMPTS, POLICIES, ROUNDS
from tools.fuzz.target import Target

NAMES = (*AGENTS, "mallory", "agent-01")
VALUES = (0.0, 1.0, -1.0, 0.25, 1e-30, 1e30, 3e38, float("inf"), float("nan"))
REASONS = {reason.value for reason in Reason}
OFF = (0, 0, 0, 0, 0, 1, -1, 2**30)
"""What is added to the right round or version: mostly nothing."""


Answer = Update | Vote | GroupVotes


class Heard(NamedTuple):
    """A message as it came."""

    topic: str
    payload: bytes


class Play:
    """A run, its clock, who is online, and what has been counted besides."""

    def __init__(self, chosen: RoundConfig) -> None:
        self.config = chosen
        most = chosen.pool.most if chosen.pool else 0
        self.limits = Limits(PARAMETERS, size=2000, finite=chosen.limits.finite, counts=most)
        weights = np.zeros(PARAMETERS, dtype=np.float32)
        first = (
            () if chosen.server_validator is None else (chosen.server_validator.profile(weights),)
        )
        self.state = State(GlobalModel(0, weights, Quality(0.0), profiles=first), 0)
        self.online = set(AGENTS)
        self.now = 0.0
        self.refused: Counter[str] = Counter()
        self.recorded: Counter[str] = Counter()
        self.taken: dict[tuple[int, int, str, str], bytes] = {}
        self.last = Heard(USUAL.of("run", self.update(0, 0, 0)), b"")

    def move(self, kind: int, agent: int, what: int, how: int) -> None:
        """Make one move."""
        match kind % 8:
            case 0 | 1:
                self.now += what / 8
                self.tick(reachable=how < 240)
            case 2:
                self.say(self.update(agent, what, how))
            case 3:  # many at once, by the bits of ``agent``; the lowest: they vote
                for number in range(len(AGENTS)):
                    if agent >> 1 >> number & 1:
                        self.say(
                            (self.ballot if agent & 1 else self.update)(number, what, how + number)
                        )
            case 4:
                self.say(self.ballot(agent, what, how))
            case 5:
                (self.online.add if what % 2 else self.online.discard)(NAMES[agent % len(NAMES)])
            case 6:  # damaged on its way
                payload = bytearray(self.last.payload or b"?")
                payload[what % len(payload)] = how
                self.on_message(Heard(self.last.topic, bytes(payload)))
            case _:  # said again, maybe by another
                place = self.last.topic.rpartition("/")[0]
                self.on_message(Heard(f"{place}/{NAMES[agent % len(NAMES)]}", self.last.payload))

    def update(self, agent: int, what: int, how: int) -> Update:
        """Make an update that fits, or nearly."""
        judging = isinstance(self.state.phase, JudgingAndTraining)
        values = (VALUES[(how + i * (what >> 6)) % len(VALUES)] for i in range(PARAMETERS))
        return Update(
            NAMES[agent % len(NAMES)],
            max(0, self.state.round + OFF[what % 8]),
            max(0, self.state.version + judging + OFF[what >> 3 & 7]),
            how << (how & 15),
            np.fromiter(values, np.float32),
            score=how / 8,
            threshold=1.0,
            evidence=EVIDENCE,
            counts=self.counts(how),
        )

    def ballot(self, agent: int, what: int, how: int) -> Vote | GroupVotes:
        """Make what is to be voted now: on groups or on a candidate, now and then the other."""
        on_groups = isinstance(self.state.phase, VotingOnGroups) != (how % 256 > 240)
        return (self.group_votes if on_groups else self.vote)(agent, what, how)

    def group_votes(self, agent: int, what: int, how: int) -> GroupVotes:
        """Make votes on the groups that an agent was to judge, or nearly on these."""
        name, phase = NAMES[agent % len(NAMES)], self.state.phase
        places = {validator: place for place, validator in enumerate(self.state.validators)}
        count = phase.count if isinstance(phase, VotingOnGroups) else 3
        place = places.get(name, agent) + (how % 32 == 31)
        vote = self.vote(agent, what, how)
        groups = turn_of(place, count, self.config.validation.groups_each) or (0,)
        said = {group: replace(vote, poisoned=bool(how + group & 1)) for group in groups}
        with np.errstate(over="ignore"):
            return GroupVotes.of(said)

    def vote(self, agent: int, what: int, how: int) -> Vote:
        """Make a vote that fits, or nearly."""
        evidence = np.full(how >> 4, VALUES[how % 7], "<f4").tobytes()
        return Vote(
            NAMES[agent % len(NAMES)],
            max(0, self.state.round + OFF[what % 8]),
            max(0, self.state.attempt + OFF[what >> 3 & 7]),
            poisoned=bool(what >> 6 & 1),
            score=VALUES[how % 7],
            threshold=1.0,
            samples=how,
            evidence=evidence,
            counts=self.counts(how),
        )

    def counts(self, how: int) -> bytes:
        """Make error counts that fit in number, or nearly, and in size more often than not."""
        models = min(self.state.version, 4) + 2
        numbers = 4 * models + OFF[how & 7] % 3
        return packed(np.arange(numbers, dtype=np.int64) * (how >> 4) % 50) if how & 64 else b""

    def say(self, message: Update | Vote | GroupVotes) -> None:
        """Send a message."""
        codec = "float32" if not isinstance(message, Update) else ("float32", "int8+zstd")[self.odd]
        self.on_message(Heard(USUAL.of("run", message), encode(message, codec)))

    @property
    def odd(self) -> int:
        """Whether the last payload has an odd length: as good as a coin."""
        return len(self.last.payload) % 2

    def on_message(self, heard: Heard) -> None:
        """Let the round have what came: it is taken, or it is counted as refused."""
        self.last = heard
        before, total = self.state, self.refused.total()
        event: Answer | InvalidMessage
        try:
            message = decode(*heard, self.limits)
            assert isinstance(message, Answer)
            event = message
        except BadMessage as bad:
            event = InvalidMessage(bad.agent, bad.reason, bad.kind is Update)
        effects = self.step(event)
        after = self.state
        assert not any(isinstance(effect, Publish) for effect in effects)
        new = (
            (set(after.updates.names) - set(before.updates.names))
            | (after.votes.keys() - before.votes.keys())
            | (on_groups(after).keys() - on_groups(before).keys())
        )
        if isinstance(event, InvalidMessage) or not new:
            assert self.refused.total() == total + 1
            assert after.updates.names == before.updates.names
            assert after.votes == before.votes
            assert on_groups(after) == on_groups(before)
        else:
            assert new == {event.agent}
            assert self.refused.total() == total
            self.remember(event)

    def remember(self, event: Answer) -> None:
        """Note what was taken: nobody's answer is taken twice."""
        message = event.delta.tobytes() if isinstance(event, Update) else encode(event)
        state = self.state
        key = state.round, state.attempt, type(event).__name__, event.agent
        assert key not in self.taken
        assert event.agent in state.selected or event.agent in state.validators
        self.taken[key] = message

    def tick(self, *, reachable: bool = True) -> None:
        """Let the round look at the clock."""
        self.check_rows()
        before = self.state
        effects = self.step(Tick(self.now, frozenset(self.online), reachable=reachable))
        version = before.version
        written = False
        for effect in effects:
            match effect:
                case Persist(record, model, _, _, _):
                    written = True
                    assert record.round == before.round
                    assert (model is not None) == (record.version > before.version)
                case Publish(Model(number, weights)):
                    assert written, "published before it was written"
                    assert number == version + 1
                    assert not self.config.limits.finite or np.isfinite(weights).all()
                    version = number
        assert self.state.version == version

    def check_rows(self) -> None:
        """Check that the matrix holds what was taken, each update in its row."""
        state = self.state
        if not len(state.updates):
            return
        assert isinstance(state.updates, UpdateBuffer)
        matrix, _ = state.updates.matrix()
        for name, row in zip(state.updates.names, matrix, strict=True):
            key = state.round, state.attempt, Update.__name__, name
            assert row.tobytes() == self.taken[key]

    def step(self, event: Answer | InvalidMessage | Tick) -> list[Effect]:
        """Take one step, and check what must always hold."""
        self.state, effects = machine.step(self.state, event, self.config)
        state = self.state
        for effect in effects:
            match effect:
                case CountInvalid(_, reason, _):
                    self.refused[reason.value] += 1
                case Persist(record, _, _, _, _):
                    self.recorded.update(record.traffic.invalid_messages)
        counted = self.recorded + Counter(state.invalid)
        assert self.refused == counted, "a refusal is not counted"
        assert state.invalid.keys() <= REASONS
        assert len(state.updates) <= len(state.selected)
        assert len(state.votes) <= len(state.selected) + len(state.validators)
        assert on_groups(state).keys() <= set(state.validators)
        if isinstance(state.phase, Training):
            assert state.phase.invalid_from <= state.selected
        assert state.round <= ROUNDS
        assert state.attempt <= ATTEMPTS
        assert len(state.registry.seen) <= len(NAMES)
        return effects


def on_groups(state: State) -> Mapping[str, GroupVotes]:
    """Return the votes on groups that have come; none where nobody votes on groups."""
    return state.phase.votes if isinstance(state.phase, VotingOnGroups) else {}


def one(data: bytes) -> None:
    """Play a run."""
    if not data:
        return
    play = Play(POLICIES[data[0] % len(POLICIES)])
    play.tick()
    for start in range(1, len(data) - 3, 4):
        play.move(*islice(data, start, start + 4))


def seeds() -> list[bytes]:
    """Return runs in which all answer, round after round, under every policy."""
    result = []
    answers, votes, against = (
        bytes([3, 126, 0, 0]),
        bytes([3, 127, 0, 0x32]),
        bytes([3, 127, 64, 2]),
    )
    one, two = bytes([2, 3, 0, 1]), bytes([4, 3, 0, 0x32])
    late, soon, junk = bytes([0, 0, 255, 0]), bytes([0, 0, 1, 0]), bytes([6, 0, 0, 255])
    for number in range(len(POLICIES)):
        first = bytes([number])
        turns = (answers + junk + soon + votes + soon, answers + soon + against + soon + junk)
        result.append(first + turns[0] * 6 + turns[1] * 2 + late * 3)
        result.append(first + one + junk * 3 + late + answers + junk + two * 2 + late * 3)
    return result


TARGET = Target(one, seeds, longest=256)
