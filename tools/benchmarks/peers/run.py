"""Measure the peers on W1, each in one process tree on this machine, no network.

Makes an environment of its own (peers/.venv here, 2 GB, two minutes) when it is missing,
runs the peers one after the other, each with the plain PyTorch loop as its base, and writes one
table to results/peers.md and peers.json. A peer that cannot be installed or measured
is named and left out. README.md beside this file says how each is used.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fedjury.config.program import run_main
from tools.benchmarks.peers import environment, table
from tools.benchmarks.peers.environment import PYTHON, Failed
from tools.benchmarks.peers.measuring import Measured, measure

ROOT = Path(__file__).resolve().parents[3]
AGENTS = 1000
EXAMPLES = """examples:
  python -m tools.benchmarks.peers.run                    all, about four minutes after the set-up
  python -m tools.benchmarks.peers.run --only flower      one of them; prints, writes no file
  python -m tools.benchmarks.peers.run --only pfl --only blazefl --rounds 10
  nice -n 19 python -m tools.benchmarks.peers.run         beside other work
"""


class Peer(NamedTuple):
    """A peer that can train W1."""

    name: str
    module: str
    package: str
    launcher: tuple[str, ...] = ()
    """What stands between ``python -m`` and its own module."""


BASE = ("torch", "numpy", "mlxtend")
PLAIN = Peer("plain PyTorch loop, one core", "plain", "torch")
TORCHRUN = ("torch.distributed.run", "--standalone", f"--nproc_per_node={os.cpu_count()}", "-m")
PEERS = {
    "pfl": Peer("pfl-research", "pfl_research", "pfl", TORCHRUN),
    "blazefl": Peer("BlazeFL", "blazefl_fedavg", "blazefl"),
    "flower": Peer("Flower simulation", "flower", "flwr"),
}
RULES = "byzfl"
ALONE = {"blazefl": ("tqdm",), RULES: ("torchvision", "seaborn")}
"""Who is installed without what pip thinks it needs (see requirements.txt), and what it does."""

BUSY = 0.5
SAME = 0.001
"""Rounding makes no larger share of what a model moves."""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.peers.run",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*PEERS, RULES],
        help="measure this one; may be repeated (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        metavar="N",
        help="rounds after one to warm up (default: %(default)s)",
    )
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    if os.getloadavg()[0] > BUSY:
        print(f"this machine is busy (load {os.getloadavg()[0]:.1f}): trust the ratios, if any")
    try:
        environment.make()
        environment.install("base", BASE)
        with TemporaryDirectory(prefix="peers") as folder:
            missing = compare(chosen.only, chosen.rounds, surroundings(folder))
    except Failed as why:
        sys.exit(f"nothing was measured: {why}")
    except KeyboardInterrupt:
        sys.exit("stopped")
    sys.exit(f"not measured: {', '.join(missing)}" if missing else 0)


def compare(only: Sequence[str] | None, rounds: int, around: Mapping[str, str]) -> list[str]:
    """Measure and print; save if all were wanted; returns who could not be measured."""
    missing: list[str] = []
    wanted = [agent for agent in [*PEERS, RULES] if agent in (only or [*PEERS, RULES])]
    for agent in wanted:
        with noting(agent, missing):
            set_up(agent)
    ready = [agent for agent in wanted if agent not in missing]
    peers = speeds([agent for agent in ready if agent in PEERS], rounds, around, missing)
    rules: list[table.Row] = []
    if RULES in ready:
        with noting(RULES, missing):
            rules = table.with_ratios(rule_times(around))
    if peers or rules:
        print(f"\n{table.write(peers, rules)}\n", flush=True)
    if not only:
        table.save(ROOT / "tools" / "benchmarks" / "results", peers, rules, missing)
    return missing


@contextmanager
def noting(agent: str, missing: list[str]) -> Iterator[None]:
    """Say why somebody cannot be measured, and go on."""
    try:
        yield
    except Failed as why:
        print(f"{agent}: {why}", flush=True)
        missing.append(agent)


def set_up(agent: str) -> None:
    """Install what a peer needs, unless it is there."""
    if agent in ALONE:
        environment.install(agent, ALONE[agent])
        environment.install(agent, [agent], ["--no-deps", "--ignore-requires-python"])
    else:
        environment.install(agent, [PEERS[agent].package])


def surroundings(folder: str) -> dict[str, str]:
    """Return the environment variables of a peer, which leaves its files in ``folder``."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "FLWR_HOME": folder,
        "RAY_TMPDIR": folder,
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def speeds(
    ready: Sequence[str], rounds: int, around: Mapping[str, str], missing: list[str]
) -> list[table.Row]:
    """Measure peers, each with the plain loop before and after it: the machine's speed drifts."""
    if not ready:
        return []
    base, rows = [run(PLAIN, rounds, around)], []
    for agent in ready:
        with noting(agent, missing):
            measured = run(PEERS[agent], rounds, around)
            base.append(run(PLAIN, rounds, around))
            moved = measured.moved / base[0].moved
            if abs(moved - 1) > SAME:
                raise Failed(f"its model moved {moved:.4f} times as far as the plain loop's")
            rows.append(row(PEERS[agent], [measured], base[-2:]))
    return [row(PLAIN, base, base), *rows]


def run(peer: Peer, rounds: int, around: Mapping[str, str]) -> Measured:
    """Measure one peer."""
    print(f"{peer.name}: {rounds} rounds ", end="", flush=True)
    start = time.monotonic()
    command = [
        PYTHON,
        "-m",
        *peer.launcher,
        f"tools.benchmarks.peers.{peer.module}",
        str(rounds + 1),
    ]
    try:
        return measure(command, around)
    finally:
        print(f" {time.monotonic() - start:.0f} s", flush=True)


def row(peer: Peer, runs: Sequence[Measured], beside: Sequence[Measured]) -> table.Row:
    """Make a peer's row."""
    version = environment.version(peer.package)
    return table.peer_row(peer.name, version, AGENTS, runs, beside)


def rule_times(around: Mapping[str, str]) -> list[table.Row]:
    """Time the rules."""
    print("rules: ...", flush=True)
    command = [PYTHON, "-m", "tools.benchmarks.peers.byzfl_rules"]
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=False)
    result = [line for line in done.stdout.splitlines() if line.startswith("@rules ")]
    if not result:
        raise Failed(f"{(done.stderr.splitlines() or ['it says nothing'])[-1][:300]}")
    rows: list[table.Row] = json.loads(result[0].removeprefix("@rules "))
    return rows


if __name__ == "__main__":
    run_main(lambda _: main(), ())
