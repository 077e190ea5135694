"""Agents die, vanish, fall silent, or are slow."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from random import Random

from fedjury.protocol.record import RoundRecord
from tools.chaos.faults.broker import PACE
from tools.chaos.faults.outcome import Fault, Outcome, Tally
from tools.chaos.harness import PLAIN, SHARDS, Federation, Harness, Setup
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


Hurt = Callable[[Federation, Random], str]
"""What is done to agents who are at work; says what went wrong, or nothing."""


def at_work(hurt: Hurt) -> Fault:
    """Do something to one of the two programs of agents while they train."""

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = harness.quiet()
        for _ in range(times):
            with harness.federation() as result:
                result.start(pace=PACE)
                result.train(random.randint(1, 6))
                time.sleep(random.uniform(0.0, PACE / 2))
                wrong = hurt(result, random)
                tally.add(result.finish(), 1, quiet, wrong)
        return tally.outcome()

    return fault


def restarted(result: Federation, random: Random) -> str:
    """``kill -9`` for one of the two programs, which is started again by hand."""
    result.agents[1].kill_all()
    time.sleep(random.uniform(0.0, 0.5))
    result.agents[1] = result.join(2)
    return ""


def asked_to_end(result: Federation, random: Random) -> str:
    """Ask one of the two programs to end (SIGTERM), within five seconds; then start it again."""
    del random
    result.agents[1].signal(signal.SIGTERM)
    code = result.agents[1].wait(5.0)
    result.agents[1].kill_all()
    result.agents[1] = result.join(2)
    return "" if code == 130 else f"asked to end, they ended with {code} after 5 s"


def revived(result: Federation, random: Random) -> str:
    """``kill -9`` for a process that a program has started for its agents: it is started again."""
    del random
    doomed = result.agents[1].workers()
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    return "" if doomed else "there is no such process"


def gone(harness: Harness, random: Random, times: int) -> Outcome:
    """Half of the agents vanish: one round waits for them, later ones do not call them."""
    tally = Tally()
    for _ in range(times):
        with harness.federation(HASTY) as built:
            built.start(pace=PACE)
            built.train(random.randint(1, 2))
            time.sleep(random.uniform(0.0, PACE / 2))
            built.agents.pop().kill_all()
            result = built.finish()
            missing = [r.missing for r in result.records]
            right = sorted(missing) == [0, 0, 0, HALF] and result.records[-1].selected == HALF
            tally.add(result, 1, None, "" if right else f"missing are {missing}")
    return tally.outcome(f"{HALF} of {2 * HALF} missing once, then {HALF} called")


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
