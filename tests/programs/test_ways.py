"""The ways in work together: which run is meant where nobody said, and what is told who waits."""

from __future__ import annotations

import json
import re
import shlex
import socket

import pytest
from support.listening import RawClient, until
from test_commands import AGGREGATOR, ROOT, SMALL, SPAWN, Started

from fedjury.agents.waiting import Waiting
from fedjury.aggregator import __main__ as aggregator
from fedjury.aggregator.durable_files import StoreError, held
from fedjury.aggregator.naming import ENDED, claimed
from fedjury.broker.local import local_broker
from fedjury.config.settings import Settings, SettingsError
from fedjury.protocol import runs
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import AggregatorPresence, Manifest, Phase, Round
from fedjury.protocol.runs import Known, listed, newest, on_message

MANIFEST = Manifest("mlp", (), 2, 2, (1,), 1, 4, 0.1, 0.0, "int8", "int8", 9, "lof", {}, 10, 11)


# ---------------------------------------------------------------- what an aggregator conducts


def folder_of(directory, name, *files):
    """Make a run's folder with these files in it."""
    (directory / name).mkdir(parents=True)
    for file in files:
        (directory / name / file).touch()


@pytest.mark.parametrize(
    ("there", "called"),
    [
        ({}, "lab"),
        ({"lab": False}, "lab"),  # it was stopped: go on
        ({"lab": True}, "lab-2"),
        ({"lab": True, "lab-2": False}, "lab-2"),
        ({"lab": True, "lab-2": True, "lab-10": True}, "lab-11"),
        ({"lab": True, "lab-x": True, "lab-02": True, "laboratory-7": True}, "lab-2"),
    ],
)
def test_an_aggregator_that_was_given_no_run_takes_the_unfinished_one_or_the_next(
    tmp_path, there, called
):
    """Runs are numbered from the second on; a folder of another name is none of them."""
    for name, over in there.items():
        folder_of(tmp_path, name, *[ENDED] * over)
    with claimed(tmp_path, "lab") as given:
        assert given == called


def test_it_refuses_beside_a_living_one_and_says_what_to_do(tmp_path):
    """Two that were given no name are not two runs by accident; once the first is gone, it goes."""
    folder_of(tmp_path, "lab", ENDED)
    with held(tmp_path / "lab-2", "lab-2"):
        refusal = r"run 'lab-2' in .* is in use by another aggregator .*; --run NAME chooses"
        with pytest.raises(StoreError, match=refusal), claimed(tmp_path, "lab"):
            pytest.fail("two aggregators hold one run")
    with claimed(tmp_path, "lab") as given:
        assert given == "lab-2"


# ---------------------------------------------------------------- which run agents join


def heard(*said):
    """Hear (topic below fl/v2/, payload) one after the other."""
    known = runs.NONE
    for topic, what in said:
        payload = what if isinstance(what, bytes) else json.dumps(what).encode()
        known = on_message(known, f"fl/v2/{topic}", payload)
    return known


def there(since, *, online=True):
    """Say what an aggregator's presence says."""
    return {"online": online, "since": since, "partition": ""}


def phase(name):
    """Say what a round says."""
    return {
        "round": 1,
        "attempt": 1,
        "phase": name,
        "version": 0,
        "contributors": "all",
        "validators": [],
        "seconds": 1.0,
    }


@pytest.mark.parametrize(
    ("said", "joined"),
    [
        ([], ""),
        ([("lab/aggregator", there(5))], "lab"),
        ([("lab/aggregator", there(5)), ("old/aggregator", there(4))], "lab"),
        # One that is gone waits for its aggregator, but before one that is there it does not come.
        ([("lab/aggregator", there(5, online=False))], "lab"),
        ([("lab/aggregator", there(5, online=False)), ("old/aggregator", there(4))], "old"),
        # What is over is joined by nobody, until its aggregator begins again and empties "round".
        ([("lab/aggregator", there(5)), ("lab/round", phase("done"))], ""),
        ([("lab/round", phase("done")), ("lab/aggregator", there(5)), ("lab/round", b"")], "lab"),
        ([("lab/aggregator", there(5)), ("lab/round", phase("train"))], "lab"),
        ([("lab/aggregator", there(5)), ("lab/aggregator", b"")], ""),  # it was forgotten
    ],
)
def test_who_was_given_no_run_joins_the_newest_that_is_not_over(said, joined):
    """The latest beginning counts, of those whose aggregator is there first."""
    assert newest(heard(*said)) == joined


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b'{"online": true}',
    there("now"),
    there(-1e400),
    {"online": 1, "since": 1, "partition": ""},
    {"online": True, "since": 1, "partition": "\x1b[2J"},
    {"online": True, "partition": "", "more": 1},
    b" " * 2000,
]


