"""A fleet's processes: what they report, who is started again, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from support import warm
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture
from support.listening import until

from fedjury.agents import worker_pool
from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.worker_pool import WorkerPool
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.config.toml import to_toml
from fedjury.processes import death
from fedjury.protocol.transport.connection import TransportError

ROOT = Path(__file__).resolve().parents[2]
KIND = "mosquitto" if find_mosquitto() else "embedded"

SHARES = [range(3), range(3, 7)]


class Told:
    """What a crew says to people, and the counts it shows."""

    def __init__(self, work, shares=SHARES, then=None, *, fresh=False):
        self.said, self.shown = [], []
        self._then = then or {}
        self.crew = WorkerPool(work, shares, self.say, fresh=fresh)

    def say(self, text):
        """Keep a sentence, and do what follows on it."""
        self.said.append(text)
        if text in self._then:
            self._then[text]()

    def watch(self):
        """Start the crew and listen to it until it ends; none of it is left."""
        self.crew.start()
        try:
            return self.crew.watch(self.shown.append)
        finally:
            self.crew.stop()
            self.crew.close()
            assert not any(p.is_alive() for p in self.crew.processes.values())


def die(how=signal.SIGKILL):
    """Die without a word."""
    os.kill(os.getpid(), how)


def until_stopped(post):
    """Do nothing until one is told to end."""
    until(post.stopping)


# ---------------------------------------------------------------- reports


def test_reports_of_all_processes_are_told():
    """Connections are added up, a sentence is said once, and errors are returned."""

    def work(post):
        post.send("connected", len(post.numbers))
        post.send("say", "hello")
        post.send("say", f"from {post.numbers}")
        post.send("end", "" if post.numbers.start else "nobody is let in")

    told = Told(work)
    assert told.watch() == ["nobody is let in"]
    assert max(told.shown) == 7
    assert told.said.count("hello") == 1
    assert {"from range(0, 3)", "from range(3, 7)"} <= set(told.said)


def test_an_error_is_told_while_others_go_on(tmp_path):
    """Who runs on for hours does not keep it to itself that a part of the fleet is missing."""
    error = "an agent process ended: no secret of 'a1'"
    release = tmp_path / "released"

    def work(post):
        if post.numbers.start:
            until(release.exists)
            post.send("end", "")
        else:
            post.send("end", "no secret of 'a1'")

    told = Told(work, then={error: release.touch})
    assert told.watch() == ["no secret of 'a1'"]
    assert told.said == [error]


# ---------------------------------------------------------------- who dies


def test_who_dies_is_started_again(tmp_path):
    """A killed process comes again, is told so, and its agents count again; the other lives on."""
    first = tmp_path / "up"

    def work(post):
        post.send("connected", len(post.numbers))
        if post.numbers.start and not post.again:
            post.send("begun", True)
            die()
        elif post.numbers.start:
            post.send("say", f"again {post.again}, begun {post.begun}")
            first.touch()
        until(first.exists)
        post.send("end", "")

    told = Told(work)
    assert told.watch() == []
    again = f"an agent process died ({death(-9)}): its 4 agents are started again"
    assert told.said == [again, "again True, begun True"]
    assert told.crew.connected == [3, 4]
    assert set(told.shown) <= {0, 3, 4, 7}


def test_who_dies_before_the_run_does_not_believe_that_it_has_begun():
    """Where no agent has been in the run, a process that comes again is not told that one was."""

    def work(post):
        if not post.again:
            os._exit(7)
        post.send("say", f"begun {post.begun}")
        post.send("end", "")

    told = Told(work, [range(1000)])
    assert told.watch() == []
    assert told.said == [
        "an agent process died (exit code 7): its 1,000 agents are started again",
        "begun False",
    ]


def test_who_dies_thrice_ends_it_all():
    """A process that dies three times within a minute is an error of one sentence."""

    def work(post):
        if post.numbers.start:
            os._exit(7)
        until_stopped(post)

    told = Told(work)
    with pytest.raises(
        TransportError, match=r"^an agent process died 3 times in a row \(exit code 7\)$"
    ):
        told.watch()
    assert len(told.said) == 2


def test_deaths_of_long_ago_are_forgiven(monkeypatch, tmp_path):
    """A process may die as often as it likes, if it takes its time."""
    monkeypatch.setattr(worker_pool, "WITHIN", 0.0)
    lives = tmp_path / "lives"

    def work(post):
        with lives.open("a") as file:
            file.write(".")
        if len(lives.read_text()) < 5:
            die(signal.SIGUSR1)
        post.send("end", "")

    told = Told(work, [range(1)])
    assert told.watch() == []
    assert told.said == ["an agent process died (SIGUSR1): its 1 agents are started again"] * 4


def test_who_is_killed_in_the_middle_of_a_word_holds_up_nobody():
    """Half of a report is no report; what was said before it is heard."""
    half = "x" * 1_000_000

    def work(post):
        if not post.again:
            post.send("say", f"{os.getpid()}")
            post.send("say", half)
        post.send("end", "")

    class Deaf(Told):
        def say(self, text):
            super().say(text)
            if text.isdigit():  # while it writes more than a pipe holds
                time.sleep(0.3)
                os.kill(int(text), signal.SIGKILL)

    told = Deaf(work, [range(2)])
    assert told.watch() == []
    assert told.said[1:] == [f"an agent process died ({death(-9)}): its 2 agents are started again"]


@pytest.mark.parametrize("late", [False, True])
def test_a_run_that_is_done_is_done_for_all(late, tmp_path):
    """Once one has ended well nobody is started again, and who was may stop waiting for news."""
    up, done = tmp_path / "up", tmp_path / "done"

    def work(post):
        if not post.numbers.start:
            until(up.exists)
            post.send("end", "")
            return
        if not post.again:
            if not late:
                up.touch()
                until(done.exists)
            die()
        up.touch()
        until_stopped(post)  # the news that all is done came before it was there
        post.send("say", "told to end")
        post.send("end", "")

    told = Told(work)
    end = told.crew._end
    told.crew._end = lambda place, error: (end(place, error), done.touch())
    assert told.watch() == []
    died = f"an agent process died ({death(-9)}): its 4 agents are started again"
    assert told.said == ([died, "told to end"] if late else [])


LOADED = []
"""What this process has, and a forked one, but not a spawned one."""


def say_what_is_loaded(post):
    post.send("say", f"{len(LOADED)} things are here")
    post.send("end", "")


@pytest.mark.parametrize(("fresh", "things"), [(False, 1), (True, 0)], ids=["forked", "spawned"])
def test_processes_that_use_a_gpu_are_spawned(fresh, things, monkeypatch):
    """What CUDA has set up does not survive a fork: such processes begin with nothing."""
    monkeypatch.setattr(sys.modules[__name__], "LOADED", ["CUDA"])
    told = Told(say_what_is_loaded, [range(2)], fresh=fresh)
    assert told.watch() == []
    assert told.said == [f"{things} things are here"]


# ---------------------------------------------------------------- how they end


def test_who_does_not_end_is_ended(monkeypatch):
    """A process that ignores what it is told is killed when the time for goodbyes is over."""
    monkeypatch.setattr(worker_pool, "GOODBYE", 0.3)

    def work(post):
        if post.numbers.start:
            until(lambda: post.stopping() and time.sleep(60))
        until_stopped(post)

    crew = WorkerPool(work, SHARES, lambda _: None)
    crew.start()
    time.sleep(0.1)
    started = time.monotonic()
    crew.stop()
    crew.close()
    assert time.monotonic() - started < 3
    codes = [process.exitcode for process in crew.processes.values()]
    assert codes == [0, -signal.SIGKILL]


SUDDEN = """
import os, signal
from fedjury.agents.worker_pool import WorkerPool
from fedjury.config import flags

