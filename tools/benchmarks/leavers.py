"""A thousand agents under secure aggregation who do not train, and leave when they are told to.

Their steps are the real ones; their updates are drawn, so that it is known what sums have to be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from fedjury.agents.agent import Train
from fedjury.agents.opened_sums import OpenedSums
from fedjury.agents.secure_members import SecureMembers
from fedjury.config.settings import Settings
from fedjury.protocol.messages import (
    Decline,
    Manifest,
    Message,
    Model,
    Phase,
    Presence,
    Round,
    Update,
    Vector,
)
from fedjury.protocol.secure import SecureInbox, SecurePeers, SecureUp, UnmaskRequest
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport
from fedjury.randomness import Purpose, stream

Kind = type[SecureUp]
Plan = Mapping[str, Kind]
"""An agent that leaves -> the first message that it does not send any more."""


class Members:
    """The agents of a run, with updates that are drawn for each round."""

    def __init__(self, broker: MemoryBroker, settings: Settings, manifest: Manifest) -> None:
        self.names = [f"agent-{number:04d}" for number in range(settings.agents.n)]
        self.samples = {name: 1 + number % 7 for number, name in enumerate(self.names)}
        self.plan: Plan = {}
        """Who leaves in the round at hand, and when."""
        self.gone: set[str] = set()
        self.declined: list[str] = []
        """Why agents took no part in a sum, if any did not."""
        self.transport = MemoryTransport(broker, settings.run.name)
        self.transport.join(":members", Round, Model, presence=False)
        for name in self.names:
            self.transport.listen(name, SecurePeers, SecureInbox, UnmaskRequest)
        self._steps = SecureMembers(settings.run.name, manifest, OpenedSums())
        self._seed, self._parameters = settings.run.seed, manifest.parameters
        self._models: dict[int, Vector] = {}

    def come(self, names: Collection[str]) -> None:
        """Let these be online."""
        self.gone.difference_update(names)
        for name in sorted(names):
            self.transport.send(name, Presence(name, online=True, since=0.0))

    def updates(self, round_: int) -> dict[str, Vector]:
        """Return the update of each agent in a round; some coordinates are clipped."""
        rng = stream(self._seed, Purpose.BENCHMARK, round_)
        rows = rng.normal(0, 0.03, (len(self.names), self._parameters)).astype(np.float32)
        return dict(zip(self.names, rows, strict=True))

    def turn(self) -> bool:
        """Answer all that has come; returns whether anything had."""
        some = False
        while (heard := self.transport.receive()) is not None:
            some = True
            match heard.message:
                case Model(version, weights):
                    self._models = {version: weights}
                case Round(phase=Phase.TRAIN) as message:
                    self._offer(message)
                case SecurePeers() | SecureInbox() | UnmaskRequest() as message:
                    if message.agent not in self.gone:
                        self._send(message.agent, self._steps.answer(message))
        return some

    def _offer(self, message: Round) -> None:
        """Let all train: their updates are there at once."""
        task = Train(message.round, message.attempt, message.version)
        model = self._models[message.version]
        for name, delta in self.updates(message.round).items():
            update = Update(name, message.round, message.version, self.samples[name], delta)
            for said in self._steps.offer(update, task, model):
                self._send(name, said)

    def _send(self, name: str, said: Message | None) -> None:
        """Send what an agent says; or let it be gone, if that is when it leaves."""
        if said is None:
            return
        if isinstance(said, Decline):
            self.declined.append(said.why)
        if self.plan.get(name) is type(said):
            self.gone.add(name)
            self.transport.send(name, Presence(name, online=False, since=0.0))
        else:
            self.transport.send(name, said)
