"""What a run says of itself at its end: each sentence from records by hand."""

from __future__ import annotations

import pytest
from support.records import read_all

from fedjury.config.settings import load
from fedjury.reports import conclusion
from fedjury.reports.jury import blind

DEFENDED = load()
BARE = load(
    overrides={"aggregation.rule": "mean", "validation.validators": 0, "detection.detectors": []}
)
VOTES = {"votes": {"poisoned": 1, "clean": 39, "silent": 0}, "quorum": 20, "voter_samples": 40}


def record(number, accuracy=0.8, **changes):
    return {"round": number, "accepted": True, "why": "", "accuracy": accuracy} | changes


def told(*records, settings=DEFENDED):
    return conclusion(read_all(records), settings, classes=10)


def looked(number, flagged=(), out=(), **changes):
    by = dict.fromkeys(flagged, "fixed_point")
    return record(number, flagged=by, quarantined=list(out), **changes)


def test_who_attacked_how_many_they_were_and_what_stopped_them():
    """Two agents are flagged in rounds 1 and 2, and no longer selected from then on."""
    fakes = ["agent-3", "agent-7"]
    lines = told(looked(1, fakes), looked(2, fakes, fakes), looked(3, out=fakes, **VOTES))
    assert lines == [
        (
            "attacked from round 1 on: 2 agents pulled the model towards one fixed point (found by "
            "fixed_point); their updates were filtered and they are no longer selected"
        ),
        "validators rejected 0 of 1 candidates",
    ]


def test_who_is_cleared_did_not_attack():
    """One suspicion in three rounds that was not repeated is no attack, but it is told."""
    assert told(looked(1, ["agent-3"]), looked(2), looked(3)) == [
        (
            "no agent is flagged by fixed_point, length; 1 were flagged for a while and "
            "cleared; other kinds of attack are not ruled out"
        )
    ]


def test_what_validators_voted_down_and_what_they_did_not_vote_on():
    """Of three candidates one has a quorum against it and one has too few votes."""
    down = record(2, accepted=False, why="voted down", **VOTES)
    few = record(3, accepted=False, why="too few votes: 1 of 40 came, 21 are needed", **VOTES)
    assert told(record(1, **VOTES), down, few) == [
        "validators rejected 1 of 3 candidates (round 2); too few of them voted on 1 (round 3)"
    ]


def test_an_undefended_run_that_falls_says_so_and_why():
    """From 73.6 % to 10.0 %, which is chance with ten classes; nothing stood in the way."""
    why = "0 of 9 selected agents sent a valid update, 1 needed; invalid: 9 not finite"
    lost = [record(n, 0.1, accepted=False, why=why) for n in (3, 4)]
    assert told(record(1, 0.736), record(2, 0.1), *lost, settings=BARE) == [
        f"2 rounds changed nothing: {why}",
        (
            "accuracy fell from 73.6% in round 1 to 10.0%, no better than chance with 10 classes: "
            "this run has no defence (plain mean, no validators, no detection); if "
            "there is no attack, smaller steps may help (--set aggregation.server_lr=1, "
            "training.learning_rate)"
        ),
    ]


def test_a_run_that_never_learnt_says_that_it_is_at_chance():
    """It did not fall, and still nobody should take 10 % for a result."""
    (line,) = told(record(1, 0.1), record(2, 0.1), settings=BARE)
    assert line.startswith("accuracy is 10.0%, no better than chance with 10 classes: ")


def test_a_backdoor_stands_beside_accuracy():
    """Of rounds by hand: the largest that was accepted, not the rejected one of round 3."""
    rounds = [
        record(1, 0.7, backdoor=0.02),
        record(2, 0.75, backdoor=0.25),
        record(3, 0.75, accepted=False, why="voted down", backdoor=0.25, candidate_backdoor=0.9),
        record(4, 0.746, backdoor=0.125),
    ]
    line = "largest backdoor let in: 25.0% (round 2), 12.5% at the end; accuracy lost: 0.4 points"
    assert line in told(*rounds)
    assert "largest backdoor let in: 0.0%; accuracy lost: 0.0 points" in told(
        record(1, backdoor=0.0)
    )
    assert told(*(one | {"accuracy": None} for one in rounds[:2])) == [
        "largest backdoor let in: 25.0% (round 2), 25.0% at the end"
    ]


