"""Agents die, vanish, fall silent, or are slow."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from random import Random

from fedjury.protocol.record import RoundRecord
from tools.chaos.faults.outcome import Fault, Outcome, Tally, end
from tools.chaos.harness import PLAIN, SHARDS, Federation, Harness, Result, Setup
from tools.chaos.programs import Child

DEADLINE = 1.2
"""Seconds that a round waits for those who do not answer."""
HASTY: Setup = PLAIN | {"run.rounds": 4, "collect.seconds": DEADLINE, "validation.seconds": 0.6}
SHORT: Setup = HASTY | {"run.rounds": 2}
LATE = 1.3
"""Seconds that slow agents take to train a few: a thousand times what the others do."""
TOO_LATE = "wrong_phase", "wrong_round"
"""What an update is refused for that comes while its round is voted on, or after it."""
HALF = PLAIN["agents.n"] // SHARDS
"""Agents of one process."""


def restarted(_: Harness, run: Federation, random: Random) -> None:
    """``kill -9`` for one of the two programs, which is started again by hand."""
    run.agents[1].kill_all()
    time.sleep(random.uniform(0.0, 0.5))
    run.agents[1] = run.join(2)


def ended(_: Harness, run: Federation, __: Random) -> str:
    """Ask one of the two programs to end (SIGTERM); then start it again."""
    wrong = end(run.agents[1])
    run.agents[1] = run.join(2)
    return wrong


def revived(_: Harness, run: Federation, __: Random) -> str:
    """``kill -9`` for a process that a program has started for its agents: it is started again."""
    doomed = run.agents[1].workers()
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    return "" if doomed else "there is no such process"


def gone(_: Harness, run: Federation, __: Random) -> None:
    """Let half of the agents vanish."""
    run.agents.pop().kill_all()


def once_missing(_: Federation, result: Result) -> str:
    """Say what is wrong unless one round waits for them, and later ones do without."""
    missing = [record.missing for record in result.records]
    right = sorted(missing) == [0, 0, 0, HALF] and result.records[-1].selected == HALF
    return "" if right else f"missing are {missing}"


def unanswering(failpoint: str, number: float, refused: Collection[str] = ()) -> Fault:
    """Half of the agents do not answer in time: every round closes at its deadline without them.

    It says who was missing, and counts what comes too late as ``refused``.
    """

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        del random
        tally = Tally()
        for _ in range(times):
            with harness.federation(SHORT) as built:
                built.serve()
                built.agents = [built.join(1), built.join(2, (failpoint, number))]
                result = built.finish()
                tally.add(result, 1, None, _wrong(result.records, built.agents[1], refused))
        return tally.outcome(f"{HALF} of {2 * HALF} missing in every round")

    return fault


def _wrong(records: list[RoundRecord], others: Child, refused: Collection[str]) -> str:
    """Say what is wrong with rounds in which half of the agents did not answer."""
    for record in records:
        if (record.selected, record.updates, record.missing) != (2 * HALF, HALF, HALF):
            return f"round {record.round}: {record.updates} of {record.selected} updates"
        if (record.timing.seconds or 0.0) > 3 * DEADLINE:
            return f"round {record.round} took {record.timing.seconds} s"
        if len(record.absent) != HALF:
            return f"round {record.round} does not name who was missing"
    late = sum(
        record.traffic.invalid_messages.get(reason, 0) for record in records for reason in refused
    )
    if refused and not late:
        return f"nothing came too late: {others.last_words()}"
    return ""
