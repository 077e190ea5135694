"""python -m fedjury: the command ``fedjury``."""

from __future__ import annotations

from fedjury.cli import run

if __name__ == "__main__":
    run()
