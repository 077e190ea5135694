"""The matrix: every attack against every rule, picked by name, and what is made of the runs."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest

from fedjury import rules
from fedjury.config.settings import SettingsError
from fedjury.experiments import EXPERIMENTS, running
from fedjury.experiments.engine.case import Case, Job, Result
from fedjury.experiments.papers import matrix, matrix_plan
from fedjury.experiments.papers.matrix_plan import (
    FRONTED,
    GUARDS,
    KEPT,
    SMALL,
    STATELESS,
    MatrixPlan,
)
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.record import DetectionRecord, Quality, RoundRecord, Timing, Traffic, Truth
from fedjury.registry import ATTACKS

PLAN = MatrixPlan(SMALL, matrix_plan.COMMON | {"model.name": "mlp"}, {"mnist5k": 4000}, range(1))
CELLS = matrix.cases(PLAN)


def test_every_attack_meets_every_rule():
    """A new attack is a row and a new rule a column, without a word here."""
    met = {(cell.labels["attack"], cell.labels["rule"], cell.labels["guard"]) for cell in CELLS}
    attacks = {"none", *ATTACKS}
    assert met == {(a, r, g) for a in attacks for r in (*STATELESS, *FRONTED) for g in GUARDS}
    assert len({cell.job.key for cell in CELLS}) == len(CELLS)


@pytest.mark.parametrize("cell", CELLS[:: len(GUARDS) * 7], ids=lambda cell: cell.job.title)
def test_who_is_in_a_cell(cell):
    """Fifty agents of 78 samples; ten of them are evil, and attack from round 16 on, or none."""
    settings = cell.settings
    evil = 0 if cell.labels["attack"] == "none" else 10
    assert len(partition_spec_of(settings).malicious_agents) == evil
    assert (settings.agents.n, settings.agents.samples) == (50, int(4000 * (1 - KEPT) / 50))
    armed = cell.labels["attack"] in ("backdoor", "adaptive", "evasive")
    assert settings.backdoor.inject == (list(range(16, 41)) if armed else [])
    assert settings.agents.start == (16 if evil else 1)


@pytest.mark.parametrize("column", SMALL.columns)
def test_rules_can_do_with_those_who_are_there(column):
    """Each column's rule can be built, and works with fifty updates as with forty."""
    said = matrix_plan.ruled(column, 10)
    build = {key.removeprefix("aggregation."): value for key, value in said.items()}
    rule = rules.build(build["rule"], None, build.get("before"), **build.get("options", {}))
    for n in (50, 40):
        updates = np.random.default_rng(0).standard_normal((n, 30)).astype(np.float32)
        context = rules.Context(server_update=updates[0], update_sums=updates)
        assert rule(updates, np.ones(n, np.int64), context).shape == (30,)


def result(records, guard="alone", attack="mpaf", rule="mean", seed=0):
    labels = {"data": "mnist5k", "guard": guard, "attack": attack, "rule": rule, "seed": seed}
    settings = PLAN.case(labels).settings
    return Result(Case(labels, Job("", settings)), records)


def record(round_, accuracy, *, accepted=True, flagged=None, wrongly_quarantined=0, **truth):
    return RoundRecord(
        round_,
        accepted=accepted,
        model=Quality(accuracy),
        traffic=Traffic({}, 3_000_000, 1_000_000),
        timing=Timing(0.5),
        detection=DetectionRecord(flagged=flagged or {}),
        truth=Truth(wrongly_quarantined=wrongly_quarantined, **truth),
    )


def test_a_cell_by_hand():
    """Of two rounds: 4 MB each, one second, one rejected; detectors are judged from round 18 on."""
    records = [
        record(17, 0.8, precision=0.1, recall=0.1),
        record(18, 0.4, precision=0.5, recall=1.0, accepted=False, wrongly_quarantined=2),
    ]
    calm = result([record(18, 0.9)], attack="none")
    _, row = matrix.cells_in_rows([calm, result(records)])
    assert row["accuracy"].values == (0.4,)
    assert row["no attack"].values == (0.9,)
    assert (row["precision"].values, row["recall"].values) == ((0.5,), (1.0,))
    assert row["wrongly quarantined"].values == (2,)
    assert row["rejected"].values == (1,)
    assert (row["MB a round"].values, row["seconds"].values) == ((4.0,), (1.0,))
    assert row["backdoor"].values == ()


def test_a_rule_at_its_worst():
    """The attack that leaves least is named, guard by guard."""
    seen = [
        result([record(40, x)], attack=a) for a, x in (("none", 0.9), ("mpaf", 0.1), ("alie", 0.7))
    ]
    seen += [
        result([record(40, x)], attack=a, guard="votes")
        for a, x in (("none", 0.88), ("mpaf", 0.8), ("alie", 0.6))
    ]
    [row] = matrix.worst(seen)
    assert (row["alone: by"], row["votes: by"]) == ("mpaf", "alie")
    assert row["alone: worst"].values == (0.1,)
    assert row["votes: no attack"].values == (0.88,)


def test_honest_agents_who_were_suspected_are_counted():
    """Evil ones are not among them, however often somebody was flagged."""
    run = result([])
    plan = partition_spec_of(run.settings)
    evil = {plan.name(number) for number in plan.malicious_agents}
    honest = sorted({plan.name(i) for i in range(50)} - evil)[:2]
    records = [
        record(20, 0.5, flagged=dict.fromkeys([*evil, honest[0]], "x")),
        record(21, 0.5, flagged=dict.fromkeys(honest, "x")),
    ]
    assert matrix.flagged(run._replace(records=records)) == 2


# --only


def pick(*only):
    return running.picked(EXPERIMENTS["matrix"], PLAN, only)


def test_rows_and_columns_are_picked():
    """Labels are narrowed one after the other; no attack is always there to compare with."""
    some = pick("attack=mpaf,alie", "rule=krum", "guard=alone")
    assert [cell.labels["attack"] for cell in some] == ["none", "alie", "mpaf"]
    assert pick() == CELLS


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("attack=mpfa", "unknown attack: 'mpfa'; did you mean 'mpaf'"),
        ("seed=1", "must be LABEL=NAME,NAME with a label of: attack, rule, guard"),
        ("mpaf", "must be LABEL=NAME,NAME"),
    ],
)
def test_what_cannot_be_picked_is_explained(only, message):
    """A slip of the pen is no empty table."""
    with pytest.raises(SettingsError, match=message):
        pick(only)


def test_other_experiments_are_run_whole():
    """Their tables need all of their cells."""
    asked = Namespace(scale="tiny", data=None, seed=0, repeats=1, model="")
    other = EXPERIMENTS["baffle-quorum"]
    with pytest.raises(SettingsError, match="nothing can be picked here"):
        running.picked(other, running.planned(other, asked), ["judge=lof"])
