"""Whole federations with secrets, by the real programs: who is enrolled and hostile gains nothing.

What the hostile agent sends as itself is refused by the aggregator and counted; all else it tries
is not delivered. So the models are those of a run that nobody disturbs, bit for bit.
"""

from __future__ import annotations

import contextlib
import json
import threading

import numpy as np
import paho.mqtt.client as paho
import pytest
from support.guarded import guarded
from support.listening import RawClient, until
from support.network import ROUNDS, RUN, N, counted, ended
from support.network import federation as open_federation
from support.strangers import Caller

from fedjury.broker import enrol
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.protocol.codec import encode
from fedjury.protocol.messages import (
    GroupCandidate,
    GroupHistory,
    GroupVotes,
    Phase,
    Update,
    Vote,
    turn_of,
)

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="logins need Mosquitto"),
]

HERE = f"fl/v2/{RUN}"
VICTIM = "agent-07"


@contextlib.contextmanager
def federation(folder, *words):
    """Enrol a fleet and Mallory, and start a broker for them."""
    with guarded(folder, "--n", str(N), "--name", "mallory", *words) as programs:
        yield programs


def whole(programs, *more):
    """Run a federation to its end."""
    server = programs.aggregator(*more)
    ended(server, programs.agents())
    return server


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Run a federation with passwords that nobody disturbs."""
    with federation(tmp_path_factory.mktemp("quiet")) as programs:
        whole(programs)
    return programs


class Mallory(Caller):
    """An enrolled agent that attacks in rounds 2 to 4, as soon as they are announced."""

    ROUNDS = (2, 3, 4)
    OWN = 5
    """Messages of a round that are on her own topics."""

    def __init__(self, house):
        self.attacked, self.denied, self.taken = set(), 0, 0
        self._house, self._counting = house, threading.Lock()
        certified = next(house.folder.rglob("mallory.crt"), None)
        login = (None, None) if certified else ("mallory", house.secret("mallory"))
        super().__init__(
            house.address,
            *login,
            f"{HERE}/#",
            protocol=paho.MQTTv5,
            client_id=f"{RUN}.{VICTIM}",
            will=(f"{HERE}/agent/{VICTIM}", b'{"online": false, "since": 0}'),
            tls=house.context("mallory" if certified else None) if certified else None,
        )
        self.paho.on_publish = self._receipt

    def _receipt(self, _client, _data, _mid, reason, _properties):
        with self._counting:
            self.denied += str(reason) == "Not authorized"
            self.taken += str(reason) == "Success"

    def _hear(self, client, data, message):
        super()._hear(client, data, message)
        if message.topic == f"{HERE}/round" and message.payload:
            now = json.loads(message.payload)
            if now["round"] in self.ROUNDS and now["round"] not in self.attacked:
                self.attacked.add(now["round"])
                self._attack(now["round"], now["version"], message.payload)

    def _say(self, topic, payload, *, retain=False):
        self.paho.publish(f"{HERE}/{topic}", payload, qos=1, retain=retain)

    def _attack(self, number, version, announced):
        delta = np.full(2410, 1e6, dtype=np.float32)
        fair = encode(Update(VICTIM, number, version, 20, delta))
        vote = encode(Vote(VICTIM, number, 1, True, 9.0, 1.0, 20))
        for _ in range(3):  # one of them comes before the victim's own
            for agent in (VICTIM, "agent-00", f"agent-{N - 1}"):
                self._say(f"update/{agent}", fair)
                self._say(f"vote/{agent}", vote)
                self._say(f"agent/{agent}", b'{"online": false, "since": 0}', retain=True)
        done = json.loads(announced) | {"phase": "done"}
        for retain in (False, True):
            self._say("round", json.dumps(done), retain=retain)
            for topic in ("model", "candidate", "manifest", "history/0", f"history/{version}"):
                self._say(topic, b"", retain=retain)
                self._say(topic, fair, retain=retain)
            self._say("log/round", b'{"round": 99}', retain=retain)
            self._say("log/invalid", b"{}", retain=retain)
        # As herself: nobody has called her.
        self._say("update/mallory", fair)
        self._say("update/mallory", b"\x81" * 100_000)
        self._say("vote/mallory", vote)
        self._say("vote/mallory", b"[" * 1000)
        self._say("agent/mallory", b'{"online": 1e999, "since": "now"}', retain=True)


@pytest.mark.parametrize("words", [[], ["--tls"]], ids=["passwords", "certificates"])
def test_a_hostile_agent_changes_nothing(quiet, tmp_path, words):
    """She forges everything she can think of: the models are the same, and she has heard nothing.

    The run with certificates has TLS from end to end; so this also says that neither changes a bit.
    """
    with federation(tmp_path, *words) as programs, Mallory(programs.house) as mallory:
        whole(programs)
        assert mallory.let_in
        assert mallory.attacked == set(Mallory.ROUNDS)
        until(lambda: mallory.taken == Mallory.OWN * len(Mallory.ROUNDS))
        assert mallory.denied == (27 + 26) * len(Mallory.ROUNDS)
        kinds = {topic.split("/")[3] for topic in mallory.topics}
    assert kinds <= {"aggregator", "manifest", "round", "model", "history", "candidate"}
    records = programs.records()
    told, right = (
        [
            (r.round, r.version, r.accepted, r.updates, r.missing, r.votes.counts, r.model)
            for r in run
        ]
        for run in (records, quiet.records())
    )
    assert told == right
    assert [record.updates for record in records] == [N] * ROUNDS
    for version in range(ROUNDS - 3, ROUNDS + 1):
        assert programs.weights(version) == quiet.weights(version)
    refused = [sum(record.traffic.invalid_messages.values()) for record in records]
    assert sum(refused) == Mallory.OWN * len(Mallory.ROUNDS)


def test_whose_rights_are_gone_is_missing_in_the_record(tmp_path):
    """The broker acknowledges what it denies; the aggregator says that an update did not come."""
    with federation(tmp_path) as programs:
        acl = programs.secrets / "broker" / "acl"
        with acl.open("a") as rules:
            rules.write(f"\nuser {VICTIM}\ntopic deny fl/v2/+/update/#\n")
        with contextlib.redirect_stdout(None):
            enrol.tell(programs.secrets)
        server = whole(programs, "--rounds", "1", "--set", "collect.seconds=2")
    for record in programs.records():
        assert (record.selected, record.updates, record.missing) == (N, N - 1, 1)
        assert record.absent == (VICTIM,)
    assert "1 missing" in server.log.read_text()


@pytest.mark.parametrize("words", [[], ["--tls"]], ids=["passwords", "certificates"])
def test_a_revoked_agent_is_out_of_a_run_that_goes_on(tmp_path, words):
    """Its updates come no more and everybody else's count; a broker restarted has forgotten it."""
    with federation(tmp_path, *words) as programs:
        server = programs.aggregator("--rounds", "99", "--set", "collect.seconds=1.5")
        agents = programs.agents()
        until(programs.records, 60)
        enrol.main(["--revoke", VICTIM, "--folder", str(programs.secrets)])
        until(lambda: programs.records()[-1].absent == (VICTIM,), 30)
        assert programs.records()[-1].updates == N - 1
        programs.restart_broker()
        until(lambda: programs.records()[-1].selected == N - 1, 60)
        assert programs.records()[-1].absent == ()
        until(lambda: VICTIM in agents.log.read_text(), 90)
        assert "the broker is back" in server.log.read_text()


