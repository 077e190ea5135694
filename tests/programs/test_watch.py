"""Watching in the terminal: what is known of runs, what is said of it, and the real command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import termios
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support import warm
from support.listening import RawClient, until
from support.network import ENVIRONMENT, KIND, ROOT, ROUNDS, ended, federation
from support.network import RUN as NET
from support.watching import (
    BAD_PAYLOADS,
    BAD_TEXT,
    BAD_VALUES,
    HARMLESS,
    MANIFEST,
    RUN,
    WHERE,
    after,
    opened,
    past_of,
    record,
    say,
    sight_of,
    topic,
)

from fedjury.broker import enrol
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.config.settings import Settings
from fedjury.monitor import logins, rows, run_view, sanitize
from fedjury.monitor.listener import Explained, Listener
from fedjury.monitor.logins import Several
from fedjury.monitor.rows import heard_in_full
from fedjury.monitor.runs import Run, Snapshot, State
from fedjury.monitor.terminal import __main__ as watch
from fedjury.monitor.terminal import braille_plot, dashboard, formatting, text_log
from fedjury.monitor.terminal.dashboard import Frame
from fedjury.monitor.terminal.text_log import TextLog
from fedjury.processes import free_port
from fedjury.protocol import topics
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.fields import OTHER
from fedjury.protocol.logs import RunHistory, log_to_json
from fedjury.protocol.messages import Reason
from fedjury.protocol.record import RoundRecord, Votes, read
from fedjury.protocol.transport.connection import TransportError

# ---------------------------------------------------------------- rounds


def test_a_run_is_what_its_topics_say():
    """Manifest, round and records are all there is, and they are read as they were meant."""
    run = after(
        say("manifest", MANIFEST),
        say(
            "log/round",
            {"round": 0, "version": 0, "accepted": None, "accuracy": 0.1, "backdoor": None},
        ),
        say("log/round", record(1)),
        say("log/round", record(2, accepted=False, why="voted down", version=1)),
        say("round", opened(3, "validate", contributors=["a", "b"], validators=["c"])),
    )
    assert (run.model, run.parameters) == ("mlp", 2410)
    assert (run.phase, run.round, run.selected, run.validators) == ("validate", 3, 2, 1)
    assert run.start.model.accuracy == 0.1
    assert [row.round for row in run.rows] == [1, 2]
    assert run.last == read(record(2, accepted=False, why="voted down", version=1)).short()
    assert (run.last.verdict, run.last.votes.asked) == ("rejected", 5)
    tally = run.tally
    assert (tally.accepted, tally.rejected, tally.pending) == (1, 1, 0)
    assert (tally.poisoned, tally.clean, tally.silent) == (2, 6, 2)
    assert (tally.updates, tally.bytes_in, tally.bytes_out) == (20, 2000, 200)
    assert not run.over


def test_a_round_that_decides_nothing_is_pending():
    """With piggy-back the first round has no verdict, and the next one's is of the round before."""
    run = after(
        say("log/round", record(1, accepted=None, votes={}, judged=None)),
        say("log/round", record(2, accepted=False, judged=1, why="voted down")),
    )
    assert [row.verdict for row in run.rows] == ["pending", "rejected"]
    assert "rejected (of round 1)" in formatting.line(run.last)
    assert run.tally.pending == 1


@pytest.mark.parametrize("first", ["past", "record"])
def test_who_comes_late_fills_in_what_was(first):
    """The past and the last record make the whole run, in whichever order they come."""
    records = [record(number) for number in range(1, 31)]
    messages = [say("log/history", past_of(records)), say("log/round", records[-1])]
    run = after(*(messages if first == "past" else messages[::-1]))
    assert [row.round for row in run.rows] == list(range(1, 31))
    assert heard_in_full(run.last)
    assert not heard_in_full(run.rows[0])
    assert run.rows[0].model.accuracy == records[0]["accuracy"]
    assert run.tally.updates == 300
    assert run.tally.bytes_in == 1000  # only the last record says it
    assert run.generation == 0


def test_an_outage_is_filled_in():
    """Rounds that passed while the broker was gone come from the past; the others stay whole."""
    records = [record(number) for number in range(1, 11)]
    run = after(
        *(say("log/round", records[n]) for n in (0, 1, 2, 9)), say("log/history", past_of(records))
    )
    assert [row.round for row in run.rows] == list(range(1, 11))
    assert [row.round for row in run.rows if heard_in_full(row)] == [1, 2, 3, 10]


def test_the_past_is_right_where_it_differs():
    """Rounds of an earlier run of the name, which ended unheard, do not stay among the new ones."""
    old = [say("log/round", record(n, accuracy=0.9)) for n in range(1, 8)]
    new = [record(n) for n in range(1, 4)]
    run = after(*old, say("log/round", new[-1]), say("log/history", past_of(new)))
    assert [row.model.accuracy for row in run.rows] == [r["accuracy"] for r in new]


def test_a_run_that_begins_anew_forgets():
    """A record of round 0 after others means another run; who is online stays."""
    run = after(
        say("log/round", record(1, invalid_messages={"duplicate": 3})),
        say("agent/a", {"online": True, "since": 1.0}),
        say("log/round", {"round": 0, "accuracy": 0.2}),
    )
    assert run.rows == ()
    assert run.generation == 1
    assert run.refused == {}
    assert run.online == {"a"}
    assert after(say("log/round", {"round": 0}), say("log/round", {"round": 0})).generation == 0


def test_a_run_that_lost_rounds_goes_back():
    """An aggregator that resumes after round 2 has forgotten 3 and 4; the same again does not."""
    records = [say("log/round", record(n)) for n in range(1, 5)]
    assert [row.round for row in after(*records, records[1]).rows] == [1, 2]
    assert len(after(*records, records[3]).rows) == 4


