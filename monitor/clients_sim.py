"""Many clients over HTTP, some of them fake: python monitor/clients_sim.py http://localhost:5000."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a script, Python puts monitor/ first on the path, and not the folder that holds it.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from learning.weights import Vector
from monitor import taking_part, trainees
from monitor.trainees import Honest, Mpaf
from monitor.visit import GatewayError, Global, Visit

EXAMPLES = """  python monitor/clients_sim.py http://localhost:5000
  python monitor/clients_sim.py http://localhost:5000 0 --rounds 30
  python monitor/clients_sim.py http://localhost:5000 .1 50 1000 20 --seed 7"""

MOST = 100_000
"""Clients: a gateway has no more slots."""

TOGETHER = 8
"""Posts on their way at a time."""


class ClientsSim:
    """Exactly round(clients * evil) fakes, the others honest; which are which, the seed says."""

    def __init__(
        self, visit: Visit, honest: Honest, fakes: list[int], fake: Mpaf, name: str
    ) -> None:
        self._visit, self._honest, self._fake = visit, honest, fake
        self._fakes, self._name = fakes, name

    def send_updates(self, start: Global) -> None:
        """Let everybody train and post; ``GatewayError`` if none of them was let in."""
        learnt: dict[int, tuple[Vector, int]] = {}
        if self._honest.members:
            deltas = zip(self._honest.members, self._honest.learn(start), strict=True)
            learnt = {member: (delta, self._honest.samples) for member, delta in deltas}
        if self._fakes:
            step = self._fake.learn(start)
            learnt |= dict.fromkeys(self._fakes, (step, self._honest.samples))

        def send(member: int) -> GatewayError | None:
            delta, samples = learnt[member]
            try:
                self._visit.post(start, delta, samples, f"{self._name}-{member:03d}")
            except GatewayError as why:
                return why
            return None

        with ThreadPoolExecutor(TOGETHER) as pool:
            refused = [why for why in pool.map(send, sorted(learnt)) if why]
        if len(refused) == len(learnt):
            raise refused[0]
        reasons = Counter(why.reason or "no answer" for why in refused)
        said = "".join(f", {count} refused ({reason})" for reason, count in reasons.items())
        print(f"round {start.round}: {len(learnt) - len(refused)} posted{said}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Simulate the clients, round by round, and print the accuracy history."""
    chosen = _parser().parse_args(arguments)
    taking_part.check(chosen)
    if not 0 <= chosen.percent_evil <= 1:
        raise GatewayError(f"percent_evil {chosen.percent_evil:g} must be from 0 to 1")
    if not 1 <= chosen.num_clients <= MOST:
        raise GatewayError(f"num_clients {chosen.num_clients} must be from 1 to {MOST:,}")
    order = np.random.default_rng(chosen.seed).permutation(chosen.num_clients).tolist()
    evil = round(chosen.num_clients * chosen.percent_evil)
    honest = Honest(
        trainees.load(chosen.data, chosen.data_root), sorted(order[evil:]),
        chosen.train_sample_size, chosen.seed,
    )  # fmt: skip
    fake = Mpaf(chosen.evil_scale, chosen.seed + 1)
    print(f"{chosen.num_clients - evil} honest clients and {evil} fakes", flush=True)
    with Visit(chosen.address) as visit:
        sim = ClientsSim(visit, honest, sorted(order[:evil]), fake, chosen.name)
        taking_part.take_part(visit, chosen.rounds, chosen.patience, sim.send_updates)
        taking_part.report(visit.accuracy())
    return 0


def _parser() -> ArgumentParser:
    made = taking_part.parser(
        "clients_sim.py",
        "Honest and fake clients over HTTP. Each has a name, and so a slot of its own: the "
        "gateway needs as many slots, and a threshold that is not more.", EXAMPLES, rounds=10,
    )  # fmt: skip
    add = made.add_argument
    add("percent_evil", nargs="?", type=float, default=0.2,
        help="share of the clients that are fake, 0 to 1 (default: %(default)s)")  # fmt: skip
    add("num_clients", nargs="?", type=int, default=100,
        help="clients, fakes included (default: %(default)s)")  # fmt: skip
    add("evil_scale", nargs="?", type=float, default=1.0,
        help="how far fakes step; 1: to their random model (default: %(default)g)")  # fmt: skip
    add("train_sample_size", nargs="?", type=int, default=4,
        help="samples of each honest client (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N",
        help="of samples, and of who is fake (default: %(default)s)")  # fmt: skip
    add("--name", default="sim", metavar="NAME",
        help="what the clients' names begin with (default: %(default)s)")  # fmt: skip
    taking_part.add_data(made)
    return made


if __name__ == "__main__":
    taking_part.run_main(main)
