"""One real device: its own name, its own data, its own training, and the network around it.

device = fedjury.Device("site-a", "mqtt://broker:1883", run="pumps", model=Sensor())

@device.train
def train(model, turn): ...

device.run()
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fedjury.agents.agent_runner import AgentRunner
from fedjury.agents.device_batch import DeviceBatch
from fedjury.agents.functions import Functions, Trainer
from fedjury.agents.opened_sums import opened_sums_in
from fedjury.agents.waiting import Waiting
from fedjury.learning.own_model import ArrayModel, OwnModel, difference, own_model
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import Abilities, Manifest
from fedjury.protocol.topics import NAME, ROOT
from fedjury.protocol.transport.by_url import Address, address_at, transport_at
from fedjury.protocol.transport.connection import Transport, TransportError
from fedjury.protocol.transport.waiting import patiently

OTHER_FIXED = (
    "what is frozen in this device's model is not what the aggregator has, so what they train may "
    "not fit together"
)
"""Said where a model's frozen parameters or constants differ."""

F = TypeVar("F", bound=Callable[..., Any])


def show(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


class Device:
    """A device of a federation. Mark its functions with ``train``, ``evaluate`` and ``judge``.

    With ``model``, a ``torch.nn.Module``, functions are given that; without it, the run's model as
    a dict of names and NumPy arrays, to be changed in place.
    """

    def __init__(
        self,
        name: str,
        broker: str = "mqtt://127.0.0.1:1883",
        *,
        run: str = "fedjury",
        model: Any = None,
        trainer: Trainer | None = None,
        secrets: str | Path = "",
        state: str | Path = "",
        root: str = ROOT,
        say: Callable[[str], None] = show,
    ) -> None:
        """``broker``: a URL. ``secrets``: the folder that ``fedjury enroll`` made, or a copy of it.

        ``state``: a folder in which it remembers, across restarts, which sums it has helped to open
        under secure aggregation; empty: only while it runs.

        ``root``: the topic below which the run is, as its aggregator has it in ``broker.root``.

        Raises
        ------
        ValueError
            If there can be no such name, or nothing can be kept in ``state``.
        TypeError
            If ``model`` is none, or there is a ``trainer`` beside it.
        TransportError
            If there can be no such address.
        """
        for what, value in (("device", name), ("run", run)):
            if not NAME.fullmatch(value):
                raise ValueError(f"the {what} {value!r} must be 1 to 64 of A-Z a-z 0-9 _ -")
        self.name, self._run, self._say = name, run, say
        if model is not None and trainer is not None:
            raise TypeError("a trainer has its own model: give a device one or the other")
        self._model = None if model is None else own_model(model)
        self._trainer = trainer
        self._functions = Functions()
        if trainer is not None:
            self._functions = Functions(trainer.train, trainer.evaluate)
        self._opened_sums = opened_sums_in(state, run, name)
        self._leaving = threading.Event()
        self._address = address_with(broker, secrets, root)

    @property
    def abilities(self) -> Abilities:
        """What it can do with a candidate, by the functions that it has."""
        return self._functions.abilities

    def train(self, function: F) -> F:
        """Mark what trains the model in place: ``(model, turn) -> fedjury.Trained``."""
        self._functions.train = function
        return function

    def evaluate(self, function: F) -> F:
        """Mark what measures a model on own data: ``(model, turn) -> fedjury.Metrics``."""
        self._functions.evaluate = function
        return function

    def judge(self, function: F) -> F:
        """Mark an own vote: ``(candidate, turn) -> bool``, true if it is poisoned."""
        self._functions.judge = function
        return function

    def run(self, *, once: bool = False) -> None:
        """Take part in the run and in those that follow under its name, until it is stopped.

        It waits while broker or aggregator are away, and while the run trains another model than
        this device's, which is said. SIGTERM and Ctrl-C end it, or ``stop`` from
        another thread. ``once``: it returns when one run is done.

        Raises
        ------
        TransportError
            If the broker does not let it in; one sentence.
        """
        before = self._catch_sigterm()
        try:
            while not self._leaving.is_set() and not (self._take_part() and once):
                pass
        except KeyboardInterrupt:
            self._say(f"{self.name}: stopping")
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)

    def stop(self) -> None:
        """Let ``run`` return soon; may be called from another thread."""
        self._leaving.set()

    def _catch_sigterm(self) -> Any:
        """Let SIGTERM stop us, where that can be had; returns what caught it before."""
        if threading.current_thread() is not threading.main_thread():
            return None
        return signal.signal(signal.SIGTERM, lambda *_: self.stop())

    def _take_part(self) -> bool:
        """Take part in one run; returns whether it was done."""
        transport = transport_at(self._address, self._run)
        runner = self.runner(transport)
        if not patiently(lambda: transport.open(self.name), self._say, self._leaving.is_set):
            return False
        try:
            return runner.run()
        finally:
            transport.close()

    def runner(
        self, transport: Transport, *, clock: Callable[[], float] = time.monotonic
    ) -> AgentRunner:
        """Return what takes part in one run over a transport, turn by turn or to its end."""
        place = f"run {self._run!r} at {self._address}"
        return AgentRunner(
            transport,
            [self.name],
            self.batch,
            self._say,
            self._leaving.is_set,
            abilities=lambda _: self.abilities,
            patient=True,
            waiting=Waiting(self._run, place, lambda: "", clock()),
            opened_sums=self._opened_sums,
            clock=clock,
        )

    def batch(self, manifest: Manifest) -> DeviceBatch:
        """Return what trains and votes in the run of a manifest."""
        model = self._model_for(manifest)
        if text := difference(model.layout, manifest.tensors):
            raise TransportError(f"run {self._run!r} trains another model: {text}")
        if manifest.fixed not in ("", model.fixed):
            self._say(f"{OTHER_FIXED}: run {self._run!r}")
        return DeviceBatch(self.name, self._functions, model, manifest, self._say)

    def _model_for(self, manifest: Manifest) -> OwnModel:
        """Return the model that takes part in the run of a manifest."""
        if self._trainer is None:
            return self._model or ArrayModel.of_layout(manifest.tensors)
        try:
            return own_model(self._trainer.begin(manifest))
        except ValueError as why:
            raise TransportError(f"run {self._run!r}: {why}") from why


def address_with(broker: str, secrets: str | Path, root: str = ROOT) -> Address:
    """Return the address of a broker, with the folder of logins that ``fedjury enroll`` made."""
    address = address_at(broker, root)
    if isinstance(address, BrokerAddress) and secrets:
        return address._replace(secrets=str(Path(secrets) / "agents"))
    return address
