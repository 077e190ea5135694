"""One command: broker, aggregator and agents on this machine, progress, and a report."""

from __future__ import annotations

from fedjury.config.program import run_main
from fedjury.federation.__main__ import main
from fedjury.federation.parts import EXPECTED

if __name__ == "__main__":
    run_main(lambda given: main(given, "python run.py"), EXPECTED)
