"""A cluster from outside: its processes, its folder, what people see, and how Ray is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace

import pytest

from fedjury.cluster import down, environment, progress, ray_nodes, supervise
from fedjury.cluster.cell import Place
from fedjury.cluster.fleet import FleetState
from fedjury.cluster.folder import ClusterError, FleetLine, Folder, State
from fedjury.cluster.known import Known, alive, below, end, known

HEAD, NODE = Place("10.0.0.1", 1), Place("10.0.0.2", 2)


@pytest.fixture
def sleeper():
    """Start a program that sleeps, and has started another one; returns it."""
    code = "import subprocess as s, sys; p = s.Popen(['sleep', '60']); print(p.pid, flush=True)"
    program = subprocess.Popen(
        [sys.executable, "-c", f"{code}; p.wait()"], stdout=subprocess.PIPE, text=True
    )
    grandchild = int(program.stdout.readline())
    yield program, grandchild
    for pid in (program.pid, grandchild):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    program.wait()
    program.stdout.close()


@pytest.fixture
def folder(tmp_path):
    found = Folder(tmp_path / "cluster")
    found.make()
    return found


def state_of(**others):
    """Return the state of a cluster that this process runs."""
    me = known("cluster up", os.getpid())
    return State(me, "lab", "10.0.0.1:6390", "10.0.0.1:1883", **others)


# Processes


def test_what_a_process_has_started_is_found(sleeper):
    """The program itself, and the one that it has started."""
    program, grandchild = sleeper
    assert {program.pid, grandchild} <= {process.pid for process in below(os.getpid())}
    assert [process.name for process in below(program.pid)] == ["sleep"]


def test_processes_are_ended_by_number_and_beginning(sleeper):
    """A number that is another program's by now is left in peace."""
    program, grandchild = sleeper
    another = Known("sleep", grandchild, "before/17")
    assert end([another], 1) == []
    ours = known("python", program.pid)
    assert end([another, ours], 5) == [ours]
    assert program.wait(5) == -15
    assert alive(known("sleep", grandchild))


LEAVES = """
import subprocess, sys
subprocess.Popen(["sleep", "60"])  # and it ends itself, so that this one is nobody's child
"""
ADOPTS = f"""
import os, subprocess, sys
from fedjury.cluster.known import Descendants, below
before = subprocess.Popen(["sleep", "60"])
started = Descendants()
subprocess.run([sys.executable, "-c", {LEAVES!r}])
left = started.there()
assert [process.name for process in left] == ["sleep"], left
assert left[0].pid != before.pid
started.end(5)
assert [process.pid for process in below(os.getpid())] == [before.pid]
before.kill()
"""


def test_what_a_program_leaves_behind_when_it_dies_is_found_and_ended():
    """Nothing is ended that ran before."""
    subprocess.run([sys.executable, "-c", ADOPTS], check=True, timeout=30)


def test_who_does_not_listen_is_ended_by_force():
    """A program that ignores SIGTERM."""
    code = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        program.stdout.readline()
        end([known("deaf", program.pid)], 0.2)
        assert program.wait(5) == -9


def test_a_process_that_has_ended_is_not_known():
    """Nor is one that waits for its parent to take note."""
    with subprocess.Popen([sys.executable, "-c", ""]) as program:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        assert known("python", program.pid) is None
    assert known("nobody", 2**22 + 1) is None


# The folder


def test_the_state_is_read_as_it_was_written(folder):
    """Processes, fleets and all."""
    others = [Known("raylet", 18, "b/2")]
    fleets = [FleetLine("fleet-1")]
    state = state_of(programs=[Known("ray-head", 17, "b/1")], others=others, fleets=fleets)
    folder.write(state)
    assert folder.read() == state
    folder.forget()
    assert folder.read() is None


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 7}'])
def test_a_damaged_state_is_one_sentence(folder, text):
    """It names the file."""
    folder.write(state_of())
    (folder.path / "state.json").write_text(text)
    with pytest.raises(ClusterError, match=r"state\.json"):
        folder.read()


def test_only_its_owner_reads_the_folder(folder):
    """The token lets whoever has it run anything."""
    environment.new_token(folder.token)
    assert [path.stat().st_mode & 0o77 for path in (folder.path, folder.token)] == [0, 0]
    assert len(folder.token.read_text()) == 64
    with pytest.raises(FileExistsError):
        environment.new_token(folder.token)


def test_no_cluster_is_one_sentence(folder):
    """Status and down say so."""
    for ask in (down.found, lambda given: down.down(given, print)):
        with pytest.raises(ClusterError, match="no cluster is running"):
            ask(folder)


def test_down_ends_what_a_killed_cluster_has_left(folder, sleeper):
    """Its ``up`` is gone; the processes that it had noted down are ended, and nobody else's."""
    program, grandchild = sleeper
    gone = Known("cluster up", os.getpid(), "before/1")
    state = state_of(programs=[known("python", program.pid)], others=[Known("sleep", 1, "b/1")])
    folder.write(replace(state, up=gone))
    assert [process.pid for process in down.down(folder, print)] == [program.pid]
    assert program.wait(5) == -15
    assert alive(known("sleep", grandchild))
    assert folder.read() is None


# Fleets


