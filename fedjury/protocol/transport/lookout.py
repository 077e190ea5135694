"""A connection that listens to a few topics for a moment, and says nothing."""

from __future__ import annotations

import random
import select
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fedjury.protocol.credentials import BrokerAddress, Login, login_of
from fedjury.protocol.transport import reasons
from fedjury.protocol.transport.connection import BrokerAway, TransportError
from fedjury.protocol.transport.mqtt_client import MQTT_3, MQTT_5, Client, reason_of

LOGIN = ".lookout"
"""Behind a principal's name: the login by which it looks around. A login may be good for one
connection at a time, and so its own would throw out whoever has it at work."""

PATIENCE = 2.0
"""Seconds that a broker has to let us listen."""
LOOKS = 6
"""Times that it is begun at the most, where it is cut off."""
PAUSE = 0.2
"""Seconds before it is begun again, give or take a half: two may look by one login."""
MOMENT = 0.02


class Way(NamedTuple):
    """How to connect: by which login, in which version of MQTT."""

    login: Login
    protocol: int
    itself: bool
    """Whether the login is the principal's own."""


class Lookout:
    """Listens by a login of its own if there is one, else as the principal itself."""

    def __init__(
        self,
        address: BrokerAddress,
        principal: str,
        topics: Sequence[str],
        heard: Callable[[str, bytes], None],
    ) -> None:
        """Connect.

        Raises
        ------
        BrokerAway
            If nobody answers there.
        """
        self._address, self._topics, self._heard = address, topics, heard
        own, *others = logins(address, principal)
        self._ways = [
            Way(login, protocol, itself=login is own and own.username is not None)
            for login in (*others, own)
            for protocol in (MQTT_3, MQTT_5)
        ]
        self.thrown_out = False
        """Whether it did so, and somebody threw it out."""
        self._left = LOOKS
        self._since: float | None = None
        self._begin()

    @property
    def as_itself(self) -> bool:
        """Whether it listens as the principal, and may throw out who is at work as that."""
        return bool(self._ways) and self._ways[0].itself

    @property
    def listened(self) -> float:
        """For how long it has (seconds), since the broker said that it may."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def turn(self) -> bool:
        """Listen for a moment; False if it cannot."""
        while self._ways and self._left:
            sock: Any = self._client.socket()
            if sock is not None and (self._since or time.monotonic() < self._until):
                select.select([sock], [sock] if self._client.want_write() else [], [], MOMENT)
                self._client.read()
                self._client.loop_write()
                return True
            if sock is not None:
                return False  # the broker does not answer
            if self._since is not None and self.as_itself:
                self.thrown_out = True
                return True
            self._begin_again()
        return False

    def close(self) -> None:
        """Leave."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.close()

    def _begin(self) -> None:
        login, protocol, _ = self._ways[0]
        self._since, self._refused = None, False
        self._left -= 1
        self._until = time.monotonic() + PATIENCE
        client = self._client = Client(f"look-{uuid.uuid4().hex[:16]}", login, protocol, self._take)
        client.connect_timeout = PATIENCE
        client.on_connect = lambda *args: self._connected(reason_of(args[3]))
        client.on_subscribe = lambda *_: self._listens()
        try:
            client.connect(self._address.host, self._address.port)
        except ConnectionRefusedError as why:
            raise BrokerAway(reasons.unreachable(self._address, why)) from why
        except (OSError, ValueError):  # whoever connects next says better what is wrong
            self._ways.clear()

    def _begin_again(self) -> None:
        """Connect once more: after a refusal in another way, after a cut in the same."""
        if self._refused:
            del self._ways[0]
        else:
            time.sleep(PAUSE * random.uniform(0.5, 1.5))
        if self._ways:
            self._begin()

    def _connected(self, answer: reasons.Reason) -> None:
        self._refused = answer.refuses
        if not self._refused:
            self._client.subscribe([(topic, 1) for topic in self._topics])

    def _listens(self) -> None:
        self._since = time.monotonic()

    def _take(self, topic: str, payload: bytes) -> None:
        self._heard(topic, bytes(payload))


def logins(address: BrokerAddress, principal: str) -> list[Login]:
    """Return a principal's login, and after it the one by which it looks around, if it has one."""
    own = login_of(address, principal)
    try:
        other = login_of(address, principal + LOGIN)
    except TransportError:
        return [own]
    return [own] if other.username == own.username else [own, other]
