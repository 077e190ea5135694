"""The experiments of judges: who is in a cell, and what is made of made-up records."""

from __future__ import annotations

import pytest

from fedjury.config.settings import load
from fedjury.experiments import EXPERIMENTS
from fedjury.experiments.engine import report, tables
from fedjury.experiments.engine.case import Case, Job, Result
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import rate
from fedjury.experiments.papers import judge_alarms, judge_liars, judge_setup, judge_strikes
from fedjury.experiments.papers.judge_setup import JudgePlan
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.record import Ballot, Quality, RoundRecord, Truth, Votes

SIZES = {"fashion-mnist": 60_000, "mnist5k": 4700, "digits": 1497}


def plan_of(name):
    """Plan an experiment at the small scale without loading any data."""
    setup = EXPERIMENTS[name].setup
    bare = setup.plan("small", {}, range(100, 101), "")
    return JudgePlan(bare.scale, bare.common, SIZES, bare.seeds, {name: {} for name in SIZES})


def with_data(plan, *sets):
    return JudgePlan(plan.scale, plan.common, {s: SIZES[s] for s in sets}, plan.seeds, plan.own)


# Who is in a cell


def test_strikes_come_in_every_third_round_with_a_vote():
    """After 20 rounds without a vote, 15 strikes in 45; all start from one base a data set."""
    cells = EXPERIMENTS["judge-adaptive"].cases(with_data(plan_of("judge-adaptive"), "mnist5k"))
    attacked = [cell.settings for cell in cells if cell.labels["judge"] != "none"]
    assert {tuple(one.backdoor.inject) for one in attacked} == {tuple(range(23, 66, 3))}
    assert {(one.run.rounds, one.validation.warm_up) for one in attacked} == {(65, 20)}
    assert {cell.settings.backdoor.judged_clean for cell in cells} == {True, False}
    assert len({cell.job.start.key for cell in cells}) == 1
    calm = [cell.settings for cell in cells if cell.labels["judge"] == "none"]
    assert [(one.backdoor.inject, one.validation.validators) for one in calm] == [([], 0)] * 2


def test_strikes_come_in_every_round_with_a_vote():
    """140 of them."""
    cells = EXPERIMENTS["judge-always"].cases(with_data(plan_of("judge-always"), "mnist5k"))
    attacked = [cell.settings for cell in cells if cell.labels["judge"] != "none"]
    assert {tuple(one.backdoor.inject) for one in attacked} == {tuple(range(21, 161))}