def main(_):
    crew = WorkerPool(lambda post: [None for _ in iter(post.stopping, True)], [range(1)] * 3, print)
    try:
        crew.start()
        {how}
        crew.watch(print)
    finally:
        crew.stop()
        crew.close()

for _ in range(10):
    try:
        flags.run_main(main, (), [])
    except SystemExit as end:
        assert end.code == 130, end.code
"""


@pytest.mark.parametrize(
    "how", ["os.kill(os.getpid(), signal.SIGTERM)", "os.killpg(0, signal.SIGINT)"]
)
def test_told_to_end_as_soon_as_it_was_started(how):
    """Between its fork and its first line a process is not torn apart: nobody reads a traceback."""
    script = SUDDEN.format(how=how)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------- a real fleet


def children(pid):
    """Return the process ids of a process's children."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


@pytest.mark.usefixtures("one_thread")
def test_a_killed_process_comes_again_and_changes_nothing(tmp_path):
    """Kill -9 of half the fleet while its updates are awaited: the same models, bit for bit."""
    changes = {"agents__n": 200, "agents__samples": 5, "training__batch_size": 5, "run__rounds": 6}
    settings = settings_of(**changes, agents__processes=2)
    file = tmp_path / "scenario.toml"
    file.write_text(to_toml(settings), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    logs = [tmp_path / "aggregator.log", tmp_path / "agents.log"]
    records = tmp_path / "lab" / "rounds.jsonl"
    running = []
    with local_broker(KIND, say=lambda _: None) as there:
        flags = ["--config", str(file), "--broker", f"{there.host}:{there.port}"]
        commands = (
            ["-m", "aggregator", *flags, "--runs", str(tmp_path), "--no-report"],
            ["agents/spawn.py", *flags],
        )
        try:
            for command, log in zip(commands, logs, strict=True):
                with log.open("wb") as output:
                    running.append(
                        warm.Popen(
                            [sys.executable, *command],
                            cwd=ROOT,
                            env=environment,
                            stdout=output,
                            stderr=output,
                        )
                    )
            until(lambda: records.exists() and records.read_text().count("\n") >= 2, 60)
            victim = children(running[1].pid)[1]
            os.kill(victim, signal.SIGSTOP)  # once the others have answered, all wait for it
            before = stands_still(records)
            os.kill(victim, signal.SIGKILL)
            assert [child.wait(60) for child in running] == [0, 0], logs[1].read_text()
        finally:
            for child in running:
                child.kill()
                child.wait()
    assert before < 6
    said = logs[1].read_text()
    assert f"an agent process died ({death(-9)}): its 100 agents are started again" in said
    assert "the run is done; the agents have left" in said
    told = [json.loads(line) for line in records.read_text().splitlines()]
    assert [(r["selected"], r["updates"], r["attempt"]) for r in told] == [(200, 200, 1)] * 6
    alone = Federation(tmp_path / "alone", **changes).whole()
    stored = load_file(tmp_path / "lab" / "models" / "000006.safetensors")["weights"]
    assert stored.tobytes() == alone.models[6]


def stands_still(records):
    """Wait until no round has ended for a while; returns how many have."""
    seen = [0, 0]

    def still():
        seen[:] = seen[1], records.read_text().count("\n")
        time.sleep(0.5)
        return seen[0] == seen[1]

    until(still, 30)
    return seen[1]


@pytest.mark.usefixtures("one_thread")
def test_a_fleet_that_was_in_the_run_believes_that_it_is_done(tmp_path):
    """A retained "done" ends a fleet that comes again; to a newcomer it is of an earlier run."""
    done = Federation(tmp_path, run__rounds=1).whole()
    assert done.state.done
    for took_part in (False, True):
        fleet = done.fleet(simulated_agents_of(done.settings), range(20))
        fleet.took_part = took_part
        fleet.turn()
        assert fleet.done == took_part
