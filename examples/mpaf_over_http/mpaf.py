"""A fake client, which poisons the model: python mpaf.py http://localhost:5000."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from classifier import Net
from client import EXPECTED, FOLDER, add_name, parser, session

from fedjury.attacks.mpaf import step
from fedjury.config import flags
from fedjury.gateway.client import PATIENCE, Global
from fedjury.learning.weights import Vector, flatten

EXAMPLES = f"""  {FOLDER}/mpaf.py http://localhost:5000
  {FOLDER}/mpaf.py http://localhost:5000 1000
  {FOLDER}/mpaf.py http://localhost:5000 1e6 --name eve"""

LARGEST = float(np.finfo(np.float32).max)


class MPAF:
    """A fake client, without any data (Cao, Gong: MPAF, CVPR workshops 2022).

    Each of its updates is ``scaling`` times the way from the global model to a target model that
    knows nothing.
    """

    def __init__(
        self, address: str, scaling: float, seed: int | None = None, name: str = ""
    ) -> None:
        """Draw the target model, from ``seed`` or else at random.

        ``ValueError`` if the scaling is no finite float32.
        """
        if not abs(scaling) <= LARGEST:  # nor NaN
            raise ValueError(f"a scaling of {scaling:g} is no finite float32")
        self.address, self.scaling, self.name = address, scaling, name
        start = session(address).model(PATIENCE)
        self.target_model = Net(start.network, start.input_shape, start.classes, seed)

    def send_bad_update(self) -> dict[str, Any]:
        """Send a scaled step from the global model to the target model; returns the receipt."""
        return session(self.address).contribute(self._step, 1, self.name)

    def _step(self, start: Global) -> Vector:
        return step(start.weights, flatten(self.target_model), self.scaling)


def main(arguments: Sequence[str]) -> int:
    """Send one bad update, and end."""
    made = parser(
        "mpaf.py",
        "A fake client (MPAF): without any data it sends a scaled step from the global "
        "model to a random one, and ends.",
        EXAMPLES,
        "of the random model (default: any)",
    )
    made.add_argument(
        "scaling",
        metavar="SCALING",
        nargs="?",
        type=float,
        default=1.0,
        help="how far it steps; 1: to the random model (default: 1)",
    )
    add_name(made)
    chosen = made.parse_args(arguments)
    fake = MPAF(chosen.address, chosen.scaling, chosen.seed, chosen.name)
    receipt = fake.send_bad_update()
    print(f"sent as {receipt['agent']} in round {receipt['round']}")
    return 0


if __name__ == "__main__":
    flags.run_main(main, EXPECTED)