def test_where_nothing_was_accepted_no_backdoor_was_let_in():
    """The first model answers to the backdoor on 30 % by chance; nobody has let that in."""
    lost = record(1, accepted=False, why="voted down", backdoor=0.3)
    line = "largest backdoor let in: none, for no model was accepted"
    assert line in [one.split(";")[0] for one in told(lost)]


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, "; caught: 1 of 2 attacked rounds"),
        ({"agents.malicious": 0.0}, "points"),
        ({"backdoor.inject": []}, "points"),
        ({"backdoor.inject": [9]}, "points"),
    ],
)
def test_where_the_attacks_are_known_it_is_said_how_many_were_caught(changes, end):
    """Rounds 2 and 3 are attacked, and the candidate of round 2 is rejected."""
    attack = {"agents.attack": "backdoor", "agents.malicious": 0.1, "backdoor.inject": [2, 3]}
    rounds = [record(n, backdoor=0.1, **VOTES) for n in (1, 2, 3)]
    rounds[1] |= {"accepted": False, "why": "voted down"}
    lines = told(*rounds, settings=load(overrides=attack | changes))
    (line,) = [one for one in lines if one.startswith("largest")]
    assert line.endswith(end)


@pytest.mark.parametrize(("samples", "holders"), [(4, 14), (5, 16), (6, 19)])
def test_validators_with_few_samples_cannot_see_a_backdoor(samples, holders):
    """40 (1 - .9^4) = 13.8 hold any of a given class, and twenty would have to say so."""
    assert f"about {holders} of 40 hold any of that class" in blind(samples, 10, 40, 20)


def test_validators_with_enough_samples_can():
    """40 (1 - .9^7) = 20.9 of forty hold one, and of ten classes forty samples miss hardly any."""
    assert blind(7, 10, 40, 20) == blind(40, 10, 40, 20) == ""
    few = {**VOTES, "voter_samples": 4}
    assert told(record(1, **few))[-1].startswith("validators cannot see a backdoor in one class")


def test_a_run_says_what_was_measured_at_last_and_at_best():
    """Nobody knows the accuracy; two agents measured the last model, and round 2 had the best."""
    values = [0.5, 0.031, 0.033]
    by = {
        "evaluated": {name: {"samples": 5, "metrics": {"rmse": 0.033}} for name in ("ann", "bob")}
    }
    rounds = [record(n, None, metrics={"rmse": v}, **by) for n, v in enumerate(values, 1)]
    lines = told(*rounds, settings=load(overrides={"detection.detectors": []}))
    assert lines == ["rmse 0.033, by 2 agents; best 0.031 in round 2"]


def test_a_metric_of_ones_own_has_a_best_where_that_is_set():
    """Its name does not say what is good; the setting does."""
    rounds = [record(n, None, metrics={"downtime": v}) for n, v in ((1, 4.0), (2, 5.0))]
    bare = {"detection.detectors": []}
    assert told(*rounds, settings=load(overrides=bare)) == ["downtime 5"]
    chosen = bare | {"evaluation.best": "downtime", "evaluation.best_is": "lowest"}
    assert told(*rounds, settings=load(overrides=chosen)) == ["downtime 5; best 4 in round 1"]


def test_the_best_accuracy_is_said_where_it_is_not_the_last():
    """A point more than at the end is no fall, but worth knowing."""
    plain = load(overrides={"detection.detectors": []})
    lines = told(record(1, 0.81), record(2, 0.80), settings=plain)
    assert lines == ["accuracy 80.0%; best 81.0% in round 1"]
    assert told(record(1, 0.80), record(2, 0.80), settings=plain) == []
