"""Raw clients that are members of a group under secure aggregation: honest ones, and such that lie.

They speak to the broker by themselves, none of our agents is in them; only the protocol's own
steps are taken from ``fedjury.secure.agent``.
"""

from __future__ import annotations

import os

import numpy as np
import paho.mqtt.client as paho
from support.listening import until
from support.network import RUN
from support.secure_net import SAMPLES, decoded
from support.strangers import Caller

from fedjury.protocol.codec import encode
from fedjury.protocol.messages import Phase, Presence, Round
from fedjury.protocol.secure import SecureInbox, SecurePeers, UnmaskRequest
from fedjury.protocol.topics import USUAL
from fedjury.secure import agent as steps
from fedjury.secure.agent import Least

HERE = f"fl/v2/{RUN}"


class Raw(Caller):
    """An enrolled client that knows which of its messages the broker has answered, and how."""

    def __init__(self, house, name, *topics):
        self.name, self.sent, self.answered, self.denied = name, 0, 0, 0
        self.after = {}
        """What was said -> how many messages had been sent with it."""
        certified = next(house.folder.rglob(f"{name}.crt"), None)
        login = (None, None) if certified else (name, house.secret(name))
        tls = house.context(name) if certified else None
        subscribed = [f"{HERE}/{topic}" for topic in topics]
        super().__init__(house.address, *login, *subscribed, protocol=paho.MQTTv5, tls=tls)
        self.paho.on_publish = self._receipt

    def _receipt(self, _client, _data, _mid, reason, _properties):
        self.answered += 1
        self.denied += str(reason) == "Not authorized"

    def throw(self, topic, payload, *, retain=False):
        """Publish below the run, and wait for nothing."""
        self.sent += 1
        self.paho.publish(f"{HERE}/{topic}", payload, qos=1, retain=retain)

    def tell(self, *said):
        """Publish messages of the protocol, where each belongs."""
        for message in said:
            self.throw(USUAL.of(RUN, message).removeprefix(f"{HERE}/"), encode(message))

    def has_said(self, what):
        """Return whether the broker has answered all that went with something."""
        return what in self.after and self.answered >= self.after[what]


class Member(Raw):
    """An agent that does not train: its updates are zero."""

    def __init__(self, house, name, parameters):
        self._update, self._state, self._turn = np.zeros(parameters, np.float32), None, None
        alone = (f"secure/{kind}/{name}" for kind in ("peers", "inbox", "unmask"))
        super().__init__(house, name, "round", *alone)
        there = Presence(name, online=True, since=1.0, votes=False)
        self.throw(f"agent/{name}", encode(there), retain=True)

    def _hear(self, client, data, message):
        super()._hear(client, data, message)
        for said in decoded([(message.topic, message.payload)]):
            self.heard_of(said)

    def heard_of(self, said):
        """Take the next step."""
        match said:
            case Round(number, attempt, Phase.TRAIN, version) if self._turn != (number, attempt):
                self._turn, self._version = (number, attempt), version
                self._state, keys = steps.join(self.name, RUN, self._turn, SAMPLES, os.urandom)
                self.reply(self._turn, keys)
            case SecurePeers():
                self._state = steps.share(self._state, said, None, Least(), os.urandom)
                self.reply(self._turn, self._state.sent)
            case SecureInbox():
                self._state = steps.add_masks(self._state, said, len(self._update) + 1)
                self.reply(
                    self._turn, steps.masked_update(self._state, self._version, self._update)
                )
            case UnmaskRequest():
                self._state, _ = steps.unmask(self._state, said, None, Least())
                self.reply(self._turn, self._state.answer)

    def reply(self, turn, said):
        """Say what a step asks for."""
        self.tell(said)
        self.after[turn, type(said)] = self.sent


class Last(Member):
    """One who answers each step only when another has said all that it has to say there."""

    def __init__(self, house, name, parameters, other):
        self._other = other
        super().__init__(house, name, parameters)

    def reply(self, turn, said):
        """Wait, then answer."""
        until(lambda: self._other.has_said((turn, type(said))))
        super().reply(turn, said)
