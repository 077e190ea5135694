"""The aggregator of a federation: python -m aggregator."""

from __future__ import annotations

from fedjury.aggregator.__main__ import EXPECTED, main
from fedjury.config.program import run_main

if __name__ == "__main__":
    run_main(lambda given: main(given, "python -m aggregator"), EXPECTED)
