"""Every setting with its meaning, and files of old names: fedjury config > config/default.toml."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fedjury.config import renamed
from fedjury.config.program import run_main
from fedjury.config.settings import SettingsError, load
from fedjury.config.toml import default_toml, to_toml

EXAMPLES = """examples:
  fedjury config
  fedjury config config/demo.toml config/jury.toml
  fedjury config > config/default.toml
  fedjury config upgrade my.toml                write the new names into a file"""

UPGRADE = Path("upgrade")
"""In the place of the first file: what is to be done with the others."""


def main(arguments: Sequence[str]) -> None:
    """Print every setting with its default and what it means, or upgrade files."""
    parser = argparse.ArgumentParser(
        prog="fedjury config",
        description="Print every setting with its default, its unit and its meaning, as TOML; or, "
        "with the word upgrade, write the names that settings have now into files of old names.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="TOML files of settings, to print all that they come to instead of the defaults; "
        "after the word upgrade, those to rewrite",
    )
    files = parser.parse_args(arguments).files
    if files[:1] == [UPGRADE]:
        if not files[1:]:
            parser.error("upgrade which file? fedjury config upgrade FILE")
        for file in files[1:]:
            changed = ", ".join(renamed.upgrade(file)) or "nothing to change"
            print(f"{file}: {changed}")
        return
    print(to_toml(load(files)) if files else default_toml(), end="")


EXPECTED = (SettingsError,)
"""Errors that are one sentence to people."""


if __name__ == "__main__":
    run_main(main, EXPECTED)
