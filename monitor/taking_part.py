"""What the three programs share: their flags, a round taken part in, and how they end."""

from __future__ import annotations

import re
import textwrap
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from config import program
from learning.weights import Vector
from monitor.visit import MOVED_ON, GatewayError, Global, Visit

PATIENCE = 3600.0

NEGATIVE = re.compile(r"-\.?\d")
"""What begins with a dash and is a value all the same, like -1e6."""

Answer = Callable[[Global], None]
"""Trains from a global model and posts what was learnt; raises ``GatewayError`` if refused."""


def parser(program: str, description: str, examples: str, rounds: int) -> ArgumentParser:
    """Make a parser that knows what all of them know; ``program``: a file of this folder."""
    made = ArgumentParser(
        prog=f"python monitor/{program}", description=textwrap.fill(description, 80),
        epilog=f"examples:\n{examples}",
        formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    made._negative_number_matcher = NEGATIVE  # noqa: SLF001 - the default knows no exponents
    made.add_argument("address", metavar="ADDRESS", help="of the gateway: http://localhost:5000")
    made.add_argument("--rounds", type=int, default=rounds, metavar="N",
                      help="rounds to take part in (default: %(default)s)")  # fmt: skip
    made.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS",
                      help="longest wait for a round to end (default: %(default).0f)")  # fmt: skip
    return made


def add_data(made: ArgumentParser) -> None:
    """Add where the samples are from."""
    made.add_argument("--data", default="mnist5k", metavar="NAME",
                      help="data set by name, or an .npz file (default: mnist5k)")  # fmt: skip
    made.add_argument("--data-root", default="data", metavar="DIR",
                      help="folder for downloads (default: %(default)s)")  # fmt: skip


def add_name(made: ArgumentParser) -> None:
    """Add what a client calls itself."""
    made.add_argument("--name", default="", metavar="NAME",
                      help="to be one and the same agent through the rounds, also of later "
                      "calls (default: any free slot, anew in each round)")  # fmt: skip


def any_seed(given: int | None) -> int:
    """Return a seed, or one that nobody knows."""
    return int(np.random.default_rng().integers(2**62)) if given is None else given


def check(chosen: Namespace) -> None:
    """Check what all programs are told; ``GatewayError`` says what cannot be."""
    if chosen.rounds < 1:
        raise GatewayError(f"--rounds {chosen.rounds} must be 1 or more")
    if not chosen.patience >= 0:  # nor NaN
        raise GatewayError(f"--patience {chosen.patience:g} must be 0 or more")
    if chosen.seed is not None and not 0 <= chosen.seed < 2**63:
        raise GatewayError(f"--seed {chosen.seed} must be from 0 to 2^63 - 1")


def take_part(visit: Visit, rounds: int, patience: float, answer: Answer) -> None:
    """Answer so many rounds, one after the other; wait for the end of the last, too.

    A round that has moved on before the answer was in does not count: the next one is answered.
    """
    after = answered = 0
    while answered < rounds:
        start = visit.next_round(after, patience)
        if start is None:
            print("the run is done", flush=True)
            return
        try:
            answer(start)
        except GatewayError as why:
            if why.reason not in MOVED_ON:
                raise
            after = start.round if why.reason == "not_called" else after
            continue
        answered, after = answered + 1, start.round
    visit.end_of(after, patience)


def play(chosen: Namespace, samples: int, learn: Callable[[Global], Vector]) -> None:
    """Post in each round what ``learn`` makes of the global model, (d,); then say how it went."""
    with Visit(chosen.address) as visit:

        def answer(start: Global) -> None:
            receipt = visit.post(start, learn(start), samples, chosen.name)
            print(f"round {start.round}: posted as {receipt['agent']}", flush=True)

        take_part(visit, chosen.rounds, chosen.patience, answer)
        report(visit.accuracy())


def report(history: Sequence[float | None]) -> None:
    """Print the accuracy after each round, the first before any."""
    print("accuracy:", "[" + ", ".join("?" if a is None else f"{a:.3f}" for a in history) + "]")


def run_main(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a program, which ends as all of ours do."""
    program.run_main(main, (GatewayError,))
