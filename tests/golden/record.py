"""Record the golden models of this machine: python tests/golden/record.py [--commit COMMIT].

The models are made by the reference commit, in a worktree of its own, and stored in
``references.json`` under the machine's fingerprint; what is stored of other machines stays. To
store those of lesser processors as well:

    ATEN_CPU_CAPABILITY=avx2 python tests/golden/record.py
    ATEN_CPU_CAPABILITY=default python tests/golden/record.py

When models are MEANT to change (another order of random draws, say):

1. Commit the change. Its scenario files are then in that commit's own names of settings, so
   ``common.toml`` and ``scenarios/`` become what ``scenario_for`` returned for today's tree, and
   ``scenario_for`` and ``command_for`` treat both trees alike again.
2. ``python tests/golden/record.py --commit HEAD`` makes that commit the reference, and forgets
   the models of all machines, which the old one made. Then once more for lesser processors.
3. Commit ``references.json``, and say in the changelog that models have changed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import trees


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
    names = trees.scenarios()
    with (
        trees.scratch_folder() as scratch,
        trees.reference_tree(scratch, commit) as tree,
        ThreadPoolExecutor(chosen.jobs) as pool,
    ):
        mark = trees.fingerprint(scratch)
        made = pool.map(lambda name: trees.federation(tree, name, scratch), names)
        models = dict(zip(names, made, strict=True))
    capability = os.environ.get("ATEN_CPU_CAPABILITY", "")
    note = f"ATEN_CPU_CAPABILITY={capability}" if capability else "as the machine is"
    book["machines"][mark] = {"note": note, "models": models}
    trees.REFERENCES.write_text(json.dumps(book, indent=1) + "\n", encoding="utf-8")
    for name, versions in models.items():
        print(f"{name:12} {len(versions)} models")
    print(f"stored for fingerprint {mark[:16]} ({note}), by commit {commit[:12]}")


def full(commit: str) -> str:
    """Return a commit's whole hash."""
    command = ["git", "-C", str(trees.ROOT), "rev-parse", "--verify", f"{commit}^{{commit}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