def test_only_the_last_thousand_rounds_are_kept():
    """Of older rounds there is what they add up to, and the past does not bring them back."""
    state = State()
    records = [record(n, invalid_messages={"duplicate": 1}) for n in range(1, 1301)]
    for number in range(0, 1300, 100):
        batch = [say("log/round", said) for said in records[number : number + 100]]
        state = run_view.on_messages(state, batch, 1.0)
    run = state.runs[RUN]
    assert [run.rows[0].round, len(run.rows)] == [301, run_view.ROUNDS]
    assert run.tally.updates == 13_000
    assert run.refused == {"duplicate": 1300}
    run = after(say("log/history", past_of(records)), state=state)
    assert [run.rows[0].round, len(run.rows)] == [301, run_view.ROUNDS]
    assert run.tally.updates == 13_000
    assert run.refused == {"duplicate": 1300}


def test_refusals_are_counted_once():
    """The past, records after it, and the round that is open add up; none is counted twice."""
    records = [record(n, invalid_messages={"duplicate": 1}) for n in range(1, 4)]
    said = [say("log/round", r) for r in records]
    past = say("log/history", past_of(records[:2], {"duplicate": 7, "malformed": 1}))
    still = say(
        "log/invalid",
        {
            "round": 4,
            "invalid_messages": {"wrong_round": 2},
            "latest": {"agent": "a", "reason": "wrong_round"},
        },
    )
    ended_ = say("log/invalid", {"round": 3, "invalid_messages": {"duplicate": 1}, "latest": {}})
    assert after(*said).refused == {"duplicate": 3}
    assert after(*said, past).refused == {"duplicate": 8, "malformed": 1}
    assert after(*said, past, ended_).refused == {"duplicate": 8, "malformed": 1}
    run = after(*said, past, still)
    assert run.refused == {"duplicate": 8, "malformed": 1, "wrong_round": 2}
    assert run.latest == ("a", "wrong_round")


def test_a_round_is_tried_again():
    """It is told once, and that a retained message comes again is no other time."""
    again = say("log/round", {"round": 2, "attempt": 2, "repeated": "3 came in time"})
    run = after(say("log/round", record(1)), again, again)
    assert run.repeats == (run_view.Repeat(2, 2, "3 came in time"),)
    assert run.repeated == 1
    assert len(run.rows) == 1
    many = [say("log/round", {"round": 2, "attempt": n, "repeated": "x"}) for n in range(1000)]
    assert len(after(*many).repeats) == run_view.REPEATS


def test_detectors_tell_whom_they_suspect():
    """The most suspected are named, the others counted by detector; who is no agent is nobody."""
    suspicion = {f"a{n}": n / 100 for n in range(100)} | {"no name": 1.0, "b": 7}
    run = after(
        say(
            "log/round",
            record(
                1,
                suspicion=suspicion,
                flagged={"a99": "burst", "a98": "burst", "a97": "dissent"},
                quarantined=["a99", "a98", "not a name"],
                permanent=["a99"],
                filtered=2,
            ),
        )
    )
    seen = run.suspects
    assert seen.most[:2] == (("a99", 0.99), ("a98", 0.98))
    assert seen.detectors == {"burst": 2, "dissent": 1}
    assert (seen.flagged, seen.quarantined, seen.permanent, seen.filtered) == (3, 2, 1, 2)
    run = after(say("log/round", record(2, suspicion={}, flagged={})), state=State({RUN: run}))
    assert run.suspects.detectors == {"burst": 0, "dissent": 0}
    assert after(say("log/round", record(3))).suspects is None


def test_a_run_is_over():
    """Once its phase is done, or it was removed from the broker; it may go on again."""
    assert after(say("round", opened(3, "done"))).over
    run = after(say("log/round", record(1)), say("manifest", b""))
    assert run.removed
    assert run.over
    assert not after(say("round", opened(2, "done")), say("round", b"")).over  # it goes on
    assert not after(say("manifest", b""), say("round", opened(2))).over


# ---------------------------------------------------------------- presence, and bounds


def presence(online, since=1.0):
    return {"online": online, "since": since}


def test_who_is_online_is_counted():
    """Last wills and emptied topics take one off; after a reconnect all say it again."""
    state = State()
    for part, said in (
        ("round", opened(1)),
        ("agent/a", presence(True)),
        ("agent/b", presence(True)),
        ("agent/c", presence(True)),
        ("agent/b", presence(False)),
        ("agent/c", b""),
    ):
        state = run_view.on_message(state, *say(part, said), 1.0)
    assert state.runs[RUN].online == {"a"}
    assert run_view.reconnected(state).runs[RUN].online == frozenset()


def test_many_messages_are_heard_as_each_alone():
    """Taken in together or one by one, messages leave the same state."""
    messages = [
        say("round", opened(1)),
        *(say(f"agent/a{n}", presence(n % 3 > 0)) for n in range(50)),
        say("log/round", record(1)),
        say("agent/a1", presence(False)),
        say("agent/x y", b"{}"),
    ]
    one = State()
    for message in messages:
        one = run_view.on_message(one, *message, 1.0)
    assert run_view.on_messages(State(), messages, 1.0) == one
    assert one.malformed == 1