# ---------------------------------------------------------------- votes on groups

ON_GROUPS = ["--vote-on", "groups", "--judge", "robust", "--quorum", "3"]
ON_GROUPS += ["--set", "groups.size=20", "--set", "validation.groups_each=2"]
ON_GROUPS += ["--set", "validation.minimum_history=3"]
"""Three groups of twenty; each of five validators judges two of them."""


def on_groups(programs):
    """Run a federation of honest agents that votes on groups, to its end."""
    server = programs.aggregator(*ON_GROUPS)
    ended(server, programs.agents("--evil", "0"))


def what_became(programs):
    """Return what a run came to: its rounds in short, and its last models bit for bit."""
    records = programs.records()
    versions = range(max(0, records[-1].version - 2), records[-1].version + 1)
    rounds = [
        (r.round, r.version, r.accepted, r.updates, r.groups.left_out, r.model) for r in records
    ]
    return rounds, {version: programs.weights(version) for version in versions}


@pytest.fixture(scope="module")
def quiet_on_groups(tmp_path_factory):
    """Run a federation that votes on groups, and that nobody disturbs."""
    with open_federation("mosquitto", tmp_path_factory.mktemp("groups")) as programs:
        on_groups(programs)
        rounds, models = what_became(programs)
        assert not counted(programs.records())
    assert rounds[-1][1] > 0
    return rounds, models


def votes_on(agent, groups, number, attempt, score=0.5):
    """Make votes on groups that call all of them clean."""
    vote = Vote(agent, number, attempt, poisoned=False, score=score, threshold=1.0, samples=20)
    return GroupVotes.of(dict.fromkeys(groups, vote))


class Meddler(RawClient):
    """A stranger on an open broker, who speaks in validators' names as soon as they are called."""

    def __init__(self, address):
        self.attacked = set()
        super().__init__(address, f"{HERE}/round")
        self.paho.on_message = self._hear

    def _hear(self, _client, _data, message):
        now = json.loads(message.payload or b"{}")
        turn = now.get("round"), now.get("attempt")
        if now.get("phase") == Phase.VALIDATE_GROUPS and turn not in self.attacked:
            self.attacked.add(turn)
            self._attack(turn, now["groups"], now["each"], now["validators"])

    def _say(self, said, payload=None, *, retain=False):
        topic = f"{HERE}/group-vote/{said.agent}"
        self.paho.publish(topic, encode(said) if payload is None else payload, 1, retain)

    def _attack(self, turn, count, each, validators):
        for place, name in enumerate(validators[:2]):
            given = turn_of(place, count, each)
            others = turn_of(place + 1, count, each)
            for groups in (others, given[:1], range(count), range(500)):
                self._say(votes_on(name, groups, *turn))
            self._say(votes_on(name, given, *turn, score=float("nan")))
            self._say(votes_on(name, given, *turn), b"\x81" * 900)
        self._say(votes_on("stranger", (0, 1), *turn))
        self._say(votes_on("stranger", (0, 1), *turn), retain=True)
        name = validators[0]
        self._say(votes_on(name, turn_of(0, count, each), *turn))  # so its own is one too many


