"""A cell's ingest worker: it admits the updates of its cell's agents and keeps them.

It is a client of the cell's broker alone, which is bridged to the aggregator's. What the round
says comes down to it as to the agents; what it has admitted goes up as tallies of names and counts,
and, where it is asked for, as a sum.

What it keeps is lost with it. The worker that takes its place says the manifest and the round once
more, to its own cell alone, and the agents send the very same updates again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedjury.cells.kept import Kept, KeptRows
from fedjury.cells.masked import MaskedGroups
from fedjury.cells.presence import CellAgents
from fedjury.cells.sums import answer
from fedjury.cells.tallies import Asked, Tallies
from fedjury.protocol.cells import (
    MAX_CELL_AGENTS,
    CellWorker,
    GroupSumRequest,
    PartialSum,
    SumRequest,
)
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import (
    AggregatorPresence,
    BadMessage,
    Manifest,
    Message,
    Phase,
    Presence,
    Round,
    Update,
)
from fedjury.protocol.secure import MaskedUpdate
from fedjury.protocol.transport.connection import Connection
from fedjury.rules.partitions import is_count

TELL_EVERY = 0.05
"""Seconds between two tallies, or two messages about who is there, at the least."""

POLL = 0.05
"""Seconds to wait for a message before the clock is looked at again."""

TAKING = (Phase.TRAIN,)
"""Phases in which updates are taken."""

KINDS = (
    Manifest,
    Round,
    Update,
    MaskedUpdate,
    Presence,
    CellWorker,
    SumRequest,
    GroupSumRequest,
    AggregatorPresence,
)
"""What it is told."""


def same(one: SumRequest, other: SumRequest) -> bool:
    """Say whether two requests ask for the same, in all that they say."""
    if replace(one, centre=None) != replace(other, centre=None):
        return False
    if one.centre is None or other.centre is None:
        return one.centre is other.centre
    return np.array_equal(one.centre, other.centre)


def life_now() -> int:
    """Return a number that is larger for every later worker."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Place:
    """Where a worker is."""

    cell: int
    folder: Path | None = None
    """Where updates are kept that memory is too small for; None: in memory."""


