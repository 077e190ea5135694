"""A flood: hostile clients that publish garbage on the topics of a run, as fast as they are let.

All receipts are waited for, so that who floods knows how much the broker has.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fedjury.protocol.codec import encode
from fedjury.protocol.messages import Message, Presence, Update, Vote
from fedjury.protocol.topics import USUAL
from tools.chaos.flood import RawPublisher

BATCH = 100
"""Messages that a client sends in one go; who is invented comes and goes in the same."""
HANGS = 60.0
"""Seconds without a receipt after which the flood is given up."""


class Sent(NamedTuple):
    """What a flood was: all of it has been acknowledged by the broker."""

    kinds: Counter
    """What was sent, by what is wrong with it; ``presence``: what is not wrong at all."""
    bytes: int
    seconds: float

    @property
    def messages(self):
        """How many there were."""
        return self.kinds.total()

    @property
    def refused(self):
        """How many of them an aggregator must refuse."""
        return self.messages - self.kinds["presence"]


class Wave:
    """Makes hostile messages for a run: in the names of its agents, and in names of its own."""

    def __init__(self, run, agents=(), parameters=2410, presences=True, seed=0):
        self._run, self._agents, self._presences = run, agents, presences
        self._rng = random.Random(seed)
        delta = np.ones(parameters, np.float32)
        self._fair = Update("x", 1, 0, 20, delta)
        self._payloads = {
            "cut": encode(self._fair)[: 2 * parameters],
            "other round": encode(replace(self._fair, round=2**30)),
            "other model": encode(replace(self._fair, delta=delta[:7])),
            "not finite": encode(replace(self._fair, delta=delta * np.nan)),
            "other vote": encode(
                Vote("x", 2**30, 1, poisoned=True, score=1.0, threshold=0.5, samples=9)
            ),
        }
        self._large = bytes(1_000_000)
        self._invented = 0

    def __call__(self, number):
        """Make message ``number``: what is wrong with it, topic, payload, retained or not."""
        if number % 250 == 7:  # 100 KB to 1 MB
            size = self._rng.randrange(100_000, 1_000_000)
            return "large", self._topic(self._fair), self._large[:size], False
        kind = number % 10
        if kind == 9 and self._presences:
            return self._presence()
        if kind < 5:
            name = list(self._payloads)[kind]
            message = Vote("x", 1, 1, False, 0.0, 0.0, 1) if "vote" in name else self._fair
            return name, self._topic(message), self._payloads[name], False
        if kind == 5:
            return "empty", self._topic(self._fair), b"", False
        garbage = self._rng.randbytes(self._rng.randrange(1, 400))
        of = (self._fair, Vote("x", 1, 1, False, 0.0, 0.0, 1), Presence("x", True, 0.0))[number % 3]
        return "garbage", self._topic(of), b"\xc1" + garbage, False

    def _topic(self, message: Message) -> str:
        """Say where a message stands in the name of an agent, or of one that there is not."""
        known = self._agents and self._rng.random() < 0.5
        name = self._rng.choice(self._agents) if known else f"mallory-{self._rng.randrange(9999)}"
        return USUAL.of(self._run, replace(message, agent=name))

    def _presence(self):
        """Let somebody join who does not exist, or leave: whoever comes goes again."""
        message = Presence(f"sybil-{self._invented // 2}", self._invented % 2 == 0, 0.0)
        self._invented += 1
        return "presence", USUAL.of(self._run, message), encode(message), True


def flood(address, run, messages, clients=20, seconds=0.0, **wave):
    """Publish so many hostile messages through so many clients, spread over so many seconds.

    ``seconds`` 0: as fast as the broker takes them. ``wave``: see ``Wave``. Returns when the broker
    has acknowledged them all.
    """
    make, kinds, size, given = Wave(run, **wave), Counter(), 0, 0
    hoses = [RawPublisher(*address[:2], f"mallory-{number}") for number in range(clients)]
    begun = heard = time.monotonic()
    while given < messages or not all(hose.done for hose in hoses):
        now = time.monotonic()
        allowed = min(messages, int(messages * (now - begun) / seconds)) if seconds else messages
        for hose in hoses:
            if hose.idle and given < allowed:
                batch = [make(given + i) for i in range(min(BATCH, messages - given))]
                given += len(batch)
                kinds.update(kind for kind, *_ in batch)
                size += sum(len(payload) for _, _, payload, _ in batch)
                hose.give(said[1:] for said in batch)
        if sum(hose.turn() for hose in hoses):
            heard = now
        elif given >= allowed:
            time.sleep(0.001)
        assert now - heard < HANGS + seconds, f"no receipts: {given:,} of {messages:,} were sent"
    for hose in hoses:
        hose.close()
    return Sent(kinds, size, time.monotonic() - begun)


def publish(address, messages):
    """Publish messages (a name, topic, payload, retained) through one client, in order."""
    hose, until = RawPublisher(*address[:2], "many"), time.monotonic() + HANGS
    for start in range(0, len(messages), BATCH):
        hose.give(said[1:] for said in messages[start : start + BATCH])
        while not hose.done:
            if not hose.turn():
                time.sleep(0.001)
            assert time.monotonic() < until, "no receipts"
    hose.close()
