"""The disk is full, or what is on it is damaged."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from tools.chaos.faults.outcome import Outcome, Tally
from tools.chaos.lab import Federation, Lab, Result

LOG = 3000
"""Bytes that an aggregator prints, at the most: that limit is on what it says too."""
PACE = 0.03
"""Seconds that agents take more to train, so that there is time to act within a round."""
ENDED = 20.0
"""Seconds in which an aggregator that cannot go on has to say so."""


def full(lab: Lab, random: Random, times: int) -> Outcome:
    """No room for the next model, or for the next record; then there is, and it goes on.

    The limit is that of the process (RLIMIT_FSIZE), which half of a file goes through as on a
    full disk.
    """
    tally = Tally()
    quiet = lab.quiet()
    for turn in range(times):
        with lab.federation() as made:
            made.start(pace=PACE)
            made.reach(random.randint(2, 6))
            records = (made.folder / "rounds.jsonl").stat().st_size
            made.aggregator.limit_files(records + 100 if turn % 2 else random.randint(LOG, 9000))
            wrong = refused(made, "cannot write") or untouched(made, quiet)
            made.aggregator.kill()
            made.serve()
            tally.add(made.finish(), 1, quiet, wrong)
    return tally.outcome()


def cut_in_half(lab: Lab, random: Random, times: int) -> Outcome:
    """Cut a checkpoint in half: it is named, removed by hand, and done without."""
    tally = Tally()
    quiet = lab.quiet()
    for _ in range(times):
        with lab.federation() as made:
            made.start(pace=PACE)
            made.train(random.randint(2, 6))  # agents are in a round that will be taken back
            time.sleep(PACE / 2)
            made.aggregator.kill()
            newest = max((made.folder / "models").glob("*.safetensors"))
            halve(newest)
            made.serve()
            wrong = refused(made, newest.name, "damaged")
            newest.unlink()
            made.serve()
            tally.add(made.finish(), 1, quiet, wrong)
    return tally.outcome()


def halve(file: Path) -> None:
    """Cut a file in half."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def refused(made: Federation, *words: str) -> str:
    """Wait for an aggregator that cannot go on; says what is wrong with how it ended, if anything.

    It has to be one sentence, and exit code 2.
    """
    code, said = made.aggregator.wait(ENDED), made.aggregator.last_words()
    if code != 2:
        return f"it should have ended with 2, not with {code}: {said}"
    if not said.startswith("error: ") or not all(word in said for word in words):
        return f"it said: {said}"
    return "it said more than one sentence" if "Traceback" in made.aggregator.said() else ""


def untouched(made: Federation, quiet: Result) -> str:
    """Say which of the models on disk is not that of the undisturbed run."""
    for version, found in made.stored().items():
        if found != quiet.stored.get(version):
            return f"version {version} on disk is not what it was"
    return ""