def test_names_without_end_are_not_kept():
    """Neither agents nor runs nor suspects beyond what is allowed for are remembered."""
    online = json.dumps(presence(True)).encode()
    crowd = ((f"fl/v2/{RUN}/agent/a{n}", online) for n in range(200_000))
    state = run_view.on_messages(
        run_view.on_message(State(), *say("round", opened(1)), 1.0), crowd, 1.0
    )
    assert len(state.runs[RUN].online) == run_view.AGENTS
    manifest = json.dumps(MANIFEST).encode()
    runs = ((f"fl/v2/r{n}/manifest", manifest) for n in range(10_000))
    state = run_view.on_messages(state, runs, 1.0)
    assert len(state.runs) == run_view.RUNS
    assert RUN in state.runs
    assert state.turned_away == 10_000 - run_view.RUNS + 1
    names = [f"a{n}" for n in range(1_000_000)]
    said = record(1, suspicion=dict.fromkeys(names, 1.0), quarantined=names)
    assert state.runs[RUN] == replace(after(say("log/round", said), state=state), heard=1.0)
    names = names[:50_000]
    flagged = {name: f"detector-{name}" for name in names}
    run = after(say("log/round", record(1, flagged=flagged, quarantined=names)))
    assert (run.suspects.quarantined, len(run.suspects.named)) == (50_000, rows.SHOWN)
    assert len(run.suspects.detectors) <= rows.DETECTORS
    assert run.suspects.flagged == 50_000


def test_presence_alone_makes_no_run():
    """Agents can name any run, so only what an aggregator says counts as one."""
    assert not run_view.on_message(State(), *say("agent/a", presence(True)), 1.0).runs


def test_a_silent_run_gives_way():
    """A new run takes the place of the one that was silent for longest, of one over sooner."""
    state = State()
    for number in range(run_view.RUNS):
        phase = "done" if number == 7 else "train"
        state = run_view.on_message(
            state, *say("round", opened(1, phase), f"r{number}"), float(number)
        )
    fresh = say("round", opened(1), "fresh")
    assert "fresh" not in run_view.on_message(state, *fresh, 50.0).runs
    later = run_view.on_message(state, *fresh, 7.0 + run_view.OVER_FOR + 1)
    assert later.runs.keys() - state.runs.keys() == {"fresh"}
    assert state.runs.keys() - later.runs.keys() == {"r7"}
    much_later = run_view.on_message(later, *say("round", opened(1), "next"), 1e6)
    assert later.runs.keys() - much_later.runs.keys() == {"r0"}


# ---------------------------------------------------------------- hostile messages


WIDE = Frame(100, 40)
USUAL = Frame(100, 30)


def shown(state, frame=WIDE):
    """Return all that would reach a terminal, of all runs."""
    sight = sight_of(state)
    text = []
    for run in state.runs.values():
        text += text_log.news(TextLog(), sight, run, WHERE)[1]
        text += [
            rendered(dashboard.dashboard(sight, run, WHERE, frame), frame),
            formatting.closing(run),
        ]
    return "\n".join(text)


def rendered(group, frame=USUAL, **options):
    """Draw on a console of fixed size; returns what it wrote."""
    console = Console(width=frame.width, height=frame.height, highlight=False, **options)
    with console.capture() as captured:
        console.print(group)
    return captured.get()


@pytest.mark.parametrize(
    "part", ["manifest", "round", "log/round", "log/invalid", "log/history", "agent/a"]
)
def test_payloads_that_are_none_change_nothing_worth_speaking_of(part):
    """Whatever comes on a topic, what was known stays, and a terminal is safe."""
    state = run_view.on_message(State(), *say("log/round", record(1)), 1.0)
    for payload in BAD_PAYLOADS:
        state = run_view.on_message(state, topic(part), payload, 1.0)
    assert state.runs[RUN].rows[0].model.accuracy == record(1)["accuracy"]
    assert state.malformed > 0
    assert all(HARMLESS.fullmatch(line) for line in shown(state).splitlines())


def test_topics_that_are_none_are_odd():
    """Topics outside the protocol, and those people cannot read anyway, are counted and no more."""
    for odd in (
        "",
        "/",
        "fl/v2",
        "fl/v2/x/y/z",
        "fl/v2/a b/round",
        "fl/v2/lab/round",
        topic("model"),
        topic("update/a"),
        topic("log/other"),
    ):
        state = run_view.on_message(State(), odd, b"{}", 1.0)
        assert (state.runs, state.malformed) == ({}, 1)


@pytest.mark.parametrize(
    "key", [*record(1), "suspicion", "flagged", "quarantined", "permanent", "filtered", "repeated"]
)
def test_values_that_are_none_are_left_out(key):
    """A record with anything in the place of a value is read without it, and never believed."""
    for value in BAD_VALUES:
        said = json.dumps(record(2) | {key: value}).encode()
        state = run_view.on_message(State(), *say("log/round", record(1)), 1.0)
        state = run_view.on_message(state, topic("log/round"), said, 1.0)
        text = shown(state)
        assert all(HARMLESS.fullmatch(line) for line in text.splitlines())
        assert max(map(len, text.splitlines())) < 1000
        run = state.runs[RUN]
        assert all(0 <= (row.model.accuracy or 0) <= 1 for row in run.rows)
        assert all(type(row.updates) is int for row in run.rows)


@pytest.mark.parametrize("key", ["columns", "rows", "invalid_messages"])
def test_a_past_that_is_none_is_none(key):
    """The same goes for the past as a whole, and for each value in its rows."""
    for value in BAD_VALUES:
        state = run_view.on_message(State(), *say("log/round", record(1)), 1.0)
        said = past_of([record(1), record(2)])
        state = run_view.on_message(
            state, topic("log/history"), json.dumps(said | {key: value}).encode(), 1
        )
        rows = [[value] * 11, [2, *[value] * 10], [3, value]]
        state = run_view.on_message(
            state, topic("log/history"), json.dumps(said | {"rows": rows}).encode(), 1.0
        )
        assert all(HARMLESS.fullmatch(line) for line in shown(state).splitlines())
        assert state.runs[RUN].rows


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(sorted({*record(1), *past_of([]), "latest", "suspicion", "flagged"}))
            | st.text(max_size=5),
            inner,
            max_size=8,
        )
    ),
    max_leaves=30,
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["round", "log/round", "log/invalid", "log/history", "manifest", "agent/a"]
            ),
            JSON,
        ),
        max_size=6,
    )
)
def test_whatever_is_said_can_be_shown(messages):
    """No JSON at all makes anything fail, and nothing of it moves a cursor."""
    state = run_view.on_message(State(), *say("log/round", record(1)), 1.0)
    for part, said in messages:
        state = run_view.on_message(state, *say(part, said), 1.0)
    for frame in (Frame(80, 24), Frame(20, 3), Frame(140, 50, plain=True)):
        assert all(HARMLESS.fullmatch(line) for line in shown(state, frame).splitlines())


