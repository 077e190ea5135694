"""What the aggregator's terminal tells people."""

from __future__ import annotations

import pytest

from fedjury.aggregator.console import listening
from fedjury.config.settings import load


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
