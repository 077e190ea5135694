"""A hostile aggregator under secure aggregation, that real agents answer or decline.

It goes through the honest steps of ``fedjury.secure.group``, and changes what it tells one victim,
or all, on the way.
"""

from __future__ import annotations

import numpy as np
from support.federation import settings_of, simulated_agents_of

from fedjury.agents.batch_assembly import runner_of
from fedjury.aggregator.assembly import build
from fedjury.aggregator.secure_terms import secure_terms_of
from fedjury.protocol.messages import Decline, Model, Phase, Round
from fedjury.protocol.secure import (
    MaskedUpdate,
    SecureKeys,
    SecureShares,
    UnmaskRequest,
    UnmaskShares,
)
from fedjury.protocol.transport.connection import Connection
from fedjury.secure import group as steps
from fedjury.secure.bits import bits_of
from fedjury.secure.group import Group

N, LEAST = 6, 5
SETTINGS = {
    "agents__n": N,
    "groups__size": N,
    "groups__secure": True,
    "groups__colluding": 0.34,
    "groups__drop_outs": 0.2,
    "groups__least": LEAST,
}
"""Six agents in one group, each with four neighbours, of whom three can undo its masks."""
PATIENCE = 30
"""Turns of the agents after which no answer comes any more."""


def as_told(message):
    """Change nothing."""
    return message


class Server:
    """An aggregator that tells agents what it likes; ``heard`` is all that it ever got of them."""

    def __init__(self, of_agents, own, wait=0.0):
        """``of_agents``, ``own``: two transports. ``wait``: seconds for what is on its way."""
        settings = settings_of(**SETTINGS)
        population, self._wait = simulated_agents_of(settings), wait
        self.fleet = runner_of(population, population.check(), range(N), of_agents, str)
        self._link = Connection(own, "aggregator")
        self._link.subscribe(SecureKeys, SecureShares, MaskedUpdate, UnmaskShares, Decline)
        self.fleet.join()
        self.manifest, self.terms = build(settings).manifest, secure_terms_of(settings)
        self.tell(self.manifest)
        self.heard, self.turn = [], (1, 1)
        self.base(0.0)

    def tell(self, *messages):
        """Publish."""
        for message in messages:
            self._link.publish(message)

    def base(self, value, version=0):
        """Publish a model, all of whose parameters are the same."""
        self.tell(Model(version, np.full(self.manifest.parameters, value, np.float32)))

    def answers(self):
        """Return what the agents say now."""
        said, left = [], PATIENCE
        while left:
            left -= 1
            self.fleet.turn(self._wait)
            while (message := self._link.receive(self._wait)) is not None:
                said.append(message)
                left = PATIENCE
        self.heard += said
        return said

    def announce(self, number=1, attempt=1, version=0):
        """Call all, and let them send their keys."""
        self.turn = number, attempt
        self.tell(Round(number, attempt, Phase.TRAIN, version, "all", (), 60.0))
        return self.answers()

    def group(self, version=0, left_out=()):
        """Return the group with the keys that have come in this turn, but for some."""
        keys = [m for m in self.heard if isinstance(m, SecureKeys) and _turn(m) == self.turn]
        keys = [key for key in keys if key.agent not in left_out]
        names = frozenset(key.agent for key in keys)
        made = Group(0, self.turn, version, self.manifest.parameters + 1, names)
        return self.taken(made, keys)

    def taken(self, group, said):
        """Return the group with what was said."""
        for message in said:
            result = group if isinstance(message, Decline) else steps.take(group, message)
            assert isinstance(result, Group), result
            group = result
        return group

    def step(self, group, change=as_told):
        """Go to the next step, and tell each member; returns the group and what they answer."""
        group = steps.advance(group, self.terms, 0.5)
        assert isinstance(group, Group), group
        said = (steps.told(group, name) for name in sorted(group.awaited))
        self.tell(*(change(message) for message in said))
        return group, self.answers()

    def masked(self, **which):
        """Go on until masked updates have come; returns the group."""
        group, said = self.step(self.group(**which))
        group, said = self.step(self.taken(group, said))
        return self.taken(group, said)

    def opened(self, **which):
        """Go through all of an attempt, honestly; returns the group at its last step."""
        group, said = self.step(self.masked(**which))
        return self.taken(group, said)

    def asks(self, group, alive, name):
        """Ask one member to help to open the sum of those in some places."""
        request = UnmaskRequest(name, *self.turn, bits_of(alive, len(group.names)))
        self.tell(request)
        return self.answers()

    @property
    def shares(self):
        """All shares that were ever given away."""
        return [message for message in self.heard if isinstance(message, UnmaskShares)]


def _turn(message):
    return message.round, message.attempt


def why(said):
    """Return why agents decline: they say nothing else."""
    assert said
    assert all(isinstance(message, Decline) for message in said), said
    return {message.why for message in said}
