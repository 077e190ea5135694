"""What was measured of a run by name: which names, what at last, and what at best."""

from __future__ import annotations

import pytest

from fedjury.aggregator.resume import with_harm
from fedjury.formatting import measure, measures
from fedjury.protocol.harm import Harm
from fedjury.protocol.measured import (
    harm_of,
    largest_let_in,
    low_is_good,
    measured,
    named,
    value_of,
    weighted_mean,
)
from fedjury.protocol.record import Figures, Quality, RoundRecord


def record(number, metrics=None, agents=(), **changes):
    """Return the record of an accepted round, whose candidate these agents have measured."""
    figures = {name: Figures(10, metrics or {}) for name in agents}
    model = Quality(metrics=metrics or {})
    return RoundRecord(number, accepted=True, model=model, evaluated=figures, **changes)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("accuracy", 0.8804, "88.0%"),
        ("balanced_accuracy", 0.5, "50.0%"),
        ("rmse", 0.033123, "0.03312"),
        ("r2", 0.5, "0.5"),
        ("rmse", 12345.6, "12,346"),
        ("loss", 1.5e12, "1.5e+12"),
        ("accuracy", 88.0, "88"),
    ],
)
def test_a_measurement_is_written_as_what_it_is(name, value, said):
    """Accuracies are shares, as long as they can be; all others are numbers."""
    assert measure(name, value) == said


def test_accuracy_is_named_where_it_was_measured():
    """What was not measured is not there; where agents measured it too, the server's says so."""
    assert measures(None, {"rmse": 0.5}) == [("rmse", "0.5")]
    assert measures(None, {}) == []
    assert measures(0.0, {"rmse": 0.5}) == [("accuracy", "0.0%"), ("rmse", "0.5")]
    both = [("server_accuracy", "50.0%"), ("accuracy", "25.0%")]
    assert measures(0.5, {"accuracy": 0.25}) == both
    assert measures(0.5, {"accuracy": 0.25}, 1) == both[:1]


def test_a_metric_by_name():
    """Agents' own comes before the server's."""
    assert value_of(Quality(0.5, metrics={"rmse": 2.0}), "rmse") == 2.0
    assert value_of(Quality(0.5), "accuracy") == 0.5
    assert value_of(Quality(0.5, metrics={"accuracy": 0.25}), "accuracy") == 0.25
    assert value_of(Quality(0.5), "mae") is None


@pytest.mark.parametrize(
    ("name", "low"),
    [
        ("rmse", True),
        ("server_rmse", True),
        ("val-loss", True),
        ("accuracy", False),
        ("top5_accuracy", False),
        ("downtime", None),
        ("arms", None),
    ],
)
def test_a_name_says_what_is_good(name, low):
    """Errors are good where they are low, scores where they are high; of others nobody knows."""
    assert low_is_good(name) is low


def test_the_names_of_a_run_are_few():
    """As they first came, and no more than wanted."""
    rounds = [record(1, {"rmse": 1.0}), record(2, {"mae": 1.0, "rmse": 1.0})]
    assert named(rounds) == ("rmse", "mae")
    assert named(rounds, 1) == ("rmse",)
    assert named([record(1)]) == ()


def test_the_last_and_the_best_of_a_run():
    """Of 4, 2 and 3 the last is 3, by two agents; the best is 2 in round 2."""
    rounds = [record(1, {"rmse": 4.0}), record(2, {"rmse": 2.0}), record(3, {"rmse": 3.0}, "ab")]
    found = measured(rounds, "rmse")
    assert (found.last, found.best, found.when, found.agents) == (3.0, 2.0, 2, 2)
    assert measured(rounds, "rmse", "highest").best == 4.0
    assert measured(rounds, "mae") is None


def test_of_a_metric_that_nobody_knows_there_is_no_best():
    """Unless it is set whether the highest or the lowest is."""
    rounds = [record(1, {"downtime": 4.0}), record(2, {"downtime": 5.0})]
    assert measured(rounds, "downtime").best is None
    assert measured(rounds, "downtime", "lowest").best == 4.0


def test_agents_are_those_that_measured_the_last_accepted_model():
    """Of a rejected candidate others may have measured something: it is not the model's."""
    rejected = record(2, {"rmse": 4.0}, "abc")
    rounds = [record(1, {"rmse": 4.0}, "ab"), RoundRecord(2, accepted=False, model=rejected.model,
              evaluated=rejected.evaluated)]  # fmt: skip
    assert measured(rounds, "rmse").agents == 2


def test_names_of_one_agent_do_not_hide_those_of_all():
    """What two have measured stands before what one has made up, whoever comes first by name."""
    figures = {
        "a": Figures(10, {"made up": 1.0, "rmse": 1.0}),
        "b": Figures(30, {"rmse": 2.0}),
    }
    assert list(weighted_mean(figures, 100).items()) == [("rmse", 1.75), ("made up", 1.0)]


def backdoored(number, accuracy, backdoor, *, accepted=True, **changes):
    """Return the record of a round by accuracy and backdoor of the model after it."""
    return RoundRecord(number, accepted=accepted, model=Quality(accuracy, backdoor), **changes)


def test_the_largest_backdoor_let_in_by_hand():
    """Of accepted models' .25, .5 and .5 it is that of round 3; from round 4 on, of round 4."""
    rounds = [
        backdoored(1, 0.5, 0.75, accepted=False),  # that of the first model
        backdoored(2, 0.5, 0.25, judged=2),
        backdoored(3, 0.5, 0.5, judged=3),
        backdoored(5, 0.5, 0.5, judged=4),  # with piggy-back: of the candidate of round 4
        backdoored(6, 0.5, None, judged=5),
    ]
    assert largest_let_in(rounds) == (0.5, 3)
    assert largest_let_in(rounds, since=4) == (0.5, 4)
    assert largest_let_in(rounds, since=5) is None
    assert largest_let_in(rounds[:1]) is None


def test_the_harm_of_a_run_is_what_its_records_say():
    """Records of before they said it are added up: the same comes of both."""
    start = RoundRecord(0, model=Quality(0.75, 0.5))
    old = [
        start,
        backdoored(1, 0.5, 0.125),
        backdoored(2, 0.5, 0.125, accepted=False),
        backdoored(3, 0.625, 0.0),
    ]
    assert harm_of(old) == Harm(0.125, 0.75, 0.125)
    said = RoundRecord(4, accepted=True, model=Quality(0.5, 0.25), harm=Harm(0.25, 0.875, 0.375))
    assert harm_of([*old, said]) == said.harm
    assert harm_of([*old, said, backdoored(5, 0.75, 0.5)]) == Harm(0.5, 0.875, 0.125)
    assert harm_of([]) == harm_of([RoundRecord(1, accepted=True)]) == Harm()


def test_a_run_that_resumes_goes_on_with_its_harm():
    """As its last record says; one of before records said it is added up, and so is round 0."""
    first = RoundRecord(0, model=Quality(0.75, 0.5))
    assert with_harm(first).harm == Harm(None, 0.75, 0.0)
    old = [backdoored(1, 0.5, 0.25), backdoored(2, 0.625, 0.125)]
    assert with_harm(old[-1], old).harm == Harm(0.25, 0.625, 0.0)
    said = backdoored(3, 0.5, 0.125, harm=Harm(0.75, 0.875, 0.375))
    assert with_harm(said, [*old, said]) == said
    unmeasured = RoundRecord(1, accepted=True)
    assert with_harm(unmeasured, [unmeasured]) == unmeasured