def test_hostile_votes_on_groups_are_refused_by_reason(quiet_on_groups, tmp_path):
    """On groups not given, too few, too many, NaN, junk, by strangers, twice: no model changes.

    What validators said themselves still counts, but for one whose vote another gave before.
    """
    with (
        open_federation("mosquitto", tmp_path) as programs,
        Meddler(programs.address) as meddler,
    ):
        on_groups(programs)
        assert what_became(programs) == quiet_on_groups
        records = programs.records()
        with RawClient(programs.address, f"{HERE}/group-vote/+") as late:
            until(lambda: late.payloads("group-vote/stranger"))  # retained, and nobody minds
    assert meddler.attacked == {(number, 1) for number in range(1, ROUNDS + 1)}
    counted = 0
    for record in records:
        refused = dict(record.traffic.invalid_messages)
        # On a busy machine some of the others, also of the round before.
        late = refused.pop("wrong_phase", 0) + refused.pop("wrong_round", 0)
        usual = {"wrong_groups": 8, "not_selected": 2, "duplicate": 1}
        said = {reason: refused.pop(reason, 0) for reason in usual}
        assert refused == {"not_finite": 2, "malformed": 2}
        assert all(said[reason] <= usual[reason] for reason in usual)
        counted += sum(said.values()) + late
        assert len(record.groups.voters) == 5
    assert 11 * len(records) - 3 <= counted <= 11 * len(records)  # some may come after the end


class MalloryOnGroups(Mallory):
    """An enrolled agent that forges what groups' candidates were, and what others said of them."""

    ROUNDS = tuple(range(1, ROUNDS + 1))
    OWN, FORGED = 3, 10

    def _hear(self, client, data, message):
        Caller._hear(self, client, data, message)
        now = json.loads(message.payload or b"{}") if message.topic == f"{HERE}/round" else {}
        number = now.get("round")
        if now.get("phase") == Phase.VALIDATE_GROUPS and number not in self.attacked:
            self.attacked.add(number)
            self._attack_groups(number, now["version"], now["validators"][0])

    def _attack_groups(self, number, version, validator):
        poison = np.full(2410, 1e6, dtype=np.float32)
        for retain in (False, True):
            for group in range(3):
                forged = encode(GroupCandidate(group, number, 1, version, poison))
                self._say(f"group/{group}", forged, retain=retain)
            self._say(f"group-history/{version}", encode(GroupHistory(version, poison)))
            self._say(f"group-vote/{validator}", encode(votes_on(validator, (0, 1), number, 1)))
        own = votes_on("mallory", (0, 1), number, 1)
        self._say("group-vote/mallory", encode(own))
        self._say("group-vote/mallory", encode(own), retain=True)
        self._say("group-vote/mallory", b"\x81" * 900)


@pytest.mark.parametrize("words", [[], ["--tls"]], ids=["passwords", "certificates"])
def test_nobody_forges_groups_or_votes_on_them(quiet_on_groups, tmp_path, words):
    """The broker delivers none of it, the aggregator refuses her own; who watches sees no group."""
    with federation(tmp_path, "--watch", "ann", *words) as programs:
        house = programs.house
        with (
            MalloryOnGroups(house) as mallory,
            house.call("watch.ann", f"{HERE}/#", f"{HERE}/group/0") as ann,
        ):
            on_groups(programs)
            rounds = len(MalloryOnGroups.ROUNDS)
            assert mallory.attacked == set(MalloryOnGroups.ROUNDS)
            until(lambda: mallory.taken == MalloryOnGroups.OWN * rounds)
            assert mallory.denied == MalloryOnGroups.FORGED * rounds
            seen = [{topic.split("/")[3] for topic in who.topics} for who in (mallory, ann)]
        assert what_became(programs) == quiet_on_groups
        total = counted(programs.records())
    assert "group-vote" not in seen[0]
    assert {"group", "group-history"} <= seen[0]
    assert "group-vote" in seen[1]
    assert not seen[1] & {"group", "group-history", "model", "update", "candidate", "history"}
    # On a busy machine a vote of hers may come once the phase is over: refused all the same.
    unasked = total.pop("not_selected", 0) + total.pop("wrong_phase", 0)
    assert (unasked, total) == (2 * rounds, {"malformed": rounds})
