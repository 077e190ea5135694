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
from types import SimpleNamespace

import pytest
from conftest import ROOT
from listening import RawClient, until

from aggregator.store import read_records
from broker import enrolment
from broker.enrol import parties
from broker.install import find_mosquitto
from broker.local import local_broker
from monitor.live.browser import find_chromium, launched
from monitor.live.serving import FILES, served

if find_chromium() is None and not os.environ.get("CI"):
    pytest.skip("no Chromium on this machine (apt install chromium)", allow_module_level=True)

OURS = re.compile(r"(blob:)?https?://127\.0\.0\.1[:/]|data:,")
KINDS = ["mosquitto", "embedded"]
PERCENT = "{:.1%}".format
RUN = "seen"
FEDERATION = [
    "--data", "digits", "--model", "mlp", "--n", "12", "--evil", "0.25", "--samples", "60",
    "--attack", "mpaf", "--start", "5", "--look-back", "3", "--validators", "6", "--quorum", "3",
    "--detect", "fixed_point", "--rounds", "9", "--set", "validation.minimum_history=4",
]  # fmt: skip
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
        # The broker going is part of life, and Chromium writes each failed attempt down.
        assert [text for text in wrong if "WebSocket connection to" not in text] == []
        assert [one for one in asked if not OURS.match(one)] == []
    finally:
        opened.close()


def federation(place, folder, *more):
    """Run a federation at the broker, in a program of its own."""
    command = [sys.executable, "run.py", "--broker", f"127.0.0.1:{place.address.port}", "--run",
               RUN, "--set", f"run.directory={folder}", *FEDERATION, *more]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return read_records(folder / RUN)


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


@pytest.mark.broker
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
        with looked_at(chromium, where.url) as late:  # it sees what log/past says
            until(lambda: drawn(late, 0)[1] == [one["accuracy"] for one in records], 5)
            assert drawn(late, 1) == drawn(page, 1)
            shown = rows_of(late)
            assert shown[9] == rows_of(page)[9]
            for record in records:
                votes = shown[record["round"]][2]
                assert votes.count("✗") == record["votes"]["poisoned"]
                assert votes.count("✓") == record["votes"]["clean"]


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
    assert last["suspected"], "nobody is suspected: nothing to compare"
    cells = page.eval_on_selector_all(
        "#suspects tbody tr",
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))",
    )
    found = {name: (float(value), by) for name, value, by, state in cells if state == "suspected"}
    assert found == {
        name: (pytest.approx(last["suspicion"][name], abs=0.005), by)
        for name, by in last["suspected"].items()
    }


@pytest.mark.broker
def test_run_py_shows_it(chromium, tmp_path):
    """With --monitor run.py says where the page is, and the page shows the run."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    command = [sys.executable, "run.py", "--monitor", "0", "--run", RUN, "--set",
               f"run.directory={tmp_path}", *FEDERATION, "--rounds", "200"]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if "DISPLAY" not in key}
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        first = child.stdout.readline()
        url = re.fullmatch(r"the live page: (http://127.0.0.1:[0-9]+/)\n", first)[1]
        with looked_at(chromium, url) as page:
            until(
                lambda: text_of(page, "f-round").isdigit() and int(text_of(page, "f-round")) > 5, 30
            )
            child.send_signal(signal.SIGINT)
            page.wait_for_selector("#banner:not([hidden])")
            assert "is gone since" in text_of(page, "banner")
            assert int(text_of(page, "f-round")) > 5  # what was said stays
        assert child.wait(20) == 130
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


class Says(RawClient):
    """Publishes as an aggregator and its agents would, or as nobody should."""

    def tell(self, topic, message, *, retain=True, run=RUN):
        """Publish something of a run, and wait until the broker has it."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.paho.publish(f"fl/v1/{run}/{topic}", payload, 1, retain).wait_for_publish(10)


def record_of(number, **more):
    """Make a record by hand, of a round in which one of two validators found poison."""
    voters = {
        "agent-1": {"poisoned": True, "score": 2.0, "threshold": 1.0, "bytes": 9},
        "agent-2": {"poisoned": False, "score": 0.5, "threshold": 1.0, "bytes": 9},
    }
    return {
        "round": number, "attempt": 1, "version": number, "accepted": True, "why": "",
        "called": 2, "updates": 2, "missing": 0, "refused": {"duplicate": 1}, "accuracy": 0.5,
        "backdoor": None, "votes": {"poisoned": 1, "clean": 1, "silent": 0}, "voters": voters,
        "seconds": 0.1, "updates_per_second": 20.0, "bytes_in": 100, "bytes_out": 100, **more,
    }  # fmt: skip


def phase(number, name, validators=()):
    return {"round": number, "attempt": 1, "phase": name, "version": 0, "contributors": "all",
            "validators": list(validators), "seconds": 5}  # fmt: skip


SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"

HOSTILE = {
    "log/round": [
        b"\xff\xfe", b"{", b"[]", b"null", b"17", b'"x"', b"{}", b"[" * 50_000,
        {"round": "7"}, {"round": -1}, {"round": 1e400}, {"round": 3, "votes": 7, "voters": []},
        {"round": 4, "accuracy": "high", "votes": {"poisoned": 10**9}, "voters": {"x": 3, "y": 0}},
        {"round": 5, "why": SCRIPT, "accepted": False, "voters": {SCRIPT: {"poisoned": True}},
         "suspicion": {SCRIPT: 1.0}, "suspected": {SCRIPT: SCRIPT}, "refused": {SCRIPT: 3}},
        {"round": 6, "attempt": 2, "repeated": SCRIPT},
        {"round": 6, "voters": {f"v{i}": {"poisoned": True} for i in range(5000)}},
        {"round": 7, "suspicion": [1], "quarantined": {"a": 1}, "refused": {"x": -3, "y": "many"}},
        {"__proto__": {"polluted": 1}, "round": 8, "votes": {"__proto__": {"polluted": 1}}},
    ],
    "log/past": [b"[1]", {"columns": 3, "rows": "x"}, {"columns": ["round"], "rows": [1, [{}]]}],
    "log/refused": [{"latest": 3}, {"latest": {"agent": SCRIPT, "reason": SCRIPT}}],
    "round": [b"\0", {"round": {}}, {"phase": SCRIPT, "round": 1, "validators": 3}],
    "manifest": [b"", {"model": SCRIPT, "codec": [], "parameters": -1}],
    "agent/agent-1": [b"x", {"online": "yes"}, [True]],
}  # fmt: skip


@pytest.mark.broker
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


@pytest.mark.broker
def test_it_has_limits(chromium, tmp_path):
    """A run of many rounds, agents and names takes no more than so much memory."""
    with place("mosquitto", tmp_path) as where, looked_at(chromium, where.url) as page:
        kept = page.evaluate("""() => {
            const board = Board.fresh("big");
            for (let round = 1; round <= 6000; round++) Board.hear(board, "log/round", { round });
            for (let i = 0; i < 30000; i++) Board.hear(board, `agent/a${i}`, { online: true });
            const many = Object.fromEntries(Array.from({ length: 30000 }, (_, i) => [`a${i}`, 1]));
            const round = { round: 6001, suspicion: many, refused: many, voters: many };
            Board.hear(board, "log/round", round);
            return [board.rows.length, board.agents.size, board.suspects.size,
                    board.rows.at(-1).voters.length, board.rows.at(-1).refused.size];
        }""")
        assert kept == [5000, 20000, 20000, 1000, 50]


@pytest.mark.broker
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
        until(lambda: text_of(page, "f-round") == "1", 10)
        first.close()
        page.wait_for_selector("#banner:not([hidden])")
        assert re.search(r"is gone since [0-9:]+", text_of(page, "banner"))
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
        sender.tell("log/round", record_of(2))
        until(lambda: text_of(page, "f-round") == "2", 20)
        page.wait_for_selector("#banner", state="hidden")
        assert sorted(rows_of(page)) == [1, 2]


@pytest.mark.broker
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
            sender.paho.publish(f"fl/v1/{RUN}/agent/{name}", b'{"online":true,"since":1}', 1, True)
        until(lambda: text_of(page, "f-online") == "1,000 of 1,000", 20)
        began = time.monotonic()
        for number in range(1, 101):
            sender.tell("log/round", busy_record(number, names))
            for turn in range(30):
                sender.paho.publish(f"fl/v1/{RUN}/update/{names[turn]}", b"an update")
                due = began + number / 10 + turn / 300
                time.sleep(max(0.0, due - time.monotonic()))
        until(lambda: text_of(page, "f-round") == "100", 10)
        assert drawn(page, 0)[1] == [number / 1000 for number in range(1, 101)]
        assert len(rows_of(page)) == 40
        page.click("#older")
        assert len(rows_of(page)) == 80


def busy_record(number, names):
    """Make the record of a round with forty validators, and a suspicion of everybody."""
    vote = {"score": 1.0, "threshold": 2.0, "bytes": 1}
    return record_of(
        number, accuracy=number / 1000, suspected={}, quarantined=[],
        voters={name: {"poisoned": i % 3 == 0, **vote} for i, name in enumerate(names[:40])},
        suspicion={name: (number + i) % 100 / 100 for i, name in enumerate(names)},
    )  # fmt: skip


