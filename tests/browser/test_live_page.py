"""The live page in a real browser: what it shows is what the runs on a real broker said."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import warm
from support.listening import RawClient, until

from fedjury.aggregator.history import History
from fedjury.aggregator.store import read_records
from fedjury.broker import enrolment
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.principals import principals
from fedjury.monitor.web.browser import find_chromium, launched
from fedjury.monitor.web.opening import page_at
from fedjury.monitor.web.serving import FILES, served
from fedjury.protocol.logs import log_to_json
from fedjury.protocol.record import read, to_json

ROOT = Path(__file__).resolve().parents[2]

if find_chromium() is None and not os.environ.get("CI"):
    pytest.skip("no Chromium on this machine (apt install chromium)", allow_module_level=True)

OURS = re.compile(r"(blob:)?https?://127\.0\.0\.1[:/]|data:,")
KINDS = ["mosquitto", "embedded"]
PERCENT = "{:.1%}".format
RUN = "seen"
FEDERATION = [
    "--config",
    "tools/benchmarks/w1.toml",  # plain averaging, one epoch, nobody looks for malicious agents
    "--data",
    "digits",
    "--model",
    "mlp",
    "--n",
    "12",
    "--evil",
    "0.25",
    "--samples",
    "60",
    "--attack",
    "mpaf",
    "--start",
    "5",
    "--look-back",
    "3",
    "--validators",
    "6",
    "--quorum",
    "3",
    "--detect",
    "fixed_point",
    "--no-quarantine",
    "--rounds",
    "9",
    "--set",
    "validation.minimum_history=4",
]
"""Twelve agents of whom three strike from round 5 on, before six validators."""


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture
def stack():
    with contextlib.ExitStack() as made:
        yield made


@contextlib.contextmanager
def place(kind, folder, **more):
    """Start a broker that browsers can reach; yields it and where its page is."""
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(
            local_broker(kind, say=lambda _: None, log=folder / "broker.log", page=0, **more)
        )
        url = address.page or stack.enter_context(served(address.websockets))
        yield SimpleNamespace(address=address, url=url)


@contextlib.contextmanager
def looked_at(chromium, url, **context):
    """Open the page; afterwards nothing in it may have gone wrong, and all came from us."""
    opened = chromium.new_context(**context)
    page = opened.new_page()
    wrong, asked = [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.goto(url)
    try:
        yield page
        # The broker going is part of life, and Chromium writes each failed attempt down, and that
        # something was to be said just when it went.
        gone = re.compile("WebSocket (connection to|is already in CLOSING or CLOSED state)")
        assert [text for text in wrong if not gone.match(text)] == []
        assert [one for one in asked if not OURS.match(one)] == []
    finally:
        opened.close()


def federation(place, folder, *more):
    """Run a federation at the broker, in a program of its own."""
    command = [
        sys.executable,
        "run.py",
        "--broker",
        f"127.0.0.1:{place.address.port}",
        "--run",
        RUN,
        "--set",
        f"run.directory={folder}",
        *FEDERATION,
        *more,
    ]
    done = warm.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [to_json(record) for record in read_records(folder / RUN)]


def text_of(page, name):
    return page.inner_text(f"#{name}")


def rows_of(page):
    """Read the rounds that the page shows: round -> verdict, accuracy, signs of the votes."""
    found = page.eval_on_selector_all(
        "#rows li",
        """items => items.map(item => [Number(item.dataset.round),
            item.querySelector(".verdict").textContent, item.querySelector(".accuracy").textContent,
            [...item.querySelectorAll(".vote")].map(vote => vote.textContent).join("")])""",
    )
    return {number: rest for number, *rest in found}


def expected(record):
    """Say what the page has to show of a record."""
    verdict = "✓ accepted" if record["accepted"] else "✗ rejected"
    votes = record["votes"]
    names = record["voters"]
    signs = "".join("✗" if names[name]["poisoned"] else "✓" for name in sorted(names))
    assert votes.get("silent", 0) == 0
    return [verdict, PERCENT(record["accuracy"]), signs]


def drawn(page, chart):
    """Return what a picture is drawn from: a list for each line."""
    return page.evaluate(f"fedjury.charts[{chart}].plot.data")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_shown_as_its_records_have_it(kind, chromium, tmp_path):
    """Rounds, verdicts, votes, scores, figures and pictures are those of rounds.jsonl."""
    with place(kind, tmp_path) as where, looked_at(chromium, where.url) as page:
        page.wait_for_selector(".pill.live")
        records = federation(where, tmp_path)
        until(lambda: "is over" in text_of(page, "now"), 10)
        assert {record["accepted"] for record in records} == {True, False}, "nothing to tell apart"
        until(lambda: rows_of(page) == {one["round"]: expected(one) for one in records}, 5)
        last = records[-1]
        assert text_of(page, "f-round") == str(last["round"])
        assert text_of(page, "f-accuracy") == PERCENT(last["accuracy"])
        for verdict, truth in (("accepted", True), ("rejected", False)):
            count = sum(one["accepted"] is truth for one in records)
            assert text_of(page, f"f-{verdict}") == str(count)
        assert text_of(page, "f-online") == "0 of 12"
        assert drawn(page, 0)[1] == [one["accuracy"] for one in records]
        crosses = [None if one["accepted"] else one["candidate_accuracy"] for one in records]
        assert drawn(page, 0)[2] == crosses
        assert drawn(page, 1)[1:] == [
            [one[key] for one in records] for key in ("updates_per_second", "bytes_in", "bytes_out")
        ]
        check_a_vote(page, records)
        check_the_suspected(page, last)
        with looked_at(chromium, where.url) as late:  # it sees what log/history says
            until(lambda: drawn(late, 0)[1] == [one["accuracy"] for one in records], 5)
            assert drawn(late, 1) == drawn(page, 1)
            shown = rows_of(late)
            assert shown[9] == rows_of(page)[9]
            for record in records:
                votes = shown[record["round"]][2]
                assert votes.count("✗") == record["votes"]["poisoned"]
                assert votes.count("✓") == record["votes"]["clean"]


ALIKE = """() => fedjury.shown.rows.map((row) => [
    row.round, row.attempt, row.accepted, row.accuracy, row.candidate,
    row.votes.poisoned, row.votes.clean, row.votes.silent, row.updates])"""


def short(record):
    """Say what the page must know of a record, whether it heard it or only of it."""
    keys = ("round", "attempt", "accepted", "accuracy", "candidate_accuracy")
    votes = [record["votes"].get(how, 0) for how in ("poisoned", "clean", "silent")]
    return [*(record.get(key) for key in keys), *votes, record["updates"]]


def test_a_run_whose_aggregator_is_killed_is_shown_as_its_records_have_it(
    chromium, stack, tmp_path
):
    """With piggy-back, killed in mid-run and begun again, for who was there and who came late."""
    where = stack.enter_context(place("mosquitto", tmp_path))
    settings = {
        "data.name": "digits",
        "model.name": "mlp",
        "agents.n": 8,
        "agents.malicious": 0.25,
        "agents.samples": 60,
        "agents.start": 5,
        "agents.processes": 1,
        "validation.quorum": 2,
        "validation.look_back": 3,
        "validation.minimum_history": 4,
        "validation.piggy_back": "true",
        "run.rounds": 40,
        "run.seed": 1,
        "run.name": RUN,
        "run.directory": tmp_path,
    }
    chosen = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]

    def start(*program):
        command = [sys.executable, *program, "--broker", f"127.0.0.1:{where.address.port}", *chosen]
        child = stack.enter_context(
            warm.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        )
        stack.callback(child.kill)
        return child

    page = stack.enter_context(looked_at(chromium, where.url))
    agents, aggregator = start("agents/spawn.py"), start("-m", "aggregator")
    until(lambda: text_of(page, "f-round").isdigit() and int(text_of(page, "f-round")) > 7, 60)
    aggregator.kill()
    aggregator.wait()
    aggregator = start("-m", "aggregator", "--no-report")
    late = stack.enter_context(looked_at(chromium, where.url))
    assert aggregator.wait(60) == 0
    assert agents.wait(20) == 0
    records = [to_json(record) for record in read_records(tmp_path / RUN)]
    assert {record["accepted"] for record in records} == {None, True, False}
    assert [record["round"] for record in records] == list(range(1, 41))
    for seen in (page, late):
        until(lambda seen=seen: seen.evaluate(ALIKE) == [short(one) for one in records], 5)
        assert text_of(seen, "now") == f"{RUN}: the run is over"


def check_a_vote(page, records):
    """Point at the last round's first vote: who, what, and by how much."""
    last = records[-1]
    name = min(last["voters"])
    vote = last["voters"][name]
    page.hover(f"#rows li[data-round='{last['round']}'] .vote >> nth=0")
    said = text_of(page, "tip")
    assert said == text_of(page, "vote-said")
    assert said.startswith(f"round {last['round']}, {name}: ")
    assert ("poisoned" in said) == vote["poisoned"]
    score, threshold = re.search(
        r"score (\S+) (?:above|within) threshold (\S+?)(?:,|$)", said
    ).groups()
    assert float(score) == pytest.approx(vote["score"], rel=0.006)
    assert float(threshold) == pytest.approx(vote["threshold"], rel=0.006)


