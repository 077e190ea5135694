"""The agents of one process on the network: what they hear, the cohort's work, what they send.

One loop does it all: read what has come, train one chunk, send what is ready, again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from agents.agent import Agent, Contribute, Fetch, Judge, Task, Train, concerned, hear
from agents.cohort import Cohort
from protocol.codec import Limits
from protocol.link import Hub, LinkError
from protocol.messages import (
    PROTOCOL,
    BadMessage,
    Candidate,
    History,
    Manifest,
    Message,
    Model,
    Phase,
    Round,
    Update,
    Vector,
)

WANTED = (Manifest, Round, Model)
"""What everybody hears; candidates and history are for those who judge."""

READS = 200
"""Messages read before the next chunk is trained."""

IDLE = 0.2
"""Seconds to wait for a message when there is nothing to train."""

PATIENCE = 3.0
"""Seconds without a manifest after which people are told what is being waited for."""


class Fleet:
    """Runs the members of one process until the run is done or ``stopping`` says so."""

    def __init__(
        self,
        hub: Hub,
        names: list[str],
        assemble: Callable[[Manifest], Cohort],
        say: Callable[[str], None],
        stopping: Callable[[], bool],
        downlink: str = "",
        remember: bool = True,
    ) -> None:
        """``downlink``: the name of one connection through which all of them hear, if there is.

        ``remember``: whether validators keep the models they have seen.
        """
        self._hub, self._assemble, self._say, self._stopping = hub, assemble, say, stopping
        self._names = names
        self._agents = {name: Agent(name, remember=remember) for name in names}
        if downlink:
            shared = Agent(downlink, shares=frozenset(names), remember=remember)
            self._agents = {downlink: shared}
        self._ear = dict.fromkeys(names, downlink) if downlink else {name: name for name in names}
        """An agent's name -> that of the connection through which it hears."""
        self._bytes = dict.fromkeys(self._agents, 0)
        """What a connection received for the vote at hand: the candidate and past models."""
        self._cohort: Cohort | None = None
        self._tasks: dict[str, Train | Contribute] = {}
        """Who has been called and has not answered."""
        self._fresh: list[str] = []
        """Who has been called, or trained, since we last looked what can be sent."""
        self._voting: dict[Judge, list[str]] = {}
        self._candidate: tuple[tuple[int, int], Vector] | None = None
        self._models: dict[int, Vector] = {}
        self._ignored: set[str] = set()
        self._took_part = False
        self.done = False

    def join(self) -> None:
        """Connect everybody."""
        for name, agent in self._agents.items():
            self._hub.join(name, *WANTED, presence=not agent.shares)
        for name in self._names:
            if name not in self._agents:
                self._hub.join(name)

    def run(self) -> bool:
        """Take part until the end; True if the run is done, False if we were stopped."""
        self.join()
        told = time.monotonic() + PATIENCE
        busy = False
        while not self.done and not self._stopping():
            if self._cohort is None and time.monotonic() > told:
                self._say("waiting for an aggregator: none has published this run's manifest yet")
                told = float("inf")
            busy = self.turn(0.0 if busy else IDLE)
        return self.done

    def turn(self, wait: float = 0.0) -> bool:
        """Read what has come, train one chunk, send what is ready; True if a chunk was trained."""
        self._read(wait)
        if self._cohort is None:
            return False
        trained = self._cohort.train_chunk()
        self._fresh.extend(trained)
        self._send(self._cohort)
        return bool(trained)

    def _read(self, wait: float) -> None:
        """Take the messages that have come, waiting up to ``wait`` seconds for the first."""
        for taken in range(READS):
            try:
                delivery = self._hub.receive(wait if taken == 0 else 0.0)
            except BadMessage as bad:
                if bad.reason not in self._ignored:
                    self._ignored.add(bad.reason)
                    self._say(f"ignored a message (told once for each reason): {bad}")
                continue
            if delivery is None:
                return
            if isinstance(delivery.message, Candidate | History):
                self._bytes[delivery.to] += delivery.bytes
            self._hear(delivery.to, delivery.message)

    def _hear(self, name: str, message: Message) -> None:
        match message:
            case Manifest(protocol=protocol) if self._cohort is None:
                if protocol != PROTOCOL:
                    raise LinkError(f"the run speaks protocol {protocol}, we speak {PROTOCOL}")
                self._start(message)
            case Round(phase=Phase.DONE):
                # To a newcomer a retained "done" only says how an earlier run ended.
                self.done = self.done or self._took_part
            case Round():
                self._took_part = True
                if self._cohort is not None:
                    self._cohort.begin(message)
            case Candidate(number, attempt, _, weights):
                if self._candidate is None or (number, attempt) >= self._candidate[0]:
                    self._candidate = (number, attempt), weights
            case Model(version, weights):
                self._keep(version, weights)
            case History(version, weights) if self._cohort is not None:
                self._cohort.look_back_at(version, weights)
        agent, task = hear(self._agents[name], message)
        self._agents[name] = agent
        if task is not None:
            self._take(agent, task)

    def _take(self, agent: Agent, task: Task) -> None:
        assert agent.round is not None
        match task:
            case Fetch(versions, candidate):
                self._bytes[agent.name] = 0
                if candidate:
                    self._hub.fetch(agent.name, Candidate)
                for version in versions:
                    self._hub.fetch(agent.name, History, version)
            case Train() | Contribute():
                called = concerned(agent, agent.round.contributors)
                self._tasks.update(dict.fromkeys(called, task))
                self._fresh.extend(called)
                if isinstance(task, Contribute):
                    self._contribute(agent.round, task)
            case Judge():
                called = concerned(agent, agent.round.validators)
                self._voting.setdefault(task, []).extend(called)

    def _contribute(self, message: Round, task: Contribute) -> None:
        turn = task.round, task.attempt
        if self._cohort is not None and self._candidate is not None and self._candidate[0] == turn:
            self._cohort.contribute(message, task, self._candidate[1])

    def _start(self, manifest: Manifest) -> None:
        """Build the cohort now that we know what is trained, and catch up with what was heard."""
        limits = Limits(manifest.parameters, bytes=manifest.max_bytes, finite=False)
        self._hub.decoder.limit(limits)
        self._hub.codecs[Update] = manifest.codec
        self._cohort = self._assemble(manifest)
        for name, agent in self._agents.items():
            self._agents[name] = agent._replace(look_back=manifest.look_back)
            if agent.round is not None:
                self._cohort.begin(agent.round)
        for version, weights in self._models.items():
            if len(weights) == manifest.parameters:
                self._cohort.keep(version, weights)

    def _keep(self, version: int, weights: Vector) -> None:
        if self._cohort is None:
            self._models = {version: weights}
        else:
            self._cohort.keep(version, weights)

    def _send(self, cohort: Cohort) -> None:
        """Send the updates that are trained, and let all validators who are ready vote at once."""
        for name in self._fresh:
            task = self._tasks.get(name)
            if task is not None and (answer := cohort.update(name, task)) is not None:
                if isinstance(task, Contribute):
                    answer = answer._replace(bytes=self._bytes[self._ear[name]])
                self._hub.send(name, answer)
                del self._tasks[name]
        self._fresh.clear()
        voting, self._voting = self._voting, {}
        for judging, names in voting.items():
            turn = judging.round, judging.attempt
            if self._candidate is not None and self._candidate[0] == turn:
                for vote in cohort.votes(names, judging, self._candidate[1]):
                    heard = self._bytes[self._ear[vote.agent]]
                    self._hub.send(vote.agent, vote._replace(bytes=heard))
