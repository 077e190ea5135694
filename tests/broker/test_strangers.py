"""Who may say and hear what on a real Mosquitto with the shipped rules, as raw clients find out.

That a message is not delivered is seen by one that is sent after it, on the same connection, and
arrives: the broker keeps their order.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.listening import until
from support.strangers import RUN, Caller, House

from fedjury.broker import certificates, enrol, enrolment
from fedjury.broker import probe as answering
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.config.sections import Broker
from fedjury.protocol import finding
from fedjury.protocol.credentials import address_of, login_of
from fedjury.protocol.finding import with_log_ins
from fedjury.protocol.messages import BadMessage, Reason
from fedjury.protocol.topics import USUAL
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_probe import probe

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="logins need Mosquitto"),
]

BOTH = pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5"])
REFUSED = "Not authorized"


@contextlib.contextmanager
def house_of(folder, *words):
    """Enrol four agents, a gateway and two people, and run a broker that knows them."""
    enrol.main(["--n", "4", "--slots", "http=2", "--watch", "ann", *words, "--folder", str(folder)])
    with local_broker(
        "mosquitto", say=lambda _: None, log=folder.parent / "broker.log", secrets=folder
    ) as address:
        yield House(address, folder)


@pytest.fixture(scope="module", params=["passwords", "certificates"])
def house(request, tmp_path_factory):
    words = ["--tls"] if request.param == "certificates" else []
    with house_of(tmp_path_factory.mktemp(request.param) / "secrets", *words) as made:
        yield made


@pytest.fixture(scope="module")
def open_house(tmp_path_factory):
    """Run a broker that asks for passwords."""
    with house_of(tmp_path_factory.mktemp("open") / "secrets") as made:
        yield made


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    """Run a broker that asks for certificates."""
    with house_of(tmp_path_factory.mktemp("vault") / "secrets", "--tls") as made:
        yield made


@pytest.fixture
def aggregator(house):
    """Connect as the aggregator, who hears everything that is delivered to anybody."""
    with house.call("aggregator", "fl/v2/#", protocol=paho.MQTTv5) as made:
        yield made
        for topic in sorted(made.topics):
            made.say(topic, b"", retain=True)


# ---------------------------------------------------------------- who is let in


@BOTH
@pytest.mark.parametrize(
    ("login", "password"),
    [
        (None, None),
        ("agent-0", None),
        ("agent-0", ""),
        ("agent-0", "secret"),
        ("agent-9", "secret"),
        ("", ""),
        ("watch", "agent-0's"),
        ("agent-0", "agent-1's"),
    ],
)
def test_nobody_comes_in_without_a_secret_of_their_own(open_house, protocol, login, password):
    """Anonymous, unknown, with no, an empty, a wrong, or another's password: refused."""
    if password and password.endswith("'s"):
        password = open_house.secret(password.removesuffix("'s"))
    with Caller(open_house.address, login, password, protocol=protocol) as caller:
        assert caller.answer == REFUSED


@BOTH
def test_whoever_is_enrolled_comes_in(house, protocol):
    """Agents, slots, ears, the aggregator and people are let in with what enrolment gave them."""
    for login in (
        "agent-0",
        "http-001",
        "listener.agent-3",
        "listener.http",
        "aggregator",
        "watch.ann",
    ):
        with house.call(login, protocol=protocol) as caller:
            assert caller.let_in, login


def signed_by(foreign, folder, login, days=1):
    """Put a certificate of an authority into a folder; returns what TLS needs to show it."""
    pair = certificates.client(foreign, login, days)
    (folder / "its.crt").write_bytes(pair.certificate)
    (folder / "its.key").write_bytes(pair.key)
    return folder / "its.crt", folder / "its.key"


@BOTH
def test_only_certificates_of_the_authority_count(vault, tmp_path, protocol):
    """None, one of a foreign authority, one that ran out, and the broker's own are refused."""
    ours = certificates.load(vault.folder / "broker" / "ca.crt", vault.folder / "ca.key")
    foreign, _ = certificates.establish()
    broker = vault.folder / "broker"
    shown = [
        None,
        signed_by(foreign, tmp_path, "agent-0"),
        (broker / "server.crt", broker / "server.key"),
    ]
    contexts = [vault.context() for _ in shown]
    for context, files in zip(contexts, shown, strict=True):
        if files:
            context.load_cert_chain(*files)
    contexts.append(vault.context())
    contexts[-1].load_cert_chain(*signed_by(ours, tmp_path, "agent-0", days=0))
    for context in contexts:
        for name in (None, "agent-0"):  # a name that is only said makes no difference
            with Caller(vault.address, name, None, protocol=protocol, tls=context) as caller:
                assert not caller.let_in
    good = vault.context()
    good.load_cert_chain(*signed_by(ours, tmp_path, "agent-0"))
    with Caller(vault.address, protocol=protocol, tls=good) as caller:
        assert caller.let_in