def test_texts_are_short_and_plain():
    """Escapes, bidirectional tricks and markup are taken apart, whatever their length."""
    cleaned = sanitize.text(BAD_TEXT)
    assert len(cleaned) == sanitize.TEXT
    assert cleaned.isprintable()
    assert cleaned.isascii()
    assert sanitize.text("[red]no markup[/red]") == "[red]no markup[/red]"
    run = after(
        say("log/round", record(1, accepted=False, votes={}, why="[bold red]hi[/] \x1b[1m"))
    )
    assert "[bold red]hi[/] ?[1m" in drawn(run)


def test_reasons_are_those_of_the_protocol():
    """What is no reason of ours is counted, without its words."""
    run = after(say("log/round", record(1, invalid_messages={"duplicate": 2, BAD_TEXT: 3, "x": 4})))
    assert run.refused == {"duplicate": 2, OTHER: 7}
    assert {*run.refused} <= {*Reason, OTHER}


# ---------------------------------------------------------------- lines


def told(*steps, where=WHERE):
    """Return the lines of each step; a step is a sight, or messages since the last one."""
    before, state, said = TextLog(), State(), []
    for number, step in enumerate(steps):
        sight = step if isinstance(step, Snapshot) else None
        if sight is None:
            state = run_view.on_messages(state, step, 100.0 + number)
            sight = sight_of(state, now=100.0 + number)
        before, fresh = text_log.news(before, sight, state.runs.get(RUN), where)
        said.append(fresh)
    return said


def test_each_round_is_one_line():
    """What is new since the last look is written, once, in the order of rounds."""
    first, second, third, fourth = told(
        [say("log/history", past_of([record(1), record(2)]))],
        [say("log/round", record(3, invalid_messages={"duplicate": 4}, missing=2, dropped=1))],
        [],
        [say("log/round", record(3, invalid_messages={"duplicate": 4}, missing=2, dropped=1))],
    )
    assert [line[:9] for line in first[1:]] == ["round   1", "round   2"]
    assert first[0].startswith("watching run lab")
    [line] = second
    assert line == (
        "round   3  accepted  accuracy 50.0%  votes 1 poisoned, 3 clean, 1 silent  updates 10/10  "
        "20 updates/s  in 1.0 kB out 100 B  missing 2  dropped 1  refused: duplicate 4  online 0"
    )
    assert third == fourth == []


def on_numbers(*values, **more):
    """Make the records of a run of which an error was measured, and no accuracy."""
    nothing = {"accuracy": None, "candidate_accuracy": None}
    return [record(n, metrics={"rmse": v}, **nothing, **more) for n, v in enumerate(values, 1)]


def test_a_run_on_numbers_is_told_by_its_error():
    """Nobody measured accuracy, so nobody speaks of it; not even at the end."""
    out = on_numbers(0.5, 0.12, declined=2)
    begun, _ = told(
        [say("log/round", one) for one in out],
        [say("round", opened(2, "done"))],
    )
    assert "  rmse 0.5  " in begun[1]
    assert "  rmse 0.12  " in begun[2]
    assert "sat out 2" in begun[2]
    run = after(*(say("log/round", one) for one in out), say("round", opened(2, "done")))
    assert "rmse 0.12" in formatting.closing(run)
    assert "accuracy" not in " ".join([*begun, formatting.closing(run)])


def test_the_past_of_a_run_on_numbers_has_its_error():
    """Who comes late draws the same curve; a run that measured nothing so says nothing of it."""
    rows_ = [read(one) for one in on_numbers(0.5, 0.12)]
    history = json.loads(json.dumps(log_to_json(RunHistory(tuple(rows_)))))
    run = after(say("log/history", history))
    assert [row.model.metrics for row in run.rows] == [{"rmse": 0.5}, {"rmse": 0.12}]
    plain = log_to_json(RunHistory((read(record(1)),)))
    assert "metrics" not in plain["columns"]


def test_the_curve_of_a_run_on_numbers_goes_by_its_values():
    """From 0.2 to 0.6: the axis and the table say rmse, and no percent."""
    run = after(*(say("log/round", one) for one in on_numbers(0.6, 0.4, 0.2)))
    text = drawn(run)
    assert "rmse 0.2  accepted 3" in text
    assert "rmse  rounds 1 to 3" in text
    assert re.search(r"^ *0.6 ▕", text, re.MULTILINE)
    assert re.search(r"^ *0.2 ▕", text, re.MULTILINE)
    assert "round  verdict       rmse  candidate" in text
    assert re.search(r"3  accepted +0\.2 ", text)
    assert "%" not in text


def test_names_of_metrics_are_few_and_plain():
    """Strangers may write whatever they like; four are kept, and they move no cursor."""
    wild = {"\x1b[2Jerror": 1.0, "x" * 300: 2.0} | {f"m{n}": 1.0 for n in range(50)}
    run = after(say("log/round", record(1, metrics=wild)))
    [row] = run.rows
    assert len(row.model.metrics) == 4
    assert all(len(name) <= 40 and name.isascii() for name in row.model.metrics)
    assert all(name.isprintable() for name in row.model.metrics)


