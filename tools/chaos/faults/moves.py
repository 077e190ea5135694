"""The aggregator's machine vanishes from the network, and its folder goes on on another one."""

from __future__ import annotations

import time
from random import Random

from tools.chaos.faults.disk import refused
from tools.chaos.harness import PLAIN, Federation, Harness
from tools.chaos.programs import Child

LONG = PLAIN | {"run.rounds": 40, "validation.look_back": 40}
"""Still at work when the third one has looked for a sign of life; all models stay on disk."""

AGAIN = 30.0
"""Seconds from the loss of the machine to the next round that is done, at the most."""

REPLACED = "another aggregator took over run"
AT_WORK = "is served by another aggregator since"


def moves(harness: Harness, run: Federation, random: Random) -> str:
    """Lose the machine, dead or alive, and start a copy of its folder at another.

    Nothing says goodbye: the broker believes for minutes that the old one is connected. A third one
    has to refuse; and the old one, where it only was cut off, has to end when it comes back.
    """
    dead, old, proxy = random.random() < 0.5, run.aggregator, run.proxies["aggregator"]
    proxy.stall()
    if dead:
        old.kill()
    begun, before = time.monotonic(), len(run.records())
    run.move(harness.folder / f"elsewhere-{run.settings.run.name}")
    new = run.serve()
    if not run.reach(before + 1):
        return f"it does not go on elsewhere: {new.last_words()}"
    spent = time.monotonic() - begun
    if spent > AGAIN:
        return f"it went on after {spent:.0f} s"
    wrong = _third(harness, run, new)
    proxy.flow()
    return wrong or ("" if dead else _gone(old))


def _gone(old: Child) -> str:
    """Say what is wrong with the end of one that came back."""
    code = old.wait(AGAIN)
    fine = code == 2 and REPLACED in old.said()
    return "" if fine else f"the one that was cut off ended with {code}: {old.last_words()}"


def _third(harness: Harness, run: Federation, serving: Child) -> str:
    """Start one with an empty folder; say what is wrong with its refusal."""
    folder, settings = run.folder, run.settings
    run.move(harness.folder / f"third-{run.settings.run.name}", copied=False)
    run.serve()
    wrong = refused(run, AT_WORK) if serving.code is None else ""
    run.folder, run.settings, run.aggregator = folder, settings, serving
    return wrong
