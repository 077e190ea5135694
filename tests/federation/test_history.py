"""What the aggregator retains of the rounds so far, for people who begin to watch in mid-run."""

from __future__ import annotations

import json

from support.federation import Federation

from fedjury.aggregator.history import History
from fedjury.protocol.logs import COLUMNS, KEPT, log_to_json
from fedjury.protocol.record import Quality, RoundRecord, Timing, Traffic, Votes


def test_a_round_in_short_by_hand():
    """A row has the columns in order, votes among them, and null for what a record lacks."""
    series = History()
    series.add(
        RoundRecord(
            7,
            attempt=2,
            accepted=False,
            why="voted down",
            selected=20,
            updates=19,
            model=Quality(0.5),
            candidate=Quality(0.1),
            votes=Votes(6, 3, 1),
            traffic=Traffic({"duplicate": 2, "malformed": 1}, 4000, 300),
            timing=Timing(1.5, 12.5),
        )
    )
    series.add(RoundRecord(8, accepted=True, traffic=Traffic({"duplicate": 1})))
    said = log_to_json(series.message().record)
    there = [name for name in COLUMNS if name not in ("metrics", "group_counts")]
    assert said["columns"] == there
    assert said["rows"] == [
        [7, 2, False, "voted down", 0.5, 0.1, None, 6, 3, 1, 20, 19, 12.5, 4000, 300],
        [8, 1, True, "", *[None] * 6, 0, 0, *[None] * 3],
    ]
    assert said["invalid_messages"] == {"duplicate": 3, "malformed": 1}


def test_it_stays_short():
    """Of a long run the latest rounds are kept, and every refusal counted."""
    refused = Traffic({"duplicate": 1})
    series = History(RoundRecord(n, traffic=refused) for n in range(1, KEPT + 501))
    said = log_to_json(series.message().record)
    assert [row[0] for row in said["rows"]] == list(range(501, KEPT + 501))
    assert said["invalid_messages"] == {"duplicate": KEPT + 500}
    assert len(json.dumps(said)) < 100_000


def retained(lab):
    """Return what the broker of a federation retains of the rounds so far."""
    topic = f"fl/v2/{lab.settings.run.name}/log/history"
    return json.loads(lab.broker.retained[topic])


def test_it_is_retained_with_the_last_round_and_survives_a_restart(tmp_path):
    """After a run the broker holds all of its rounds, those before a restart among them."""
    first = Federation(tmp_path, run__rounds=2).whole()
    assert [row[0] for row in retained(first)["rows"]] == [1, 2]
    again = Federation(tmp_path, run__rounds=4).whole()
    columns, lines = retained(again)["columns"], retained(again)["rows"]
    rows = [dict(zip(columns, row, strict=True)) for row in lines]
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    for row, record in zip(rows, again.records, strict=True):
        assert (row["accuracy"], row["accepted"]) == (record.model.accuracy, record.accepted)


def test_a_run_that_goes_on_is_not_said_to_be_over(tmp_path):
    """Between a resumed run's start and its next round nothing says that it is done."""
    first = Federation(tmp_path, run__rounds=2).whole()
    topic = f"fl/v2/{first.settings.run.name}/round"
    assert json.loads(first.broker.retained[topic])["phase"] == "done"
    again = Federation(tmp_path, run__rounds=3)
    again.broker.retained[topic] = first.broker.retained[topic]
    again.begin()
    assert topic not in again.broker.retained
    again.run()
    assert json.loads(again.broker.retained[topic])["phase"] == "done"