def test_events_are_lines():
    """A round tried again, a run that begins again, goes back, and who is in quarantine."""
    records = [say("log/round", record(n)) for n in range(1, 5)]
    said = told(
        records,
        [say("log/round", {"round": 5, "attempt": 2, "repeated": "2 came in time"})],
        [records[1]],
        [
            say(
                "log/round",
                record(3, suspicion={"a": 1.0}, flagged={"a": "burst"}, quarantined=["a"]),
            )
        ],
        [say("log/round", {"round": 0, "accuracy": 0.1}), records[0]],
    )
    assert said[1] == ["round   5  tried again  attempt 2  why: 2 came in time"]
    assert said[2] == ["run lab went back to round 2"]
    assert said[3][0].endswith("flagged 1 (burst 1)  quarantined 1 (a)")
    assert said[4][0] == "run lab begins again"
    assert said[4][1].startswith("round   1  accepted")


def test_the_broker_is_gone_and_comes_back():
    """It is said plainly, once each, with how long; a short break between two looks is told too."""
    there = Snapshot(connected=True, now=20.0, since=1.0)
    gone = Snapshot(now=31.0, since=30.0, outages=1, lost=30.0)
    back = Snapshot(connected=True, now=93.0, since=92.0, outages=1, lost=30.0)
    blink = Snapshot(connected=True, now=120.0, since=118.0, outages=2, lost=110.0)
    said = told(there, gone, replace(gone, now=60.0), back, blink)
    assert said == [
        [],
        [f"no connection to the broker at {WHERE}; waiting until it is back"],
        [],
        ["the broker is back after 1 min 2 s"],
        [
            f"no connection to the broker at {WHERE}; waiting until it is back",
            "the broker is back after 8 s",
        ],
    ]
    begins = Snapshot(now=1.0, since=0.0)
    assert told(begins, there) == [[], []]  # it was not lost: it had yet to let us in
    assert told(replace(begins, now=9.0), there)[1] == ["the broker is back"]


def test_an_open_round_is_told_of_now_and_then():
    """Who comes and what is refused meanwhile is said, but only every few seconds."""
    state = run_view.on_message(State(), *say("round", opened(1)), 1.0)
    before, _ = text_log.news(TextLog(), sight_of(state), state.runs[RUN], WHERE)
    state = run_view.on_messages(
        state,
        [
            say("agent/a", presence(True)),
            say("log/invalid", {"round": 1, "invalid_messages": {"malformed": 2}, "latest": {}}),
        ],
        1.0,
    )
    soon = sight_of(state, now=100.0 + text_log.EVERY / 2)
    before, none = text_log.news(before, soon, state.runs[RUN], WHERE)
    before, [line] = text_log.news(
        before, replace(soon, now=100.0 + text_log.EVERY), state.runs[RUN], WHERE
    )
    assert none == []
    assert line == "round   1  training  online 1  refused: malformed 2"
    assert text_log.news(before, replace(soon, now=1e6), state.runs[RUN], WHERE)[1] == []


def test_notices_are_told_once():
    """What the connection has to say is said once, also without a run."""
    one = Snapshot(connected=True, notices=("somebody took our place",))
    assert told(one, one) == [["note: somebody took our place"], []]


def test_the_end_is_told():
    """Rounds, verdicts and accuracy in one line; and why, where a round was given up."""
    run = after(
        say("log/round", record(1, invalid_messages={"duplicate": 2}, backdoor=0.25)),
        say("round", opened(1, "done")),
    )
    assert formatting.closing(run) == (
        "run lab is over: 1 round, 1 accepted, 0 rejected, accuracy 50.0%, backdoor 25.0%, "
        "2 refused"
    )
    harm = {"backdoor": 0.25, "largest_backdoor": 0.75, "accuracy_lost": 0.004}
    run = after(say("log/round", record(1, **harm)), say("round", opened(1, "done")))
    assert formatting.closing(run).endswith(
        ", backdoor 25.0%, largest let in 75.0%, accuracy lost 0.4 points"
    )
    run = after(
        say("log/round", record(1)),
        say("log/round", {"round": 2, "attempt": 5, "repeated": "0 came"}),
        say("round", opened(2, "done", attempt=5)),
    )
    assert formatting.closing(run).endswith("round 2 was given up: 0 came")


# ---------------------------------------------------------------- the picture


def drawn(run, frame=USUAL, **sight):
    """Draw a run; returns the text."""
    seen = sight_of(State({run.name: run}), **sight)
    return rendered(dashboard.dashboard(seen, run, WHERE, frame), frame)


@pytest.fixture
def attacked():
    """Return a run of 30 rounds, the last ten of them rejected, with a backdoor and suspects."""
    records = [
        record(
            n,
            accepted=n <= 20,
            why="" if n <= 20 else "voted down",
            backdoor=0.02,
            largest_backdoor=0.13,
            votes={"poisoned": 0 if n <= 20 else 31, "clean": 38 if n <= 20 else 7, "silent": 2},
            accuracy=min(0.03 * n, 0.6),
            invalid_messages={"not_finite": 1},
            suspicion={"agent-05": 0.9},
            flagged={"agent-05": "burst"},
            quarantined=["agent-05"],
            permanent=[],
            filtered=1,
        )
        for n in range(1, 31)
    ]
    agents = [say(f"agent/agent-{n:02}", presence(True)) for n in range(40)]
    return after(
        say("manifest", MANIFEST),
        say("round", opened(31)),
        *agents,
        *(say("log/round", r) for r in records),
    )


@pytest.mark.parametrize("size", [(80, 24), (140, 50), (60, 15), (300, 100)])
@pytest.mark.parametrize("plain", [False, True])
def test_the_picture_says_it_all(attacked, size, plain):
    """Accuracy, backdoor, verdicts, votes, refusals, suspects, who is online, speed, bytes."""
    frame = Frame(*size, plain=plain)
    text = drawn(attacked, frame)
    drawn_rows = text.rstrip("\n").split("\n")
    assert len(drawn_rows) <= frame.height
    assert max(map(len, drawn_rows)) <= frame.width
    for part in (
        "run lab",
        "round 31",
        "training",
        "accuracy 60.0%",
        "backdoor 2.0%",
        "accepted 20",
        "rejected 10",
        "online 40",
        "20 updates/s",
        "in 1.0 kB out 100 B",
        "refused 30: not_finite 30",
        "flagged 1 (burst 1)",
        "in quarantine 1",
        "agent-05 0.90",
        "online 40: agent-00",
    ):
        assert part in text, part
    assert ("let in 13%" in text) == (frame.width > 60)
    assert re.search(r"30  REJECTED +60\.0% .* 31/38 ", text)  # of the votes that came
    assert text.isascii() == plain


