"""Fuzzes one target under Atheris: ``python -m tools.fuzz.driver TARGET FOLDER [flags] [folders]``.

A process of its own, for libFuzzer ends the process when it has found something. It writes the
inputs that we have into ``FOLDER/known``; flags and further folders are libFuzzer's.
"""

from __future__ import annotations

import hashlib
import importlib
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.fuzz import targets
from tools.fuzz.target import Target

OURS = "fedjury"
"""Whose branches are watched."""

Variant = Callable[[bytes, random.Random], bytes]


def mutator(atheris: Any, variant: Variant, head: int) -> Callable[[bytes, int, int], bytes]:
    """Change an input as libFuzzer does, or as a hostile sender who knows the protocol."""

    def changed(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.3 or len(data) <= head:
            return bytes(atheris.Mutate(data, longest))
        return data[:head] + variant(data[head:], rng)[: longest - head]

    return changed


def prepared(name: str, target: Target, folder: Path) -> list[str]:
    """Write down what we know of a target; returns libFuzzer's flags for it."""
    known, words = folder / "known", folder / "words"
    if not known.exists():  # who merges starts us again and again
        known.mkdir()
        for data in targets.inputs_of(name, target):
            (known / hashlib.sha1(data).hexdigest()).write_bytes(data)  # noqa: S324 - a name
        words.write_text("".join(map(quoted, target.words)), encoding="ascii")
    flags = [f"-max_len={target.longest}"]
    return [*flags, f"-dict={words}"] if target.words else flags


def quoted(word: bytes) -> str:
    """Write a word as a line of libFuzzer's dictionaries."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer has enough; does not return."""
    name, folder, *flags = arguments
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=[OURS, *targets.BESIDES.get(name, ())]):
        target = targets.load(name)
        variant: Variant = importlib.import_module("tools.fuzz.variants").variant
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)  # numbers that overflow unseen
    target.one(b"")
    more = {} if target.head is None else {"custom_mutator": mutator(atheris, variant, target.head)}
    # libFuzzer starts itself again to merge folders, by what it takes for its own name.
    program = f"{sys.executable} -m tools.fuzz.driver {name} {folder}"
    flags = [*prepared(name, target, Path(folder)), *flags]
    atheris.Setup([program, *flags], target.one, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
