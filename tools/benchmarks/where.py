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
import tempfile
import time
from collections import Counter
from pathlib import Path

from fedjury.config.program import run_main
from tools.benchmarks.figures import RESULTS, ROOT
from tools.benchmarks.network import W1
from tools.benchmarks.processes import cpu_seconds, family

EXAMPLES = """examples:
  python -m tools.benchmarks.where
  python -m tools.benchmarks.where --picture docs/where.png
"""

KINDS = {
    "training": ("fedjury/learning/training.py", "fedjury/learning/shards.py", "fedjury/attacks/"),
    "evaluation": ("fedjury/learning/evaluation.py",),
    "collecting and rule": ("fedjury/rules/", "fedjury/round/update_buffer.py", "shape_base.py"),
    "encoding, decoding": (
        "fedjury/protocol/codec.py",
        "fedjury/protocol/compression.py",
        "fedjury/protocol/topics.py",
    ),
    "paho and our hub": ("paho/", "fedjury/protocol/mqtt_"),
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
    folder = Path(tempfile.mkdtemp())
    command = [
        sys.executable,
        "run.py",
        "--config",
        W1,
        "--rounds",
        "60",
        "--runs",
        str(folder),
        "--run",
        "where",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    file = folder / "where" / "rounds.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < 3:
        time.sleep(0.05)
    parts: dict[str, list[int]] = {"mosquitto": [], "aggregator": [], "agents": []}
    for pid in family(process.pid):
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        parts.get(name, []).append(pid)
    rounds = -file.read_bytes().count(b"\n")
    before = {part: sum(map(cpu_seconds, pids)) for part, pids in parts.items()}
    spies = [spy(parts[part][-1], folder / part) for part in ("aggregator", "agents")]
    for one in spies:
        one.wait()
    rounds += file.read_bytes().count(b"\n")
    spent = {part: sum(map(cpu_seconds, pids)) - before[part] for part, pids in parts.items()}
    process.wait()
    result = {"broker": {"broker": spent["mosquitto"] / rounds}}
    for part in ("aggregator", "agents"):
        result[part] = shared(folder / part, spent[part] / rounds)
    shutil.rmtree(folder)
    return result


def spy(pid: int, file: Path) -> subprocess.Popen[bytes]:
    """Sample the stacks of a process for some seconds."""
    command = [
        "py-spy",
        "record",
        "-r",
        "200",
        "-d",
        str(SECONDS),
        "-F",
        "-f",
        "raw",
        "-o",
        str(file),
        "-p",
        str(pid),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
    import matplotlib as mpl  # noqa: PLC0415 - only for the picture

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    labels = {
        f"{part}: {kind}" if kind != part else part: (part, kind)
        for column in columns.values()
        for part, kinds in column.items()
        for kind in kinds
    }
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    shades = {"broker": "Greys", "aggregator": "Oranges", "agents": "Blues"}
    left = dict.fromkeys(columns, 0.0)
    for label, (part, kind) in sorted(
        labels.items(), key=lambda item: list(shades).index(item[1][0])
    ):
        same = [k for p, k in labels.values() if p == part]
        colour = mpl.colormaps[shades[part]](0.35 + 0.55 * same.index(kind) / max(1, len(same)))
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