def test_the_picture_grows_with_the_window(attacked):
    """A larger window shows more rounds, and a taller and wider curve."""
    small, large = (drawn(attacked, Frame(*size)) for size in ((80, 24), (140, 50)))
    assert large.count("REJECTED") + large.count("accepted  ") > small.count("REJECTED") > 4
    braille = re.compile("[\u2800-\u28ff]")
    assert len(braille.findall(large)) > len(braille.findall(small)) > 20
    assert not braille.search(drawn(attacked, Frame(80, 14)))  # too small for a curve


def test_the_picture_says_that_the_broker_is_gone(attacked):
    """Plainly, with how long; what was known stays to be seen."""
    text = drawn(attacked, Frame(80, 24), connected=False, since=28.0, outages=1)
    assert f"BROKER GONE for 1 min 12 s, at {WHERE}" in text
    assert "accuracy 60.0%" in text
    assert "no messages for" in drawn(attacked, now=500.0)
    assert "is tried again (attempt 2): 3 came" in drawn(
        replace(attacked, repeats=(run_view.Repeat(31, 2, "3 came"),))
    )
    waiting = dashboard.waiting(Snapshot(), "no run yet", WHERE, Frame())
    assert "no run yet" in rendered(waiting)
    assert "NO ANSWER FROM THE BROKER" in rendered(waiting)


def test_the_picture_says_that_the_run_is_over(attacked):
    """The last picture is the whole story."""
    over = replace(attacked, phase="done", round=30)
    assert formatting.closing(over) in drawn(over, Frame(140, 40))


def test_a_vote_is_a_row_of_validators():
    """One character each; of many a share, but nobody who spoke vanishes."""
    marks = dashboard.PLAIN
    row = RoundRecord(1, votes=Votes(poisoned=3, clean=4, silent=2))
    assert dashboard.vote(row, 40, marks).plain == "PPPcccc.."
    many = dashboard.vote(
        RoundRecord(1, votes=Votes(poisoned=1, clean=997, silent=2)), 40, marks
    ).plain
    assert len(many) == 40
    assert (many.count("P"), many.count(".")) == (1, 1)
    assert (
        dashboard.vote(RoundRecord(1, votes=Votes(poisoned=500, clean=500)), 10, marks).plain
        == "PPPPPccccc"
    )
    styles = {span.style for span in dashboard.vote(row, 40, marks).spans}
    assert styles == {"red", "green", "dim"}


def test_a_rejected_round_is_seen_below_the_curve():
    """Of a thousand rounds in eighty columns, the one that was rejected is marked."""
    records = [record(n, accepted=n != 500) for n in range(1, 1001)]
    run = after(say("log/history", past_of(records)))
    [strip] = [
        row
        for row in drawn(run, Frame(80, 24, plain=True)).split("\n")
        if row.strip() and set(row.strip()) <= {"-", "x"}
    ]
    assert strip.count("x") == 1
    assert abs(strip.index("x") - (6 + 36)) <= 1


@pytest.mark.parametrize("plain", [False, True])
def test_a_curve_is_where_its_values_are(plain):
    """The first line is 1, the last is 0; points are tied together, gaps are not."""

    def marks(*points):
        rows = braille_plot.draw([braille_plot.Line(points, "red")], 11, 5, plain=plain)
        blank = " "
        return [[x for x, char in enumerate(row.plain) if char != blank] for row in rows]

    assert marks((0, 1.0), (10, 1.0))[0] == list(range(11))
    assert marks((0, 0.0), (10, 0.0))[4] == list(range(11))
    rising = marks((0, 0.0), (10, 1.0))
    assert rising[4][0] == 0
    assert rising[0][-1] == 10
    assert all(rising)
    gap = marks((0, 0.5), (4, None), (10, 0.5))
    assert gap[2] == [0, 10]
    assert marks((3, 0.5))[2] == [0]
    assert marks() == [[]] * 5


# ---------------------------------------------------------------- which run, and who we are


def runs_of(*names, phase="train", heard=50.0):
    state = State()
    for name in names:
        state = run_view.on_message(state, *say("round", opened(3, phase), name), heard)
    return state


def test_the_only_run_is_the_one():
    """One run needs no name, be it over or not; nor does the only one that goes on."""
    assert logins.choose(sight_of(runs_of("a"))) == "a"
    assert logins.choose(sight_of(runs_of("a", phase="done"))) == "a"
    both = State({**runs_of("a").runs, **runs_of("b", "c", phase="done").runs})
    assert logins.choose(sight_of(both)) == "a"
    assert logins.choose(sight_of(State())) == ""
    assert logins.choose(sight_of(runs_of("a"), connected=False)) == ""
    assert logins.choose(sight_of(runs_of("a"), since=100.0)) == ""  # more may be on its way


def test_of_several_runs_the_one_that_speaks_is_taken():
    """What is retained says nothing of who is alive: that is waited for, for some seconds."""
    state = runs_of("a", "b")
    early = sight_of(state, now=50.0 + logins.LISTEN - 1)
    assert logins.choose(early) == ""
    spoken = run_view.on_message(state, *say("log/round", record(3), "b"), 53.0)
    assert logins.choose(replace(early, state=spoken)) == "b"
    with pytest.raises(Several) as several:
        logins.choose(sight_of(state, now=50.0 + logins.LISTEN + 1))
    said = str(several.value)
    assert "2 runs on this broker; choose one with --run NAME" in said
    assert "a: round 3, training" in said
    with pytest.raises(Several, match="and 30 more"):
        logins.choose(sight_of(runs_of(*(f"r{n}" for n in range(50)), phase="done")))


