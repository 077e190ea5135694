"""One real device with its own data: python agents/device.py --data mine.csv --target price."""

from __future__ import annotations

from fedjury.agents.join import EXPECTED, main
from fedjury.config.program import run_main

if __name__ == "__main__":
    run_main(lambda given: main(given, "python agents/device.py"), EXPECTED)
