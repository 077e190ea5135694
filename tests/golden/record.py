"""Record the golden models of this machine: python tests/golden/record.py [--commit COMMIT].

The models are made by the reference commit, in a worktree of its own, and stored in
``references.json`` under the machine's fingerprint, once for the machine as it is and once for each
of the lesser processors that PyTorch can be told to be; what is stored of other machines stays.

When models are MEANT to change (another order of random draws, say):

1. Commit the change. If names of settings have changed, ``common.toml`` and ``scenarios/`` are put
   into the new ones before (``python -m fedjury config upgrade FILE ...``), and ``scenario_for``
   and ``command_for`` treat both trees alike again.
2. ``python tests/golden/record.py --commit HEAD`` makes that commit the reference, and forgets
   the models of all machines, which the old one made.
3. Commit ``references.json``, and say in the changelog that models have changed.

The reference must stay in the history: after a rebase or a squash, steps 2 and 3 are done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import trees

PROCESSORS = "", "avx2", "default"
"""Values of ``ATEN_CPU_CAPABILITY``; "": as the machine is."""

Machine = dict[str, Any]
"""``note``: what it is; ``models``: scenario -> its models."""


def main() -> None:
    """Make the models and store them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commit", help="make this the reference commit")
    parser.add_argument("--jobs", type=int, default=2, help="federations at a time")
    chosen = parser.parse_args()
    book = {"commit": "", "machines": {}}
    if trees.REFERENCES.exists():
        book = json.loads(trees.REFERENCES.read_text(encoding="utf-8"))
    commit = full(chosen.commit) if chosen.commit else book["commit"]
    if commit != book["commit"]:
        book = {"commit": commit, "machines": {}}
    with (
        trees.scratch_folder() as scratch,
        trees.reference_tree(scratch, commit) as tree,
        ThreadPoolExecutor(chosen.jobs) as pool,
    ):
        for capability in PROCESSORS:
            mark, machine = record(tree, scratch, pool, capability)
            book["machines"][mark] = machine
            trees.REFERENCES.write_text(json.dumps(book, indent=1) + "\n", encoding="utf-8")
            counts = ", ".join(f"{name} {len(of)}" for name, of in machine["models"].items())
            print(f"{commit[:12]}, {machine['note']}, {mark[:16]}: models {counts}", flush=True)


def record(
    tree: trees.Tree, scratch: Path, pool: ThreadPoolExecutor, capability: str
) -> tuple[str, Machine]:
    """Make the models of all scenarios on such a processor; returns its fingerprint, and them."""
    note = "as the machine is"
    if capability:
        os.environ["ATEN_CPU_CAPABILITY"] = capability
        note = f"ATEN_CPU_CAPABILITY={capability}"
    names = trees.scenarios()
    made = pool.map(lambda name: trees.federation(tree, name, scratch), names)
    return trees.fingerprint(scratch), {"note": note, "models": dict(zip(names, made, strict=True))}


def full(commit: str) -> str:
    """Return a commit's whole hash."""
    command = ["git", "-C", str(trees.ROOT), "rev-parse", "--verify", f"{commit}^{{commit}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
