"""Golden models: small federations of every kind accept the same models, bit for bit, as before.

They are run through the programs and compared with what the reference commit made
(``golden/references.json``), on machines that compute alike; on another machine that commit makes
its models here first, in a worktree. ``FEDJURY_GOLDEN_FRESH=1`` has that done on any machine,
``FEDJURY_GOLDEN_JOBS`` says how many federations run at a time. ``golden/record.py`` says what to
do when models are meant to change.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from golden import trees
from support import warm

pytestmark = pytest.mark.timeout(900)
"""The first test waits for programs of others as well, and where no models are stored for twice as
many."""

FRESH = "FEDJURY_GOLDEN_FRESH"
JOBS = int(os.environ.get("FEDJURY_GOLDEN_JOBS", "2"))

NAMES = trees.scenarios()

KILLED = {"piggy_back": 4}
"""Scenarios that are killed, once they have this version. Their golden models are of a run that
was not."""

UNDISPUTED = {"votes": 8, "piggy_back": 9, "backdoor": 8}
"""Scenarios with votes, and how many models they would accept if nobody voted against any."""


@contextmanager
def failing():
    """Fail the test where golden models cannot be had, with one sentence and no traceback."""
    try:
        yield
    except trees.GoldenError as why:
        raise pytest.fail.Exception(str(why), pytrace=False) from None


class Runs:
    """All the federations that the tests of this file ask for, a few at a time."""

    def __init__(self, pool, scratch):
        self._pool, self._scratch = pool, scratch
        self._futures: dict[tuple[str, str], Future] = {}

    def start(self, kind, name, work, *arguments):
        """Let something be done."""
        self._futures[kind, name] = self._pool.submit(work, *arguments, self._scratch)

    def result(self, kind, name):
        """Return what came of it, once it is done."""
        with failing():
            return self._futures[kind, name].result()

    def finish(self):
        """Give up what has not begun, and wait for what has."""
        self._pool.shutdown(cancel_futures=True)

    @property
    def names(self):
        """The scenarios that were started."""
        return sorted({name for _, name in self._futures} & set(NAMES))


@pytest.fixture(scope="module")
def scratch():
    with trees.scratch_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def runs(request, scratch):
    """Start the federations of all tests of this file that were selected."""
    today = trees.TODAY._replace(popen=warm.Popen)
    with ThreadPoolExecutor(JOBS) as pool:
        runs = Runs(pool, scratch)
        runs.start("machine", "", trees.fingerprint)
        for item in request.session.items:
            name = item.path == request.path and item.callspec.params.get("name")
            if name and item.originalname == test_models_are_the_golden_ones.__name__:
                runs.start("today", name, trees.federation, today, name)
            elif name:
                runs.start("killed", name, trees.killed_and_resumed, today, name, KILLED[name])
        yield runs
        runs.finish()


@pytest.fixture(scope="module")
def golden(runs, scratch):
    """Return what says which models a scenario should accept on this machine."""
    known = None if os.environ.get(FRESH) else trees.stored(runs.result("machine", ""))
    if known is not None:
        yield known.__getitem__
        return
    with failing(), trees.reference_tree(scratch, trees.reference_commit()) as tree:
        for name in runs.names:
            runs.start("reference", name, trees.federation, tree, name)
        yield lambda name: runs.result("reference", name)
        runs.finish()


def compare(found, golden):
    """Fail if models are not the golden ones, and say from which version on."""
    versions = sorted({*found, *golden}, key=int)
    first = next((v for v in versions if found.get(v) != golden.get(v)), None)
    commit = trees.reference_commit()[:12]
    assert found == golden, f"from version {first} on, models are not those of commit {commit}"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in KILLED])
def test_models_are_the_golden_ones(name, runs, golden):
    """Each model that a federation accepts has the bytes that it had at the reference commit."""
    compare(runs.result("today", name), golden(name))


@pytest.mark.parametrize("name", KILLED)
def test_killed_run_comes_to_the_golden_models(name, runs, golden):
    """Killed with all its agents in mid-run and started again, a federation ends the same."""
    compare(runs.result("killed", name), golden(name))


@pytest.mark.parametrize("machine", json.loads(trees.REFERENCES.read_text())["machines"].values())
def test_golden_votes_went_both_ways(machine):
    """In each scenario with votes some candidates were accepted and one at least was rejected."""
    assert sorted(machine["models"]) == NAMES
    for name, most in UNDISPUTED.items():
        accepted = len(machine["models"][name]) - 1  # the first is where the run began
        assert 3 <= accepted < most, name
