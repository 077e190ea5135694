"""What secure aggregation costs: an agent's steps alone, and W1 beside itself in the clear."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fedjury.protocol.messages import Vector
from fedjury.randomness import Purpose, stream
from fedjury.secure import agent, group
from fedjury.secure.group import Terms
from fedjury.secure.keys import KEY, KeyPair
from fedjury.secure.opening import opened
from tools.benchmarks import network
from tools.benchmarks.figures import Figure, ratios

MEMBERS = 50
AGREEMENTS = 1_000
SHARES = {22: (0.33, 0.1), 16: (0.2, 0.1)}
"""Degree in groups of fifty -> the shares of colluding agents and drop-outs that lead to it."""

WAYS: dict[str, dict[str, object]] = {
    "in the clear": {},
    **{
        f"under masks, k = {degree}": {
            "groups.secure": "true",
            "groups.size": MEMBERS,
            "groups.colluding": colluding,
            "groups.drop_outs": dropping,
        }
        for degree, (colluding, dropping) in SHARES.items()
    },
}
"""How W1 is run -> settings."""


def flags(way: str) -> list[str]:
    """Return the flags that make W1 one of these."""
    return [word for key, value in WAYS[way].items() for word in ("--set", f"{key}={value}")]


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure processor time of an agent's four steps, of the server's, and of whole rounds."""
    figures = [
        Figure("one agreement of two agents (X25519)", [agreement() for _ in range(repeats)], "ms")
    ]
    for parameters, most in ((13_106, 2.5), (139_960, 20.0)):
        say(f"secure aggregation of {MEMBERS} updates of {parameters:,} parameters")
        agents, servers = zip(*(one_group(parameters) for _ in range(repeats)), strict=True)
        name = f"d = {parameters:,}, k = 22: processor time"
        figures += [
            Figure(f"{name} of an agent", agents, "ms", at_most=most),
            Figure(f"{name} of the server for it", servers, "ms"),
        ]
    runs: dict[str, list[network.Run]] = {way: [] for way in WAYS}
    for number in range(1, repeats + 1):
        for way in WAYS:
            say(f"W1 {way}, {number} of {repeats}")
            runs[way].append(network.federation(10, *flags(way)))
    spent = {way: [1e3 * sum(run.processor.values()) for run in some] for way, some in runs.items()}
    clear = spent["in the clear"]
    figures += [Figure(f"W1 {way}: processor time", s, "ms/update") for way, s in spent.items()]
    for degree, most in ((22, 6.0), (16, 4.5)):
        way = f"under masks, k = {degree}"
        figures.append(ratios(f"W1: {way} / in the clear", spent[way], clear, at_most=most))
    return figures


def agreement() -> float:
    """Return how many ms an agreement takes: half of an agent's time is 44 of them."""
    own, other = (KeyPair.of(os.urandom(KEY)) for _ in range(2))
    start = time.process_time()
    for _ in range(AGREEMENTS):
        own.agree(other.public)
    return 1e3 * (time.process_time() - start) / AGREEMENTS


def one_group(parameters: int) -> tuple[float, float]:
    """Let fifty agents, each by itself, sum their updates; returns ms an agent, theirs and ours."""
    names = [f"agent-{number:02d}" for number in range(MEMBERS)]
    rows = stream(0, Purpose.BENCHMARK).normal(0, 0.03, (MEMBERS, parameters)).astype(np.float32)
    updates = dict(zip(names, rows, strict=True))
    terms = Terms("bench", *SHARES[22], 3, 14, 1000, os.urandom)
    now: Any = group.Group(0, (1, 1), 0, parameters + 1, frozenset(names))
    parts: dict[str, Any] = {}
    spent, began = 0.0, time.process_time()
    for step in (_keys, _shares, _update, _unmask):
        for name in names:
            told, start = group.told(now, name), time.process_time()
            parts[name], said = step(name, parts.get(name), told, updates[name])
            spent += time.process_time() - start
            now = group.take(now, said)
        now = opened(now, "bench") if step is _unmask else group.advance(now, terms, 0.1)
    whole = time.process_time() - began
    return 1e3 * spent / MEMBERS, 1e3 * (whole - spent) / MEMBERS


def _keys(name: str, _: Any, __: Any, ___: Vector) -> tuple[Any, Any]:
    return agent.join(name, "bench", (1, 1), 4, os.urandom)


def _shares(_: str, joined: Any, told: Any, __: Vector) -> tuple[Any, Any]:
    shared = agent.share(joined, told, None, agent.Least(), os.urandom)
    return shared, shared.sent


def _update(_: str, shared: Any, told: Any, update: Vector) -> tuple[Any, Any]:
    masked = agent.add_masks(shared, told, len(update) + 1)
    return masked, agent.masked_update(masked, 0, update)


def _unmask(_: str, masked: Any, told: Any, __: Vector) -> tuple[Any, Any]:
    answered, _opened = agent.unmask(masked, told, None, agent.Least())
    return answered, answered.answer
