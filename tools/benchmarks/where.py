"""Where a round of W1 (1,000 agents, all called) spends its processor time.

Runs W1, samples the aggregator and one process of agents with py-spy (`pip install py-spy`; needs
to be root), and shares their processor time out over what the samples were doing. With
--picture it draws the result beside that of before, which is kept in tools/benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from fedjury.config.program import run_main
from tools.benchmarks import network
from tools.benchmarks.figures import RESULTS
from tools.benchmarks.processes import cpu_seconds

EXAMPLES = """examples:
  python -m tools.benchmarks.where
  python -m tools.benchmarks.where --picture docs/where.png
"""

KINDS = {
    "training": ("fedjury/learning/training.py", "fedjury/learning/shards.py", "fedjury/attacks/"),
    "evaluation": ("fedjury/learning/evaluation.py",),
    "collecting and rule": ("fedjury/rules/", "fedjury/round/collect/", "shape_base.py"),
    "encoding, decoding": (
        "fedjury/protocol/codec.py",
        "fedjury/protocol/compression.py",
        "fedjury/protocol/topics.py",
    ),
    "paho and our hub": ("paho/", "fedjury/protocol/transport/"),
}
"""What a sample was doing: the first kind of which a file is on the stack."""
IDLE = ("wait (threading.py", "select (selectors.py", "_feed (multiprocessing")
SECONDS = 8


def main() -> None:
    """Sample, print, and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.where",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="draw before and after there (default: only print)",
    )
    chosen = parser.parse_args()
    if shutil.which("py-spy") is None:
        sys.exit("py-spy is not on PATH: pip install py-spy")
    spent = sample()
    for part, kinds in spent.items():
        for kind, seconds in sorted(kinds.items(), key=lambda item: -item[1]):
            print(f"{part:12} {kind:22} {1e3 * seconds:7.0f} ms a round")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "where.json").write_text(json.dumps(spent, indent=1) + "\n", encoding="utf-8")
    if chosen.picture:
        before = json.loads((RESULTS / "where-before.json").read_text(encoding="utf-8"))
        draw(chosen.picture, {"before": before, "after": spent})


def sample() -> dict[str, dict[str, float]]:
    """Run W1 and return, part by part, what a round spends on what (seconds)."""
    with network.started(60) as (process, file):
        while network.recorded(file) < network.WARM_UP:
            time.sleep(network.LOOK)
        parts: dict[str, list[int]] = {"mosquitto": [], "aggregator": [], "agents": []}
        for pid, (name, _) in network.clocks(process.pid).items():
            parts.get(name.strip(), []).append(pid)
        first, before = network.recorded(file), {part: taken(parts[part]) for part in parts}
        stacks = {part: file.parent.parent / part for part in ("aggregator", "agents")}
        spies = [spy(parts[part][-1], stack) for part, stack in stacks.items()]
        for one in spies:
            one.wait()
        rounds = network.recorded(file) - first
        spent = {part: (taken(parts[part]) - before[part]) / rounds for part in parts}
        result = {"broker": {"broker": spent["mosquitto"]}}
        return result | {part: shared(stack, spent[part]) for part, stack in stacks.items()}


def taken(pids: Iterable[int]) -> float:
    """Return the processor time of some processes together (seconds)."""
    return sum(map(cpu_seconds, pids))


def spy(pid: int, file: Path) -> subprocess.Popen[bytes]:
    """Sample the stacks of a process for some seconds."""
    how = ["-r", "200", "-d", str(SECONDS), "-F", "-f", "raw", "-o", str(file), "-p", str(pid)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(["py-spy", "record", *how], stdout=quiet, stderr=quiet)


def shared(file: Path, seconds: float) -> dict[str, float]:
    """Share processor time out over the kinds of work in a file of stacks."""
    counted: Counter[str] = Counter()
    for line in file.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        if not any(word in stack.rpartition(";")[2] for word in IDLE):
            counted[kind_of(stack)] += int(count)
    return {kind: seconds * count / counted.total() for kind, count in counted.items()}


def kind_of(stack: str) -> str:
    """Return the kind of work that a stack is."""
    for kind, files in KINDS.items():
        if any(file in stack for file in files):
            return kind
    return "the round's own logic"


def draw(file: Path, columns: dict[str, dict[str, dict[str, float]]]) -> None:
    """Draw one bar for each column, a block for each kind of work."""
    labels = {
        f"{part}: {kind}" if kind != part else part: (part, kind)
        for column in columns.values()
        for part, kinds in column.items()
        for kind in kinds
    }
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    shades = {"broker": "Greys", "aggregator": "Oranges", "agents": "Blues"}
    left = dict.fromkeys(columns, 0.0)
    for label, (part, kind) in sorted(
        labels.items(), key=lambda item: list(shades).index(item[1][0])
    ):
        same = [k for p, k in labels.values() if p == part]
        colour = colormaps[shades[part]](0.35 + 0.55 * same.index(kind) / max(1, len(same)))
        for row, (name, column) in enumerate(columns.items()):
            width = 1e3 * column.get(part, {}).get(kind, 0.0)
            axes.barh(
                row,
                width,
                left=left[name],
                color=colour,
                edgecolor="white",
                lw=0.8,
                label=label if row == 0 else None,
            )
            left[name] += width
    axes.set_yticks(range(len(columns)), [f"{n}\n{left[n]:,.0f} ms" for n in columns])
    axes.invert_yaxis()
    axes.set(
        xlabel="processor time of a round of W1, all processes (ms)",
        title="1,000 agents, 1,000 updates: where a round's time goes",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    run_main(lambda _: main(), ())