def check_the_suspected(page, last):
    """Read the table: it names those whom the record suspects, with the detector."""
    assert last["flagged"], "nobody is flagged: nothing to compare"
    cells = page.eval_on_selector_all(
        "#suspects tbody tr",
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))",
    )
    found = {name: (float(value), by) for name, value, by, state in cells if state == "flagged"}
    assert found == {
        name: (pytest.approx(last["suspicion"][name], abs=0.005), by)
        for name, by in last["flagged"].items()
    }


def test_run_py_shows_it(chromium, tmp_path):
    """With --monitor run.py says where the page is, and the page shows the run."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    command = [
        sys.executable,
        "run.py",
        "--monitor",
        "0",
        "--run",
        RUN,
        "--set",
        f"run.directory={tmp_path}",
        *FEDERATION,
        "--rounds",
        "200",
    ]
    environment = {key: value for key, value in os.environ.items() if "DISPLAY" not in key}
    child = warm.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    try:
        first = child.stdout.readline()
        url = re.fullmatch(r"the live page: (http://127.0.0.1:[0-9]+/)\n", first)[1]
        with looked_at(chromium, url) as page:
            until(
                lambda: text_of(page, "f-round").isdigit() and int(text_of(page, "f-round")) > 5, 30
            )
            child.send_signal(signal.SIGINT)
            page.wait_for_selector("#banner:not([hidden])")
            assert "has been unreachable since" in text_of(page, "banner")
            assert int(text_of(page, "f-round")) > 5  # what was said stays
        assert child.wait(20) == 130
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def record_of(number, **more):
    """Make a record by hand, of a round in which one of two validators found poison."""
    voters = {
        "agent-1": {"poisoned": True, "score": 2.0, "threshold": 1.0, "size": 9},
        "agent-2": {"poisoned": False, "score": 0.5, "threshold": 1.0, "size": 9},
    }
    return {
        "round": number,
        "attempt": 1,
        "version": number,
        "accepted": True,
        "why": "",
        "selected": 2,
        "updates": 2,
        "missing": 0,
        "invalid_messages": {"duplicate": 1},
        "accuracy": 0.5,
        "backdoor": None,
        "votes": {"poisoned": 1, "clean": 1, "silent": 0},
        "voters": voters,
        "seconds": 0.1,
        "updates_per_second": 20.0,
        "bytes_in": 100,
        "bytes_out": 100,
        **more,
    }


def phase(number, name, validators=()):
    return {
        "round": number,
        "attempt": 1,
        "phase": name,
        "version": 0,
        "contributors": "all",
        "validators": list(validators),
        "seconds": 5,
    }


# ---------------------------------------------------------------- what is known of a run


@pytest.fixture(scope="module")
def alone(chromium):
    """Open the page as a file: it has no broker, and what it is made of can be tried."""
    page = chromium.new_page()
    page.goto((FILES / "index.html").as_uri())
    yield page
    page.close()


def known_of(page, *said):
    """Say things of a run; returns what is known then, and after which rounds were missing."""
    return page.evaluate(
        """(said) => {
            const board = Board.fresh("lab");
            const missing = said.map(([topic, data]) => Board.hear(board, topic, data));
            const { accepted, rejected, first } = Board.figures(board);
            return {
                missing, accepted, rejected, first, note: board.note, phase: board.round?.phase,
                rows: board.rows.map((row) => [row.round, row.accuracy]),
                suspects: [...board.suspects],
                voters: board.rows.map((row) => Votes.votesOf(row).map((v) => [v.name, v.how])),
                invalid_messages: Object.fromEntries(Board.refusals(board)), now: Words.now(board),
            };
        }""",
        list(said),
    )


def in_short(records, refused):
    """Make what is said on log/history."""
    series = History(read(record) for record in records)
    return ["log/history", {**log_to_json(series.message().record), "invalid_messages": refused}]


def rounds_of(*numbers, **more):
    return [["log/round", record_of(number, **more)] for number in numbers]


def test_rounds_that_were_not_heard_come_from_the_rounds_in_short(alone):
    """A gap is noticed; what closes it takes nothing away, and nothing is there twice."""
    gap = rounds_of(1, 2, 6)
    assert known_of(alone, *gap)["missing"] == [False, False, True]
    past = in_short([record_of(number) for number in range(1, 6)], {"duplicate": 5})
    found = known_of(alone, *gap, past, *rounds_of(7))
    assert [number for number, _ in found["rows"]] == [1, 2, 3, 4, 5, 6, 7]
    assert found["voters"][0][0] == ["agent-1", "poisoned"]  # heard with its name
    assert found["voters"][2] == [["", "poisoned"], ["", "clean"]]  # known by number alone
    assert found["invalid_messages"] == {"duplicate": 7}
    assert found["accepted"] == 7


OLD = rounds_of(1, 2, 3, 4, 5, accuracy=0.9)


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        ([["log/round", {"round": 0, "version": 0, "accepted": None}]], {}),
        ([["round", {"round": 3, "attempt": 1, "phase": "train"}]], {1: 0.9, 2: 0.9}),
        ([["log/round", {"round": 3, "attempt": 2, "repeated": "few"}]], {1: 0.9, 2: 0.9}),
        (rounds_of(3), {1: 0.9, 2: 0.9, 3: 0.5}),
        (
            [*rounds_of(3), in_short([record_of(n) for n in (1, 2, 3)], {})],
            {1: 0.5, 2: 0.5, 3: 0.5},
        ),
        ([["round", {"round": 5, "attempt": 1, "phase": "done"}]], dict.fromkeys(range(1, 6), 0.9)),
    ],
    ids=["begins", "opened", "repeated", "closed", "past", "over"],
)
def test_of_a_run_that_went_back_or_began_anew_nothing_old_is_left(said, rows, alone):
    """Rounds that are not over yet, or that went otherwise, are forgotten; others stay."""
    assert dict(known_of(alone, *OLD, *said)["rows"]) == rows


def test_where_a_run_went_back_the_rounds_in_short_are_asked_for(alone):
    """A record that is not the next one and a round opened again say that some are missing."""
    opened = ["round", {"round": 3, "attempt": 1, "phase": "train"}]
    for said, missing in ((rounds_of(3), True), ([opened], True), (rounds_of(6), False)):
        assert known_of(alone, *OLD, *said)["missing"][-1] is missing


def test_a_run_that_begins_is_not_over(alone):
    """What an earlier run of that name left on the broker does not count any more."""
    began = ["log/round", {"round": 0, "version": 0, "accepted": None}]
    about, done = ["manifest", {"model": "mlp"}], ["round", phase(9, "done")]
    assert "waiting for the first round" in known_of(alone, about, done, began)["now"]
    assert "round 1, collecting" in known_of(alone, ["round", phase(1, "train")], began)["now"]
    assert "removed from the broker" in known_of(alone, done, ["manifest", None])["now"]
    going_on = known_of(alone, ["log/round", {"round": 9}], done, ["round", None])["now"]
    assert "waiting for the next round" in going_on


def test_a_record_that_is_said_again_changes_nothing(alone):
    """After a reconnect the last record comes once more, when others are asked already."""
    vote = {"agent-1": {"poisoned": True, "score": 2.0, "threshold": 1.0, "size": 9}}
    votes = {"poisoned": 1, "clean": 0, "silent": 1}
    last = ["log/round", record_of(1, voters=vote, votes=votes)]
    asked = ["round", phase(1, "validate", ["agent-1", "agent-2"])]
    then = ["round", phase(2, "validate", ["agent-7"])]
    named = [[["agent-1", "poisoned"], ["agent-2", "silent"]]]
    assert known_of(alone, asked, last)["voters"] == named
    assert known_of(alone, asked, last, then, last)["voters"] == named
    late = known_of(alone, then, last)  # who was asked is not known any more, but how many were
    assert late["voters"] == [[["agent-1", "poisoned"], ["", "silent"]]]


def test_refusals_of_the_round_at_hand_are_counted_once(alone):
    """They are there before the round is over, and its record has them then."""
    now = ["log/invalid", {"round": 2, "invalid_messages": {"malformed": 4}, "latest": {}}]
    assert known_of(alone, *rounds_of(1), now)["invalid_messages"] == {
        "duplicate": 1,
        "malformed": 4,
    }
    then = rounds_of(2, invalid_messages={"malformed": 6})
    assert known_of(alone, *rounds_of(1), now, *then)["invalid_messages"] == {
        "duplicate": 1,
        "malformed": 6,
    }


def test_who_is_in_quarantine_keeps_what_brought_it_there(alone):
    """A record names those who are out, and how suspect they are only while they are called."""
    caught = rounds_of(1, suspicion={"a": 0.9}, flagged={"a": "burst"}, quarantined=[])
    out = rounds_of(2, suspicion={}, flagged={}, quarantined=["a", "b"], permanent=["b"])
    assert known_of(alone, *caught, *out)["suspects"] == [
        ["a", {"suspicion": 0.9, "detector": "burst", "state": "in quarantine"}],
        ["b", {"suspicion": None, "detector": "", "state": "out permanently"}],
    ]


def test_what_there_is_to_say_of_a_round_is_said(alone):
    """Piggy-back, pooled counts, attempts, missing ones and losses stand beside the votes."""
    record = record_of(
        5,
        judged=4,
        accepted=False,
        why="voted down",
        pooled={"score": 5.25, "threshold": 4.0},
        attempt=2,
        declined=2,
        missing=3,
        dropped=7,
        votes={"poisoned": 1, "clean": 1, "silent": 1},
    )
    first = record_of(1, accepted=None, judged=None, votes={}, voters={})
    said = alone.evaluate(
        r"""(records) => {
            const board = Board.fresh("lab"), list = document.querySelector("#rows");
            for (const record of records) Board.hear(board, "log/round", record);
            const made = (tag) => document.createElement(tag);
            const others = { line: made("p"), older: made("button"), only: made("input"),
                             newer: made("p"), tip: { hide() {} } };
            new Votes.List({ list, ...others }).draw(board.rows, "lab");
            return [...list.children].map((item) => item.innerText.replace(/\s+/g, " "));
        }""",
        [first, record],
    )
    assert said[0].endswith(
        "about round 4 · 1 poisoned, 1 clean, 1 silent · pooled score 5.25, threshold 4.00 · "
        "attempt 2 · 2 sat out · 3 missing · "
        "7 dropped by the broker"
    )
    assert re.fullmatch("#1 . pending 50.0%", said[1])


GROUPED = {
    "groups": {
        "0": {"members": ["a", "b"], "poisoned": 0, "clean": 2, "silent": 0, "why": ""},
        "1": {"members": ["c", "d"], "poisoned": 2, "clean": 0, "silent": 1, "why": "voted down"},
    },
    "group_voters": {
        "a": {"judged": 2, "poisoned": [1], "size": 3000, "cpu": 2000},
        "b": {"judged": 2, "poisoned": [1], "size": 4000, "cpu": 9000},
        "c": {"judged": 2, "poisoned": [], "size": 5000, "cpu": 4000},
    },
}
"""What a record says of two groups, of which the second is left out."""

GROUPS_KNOWN = r"""(said) => {
    const board = Board.fresh("lab"), list = document.querySelector("#rows");
    for (const [topic, data] of said) Board.hear(board, topic, data);
    const made = (tag) => document.createElement(tag), line = made("p");
    const others = { line, older: made("button"), only: made("input"), newer: made("p"),
                     tip: { hide() {} } };
    new Votes.List({ list, ...others }).draw(board.rows, "lab");
    const words = [], keys = ["ArrowDown", ...Array(9).fill("ArrowRight")];
    for (const key of keys) {
        list.dispatchEvent(new KeyboardEvent("keydown", { key }));
        words.push(line.textContent);
    }
    const signs = (item) => [...item.querySelectorAll(".vote")].map((vote) => vote.textContent);
    const history = (name) => [name, Groups.history(board, name)];
    return {
        signs: [...list.children].map((item) => signs(item).join("")),
        text: list.innerText.replace(/\s+/g, " "), words: [...new Set(words)],
        history: Object.fromEntries(["a", "c", "x"].map(history)),
        most: Groups.most(board), sum: Board.figures(board).groups, kept: board.votes,
        cost: Groups.cost(board.rows.at(-1)?.groups ?? {}),
    };
}"""


def test_groups_are_cells_below_the_votes(alone):
    """Each is told by the arrow keys after the votes: its verdict, its votes and its members."""
    found = alone.evaluate(GROUPS_KNOWN, rounds_of(1, **GROUPED))
    assert found["signs"] == ["✗✓✓✗"]
    assert "1 of 2 groups left out" in found["text"]
    assert found["words"][2:] == [
        "round 1, group 0: aggregated; 0 poisoned, 2 clean, 0 silent; 2 agents: a, b",
        "round 1, group 1: left out (voted down); 2 poisoned, 0 clean, 1 silent; 2 agents: c, d",
    ]
    assert found["cost"] == "4KB, 4 ms"
    none = {"votes": {}, "voters": {}}
    assert alone.evaluate(GROUPS_KNOWN, rounds_of(1, **GROUPED, **none))["signs"] == ["✓✗"]


def test_an_agent_has_a_history_of_groups(alone):
    """In how many it was, how many were left out, and the last rounds; others have none."""
    found = alone.evaluate(GROUPS_KNOWN, rounds_of(1, 2, 3, **GROUPED))
    assert found["history"] == {
        "a": "in a group in 3 rounds, never left out",
        "c": "in a group in 3 rounds, left out in 3 (the last: 3, 2, 1)",
        "x": "",
    }
    assert found["most"] == [["c", {"all": 3, "out": 3}], ["d", {"all": 3, "out": 3}]]
    assert found["sum"] == {"all": 6, "out": 3}


def test_rounds_that_are_gone_are_gone_from_the_history_of_groups(alone):
    """A run that went back, one that began again, and a record that is said again count once."""
    rounds = rounds_of(1, 2, 3, **GROUPED)
    back = [*rounds, ["round", {"round": 2, "attempt": 1, "phase": "train"}]]
    assert "in 1 (the last: 1)" in alone.evaluate(GROUPS_KNOWN, back)["history"]["c"]
    again = [*rounds, rounds[-1]]
    assert "in 3 (the last: 3, 2, 1)" in alone.evaluate(GROUPS_KNOWN, again)["history"]["c"]
    past = in_short([record_of(n, accuracy=0.9, **GROUPED) for n in (1, 2, 3)], {})
    found = alone.evaluate(GROUPS_KNOWN, [*rounds, past])  # other rounds, known by number alone
    assert (found["history"]["c"], found["sum"]) == ("", {"all": 6, "out": 3})
    begun = [*rounds, ["log/round", {"round": 0, "version": 0, "accepted": None}]]
    assert alone.evaluate(GROUPS_KNOWN, begun)["most"] == []


def test_hostile_groups_do_no_harm(alone):
    """Impossible values count as missing, and only so much is kept of whatever is said."""
    odd = {"0": 7, "x": {"why": "y"}, "1": {"members": [7, {}, "a"], "poisoned": -1, "why": 3}}
    found = alone.evaluate(GROUPS_KNOWN, rounds_of(1, groups=odd, group_voters=[1]))
    assert found["sum"] == {"all": 2, "out": 0}
    assert "round 1, group 0: aggregated; no vote; 0 agents" in found["words"]
    script = {"0": {"members": [SCRIPT], "why": SCRIPT}}
    found = alone.evaluate(GROUPS_KNOWN, rounds_of(1, groups=script))
    assert any(SCRIPT in words for words in found["words"])
    assert alone.locator("main img, main script").count() == 0
    many = {f"{n}": {"members": [f"a{n}-{i}" for i in range(50)], "why": "x"} for n in range(2000)}
    found = alone.evaluate(GROUPS_KNOWN, rounds_of(1, groups=many))
    assert found["sum"] == {"all": 2000, "out": 2000}
    assert found["kept"] == 2 + 1000 + 20_000
    assert len(found["most"]) == 12
    assert found["signs"] == ["✗✓" + "✗" * 200]
    lied = {"columns": ["round", "group_counts"], "rows": [[1, {"count": 2, "left_out": 9}]]}
    assert alone.evaluate(GROUPS_KNOWN, [["log/history", lied]])["sum"] == {"all": 2, "out": 2}


def test_a_run_on_numbers_is_shown_by_its_error(alone):
    """Nobody measured accuracy: tile, title, curve and rows are of the first metric."""
    nothing = {"accuracy": None, "candidate_accuracy": None}
    values = [{"rmse": 0.5, "mae": 12345.6}, {"rmse": 0.1234567}]
    records = [record_of(n, metrics=v, declined=2, **nothing) for n, v in enumerate(values, 1)]
    said = alone.evaluate(
        r"""(records) => {
            const { runs } = fedjury, shown = [];
            const text = (one) => one.innerText.replace(/\s+/g, " ");
            const look = () => {
                const { board } = runs;
                Words.figures(board, Board.figures(board));
                fedjury.charts[0].draw(board.rows);
                const tiles = [...document.querySelectorAll("#figures > div:not([hidden])")];
                shown.push({
                    tiles: tiles.map(text), title: document.title,
                    head: document.querySelector("#h-accuracy").textContent,
                    series: fedjury.charts[0].plot.series.map((one) => one.label),
                    drawn: [...fedjury.charts[0].plot.data[1]],
                });
            };
            runs.boards.set("numbers", Board.fresh("numbers"));
            runs.show("numbers");
            for (const [topic, data] of records) {
                if (topic === "look") look();
                else Board.hear(runs.board, topic, data);
            }
            runs.boards.delete("numbers");
            runs.shown = null;
            return shown;
        }""",
        [
            *(["log/round", one] for one in records[:1]),
            ["look", None],
            *(["log/round", one] for one in records[1:]),
            ["look", None],
            ["log/round", record_of(3, accuracy=0.75)],
            ["look", None],
        ],
    )
    first, second, third = said
    assert first["tiles"][1:3] == ["rmse 0.5", "mae 12,346"]
    assert second["tiles"][:2] == ["round 2", "rmse 0.1235"]
    assert not any(tile.startswith("accuracy") for tile in second["tiles"])
    assert (second["title"], second["head"]) == ("rmse 0.1235 #2 numbers", "rmse by round")
    assert second["series"] == ["round", "rmse", "rejected candidate"]
    assert second["drawn"] == [0.5, 0.1234567]
    assert third["head"] == "Accuracy by round"
    assert third["drawn"] == [None, None, 0.75]
    assert "accuracy 75.0%" in third["tiles"]


def test_absurd_numbers_and_texts_are_taken_for_nothing(alone):
    """Neither 1e308 nor a text that turns its neighbours around is shown; names are only names."""
    huge = dict.fromkeys(
        ("accuracy", "backdoor", "candidate_accuracy", "updates_per_second"), 1e308
    )
    odd = record_of(
        1,
        **huge | {"bytes_in": 1e300},
        suspicion={"a": 1e308, "constructor": 0.5},
        flagged={},
        quarantined=["__proto__"],
        why="a\u202eb\u0007\ud800\u2028c",
    )
    named = ["round", {**phase(2, "constructor"), "validators": ["__proto__"]}]
    found = known_of(alone, ["log/round", odd], named)
    assert found["rows"] == [[1, None]]
    assert [name for name, _ in found["suspects"]] == ["constructor", "__proto__"]
    assert found["suspects"][0][1]["detector"] == ""
    assert "round 2, waiting" in found["now"]
    row = alone.evaluate(
        "(said) => { const board = Board.fresh(''); Board.hear(board, 'log/round', said);"
        " return board.rows[0]; }",
        odd,
    )
    assert [row[key] for key in ("rate", "bytesIn", "backdoor", "candidate")] == [None] * 4
    assert row["why"] == "a b   c"
    assert known_of(alone, ["log/round", {"round": 2**53 - 1}])["rows"] == []


def test_the_largest_backdoor_let_in_stands_beside_the_last(alone):
    """Where a backdoor is measured there are tiles of both, and of the accuracy lost; else none."""
    harm = {"backdoor": 0.125, "largest_backdoor": 0.25, "accuracy_lost": 0.004}

    def tiles(said):
        return alone.evaluate(
            "(said) => { const board = Board.fresh(''); Board.hear(board, 'log/round', said);"
            " Words.figures(board, Board.figures(board));"
            " return ['backdoor', 'largest', 'lost'].map((name) => "
            " document.getElementById(`c-${name}`).hidden ? null : "
            " document.getElementById(`f-${name}`).textContent); }",
            said,
        )

    assert tiles(record_of(1, **harm)) == ["12.5%", "25.0%", "0.4"]
    assert tiles(record_of(1, accuracy_lost=0.004)) == [None] * 3


def test_what_privacy_has_cost_has_a_tile(alone):
    """With differential privacy alone; a record without a bound has no number to show."""

    def tile(said):
        return alone.evaluate(
            "(said) => { const board = Board.fresh(''); Board.hear(board, 'log/round', said);"
            " Words.figures(board, Board.figures(board));"
            " return document.getElementById('c-epsilon').hidden ? null :"
            " document.getElementById('f-epsilon').textContent; }",
            said,
        )

    spent = {"epsilon": 2.512, "delta": 1e-5, "releases": 3, "noise": 4.0}
    assert tile(record_of(1, privacy=spent)) == "2.5 (δ 0.00001)"
    assert tile(record_of(1, privacy=spent | {"epsilon": None})) is None
    assert tile(record_of(1)) is None


def test_a_flood_of_runs_does_not_hide_the_real_one(alone):
    """Made-up runs take each other's places, never that of one that speaks and has a manifest."""
    found = alone.evaluate("""() => {
        const runs = new Runs(), round = { round: 1, attempt: 1, phase: "train" };
        const shown = (now) => {
            const name = runs.choose(now);
            if (name !== runs.shown) runs.show(name);
        };
        for (let i = 0; i < 500; i++) runs.hear(`early${i}`, "round", round, false, 0);
        runs.hear("idle", "manifest", { model: "mlp" }, false, 0);
        runs.hear("real", "manifest", { model: "mlp" }, false, 0);
        runs.hear("real", "round", round, false, 0);
        const seen = [];
        for (let i = 0; i < 500; i++) {
            const now = 1e6 + i;
            runs.hear(`late${i}`, "round", round, true, now);
            if (i % 50 === 0) runs.hear("real", "round", round, true, now);
            shown(now);
            seen.push(runs.shown);
        }
        const there = runs.boards.has("idle"), bounded = runs.spoke.size <= 200;
        return [[...new Set(seen)], runs.boards.size, there, bounded];
    }""")
    assert found == [["real"], 200, True, True]


