"""What the aggregator's terminal tells people."""

from __future__ import annotations

import pytest

from fedjury.aggregator.console import listening, round_line
from fedjury.config.settings import load
from fedjury.protocol.record import RoundRecord


@pytest.mark.parametrize(
    ("on", "topics"),
    [
        ("candidate", ["log/#", "vote/+"]),
        ("groups", ["log/#", "group-vote/+"]),
        ("both", ["log/#", "vote/+", "group-vote/+"]),
    ],
)
def test_people_are_told_where_votes_of_their_run_are(on, topics):
    """The command hears the log and the votes that there are, on a candidate or on groups."""
    settings = load(overrides={"validation.on": on, "groups.size": 2 if on != "candidate" else 1})
    told = listening(settings.broker, "lab", settings.validation.on)
    heard = " ".join(f"-t 'fl/v2/lab/{topic}'" for topic in topics)
    assert told == f"to watch: mosquitto_sub -p 1883 -v {heard}"


@pytest.mark.parametrize(
    ("absent", "cells", "told"),
    [
        (("ann", "bob"), {}, "2 missing (ann, bob)"),
        (("ann", "bob"), {"1": 1, "3": 1}, "2 missing (ann, bob; cell 1: 1, cell 3: 1)"),
        ((), {"3": 2}, "2 missing (cell 3: 2)"),
        ((), {}, "2 missing"),
    ],
)
def test_who_is_missing_is_told_with_their_cells(absent, cells, told):
    """Some names, and where agents are in cells how many of each."""
    record = RoundRecord(3, missing=2, absent=absent, cells=cells)
    assert round_line(record, 9).plain.endswith(f"  {told}")
