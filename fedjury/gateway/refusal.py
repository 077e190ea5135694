"""Why a request over HTTP is not let in."""

from __future__ import annotations

from enum import StrEnum

from fedjury.protocol.messages import Reason


class InvalidReason(StrEnum):
    """Why a request was refused, where the protocol has no reason of its own for it."""

    NO_RUN = "no_run"
    NO_BROKER = "no_broker"
    NO_SLOT = "no_slot"
    TOO_BUSY = "too_busy"
    TOO_SLOW = "too_slow"
    UNSUPPORTED_TYPE = "unsupported_type"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BAD_REQUEST = "bad_request"
    INTERNAL = "internal"


class InvalidRequest(Exception):  # noqa: N818 - it names the thing, not a failure of ours
    """A request that is not let in: ``reason`` is for counting, ``detail`` for people."""

    def __init__(self, reason: Reason | InvalidReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
