"""A group whose masked updates stay in the cell of its agents: its sum alone comes up. All is pure.

The cell tells who has sent one. Once it is decided whose are in the sum, the cell is asked for just
that, and for no other of this group and its masks; then the masks are undone as elsewhere.
"""

from __future__ import annotations

import hashlib

from fedjury.protocol.cells import GroupSum, GroupSumRequest
from fedjury.protocol.messages import Reason
from fedjury.secure.bits import bits_of, places_in, size_of
from fedjury.secure.fixed_point import packed_size, unpacked
from fedjury.secure.group import Group, Lost, Step

ASKS = (Step.UPDATES, Step.SUM)
"""Steps in which the cell is asked for something."""


def session_of(group: Group) -> bytes:
    """Return what stands for all masks of a group: its keys, who masks towards whom, and secrets.

    An aggregator that was restarted may begin an attempt of the same number once more.
    """
    known = hashlib.sha256(b"%d/%d/%d/" % (*group.turn, group.number))
    known.update(group.graph.astype("<u4").tobytes())
    for name in group.names:
        known.update(group.keys[name].mask_key)
        known.update(group.shares[name].commitment if name in group.shares else bytes(32))
    return known.digest()


def asked(group: Group) -> GroupSumRequest | None:
    """Return what the cell is asked for at the step at hand, the same whenever; None if nothing."""
    if not group.cell or group.step not in ASKS:
        return None
    names = sorted(group.shares)
    survivors = b""
    if group.step is Step.SUM:
        survivors = bits_of([i for i, name in enumerate(names) if name in group.came], len(names))
    return GroupSumRequest(
        group.cell,
        *group.turn,
        group.number,
        session_of(group),
        group.version,
        group.length,
        group.fixed.bits,
        " ".join(names),
        survivors,
    )


def take(group: Group, said: GroupSum) -> Group | Lost | Reason:
    """Note what the cell tells: the group itself where that is nothing new, or of other masks."""
    stale = said.cell != group.cell or said.life < group.life
    if stale or group.step not in ASKS or said.session != session_of(group):
        return group
    names = sorted(group.shares)
    if len(said.came) != size_of(len(names)):
        return Reason.WRONG_LENGTH
    if group.step is Step.UPDATES:
        came = group.awaited.intersection(names[at] for at in places_in(said.came, len(names)))
        if said.life == group.life:
            came |= group.came
        known = (said.life, came) == (group.life, group.came)
        return group if known else group.but(life=said.life, came=came)
    if said.life > group.life:  # who comes after it has other updates, if any
        why = f"the ingest worker of cell {group.cell} was replaced, and what it had is gone"
        return Lost(group.number, group.names, why)
    if not said.data:
        return group
    if len(said.data) != packed_size(group.length, group.fixed.bits):
        return Reason.WRONG_LENGTH
    return group.but(total=unpacked(said.data, group.length, group.fixed.bits))
