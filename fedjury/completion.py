"""Make a shell complete the command fedjury: fedjury completion bash."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path

from fedjury.config.program import Output, Program, run_main

SHELLS = ("bash", "zsh", "fish")

EXAMPLES = """examples:
  %(prog)s bash > ~/.local/share/bash-completion/completions/fedjury
  %(prog)s zsh > ~/.zfunc/_fedjury
  %(prog)s fish > ~/.config/fish/completions/fedjury.fish"""

EXPECTED = ()
"""Errors that are one sentence to people."""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = ArgumentParser(
        prog=prog,
        description="Print what makes a shell complete commands and flags at the press of Tab.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    return parser


def script(shell: str, commands: Iterable[tuple[str, str, ArgumentParser]]) -> str:
    """Return a script for a shell, given each command's name, summary and parser.

    It is made once and starts no Python: where it is used, a press of Tab costs nothing.
    """
    import shtab  # noqa: PLC0415 - only this one of all commands needs it

    whole = ArgumentParser(prog="fedjury", formatter_class=argparse.RawDescriptionHelpFormatter)
    whole.add_argument("--version", action="store_true", help="show the version")
    subparsers = whole.add_subparsers()
    for name, summary, parser in commands:
        for action in parser._actions:  # noqa: SLF001 - argparse has no other list of them
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        subparsers.add_parser(
            name,
            help=summary,
            parents=[parser],
            add_help=False,
            conflict_handler="resolve",
            formatter_class=parser.formatter_class,
        )
    return shtab.complete(whole, shell=shell)


def work(chosen: Namespace, output: Output) -> int:
    """Print the script."""
    from fedjury.cli import parsers  # noqa: PLC0415 - which imports this one

    text = script(chosen.shell, parsers())
    output.result(lambda: print(text), None)
    return 0


main = Program("fedjury completion", parser_of, work, results=False)


if __name__ == "__main__":
    run_main(main, EXPECTED)
