"""Too much of something: garbage, aggregators, rounds."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from random import Random

from tools.benchmarks.processes import resident
from tools.chaos.faults.disk import refused
from tools.chaos.faults.outcome import PACE, Outcome, Tally
from tools.chaos.harness import PLAIN, SMALL, Federation, Harness, Setup

CLIENTS = 20
SHORT = 10_000
"""Messages for which ordinary rounds take long enough."""
FLOODED: Setup = PLAIN | {"limits.size": 50_000}
OVERSIZE = 100_000
"""Bytes: more than what is looked at."""
MEMORY = 400
"""MB that an aggregator may take in a flood."""

TINY: Setup = SMALL | {
    "agents.n": 4,
    "agents.malicious": 0.0,
    "agents.samples": 4,
    "validation.look_back": 2,
}
FLAT = 0.02
"""Share by which memory may have grown from a tenth of the rounds to the last."""
SAY = 10.0
"""Seconds between two words on how far it is."""


def flood(harness: Harness, random: Random, times: int) -> Outcome:
    """Twenty clients publish so many messages of garbage, some too large, during the rounds."""
    del random
    tally = Tally()
    with harness.federation(FLOODED) as built:
        built.start(pace=PACE * (10 if times > SHORT else 1))
        built.reach(1)
        name = built.settings.run.name
        arguments = [str(harness.broker.port), name, str(times), str(CLIENTS), str(OVERSIZE)]
        hostile = built.begin("flood", arguments, "flood")
        peak, whole = 0.0, False
        while built.aggregator.wait(0.05) is None and peak < 10 * MEMORY:
            peak = max(peak, resident(built.aggregator.pid) / 1e6)
            # What the broker has taken before the last round opens is read before that closes.
            whole = whole or (
                hostile.code == 0 and built.listener.round < built.settings.run.rounds
            )
        result = built.finish()
        refused = sum(sum(r.traffic.invalid_messages.values()) for r in result.records)
        wrong = "" if hostile.wait(10.0) == 0 else f"the flood failed: {hostile.last_words()}"
        if peak > MEMORY:
            wrong = f"the aggregator took {peak:.0f} MB"
        elif refused < (times if whole else 1):
            wrong = f"{refused:,} of {times:,} were refused"
        tally.add(result, 1, harness.quiet(FLOODED), wrong)
    note = f"{refused:,} of {times:,} refused in time, at most {peak:.0f} MB"
    return tally.outcome(note)


def second_here(_: Harness, run: Federation, __: Random) -> str:
    """Start a second aggregator on the same folder: it says so and ends, the first goes on."""
    first = run.aggregator
    run.serve()
    wrong = refused(run, "in use")
    run.aggregator = first
    return wrong


def endurance(harness: Harness, random: Random, times: int) -> Outcome:
    """So many rounds of a tiny federation: memory and open files stay what they were."""
    del random
    setup = TINY | {"run.rounds": times}
    fast = Path("/dev/shm")  # noqa: S108 - ours alone
    folder = tempfile.mkdtemp(prefix="fedjury-chaos-", dir=fast if fast.is_dir() else None)
    tally = Tally()
    try:
        with harness.federation(setup | {"run.directory": folder}) as result:
            began = time.monotonic()
            result.start()
            early = after(harness, result, times // 10)
            late = after(harness, result, times - 5)
            spent = time.monotonic() - began
            tally.add(result.finish(), times, None, grown(early, late))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    shown = "; ".join(
        f"{name} {size:.0f} to {late[name][0]:.0f} MB, {opened} to {late[name][1]} files"
        for name, (size, opened) in early.items()
        if name != "agents 2"
    )
    return tally.outcome(f"{1000 * spent / times:.1f} ms a round; {shown}")


Taken = dict[str, tuple[float, int]]
"""Program -> MB of memory, open files."""


def after(harness: Harness, result: Federation, number: int) -> Taken:
    """Wait for that round, and say what each process takes then."""
    told = time.monotonic()
    while (reached := result.listener.round) < number:
        if result.aggregator.wait(0.02) is not None:
            break
        if time.monotonic() > told + SAY:
            told = time.monotonic()
            harness.say(f"round {reached:,}")
    taken = {"aggregator": result.aggregator.pid}
    for place, agents in enumerate(result.agents, start=1):
        taken |= {f"agents {place}": pid for pid in agents.workers()}
    return {name: (resident(pid) / 1e6, files(pid)) for name, pid in taken.items()}


def grown(early: Taken, late: Taken) -> str:
    """Say which process takes more than it did; empty if none."""
    for name, (size, opened) in early.items():
        if late[name][0] > size * (1 + FLAT) or late[name][1] > opened:
            return f"{name}: {size:.1f} MB, {opened} files; then {late[name]}"
    return ""


def files(pid: int) -> int:
    """Count what a process holds open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