def test_a_fleet_that_moves_is_counted():
    """It runs, its machine dies, it runs elsewhere; started again in place is no move."""
    line = supervise.told(FleetLine("fleet-1"), (HEAD, FleetState(17, None, 0, b"")))
    assert (line.state, line.machine, line.moves) == ("running", "10.0.0.1", 0)
    again = supervise.told(line, (HEAD, FleetState(18, None, 1, b"")))
    assert (again.moves, again.restarts) == (0, 1)
    lost = supervise.told(line, None)
    assert (lost.state, lost.machine) == ("moving", "10.0.0.1")
    moved = supervise.told(lost, (NODE, FleetState(9, None, 0, b"")))
    assert (moved.state, moved.machine, moved.moves) == ("running", "10.0.0.2", 1)
    ended = [supervise.told(moved, (NODE, FleetState(9, code, 0, b""))).state for code in (0, 2)]
    assert ended == ["done", "failed"]


def test_fleets_are_told_to_the_program_that_shows_them(folder):
    """Nothing is known before the supervisor has said anything."""
    assert supervise.read(folder) == ([], 0)
    lines = [FleetLine("fleet-1", "10.0.0.1", 17, 0, 2, "running")]
    supervise.write(folder, {line.name: line for line in lines}, 3)
    assert supervise.read(folder) == (lines, 3)


# What people see


def test_a_line_says_how_far_a_cluster_is():
    """Fleets, nodes and the aggregator's last words."""
    running, moving = FleetLine("a", state="running"), FleetLine("b", state="moving")
    assert progress.line_of(state_of()) == "no fleet yet"
    state = state_of(fleets=[running], nodes=1, progress="round 3")
    assert progress.line_of(state) == "1 fleet runs · 1 node · round 3"
    state = state_of(fleets=[running, running, moving], nodes=2)
    assert progress.line_of(state) == "3 fleets: 1 moving, 2 running · 2 nodes"


def test_the_table_has_a_line_for_each_program_and_fleet():
    """What has ended is gone; a fleet says where it is, and how often it was started again."""
    state = state_of(
        programs=[Known("ray-head", 17, "b/1")],
        fleets=[FleetLine("fleet-1", "10.0.0.2", 9, 1, 2, "running")],
        nodes=2,
    )
    lines = [" ".join(line.split()) for line in progress.table_of(state).splitlines()]
    assert lines == [
        "run 'lab', broker 10.0.0.1:1883, Ray 10.0.0.1:6390",
        "process state where started again",
        f"cluster up {os.getpid()} running",
        "ray-head 17 gone",
        "fleet-1 9 running 10.0.0.2 1 here, 2 elsewhere",
        "and 0 processes that these have started",
        "1 fleet runs · 2 nodes",
    ]
    shown = json.loads(json.dumps(progress.document_of(state)))
    assert shown["fleets"][0]["machine"] == "10.0.0.2"
    assert [each["running"] for each in shown["processes"]] == [True, False]


# How Ray is started


def test_without_ray_one_sentence_says_what_to_install(monkeypatch):
    """It names the extra."""
    monkeypatch.setattr(ray_nodes, "find_spec", lambda _: None)
    with pytest.raises(ClusterError, match=r"pip install 'fedjury\[scale\]'"):
        ray_nodes.needed()


@pytest.mark.parametrize("host", ["8.8.8.8", "0.0.0.0", "fd.example.com", "2001:4860::1"])
def test_only_private_addresses_will_do(host):
    """Whoever reaches a node and has the token can run anything there."""
    with pytest.raises(ClusterError, match=f"--host {host}"):
        ray_nodes.private(host)


def test_private_addresses_will_do():
    """Ray would take 127.0.0.1 for an outer address of the machine."""
    wanted = {"10.0.0.1": "10.0.0.1", "192.168.1.2": "192.168.1.2", "127.0.0.1": "127.0.0.2"}
    assert {host: ray_nodes.private(host) for host in wanted} == wanted


def test_ray_needs_a_token_and_tells_nobody(tmp_path):
    """Neither its statistics nor its page are on; a node says where it is."""
    around = environment.settings(tmp_path / "token")
    assert around["RAY_AUTH_MODE"] == "token"
    assert around["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "token")
    assert around["RAY_USAGE_STATS_ENABLED"] == "0"
    first = ray_nodes.head("10.0.0.1", 6390, tmp_path, {"num_cpus": 2})
    wanted = {"--head", "--port=6390", "--node-ip-address=10.0.0.1", "--include-dashboard=false"}
    assert wanted | {"--disable-usage-stats", "--num-cpus=2", "--block"} <= {*first}
    another = ray_nodes.node("10.0.0.2", "10.0.0.1:6390", tmp_path, {})
    assert {"--address=10.0.0.1:6390", "--node-ip-address=10.0.0.2"} <= {*another}


def test_what_a_killed_cluster_has_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    """Folders of Ray are known by their name; whatever a damaged file names stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own, other = ray_nodes.own_folder(), tmp_path / "other"
    other.mkdir()
    ray_nodes.remove(own)
    ray_nodes.remove(other)
    assert (own.exists(), other.exists()) == (False, True)


def test_logs_of_ray_are_kept_beside_the_others(tmp_path):
    """Its own folder goes; the link to the last session is none of its own."""
    own, logs = tmp_path / "own", tmp_path / "logs"
    (own / "session_1" / "logs").mkdir(parents=True)
    (own / "session_1" / "logs" / "raylet.out").write_text("hello")
    (own / "session_latest").symlink_to(own / "session_1")
    logs.mkdir()
    ray_nodes.keep_logs(own, logs)
    assert [path.relative_to(logs).as_posix() for path in logs.rglob("*.out")] == [
        "ray-1/raylet.out"
    ]
    assert not own.exists()
