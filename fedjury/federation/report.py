"""Make the report of a run again: fedjury report runs/fedjury."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fedjury.aggregator.durable_files import StoreError
from fedjury.config.program import Output, Program, run_main

EXAMPLES = """examples:
  %(prog)s runs/fedjury
  %(prog)s runs/demo-20250101-120000 --json"""

EXPECTED = (StoreError,)
"""Errors that are one sentence to people."""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = ArgumentParser(
        prog=prog,
        description="Make report.html, report.md and accuracy.png of a run, or of a demo, again.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="RUNFOLDER", help="the run's folder")
    return parser


def work(chosen: Namespace, output: Output) -> int:
    """Write the report, and show its table."""
    from fedjury.federation.remade import remade  # noqa: PLC0415 - imports torch, which help does without

    result = remade(chosen.folder)
    output.result(result.show, result.figures())
    return 0


main = Program("fedjury report", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