def test_what_is_not_encrypted_is_not_heard(vault):
    """Where TLS is asked for, a plain connection gets no MQTT at all."""
    with Caller(vault.address, "agent-0", "secret") as caller:
        assert caller.answer is None
    with socket.create_connection(vault.address[:2], timeout=5) as plain:
        plain.sendall(answering.CONNECT)
        with contextlib.suppress(ConnectionError):
            assert not plain.recv(4).startswith(answering.CONNACK)


@BOTH
def test_the_certificate_says_who_it_is(vault, protocol):
    """Whatever name and client id a client gives, it is the one its certificate names."""
    with vault.call("aggregator", f"{RUN}/update/+", protocol=paho.MQTTv5) as aggregator:
        said = {"client_id": "agent-1", "protocol": protocol, "tls": vault.context("agent-0")}
        with Caller(vault.address, "agent-1", "secret", **said) as caller:
            caller.say(f"{RUN}/update/agent-1")
            caller.say(f"{RUN}/update/agent-0")
            assert aggregator.until_heard(f"{RUN}/update/agent-0") == []


# ---------------------------------------------------------------- what is not said

OWN = ("update", "vote", "group-vote", "secure/keys", "secure/shares", "secure/masked")
OWN += ("secure/unmasked", "agent")
ALONE = "secure/peers", "secure/inbox", "secure/unmask"
"""What the aggregator tells each agent by itself."""
FORBIDDEN = [
    "update/agent-0",
    "vote/agent-0",
    "group-vote/agent-0",
    "agent/agent-0",
    *(f"{kind}/agent-0" for kind in OWN if kind.startswith("secure/")),
    *(f"{kind}/{name}" for kind in ALONE for name in ("agent-0", "agent-1")),
    "manifest",
    "round",
    "model",
    "history/0",
    "history/3",
    "candidate",
    "group/0",
    "group/1",
    "group-history/0",
    "group-history/3",
    "log/round",
    "log/invalid",
    "update",
    "vote",
    "group",
    "group-vote",
    "secure",
    "secure/keys",
    "secure/agent-1",
    "update/agent-1/more",
    "secure/keys/agent-1/more",
    "collusion/update/agent-1",
    "collusion/attack",
    "anything",
]


@BOTH
@pytest.mark.parametrize("login", ["agent-1", "http-001"])
def test_everybody_speaks_for_themselves(house, aggregator, protocol, login):
    """An agent's own update, vote and presence arrive; a gateway's slot is an agent like others."""
    with house.call(login, protocol=protocol) as caller:
        for kind in OWN:
            assert caller.say(f"{RUN}/{kind}/{login}", kind.encode()) == "Success"
            assert aggregator.until_heard(f"{RUN}/{kind}/{login}", kind.encode()) == []


@BOTH
@pytest.mark.parametrize("retain", [False, True])
def test_nobody_speaks_for_others(house, aggregator, protocol, retain):
    """Another's topics and the aggregator's: not delivered, not retained; MQTT 5 is told so."""
    with house.call("agent-1", protocol=protocol) as caller:
        for topic in FORBIDDEN:
            receipt = caller.say(f"{RUN}/{topic}", b"forged", retain=retain)
            assert receipt == (REFUSED if protocol == paho.MQTTv5 else "Success"), topic
        for topic in ("fl/v2/round", "fl/v3/lab/round", "round", "$SYS/broker/uptime"):
            caller.say(topic, b"forged", retain=retain)
        caller.say(f"{RUN}/vote/agent-1", b"end")
    assert aggregator.until_heard(f"{RUN}/vote/agent-1", b"end") == []
    with house.call("watch", "fl/v2/#", "$SYS/broker/uptime") as late:
        assert all(topic.startswith("$SYS") for topic, _ in late.heard)


