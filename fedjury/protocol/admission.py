"""Which updates a round takes: the same wherever they come in, at the aggregator or in a cell."""

from __future__ import annotations

from collections.abc import Container

from fedjury.protocol.messages import Reason, Update


def refusal(
    update: Update,
    number: int,
    version: int,
    called: Container[str],
    came: Container[str],
) -> Reason | None:
    """Return why an update is not accepted: not what was asked for, or not the first one.

    ``number``: the round's; ``version``: of the model to train from; ``called``: who is to send
    one; ``came``: who has.
    """
    if update.round != number:
        return Reason.WRONG_ROUND
    if update.version != version:
        return Reason.WRONG_VERSION
    if update.agent in came:
        return Reason.DUPLICATE
    return None if update.agent in called else Reason.NOT_SELECTED