def test_of_two_runs_it_stays_with_the_one_that_is_at_work(alone):
    """It does not jump to and fro; it leaves one that is over, or that has been silent for long."""
    found = alone.evaluate("""() => {
        const runs = new Runs(), seen = [];
        const say = (name, phase, now) => {
            runs.hear(name, "round", { round: 1, attempt: 1, phase }, true, now);
            const next = runs.choose(now);
            if (next !== runs.shown) runs.show(next);
            seen.push(runs.shown);
        };
        say("a", "train", 1); say("b", "train", 2); say("a", "train", 3); say("b", "train", 4);
        say("a", "done", 5); say("b", "train", 6);
        say("c", "train", 7); say("c", "train", 60000);
        return seen;
    }""")
    assert found == ["a", "a", "a", "a", "a", "b", "b", "c"]


# ---------------------------------------------------------------- on a broker


class Says(RawClient):
    """Publishes as an aggregator and its agents would, or as nobody should."""

    def tell(self, topic, message, *, retain=True, run=RUN, root="fl/v2"):
        """Publish something of a run, and wait until the broker has it."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.paho.publish(f"{root}/{run}/{topic}", payload, 1, retain).wait_for_publish(10)


SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"

HOSTILE = {
    "log/round": [
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"17",
        b'"x"',
        b"{}",
        b"[" * 50_000,
        {"round": "7"},
        {"round": -1},
        {"round": 1e400},
        {"round": 3, "votes": 7, "voters": []},
        {"round": 4, "accuracy": "high", "votes": {"poisoned": 10**9}, "voters": {"x": 3, "y": 0}},
        {
            "round": 5,
            "why": SCRIPT,
            "accepted": False,
            "voters": {SCRIPT: {"poisoned": True}},
            "suspicion": {SCRIPT: 1.0},
            "flagged": {SCRIPT: SCRIPT},
            "invalid_messages": {SCRIPT: 3},
        },
        {"round": 6, "attempt": 2, "repeated": SCRIPT},
        {"round": 6, "voters": {f"v{i}": {"poisoned": True} for i in range(5000)}},
        {
            "round": 7,
            "suspicion": [1],
            "quarantined": {"a": 1},
            "invalid_messages": {"x": -3, "y": "many"},
        },
        {"__proto__": {"polluted": 1}, "round": 8, "votes": {"__proto__": {"polluted": 1}}},
    ],
    "log/history": [b"[1]", {"columns": 3, "rows": "x"}, {"columns": ["round"], "rows": [1, [{}]]}],
    "log/invalid": [{"latest": 3}, {"latest": {"agent": SCRIPT, "reason": SCRIPT}}],
    "round": [b"\0", {"round": {}}, {"phase": SCRIPT, "round": 1, "validators": 3}],
    "manifest": [b"", {"model": SCRIPT, "codec": [], "parameters": -1}],
    "agent/agent-1": [b"x", {"online": "yes"}, [True]],
}


def test_garbage_on_its_topics_does_no_harm(chromium, stack, tmp_path):
    """Whatever is published, text is shown as text, and what is right is shown all the same."""
    with place("mosquitto", tmp_path) as where, looked_at(chromium, where.url) as page:
        sender = stack.enter_context(Says(where.address))
        sender.tell("round", phase(1, "train"))
        until(lambda: page.evaluate("fedjury.shown !== undefined"), 10)
        for topic, messages in HOSTILE.items():
            for message in messages:
                sender.tell(topic, message)
        sender.tell("round", phase(9, "train"))
        sender.tell("log/round", record_of(9, why=SCRIPT))
        until(lambda: text_of(page, "f-round") == "9", 10)
        until(lambda: SCRIPT in rows_text(page), 5)
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate("({}).polluted === undefined")
        assert text_of(page, "f-accuracy") == "50.0%"


def rows_text(page):
    return page.text_content("#rows")


def test_it_has_limits(alone):
    """A run of many rounds, agents and names takes no more than so much memory."""
    kept = alone.evaluate("""() => {
            const board = Board.fresh("big");
            for (let round = 1; round <= 6000; round++) Board.hear(board, "log/round", { round });
            for (let i = 0; i < 30000; i++) Board.hear(board, `agent/a${i}`, { online: true });
            const many = Object.fromEntries(Array.from({ length: 30000 }, (_, i) => [`a${i}`, 1]));
            const round = { round: 6001, suspicion: many, invalid_messages: many, voters: many };
            Board.hear(board, "log/round", round);
            const kept = [board.rows.length, board.agents.size, board.suspects.size,
                    board.rows.at(-1).voters.length, board.rows.at(-1).refused.size];
            const some = Object.fromEntries(Object.entries(many).slice(0, 1000));
            for (let round = 6002; round <= 6300; round++)
                Board.hear(board, "log/round", { round, voters: some, accepted: true });
            const named = board.rows.filter((row) => row.voters.length).length;
            const { accepted, first } = Board.figures(board);
            return [...kept, board.votes, named, accepted, first];
        }""")
    assert kept == [5000, 20000, 20000, 1000, 50, 200_000, 200, 299, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_that_goes_is_told_of_and_found_again(kind, chromium, stack, tmp_path):
    """The page says that the broker is gone, keeps what it knows, and goes on when it is back."""
    with contextlib.ExitStack() as first:
        where = first.enter_context(place(kind, tmp_path))
        url = where.url
        if kind == "embedded":  # the page comes from us, and is there when the broker is not
            url = stack.enter_context(served(where.address.websockets))
        page = stack.enter_context(looked_at(chromium, url))
        sender = stack.enter_context(Says(where.address))
        sender.tell("log/round", record_of(1), retain=False)
        sender.tell("round", phase(2, "train"))
        sender.tell("log/round", record_of(1))
        for name in ("stays", "dies"):
            sender.tell(f"agent/{name}", {"online": True, "since": 1})
        until(lambda: text_of(page, "f-round") == "1", 10)
        until(lambda: text_of(page, "f-online") == "2 of 2", 10)
        first.close()
        page.wait_for_selector("#banner:not([hidden])")
        assert re.search(r"has been unreachable since [0-9:]+", text_of(page, "banner"))
        assert text_of(page, "link") == "broker gone"
        assert text_of(page, "f-round") == "1"
        ports = {
            "port": where.address.port,
            "page": int(where.address.websockets.rpartition(":")[2]),
        }
        again = stack.enter_context(
            local_broker(kind, say=lambda _: None, log=tmp_path / "again.log", **ports)
        )
        assert again.websockets == where.address.websockets
        sender = stack.enter_context(Says(again))
        sender.tell("agent/stays", {"online": True, "since": 1})
        sender.tell(*in_short([record_of(number) for number in (1, 2, 3)], {}))
        sender.tell("log/round", record_of(4))
        until(lambda: text_of(page, "f-round") == "4", 20)
        page.wait_for_selector("#banner", state="hidden")
        until(
            lambda: sorted(rows_of(page)) == [1, 2, 3, 4], 5
        )  # those that it did not hear as well
        until(lambda: text_of(page, "f-online") == "1 of 1", 5)  # last wills went with the broker
        for last in (4, 7):  # the second it does not listen to until it notices a gap
            sender.tell(*in_short([record_of(number) for number in range(1, last + 1)], {}))
            page.wait_for_timeout(300)
        sender.tell("log/round", record_of(8))
        until(lambda: sorted(rows_of(page)) == list(range(1, 9)), 5)


def test_runs_below_another_root_are_shown_where_the_address_names_it(chromium, stack, tmp_path):
    """The page of a root sees that root's run, and not one of the same name below the usual."""
    deep = "acme/plant-7/fl/v2"
    with place("mosquitto", tmp_path) as where:
        page = stack.enter_context(looked_at(chromium, page_at(where.url, deep)))
        sender = stack.enter_context(Says(where.address))
        sender.tell("round", phase(9, "train"))
        sender.tell("log/round", record_of(8))
        sender.tell("round", phase(3, "train"), root=deep)
        sender.tell("agent/ann", {"online": True, "since": 1}, root=deep)
        for number in (1, 2):
            sender.tell("log/round", record_of(number), root=deep)
        until(lambda: text_of(page, "f-round") == "2", 10)
        until(lambda: text_of(page, "f-online") == "1 of 1", 10)
        page.close()


