"""Fuzz everything that decodes: python -m tools.fuzz --seconds 60 --target codec."""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing as mp
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from fedjury.config.program import run_main
from tools.fuzz import driver, targets
from tools.fuzz.memory_growth import MemoryGrowth, measure

EXAMPLES = """examples:
  python -m tools.fuzz                               all targets, about ten minutes
  python -m tools.fuzz --target codec --seconds 60   one of them
  python -m tools.fuzz --keep                        add what was found to the corpus
"""

ROOT = Path(__file__).resolve().parents[2]
CRASHES = ROOT / "runs" / "fuzz"
"""Where inputs lie that were too much for us."""

LIMITS = ("-timeout=1", "-rss_limit_mb=1024")
"""Seconds that an input may take, and memory that a target may use."""

SETTLING = 0.25
"""Share of the time for looking at the memory, on top."""

GROWTH = 8_000_000
"""Bytes by which a target's memory may differ at the end of its inputs: the allocator's play."""

WIDTH = 110
"""Characters of the table, also where it is no terminal that shows it."""

PATIENCE = 300.0
"""Seconds that a child may take beyond its time: watching all of PyTorch takes a minute."""


class Row(NamedTuple):
    """What became of a target."""

    target: str
    inputs: int
    rate: float
    """Inputs a second."""
    found: int
    """Inputs that reached something new."""
    crashes: tuple[Path, ...]
    peak: int
    """Megabytes."""
    growth: MemoryGrowth
    """Of memory, with no fuzzer around."""
    said: str
    """The last words of a target that did not end well."""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.said and self.inputs > 0 and self.growth.grown < GROWTH


def main(arguments: Sequence[str]) -> int:
    """Fuzz the targets one after the other; 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz",
        description="Fuzz everything that decodes what strangers send.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--target",
        action="append",
        choices=targets.NAMES,
        metavar="NAME",
        help=f"{', '.join(targets.NAMES)} (default: all)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=40.0,
        metavar="S",
        help="for each target (default: %(default)g)",
    )
    parser.add_argument(
        "--inputs",
        type=int,
        default=100_000,
        metavar="N",
        help="most, while memory is looked at (default: %(default)s)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep what was found in tools/fuzz/corpus"
    )
    chosen = parser.parse_args(arguments)
    if chosen.seconds < 1 or chosen.inputs < 10:
        parser.error("--seconds must be 1 or more, --inputs 10 or more")
    if importlib.util.find_spec("atheris") is None:
        parser.error("Atheris is not installed; 'make fuzz' installs it (Linux on x86-64)")
    rows = []
    for name in chosen.target or targets.NAMES:
        seconds = chosen.seconds * targets.SHARES.get(name, 1.0)
        rows.append(fuzz(name, seconds, chosen.inputs, keep=chosen.keep))
        failed = "" if rows[-1].good else ", FAILED"
        print(f"{name}: {rows[-1].inputs:,} inputs{failed}", flush=True)
    Console(width=WIDTH).print(table(rows))
    for row in rows:
        if row.said:
            print(f"\n{row.target}: {', '.join(map(str, row.crashes))}\n{row.said}")
    return 0 if all(row.good for row in rows) else 1


def fuzz(name: str, seconds: float, inputs: int, *, keep: bool) -> Row:
    """Fuzz a target for so long, then look at what its memory does."""
    CRASHES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fedjury-fuzz-") as result:
        new = Path(result) / "new"
        new.mkdir()
        before = set(CRASHES.iterdir())
        text = drive(
            name,
            result,
            *LIMITS,
            f"-max_total_time={seconds:.0f}",
            "-print_final_stats=1",
            f"-artifact_prefix={CRASHES}/{name}-",
            str(new),
            f"{result}/known",
            seconds=seconds,
        )
        crashes = tuple(sorted(set(CRASHES.iterdir()) - before))
        growth, wrong = looked(name, inputs, SETTLING * seconds)
        ended = "DONE" in text and not crashes
        if keep and ended:
            merge(name, Path(result))
        return Row(
            name,
            counted(text, "number_of_executed_units"),
            counted(text, "average_exec_per_sec"),
            len(list(new.iterdir())),
            crashes,
            counted(text, "peak_rss_mb"),
            growth,
            wrong if ended else last_words(text),
        )


def looked(name: str, inputs: int, seconds: float) -> tuple[MemoryGrowth, str]:
    """Look at a target's memory; returns what it did, and what was said if it went wrong."""
    with mp.get_context("spawn").Pool(1) as pool:  # a process of its own, which nothing watches
        try:
            looking = pool.apply_async(measure, (name, inputs, seconds))
            return looking.get(seconds + PATIENCE), ""
        except Exception:
            return MemoryGrowth(0, GROWTH, 0.0), last_words(traceback.format_exc())


def drive(name: str, folder: str, *flags: str, seconds: float) -> str:
    """Run the fuzzer on a target, in a process of its own; returns all that it said."""
    command = [sys.executable, "-m", driver.__name__, name, folder, *flags]
    output, limit = subprocess.PIPE, seconds + PATIENCE
    done = subprocess.run(
        command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=limit
    )
    return done.stdout.decode(errors="replace")


def counted(text: str, what: str) -> int:
    """Read one of libFuzzer's counts; 0 if it did not get so far."""
    match = re.search(rf"stat::{what}:\s+(\d+)", text)
    return int(match[1]) if match else 0


def last_words(text: str) -> str:
    """Return what was said of a crash: from the exception on, or the end."""
    place = text.rfind("=== Uncaught")
    return text[place:][:3000] if place >= 0 else text[-1500:]


def merge(name: str, result: Path) -> None:
    """Keep as few inputs as reach all that these do; those that were bugs have names, and stay."""
    corpus, least = targets.CORPUS / name, result / "least"
    corpus.mkdir(parents=True, exist_ok=True)
    least.mkdir()
    drive(
        name,
        str(result),
        "-set_cover_merge=1",
        "-use_counters=0",
        "-timeout=5",
        str(least),
        f"{result}/known",
        f"{result}/new",
        seconds=600,
    )
    chosen = sorted(least.iterdir())
    if not chosen:
        print(f"{name}: nothing could be merged; tools/fuzz/corpus is as it was")
        return
    for file in corpus.iterdir():
        if re.fullmatch("[0-9a-f]{40}", file.name):
            file.unlink()
    for file in chosen:
        shutil.copy(file, corpus / file.name)


def table(rows: Sequence[Row]) -> Table:
    """Lay out what was found."""
    result = Table(title=f"{sum(row.inputs for row in rows):,} inputs")
    result.add_column("target")
    for column in ("inputs", "inputs/s", "new", "crashes", "slowest", "peak", "growth"):
        result.add_column(column, justify="right")
    for row in rows:
        result.add_row(
            row.target,
            f"{row.inputs:,}",
            f"{row.rate:,}",
            f"{row.found:,}",
            f"{len(row.crashes)}",
            f"{1000 * row.growth.slowest:.1f} ms",
            f"{row.peak} MB",
            f"{row.growth.grown / 1e6:+.1f} MB / {row.growth.inputs:,}",
        )
    return result


if __name__ == "__main__":
    run_main(main, ())
