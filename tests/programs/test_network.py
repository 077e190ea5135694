"""Whole federations on a real broker, by the real programs: they end by themselves, and right."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture
from support.listening import RawClient, until
from support.network import KIND, ROUNDS, RUN, N, counted, ended, federation, scenario

from fedjury.protocol.codec import encode
from fedjury.protocol.messages import Update
from fedjury.protocol.record import read

RECORD = {
    "round",
    "version",
    "accepted",
    "votes",
    "updates",
    "invalid_messages",
    "accuracy",
    "seconds",
    "updates_per_second",
    "bytes_in",
    "bytes_out",
    "voters",
    "judged",
    "backdoor",
}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Run a federation that nobody disturbs, with a plain MQTT client listening to its log."""
    folder = tmp_path_factory.mktemp("quiet")
    with (
        federation(KIND, folder) as programs,
        RawClient(programs.address, f"fl/v2/{RUN}/log/#") as people,
    ):
        ended(programs.aggregator(), programs.agents())
        until(lambda: len(people.payloads("log/round")) > ROUNDS, 5)
        programs.log = [json.loads(line) for line in people.payloads("log/round")]
    return programs


def test_federation_ends_by_itself_and_leaves_its_files(quiet):
    """Aggregator and agents end with exit code 0 and leave records, manifest, reports, picture."""
    assert [r.round for r in quiet.records()] == list(range(1, ROUNDS + 1))
    manifest = json.loads((quiet.run / "manifest.json").read_text())
    assert manifest["manifest"]["model"] == "mlp"
    assert manifest["settings"]["run"]["rounds"] == ROUNDS
    assert f"Run {RUN}" in (quiet.run / "report.md").read_text()
    assert f"<h1>Run {RUN}</h1>" in (quiet.run / "report.html").read_text()
    assert (quiet.run / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_federation_learns(quiet):
    """Clipped, the fakes cannot keep it from learning: every update came, the accuracy doubled."""
    records = quiet.records()
    assert all(r.updates == N and not r.traffic.invalid_messages and not r.missing for r in records)
    assert records[-1].model.accuracy > 0.4
    assert records[-1].model.accuracy > 2 * records[0].model.accuracy


def test_validators_vote(quiet):
    """Five validators vote in each round, and the votes are in the record."""
    assert [r.votes.asked for r in quiet.records()] == [5] * ROUNDS
    assert not any(r.votes.silent for r in quiet.records())


def test_people_hear_the_records_of_the_rounds(quiet):
    """A plain MQTT client hears on log/round what rounds.jsonl says, with the promised fields.

    Before the first round it hears how the first model does.
    """
    first, *log = map(read, quiet.log)
    assert (first.round, first.version, first.accepted) == (0, 0, None)
    assert 0 < first.model.accuracy < log[-1].model.accuracy
    assert log == quiet.records()
    times = [record.timing.time for record in log]
    assert times == sorted(times)
    assert abs(times[-1] - time.time()) < 600
    assert {record.run for record in log} == {RUN}
    assert all(said.keys() >= RECORD for said in quiet.log[1:])
    for record in log:
        assert record.traffic.bytes_in > N * 4 * 2410
        assert record.traffic.bytes_out > 0


# ---------------------------------------------------------------- hostile clients


GARBAGE = b'{"round": []}'


class Hostile(RawClient):
    """Attacks in rounds 2 to 4, as soon as they are announced, by every message it can think of."""

    ROUNDS = (2, 3, 4)
    ATTACKS = 12
    """Messages of a round that the aggregator hears."""

    def __init__(self, address):
        self.attacked = set()
        self._echoed = set()
        topics = f"fl/v2/{RUN}/round", f"fl/v2/{RUN}/update/+"
        super().__init__(address, *topics)
        self.paho.on_message = self._hear

    def _hear(self, _client, _data, message):
        if message.payload == GARBAGE:
            return  # our own
        if message.topic.endswith("/round") and message.payload:
            now = json.loads(message.payload)
            number = now["round"]
            if number in self.ROUNDS and number not in self.attacked:
                self.attacked.add(number)
                self._attack(number, now["version"])
        elif "agent-" in message.topic:
            self._echo(message)

    def _echo(self, message):
        """Send the first update of a round that is heard once more, in its agent's name."""
        number = msgpack.unpackb(message.payload)["round"]
        if number in self.ROUNDS and number not in self._echoed:
            self._echoed.add(number)
            self._say(message.topic.rpartition("update/")[2], message.payload)

    def _say(self, agent, payload, kind="update"):
        self.paho.publish(f"fl/v2/{RUN}/{kind}/{agent}", payload, qos=1)

    def _attack(self, number, version):
        fair = Update("mallory", number, version, 20, np.ones(2410, dtype=np.float32))
        nan = np.full(2410, np.nan, dtype=np.float32)
        self._say("mallory", encode(fair))  # nobody has called it
        self._say("mallory", encode(replace(fair, delta=nan)))
        self._say("mallory", encode(replace(fair, delta=np.ones(7, dtype=np.float32))))
        self._say("mallory", encode(replace(fair, round=number + 1)))
        self._say("mallory", encode(replace(fair, version=version + 9)))
        self._say("mallory", b"")
        self._say("mallory", os.urandom(20_000))
        self._say("mallory", b"\x81" * 100_000)
        self._say("mallory", b"[" * 100_000, "vote")
        self._say("mallory", b'{"online": 1e999, "since": "now"}', "agent")
        self._say("mallory", msgpack.packb({"round": 2**60, "version": -1}), "vote")
        # What agents hear, and what nobody does.
        self.paho.publish(f"fl/v2/{RUN}/model", os.urandom(5_000), qos=1)
        self.paho.publish(f"fl/v2/{RUN}/round", GARBAGE, qos=1)
        self.paho.publish(f"fl/v2/{RUN}/candidate", b"", qos=1)
        self.paho.publish(f"fl/v2/{RUN}/update", b"?", qos=1)
        self.paho.publish(f"fl/v2/{RUN}/update/mallory/too", b"?", qos=1)


def test_hostile_clients_change_nothing(quiet, tmp_path):
    """Every attack is refused and counted; the models are those of the undisturbed run.

    On the embedded broker: so this also says that neither the network nor the kind of broker
    has a part in the result. Where Mosquitto is, the other federations run on that.
    """
    with federation("embedded", tmp_path) as programs, Hostile(programs.address) as hostile:
        ended(programs.aggregator(), programs.agents())
        assert hostile.attacked == set(Hostile.ROUNDS)
    records, refused = programs.records(), counted(programs.records())
    assert [r.model.accuracy for r in records] == [r.model.accuracy for r in quiet.records()]
    for version in range(ROUNDS - 3, ROUNDS + 1):
        assert programs.weights(version) == quiet.weights(version)
    each = {
        "malformed": 1,
        "too_large": 3,
        "not_finite": 1,
        "wrong_length": 1,
        "wrong_type": 1,
        "missing_key": 1,
    }
    for reason, count in each.items():
        assert refused[reason] == count * len(Hostile.ROUNDS)
    assert refused.keys() >= {"not_selected", "wrong_round", "wrong_version"}
    # A second update may find its round still open, or closed already.
    assert refused.get("duplicate", 0) + refused.get("wrong_phase", 0) >= len(Hostile.ROUNDS)
    assert sum(refused.values()) == Hostile.ATTACKS * len(Hostile.ROUNDS)


# ---------------------------------------------------------------- a crash, and two shards


def test_killed_aggregator_goes_on_where_it_was(quiet, tmp_path):
    """Killed in mid-run and started again, it resumes with two shards of agents that stayed."""
    with federation(KIND, tmp_path) as programs:
        doomed = programs.aggregator()
        shards = [programs.agents("--shard", f"{i}/2") for i in (1, 2)]
        until(lambda: len(programs.records()) >= 2, 100)
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        before = programs.records()
        assert len(before) < ROUNDS, "it was done before it was killed"
        heir = programs.aggregator()
        ended(heir, *shards)
        assert "resumes after round" in heir.log.read_text()
        assert all(f"{N // 2} agents (" in shard.log.read_text() for shard in shards)
    records = programs.records()
    assert records[: len(before)] == before
    assert [r.round for r in records] == list(range(1, ROUNDS + 1))
    assert [r.updates for r in records] == [N] * ROUNDS
    # Other agents share a batch here, which may touch the last bit of what they learn.
    last, same = (np.frombuffer(p.weights(ROUNDS), np.float32) for p in (programs, quiet))
    assert np.allclose(last, same, atol=1e-4)


# ---------------------------------------------------------------- backdoors, and who judges

BACKDOOR = {
    "run__name": RUN,
    "run__rounds": 6,
    "agents__malicious": 0.1,
    "agents__attack": "backdoor",
    "agents__processes": 1,
    "backdoor__inject": [4],
    "validation__look_back": 2,
    "validation__quorum": 3,
}
JURIES = {
    "contributors": ({"validation__piggy_back": True}, "20 voters, 0 of them malicious"),
    "server and clients": (
        {
            "validation__judged_by": "both",
            "validation__validators": 4,
            "data__server": 0.2,
            "validation__decide": "pooled",
            "validation__judge": "calibrated",
            "validation__look_back": 3,
            "agents__samples": 30,
            "agents__remember": False,
            "agents__shared_downlink": True,
        },
        "5 voters, whose error counts are judged together",
    ),
}


def said_of(r):
    """Return what a record says wherever its run was."""
    return (r.accepted, r.judged, r.votes, r.updates, r.model, r.traffic.invalid_messages)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("case", JURIES)
def test_a_jury_on_the_network_is_that_in_memory(tmp_path, case):
    """Fetched over a broker, candidates and history are judged alike: same votes, same bytes."""
    changes, advice = JURIES[case]
    settings = settings_of(**BACKDOOR | changes)
    file = scenario(tmp_path, settings)
    with federation(KIND, tmp_path) as programs:
        address = programs.address
        flags = ["--config", str(file), "--broker", f"{address.host}:{address.port}"]
        server = programs.start("-m", "aggregator", *flags, "--runs", str(tmp_path))
        agents = programs.start("agents/spawn.py", *flags)
        ended(server, agents)
        assert "20 agents (2 evil: backdoor)" in agents.log.read_text()
        assert advice in server.log.read_text()
    alone = Federation(
        tmp_path / "memory", shared=settings.agents.shared_downlink, **BACKDOOR | changes
    ).whole()
    pooled = settings.validation.decide == "pooled"
    assert [r.votes.pooled is not None for r in alone.records] == 3 * [False] + 3 * [pooled]
    for mine, theirs in zip(programs.records(), alone.records, strict=True):
        assert said_of(mine) == said_of(theirs)
    for version in range(max(alone.models) - 2, max(alone.models) + 1):
        assert programs.weights(version) == alone.models[version]
    assert all(
        v.size > 2410 * 0.7
        for r in alone.records
        for n, v in r.votes.voters.items()
        if n != ":server"
    )


# ---------------------------------------------------------------- who colludes, or comes late

SHARDS = {
    "run__name": RUN,
    "run__rounds": 3,
    "agents__malicious": 0.25,
    "agents__processes": 1,
    "validation__look_back": 2,
    "aggregation__clip": 1.0,
}


def in_two_shards(programs, folder, settings):
    """Run an aggregator and two shards of agents to their end; returns the shards."""
    file = scenario(folder, settings)
    flags = ["--config", str(file), "--broker", f"{programs.address.host}:{programs.address.port}"]
    server = programs.start("-m", "aggregator", *flags, "--runs", str(folder))
    halves = [programs.start("agents/spawn.py", *flags, "--shard", f"{i}/2") for i in (1, 2)]
    ended(server, *halves)
    return halves


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("shared", [False, True])
def test_collusion_on_the_network_is_that_in_memory(tmp_path, shared):
    """Two shards collude over the broker: five reports and a plot a round, and the same models."""
    changes = SHARDS | {"agents__attack": "gaussian", "agents__shared_downlink": shared}
    with (
        federation(KIND, tmp_path) as programs,
        RawClient(programs.address, f"fl/v2/{RUN}/collusion/#") as spy,
    ):
        halves = in_two_shards(programs, tmp_path, settings_of(**changes))
        until(lambda: len(spy.payloads("collusion/attack")) >= 3, 5)
        plots = [msgpack.unpackb(payload)["round"] for payload in spy.payloads("collusion/attack")]
        assert plots == [1, 2, 3]
    told = [re.search(r"\((\d+) evil: gaussian\)", half.log.read_text()) for half in halves]
    assert all(told)
    assert sum(int(one[1]) for one in told) == 5
    alone = Federation(tmp_path / "memory", shared=shared, **changes).whole()
    assert [r.updates for r in programs.records()] == [20, 20, 20]
    for version in (1, 2, 3):
        assert programs.weights(version) == alone.models[version]


@pytest.mark.usefixtures("one_thread")
def test_late_attackers_come_all_at_once(tmp_path):
    """In round 2 they connect, and by the last round they are called; all are said to be there."""
    changes = SHARDS | {"agents__arrive": 2, "run__rounds": 12, "agents__attack": "alie"}
    with federation(KIND, tmp_path) as programs:
        halves = in_two_shards(programs, tmp_path, settings_of(**changes))
        logs = [half.log.read_text() for half in halves]
    called = [record.selected for record in programs.records()]
    assert (called[:2], called[-1]) == ([15, 15], 20)
    assert called == sorted(called)
    assert all("all 10 agents are connected" in log for log in logs)