READ_OUT = """() => {
    window.readOut = [];
    const heard = new MutationObserver((changes) => {
        for (const change of changes) readOut.push(change.target.textContent);
    });
    const live = document.querySelectorAll("[role=status], [role=alert], [aria-live]");
    const all = { childList: true, characterData: true, subtree: true };
    for (const one of live) heard.observe(one, all);
}"""
"""Notes what a screen reader would say by itself."""


def test_it_keeps_up_with_a_thousand_agents_and_ten_rounds_a_second(chromium, stack, tmp_path):
    """Of a hundred rounds in ten seconds, with a thousand suspicions each, none is missed.

    Thirty agents a round send updates: Mosquitto 2.0 passes 4 kB to a browser whenever its loop
    turns, which without any other traffic it does ten times a second.
    """
    names = [f"agent-{i:03d}" for i in range(1000)]
    with place("mosquitto", tmp_path) as where, looked_at(chromium, where.url) as page:
        sender = stack.enter_context(Says(where.address))
        sender.tell("round", phase(1, "train"))
        for name in names:
            sender.paho.publish(f"fl/v2/{RUN}/agent/{name}", b'{"online":true,"since":1}', 1, True)
        until(lambda: text_of(page, "f-online") == "1,000 of 1,000", 20)
        page.evaluate(READ_OUT)
        began = time.monotonic()
        for number in range(1, 101):
            sender.tell("round", phase(number, "train"))
            sender.tell("log/round", busy_record(number, names))
            for turn in range(30):
                sender.paho.publish(f"fl/v2/{RUN}/update/{names[turn]}", b"an update")
                due = began + number / 10 + turn / 300
                time.sleep(max(0.0, due - time.monotonic()))
        until(lambda: text_of(page, "f-round") == "100", 10)
        assert drawn(page, 0)[1] == [number / 1000 for number in range(1, 101)]
        assert len(rows_of(page)) == 40
        page.click("#older")
        assert len(rows_of(page)) == 80
        assert page.evaluate("readOut") == [], "a screen reader would not stop talking"
        sender.tell("round", phase(100, "done"))
        until(lambda: page.evaluate("readOut") == [f"{RUN}: the run is over"], 5)