def test_an_alias_is_no_way_around(house, aggregator):
    """A topic that MQTT 5 abbreviates to a number is looked at all the same."""
    short = Properties(PacketTypes.PUBLISH)
    short.TopicAlias = 1
    with house.call("agent-1", protocol=paho.MQTTv5) as caller:
        assert caller.say(f"{RUN}/vote/agent-0", b"forged", properties=short) == REFUSED
        assert caller.say("", b"forged", properties=short) == REFUSED
        assert caller.say(f"{RUN}/vote/agent-1", b"own", properties=short) == "Success"
        assert caller.say("", b"end", properties=short) == "Success"
    assert aggregator.until_heard(f"{RUN}/vote/agent-1", b"end") == [
        (f"{RUN}/vote/agent-1", b"own")
    ]


@BOTH
@pytest.mark.parametrize(
    "topic",
    ["agent/agent-0", "round", "model", "group/0", "group-vote/agent-0", "secure/unmask/agent-0"],
)
def test_a_last_will_is_no_way_around(house, aggregator, protocol, topic):
    """A will on another's topic is not delivered, and neither retained; one's own is."""
    will = (f"{RUN}/{topic}", b"forged")
    doomed = house.call("agent-1", protocol=protocol, will=will)
    honest = house.call("agent-2", protocol=protocol, will=(f"{RUN}/agent/agent-2", b"gone"))
    doomed.drop_dead()
    honest.drop_dead()
    assert aggregator.until_heard(f"{RUN}/agent/agent-2", b"gone") == []
    with house.call("agent-3", f"{RUN}/{topic}") as late:
        late.say(f"{RUN}/vote/agent-3", b"end")
        aggregator.until_heard(f"{RUN}/vote/agent-3", b"end")
        assert late.heard == []


@pytest.mark.parametrize("login", ["watch", "watch.ann"])
def test_people_only_watch(house, aggregator, login):
    """Who watches says nothing: not even what every agent may, in a name like an agent's."""
    with house.call(login, protocol=paho.MQTTv5) as caller, house.call("agent-1") as agent:
        for topic in (*FORBIDDEN, *(f"{kind}/{login}" for kind in OWN)):
            assert caller.say(f"{RUN}/{topic}", b"forged", retain=True) == REFUSED, topic
        agent.say(f"{RUN}/vote/agent-1", b"end")
    assert aggregator.until_heard(f"{RUN}/vote/agent-1", b"end") == []


@pytest.mark.parametrize("login", ["listener.agent-1", "listener.http"])
def test_an_ear_passes_for_nobody(house, aggregator, login):
    """What an ear may publish is on no agent's topic: every reader refuses it."""
    with house.call(login, protocol=paho.MQTTv5) as caller:
        for topic in (*FORBIDDEN, "update/http-000", "agent/http-000"):
            assert caller.say(f"{RUN}/{topic}", b"forged", retain=True) == REFUSED, topic
        for kind in OWN:
            assert caller.say(f"{RUN}/{kind}/{login}", b"noise") == "Success"
            with pytest.raises(BadMessage) as refused:
                USUAL.parse(f"{RUN}/{kind}/{login}")
            assert refused.value.reason is Reason.UNKNOWN_TOPIC
    heard = [topic for topic, _ in aggregator.until_heard(f"{RUN}/agent/{login}")]
    assert heard == [f"{RUN}/{kind}/{login}" for kind in OWN[:-1]]


# ---------------------------------------------------------------- what is not heard

TOLD = ["manifest", "round", "model", "history/3", "candidate", "group/0", "group-history/3"]
PEOPLE = ["manifest", "round", *(f"{kind}/agent-0" for kind in ("vote", "group-vote", "agent"))]
PEOPLE += ["log/round", "log/invalid"]
WIDE = ["fl/v2/#", f"{RUN}/+/+", f"{RUN}/update/+", f"{RUN}/vote/agent-0", f"{RUN}/secure/#"]
WIDE += [f"{RUN}/secure/peers/agent-0", "$share/all/fl/v2/#"]


def everything_happens(house, aggregator):
    """Let the aggregator and an agent say everything there is, retained, and wait for the end."""
    alone = (f"{kind}/{name}" for kind in ALONE for name in ("agent-0", "agent-1", "http-000"))
    for topic in (*TOLD, *alone, "log/round", "log/invalid"):
        aggregator.say(f"{RUN}/{topic}", b"said", retain=True)
    with house.call("agent-0") as agent:
        for kind in OWN:
            agent.say(f"{RUN}/{kind}/agent-0", b"said", retain=True)
    aggregator.say(f"{RUN}/round", b"end", retain=True)


