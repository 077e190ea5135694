"""``fedjury cells``: what it writes, what it says to type next, and what it refuses."""

from __future__ import annotations

import json
import re
import stat

import pytest

from fedjury.broker import cells, enrol
from fedjury.broker.cell_files import CellsError
from fedjury.broker.cell_topics import KEPT, directions, said_by_agents
from fedjury.broker.enrolment_file import EnrolError
from fedjury.protocol.messages import Presence, Update
from fedjury.protocol.secure import SecureUp
from fedjury.protocol.topics import CHANNELS

SAYS = ("worker", "agents", "tally", "sum", "group-sum")
"""What an ingest worker says."""


@pytest.fixture
def write(tmp_path):
    """Return a function that runs the command, and gives the folder that it wrote."""

    def written(*words, count=2):
        out = tmp_path / "cells"
        assert cells.main(["--count", str(count), "--out", str(out), *words]) == 0
        return out

    return written


@pytest.fixture
def secrets(tmp_path):
    """Return a function that enrols two agents, and gives the folder of their secrets."""

    def enrolled(*words):
        folder = tmp_path / "secrets"
        assert enrol.main(["--n", "2", *words, "--folder", str(folder)]) == 0
        return folder

    return enrolled


def text(folder, broker, file="mosquitto.conf"):
    """Return a file of a broker without its comments."""
    lines = (folder / broker / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# ---------------------------------------------------------------- directions


def test_every_message_of_the_protocol_has_its_way():
    """Whatever is added to the protocol goes up or comes down, without a list of ours."""
    ways = directions(1)
    topics = {
        f"fl/v1/+/{channel.topic}"
        if channel.root
        else "fl/v2/+/" + re.sub("{.*}", "+", channel.topic)
        for channel in CHANNELS.values()
        if not channel.beside and not channel.topic.startswith(("cell/", "heartbeat"))
    }
    assert {*ways.up, *ways.down, *ways.both} == topics


def test_what_agents_say_is_what_the_access_rules_let_them_say():
    """Under their own names: so masked updates, metrics and declines go up as updates do."""
    said = said_by_agents()
    assert {Update, Presence} | set(SecureUp.__args__) <= set(said)
    assert all(CHANNELS[kind].topic.endswith("/{agent}") for kind in said)


def test_updates_and_presence_stay_where_they_are_to_be_kept():
    """Then the worker of the cell speaks for its agents, and nothing else is different."""
    usual, kept = directions(7), directions(7, keep=True)
    gone = {f"fl/v2/+/{CHANNELS[kind].topic.replace('{agent}', '+')}" for kind in KEPT}
    assert gone == {"fl/v2/+/update/+", "fl/v2/+/secure/masked/+", "fl/v2/+/agent/+"}
    assert set(usual.up) - set(kept.up) == gone
    says = {f"fl/v2/+/cell/{what}/7" for what in SAYS}
    assert set(kept.up) - set(usual.up) == says
    assert set(kept.down) - set(usual.down) == {
        "fl/v2/+/cell/request",
        "fl/v2/+/cell/group-request/7",
    }


def test_below_another_root_nothing_else_crosses():
    """Not the topics of protocol 1 either, which have no place beside it; and one run alone."""
    ways = directions(1, "lab/a", "x")
    assert all(topic.startswith("lab/a/x/") for way in ways for topic in way)


# ---------------------------------------------------------------- what is written


def test_brokers_on_this_machine_have_consecutive_ports(write, capsys):
    """The core has the usual port; every command that is to be typed next is printed."""
    folder = write()
    assert "listener 1883 127.0.0.1" in text(folder, "core")
    assert not any(line.startswith("connection ") for line in text(folder, "core"))
    for cell in (1, 2):
        lines = text(folder, f"cell-{cell}")
        assert f"listener {1883 + cell} 127.0.0.1" in lines
        assert lines.count("address 127.0.0.1:1883") == 2
        assert f"notification_topic fl/v2/.cells/{cell}/link" in lines
        assert f"topic +/agent/+ out 1 fl/v2/ fl/v2/.cells/{cell}/" in lines
        for line in ("cleansession false", "try_private true"):
            assert lines.count(line) == 2
    said = capsys.readouterr().out
    assert f"(cd {folder}/core && mosquitto -c mosquitto.conf)    # 127.0.0.1:1883" in said
    assert "fedjury serve --broker 127.0.0.1:1883\n" in said
    assert "fedjury spawn --n 1000 --evil 0.2 --shard 2/2 --broker 127.0.0.1:1885\n" in said


def test_addresses_are_those_that_were_given(write, secrets):
    """A broker that others reach listens on all interfaces, and knows itself by that name."""
    folder = write(
        *("--secrets", str(secrets("--tls")), "--core", "fl.example.org:8883"),
        *("--edge", "10.0.0.2:8883", "--edge", "10.0.0.3:9000"),
    )
    assert "listener 8883" in text(folder, "core")
    assert "listener 9000" in text(folder, "cell-2")
    assert "address fl.example.org:8883" in text(folder, "cell-2")
    for line in (
        "bridge_cafile ca.crt",
        "bridge_certfile cell.2.crt",
        "bridge_keyfile members.2.key",
    ):
        assert line in text(folder, "cell-2")


def test_a_result_for_programs(write, capsys):
    """With --json it is one line."""
    write("--json", "--core", "localhost:2000")
    data = json.loads(capsys.readouterr().out)
    assert data["core"] == "127.0.0.1:2000"
    assert data["cells"] == ["127.0.0.1:2001", "127.0.0.1:2002"]


def test_secrets_are_only_where_they_are_needed(write, secrets):
    """A cell has its own bridge's and knows all agents, but not the aggregator; all is private."""
    home = secrets()
    folder = write("--secrets", str(home))
    known = {
        name: {line.partition(":")[0] for line in text(folder, name, "passwords")}
        for name in ("core", "cell-1")
    }
    bridges = {f"{kind}.{cell}" for kind in ("cell", "members") for cell in (1, 2)}
    assert {"aggregator", "agent-0", *bridges} <= known["core"]
    assert known["core"] - known["cell-1"] == {"aggregator", *bridges}
    password = (home / "cells" / "cell.1.password").read_text()
    assert f"remote_password {password}" in text(folder, "cell-1")
    assert password not in (folder / "cell-2" / "mosquitto.conf").read_text()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert "user aggregator" not in text(folder, "cell-1", "acl")
    assert not list(folder.rglob("ca.key"))


def test_logins_for_one_run_are_for_that_run_in_cells_too(write, secrets):
    """Below another root as well."""
    folder = write("--secrets", str(secrets("--run", "lab", "--root", "x")))
    assert "topic x/lab/update/+ out 1" in text(folder, "cell-1")
    assert "topic lab/agent/+ out 1 x/ x/.cells/1/" in text(folder, "cell-1")
    rules = text(folder, "core", "acl")
    assert "topic write x/lab/update/+" in rules
    assert "topic readwrite x/.cells/#" in rules
    assert not any(" fl/" in line or "/+/" in line for line in rules)


def test_where_clients_choose_their_ids_nobody_can_take_that_of_a_bridge(write, secrets):
    """It ends with a code that follows from its secret."""
    folder = write("--secrets", str(secrets("--many-runs")))
    ids = [line for line in text(folder, "cell-1") if line.startswith("remote_clientid")]
    assert all(re.fullmatch(r"remote_clientid (cell|members)\.1\.[0-9a-f]{16}", one) for one in ids)
    assert len({one.rpartition(".")[2] for one in ids}) == 2


def test_a_cell_that_keeps_updates_has_a_worker(write, secrets):
    """It logs in at the broker of its cell, hears all that is said there, and may ask again."""
    home = secrets()
    folder = write("--secrets", str(home), "--keep-updates")
    assert (home / "workers" / "worker.2.password").exists()
    lines = text(folder, "cell-2", "acl")
    part = lines[lines.index("user worker.2") + 1 :]
    assert part == [
        "topic read fl/v2/+/#",
        *(f"topic write fl/v2/+/cell/{what}/2" for what in SAYS),
        "topic write fl/v2/+/manifest",
        "topic write fl/v2/+/round",
    ]
    conf = text(folder, "cell-2")
    assert not any("members" in line or "agent/+" in line for line in conf)
    assert "topic fl/v2/+/cell/tally/2 out 1" in conf
    assert "topic fl/v2/+/cell/request in 1" in conf
    assert "topic fl/v2/+/cell/group-request/2 in 1" in conf
    assert "topic write fl/v2/+/cell/tally/2" in text(folder, "core", "acl")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--edge", "127.0.0.1:1"], "--edge is once for each cell: 1 of --count 2"),
        (["--core", "127.0.0.1:65534"], "there is no port 65536: ports are 1 to 65535"),
        (
            ["--edge", "127.0.0.1:1883", "--edge", "127.0.0.1:9"],
            "two brokers cannot both listen at 127.0.0.1:1883",
        ),
        (
            ["--edge", "10.0.0.2:1883", "--edge", "127.0.0.1:9"],
            "the broker at 10.0.0.2:1883 cannot reach the core's, which is on this machine alone",
        ),
        (["--core", "10.0.0.1:1883"], "whoever reaches 10.0.0.1:1883 would be let in"),
        (["--open", "--secrets", "secrets"], "choose one of them"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(write, tmp_path, words, part):
    """In a sentence."""
    with pytest.raises(CellsError) as refused:
        write(*words)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "cells").exists()


def test_open_brokers_on_several_machines_have_to_be_asked_for(write):
    """For a network of one's own."""
    folder = write(
        "--core", "10.0.0.1:1883", "--open", "--edge", "10.0.0.2:1", "--edge", "10.0.0.3:1"
    )
    assert "allow_anonymous true" in text(folder, "core")


@pytest.mark.parametrize("words", [["--count", "0"], ["--core", "here"], ["--root", "a b"]])
def test_flags_that_make_no_sense_are_refused(write, words, capsys):
    """As all programs do."""
    with pytest.raises(SystemExit):
        write(*words)
    assert "error: argument" in capsys.readouterr().err


def test_another_root_than_that_of_the_logins_is_refused(write, secrets):
    """Nobody could say anything there."""
    with pytest.raises(CellsError, match="are for runs below fl/v2, not below x"):
        write("--secrets", str(secrets()), "--root", "x")


def test_without_an_enrolment_there_are_no_logins(write, tmp_path):
    """Nor where a bridge's was revoked, until it is renewed."""
    with pytest.raises(EnrolError, match="nobody is enrolled in"):
        write("--secrets", str(tmp_path / "nothing"))


def test_a_bridge_that_was_revoked_stays_out(write, secrets):
    """Until it is readmitted."""
    home = secrets()
    write("--secrets", str(home))
    assert enrol.main(["--revoke", "cell.2", "--folder", str(home)]) == 0
    with pytest.raises(EnrolError, match=r"cell\.2 is revoked .* --renew cell\.2' readmits it"):
        write("--secrets", str(home), "--replace")


def test_nothing_is_written_over_without_being_asked_and_told(write, secrets, capsys):
    """The second time it needs --replace, and says which files are others now."""
    home = secrets()
    folder = write("--secrets", str(home))
    with pytest.raises(CellsError, match="holds brokers of cells already: --replace writes them"):
        write("--secrets", str(home))
    before = (folder / "cell-1" / "mosquitto.conf").read_bytes()
    assert enrol.main(["--n", "3", "--folder", str(home)]) == 0
    capsys.readouterr()
    write("--secrets", str(home), "--replace", count=1)
    said = capsys.readouterr().out
    assert "replaced: core/passwords" in said or "core/acl" in said
    assert "of an earlier plan, and no part of this one: cell-2" in said
    assert (folder / "cell-1" / "mosquitto.conf").read_bytes() == before
    assert any(line.startswith("agent-2:") for line in text(folder, "cell-1", "passwords"))
