"""A federation within one process: the same rounds and the same devices, and no network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import torch

from fedjury.agents.device import Device
from fedjury.agents.device_fleet import fleet_runner
from fedjury.federation.federation import Federation
from fedjury.federation.outcome import Result
from fedjury.protocol.transport.by_url import transport_at

STEP, LONGEST = 1.0, 60.0
"""Seconds that are skipped at first where nobody has anything to do, and at the most."""


PATIENCE = 60.0
"""Seconds for all devices to join; they do at once."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread meanwhile: small networks are slower on many."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Clock:
    """Tells seconds; time in which nothing happens is skipped."""

    def __init__(self) -> None:
        self._skipped, self._step = 0.0, STEP

    def __call__(self) -> float:
        """Return how late it is."""
        return time.monotonic() + self._skipped

    def note(self, *, busy: bool) -> None:
        """Take note whether anything happened."""
        if busy:
            self._step = STEP
            return
        self._skipped += self._step
        self._step = min(2 * self._step, LONGEST)


def simulate(
    those: Iterable[Device],
    /,
    *,
    model: Any,
    rounds: int = 30,
    folder: str | Path | None = None,
    **given: Any,
) -> Result:
    """Run a federation of these devices in this process, and return what came of it.

    The rounds, messages and votes are those of a federation over a broker, and so is the model, bit
    for bit, with as many threads of PyTorch: here one, as in a spawned fleet. Nobody waits:
    deadlines and ``every`` pass at once.

    ``folder``: where the run is kept; a new temporary folder if it is left out. ``given``: what
    ``fedjury.Federation`` takes beside, ``devices`` among it.

    Raises
    ------
    ValueError, SettingsError, StoreError
        If it cannot be; one sentence.
    """
    everybody = list(those)
    place = Path(mkdtemp(prefix="fedjury-")) if folder is None else Path(folder)
    say = given.pop("say", lambda _: None)
    on_round = given.pop("on_round", None)
    name = given.pop("name", "simulation")
    where = f"memory:{uuid4().hex}"
    federation = Federation(name, where, model=model, folder=place, say=say, **given)
    if on_round is not None:
        federation.on_round(on_round)
    clock = Clock()
    transport = transport_at(where, name).open()
    runner = fleet_runner(everybody, transport, say, shared=True, clock=clock)
    with one_thread(), federation.serving(rounds, clock) as (aggregator, begun):
        runner.join()
        state = aggregator.gather(begun, len(everybody), PATIENCE)
        while not (state.done or aggregator.control.stopped):
            heard = transport.traffic.received + aggregator.connection.transport.traffic.received
            state = aggregator.turn(state)
            trained = runner.turn()
            now = transport.traffic.received + aggregator.connection.transport.traffic.received
            clock.note(busy=trained or now != heard)
        aggregator.end()
        transport.close()
        return federation.result(state)
