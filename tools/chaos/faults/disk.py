"""The disk is full, or what is on it is damaged."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

from tools.chaos.faults.outcome import Hurt
from tools.chaos.harness import Federation, Harness, Result

LOG = 3000
"""Bytes that an aggregator prints, at the most: that limit is on what it says too."""
ENDED = 20.0
"""Seconds in which an aggregator that cannot go on has to say so."""


def full() -> Hurt:
    """No room for the next model and, in turn, for the next record; then there is, and it goes on.

    The limit is that of the process (RLIMIT_FSIZE), which half of a file goes through as on a
    full disk.
    """
    turns = itertools.cycle(("model", "record"))

    def fill(harness: Harness, run: Federation, random: Random) -> str:
        records = (run.folder / "rounds.jsonl").stat().st_size
        room = random.randint(LOG, 9000) if next(turns) == "model" else records + 100
        run.aggregator.limit_files(room)
        wrong = refused(run, "cannot write") or untouched(run, harness.quiet())
        run.aggregator.kill()
        run.serve()
        return wrong

    return fill


def cut_in_half(_: Harness, run: Federation, __: Random) -> str:
    """Cut a checkpoint in half: it is named, removed by hand, and done without.

    Agents are in a round that will be taken back.
    """
    run.aggregator.kill()
    newest = max((run.folder / "models").glob("*.safetensors"))
    halve(newest)
    run.serve()
    wrong = refused(run, newest.name, "damaged")
    newest.unlink()
    run.serve()
    return wrong


def halve(file: Path) -> None:
    """Cut a file in half."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def refused(result: Federation, *words: str) -> str:
    """Wait for an aggregator that cannot go on; says what is wrong with how it ended, if anything.

    It has to be one sentence, and exit code 2.
    """
    code, text = result.aggregator.wait(ENDED), result.aggregator.last_words()
    # Another one may print into the same file meanwhile.
    errors = [line for line in result.aggregator.said().splitlines() if line.startswith("error: ")]
    text = errors[-1] if errors else text
    if code != 2:
        return f"it should have ended with 2, not with {code}: {text}"
    if not text.startswith("error: ") or not all(word in text for word in words):
        return f"it said: {text}"
    return "it said more than one sentence" if "Traceback" in result.aggregator.said() else ""


def untouched(built: Federation, quiet: Result) -> str:
    """Say which of the models on disk is not that of the undisturbed run."""
    for version, result in built.stored().items():
        if result != quiet.stored.get(version):
            return f"version {version} on disk is not what it was"
    return ""
