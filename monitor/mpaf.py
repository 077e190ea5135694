"""A fake client over HTTP: python monitor/mpaf.py http://localhost:5000."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a script, Python puts monitor/ first on the path, and not the folder that holds it.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from collections.abc import Sequence

from monitor import taking_part
from monitor.trainees import Mpaf

EXAMPLES = """  python monitor/mpaf.py http://localhost:5000
  python monitor/mpaf.py http://localhost:5000 1000
  python monitor/mpaf.py http://localhost:5000 1e6 --rounds 20 --name eve"""


def main(arguments: Sequence[str]) -> int:
    """Post a step towards a random model, round by round."""
    made = taking_part.parser(
        "mpaf.py",
        "A fake client (MPAF): without any data, it posts a scaled step from the global model to "
        "a random one.", EXAMPLES, rounds=1,
    )  # fmt: skip
    made.add_argument("scaling", metavar="SCALING", nargs="?", type=float, default=1.0,
                      help="how far it steps; 1: to the random model (default: 1)")  # fmt: skip
    taking_part.add_name(made)
    made.add_argument("--seed", type=int, default=1, metavar="N",
                      help="of the random model (default: %(default)s)")  # fmt: skip
    chosen = made.parse_args(arguments)
    taking_part.check(chosen)
    fake = Mpaf(chosen.scaling, chosen.seed)
    taking_part.play(chosen, 1, fake.learn)
    return 0


if __name__ == "__main__":
    taking_part.run_main(main)
