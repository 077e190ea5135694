"""Many clients, some of them fake: python clients_sim.py http://localhost:5000."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from classifier import DATA, random_dataloader
from client import EXPECTED, FOLDER, Client, add_data, parser, session
from mpaf import MPAF

from fedjury.config import flags

EXAMPLES = f"""  {FOLDER}/clients_sim.py http://localhost:5000
  {FOLDER}/clients_sim.py http://localhost:5000 .2 100 1 4
  {FOLDER}/clients_sim.py http://localhost:5000 0 100 --rounds 10"""

MOST = 100_000
"""Clients, at the most."""


class ClientSim:
    """Honest clients, and a fake one that sends as many updates as there are to be fakes."""

    def __init__(
        self,
        address: str,
        percent_evil: float,
        num_clients: int,
        scaling: float,
        train_sample_size: int,
        seed: int = 0,
        data: str = DATA,
    ) -> None:
        """Make the clients; ``percent_evil`` is a share, 0 to 1, and rounded to whole clients.

        ``ValueError`` if there cannot be such clients.
        """
        if not 0 <= percent_evil <= 1:  # nor NaN
            raise ValueError(f"percent_evil {percent_evil:g} must be from 0 to 1")
        if not 1 <= num_clients <= MOST:
            raise ValueError(f"num_clients {num_clients} must be from 1 to {MOST:,}")
        random_dataloader(train_sample_size, data)  # it says at once if that cannot be
        self.address, self.seed, self.data, self._last_round = address, seed, data, 0
        self.num_clients, self.num_evil = num_clients, round(num_clients * percent_evil)
        self.mpaf = MPAF(address, scaling, int(np.random.default_rng([seed, 0]).integers(2**31)))
        self.good_clients = self.make_good_clients(
            address, num_clients - self.num_evil, train_sample_size
        )

    def make_good_clients(self, address: str, num: int, training_size: int) -> list[Client]:
        """Make honest clients, each with random samples of its own."""
        return [
            Client(address, random_dataloader(training_size, self.data, [self.seed, 1, number]))
            for number in range(num)
        ]

    def send_updates(self) -> None:
        """Let every client send an update, and the fake one after every few good ones."""
        good = iter(self.good_clients)
        for evil in turns(self.num_clients, self.num_evil):
            receipt = self.mpaf.send_bad_update() if evil else next(good).update_model()
        self._last_round = receipt["round"]

    def report(self) -> list[float | None]:
        """Return the accuracy of the global model before any round and after each."""
        if self._last_round:
            session(self.address).settle(self._last_round)
        return session(self.address).accuracy()


def turns(num_clients: int, num_evil: int) -> list[bool]:
    """Say of each turn whether a fake has it; they are spread evenly, each after good ones."""
    had = [num_evil * turn // num_clients for turn in range(num_clients + 1)]
    return [after > before for before, after in pairwise(had)]


def main(arguments: Sequence[str]) -> int:
    """Simulate the clients, and print the accuracy history."""
    chosen = _parser().parse_args(arguments)
    if chosen.rounds < 1:
        raise ValueError(f"--rounds {chosen.rounds} must be 1 or more")
    sim = ClientSim(
        chosen.address,
        chosen.percent_evil,
        chosen.num_clients,
        chosen.evil_scale,
        chosen.train_sample_size,
        chosen.seed or 0,
        chosen.data,
    )
    print(f"{len(sim.good_clients)} honest clients and {sim.num_evil} fakes", flush=True)
    for _ in range(chosen.rounds):
        sim.send_updates()
    said = ", ".join("?" if a is None else f"{a:.3f}" for a in sim.report())
    print(f"accuracy: [{said}]")
    return 0


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "clients_sim.py",
        "Honest clients, each with samples of its own, and fake ones. They send "
        "an update each, one after the other.",
        EXAMPLES,
        "of samples and of the fakes' model (default: 0)",
    )
    add = made.add_argument
    add(
        "percent_evil",
        nargs="?",
        type=float,
        default=0.2,
        help="share of the clients that are fake, 0 to 1 (default: %(default)s)",
    )
    add(
        "num_clients",
        nargs="?",
        type=int,
        default=100,
        help="clients, fakes included (default: %(default)s)",
    )
    add(
        "evil_scale",
        nargs="?",
        type=float,
        default=1.0,
        help="how far fakes step; 1: to their random model (default: %(default)g)",
    )
    add(
        "train_sample_size",
        nargs="?",
        type=int,
        default=4,
        help="samples of each honest client (default: %(default)s)",
    )
    add(
        "--rounds",
        type=int,
        default=10,
        metavar="N",
        help="times that all of them send (default: %(default)s)",
    )
    add_data(made)
    return made


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
