"""Messages to bytes for many senders at once."""

from __future__ import annotations

import operator

from fedjury.protocol.codec import encode
from fedjury.protocol.codecs.encoding import Encode
from fedjury.protocol.compression import encoding_of
from fedjury.protocol.messages import Message, Update
from fedjury.protocol.schema import PAYLOAD
from fedjury.registry.faults import PluginError, Tell


class Encoder:
    """Encodes for many senders: the one update that hundreds of fakes send is packed once.

    It keeps what each sender remembers of its updates, where the codec has such a memory.
    """

    def __init__(self, tell: Tell = lambda _text, _kind: None) -> None:
        """``tell``: told where a codec of somebody else's fails, and float32 is sent instead."""
        self._tell = tell
        self._last: dict[str, tuple[Update, str, bytes]] = {}
        """The last update: of anybody (""), or of each sender who has a memory."""
        self._memories: dict[tuple[str, str], Encode] = {}
        """Sender and codec -> how it writes its next update."""

    def encode(self, message: Message, codec: str) -> bytes:
        """Write as :func:`encode` does; an update of the same array as the last is the same."""
        if not isinstance(message, Update):
            return self._written(message, codec)
        memory = encoding_of(codec).sender
        whose = "" if memory is None else message.agent
        if whose in self._last:
            last, used, payload = self._last[whose]
            if last.delta is message.delta and used == codec and _said(last) == _said(message):
                return payload
        if memory is not None and (whose, codec) not in self._memories:
            self._memories[whose, codec] = memory()
        payload = self._written(message, codec, self._memories.get((whose, codec)))
        self._last[whose] = message, codec, payload
        return payload

    def _written(self, message: Message, codec: str, by: Encode | None = None) -> bytes:
        try:
            return encode(message, codec, by)
        except PluginError as why:
            self._tell(f"{why}; float32 is sent where it fails", f"codec {codec}")
            return encode(message)


_said = operator.attrgetter(*(key for key in PAYLOAD[Update] if key != "delta"))
"""What an update says beside its vector; the agent is in the topic."""
