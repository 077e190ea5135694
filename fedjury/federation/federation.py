"""A federation in Python: what the aggregator does, for a model of one's own.

federation = fedjury.Federation("pumps", "mqtt://broker:1883", model=Sensor())

@federation.on_round
def show(record): ...

result = federation.run(rounds=24)
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fedjury.agents.functions import Metrics, called, flaw_of_values, named
from fedjury.aggregator.assembly import NO_DATA, Parts, unmeasured, without_data
from fedjury.aggregator.console import round_line
from fedjury.aggregator.durable_files import held
from fedjury.aggregator.resume import description, resume, show
from fedjury.aggregator.serve import serve, serving, store_of
from fedjury.aggregator.service import Aggregator, Control
from fedjury.aggregator.store import RunStore, read_records
from fedjury.config.sections import Validation
from fedjury.config.settings import Settings, explained, load
from fedjury.federation.durations import seconds_of
from fedjury.federation.outcome import Result
from fedjury.learning.own_model import own_model
from fedjury.protocol.messages import Model, Vector
from fedjury.protocol.record import Quality, RoundRecord
from fedjury.protocol.transport.by_url import Address, MemoryAddress, address_at, transport_at
from fedjury.protocol.transport.connection import TransportError
from fedjury.reports.conclusion import reached
from fedjury.round.state import State

F = TypeVar("F", bound=Callable[..., Any])

OnRound = Callable[[RoundRecord], None]


@dataclass(frozen=True)
class Devices:
    """How many devices a federation needs, takes, and waits for."""

    min: int = 1
    """Fewest for a round."""
    max: int = 0
    """Most that are selected in a round; 0: all that are there."""
    wait: bool = True
    """Whether it waits for its fewest as long as it takes. If not, it begins after two minutes with
    those that are there, and is given up after five rounds in a row without enough answers."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that say so, as "section.key" -> value."""
        return {
            "collect.agents": self.min,
            "collect.min_updates": self.min,
            "collect.wait": self.wait,
            "sampling.most": self.max,
        }


ALWAYS: Mapping[str, Any] = {
    "data.name": NO_DATA,
    "aggregation.server_lr": 1.0,
    "detection.detectors": [],
    "detection.quarantine": False,
    "evaluation.fraction": 1.0,
    "evaluation.by_agent": True,
    "agents.malicious": 0.0,
    "wire.history": "float32",  # what devices measure is the candidate itself
}
"""What a federation is, unless its settings say otherwise."""