def test_the_log_in_is_that_of_the_person(tmp_path):
    """Whose folder it is says who we are; one that is not there is told with the remedy."""
    (tmp_path / "people" / "ann").mkdir(parents=True)
    said = Settings().broker.replaced(secrets=str(tmp_path))
    address, party = logins.login(said, "ann")
    assert (address.secrets, party) == (str(tmp_path / "people" / "ann"), ":watch.ann")
    assert logins.login(said, "")[1] == ":watch"
    with pytest.raises(TransportError, match=r"no folder .*bob: 'fedjury enroll --watch bob'"):
        logins.login(said, "bob")
    with pytest.raises(TransportError, match=r"--as '\.\./x' must be"):
        logins.login(said, "../x")


def test_two_with_a_log_in_are_told_the_way_out():
    """Who is thrown out again and again learns why, and other notices stay as they are."""
    notices = Explained(":watch")
    notices.add("the broker lets :watch in and cuts it off", "cut off")
    notices.add("the broker does not let :watch in: Bad", "Bad")
    first, second = notices.take()
    assert "another one uses the login 'watch'" in first
    assert "--watch NAME" in first
    assert second == "the broker does not let :watch in: Bad"


# ---------------------------------------------------------------- the command


def command(*words_):
    """Write down how to start it."""
    return [sys.executable, "-m", "fedjury.monitor.terminal", *words_]


