"""An honest client: python client.py http://localhost:5000."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from functools import cache
from typing import Any

from classifier import DATA, Net, random_dataloader, train_model
from torch.utils.data import DataLoader

from fedjury.config import flags
from fedjury.gateway.client import PATIENCE, GatewayClient, GatewayError, Global
from fedjury.learning.classifier import Samples
from fedjury.learning.training import check_batches
from fedjury.learning.weights import Vector, flatten, load

FOLDER = "python examples/mpaf_over_http"

EXAMPLES = f"""  {FOLDER}/client.py http://localhost:5000
  {FOLDER}/client.py http://localhost:5000 100
  {FOLDER}/client.py http://localhost:5000 100 --name ann"""

EXPECTED = (GatewayError, ValueError)
"""Errors that are one sentence to people."""


@cache
def session(address: str) -> GatewayClient:
    """Return the session with a server, one for all clients of this process."""
    return GatewayClient(address)


def load_model(address: str) -> Net:
    """Load the global model from a server."""
    start = session(address).model(PATIENCE)
    net = Net(start.network, start.input_shape, start.classes, seed=0)
    load(net, start.weights)
    return net


class Client:
    """A client that trains the global model on data of its own, and sends what it learnt."""

    def __init__(self, address: str, data_loader: DataLoader[Samples], name: str = "") -> None:
        """Load the global model. A client with a ``name`` is the same agent in each round."""
        self.address, self.data_loader, self.name = address, data_loader, name
        self.model = load_model(address)

    def update_model(self) -> dict[str, Any]:
        """Train from the global model as it is now and send the update; returns the receipt."""
        samples = len(self.data_loader.dataset)  # type: ignore[arg-type]
        return session(self.address).contribute(self._learn, samples, self.name)

    def _learn(self, start: Global) -> Vector:
        """Train from the global model; returns what the weights moved by, (d,)."""
        if why := start.hindrance:
            raise GatewayError(why)
        image, _ = self.data_loader.dataset[0]
        if tuple(image.shape) != start.input_shape:
            raise GatewayError(
                f"the server's network takes inputs of {start.input_shape}, the data are "
                f"{tuple(image.shape)}; use the run's own --data"
            )
        samples = len(self.data_loader.dataset)  # type: ignore[arg-type]
        epochs, batch_size, learning_rate, momentum = start.training[:4]
        check_batches(self.model, start.input_shape, batch_size, samples)
        load(self.model, start.weights)
        train_model(self.model, self.data_loader, epochs, learning_rate, momentum)
        return flatten(self.model) - start.weights


def parser(program: str, description: str, examples: str, seed: str) -> argparse.ArgumentParser:
    """Make the parser of a program of this folder; ``seed``: what comes of it."""
    made = argparse.ArgumentParser(
        prog=f"{FOLDER}/{program}",
        description=textwrap.fill(description, 80),
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made._negative_number_matcher = flags.NEGATIVE  # noqa: SLF001 - the default knows no exponents
    made.add_argument("address", metavar="ADDRESS", help="of the server: http://localhost:5000")
    made.add_argument("--seed", type=_seed, default=None, metavar="N", help=seed)
    return made


def add_data(made: argparse.ArgumentParser) -> None:
    """Add where the samples are from."""
    made.add_argument(
        "--data",
        default=DATA,
        metavar="NAME",
        help="data set by name, or an .npz file (default: %(default)s)",
    )


def add_name(made: argparse.ArgumentParser) -> None:
    """Add what a client calls itself."""
    made.add_argument(
        "--name",
        default="",
        metavar="NAME",
        help="to be the same agent in each round (default: any)",
    )


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text} must be from 0 to 2^63 - 1")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    """Train on random samples, send one update, and end."""
    made = parser(
        "client.py",
        "An honest client: it trains the server's global model on samples of its own, "
        "as the server says, sends what it learnt, and ends.",
        EXAMPLES,
        "which samples they are (default: any)",
    )
    made.add_argument(
        "samples",
        metavar="SAMPLES",
        nargs="?",
        type=int,
        default=4,
        help="to train on (default: %(default)s)",
    )
    add_name(made)
    add_data(made)
    chosen = made.parse_args(arguments)
    loader = random_dataloader(chosen.samples, chosen.data, chosen.seed)
    receipt = Client(chosen.address, loader, chosen.name).update_model()
    print(f"sent as {receipt['agent']} in round {receipt['round']}")
    return 0


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
