"""The disk is full, or what is on it is damaged."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from tools.chaos.faults.outcome import Outcome, Tally
from tools.chaos.harness import Federation, Harness, Result

LOG = 3000
"""Bytes that an aggregator prints, at the most: that limit is on what it says too."""
PACE = 0.03
"""Seconds that agents take more to train, so that there is time to act within a round."""
ENDED = 20.0
"""Seconds in which an aggregator that cannot go on has to say so."""


def full(harness: Harness, random: Random, times: int) -> Outcome:
    """No room for the next model, or for the next record; then there is, and it goes on.

    The limit is that of the process (RLIMIT_FSIZE), which half of a file goes through as on a
    full disk.
    """
    tally = Tally()
    quiet = harness.quiet()
    for turn in range(times):
        with harness.federation() as result:
            result.start(pace=PACE)
            result.reach(random.randint(2, 6))
            records = (result.folder / "rounds.jsonl").stat().st_size
            result.aggregator.limit_files(records + 100 if turn % 2 else random.randint(LOG, 9000))
            wrong = refused(result, "cannot write") or untouched(result, quiet)
            result.aggregator.kill()
            result.serve()
            tally.add(result.finish(), 1, quiet, wrong)
    return tally.outcome()


def cut_in_half(harness: Harness, random: Random, times: int) -> Outcome:
    """Cut a checkpoint in half: it is named, removed by hand, and done without."""
    tally = Tally()
    quiet = harness.quiet()
    for _ in range(times):
        with harness.federation() as result:
            result.start(pace=PACE)
            result.train(random.randint(2, 6))  # agents are in a round that will be taken back
            time.sleep(PACE / 2)
            result.aggregator.kill()
            newest = max((result.folder / "models").glob("*.safetensors"))
            halve(newest)
            result.serve()
            wrong = refused(result, newest.name, "damaged")
            newest.unlink()
            result.serve()
            tally.add(result.finish(), 1, quiet, wrong)
    return tally.outcome()


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