@pytest.mark.parametrize("payload", HOSTILE)
def test_what_is_no_presence_of_an_aggregator_names_no_run(payload):
    """Whatever a stranger retains there, it is ignored, and the run that is there stays."""
    ours = ("lab/aggregator", there(5))
    payload = (
        json.dumps(payload).replace("-Infinity", "-1e999").encode()
        if isinstance(payload, dict)
        else payload
    )
    known = heard(ours, ("evil/aggregator", payload), ("a/b/aggregator", payload))
    assert newest(known) == "lab"
    assert listed(known) == "lab (at work)"


def test_no_more_than_a_thousand_runs_are_remembered():
    """Somebody who invents runs costs a bounded amount of memory."""
    known = heard(*((f"r{i}/aggregator", there(i)) for i in range(runs.MOST + 5)))
    assert len(known) == runs.MOST
    assert listed(known).count("(at work)") == runs.LISTED
    assert listed(known).endswith(f", {runs.MOST - runs.LISTED} more")


def test_runs_are_listed_with_how_they_are():
    """Newest first: who waits sees what else could be joined."""
    known = {"a": Known(1.0, online=True), "b": Known(3.0), "c": Known(2.0, over=True)}
    assert listed(known) == "b (its aggregator is gone), c (over), a (at work)"


# ---------------------------------------------------------------- what is told who waits


def waiting(elsewhere=""):
    """Make what a fleet of run lab has at second 0."""
    return Waiting("lab", "run 'lab' at H:1883", lambda: elsewhere, 0.0)


def test_an_aggregator_that_is_there_is_not_said_to_be_gone():
    """Between two rounds an hour apart the agents say what they wait for, and what if it goes."""
    told = waiting()
    told.on_message(AggregatorPresence(online=True, since=0.0), 0.0)
    told.on_message(a_round(seconds=60.0), 1.0)
    assert told.due(80.0) == ""
    assert "waiting for the next round of run 'lab' at H:1883: its aggregator is there" in told.due(
        95
    )
    assert told.due(1000.0) == ""
    told.on_message(AggregatorPresence(online=False, since=0.0), 1001.0)
    assert "goes on if it is gone" in told.due(1002.0)


def a_round(phase=Phase.TRAIN, seconds=60.0):
    return Round(1, 1, phase, 0, "all", (), seconds)


def told(following, seconds):
    """Look each second until then; returns what was told, with its second."""
    looked = ((second, following.due(second)) for second in range(seconds + 1))
    return [(second, text) for second, text in looked if text]


def test_without_an_aggregator_it_is_said_which_is_missing_and_which_runs_are_there():
    """After three seconds, once, with the command that begins the run."""
    [(second, text)] = told(waiting("b (at work)"), 600)
    assert second == 3
    assert text == (
        "waiting for an aggregator: none has started run 'lab' at H:1883 yet; 'python -m "
        "aggregator "
        "--run lab' does, and --run NAME joins another run; existing runs: b (at work)"
    )


def test_a_run_that_opens_no_round_is_said_to():
    """Agents who come later than collect.patience hear the manifest of one who is gone."""
    late = waiting("lab (its aggregator is gone)")
    late.on_message(MANIFEST, 1.0)
    [(second, text)] = told(late, 600)
    assert second == 16
    assert text.startswith("waiting for a round: run 'lab' at H:1883 has begun, but ")
    assert text.endswith("; existing runs: lab (its aggregator is gone)")


def test_who_comes_to_a_run_that_is_over_is_told_at_once():
    """It says how the run goes on, and how to join another."""
    late = waiting()
    late.on_message(MANIFEST, 1.0)
    late.on_message(a_round(Phase.DONE), 1.0)
    assert late.due(1.0) == (
        "waiting: run 'lab' at H:1883 is over; 'python -m aggregator --run lab' goes on with it if "
        "it is given more --rounds, and --run NAME joins another run"
    )
    assert late.due(1000.0) == ""