def test_nobody_is_dealt_anothers_samples():
    """The numbers of agents that hold 30, 150, 600 samples, or 13, 30, 75 digits; none is evil."""
    plan = plan_of("judge-alarms")
    found = {data: judge_alarms.holdings(plan, data) for data in SIZES}
    assert found == {
        "fashion-mnist": {30: 100, 150: 100, 600: 55},
        "mnist5k": {30: 86, 150: 17},
        "digits": {13: 63, 30: 27, 75: 10},
    }
    for cell in judge_alarms.cases(plan):
        settings = cell.settings
        assert not settings.agents.repeats
        assert not partition_spec_of(settings).malicious_agents
        assert settings.run.rounds - settings.validation.warm_up == 100
        n, data = settings.agents.n, settings.data
        assert n * settings.sampling.client_fraction == pytest.approx(min(10, n // 2))
        assert data.test == 300
        assert cell.job.start.settings.agents.n == n


def test_liars_are_exactly_so_many_of_ten():
    """The vote attack says how many; without liars the attacker votes honestly too."""
    cells = judge_liars.cases(with_data(plan_of("judge-liars"), "fashion-mnist"))
    for cell in cells:
        lie, liars = cell.labels["lie"], cell.labels["liars"]
        attack = cell.settings.agents.vote_attack
        assert attack.endswith(f":{lie}_{liars}_of_100" if liars else "honest")
        assert cell.job.before.settings.agents.vote_attack == load().agents.vote_attack
    assert len({cell.job.before.key for cell in cells}) == 2  # for each step one, whoever lies


def test_pooled_counts_are_told_how_many_liars_there_are():
    """Else one of them decides alone; and without any, nothing is left out."""
    cells = judge_liars.cases(with_data(plan_of("judge-liars"), "fashion-mnist"))
    assert {
        (cell.labels["liars"], cell.settings.validation.tolerated_malicious)
        for cell in cells
        if cell.labels["judge"] == "pooled"
    } == {(0, 0), (2, 2), (3, 3), (4, 4)}
    counted = [cell for cell in cells if cell.labels["judge"] == "robust"]
    assert {cell.settings.validation.tolerated_malicious for cell in counted} == {0}


# What is made of records


def result(strikes, *rounds, **labels):
    """Make a run of (accepted, strength, backdoor, voters that say poisoned of ten)."""
    records = []
    for number, (accepted, strength, backdoor, poisoned) in enumerate(rounds, start=1):
        voters = {f"a{i}": Ballot(poisoned=i < poisoned) for i in range(10)}
        votes = Votes(poisoned, 10 - poisoned, voters=voters)
        quality = Quality(0.8, backdoor)
        records.append(
            RoundRecord(
                number,
                accepted=accepted,
                judged=number,
                model=quality if accepted else Quality(0.8, 0.0),
                candidate=quality,
                votes=votes,
                truth=Truth(strength=strength),
            )
        )
    every = {"data": "d", "step": "mean", "judge": "calibrated", "attacker": "all", "seed": 0}
    changes = {"backdoor.inject": list(strikes), "validation.quorum": 5}
    return Result(Case(every | labels, Job("x", load(overrides=changes))), records)


def test_what_became_of_strikes_by_hand():
    """Of five strikes one stood down; of four submitted two took, of which one was let in.

    The round in which it stood down is benign, and was rejected: one of two, with 6 of 20 votes.
    """
    run = result(
        range(1, 6),
        (True, 0.2, 0.3, 1),
        (False, 1.0, 0.9, 8),
        (True, 0.6, 0.7, 4),
        (False, None, 0.6, 5),
        (True, 0.1, 0.1, 0),
        (True, None, 0.65, 1),
    )
    calm = result((), (True, None, 0.0, 0), judge="none", attacker="none")
    [row] = judge_strikes.tables([run, calm])[0].rows
    assert (row["submitted"], row["took"]) == (4, 2)
    assert row["caught"].runs == (Count(1, 4),)
    assert row["let in of those"].runs == (Count(1, 2),)
    assert (row["largest let in"], row["largest strike let in"], row["by seed"]) == (
        0.7,
        0.7,
        "0.70",
    )
    assert row["FP"].runs == (Count(1, 2),)
    assert row["FP of one"].runs == (Count(6, 20),)
    assert row["less than without attack (points)"].values == (0.0,)


def test_what_independent_voters_would_come_to():
    """Honest voters find strikes with .8 and flag good rounds with .1.

    With four who deny one of six flags: 1 - .9^6; with four who hide fewer than five of six find:
    1 - (6 x .8^5 x .2 + .8^6).
    """
    honest = result([1], (False, 1.0, 0.9, 8), (True, None, 0.0, 1), lie="none", liars=0)
    denied = judge_liars.independent(result([1], lie="deny", liars=4), [honest])
    hidden = judge_liars.independent(result([1], lie="hide", liars=4), [honest])
    assert denied[1] == pytest.approx(1 - 0.9**6)
    assert hidden[0] == pytest.approx(1 - (6 * 0.8**5 * 0.2 + 0.8**6))


def test_the_figures_of_judges_can_be_drawn_and_written(tmp_path):
    """Tables as CSV with the counts behind each rate, in a row per run too."""
    run = result([1], (False, 1.0, 0.9, 8), (True, None, 0.0, 1))
    calm = result((), (True, None, 0.0, 0), judge="none", attacker="none")
    experiment = EXPERIMENTS["judge-adaptive"]
    plan = plan_of("judge-adaptive")
    written = report.write(tmp_path, "x", experiment, plan, [run, calm], report.Spent(60.0, 0.0))
    assert [file.name for file in written] == [
        "x.csv",
        "x-targets.csv",
        "x-runs.csv",
        "x.md",
        "x.png",
    ]
    assert "Wall time of the cells: 1.0 minutes (" in (tmp_path / "x.md").read_text()
    assert rate([run], judge_setup.alarms).runs == (Count(0, 1),)
    assert tables.shown(Count(1, 2)) == "1 of 2"
