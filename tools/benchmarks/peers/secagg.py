"""Measure secure aggregation beside Flower's SecAgg+, on the same task with the same neighbours.

For each number of agents: W1 with so many under Flower's SecAgg+ in its simulation (no network),
and before and after it ours over a real broker, as one group of all, in groups of fifty, and in
the clear. Writes results/secagg.md and secagg.json. README.md beside this file says what differs.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from fedjury.config.program import run_main
from fedjury.protocol.messages import Vector
from fedjury.secure.parameters import parameters
from tools.benchmarks import network
from tools.benchmarks.figures import RESULTS
from tools.benchmarks.peers import environment, table
from tools.benchmarks.peers.environment import PYTHON, Failed
from tools.benchmarks.peers.measuring import Measured, measure
from tools.benchmarks.peers.run import BASE, surroundings

COLLUDING, DROPPING = 0.33, 0.1
"""Of a group: what both get their neighbours for; our settings as they come."""
MEMBERS = 50
LIMIT = 3600.0
"""Seconds after which Flower is stopped."""
ROUNDS, FEWER, MANY = 10, 3, 500
"""Of ours, each time; so few from so many agents on."""
AGENTS = (10, 50, 100)
FLOWER = "Flower's SecAgg+"

HEADER = (
    "agents",
    "how",
    "neighbours / threshold",
    "s a round",
    "min-max",
    "CPU-s a round",
    "KB up an agent",
    "KB down",
    "sum off by",
    "memory, MB",
)
EXAMPLES = """examples:
  python -m tools.benchmarks.peers.secagg                      10, 50 and 100 agents
  python -m tools.benchmarks.peers.secagg --agents 200         one number; prints, writes no file
  python -m tools.benchmarks.peers.secagg --agents 1000 --degree 22 --threshold 17 --rounds 1
"""


class Row(NamedTuple):
    """How one of them did with so many agents."""

    agents: int
    by: str
    degree: int
    threshold: int
    seconds: Sequence[float]
    """Of each round."""
    processor: float
    """Seconds of all processes, a round."""
    up: float
    """Bytes an agent sends in a round."""
    down: float
    off: float
    """The largest error of a coordinate of the first round's mean."""
    memory: float
    """All processes together, MB."""

    def cells(self) -> list[str]:
        """Write the row."""
        how = f"{self.degree} / {self.threshold}" if self.degree else "-"
        spread = f"{min(self.seconds):,.2f}-{max(self.seconds):,.2f}"
        return [
            f"{self.agents:,}",
            self.by,
            how,
            f"{statistics.median(self.seconds):,.2f}",
            spread,
            f"{self.processor:,.2f}",
            f"{self.up / 1000:,.1f}",
            f"{self.down / 1000:,.1f}",
            f"{self.off:.0e}" if self.off else "",
            f"{self.memory:,.0f}",
        ]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.peers.secagg",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--agents", type=int, action="append", metavar="N", help="may be repeated")
    add("--rounds", type=int, default=3, metavar="N", help="of Flower's, after one to warm up")
    add("--degree", type=int, metavar="K", help="Flower's neighbours, in the place of ours")
    add("--threshold", type=int, metavar="T", help="how many of them undo a mask, with --degree")
    chosen = parser.parse_args()
    if (chosen.degree is None) != (chosen.threshold is None):
        parser.error("--degree and --threshold go together")
    rows: list[Row] = []
    with TemporaryDirectory(prefix="peers") as folder:
        try:
            environment.make()
            environment.install("base", BASE)
            environment.install("flower", ["flwr"])
            for agents in chosen.agents or AGENTS:
                graph = (chosen.degree, chosen.threshold) if chosen.degree else None
                rows += beside(agents, chosen.rounds, graph, surroundings(folder))
                print(f"\n{write(rows)}\n", flush=True)
                if not chosen.agents:
                    save(rows)
        except Failed as why:
            sys.exit(f"not measured: {why}")


def beside(
    agents: int, rounds: int, graph: tuple[int, int] | None, around: dict[str, str]
) -> list[Row]:
    """Measure Flower's between two runs of each way of ours."""
    of_all = parameters(agents, COLLUDING, DROPPING)
    ways = {"ours, one group": 0} if graph in (None, of_all) else {}
    if agents >= 2 * MEMBERS:
        ways[f"ours, groups of {MEMBERS}"] = MEMBERS
    ways["ours, in the clear"] = 1
    before = {way: ours(agents, size) for way, size in ways.items()}
    flower = flowers(agents, rounds, *(graph or of_all), around)
    after = {way: ours(agents, size) for way, size in ways.items()}
    right = after_one(agents, 1)
    clear = before["ours, in the clear"]
    return [
        flower,
        *(
            row(agents, way, size, (before[way], after[way]), clear, right)
            for way, size in ways.items()
        ),
    ]


