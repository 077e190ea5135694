"""The masked updates of a cell in one attempt, and their sums. Nothing here touches a network.

Each is kept as it came until it is known whose are in the sum: that of others could not be undone.
The sum of a group is told of one set of agents alone, whatever is asked for later.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fedjury.protocol.cells import GroupSum, GroupSumRequest, listed
from fedjury.protocol.messages import Reason
from fedjury.protocol.secure import MaskedUpdate
from fedjury.secure.bits import bits_of, places_in, size_of
from fedjury.secure.fixed_point import packed, packed_size, unpacked


def terms_of(request: GroupSumRequest) -> tuple[int, int, int, str]:
    """Return what a request says beside survivors, which is the same as long as masks are."""
    return request.version, request.length, request.bits, request.names


@dataclass
class MaskedGroup:
    """What a cell has of one group."""

    request: GroupSumRequest
    """The last one, or that which was answered."""
    names: tuple[str, ...]
    came: set[str] = field(default_factory=set)
    updates: dict[str, bytes] = field(default_factory=dict)
    """As they came, until they are added up."""
    total: bytes = b""
    """Their sum, packed."""
    news: bool = True

    def refusal(self, update: MaskedUpdate) -> Reason | None:
        """Return why a member's update is not taken; None if it is."""
        request = self.request
        if request.survivors:
            return Reason.WRONG_PHASE
        if update.agent in self.came:
            return Reason.DUPLICATE
        if update.version != request.version:
            return Reason.WRONG_VERSION
        if len(update.data) != packed_size(request.length, request.bits):
            return Reason.WRONG_LENGTH
        return None

    def asked(self, request: GroupSumRequest) -> None:
        """Add up what is asked for, if nothing was before; tell again what there is."""
        self.news, before = True, self.request
        if before.survivors or not request.survivors:
            return
        chosen = [self.names[at] for at in places_in(request.survivors, len(self.names))]
        fits = len(request.survivors) == size_of(len(self.names)) and len(chosen) > 0
        if not fits or not self.came.issuperset(chosen) or terms_of(request) != terms_of(before):
            return
        self.request = request
        total = np.zeros(request.length, np.uint32)
        for name in chosen:
            total += unpacked(self.updates[name], request.length, request.bits)
        self.total = packed(total, request.bits)
        self.updates = {}

    @property
    def bits(self) -> bytes:
        """A bit for each of the names: whether its update has come."""
        places = [at for at, name in enumerate(self.names) if name in self.came]
        return bits_of(places, len(self.names))


@dataclass
class MaskedGroups:
    """The groups of a cell in an attempt."""

    turn: tuple[int, int] = (-1, -1)
    """Round and attempt."""
    groups: dict[int, MaskedGroup] = field(default_factory=dict)
    group_of: dict[str, int] = field(default_factory=dict)

    def ask(self, request: GroupSumRequest) -> None:
        """Take what the aggregator asks for; a group with other masks begins again."""
        if (request.round, request.attempt) != self.turn:
            return
        group = self.groups.get(request.group)
        if group is None or group.request.session != request.session:
            first = replace(request, survivors=b"")  # of those it is asked for none is here
            group = self.groups[request.group] = MaskedGroup(first, listed(request.names))
            others = {name: of for name, of in self.group_of.items() if of != request.group}
            self.group_of = others | dict.fromkeys(group.names, request.group)
        else:
            group.asked(request)

    def take(self, update: MaskedUpdate) -> Reason | None:
        """Keep an update, or return why it is refused.

        The very same once more is no fault of who has been asked again.
        """
        if (update.round, update.attempt) != self.turn:
            return Reason.WRONG_ROUND
        number = self.group_of.get(update.agent)
        if number is None:
            return Reason.NOT_SELECTED
        group = self.groups[number]
        if group.updates.get(update.agent) == update.data:
            return None
        why = group.refusal(update)
        if why is None:
            group.updates[update.agent] = update.data
            group.came.add(update.agent)
            group.news = True
        return why

    def next(self, cell: int, life: int) -> GroupSum | None:
        """Return what is to be told of a group; None if there is nothing."""
        for number, group in self.groups.items():
            if group.news:
                group.news = False
                said = group.request.session, group.bits, group.total
                return GroupSum(cell, life, *self.turn, number, *said)
        return None