def busy_record(number, names):
    """Make the record of a round with forty validators, and a suspicion of everybody."""
    vote = {"score": 1.0, "threshold": 2.0, "size": 1}
    return record_of(
        number,
        accuracy=number / 1000,
        flagged={},
        quarantined=[],
        voters={name: {"poisoned": i % 3 == 0, **vote} for i, name in enumerate(names[:40])},
        suspicion={name: (number + i) % 100 / 100 for i, name in enumerate(names)},
    )


@pytest.mark.parametrize("width", [390, 320])
def test_it_fits_a_phone(width, chromium, stack, tmp_path):
    """On a narrow screen nothing sticks out to the side."""
    screen = {"width": width, "height": 700}
    with (
        place("mosquitto", tmp_path) as where,
        looked_at(chromium, where.url, viewport=screen, has_touch=True, is_mobile=True) as page,
    ):
        sender = stack.enter_context(Says(where.address))
        long = "a-run-with-a-name-as-long-as-names-may-be-" + "x" * 22
        sender.tell("round", phase(1, "train"), run=long)
        groups = {f"{n}": {"members": ["a"], "why": "x" * (n % 2)} for n in range(120)}
        said = record_of(1, why="voted down " * 9, accepted=False, **GROUPED | {"groups": groups})
        sender.tell("log/round", said, run=long)
        until(lambda: text_of(page, "f-round") == "1", 10)
        page.locator("#rows .vote >> nth=0").tap()
        assert text_of(page, "tip").startswith("round 1, agent-1: poisoned")
        box = page.locator("#tip").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        page.locator("#h-votes").tap()
        assert not page.is_visible("#tip")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