class IngestWorker:
    """Serves one cell of one run over a connection to the cell's broker."""

    def __init__(
        self,
        connection: Connection,
        place: Place,
        clock: Callable[[], float] = time.monotonic,
        life: int | None = None,
    ) -> None:
        """``clock``: tells seconds, from whenever. ``life``: see ``fedjury.protocol.cells``."""
        self.connection, self.place = connection, place
        self.life = self.begun = life_now() if life is None else life
        self._followed = False
        self._clock = clock
        self._manifest: Manifest | None = None
        self._round: Round | None = None
        self._most = MAX_CELL_AGENTS
        """Updates that are kept at the most: of as many agents as a run may have."""
        self._connected = False
        self._echo: Round | None = None
        """What was said so, until it is heard here as well."""
        self._said_again = False
        """Whether the cell was asked, since it is connected, for what may have been lost before."""
        self._kept: Kept | None = None
        self.tallies: Tallies | None = None
        self.masked = MaskedGroups()
        """Under secure aggregation, where no update comes by itself."""
        self.agents = CellAgents(place.cell, self.life)
        self._told_at = 0.0
        self._stopped = False
        self._lock = threading.Lock()
        """Held by who writes updates, and by who reads them."""
        self._answered: tuple[SumRequest, PartialSum] | None = None
        """The last request for a sum, and its answer, which a broker that is killed may lose."""

    def begin(self) -> None:
        """Connect, and say so."""
        there = CellWorker(self.place.cell, online=True, life=self.life)
        self.connection.subscribe(*KINDS, serves=there)

    def run(self) -> None:
        """Serve until it is stopped."""
        self.begin()
        try:
            while not self._stopped:
                self.turn(POLL)
        finally:
            self.close()

    def stop(self) -> None:
        """Let ``run`` end, which another thread is in."""
        self._stopped = True

    def rows(self, key: Hashable) -> KeptRows:
        """Return the updates of an attempt: (round, attempt). Also another thread may ask.

        Raises
        ------
        LookupError
            If they are not those that are kept.
        """
        with self._lock:
            if self.tallies is None or self._kept is None or self.tallies.asked[:2] != key:
                raise LookupError(f"no updates of round and attempt {key} are kept")
            return KeptRows(self._kept, self._lock)

    def close(self) -> None:
        """Leave, and give back what is kept."""
        self.connection.close()
        if self._kept is not None:
            self._kept.close()

    def turn(self, timeout: float = 0.0) -> bool:
        """Take one message if one comes in time, and tell what is due; returns whether one came."""
        self._mind_connection()
        came = self._take(timeout)
        if not came or self._clock() >= self._told_at + TELL_EVERY:
            self._tell()
        return came

    def _mind_connection(self) -> None:
        """Ask the cell again once the broker is back: what came while it was away is lost."""
        connected = self.connection.connected
        if connected and not self._connected:
            self._said_again = False
            self.agents.doubt(self._clock())
        self._connected = connected

    def _take(self, timeout: float) -> bool:
        try:
            message = self.connection.receive(timeout)
        except BadMessage as bad:
            if self.tallies is not None:
                self.tallies.refuse(bad.reason, bad.agent, update=bad.kind is Update)
            return True
        if message is None:
            return False
        self._note(message)
        return True

    def _note(self, message: Message) -> None:
        match message:
            case Update():
                self._admit(message)
            case MaskedUpdate():
                self._admit_masked(message)
            case Presence():
                self.agents.note(message)
            case Round():
                self._note_round(message)
            case Manifest():
                self._note_manifest(message)
            case CellWorker() if message.cell == self.place.cell:
                self._follow(message)
            case SumRequest():
                self._note_request(message)
            case GroupSumRequest() if message.cell == self.place.cell:
                self.masked.ask(message)
            case AggregatorPresence(online=True):  # it may have been restarted, and know nothing
                self.agents.tell_all()
                if self.tallies is not None:
                    self.tallies.tell_again()

    def _follow(self, said: CellWorker) -> None:
        """Be later than the worker before, whatever the clock of its machine said."""
        if self._followed or said.life < self.life or said.life == self.begun:
            return
        self._followed, self.life = True, said.life + 1
        self.agents.live(self.life)
        self.connection.publish(CellWorker(self.place.cell, online=True, life=self.life))
        if self.tallies is not None:
            self.tallies.tell_again()

    def _note_manifest(self, manifest: Manifest) -> None:
        partitions = manifest.cells.get("partitions", 1)
        most = manifest.cells.get("agents", MAX_CELL_AGENTS)
        usable = type(partitions) is int and type(most) is int and is_count(partitions)
        if manifest == self._manifest or not usable:
            return
        self._manifest, self._most = manifest, most
        finite = bool(manifest.cells.get("finite", True))
        limits = Limits(manifest.parameters, manifest.max_bytes, finite)
        self.connection.transport.decoder.limit(limits)
        with self._lock:
            if self._kept is not None:
                self._kept.close()
            self._kept = Kept(manifest.parameters, partitions, self.place.folder)
            self.tallies, self.masked = None, MaskedGroups()
        if self._round is not None:
            self._note_round(self._round)

    def _note_round(self, told: Round) -> None:
        if told == self._echo:
            self._echo = None
            if self._round is not None and self._round != told:  # it stands over a newer one now
                self.connection.publish(self._round)
                return
        self._round = told
        if self._manifest is None or self._kept is None:
            return
        masked = bool(self._manifest.secure)  # then no update comes by itself
        taking = told.phase in TAKING and not masked
        asked = Asked(told.round, told.attempt, told.version, told.trains, taking)
        if self.tallies is None or self.tallies.asked[:3] != asked[:3]:
            with self._lock:
                self.tallies = Tallies(asked, self._most)
                self._kept.clear(0 if masked else len(self.agents.there))
            self.masked = MaskedGroups(asked[:2])
        elif asked.open:  # said once more: who says so may know nothing
            self.tallies.tell_again()
        self.tallies.asked = asked
        if not self._said_again and asked.open:
            self._said_again, self._echo = True, told
            self.connection.publish(self._manifest)
            self.connection.publish(told)

    def _admit(self, update: Update) -> None:
        if self.tallies is None or self._kept is None or not self.tallies.admits(update):
            return
        with self._lock:
            self._kept.write(len(self.tallies.row), update.delta)
        with np.errstate(all="ignore"):  # of what is not finite
            square = np.einsum("d,d->", update.delta, update.delta, dtype=np.float64)
        self.tallies.add(update, math.sqrt(square) if square >= 0 else math.nan)

    def _admit_masked(self, update: MaskedUpdate) -> None:
        if self.tallies is not None and (why := self.masked.take(update)) is not None:
            self.tallies.refuse(why)

    def _note_request(self, request: SumRequest) -> None:
        if self.tallies is None or self._kept is None:
            return
        if self._answered is not None and same(request, self._answered[0]):
            self.connection.publish(self._answered[1])
            return
        found = answer(request, self.place.cell, self.life, self.tallies, self._kept)
        if found is not None:
            self._answered = request, found
            self.connection.publish(found)

    def _tell(self) -> None:
        self._told_at = self._clock()
        self.agents.settle(self._told_at)
        while (news := self.agents.next()) is not None:
            self.connection.publish(news)
        while (group := self.masked.next(self.place.cell, self.life)) is not None:
            self.connection.publish(group)
        while self.tallies is not None and (tally := self.tallies.next(self.place.cell, self.life)):
            self.connection.publish(tally)
