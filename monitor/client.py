"""One honest client over HTTP: python monitor/client.py http://localhost:5000."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a script, Python puts monitor/ first on the path, and not the folder that holds it.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from collections.abc import Sequence

from monitor import taking_part, trainees

EXAMPLES = """  python monitor/client.py http://localhost:5000
  python monitor/client.py http://localhost:5000 100
  python monitor/client.py http://localhost:5000 100 --rounds 20 --name ann"""


def main(arguments: Sequence[str]) -> int:
    """Train on samples of its own and post, round by round."""
    made = taking_part.parser(
        "client.py",
        "An honest client: it trains the gateway's global model on its own samples, as the run "
        "says, and posts what it learnt.", EXAMPLES, rounds=1,
    )  # fmt: skip
    made.add_argument("samples", metavar="SAMPLES", nargs="?", type=int, default=4,
                      help="of its own, to train on (default: %(default)s)")  # fmt: skip
    taking_part.add_name(made)
    made.add_argument("--seed", type=int, default=None, metavar="N",
                      help="which samples they are (default: any)")  # fmt: skip
    taking_part.add_data(made)
    chosen = made.parse_args(arguments)
    taking_part.check(chosen)
    seed = taking_part.any_seed(chosen.seed)
    honest = trainees.Honest(
        trainees.load(chosen.data, chosen.data_root), [0], chosen.samples, seed
    )
    taking_part.play(chosen, chosen.samples, lambda start: honest.learn(start)[0])
    return 0


if __name__ == "__main__":
    taking_part.run_main(main)
