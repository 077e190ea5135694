"""The experiment about BAFFLE's false alarms: its cells, and what it reads off records, by hand."""

from __future__ import annotations

import pytest

from fedjury.config.settings import load
from fedjury.experiments.engine.case import Case, Job, Result
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.setup import Plan
from fedjury.experiments.papers import judge_settled as settled
from fedjury.experiments.papers.baffle import COMMON, SMALL, SMALL_MODELS, BafflePlan
from fedjury.protocol.record import Ballot, Quality, RoundRecord, Votes


def plan(samples: int = 60_000) -> Plan:
    """Plan the small scale on a data set of so many training samples."""
    common = dict(COMMON) | {"data.name": "digits", "model.name": "mlp"} | SMALL_MODELS["mlp"]
    return BafflePlan(SMALL, common, {"digits": samples}, range(2))


def record(number, *ballots, accepted=True, right=0.5):
    """Make the record of a round with votes of (poisoned, changed, changed_errors)."""
    voters = {f"a{i}": Ballot(one[0], 1.0, 1.0, 0, *one[1:]) for i, one in enumerate(ballots)}
    poisoned = sum(one[0] for one in ballots)
    zeros = [one[2] for one in ballots].count(0) / len(ballots) if ballots else None
    votes = Votes(poisoned, len(ballots) - poisoned, 0, voters, zero_changes=zeros)
    candidate = Quality(metrics={"accuracy": right})
    return RoundRecord(
        number, accepted=accepted, judged=number, candidate=candidate, votes=votes, model=candidate
    )


RESULT = Result(
    Case({}, Job("a run", load(overrides={"backdoor.inject": [3]}))),
    [
        record(1),
        record(2, (False, 0, 0), (True, 3, 4), right=0.7),
        record(3, (True, 90, 90), (True, 90, 90), accepted=False),
        record(4, (True, 2, 2), (True, 1, 2), accepted=False, right=0.9),
    ],
)
"""Four rounds: one without votes, one accepted, one poisoned, one good but rejected."""


def test_only_good_candidates_that_were_voted_on_count():
    """Of four rounds the first has no votes and the third is poisoned: two are left."""
    assert [one.round for one in settled.benign(RESULT)] == [2, 4]
    assert settled.zeros(RESULT) == pytest.approx((1 / 2 + 0) / 2)
    assert settled.changed(RESULT) == pytest.approx((0 + 3 + 2 + 1) / 4)
    assert settled.fit(RESULT) == pytest.approx(0.8)
    assert settled.one_voter(RESULT) == Count(3, 4)


def test_a_fitted_model_is_made_of_exactly_what_the_agents_hold():
    """The agents of a fitted cell share all that is not kept back; one agent holds the same."""
    cells = {(c.labels["base"], c.labels["samples"]) for c in settled.cases(plan())}
    assert cells == {("federated", "60"), ("federated", "540"), ("fitted", "60")}
    cell = next(c for c in settled.cases(plan()) if c.labels["base"] == "fitted")
    start = cell.job.start.settings
    assert (start.agents.n, start.agents.samples, start.data.server) == (1, 6_000, 0.9)
    assert (start.training.epochs, start.run.rounds, start.agents.malicious) == (180, 1, 0.0)
    assert cell.job.before.start == cell.job.start


def test_small_sets_are_fitted_as_a_whole():
    """Nine tenths of 5,000 samples are few enough for a small network."""
    cells = {(c.labels["base"], c.labels["samples"]) for c in settled.cases(plan(5_000))}
    assert ("fitted", "45") in cells
