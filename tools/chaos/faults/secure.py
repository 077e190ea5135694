"""Programs and broker die in the middle of secure aggregation, at each of its steps.

What must always hold is in ``tools.chaos.sums_heard``: ``Tally`` looks at it after every run.
"""

from __future__ import annotations

import time
from random import Random

from fedjury.protocol.messages import Message
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.secure import MaskedUpdate, SecureKeys, UnmaskRequest
from tools.chaos.faults.outcome import PACE, Fault, Hurt, Outcome, Tally
from tools.chaos.harness import SECURE, Federation, Harness, Result, differing

STEPS: dict[str, type[Message]] = {
    "keys": SecureKeys,
    "masked updates": MaskedUpdate,
    "requests": UnmaskRequest,
}
"""What is under way when something dies, in turns."""


def at_each_step(hurt: Hurt) -> Fault:
    """Do something when some of a step's messages have been heard, one step after the other.

    Members that are missing cost their groups, or their places in them. Up to the first round in
    which somebody was missing all models are those of a run that nobody disturbs.
    """

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally, quiet = Tally(), harness.quiet(SECURE)
        whole = 0
        for number in range(times):
            kind = list(STEPS.values())[number % len(STEPS)]
            with harness.federation(SECURE) as run:
                run.start(pace=PACE)
                n = SECURE["agents.n"]
                wanted = n * random.randint(1, 4) + random.randint(1, n - 1)
                heard = run.listener.sums.count
                run.until(lambda: heard[kind] >= wanted)  # noqa: B023 - it is called at once
                wrong = hurt(harness, run, random)
                result = run.finish()
                whole += all(record.updates == n for record in result.records)
                tally.add(result, 1, None, wrong or same_while_complete(result, quiet))
        return tally.outcome(f"nobody missing in {whole} of {times}")

    return fault


def same_while_complete(result: Result, quiet: Result) -> str:
    """Say what differs from an undisturbed run before the first round with a smaller sum."""
    for mine, theirs in zip(result.records, quiet.records, strict=False):
        if summed(mine) != summed(theirs):
            return ""
        for key, message, right in differing(mine, theirs):
            return f"round {mine.round}: {key} is {message}, not {right}"
        if result.stored.get(mine.version) != quiet.stored.get(mine.version):
            return f"the model of round {mine.round} differs"
    return ""


def summed(record: RoundRecord) -> tuple[int, int]:
    """Return how many updates, and counts of how many validators, are in a round's sums."""
    pooled = record.votes.pooled
    return record.updates, pooled.validators if pooled else 0


def broker_killed(harness: Harness, _: Federation, random: Random) -> None:
    """``kill -9`` for the broker, with or without what it retained."""
    harness.broker.kill(keep=random.random() < 0.5)
    harness.broker.start()


def agents_killed(_: Harness, run: Federation, random: Random) -> None:
    """``kill -9`` for half of the agents, started again: they remember no keys, but their sums."""
    run.agents[1].kill_all()
    time.sleep(random.uniform(0.0, 0.3))
    run.agents[1] = run.join(2)


def all_killed(harness: Harness, run: Federation, random: Random) -> None:
    """``kill -9`` for everything at once."""
    run.aggregator.kill()
    agents_killed(harness, run, random)
    broker_killed(harness, run, random)
    run.serve()