def flowers(agents: int, rounds: int, degree: int, threshold: int, around: dict[str, str]) -> Row:
    """Measure Flower's; a share more than neighbours, since each agent keeps one."""
    print(f"{FLOWER}, {agents:,} agents: {rounds + 1} rounds ", end="", flush=True)
    shares = agents if degree == agents - 1 else degree + 1
    figures = map(str, (rounds + 1, agents, shares, threshold))
    command = [PYTHON, "-m", "tools.benchmarks.peers.flower_secagg", *figures]
    seen: Measured = measure(command, around, LIMIT)
    print(f" {sum(seen.seconds):,.0f} s", flush=True)
    if seen.notes["apart"] > 0.01:
        raise Failed(f"{FLOWER} ends {seen.notes['apart']:.1%} away from the plain loop")
    cpu, (up, down, off) = seen.cpu / rounds, (seen.notes[key] for key in ("up", "down", "off"))
    return Row(agents, FLOWER, degree, threshold, seen.seconds, cpu, up, down, off, seen.memory)


def flags(agents: int, size: int) -> list[str]:
    """Return the flags that make W1 one of so many, in groups of a size; 1: in the clear."""
    secure = ("--set", f"groups.size={size}", "--set", f"groups.secure={str(size != 1).lower()}")
    return ["--n", str(agents), *secure]


def ours(agents: int, size: int) -> network.Run:
    """Measure ours."""
    print(f"ours, {agents:,} agents, groups.size = {size}", flush=True)
    rounds = ROUNDS if agents < MANY else FEWER
    return network.federation(network.WARM_UP + rounds, *flags(agents, size))


def row(
    agents: int,
    way: str,
    size: int,
    runs: Sequence[network.Run],
    clear: network.Run,
    right: Vector,
) -> Row:
    """Make the row of one way of ours."""
    records = [record for run in runs for record in run.records[network.WARM_UP :]]
    if any(record.updates != agents for record in records):
        raise Failed(f"{way}: not all {agents:,} updates came")
    some = parameters(size or agents, COLLUDING, DROPPING) if size != 1 else (0, 0)
    cpu = statistics.mean(agents * sum(run.processor.values()) for run in runs)
    sent, same = records[-1].traffic.bytes_out or 0, clear.records[-1].traffic.bytes_out or 0
    return Row(
        agents,
        way,
        *some,
        [record.timing.seconds or 0.0 for record in records],
        cpu,
        (records[-1].traffic.bytes_in or 0) / agents,
        # What is sent in the clear is sent to all; the rest to one each.
        same + (sent - same) / agents,
        0.0 if size == 1 else float(np.abs(after_one(agents, size) - right).max()),
        max(run.memory for run in runs),
    )


def after_one(agents: int, size: int) -> Vector:
    """Return the model after the first round, whose clip of .5 cuts nothing off."""
    with network.started(1, *flags(agents, size)) as (process, records):
        process.wait()
        newest = max(records.parent.glob("models/*.safetensors"))
        model: Vector = load_file(newest)["weights"]
    return model


def write(rows: Sequence[Row]) -> str:
    """Write the table, and beside it how Flower's compares with ours of the same neighbours."""
    lines = table.grid(list(HEADER), [row.cells() for row in rows], 3)
    for flower in (row for row in rows if row.by == FLOWER):
        for mine in rows:
            same = mine[0] == flower[0] and mine[2:4] == flower[2:4]
            if mine is flower or not same:
                continue
            longer = statistics.median(flower.seconds) / statistics.median(mine.seconds)
            lines.append(
                f"\n{flower.agents:,} agents: {FLOWER} takes {longer:,.0f} times the seconds of "
                f"{mine.by}, {flower.processor / mine.processor:,.0f} times the processor time, "
                f"and {flower.up / mine.up:.1f} times the bytes up."
            )
    return "\n".join(lines)


def save(rows: Sequence[Row]) -> None:
    """Write results/secagg.json and secagg.md."""
    about: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "flwr": environment.version("flwr"),
        "rows": [row._asdict() for row in rows],
    }
    place: Path = RESULTS / "secagg.json"
    place.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    head = (
        "# Secure aggregation beside Flower's\n\nWritten by `tools/benchmarks/peers/secagg.py`; "
        f"see its README.\n\n{about['date']}, {about['cores']} cores, flwr {about['flwr']}, "
        f"{about['machine']}.\n\n"
    )
    place.with_suffix(".md").write_text(f"{head}{write(rows)}\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(lambda _: main(), ())