@BOTH
@pytest.mark.parametrize("login", ["agent-1", "listener.agent-1", "http-000"])
@pytest.mark.parametrize("late", [False, True], ids=["live", "retained"])
def test_agents_hear_the_aggregator_alone(house, aggregator, protocol, login, late):
    """Whatever they subscribe to, of others' updates, votes and presence they get nothing."""
    if late:
        everything_happens(house, aggregator)
    with house.call(login, *WIDE, "$SYS/#", protocol=protocol) as caller:
        if not late:
            everything_happens(house, aggregator)
        caller.until_heard(f"{RUN}/round", b"end") if not late else None
        with house.call("agent-2") as other:
            other.say(f"{RUN}/vote/agent-2", b"secret")
        aggregator.say(f"{RUN}/candidate", b"last")
        heard = {topic for topic, _ in caller.until_heard(f"{RUN}/candidate", b"last")}
        told = {f"{RUN}/{topic}" for topic in TOLD}
        if not login.startswith("listener"):
            told |= {f"{RUN}/{kind}/{login}" for kind in ALONE}
        assert heard <= told
        assert not late or heard == told


@pytest.mark.parametrize(
    ("login", "allowed"),
    [
        ("watch", PEOPLE),
        ("watch.ann", PEOPLE),
        ("listener.http", [*TOLD, "log/round", "log/invalid"]),
    ],
)
def test_people_and_gateways_hear_the_log(house, aggregator, login, allowed):
    """People read votes and the log, no models or updates; a gateway's ear hears the log too."""
    everything_happens(house, aggregator)
    with house.call(login, *WIDE[:-1], "$SYS/broker/clients/connected") as caller:
        aggregator.say(f"{RUN}/round", b"last")
        heard = {topic for topic, _ in caller.until_heard(f"{RUN}/round", b"last")}
    broker = {topic for topic in heard if topic.startswith("$SYS")}
    assert heard - broker == {f"{RUN}/{topic}" for topic in allowed}
    assert bool(broker) == login.startswith("watch")


def test_attackers_meet_only_where_an_experiment_lets_them(tmp_path):
    """With --collusion they hear each other, with --run nobody speaks in another run."""
    words = "--collusion", "--run", "lab"
    with (
        house_of(tmp_path / "secrets", *words) as house,
        house.call("agent-0", f"{RUN}/collusion/#", protocol=paho.MQTTv5) as leader,
        house.call("agent-1", "fl/v2/#", protocol=paho.MQTTv5) as other,
    ):
        assert other.say(f"{RUN}/collusion/update/agent-1") == "Success"
        assert other.say(f"{RUN}/collusion/update/agent-2") == REFUSED
        assert other.say("fl/v2/elsewhere/collusion/update/agent-1") == REFUSED
        assert other.say("fl/v2/elsewhere/update/agent-1", retain=True) == REFUSED
        assert other.say(f"{RUN}/update/agent-1") == "Success"
        assert leader.until_heard(f"{RUN}/collusion/update/agent-1") == []
        assert leader.say(f"{RUN}/collusion/attack") == "Success"
        other.until_heard(f"{RUN}/collusion/attack")


# ---------------------------------------------------------------- names


@BOTH
def test_a_stolen_client_id_is_ones_own_again(house, aggregator, protocol):
    """Who takes another's id is known by the login all the same, and the other stays connected."""
    with house.call("agent-0", f"{RUN}/round", client_id="agent-0", protocol=protocol) as victim:
        for name in ("agent-0", "lab.agent-0", "aggregator", ""):
            with house.call("agent-1", client_id=name, protocol=protocol) as thief:
                thief.say(f"{RUN}/update/agent-0", b"forged")
                thief.say(f"{RUN}/update/agent-1", b"own")
                assert aggregator.until_heard(f"{RUN}/update/agent-1", b"own") == []
        aggregator.say(f"{RUN}/round", b"still there?")
        victim.until_heard(f"{RUN}/round", b"still there?")
        assert victim.cut is None
        assert aggregator.cut is None


