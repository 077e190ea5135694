"""Spawn a fleet of agents that joins a federation: python agents/spawn.py --n 1000 --evil 0.2."""

from __future__ import annotations

from fedjury.agents.__main__ import EXPECTED, main
from fedjury.config.program import run_main

if __name__ == "__main__":
    run_main(lambda given: main(given, "python agents/spawn.py"), EXPECTED)
