"""What goes wrong with connections: who is not let in, and what people are told of it."""

from __future__ import annotations

from typing import Any

from fedjury.protocol.transport import reasons
from fedjury.protocol.transport.mqtt_client import reason_of
from fedjury.protocol.transport.mqtt_connection import MqttConnection
from fedjury.protocol.transport.once_only import OnceOnlyWarnings
from fedjury.protocol.transport.reasons import Reason


class Troubles:
    """Takes note of what went wrong; the connections go on without it."""

    def __init__(self, run: str, *, sole: bool) -> None:
        """``sole``: there is one party, the only one of its name, which may have to give up."""
        self.outside: dict[str, str] = {}
        """Who is not let in, or cannot get there, and why."""
        self.notices = OnceOnlyWarnings()
        self.final = ""
        """Why the only one of its name can go on no longer."""
        self._run, self._sole = run, sole

    def refused(self, connection: MqttConnection, answer: Any) -> None:
        """Note that the broker does not let somebody in; it closes the connection."""
        text = reasons.refused(reason_of(answer), connection.client.login)
        self._not_let_in(connection.name, text, str(answer))

    def parted(self, connection: MqttConnection, told: Reason, *, now: float) -> None:
        """Note that the broker ended a connection, at ``now`` (seconds), and what it told."""
        name = connection.name
        if told.code == reasons.TAKEN_OVER:
            text = f"another client connected to the broker as {name} of run {self._run!r}"
            self.notices.add(text, reasons.RIVAL)
            # Who serves the run looks whether that one follows it, before it comes back.
            if connection.place is None or connection.cut(now) > reasons.GIVEN_UP:
                self.end_with(f"{text}, and has replaced this one")
        elif connection.connected:
            self._cut(connection, told, now)
        elif message := connection.client.complaint:
            self._not_let_in(name, message, message)
        else:
            self.outside.setdefault(name, reasons.SILENT)

    def no_receipt(self, name: str, reason: Reason) -> None:
        """Note that the broker did not take a message."""
        text = f"the broker refused a message of {name}: {reasons.no_receipt(reason)}"
        self.notices.add(text, f"no receipt: {reason.words}")
        if reason.code in reasons.FINAL:
            self.end_with(text)

    def unsent(self, text: str, kind: str, *, final: bool) -> None:
        """Note that a message cannot be sent."""
        self.notices.add(text, kind)
        if final:
            self.end_with(text)

    def end_with(self, why: str) -> None:
        """End the network, if its party is the only one of its name: the others try again."""
        if self._sole:
            self.final = self.final or why

    def _not_let_in(self, name: str, why: str, kind: str) -> None:
        self.notices.add(f"the broker rejects {name}: {why}", kind)
        self.outside[name] = why

    def _cut(self, connection: MqttConnection, told: Reason, now: float) -> None:
        """See why somebody was cut off: for what it said, or by another who uses its name."""
        if told.code == reasons.SHUTTING_DOWN:
            return
        times = connection.cut(now)
        cut = reasons.of_cut(connection.name, self._run, told, connection.limits, times)
        if cut.notice:
            self.notices.add(cut.notice, cut.kind)
        if cut.final:
            self.end_with(cut.final)
