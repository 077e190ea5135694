"""Inject every fault, and print what came of it: python -m tools.chaos."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fedjury.config.program import run_main
from tools.chaos.faults import FAULTS, Outcome, Row
from tools.chaos.harness import Harness
from tools.chaos.programs import ChaosError

EXAMPLES = """examples:
  python -m tools.chaos                                    everything
  python -m tools.chaos --quick                            what the tests do, in a minute
  python -m tools.chaos --only random-kills --times 500 --seed 7
  python -m tools.chaos --only broker-lost broker-kept
  python -m tools.chaos --markdown table.md
  python -m tools.chaos --list
"""

Rows = dict[str, tuple[Outcome, float]]
say = partial(print, flush=True)

WIDTH = 160
"""Columns where nobody looks at a terminal."""
HEADINGS = ("fault", "injected", "survived", "lost", "bit-identical", "note")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags, run the sweep, print the table; 1 if anything did not hold."""
    chosen = parser().parse_args(arguments)
    names = chosen.only or list(FAULTS)
    if odd := [name for name in names if name not in FAULTS]:
        print(f"error: no fault {odd[0]!r}; --list shows them all", file=sys.stderr)
        return 2
    if chosen.list:
        for name in names:
            print(f"{name:26} {FAULTS[name].what}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    began, rows, stopped, dropped = time.monotonic(), {}, False, 0
    try:
        with Harness(lambda text: say(f"  {text}")) as harness:
            for name in names:
                times = times_of(FAULTS[name], chosen.times, quick=chosen.quick)
                if times and (why := FAULTS[name].lack()):
                    say(f"{name} left out: {why}")
                elif times:
                    rows[name] = one(harness, name, times, chosen.seed)
            dropped = harness.dropped()
    except ChaosError as why:
        print(f"error: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("stopped; what was done so far:")
        stopped = True
    console.print("", table(rows))
    bad = [name for name, (outcome, _) in rows.items() if not outcome.good]
    minutes = (time.monotonic() - began) / 60
    say(f"{len(rows)} faults in {minutes:.1f} minutes; the broker dropped {dropped} messages")
    if rows:
        say(f"not as it must be: {', '.join(bad)}" if bad else "all as it must be")
    if chosen.markdown:
        chosen.markdown.write_text(markdown(rows), encoding="utf-8")
    if stopped:
        return 130
    return 1 if bad or dropped or not rows else 0


def parser() -> argparse.ArgumentParser:
    """Make the parser of the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.chaos",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Kill, stall, cut off and flood tiny federations of real programs on a real\n"
        "Mosquitto, and say whether each came to what it would have come to undisturbed.",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="FAULT", help="these alone, see --list (default: all)"
    )
    parser.add_argument(
        "--times",
        type=int,
        default=0,
        metavar="N",
        help="times each is injected; messages of a flood, rounds of endurance "
        "(default: what docs/reliability.md says)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of the random moments (default: %(default)s)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="each once, and not those that take long"
    )
    parser.add_argument("--list", action="store_true", help="only say what each is")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser


def times_of(row: Row, wanted: int, *, quick: bool) -> int:
    """Say how often a fault is injected; 0: not at all."""
    if quick and not row.quick:
        return 0
    return wanted or (row.quick if quick else row.times)


def one(harness: Harness, name: str, times: int, seed: int) -> tuple[Outcome, float]:
    """Inject one fault so many times; returns what came of it, and how long it took."""
    began = time.monotonic()
    say(f"{name} ...")
    try:
        outcome = FAULTS[name].inject(harness, Random(f"{seed} {name}"), times)
    except ChaosError as why:
        outcome = Outcome(times, 0, 0, None, str(why))
    spent = time.monotonic() - began
    what = "as it must be" if outcome.good else "NOT as it must be"
    say(
        f"  {outcome.survived:,} of {outcome.injected:,} survived in {spent:.1f} s, {what}"
        + (f": {outcome.note}" if outcome.note else "")
    )
    return outcome, spent


def cells(name: str, outcome: Outcome) -> tuple[str, ...]:
    """Write a row of the table."""
    same = {True: "yes", False: "NO", None: "need not be"}[outcome.identical]
    return (
        FAULTS[name].what,
        f"{outcome.injected:,}",
        f"{outcome.survived:,}",
        f"{outcome.lost:,}",
        same,
        outcome.note,
    )


def table(rows: Rows) -> Table:
    """Make the table for a terminal."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in HEADINGS:
        right = heading in ("injected", "survived", "lost")
        result.add_column(heading, justify="right" if right else "left", no_wrap=right)
    for name, (outcome, _) in rows.items():
        result.add_row(*cells(name, outcome), style="" if outcome.good else "bold red")
    return result


def markdown(rows: Rows) -> str:
    """Make the table for a page."""
    lines = [
        HEADINGS,
        tuple("---:" if h in ("injected", "survived", "lost") else "---" for h in HEADINGS),
    ]
    lines += [cells(name, outcome) for name, (outcome, _) in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    run_main(main, ())
