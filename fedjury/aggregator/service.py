"""The aggregator at work: messages in, ``rounds.step``, effects out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, get_args

from fedjury.aggregator.cells import Cells
from fedjury.aggregator.cells_online import CellsOnline
from fedjury.aggregator.history import History as Series
from fedjury.aggregator.store import RunStore
from fedjury.protocol.cells import (
    CellPresence,
    CellUp,
    CellWorker,
    GroupSum,
    PartialSum,
    Tally,
)
from fedjury.protocol.logs import InvalidMessages
from fedjury.protocol.messages import (
    PROTOCOL,
    AggregatorPresence,
    BadMessage,
    Candidate,
    CellLink,
    CellMember,
    Decline,
    GroupCandidate,
    GroupHistory,
    GroupVotes,
    History,
    InvalidLog,
    Manifest,
    Manifest1,
    Message,
    Metrics,
    Model,
    Presence,
    Presence1,
    Reason,
    RoundLog,
    Update,
    Vote,
)
from fedjury.protocol.record import RoundRecord, Timing
from fedjury.protocol.secure import (
    MaskedUpdate,
    SecureKeys,
    SecureShares,
    SecureUp,
    UnmaskShares,
)
from fedjury.protocol.transport.connection import Connection
from fedjury.round import machine, verdict
from fedjury.round.announcement import announcement
from fedjury.round.effects import (
    Clear,
    CountInvalid,
    Effect,
    Persist,
    PersistRelease,
    PersistSums,
    Publish,
)
from fedjury.round.state import Event, InvalidMessage, RoundConfig, State, Tick, Waiting

POLL = 0.05
"""Seconds to wait for a message before the clock is looked at again."""

GONE = (
    "the connection to the broker is lost, or another aggregator replaced this one there: the "
    "round waits until it is back"
)

FROM_CELLS = get_args(CellUp)
"""What ingest workers say: looked up once, as every message is compared with it."""

REFUSED_EVERY = 1.0
"""Seconds between two lines on ``log/invalid``: a flood of others must not become one of ours."""


PAST_EVERY = 1.0
"""Seconds between two messages on ``log/history``, which are long and for newcomers alone."""


@dataclass
class Control:
    """What others may ask of a run while it goes on, also from another thread."""

    paused: bool = False
    """Whether no further round is to be opened for now."""
    stopped: bool = False
    """Whether it is to stop where it is."""


class Screen(Protocol):
    """Who watches: told of every turn and every finished round."""

    def say(self, text: str) -> None:
        """Tell people something."""

    def waiting(self, online: int, wanted: int) -> None:
        """Show how many agents have joined."""

    def progress(self, state: State) -> None:
        """Show where the round stands."""

    def finished(self, record: RoundRecord) -> None:
        """Show the record of a round that is over."""


def start_of(config: RoundConfig, state: State) -> RoundRecord:
    """Return the record of round 0: how the model is before any round."""
    now = Timing(time=round(time.time(), 3))
    return RoundRecord(
        0, config.run.name, version=state.version, model=state.model.quality, timing=now
    )


class Aggregator:
    """Runs the rounds of one run over a link."""

    def __init__(
        self,
        connection: Connection,
        config: RoundConfig,
        store: RunStore,
        screen: Screen,
        records: Iterable[RoundRecord] = (),
        clock: Callable[[], float] = time.monotonic,
        control: Control | None = None,
    ) -> None:
        """Serve a run over a link; ``records`` are those of rounds that are over.

        ``clock``: tells seconds, from whenever. ``control``: through which others pause or stop it.
        """
        self.connection = connection
        key = store.secret("groups") if config.groups.by_key else b""
        many = config.sampling.names and not config.sampling.by_seed
        call_key = store.secret("calls") if many else b""
        self.config = dataclasses.replace(config, group_key=key, call_key=call_key)
        self._history, self._history_due, self._history_sent = Series(records), 0.0, False
        self.online: set[str] = set()
        self.cells = Cells(config.limits.agents)
        self._kept_in = CellsOnline()
        self._cannot_vote: set[str] = set()
        self._can_evaluate: set[str] = set()
        self.control = control or Control()
        self.store, self._screen = store, screen
        self._clock = clock
        self._refused_due = 0.0
        self._invalid: InvalidMessages | None = None
        self._connected: bool | None = None
        """Whether the broker could be heard at the last turn; None before the first time."""
        self._unheard: set[str] = set()
        """Who was online before the broker was gone, and has not said so since."""
        self._unheard_until = 0.0

    def begin(
        self,
        manifest: Manifest,
        history: list[Model],
        partition: str = "",
        since: float | None = None,
    ) -> None:
        """Publish what a newcomer needs: what the run is about and the accepted models.

        ``partition``: how it takes the fleet's data to be partitioned, see ``AggregatorPresence``.
        ``since``: when it began to serve (Unix seconds); None: now.
        """
        kinds = (History, Candidate, GroupCandidate, GroupHistory)
        self.connection.transport.codecs |= dict.fromkeys(kinds, manifest.history_codec)
        since = round(time.time(), 6) if since is None else since
        there = AggregatorPresence(online=True, since=since, partition=partition)
        kept = FROM_CELLS if self.config.cells.count else (Update,)
        answers = *kept, Vote, GroupVotes, Metrics, Decline, Presence, CellMember, CellLink
        secure = get_args(SecureUp) if self.config.secure else ()
        self.connection.subscribe(*answers, *secure, serves=there)
        self.connection.transport.watch_drops(self.connection.name)
        self.connection.publish(manifest)
        for message in self._told_to_the_first_version(there.since):
            self.connection.publish(message)
        on_groups = self.config.validation.on_groups
        accepted = [(m, self.store.group(m.version) if on_groups else None) for m in history]
        for message in verdict.kept_for_judges(accepted, self.config):
            self.connection.publish(message)
        self.connection.publish(history[-1])
        self._log_history()

    def _told_to_the_first_version(self, since: float = 0.0) -> list[Message]:
        """Return what is retained where agents of protocol 1 look: that they are too old for us.

        They find the run by the presence, and the manifest is what they refuse, in one sentence.
        """
        told = Manifest1(PROTOCOL), Presence1(online=True, since=since)
        return [message for message in told if self.connection.transport.topics.has(type(message))]

    def gather(self, state: State, wanted: int, patience: float, settle: float = 0.0) -> State:
        """Wait up to ``patience`` seconds until ``wanted`` agents are online.

        If nobody said how many (0), until nobody new has come for ``settle`` seconds. In a run that
        waits, until as many are there as a round needs, however long that takes.

        A run that begins says so first, with a record of round 0: who hears all records of a run
        has its history from before any round, and knows that an earlier run's has ended.
        """
        # What was retained may say that the run is over: it goes on.
        self.connection.clear(announcement(state, self.config))
        if not state.round:
            self.connection.publish(RoundLog(start_of(self.config, state)))
        until = self._clock() + patience
        there, since = 0, self._clock()
        collect = self.config.collect
        while not self.control.stopped and (
            self._clock() < until or (collect.wait and len(self.online) < collect.min_updates)
        ):
            if len(self.online) > there:
                there, since = len(self.online), self._clock()
            settled = there and self._clock() - since >= settle
            if there >= wanted if wanted else settled:
                break
            self._screen.waiting(len(self.online), wanted)
            state = self.read(state, POLL)
        return state

    def run(self, state: State) -> State:
        """Go through the rounds from ``state`` until they are done; return the last state.

        Or until it is stopped.
        """
        while not state.done and not self.control.stopped:
            state = self.turn(state)
        self.end()
        return state

    def end(self) -> None:
        """Tell of what has not been told of yet: of refusals, and rounds in short."""
        self._log_refusals(now=True)
        self._log_history(now=True)

    def forget(self, patience: float) -> int:
        """Wait up to ``patience`` seconds until all have left; then leave nothing retained.

        Returns the number of topics that were emptied.
        """
        until = self._clock() + patience
        while self.online and self._clock() < until:
            self._receive(POLL)
        if not self.connection.connected:
            return 0
        for message in self._told_to_the_first_version():
            self.connection.clear(message)
        return self.connection.transport.forget(self.connection.name)

    def turn(self, state: State) -> State:
        """Take one message if there is one, then look at the clock; always in this order."""
        state = self.read(state, POLL)
        transport = self.connection.transport
        tick = Tick(
            self._clock(),
            self.online,
            transport.traffic.received,
            transport.traffic.sent,
            self.connection.connected,
            transport.dropped,
            time.time(),
            self._cannot_vote,
            self._can_evaluate,
            self.control.paused,
            self.cells.of,
            self.cells.cut_off,
        )
        deadline, state = state.deadline, self.take(state, tick)
        if state.deadline != deadline:  # the rule took its time before agents were asked
            state = state.but(deadline=state.deadline + self._clock() - tick.now)
        for text in self.config.troubles():
            self._screen.say(text)
        self._screen.progress(state)
        if isinstance(state.phase, Waiting):
            self._tell_of_waiting()
        self._log_refusals()
        self._log_history()
        return state

    def _tell_of_waiting(self) -> None:
        """Tell people, where a round needs more agents than there are."""
        needed = self.config.collect.min_updates
        if len(self.online) < needed:
            self._screen.waiting(len(self.online), needed)

    def read(self, state: State, patience: float) -> State:
        """Take one message, if one comes within ``patience`` seconds."""
        event = self._receive(patience)
        return state if event is None else self.take(state, event)

    def take(self, state: State, event: Event) -> State:
        """Take an event, and carry out its effects, in order."""
        state, effects = machine.step(state, event, self.config)
        for effect in effects:
            self.carry_out(effect, state)
        return state

    def _receive(self, timeout: float) -> Event | None:
        try:
            message = self.connection.receive(timeout)
        except BadMessage as bad:
            return InvalidMessage(bad.agent, bad.reason, bad.kind is Update)
        finally:
            self._mind_connection()
        if isinstance(message, FROM_CELLS) and not self._has_cell(message):
            return InvalidMessage(message.agent, Reason.NOT_SELECTED)
        match message:
            case Tally() | PartialSum() | GroupSum():
                return message
            case CellPresence() | CellWorker():
                return self._note_cell(message)
            case Update() | Vote() | GroupVotes() | Metrics() | Decline():
                return message
            case SecureKeys() | SecureShares() | MaskedUpdate() | UnmaskShares():
                return message
            case Presence():
                return self._note(message)
            case CellMember():
                self.cells.place(message.agent, message.cell)
            case CellLink(cell, online):
                if told := self.cells.link(cell, self.online, self._clock(), up=online):
                    self._screen.say(told)
        return None

    def _note(self, message: Presence) -> InvalidMessage | None:
        """Note who is there and who is not, and what they can do."""
        agent = message.agent
        self._unheard.discard(agent)
        self.cells.hear(agent)
        self._cannot_vote.discard(agent)
        self._can_evaluate.discard(agent)
        if not message.online:
            self.online.discard(agent)
        elif agent not in self.online and len(self.online) >= self.config.limits.agents:
            return InvalidMessage(agent, Reason.TOO_MANY)
        else:
            self.online.add(agent)
            if not message.votes:
                self._cannot_vote.add(agent)
            if message.evaluates:
                self._can_evaluate.add(agent)
        return None

    def _has_cell(self, message: CellUp) -> bool:
        """Return whether a cell is one of the run's; say once if it is not."""
        count = self.config.cells.count
        if 1 <= message.cell <= count:
            return True
        self.connection.transport.notices.add(
            f"cell {message.cell:,} speaks, and the run has {count:,} (cells.count)", "cells.count"
        )
        return False

    def _note_cell(self, message: CellPresence | CellWorker) -> InvalidMessage | None:
        """Note which agents a cell has; none, while nobody takes their updates."""
        refused = None
        for presence in self._kept_in.news(message):
            if presence.online:
                self.cells.place(presence.agent, message.cell)
            refused = self._note(presence) or refused
        return refused

    def _mind_connection(self) -> None:
        """Tell people when the broker goes and comes, and take for gone who does not come with it.

        A broker that was restarted may have lost the last wills of those who died meanwhile.
        """
        for text in self.connection.transport.notices.take():
            self._screen.say(text)
        connected = self.connection.connected
        if self._connected is None:
            self._connected = connected or None
        elif connected != self._connected:
            self._connected = connected
            self._screen.say("the broker is back" if connected else GONE)
            self._unheard = set(self.online) if connected else set()
            self._unheard_until = self._clock() + self.config.collect.seconds
            self.cells.again(self._clock())
        elif connected:
            self.online -= self.cells.lost(self.online, self._clock())
        if self._unheard and self._clock() >= self._unheard_until:
            self.online -= self._unheard
            self._unheard = set()

    def carry_out(self, effect: Effect, state: State) -> None:
        """Do what a step of the round asks for."""
        match effect:
            case Publish(message):
                self.connection.publish(message)
            case Clear(message):
                self.connection.clear(message)
            case PersistRelease(release):
                self.store.persist_release(release)
            case PersistSums(sums):
                self.store.persist_sums(sums)
            case Persist(record, accepted, pending, registry, memory, group):
                self.store.persist(record, accepted, pending, registry, memory, group)
                self._screen.finished(record)
                self._history.add(record)
                self._history_sent = False
            case CountInvalid(agent, reason, refused):
                self._invalid = InvalidMessages(state.round, dict(refused), agent, reason.value)

    def _log_refusals(self, *, now: bool = False) -> None:
        if self._invalid is not None and (now or self._clock() >= self._refused_due):
            self.connection.publish(InvalidLog(self._invalid))
            self._invalid = None
            self._refused_due = self._clock() + REFUSED_EVERY

    def _log_history(self, *, now: bool = False) -> None:
        if not self._history_sent and (now or self._clock() >= self._history_due):
            self.connection.publish(self._history.message())
            self._history_sent = True
            self._history_due = self._clock() + PAST_EVERY
