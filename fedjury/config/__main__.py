"""Print config/default.toml, made from the settings: fedjury config > config/default.toml."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fedjury.config.program import run_main
from fedjury.config.settings import SettingsError, load
from fedjury.config.toml import default_toml, to_toml

EXAMPLES = """examples:
  fedjury config
  fedjury config config/demo.toml config/jury.toml
  fedjury config > config/default.toml"""


def main(arguments: Sequence[str]) -> None:
    """Print every setting with its default and what it means."""
    parser = argparse.ArgumentParser(
        prog="fedjury config",
        description="Print every setting with its default, its unit and its meaning, as TOML.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="TOML files of settings, to print all that they come to instead of the defaults",
    )
    files = parser.parse_args(arguments).files
    print(to_toml(load(files)) if files else default_toml(), end="")


EXPECTED = (SettingsError,)
"""Errors that are one sentence to people."""


if __name__ == "__main__":
    run_main(main, EXPECTED)