def test_a_stolen_client_id_gets_no_letters_of_another(house, aggregator):
    """What the broker keeps for an agent that sleeps is not handed to who takes its client id."""
    name = "agent-0"
    with house.call(name, f"{RUN}/round", client_id=name, clean=False):
        pass
    aggregator.say(f"{RUN}/round", b"for agent-0")
    with house.call("agent-1", client_id=name, clean=False) as thief:
        assert not thief.session
        thief.say(f"{RUN}/vote/agent-1", b"end")
        aggregator.until_heard(f"{RUN}/vote/agent-1", b"end")
        assert thief.heard == []
    with house.call(name, client_id=name, clean=False) as owner:
        assert owner.session
        owner.until_heard(f"{RUN}/round", b"for agent-0")
    for login in (name, "agent-1"):  # the broker forgets them again
        house.call(login).__exit__()


def test_one_login_is_one_connection(house):
    """A stolen secret does not go unnoticed: whoever uses it throws the owner out."""
    with house.call("agent-0", protocol=paho.MQTTv5) as owner:
        with house.call("agent-0", client_id="other", protocol=paho.MQTTv5) as thief:
            assert thief.let_in
            until(lambda: owner.cut)
        with house.call("agent-0", protocol=paho.MQTTv5) as again:
            assert again.let_in


# ---------------------------------------------------------------- revoking


def revoked(folder, *logins):
    """Revoke as the command does, which tells the broker that runs from this folder."""
    words = [word for login in logins for word in ("--revoke", login)]
    enrol.main([*words, "--folder", str(folder)])


def test_a_revoked_password_is_out_at_once(tmp_path, capsys):
    """Its connection is cut, it is not let in again, and nobody else is disturbed."""
    with house_of(tmp_path / "secrets") as house:
        secret = house.secret("agent-1")
        with house.call("aggregator", "fl/v2/#") as aggregator, house.call("agent-0") as other:
            doomed = house.call("agent-1", protocol=paho.MQTTv5)
            revoked(house.folder, "agent-1")
            assert "the private broker has been told" in capsys.readouterr().out
            with house.call("agent-2"):  # the signal has been dealt with once this is let in
                pass
            with doomed:
                doomed.paho.publish(f"{RUN}/update/agent-1", b"late", qos=1)  # no receipt comes
                other.say(f"{RUN}/update/agent-0", b"end")
            assert aggregator.until_heard(f"{RUN}/update/agent-0") == []
            assert doomed.cut not in (None, "Normal disconnection")
            with Caller(house.address, "agent-1", secret) as again:
                assert again.answer == REFUSED
            assert (aggregator.cut, other.cut) == (None, None)


def test_a_renewed_password_is_the_only_one(tmp_path):
    """The old secret is refused, the new one let in."""
    with house_of(tmp_path / "secrets") as house:
        old = house.secret("agent-1")
        enrol.main(["--renew", "agent-1", "--folder", str(house.folder)])
        with house.call("agent-2"), house.call("agent-1") as new:
            assert new.let_in
        with Caller(house.address, "agent-1", old) as caller:
            assert caller.answer == REFUSED


def test_a_revoked_certificate_is_mute_and_deaf_at_once(tmp_path):
    """Mosquitto leaves its connection: nothing goes through it, and it does not come back."""
    with house_of(tmp_path / "secrets", "--tls") as house:
        context = house.context("agent-1")
        with house.call("aggregator", "fl/v2/#") as aggregator, house.call("agent-0") as other:
            with house.call("agent-1", f"{RUN}/round", protocol=paho.MQTTv5) as doomed:
                revoked(house.folder, "agent-1")
                with house.call("agent-2"):
                    pass
                assert doomed.say(f"{RUN}/update/agent-1", b"late") == REFUSED
                aggregator.say(f"{RUN}/round", b"new")
                other.say(f"{RUN}/update/agent-0", b"end")
                assert aggregator.until_heard(f"{RUN}/update/agent-0") == [(f"{RUN}/round", b"new")]
                assert doomed.say(f"{RUN}/vote/agent-1", b"late") == REFUSED
                assert doomed.heard == []
            with Caller(house.address, tls=context) as again:
                assert not again.let_in
            assert (aggregator.cut, other.cut) == (None, None)
            enrolment.enrol(house.folder, [], ["agent-1"])


def test_whoever_is_enrolled_later_comes_in_without_a_restart(tmp_path):
    """The broker that runs learns of new agents, with passwords as with certificates."""
    for words in ([], ["--tls"]):
        folder = tmp_path / f"secrets{len(words)}"
        with house_of(folder, *words) as house:
            enrol.main(["--name", "robot", "--folder", str(folder)])
            with house.call("agent-2"), house.call("robot") as robot:
                assert robot.let_in


