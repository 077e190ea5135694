"""Plan the noise of a run: fedjury privacy --rounds 60 --epsilon 2."""

from __future__ import annotations

import argparse

from fedjury.config.program import Output, Program, run_main
from fedjury.config.sections import Privacy
from fedjury.config.settings import SettingsError, explained
from fedjury.privacy import accounting

EXAMPLES = """examples:
  %(prog)s --rounds 60 --epsilon 2        the least noise that spends no more
  %(prog)s --rounds 60 --noise 10         what that noise spends"""


def parser_of(prog: str) -> argparse.ArgumentParser:
    """Return the parser of its flags."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Say which privacy.noise a run needs to spend no more than an epsilon, or "
        "what a noise spends. Every round with a candidate counts, rejected ones too.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=int, required=True, metavar="N", help="rounds of the run")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--epsilon", type=float, help="what all rounds may spend together")
    chosen.add_argument("--noise", type=float, help="privacy.noise, in units of privacy.clip")
    usual = Privacy().delta
    parser.add_argument(
        "--delta", type=float, default=usual, help=f"privacy.delta; default: {usual:g}"
    )
    return parser


def work(chosen: argparse.Namespace, output: Output) -> int:
    """Print noise, epsilon, delta and rounds that belong together."""
    rounds, delta, noise = chosen.rounds, chosen.delta, chosen.noise
    with explained():
        if noise is None:
            noise = accounting.noise_for(chosen.epsilon, delta, rounds)
        spent = accounting.planned(noise, delta, rounds)
    text = f"privacy.noise = {noise:.5g} spends epsilon {spent:.4g} (delta {delta:g}) in {rounds:,}"
    found = {"noise": noise, "epsilon": spent, "delta": delta, "rounds": rounds}
    output.result(lambda: print(f"{text} round{'s' * (rounds != 1)}"), found)
    return 0


main = Program("fedjury privacy", parser_of, work)

EXPECTED = (SettingsError,)
"""Errors that are one sentence to people."""


if __name__ == "__main__":
    run_main(main, EXPECTED)