CONTRAST = """([front, back]) => {
    const light = (name) => {
        const spot = document.createElement("p");
        spot.style.color = getComputedStyle(document.documentElement).getPropertyValue(name);
        document.body.append(spot);
        const parts = getComputedStyle(spot).color.match(/[0-9.]+/g).map((v) => v / 255);
        spot.remove();
        const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = parts.map(linear);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_in_dark(scheme, chromium, tmp_path):
    """It follows the system, its button overrules that, and its colours have contrast (WCAG AA)."""
    with (
        place("mosquitto", tmp_path) as where,
        looked_at(chromium, where.url, color_scheme=scheme) as page,
    ):

        def ground():
            return page.evaluate("getComputedStyle(document.body).backgroundColor")

        first = ground()
        for colour in ("--text", "--muted", "--clean", "--poisoned"):
            for back in ("--ground", "--card"):
                assert page.evaluate(CONTRAST, [colour, back]) >= 4.5, (colour, back)
        page.focus("#theme")
        page.keyboard.press("Enter")  # light
        assert (ground() == first) == (scheme == "light")
        page.keyboard.press("Enter")  # dark
        assert (ground() == first) == (scheme == "dark")
        page.keyboard.press("Enter")
        assert ground() == first


def test_the_keyboard_reaches_every_vote_agent_and_run(chromium, stack, tmp_path):
    """With tab and arrow keys alone each vote and agent is told, and another run is picked."""
    with place("mosquitto", tmp_path) as where:
        sender = stack.enter_context(Says(where.address))
        for run in ("one", "two"):
            sender.tell("round", phase(3, "train"), run=run)
            for number in (1, 2):
                sender.tell("log/round", record_of(number), run=run)
            sender.tell("agent/agent-1", {"online": True, "since": 1}, run=run)
        # A page that was there before would stay with the run that it heard first.
        page = stack.enter_context(looked_at(chromium, where.url))
        until(lambda: text_of(page, "f-round") == "2", 10)
        sender.tell("round", phase(4, "train"), run="two")  # who spoke last is shown
        until(lambda: text_of(page, "now").startswith("two: round 4"), 10)
        until(lambda: 2 in rows_of(page), 10)
        sender.tell("log/round", record_of(3), run="two")
        until(lambda: 3 in rows_of(page), 10)
        check_the_rounds(page, sender)
        check_the_pictures(page)
        check_the_agents(page)
        page.select_option("#run", "one")
        until(lambda: text_of(page, "now").startswith("one:"), 5)
        assert page.url.endswith("#run=one")
        sender.tell("log/round", record_of(5), run="two")  # who has picked is not taken elsewhere
        page.wait_for_timeout(600)
        assert text_of(page, "now").startswith("one:")
        page.focus("#skip")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "rows"
        assert page.url.endswith("#run=one")
        check_that_tab_reaches(
            page, "skip run theme chart-accuracy only-rejected rows chart-network map"
        )


def check_the_rounds(page, sender):
    """Go from vote to vote; the list stands still meanwhile, until Home."""
    page.focus("#rows")
    page.keyboard.press("ArrowDown")
    assert "round 3, agent-1: poisoned, score 2.00 above threshold 1.00" in text_of(
        page, "vote-said"
    )
    page.keyboard.press("ArrowRight")
    assert "round 3, agent-2: clean, score 0.500 within" in text_of(page, "vote-said")
    page.keyboard.press("ArrowDown")
    assert text_of(page, "vote-said").startswith("round 2, agent-2")
    assert page.get_attribute("#rows", "aria-activedescendant") == "round-2"
    sender.tell("log/round", record_of(4), run="two")  # who is at the list is left in peace
    until(lambda: text_of(page, "newer").startswith("1 newer"), 5)
    assert 4 not in rows_of(page)
    page.keyboard.press("Home")
    assert text_of(page, "vote-said").startswith("round 4, agent-2")
    assert 4 in rows_of(page)
    assert text_of(page, "newer") == ""


def check_the_pictures(page):
    """Read rounds off the pictures."""
    page.focus("#chart-accuracy")
    page.keyboard.press("ArrowLeft")
    assert text_of(page, "accuracy-said") == "round 4: accuracy 50.0%"
    page.keyboard.press("Home")
    assert text_of(page, "accuracy-said") == f"round {min(rows_of(page))}: accuracy 50.0%"
    page.focus("#chart-network")
    page.keyboard.press("ArrowRight")
    assert text_of(page, "network-said") == "round 4: updates/s 20, bytes in 100, bytes out 100"


def check_the_agents(page):
    """Go from agent to agent, by keyboard and by mouse."""
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert text_of(page, "agent-said") == "agent-1: online"
    page.hover("#map", position={"x": 5, "y": 5})
    assert text_of(page, "tip") == "agent-1: online"
    page.keyboard.press("Escape")
    assert not page.is_visible("#tip")


def check_that_tab_reaches(page, names):
    """Press Tab from the first on: it comes by all of these, in this order."""
    first, *others = names.split()
    page.focus(f"#{first}")
    for name in others:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name


def test_a_run_is_picked_by_the_address(chromium, stack, tmp_path):
    """It may begin later, another address changes it, and what is no name of a run picks none."""
    with place("mosquitto", tmp_path) as where:
        start = where.url.rstrip("/") + "/index.html"
        with looked_at(chromium, f"{start}#run=later") as page:
            until(lambda: text_of(page, "now") == "later: no messages of this run yet", 10)
            sender = stack.enter_context(Says(where.address))
            sender.tell("round", phase(1, "train"), run="other")
            sender.tell("log/round", record_of(1), run="other")
            sender.tell("log/round", record_of(3), run="later")
            until(lambda: text_of(page, "f-round") == "3", 10)
            assert text_of(page, "now").startswith("later:")
            page.evaluate("location.hash = '#run=other'")
            until(lambda: text_of(page, "f-round") == "1", 10)
            for odd in ("+", "%23", "a%2Fb", "x" * 65):
                page.evaluate(f"location.hash = '#run={odd}'")
                until(lambda: page.input_value("#run") == "", 5)
            assert text_of(page, "link") == "live"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "opened as a file"),
        ("?broker=http://x", "http://x is not the address of a broker"),
        ("?broker=ws://127.0.0.1:99999", "is not the address of a broker"),
        ("?broker=ws://a%20b", "is not the address of a broker"),
        ("?broker=127.0.0.1:1", "No broker answers at ws://127.0.0.1:1;"),
    ],
)
def test_where_there_is_no_broker_it_says_so(query, said, chromium):
    """Opened as a file, with a wrong address, or with one at which nobody answers."""
    page = chromium.new_page()
    try:
        page.goto((FILES / "index.html").as_uri() + query)
        until(lambda: page.is_visible("#banner"), 10)
        page.wait_for_timeout(300)  # it stays
        assert said in text_of(page, "banner")
    finally:
        page.close()


def test_before_any_run_it_says_how_to_start_one(chromium, tmp_path):
    """An empty broker is no fault: there is a command to go on with."""
    with place("mosquitto", tmp_path) as where, looked_at(chromium, where.url) as page:
        until(lambda: "python run.py --broker" in text_of(page, "now"), 10)


@pytest.mark.parametrize("tls", ["", "passwords"])
def test_who_has_to_log_in_is_asked(tls, chromium, tmp_path):
    """A broker with logins lets people in by theirs alone, and the page says what is wrong."""
    secrets = tmp_path / "secrets"
    enrolment.enrol(secrets, principals(3), tls=tls, hosts=["127.0.0.1"] if tls else [])
    password = (secrets / "people" / "watch.password").read_text()
    with (
        place("mosquitto", tmp_path, secrets=secrets) as where,
        looked_at(chromium, where.url, ignore_https_errors=True) as page,
    ):
        assert where.address.websockets.startswith("wss:" if tls else "ws:")
        page.wait_for_selector("#login:not([hidden])")
        until(lambda: text_of(page, "link") == "login needed", 5)
        assert text_of(page, "asking").startswith(where.address.websockets)
        page.fill("#password", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#wrong:not([hidden])")
        page.fill("#password", password)
        page.keyboard.press("Enter")
        page.wait_for_selector(".pill.live")
        run = [
            sys.executable,
            "-m",
            "aggregator",
            "--secrets",
            str(secrets),
            "--run",
            RUN,
            "--data",
            "digits",
            "--model",
            "mlp",
            "--set",
            f"run.directory={tmp_path}",
            "--broker",
            f"127.0.0.1:{where.address.port}",
        ]
        with warm.Popen(run, cwd=ROOT, stdout=subprocess.DEVNULL) as aggregator:
            until(lambda: "mlp" in text_of(page, "about"), 30)
            aggregator.terminate()


def test_two_with_one_log_in_are_told_so(chromium, tmp_path):
    """A login is good for one connection: the page says that, and not that the broker is gone."""
    secrets = tmp_path / "secrets"
    enrolment.enrol(secrets, principals(3))
    password = (secrets / "people" / "watch.password").read_text()
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(place("mosquitto", tmp_path, secrets=secrets))
        pages = [stack.enter_context(looked_at(chromium, where.url)) for _ in range(2)]
        for page in pages:
            page.wait_for_selector("#login:not([hidden])")
            page.fill("#password", password)
            page.keyboard.press("Enter")
        for page in pages:
            until(lambda page=page: "using the same login" in text_of(page, "banner"), 30)
        seen = set()
        for _ in range(8):  # it does not flicker
            pages[0].wait_for_timeout(250)
            seen.add(text_of(pages[0], "link"))
        assert seen == {"disconnected"}


VENDORED = {
    "mqtt.min.js": "f3cbeae580d3010048938ee370f2db0c15d16e6f7fc147cb32ae5510e571b387",
    "uplot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""Files of others, as their packages mqtt 5.16.0 and uplot 1.6.32 have them: their SHA-256."""


def test_files_of_others_are_as_they_were_published():
    """What is not ours is unchanged, and has its licence beside it."""
    folder = FILES / "vendor"
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.suffix in (".js", ".css")
    }
    assert found == VENDORED
    for package in ("mqtt", "uplot"):
        assert "MIT" in (folder / f"{package}.LICENSE").read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere():
    """No address of another server is in what is ours, so that nothing is fetched from one."""
    for file in FILES.iterdir():
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), file.name