def test_an_aggregator_that_falls_silent_is_missed_once_its_round_is_overdue():
    """After the round's own minute and half a minute more; again after it has been heard again."""
    there = waiting()
    there.on_message(a_round(seconds=60.0), 10.0)
    assert [second for second, _ in told(there, 300)] == [100]
    there.on_message(a_round(seconds=60.0), 300.0)
    assert [second for second, _ in told(there, 600)] == [390]


def test_while_the_broker_is_gone_nobody_else_is_missed():
    """That the broker is gone has been told; the aggregator may be all right."""
    there = waiting()
    for second in range(100):
        there.unheard(second)
    assert [second for second, _ in told(there, 300)] == [102]


# ---------------------------------------------------------------- the programs together


def test_started_in_any_order_and_without_a_name_they_find_each_other(tmp_path):
    """Agents, then an aggregator, then the broker that they asked for, by the printed command.

    A second aggregator begins the second run, though the first run is retained; agents that come
    then, or wait, join it. What is explicitly named and over is refused.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    where = ["--broker", f"127.0.0.1:{port}", *SMALL]
    fleet = [*SPAWN, *where, "--n", "4", "--evil", "0", "--processes", "1"]
    serve = [
        *AGGREGATOR,
        *where,
        "--model",
        "mlp",
        "--agents",
        "4",
        "--rounds",
        "1",
        "--no-report",
        "--runs",
        str(tmp_path),
    ]
    name = Settings().run.name
    with Started(fleet, ROOT, tmp_path / "agents") as agents:
        agents.says("waiting until one does")
        advice = re.search(r"start one with '(fedjury .*?)'", agents.log.read_text())[1]
        with (
            Started(serve, ROOT, tmp_path / "serve") as first,
            Started(["-m", *shlex.split(advice), "--kind", "embedded"], ROOT, tmp_path / "broker"),
        ):
            assert first.child.wait(90) == 0
            listen = f"mosquitto_sub -p {port} -v -t 'fl/v2/{name}/log/#' -t 'fl/v2/{name}/vote/+'"
            assert f"to watch: {listen}\n" in (tmp_path / "serve").read_text()
            assert agents.child.wait(30) == 0
            assert "is over" not in agents.log.read_text()  # it was there until the end
            assert f"join run {name!r} at 127.0.0.1:{port}" in agents.log.read_text()
            assert (tmp_path / name / ENDED).exists()
            with (
                Started(fleet, ROOT, tmp_path / "later") as later,
                RawClient(BrokerAddress("127.0.0.1", port), "fl/v2/+/aggregator") as people,
            ):
                later.says(f"what is there is finished: {name} (over)")
                with Started(serve, ROOT, tmp_path / "second") as second:
                    second.says(f"run {name!r} is over; this is '{name}-2'")
                    until(lambda: people.payloads(f"{name}-2/aggregator"))
                    assert second.child.wait(90) == 0
                assert later.child.wait(30) == 0
                assert f"join run '{name}-2'" in later.log.read_text()
                last = json.loads(people.payloads(f"{name}-2/aggregator")[-1])
                assert last["online"] is False
    with pytest.raises(SettingsError, match=f"^run {name!r} has its 1 rounds already"):
        aggregator.main([*serve[len(AGGREGATOR) :], "--run", name])


def test_looking_around_tells_of_all_runs(broker):
    """From what is retained alone, on a broker of either kind."""
    with RawClient(broker) as aggregator:
        for run, since in (("old", 1.0), ("new", 2.0)):
            payload = json.dumps(there(since)).encode()
            aggregator.publish(f"fl/v2/{run}/aggregator", payload, retain=True)
        done = json.dumps(phase("done")).encode()
        aggregator.publish("fl/v2/old/round", done, retain=True)
        address = BrokerAddress(broker.host, broker.port)
        assert runs.around(address, "") == {
            "old": Known(1.0, online=True, over=True),
            "new": Known(2.0, online=True),
        }
        assert runs.await_newest(address, "", print) == "new"


def test_where_nobody_answers_looking_around_finds_nothing():
    """Who waits is told without it: no error, and no list."""
    with local_broker("embedded", say=lambda _: None) as address:
        gone = BrokerAddress(address.host, address.port)
    assert runs.around(gone, "") == {}