def test_the_broker_says_nothing_of_what_it_denies(tmp_path):
    """Why the aggregator's own ledger has to show it: the log of the broker does not."""
    with house_of(tmp_path / "secrets") as house:
        with house.call("agent-1") as caller:
            assert caller.say(f"{RUN}/round", b"forged") == "Success"
        with Caller(house.address, "agent-1", "wrong") as caller:
            assert caller.answer == REFUSED
    log = (tmp_path / "broker.log").read_text()
    assert "agent-1" not in log
    assert "Denied" not in log


def test_people_watch_with_one_command(open_house, tmp_path):
    """As the help says: mosquitto_sub finds login and secret by itself."""
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("no mosquitto_sub on this machine")
    environment = {**os.environ, "XDG_CONFIG_HOME": str(open_house.folder / "people")}
    words = ["mosquitto_sub", "-p", str(open_house.address.port), "-v", "-C", "2", "-W", "10"]
    with open_house.call("aggregator") as aggregator:
        aggregator.say(f"{RUN}/log/round", json.dumps({"round": 1}), retain=True)
        aggregator.say(f"{RUN}/vote/agent-0", b"a vote", retain=True)
        done = subprocess.run(
            [*words, "-t", "fl/v2/+/log/#", "-t", "fl/v2/+/vote/+"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        for topic in ("log/round", "vote/agent-0"):
            aggregator.say(f"{RUN}/{topic}", b"", retain=True)
    assert done.returncode == 0
    heard = sorted(done.stdout.splitlines())
    assert heard == [f'{RUN}/log/round {{"round": 1}}', f"{RUN}/vote/agent-0 a vote"]


# ---------------------------------------------------------------- logins that lie at hand


@pytest.mark.parametrize(
    ("part", "party", "login"),
    [
        ("agents", "agent-0", "agent-0"),
        ("aggregator", ":aggregator", "aggregator"),
        ("people", ":watch", "watch"),
        ("people/ann", ":watch.ann", "watch.ann"),
    ],
)
def test_a_broker_that_wants_log_ins_gets_those_of_the_folder_here(
    open_house, monkeypatch, part, party, login
):
    """Without a flag: the folder secrets here is taken where the broker lets nobody in without."""
    monkeypatch.chdir(open_house.folder.parent)
    host, port, *_ = open_house.address
    said = []
    broker = Broker(host=host, port=port)
    found = with_log_ins(broker, part, lambda: [party], said.append)
    assert found.secrets == "secrets"
    assert said == ["the broker requires a login: using the one in the folder secrets here"]
    address = address_of(found, part)
    assert login_of(address, party).username == login
    assert probe(address, party)


def test_a_broker_of_certificates_gets_those_of_the_folder_here(vault, monkeypatch):
    """So it is with TLS, where the folder's own authority says who the broker is."""
    monkeypatch.chdir(vault.folder.parent)
    broker = Broker(host="localhost", port=vault.address.port)
    assert with_log_ins(broker, "agents", lambda: ["agent-1"], str).secrets == "secrets"


def test_a_broker_that_lets_everybody_in_is_sent_no_password(open_house, monkeypatch):
    """It did not ask. And without a folder here, or with a login of one's own, nothing changes."""
    monkeypatch.chdir(open_house.folder.parent)
    with local_broker("mosquitto", say=lambda _: None) as anybody:
        broker = Broker(host=anybody.host, port=anybody.port)
        assert with_log_ins(broker, "agents", lambda: ["agent-0"], pytest.fail) == broker
    assert finding.secrets_for(broker.replaced(username="me"), "agents", list) == ""
    monkeypatch.chdir("/")
    assert finding.secrets_for(broker, "agents", list) == ""


def test_a_password_nobody_spoke_of_goes_to_no_other_machine(open_house, monkeypatch):
    """Unencrypted it stays on this machine, unless --secrets says so."""
    monkeypatch.chdir(open_house.folder.parent)

    def refused(address, party=""):
        assert address.secrets == "", "a password went out"
        raise TransportError("the broker at far:1883 rejects the connection: Not authorized")

    monkeypatch.setattr(finding, "probe", refused)
    far = Broker(host="fl.example.org")
    with pytest.raises(
        TransportError, match=r"rejects the connection.*only used .* with --secrets secrets"
    ):
        finding.secrets_for(far, "agents", lambda: ["agent-0"])