def watch_it(*words_, **options):
    """Run it to its end; returns what it did."""
    return warm.run(
        command(*words_),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def where(address):
    return ["--broker", f"{address.host}:{address.port}"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Run a small federation, and watch it as plain lines; then watch it when it is over."""
    folder = tmp_path_factory.mktemp("watched")
    with federation(KIND, folder) as programs:
        broker = where(programs.address)
        watching = programs.start("-m", "fedjury.monitor.terminal", *broker, "--run", NET)
        until(lambda: "waiting" in watching.log.read_text(), 60)
        ended(programs.aggregator(), programs.agents(), watching)
        programs.live = watching.log.read_text()
        programs.late = watch_it(*broker)
        yield programs


def numbers_in(line):
    """Read a round's line back into what a record says of it."""
    found = re.match(
        r"round +(\d+)  (\w+)  accuracy ([\d.]+)%.*?"
        r"  votes (\d+) poisoned, (\d+) clean, (\d+) silent"
        r".*?  updates (\d+)/(\d+)",
        line,
    )
    assert found, line
    return [found[1], found[2], found[3], *map(int, found.groups()[3:])]


def test_plain_lines_are_the_records(seen):
    """Each round is a line, and says what rounds.jsonl says; so does who comes when it is over."""
    expected = [
        [
            str(r.round),
            "accepted" if r.accepted else "rejected",
            f"{r.model.accuracy:.1%}"[:-1],
            *r.votes.counts,
            r.updates,
            r.selected,
        ]
        for r in seen.records()
    ]
    assert len(expected) == ROUNDS
    for text in (seen.live, seen.late.stdout):
        rounds = [line for line in text.splitlines() if re.match(r"round +\d+  (acc|rej)", line)]
        assert [numbers_in(line) for line in rounds] == expected
        last = seen.records()[-1]
        accepted = sum(r.accepted for r in seen.records())
        assert text.splitlines()[-1].startswith(
            f"run {NET} is over: {ROUNDS} rounds, {accepted} accepted, {ROUNDS - accepted} "
            f"rejected, accuracy {last.model.accuracy:.1%}"
        )
    assert seen.late.returncode == 0
    assert "\x1b" not in seen.live + seen.late.stdout
    assert seen.late.stderr == ""


def test_bytes_and_speed_are_those_of_the_records(seen):
    """Who heard a round as it ended can tell its bytes and its speed."""
    for said in seen.records():
        [line] = [
            x
            for x in seen.live.splitlines()
            if x.startswith(f"round {said.round:>3}  ") and "updates/s" in x
        ]
        assert (
            f"  in {formatting.size(said.traffic.bytes_in)} out "
            f"{formatting.size(said.traffic.bytes_out)}" in line
        )
        assert f"  {said.timing.updates_per_second:,.0f} updates/s" in line


def test_in_a_terminal_it_is_drawn(seen):
    """On a terminal of 80 by 24 there is a picture, on the other screen, and the last one stays."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    with warm.Popen(
        command(*where(seen.address), "--run", NET),
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as child:
        os.close(theirs)
        data = b""
        try:
            while chunk := os.read(ours, 65_536):
                data += chunk
        except OSError:
            pass  # so Linux says that nobody has the other end any more
        assert child.wait(30) == 0
    os.close(ours)
    text = data.decode()
    assert "\x1b[?1049h" in text
    left = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.split("\x1b[?1049l")[-1])
    assert f"run {NET} is over: {ROUNDS} rounds" in left
    rows = left.replace("\r", "").strip("\n").split("\n")
    assert len(rows) <= 24
    assert max(map(len, rows)) <= 80


def test_a_run_that_is_not_there_is_waited_for(seen):
    """Ctrl-C ends the waiting with 130, and without a traceback."""
    with warm.Popen(
        command(*where(seen.address), "--run", "later"),
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == "no run 'later' on this broker yet; waiting for it\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert child.stderr.read() == ""


def test_who_stops_reading_ends_it_quietly(seen):
    """A pipe whose reader has left, as with head, is no reason for a traceback."""
    with warm.Popen(
        command(*where(seen.address), "--run", NET),
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        child.stdout.close()
        assert child.wait(30) == 141
        assert child.stderr.read() == ""


def test_several_runs_are_listed(seen):
    """Without a name, and where several are over, it says which there are and how to choose."""
    other = say("round", opened(4, "done"), "other")
    with RawClient(seen.address) as client:
        client.publish(*other, retain=True)
        done = watch_it(*where(seen.address))
        client.publish(other[0], b"", retain=True)
    assert done.returncode == 2
    assert "2 runs on this broker; choose one with --run NAME" in done.stderr
    assert f"  {NET}: round {ROUNDS}, over" in done.stderr
    assert "  other: round 4, over" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_broker_is_one_sentence():
    """What cannot be reached is said, with what to do."""
    done = watch_it("--broker", "127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no MQTT broker answers at 127.0.0.1:1")
    assert len(done.stderr.splitlines()) == 1


def test_help_has_examples(capsys):
    """--help says how it is used."""
    with pytest.raises(SystemExit):
        watch.main(["--help"])
    said = capsys.readouterr().out
    assert "fedjury watch --broker 127.0.0.1:1883 --run lab" in said
    assert "--forget" not in said


@pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")
@pytest.mark.parametrize("tls", [[], ["--tls"]])
def test_people_watch_with_their_own_log_in(tmp_path, tls, monkeypatch):
    """With the secrets of an enrolment it is let in and hears; without, or wrong, it says so."""
    secrets = tmp_path / "secrets"
    assert enrol.main(["--n", "2", "--watch", "ann", *tls, "--folder", str(secrets)]) == 0
    monkeypatch.setenv("FEDJURY_PASSWORD", "wrong")
    with local_broker("mosquitto", say=lambda _: None, secrets=secrets) as address:
        aggregator = ["--username", "aggregator"]
        if tls:
            aggregator = ["--ca", str(secrets / "broker" / "ca.crt")]
        with pytest.raises(
            TransportError, match=r"rejects the connection|does not speak MQTT with TLS"
        ):
            watch.main([*where(address), *aggregator])
        ear = Listener(
            BrokerAddress(address.host, address.port, secrets=str(secrets / "people" / "ann")),
            ":watch.ann",
        ).open()
        try:
            said = logins.login(Settings().broker.replaced(secrets=str(secrets)), "")
            assert said[1] == ":watch"
            until(lambda: ear.snapshot.connected)
            assert ear.snapshot.notices == ()
        finally:
            ear.close()


def test_a_killed_and_restarted_broker_is_told_of(tmp_path):
    """It says that the broker is gone, goes on when it is back, and ends when the run does."""
    port = free_port()
    with local_broker(KIND, say=lambda _: None, port=port) as address:
        log = tmp_path / "watch.log"
        with log.open("wb") as output:
            child = warm.Popen(
                command(*where(address), "--run", RUN),
                cwd=ROOT,
                env=ENVIRONMENT,
                stdout=output,
                stderr=output,
            )
        with RawClient(address) as client:
            client.publish(*say("round", opened(1)), retain=True)
            client.publish(*say("log/round", record(1)), retain=True)
            until(lambda: "round   1  accepted" in log.read_text(), 60)
    try:
        until(lambda: "no connection to the broker at" in log.read_text())
        with (
            local_broker(KIND, say=lambda _: None, port=port) as address,
            RawClient(address) as client,
        ):
            records = [record(n) for n in range(1, 5)]
            client.publish(*say("log/history", past_of(records)), retain=True)
            client.publish(*say("log/round", records[-1]), retain=True)
            until(lambda: "the broker is back after" in log.read_text(), 60)
            until(lambda: "round   4  accepted" in log.read_text())
            client.publish(*say("round", opened(4, "done")), retain=True)
            assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
    said = log.read_text()
    order = [line[:9] for line in said.splitlines() if line.startswith("round ")]
    assert order == [f"round {n:>3}" for n in range(1, 5)]
    assert said.splitlines()[-1].startswith("run lab is over: 4 rounds, 4 accepted")


def test_the_ear_hears_who_is_online_of_runs_it_knows(broker):
    """Presence is heard once a run is known, what was retained before included, and is bounded."""
    address = BrokerAddress(broker.host, broker.port)
    with RawClient(broker) as client:
        client.publish(*say("agent/early", presence(True)), retain=True)
        client.publish(*say("agent/stray", presence(True), "nowhere"), retain=True)
        ear = Listener(address, ":watch").open()
        try:
            until(lambda: ear.snapshot.connected)
            client.publish(*say("round", opened(1)), retain=True)
            until(lambda: ear.snapshot.state.runs.get(RUN, Run(RUN)).online == {"early"})
            client.publish(topic("log/round"), b"\x00")
            client.publish(*say("agent/late", presence(True)))
            until(lambda: ear.snapshot.state.runs[RUN].online == {"early", "late"})
            assert ear.snapshot.state.malformed == 1
            assert ear.snapshot.state.runs.keys() == {RUN}
        finally:
            ear.close()


def test_an_ear_that_breaks_says_so(monkeypatch):
    """What should never fail fails in one sentence, and one bad message spoils no other."""
    ear = Listener(BrokerAddress("127.0.0.1", 1), ":watch")
    ear._failure = "the sky fell"
    with pytest.raises(TransportError, match="the connection to the broker broke: the sky fell"):
        _ = ear.snapshot

    def fails(state, heard, now, below, right=run_view.on_messages):
        if any("bad" in topic_ for topic_, _ in heard):
            raise ZeroDivisionError
        return right(state, heard, now, below)

    monkeypatch.setattr(run_view, "on_messages", fails)
    from fedjury.monitor import listener as module  # noqa: PLC0415

    state = module.taken_in(State(), [("bad", b""), say("round", opened(1))], 1.0, topics.USUAL)
    assert state.runs.keys() == {RUN}
    assert state.malformed == 1
