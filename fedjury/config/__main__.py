"""Every setting with its meaning, and files of old names: fedjury config > config/default.toml."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from fedjury.config import renamed
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import Settings, SettingsError, load
from fedjury.config.toml import default_toml, to_toml

EXAMPLES = """examples:
  %(prog)s
  %(prog)s config/demo.toml config/jury.toml
  %(prog)s > config/default.toml
  %(prog)s upgrade my.toml                write the new names into a file"""

UPGRADE = Path("upgrade")
"""In the place of the first file: what is to be done with the others."""


def parser_of(prog: str) -> argparse.ArgumentParser:
    """Return the parser of its flags."""
    parser = argparse.ArgumentParser(
        prog=prog,
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
    return parser


def work(chosen: argparse.Namespace, output: Output) -> int:
    """Print every setting with its default and what it means, or upgrade files."""
    files = chosen.files
    if files[:1] == [UPGRADE]:
        upgrade(files[1:], output)
        return 0
    settings = load(files) if files else Settings()
    text = to_toml(settings) if files else default_toml()
    data = settings.model_dump(exclude={"broker": {"password"}})
    output.result(lambda: print(text, end=""), data)
    return 0


def upgrade(files: list[Path], output: Output) -> None:
    """Write the names that settings have now into files, and print what changed in each."""
    if not files:
        raise SettingsError("upgrade which file? fedjury config upgrade FILE")
    for file in files:
        changed = renamed.upgrade(file)
        text = f"{file}: {', '.join(changed) or 'nothing to change'}"
        output.result(partial(print, text), {"file": str(file), "changed": changed})


main = Program("fedjury config", parser_of, work)

EXPECTED = (SettingsError,)
"""Errors that are one sentence to people."""


if __name__ == "__main__":
    run_main(main, EXPECTED)