class Federation:
    """A run of one model over devices of other people, with their own data.

    It needs no data itself: devices measure each candidate (``Device.evaluate``), and what they do
    not measure is not known. It stays in its folder, and resumes there.
    """

    def __init__(
        self,
        name: str = "fedjury",
        broker: str = "mqtt://127.0.0.1:1883",
        *,
        model: Any,
        rule: str = "mean",
        options: Mapping[str, Any] | None = None,
        weigh: str = "",
        devices: Devices = Devices(),
        every: float | str = 0,
        deadline: float | str = "10m",
        validators: int = 0,
        best: str = "",
        seed: int = 0,
        folder: str | Path = "runs",
        secrets: str | Path = "",
        settings: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = show,
    ) -> None:
        """``model``: a ``torch.nn.Module``, or a dict of names and NumPy arrays, as devices have.

        ``rule``, ``options``: how updates become one, by name. ``weigh``: by "samples", as is usual
        with the rule mean, or "equal". ``every``: from one round to the next at the least;
        ``deadline``: for the updates of a round, and again for votes and metrics, there at most
        30 s; both in seconds, or "10m", "1h". ``validators``: devices that vote on each candidate.
        ``best``: a metric; the best model by it is kept, "-rmse" where low is good. ``folder``:
        where runs are kept. ``settings``: any other settings, as "section.key" -> value.

        Raises
        ------
        ValueError
            If a value is not possible; one sentence.
        TransportError
            If there can be no such address.
        """
        self._address = address_at(broker)
        self._own, self._measuring = own_model(deepcopy(model)), own_model(deepcopy(model))
        self._say = say
        self._folder, self.name = Path(folder), name
        self._callbacks: list[OnRound] = []
        self._evaluate: Callable[[Any], Any] | None = None
        self.control = Control()
        self._thread: threading.Thread | None = None
        self._ended: Result | BaseException | None = None
        chosen = {
            "run.name": name,
            "run.seed": seed,
            "run.directory": str(folder),
            "model.name": type(model).__qualname__,
            "aggregation.rule": rule,
            "aggregation.options": dict(options or {}) | weighing(rule, weigh),
            "validation.validators": validators,
            "validation.seconds": min(seconds_of(deadline), Validation().seconds),
            "evaluation.best": best.removeprefix("-"),
            "evaluation.best_is": "lowest" if best.startswith("-") else "highest",
            "collect.seconds": seconds_of(deadline),
            "collect.every": seconds_of(every),
            "broker.secrets": str(secrets),
        }
        given = {**ALWAYS, **chosen, **devices.settings, **settings_of(self._address)}
        self._settings = load(overrides=given | dict(settings or {}))
        self._parts(1)  # so that what cannot be is said here

    def on_round(self, function: F) -> F:
        """Call a function with the record of each round once it is over: ``(record) -> None``."""
        self._callbacks.append(function)
        return function

    def evaluate(self, function: F) -> F:
        """Mark what measures a model with data of the server's own: ``(model) -> Metrics``.

        Or a mapping of names to numbers; they stand in the history as ``server_NAME``.
        """
        self._evaluate = function
        return function

    def run(self, rounds: int = 30) -> Result:
        """Run up to so many rounds in all, those of before included; return what came of it.

        SIGTERM or ``stop`` end it after the message at hand, and it resumes where it was.

        Raises
        ------
        SettingsError, TransportError, StoreError
            If it cannot be; one sentence.
        """
        with self._held(rounds) as begun, sigterm(self.stop):
            state = begun.state
            if state.round < rounds and not self.control.stopped:
                state = self._serve(begun)
            return self.result(state)

    def start(self, rounds: int = 30) -> None:
        """Do as ``run`` in a thread of its own; ``wait`` returns what came of it."""
        if self._thread is not None and self._thread.is_alive():
            raise RuntimeError(f"federation {self.name!r} is running already")
        self.control.stopped = False
        self._thread = threading.Thread(target=self._run_apart, args=(rounds,), daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> Result | None:
        """Wait for the end of what ``start`` began; None if that is not over after ``timeout`` s.

        Raises
        ------
        Exception
            What ``run`` would have raised.
        """
        if self._thread is None:
            raise RuntimeError(f"federation {self.name!r} was not started")
        self._thread.join(timeout)
        if self._thread.is_alive():
            return None
        if isinstance(self._ended, BaseException):
            raise self._ended
        return self._ended

    def pause(self) -> None:
        """Open no further round; the one that is open goes to its end."""
        self.control.paused = True

    def go_on(self) -> None:
        """Open rounds again, after ``pause``."""
        self.control.paused = False

    def stop(self) -> None:
        """Let ``run`` return soon, in mid-round; may be called from another thread."""
        self.control.stopped = True

    @contextmanager
    def serving(
        self, rounds: int, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[tuple[Aggregator, State]]:
        """Serve the run within this process, for whoever turns the aggregator himself."""
        with self._held(rounds) as begun:
            transport = transport_at(self._address, self.name).open()
            with serving(*begun[:4], begun.history, transport, self.control, clock) as aggregator:
                yield aggregator, begun.state

    def _run_apart(self, rounds: int) -> None:
        try:
            self._ended = self.run(rounds)
        except BaseException as why:
            self._ended = why

    @contextmanager
    def _held(self, rounds: int) -> Iterator[Begun]:
        """Keep the run's folder to us, and find where the run stands."""
        settings, parts = self._parts(rounds)
        folder = self._folder / self.name
        with held(folder, self.name):
            store = store_of(settings, parts, folder)
            history, state = resume(store, settings, parts, self._say)
            store.describe(description(settings, parts))
            screen = _Screen(rounds, self._say, self._callbacks)
            yield Begun(settings, parts, store, screen, history, state)

    def _serve(self, begun: Begun) -> State:
        if isinstance(self._address, MemoryAddress):
            raise TransportError(
                "devices in this process take turns with it: use fedjury.simulate, or a broker"
            )
        return serve(*begun, self.control)

    def result(self, state: State) -> Result:
        """Return what the run has come to so far, and say what was measured at last and at best."""
        folder = self._folder / self.name
        records = tuple(read_records(folder))
        model = deepcopy(self._own)
        for line in reached([*records], self._settings.evaluation):
            self._say(line)
        return Result(self.name, folder, records, state.weights, state.failure, model)

    def _parts(self, rounds: int) -> tuple[Settings, Parts]:
        """Return the settings of a run of so many rounds, and what the aggregator is built from."""
        settings = self._settings.replaced(run=self._settings.run.replaced(rounds=rounds))
        with explained():
            return settings, without_data(settings, self._own, self._measure)

    def _measure(self, weights: Vector) -> Quality:
        """Return how good the server's own function finds a model (d,)."""
        if self._evaluate is None:
            return unmeasured(weights)
        self._measuring.load(weights)
        found = called(self._evaluate, self._measuring.model)
        values = dict(found.figures() if isinstance(found, Metrics) else found)
        if flaw := flaw_of_values(values):
            raise ValueError(f"{named(self._evaluate)} {flaw}")
        accuracy = values.pop("accuracy", None)
        return Quality(accuracy, metrics={f"server_{key}": v for key, v in values.items()})


class Begun(NamedTuple):
    """A run that is about to be served."""

    settings: Settings
    parts: Parts
    store: RunStore
    screen: _Screen
    history: list[Model]
    state: State


class _Screen:
    """Tells people a line a round, and whoever asked for it the record."""

    def __init__(self, rounds: int, say: Callable[[str], None], told: list[OnRound]) -> None:
        self._rounds, self.say, self._told = rounds, say, told
        self._last = ""

    def waiting(self, online: int, wanted: int) -> None:
        """Say how many devices are there, and of how many, whenever that changes."""
        text = f"waiting for devices: {online:,} of {wanted:,} are there"
        if text != self._last:
            self._last = text
            self.say(text)

    def progress(self, state: State) -> None:
        """Say nothing within a round."""

    def finished(self, record: RoundRecord) -> None:
        """Say what became of a round."""
        self.say(round_line(record, self._rounds).plain)
        self._last = ""
        for function in self._told:
            function(record)


def settings_of(address: Address) -> dict[str, Any]:
    """Return the settings that lead to a broker; none to one in memory."""
    if isinstance(address, MemoryAddress):
        return {}
    return {"broker.host": address.host, "broker.port": address.port, "broker.tls": address.tls}


def weighing(rule: str, weigh: str) -> dict[str, Any]:
    """Return the rule's option by which updates are weighted.

    Raises
    ------
    ValueError
        If the rule does not weigh, or not so.
    """
    if weigh not in ("", "samples", "equal"):
        raise ValueError(f"weigh={weigh!r} must be 'samples' or 'equal'")
    if rule == "mean":
        return {"weighted": weigh != "equal"}
    if weigh:
        raise ValueError(f"the rule {rule!r} decides itself what an update counts; leave weigh out")
    return {}


@contextmanager
def sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM call ``stop`` meanwhile, where that can be had: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
