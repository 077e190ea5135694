"""Rules on workers that are actors of Ray, as a program beside the test that starts it.

It writes a line of JSON for each thing it finds, and waits for a line before it goes on.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
from support.updates import honest_updates, told
from support.workers import CellRows, dealt

from fedjury import rules
from fedjury.cluster import environment
from fedjury.cluster.engine import WorkerLost
from fedjury.cluster.partitions import gathered
from fedjury.rules.partitions import cut

N, D, P = 30, 1003, 16
"""Updates, parameters, partitions."""

KEY = 7, 1

MACHINES = 3
"""On which four workers are to be; the last may come while there are fewer."""


class HeldRows:
    """An ingest whose rows are there from the beginning."""

    def __init__(self, order, at):
        rows = np.empty((len(at), D), dtype=np.float32)
        rows[order] = honest_updates(N, D)[at]
        self.held = {KEY: CellRows(rows, P)}
        self.ended = threading.Event()

    def run(self):
        """Wait for the end."""
        self.ended.wait()

    def stop(self):
        """Let it end."""
        self.ended.set()

    def rows(self, key):
        """Return the rows."""
        return self.held[key]


def made_by(name, partitions):
    """Return the bytes of what a rule makes, and of what it keeps."""
    context = told(honest_updates(N, D, seed=7), honest_updates(2, D, seed=0)[1])
    keeps = bool(rules.RULES.facts(name).needs & {"state"})
    samples = np.arange(1, N + 1)
    made, state = rules.applied(rules.build(name), name, partitions, samples, context, keeps=keeps)
    return [array.tobytes() for array in (made, *state.values())]


def say(**found):
    """Tell the test."""
    print(json.dumps(found), flush=True)


def main(token, address, machine):
    """Be the program."""
    os.environ.update(environment.settings(Path(token)))
    from fedjury.cluster import ray_engine  # noqa: PLC0415 - reads the environment

    ray_engine.connect(address, machine, "rules")
    here = {name: made_by(name, cut(honest_updates(N, D), P)) for name in rules.RULES}
    for workers in (1, 2, 4):
        while workers == 4 and len(ray_engine.machines()) < MACHINES:
            time.sleep(0.1)
        placements = dealt(N, workers)
        actors = ray_engine.start_cells([(None, (HeldRows, tuple(each))) for each in placements])
        engine = ray_engine.engine(workers)
        partitions = gathered(engine, KEY, placements, D, P, keep=True)
        differing = [name for name in here if made_by(name, partitions) != here[name]]
        say(workers=workers, rules=len(here), differing=differing)
        if workers < 4:
            ray_engine.end(actors)
    say(places=[place._asdict() for place in ray_engine.places(actors)])
    sys.stdin.readline()  # a machine is dead now
    begun = time.monotonic()
    lost = set()
    while True:
        try:
            partitions = gathered(engine, KEY, placements, D, P, keep=True)
            again = made_by("median", partitions) == here["median"]
            break
        except WorkerLost as why:
            lost.add(why.worker)
            time.sleep(0.5)
    say(lost=sorted(lost), seconds=time.monotonic() - begun, again=again)
    say(places=[place._asdict() for place in ray_engine.places(actors)])
    sys.stdin.readline()  # Ray would now wait for the dead machine to say goodbye


if __name__ == "__main__":
    main(*sys.argv[1:])