@pytest.mark.broker
@pytest.mark.parametrize("width", [390, 320])
def test_it_fits_a_phone(width, chromium, stack, tmp_path):
    """On a narrow screen nothing sticks out to the side."""
    screen = {"width": width, "height": 700}
    with place("mosquitto", tmp_path) as where, looked_at(
        chromium, where.url, viewport=screen, has_touch=True, is_mobile=True
    ) as page:  # fmt: skip
        sender = stack.enter_context(Says(where.address))
        long = "a-run-with-a-name-as-long-as-names-may-be-" + "x" * 22
        sender.tell("round", phase(1, "train"), run=long)
        sender.tell("log/round", record_of(1, why="voted down " * 9, accepted=False), run=long)
        until(lambda: text_of(page, "f-round") == "1", 10)
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


@pytest.mark.broker
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_in_dark(scheme, chromium, tmp_path):
    """It follows the system, its button overrules that, and its colours have contrast (WCAG AA)."""
    with place("mosquitto", tmp_path) as where, looked_at(
        chromium, where.url, color_scheme=scheme
    ) as page:  # fmt: skip

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


@pytest.mark.broker
def test_the_keyboard_reaches_every_vote_agent_and_run(chromium, stack, tmp_path):
    """With tab and arrow keys alone each vote and agent is told, and another run is picked."""
    with place("mosquitto", tmp_path) as where, looked_at(chromium, where.url) as page:
        sender = stack.enter_context(Says(where.address))
        for run in ("one", "two"):
            sender.tell("round", phase(3, "train"), run=run)
            for number in (1, 2):
                sender.tell("log/round", record_of(number), run=run)
            sender.tell("agent/agent-1", {"online": True, "since": 1}, run=run)
        until(lambda: text_of(page, "f-round") == "2", 10)
        sender.tell("round", phase(4, "train"), run="two")  # who spoke last is shown
        until(lambda: text_of(page, "now").startswith("two: round 4"), 10)
        until(lambda: 2 in rows_of(page), 10)
        sender.tell("log/round", record_of(3), run="two")
        until(lambda: 3 in rows_of(page), 10)
        page.focus("#rows")
        page.keyboard.press("ArrowDown")
        assert "round 3, agent-1: poisoned, score 2.00 above threshold 1.00" in text_of(
            page, "vote-said"
        )
        page.keyboard.press("ArrowRight")
        assert "round 3, agent-2: clean, score 0.500 within" in text_of(page, "vote-said")
        page.keyboard.press("ArrowDown")
        assert text_of(page, "vote-said").startswith("round 2, agent-2")
        page.focus("#map")
        page.keyboard.press("ArrowRight")
        assert text_of(page, "agent-said") == "agent-1: online"
        page.hover("#map", position={"x": 5, "y": 5})
        assert text_of(page, "tip") == "agent-1: online"
        page.select_option("#run", "one")
        until(lambda: text_of(page, "now").startswith("one:"), 5)
        assert page.url.endswith("#run=one")
        sender.tell("log/round", record_of(4), run="two")  # who has picked is not taken elsewhere
        page.wait_for_timeout(600)
        assert text_of(page, "now").startswith("one:")


@pytest.mark.broker
@pytest.mark.parametrize("tls", ["", "passwords"])
def test_who_has_to_log_in_is_asked(tls, chromium, tmp_path):
    """A broker with log-ins lets people in by theirs alone, and the page says what is wrong."""
    secrets = tmp_path / "secrets"
    enrolment.enrol(secrets, parties(3), tls=tls, hosts=["127.0.0.1"] if tls else [])
    password = (secrets / "people" / "watch.password").read_text()
    with place("mosquitto", tmp_path, secrets=secrets) as where, looked_at(
        chromium, where.url, ignore_https_errors=True
    ) as page:  # fmt: skip
        assert where.address.websockets.startswith("wss:" if tls else "ws:")
        page.wait_for_selector("#login:not([hidden])")
        until(lambda: text_of(page, "link") == "log-in needed", 5)
        page.fill("#password", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#login p.wrong")
        page.fill("#password", password)
        page.keyboard.press("Enter")
        page.wait_for_selector(".pill.live")
        run = [sys.executable, "-m", "aggregator", "--secrets", str(secrets), "--run", RUN,
               "--data", "digits", "--model", "mlp", "--set", f"run.directory={tmp_path}",
               "--broker", f"127.0.0.1:{where.address.port}"]  # fmt: skip
        with subprocess.Popen(run, cwd=ROOT, stdout=subprocess.DEVNULL) as aggregator:
            until(lambda: "mlp" in text_of(page, "about"), 30)
            aggregator.terminate()


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
        for file in folder.iterdir() if file.suffix in (".js", ".css")
    }  # fmt: skip
    assert found == VENDORED
    for package in ("mqtt", "uplot"):
        assert "MIT" in (folder / f"{package}.LICENSE").read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere():
    """No address of another server is in what is ours, so that nothing is fetched from one."""
    for file in FILES.iterdir():
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), file.name
