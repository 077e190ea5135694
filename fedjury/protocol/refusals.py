"""Why a message is refused, for counting and for people."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedjury.protocol.messages import Message


class Reason(StrEnum):
    """Why a message was invalid. Later versions may know more reasons."""

    UNKNOWN_TOPIC = "unknown_topic"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    MISSING_KEY = "missing_key"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_CODEC = "unknown_codec"
    WRONG_LENGTH = "wrong_length"
    NOT_FINITE = "not_finite"
    WRONG_PHASE = "wrong_phase"
    WRONG_ROUND = "wrong_round"
    WRONG_VERSION = "wrong_version"
    NOT_SELECTED = "not_selected"
    DUPLICATE = "duplicate"
    TOO_MANY = "too_many"
    WRONG_GROUPS = "wrong_groups"
    BAD_KEY = "bad_key"
    WRONG_SHARE = "wrong_share"


class BadMessage(Exception):  # noqa: N818 - it names the thing, not a failure of ours
    """Their fault: bytes that are no message. ``reason`` is for counting, ``detail`` for people."""

    def __init__(self, reason: Reason, detail: str = "", agent: str = "") -> None:
        if not (detail.isascii() and detail.isprintable()):
            detail = ascii(detail)  # may quote the sender, and ends up on a terminal
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.agent = agent
        self.kind: type[Message] | None = None
        """What it came as, where the topic says so."""
