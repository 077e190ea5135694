"""The agents of one process on the network: what they hear, the cohort's work, what they send.

One loop does it all: read what has come, train one chunk, send what is ready, again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fedjury.agents.agent import (
    Agent,
    Assignment,
    Contribute,
    Evaluate,
    Fetch,
    Judge,
    JudgeGroups,
    Train,
    began_again,
    concerned,
    groups_given,
    of_another,
    on_message,
    react,
)
from fedjury.agents.batch import Batch
from fedjury.agents.connections import NOBODY, Colluders, Connections
from fedjury.agents.group_tasks import GroupTasks
from fedjury.agents.opened_sums import OpenedSums
from fedjury.agents.told import OTHER_PROTOCOL, OTHERWISE, UNFIT
from fedjury.agents.waiting import Waiting
from fedjury.protocol.checks import Limits
from fedjury.protocol.compression import or_float32
from fedjury.protocol.messages import (
    EVERY_AGENT,
    PROTOCOL,
    Abilities,
    AggregatorPresence,
    AttackVector,
    BadMessage,
    Candidate,
    ColluderUpdate,
    Decline,
    GroupCandidate,
    GroupHistory,
    History,
    Manifest,
    Manifest1,
    Message,
    Model,
    Phase,
    Round,
    Update,
    Vector,
    Vote,
)
from fedjury.protocol.secure import SecureInbox, SecurePeers, UnmaskRequest
from fedjury.protocol.transport.connection import Transport, TransportError

if TYPE_CHECKING:
    from fedjury.agents.secure_members import SecureMembers

READS = 200
"""Messages read before the next chunk is trained."""

IDLE = 0.2
"""Seconds to wait for a message when there is nothing to train."""


class AgentRunner:
    """Runs the members of one process until the run is done or ``stopping`` says so."""

    def __init__(
        self,
        transport: Transport,
        names: list[str],
        assemble: Callable[[Manifest], Batch],
        say: Callable[[str], None],
        stopping: Callable[[], bool],
        remember: bool = True,
        colluders: Colluders = NOBODY,
        *,
        shared: bool = False,
        patient: bool = False,
        waiting: Waiting | None = None,
        partition: str = "",
        abilities: Callable[[str], Abilities] = lambda _: EVERY_AGENT,
        opened_sums: OpenedSums | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``shared``: all of them hear through one connection, a downlink.

        ``patient``: where ``assemble`` refuses the first manifest, they wait for one that fits, as
        they do with every later one. ``abilities``: what the agent of a name can do with a
        candidate. ``opened_sums``: which they have helped to open under secure aggregation; is
        added to. ``partition``: how their data are partitioned, as the aggregator should say too.
        ``waiting``: says what is waited for, where nothing comes. ``remember``: whether validators
        keep the models they have seen. ``colluders``: who colludes, and who comes late. ``clock``:
        tells seconds, from whenever.
        """
        self.transport, self._assemble = transport, assemble
        self._say, self.stopping, self._clock = say, stopping, clock
        self._colluders, self._waiting, self._partition = colluders, waiting, partition
        self.connections = Connections(transport, names, colluders, abilities, shared=shared)
        self._agents = {
            name: Agent(name, shares=shares, remember=remember)
            for name, shares in self.connections.hearers.items()
        }
        self._bytes = dict.fromkeys(self._agents, 0)
        """What a connection received for the vote at hand: the candidate and past models."""
        self._batch: Batch | None = None
        self._opened_sums = opened_sums or OpenedSums()
        self._secure: SecureMembers | None = None
        self._patient = patient
        self._manifest: Manifest | None = None
        """The one in force: the last that any connection has heard."""
        self._heard: dict[str, Manifest] = {}
        """A connection -> the manifest that it heard last."""
        self._tasks: dict[str, Train | Contribute] = {}
        """Who has been called and has not answered."""
        self._fresh: list[str] = []
        """Who has been called, or trained, since we last looked what can be sent."""
        self.voting: dict[Judge, list[str]] = {}
        """A vote -> the validators that wait for its candidate."""
        self._measuring: dict[Evaluate, list[str]] = {}
        """The same of those that measure it."""
        self._group_tasks = GroupTasks()
        self.candidate: tuple[tuple[int, int], Vector] | None = None
        """The newest candidate, after the round and attempt that it is of."""
        self._models: dict[int, Vector] = {}
        """The last global model that was heard."""
        self._again: dict[str, Manifest] = {}
        """A connection -> the manifest that it has heard since it heard of a round."""
        self._ignored: set[str] = set()
        self.took_part = False
        """Whether agents of this fleet have heard a round of the run."""
        self.done = False

    def join(self) -> None:
        """Connect everybody who does not come late."""
        self.connections.join()

    def run(self) -> bool:
        """Take part until the end; True if the run is done, False if we were stopped."""
        self.join()
        busy = False
        while not self.done and not self.stopping():
            busy = self.turn(0.0 if busy else IDLE)
            if self._waiting is not None and not busy and not self.done:
                self._tell_of_waiting(self._waiting)
        return self.done

    def _tell_of_waiting(self, waiting: Waiting) -> None:
        """Tell people, where we have waited for long, what for."""
        if not self.transport.connections:
            waiting.unheard(self._clock())
        elif text := waiting.due(self._clock()):
            self._say(text)

    def turn(self, wait: float = 0.0) -> bool:
        """Read what has come, train one chunk, send what is ready; True if a chunk was trained."""
        self._read(wait)
        for text in self.transport.notices.take():
            self._say(text)
        if self._batch is None:
            return False
        trained = self._batch.train_chunk()
        self._fresh.extend(trained)
        content, ready = self._batch.collude(self._clock())
        for message in content:
            sender = (
                message.agent
                if isinstance(message, ColluderUpdate)
                else self._colluders.coordinator
            )
            self.transport.send(sender, message)
        self._fresh.extend(ready)
        self.send_ready(self._batch)
        return bool(trained)

    def _read(self, wait: float) -> None:
        """Take the messages that have come, waiting up to ``wait`` seconds for the first."""
        for taken in range(READS):
            try:
                delivery = self.transport.receive(wait if taken == 0 else 0.0)
            except BadMessage as bad:
                if bad.reason not in self._ignored:
                    self._ignored.add(bad.reason)
                    self._say(f"ignored a message (shown once for each reason): {bad}")
                continue
            if delivery is None:
                return
            if isinstance(delivery.message, Candidate | History | GroupCandidate | GroupHistory):
                self._bytes[delivery.to] += delivery.size
            self.on_message(delivery.to, delivery.message)

    def on_message(self, name: str, message: Message) -> None:
        """Take a message that came for an agent of ours."""
        if self._waiting is not None:
            self._waiting.on_message(message, self._clock())
        if not isinstance(message, Manifest | Manifest1 | AggregatorPresence) and (
            self._heard.get(name, self._manifest) is not self._manifest
        ):
            return  # said under the manifest of before, which its connection still believes in
        match message:
            case Manifest():
                self._hear(name, message)
            case Manifest1(protocol) if protocol != PROTOCOL and self._batch is None:
                self._say(OTHER_PROTOCOL.format(theirs=protocol, ours=PROTOCOL))
            case Round(phase=Phase.DONE):
                # To a newcomer a retained "done" only says how an earlier run ended.
                self.done = self.done or self.took_part
            case Round():
                self.took_part = self.took_part or self._batch is not None
                if self.connections.arrive(message) and self._batch is not None:
                    self._batch.exclude(self.connections.absent)
                self._begin(message, self._again.pop(name, None))
            case Candidate(number, attempt, _, weights):
                if self.candidate is None or (number, attempt) >= self.candidate[0]:
                    self.candidate = (number, attempt), weights
            case Model(version, weights):
                self._keep(version, weights)
            case GroupCandidate():
                self._group_tasks.receive(message)
            case GroupHistory(version, weights) if self._batch is not None:
                self._batch.look_back_at_group(version, weights)
            case History(version, weights) if self._batch is not None:
                self._batch.look_back_at(version, weights)
            case SecurePeers() | SecureInbox() | UnmaskRequest() if self._secure is not None:
                if (answer := self._secure.answer(message)) is not None:
                    self.transport.send(message.agent, answer)
            case AggregatorPresence(partition=theirs) if theirs and self._partition:
                self._compare(theirs)
            case ColluderUpdate() | AttackVector() if self._batch is not None:
                self._batch.observe(message, self._clock())
        if name not in self._agents:
            return  # a coordinator that hears all else through a shared connection
        agent, task = on_message(self._agents[name], message)
        while task is not None:
            self._take(agent, task)
            agent, task = react(agent)
        self._agents[name] = agent

    def _compare(self, partition: str) -> None:
        """Tell people, once, if the aggregator takes the data to be partitioned otherwise."""
        if partition != self._partition:
            self._say(OTHERWISE.format(theirs=partition, ours=self._partition))
            self._partition = ""

    def _take(self, agent: Agent, task: Assignment) -> None:
        assert agent.round is not None
        match task:
            case Fetch(versions, candidate, groups, group_versions):
                self._bytes[agent.name] = 0
                if candidate:
                    self.transport.fetch(agent.name, Candidate)
                for version in versions:
                    self.transport.fetch(agent.name, History, version)
                for group in groups:
                    self.transport.fetch(agent.name, GroupCandidate, group)
                for version in group_versions:
                    self.transport.fetch(agent.name, GroupHistory, version)
            case Train() | Contribute():
                selected = concerned(agent, agent.round.trains)
                self._tasks.update(dict.fromkeys(selected, task))
                self._fresh.extend(selected)
                if isinstance(task, Contribute):
                    self._contribute(agent.round, task)
            case Judge():
                selected = concerned(agent, agent.round.votes)
                self.voting.setdefault(task, []).extend(selected)
            case JudgeGroups():
                given = groups_given(agent, agent.round)
                self._group_tasks.ask(task, given)
            case Evaluate():
                selected = concerned(agent, agent.round.measures)
                self._measuring.setdefault(task, []).extend(selected)

    def _contribute(self, message: Round, task: Contribute) -> None:
        turn = task.round, task.attempt
        if self._batch is not None and self.candidate is not None and self.candidate[0] == turn:
            self._batch.contribute(message, task, self.candidate[1])

    def _hear(self, name: str, manifest: Manifest) -> None:
        """Take a manifest that came on a connection: the first, the same once more, or another."""
        before, now = self._heard.get(name), self._manifest
        if before is not None and before != manifest and name in self._agents:
            same = before.tensors == manifest.tensors
            self._agents[name] = of_another(self._agents[name], same_model=same)
        if now is not None and now == manifest:
            self._again[name] = manifest
        else:
            if now is not None:
                self._forget(models=now.tensors != manifest.tensors)
            now = self._manifest = manifest
            self._start(manifest)
        self._heard[name] = now  # equal ones are one object, which is quickly compared

    def _start(self, manifest: Manifest) -> None:
        """Build the cohort now that we know what is trained, and catch up with what was heard.

        In mid-run, agents that cannot follow wait for a manifest that fits.
        """
        limits = Limits(manifest.parameters, size=manifest.max_bytes, finite=False)
        self.transport.decoder.limit(limits)
        self.transport.codecs[Update] = or_float32(manifest.codec)
        began, self._batch = bool(self._heard), None
        self._secure = None
        try:
            if manifest.protocol != PROTOCOL:
                raise TransportError(OTHER_PROTOCOL.format(theirs=manifest.protocol, ours=PROTOCOL))
            self._batch = self.new_batch(manifest)
            if manifest.secure:
                from fedjury.agents.secure_members import secure_members  # noqa: PLC0415 - 8 MB

                about = self.transport.run, manifest, self._opened_sums, self._batch.unclipped
                self._secure = secure_members(self.connections, *about, self._say)
        except (TransportError, ValueError) as why:
            if not (self._patient or began):
                raise
            self._say(UNFIT.format(why=why))
        for name, agent in self._agents.items():
            past, groups = manifest.look_back, not manifest.group_judge
            self._agents[name] = agent.but(look_back=past, group_history=groups)
            if agent.round is not None and not began and self._batch is not None:
                self.took_part = True
                self._batch.begin(agent.round)

    def _forget(self, *, models: bool) -> None:
        """Forget what was asked for under another manifest; ``models``: of another model, too."""
        self._tasks.clear()
        self._fresh.clear()
        self.voting.clear()
        self._measuring.clear()
        self._group_tasks.forget()
        self._again.clear()
        self.candidate = None
        if models:
            self._models.clear()

    def new_batch(self, manifest: Manifest) -> Batch:
        """Make a batch that knows who is absent, and the last global model if it is of this run."""
        batch = self._assemble(manifest)
        batch.exclude(self.connections.absent)
        for version, weights in self._models.items():
            if len(weights) == manifest.parameters:
                batch.keep(version, weights)
        return batch

    def _begin(self, message: Round, manifest: Manifest | None) -> None:
        """Let the cohort begin a round.

        ``manifest``: what was heard just before. If the round is an earlier one all the same, an
        aggregator has lost the end of its run and goes through it once more: what we know of these
        rounds is of no use.
        """
        if self._batch is None:
            return
        if manifest is not None and message.round < self._batch.number:
            self._batch = self.new_batch(manifest)
            self.candidate = None
            self._group_tasks.forget()
            self._agents = {name: began_again(agent) for name, agent in self._agents.items()}
        self._batch.begin(message)

    def _keep(self, version: int, weights: Vector) -> None:
        self._models = {version: weights}
        if self._batch is not None:
            self._batch.keep(version, weights)

    def send_ready(self, batch: Batch) -> None:
        """Send the updates that are trained, and let all validators who are ready vote at once."""
        for name in self._fresh:
            task = self._tasks.get(name)
            if task is not None and (answer := batch.update(name, task)) is not None:
                if isinstance(task, Contribute) and not isinstance(answer, Decline):
                    answer = replace(answer, size=self._received(name))
                for message in self._said(batch, answer, task):
                    self.transport.send(name, message)
                del self._tasks[name]
        self._fresh.clear()
        if self.voting or self._measuring:
            self._look_at_candidate(batch)
        if self._group_tasks:
            for said in self._group_tasks.answers(batch, self._received):
                self.transport.send(said.agent, said)

    def _said(self, batch: Batch, answer: Message, task: Train | Contribute) -> list[Message]:
        """Return what is sent of an answer: of an update under masks, its vote and new keys."""
        if self._secure is None or not isinstance(answer, Update):
            return [answer]
        return self._secure.offer(answer, task, batch.trained_from(answer.agent))

    def _look_at_candidate(self, batch: Batch) -> None:
        """Let all who are ready judge the candidate, and measure it, at once."""
        voting, self.voting = self.voting, {}
        measuring, self._measuring = self._measuring, {}
        for judging, names in voting.items():
            turn = judging.round, judging.attempt
            if self.candidate is not None and self.candidate[0] == turn:
                for answer in batch.votes(names, judging, self.candidate[1]):
                    if isinstance(answer, Vote):
                        self._vote(replace(answer, size=self._received(answer.agent)), judging)
                    else:
                        self.transport.send(answer.agent, answer)
        for task, names in measuring.items():
            if self.candidate is not None and self.candidate[0] == (task.round, task.attempt):
                for measured in batch.measure(names, task, self.candidate[1]):
                    self.transport.send(measured.agent, measured)

    def _vote(self, vote: Vote, judging: Judge) -> None:
        """Send a vote; what was counted for it, where that is asked for, under masks if any are."""
        said: list[Message] = [vote]
        if self._secure is not None and vote.counts and self.candidate is not None:
            said = self._secure.offer_counts(vote, judging.versions, self.candidate[1])
        for message in said:
            self.transport.send(vote.agent, message)

    def _received(self, name: str) -> int:
        """Return how many bytes an agent's connection has received for the vote at hand."""
        return self._bytes[self.connections.of[name]]
