"""A whole group's secure aggregation by hand: its members and its aggregator, step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from support.noise import drawn

from fedjury.secure import agent
from fedjury.secure.agent import Least, Refusal
from fedjury.secure.group import Group, Step, Terms, advance, take, told
from fedjury.secure.opening import opened

RUN, TURN, VERSION, CLIP = "run", (4, 2), 7, 0.5
LEAST = Least()


def letters(n):
    """Return names of n agents, sorted."""
    return [chr(ord("a") + i) for i in range(n)]


def terms_of(seed=0, **changed):
    """Return terms under which twelve agents have eight neighbours, three of whom undo a mask."""
    usual = Terms(RUN, 0.2, 0.34, 3, 14, 1000, drawn(1000 + seed))
    return replace(usual, **changed)


class SecureGroup:
    """One group: ``step(absent)`` goes through its step at hand without some of its members.

    ``hostile``: takes each message of an agent, and returns what is sent instead. ``order``: in
    which messages come. All is drawn from the seed. ``agents``: the state of each member.
    With ``value_bits`` 0 the updates are whole numbers, summed as they are.
    """

    def __init__(
        self,
        updates,
        samples=None,
        *,
        seed=0,
        hostile=lambda m: m,
        order=list,
        group=0,
        hidden=0,
        **terms,
    ):
        self.updates = np.asarray(updates, np.float32)
        n, d = self.updates.shape
        self.names = letters(n)
        self.samples = dict(zip(self.names, samples or [1] * n, strict=True))
        self.random = {name: drawn(seed * 1000 + i) for i, name in enumerate(self.names)}
        self.terms = terms_of(seed, **terms)
        self.hostile, self.order = hostile, order
        self.before, self.least = {}, LEAST
        self.agents, self.sent, self.refusals, self.refused = {}, {}, {}, {}
        length, self.hidden = d + bool(self.terms.value_bits) + bool(hidden), hidden
        self.group = Group(group, TURN, VERSION, length, frozenset(self.names), hidden=hidden)

    def says(self, name):
        """Return a member's message at the step at hand."""
        now, random = self.group, self.random[name]
        if now.step is Step.KEYS:
            own = name, RUN, TURN, self.samples[name], random, self.hidden
            self.agents[name], message = agent.join(*own)
            return message
        state, heard = self.agents[name], told(now, name)
        if now.step is Step.SHARES:
            self.agents[name] = agent.share(state, heard, self.before.get(name), self.least, random)
            return self.agents[name].sent
        if now.step is Step.UPDATES:
            self.agents[name] = agent.add_masks(state, heard, now.length)
            update = self.updates[self.names.index(name)]
            if not self.terms.value_bits:
                return agent.masked_counts(self.agents[name], VERSION, update.astype(np.int64))
            return agent.masked_update(self.agents[name], VERSION, update)
        answered, opens = agent.unmask(state, heard, self.before.get(name), self.least)
        self.agents[name], self.before[name] = answered, opens
        return answered.answer

    def send(self, message):
        """Let the aggregator take a message."""
        result = take(self.group, message)
        if isinstance(result, Group):
            self.group = result
            self.sent.setdefault(type(message).__name__, {})[message.agent] = message
        else:
            self.refused[message.agent] = result

    def answer(self, absent=()):
        """Let those members who may answer the step at hand do so."""
        for name in self.order([name for name in self.names if name in self.group.awaited]):
            if name in absent:
                continue
            try:
                message = self.says(name)
            except Refusal as why:
                self.refusals[name] = str(why)
            else:
                self.send(self.hostile(message))

    def step(self, absent=()):
        """Go through the step at hand, and on to the next; returns the group, opened or lost."""
        self.answer(absent)
        last = self.group.step is Step.UNMASK
        self.group = opened(self.group, RUN) if last else advance(self.group, self.terms, CLIP)
        return self.group

    def until(self, step):
        """Go on until the group waits for this step."""
        while self.group.step < step:
            self.step()
        return self

    def run(self, *absent):
        """Go through all the steps that are left; ``absent``: from the step at hand on."""
        for missing in (*absent, *[""] * 4):
            if not isinstance(self.group, Group):
                break
            self.step(missing)
        return self.group

    def clear(self, members, weights=None):
        """Return the weighted mean of these members' updates, and its largest error by rounding."""
        rows = [self.names.index(name) for name in members]
        weights = np.array(weights or [1] * len(rows), float)
        weights /= weights.max()
        clipped = np.clip(self.updates[rows].astype(float), -CLIP, CLIP)
        step = 2 * CLIP / (2**self.terms.value_bits - 1)
        error = len(rows) * step / 2 / weights.sum()
        return weights @ clipped / weights.sum(), error + 1e-7


def at_step(step, *absent, **options):
    """Return the state of member a before it does this step, and what it is told.

    ``absent``: the numbers of those of its neighbours who are missing from the second step on.
    """
    group = SecureGroup(some_updates(), **options).until(Step.SHARES)
    near = told(group.group, "a").names.split(" ")
    for number in absent:
        group.step(near[number])
    group.until(step)
    return group.agents["a"], told(group.group, "a")


def some_updates(n=12, d=6, seed=0):
    """Return updates (n, d), some of whose coordinates are clipped."""
    scale = 0.4
    return np.array([np.frombuffer(drawn(seed * 100 + i)(d), np.int8) for i in range(n)]) * (
        scale / 64
    )


def chi_square(values, bins):
    """Return by how many standard deviations counts of values below ``bins`` differ from even ones.

    Of so many values the statistic is normal: its mean is bins - 1, its variance twice that.
    """
    counts = np.bincount(values, minlength=bins)
    even = len(values) / bins
    return (((counts - even) ** 2 / even).sum() - (bins - 1)) / np.sqrt(2 * (bins - 1))
