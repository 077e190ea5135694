"""Who a party is to the broker: the secrets in a folder, and TLS on a real broker."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from support.listening import until

from fedjury.broker import certificates, enrol
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.config.sections import Broker
from fedjury.protocol import codec, credentials
from fedjury.protocol.credentials import (
    SYSTEM,
    BrokerAddress,
    address_of,
    client_id_of,
    first_known,
    login_of,
)
from fedjury.protocol.messages import Model, Phase, Presence, Round, Update
from fedjury.protocol.topics import USUAL
from fedjury.protocol.transport import mqtt_client, mqtt_probe
from fedjury.protocol.transport.by_url import address_at, transport_at
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.mqtt_transport import MqttTransport

MEGABYTE = np.random.default_rng(0).standard_normal(262_144).astype(np.float32)
BEGUN = Round(3, 1, Phase.TRAIN, 2, "all", (), 60.0)
NO_SECRET = r"no secret of 'a1' is in \S+; 'fedjury enroll --help' says how to make one"


@pytest.fixture(autouse=True)
def _forgetful():
    """Let no test get what another has read."""
    credentials.tls_context.cache_clear()


@pytest.fixture(scope="module")
def certified():
    """Give an authority's file, and the certificate and key of an agent called a1."""
    made, files = certificates.establish()
    return files.certificate, certificates.client(made, "a1", 1)


@pytest.fixture
def folder(tmp_path):
    """Give a folder with secrets of an agent, the aggregator and an ear."""
    for name in ("a1", "aggregator", "listener.a1"):
        (tmp_path / f"{name}.password").write_text(f"secret of {name}\n")
    return tmp_path


def address(folder="", **more):
    """Return the address of a broker that nobody asks."""
    return BrokerAddress("127.0.0.1", 1, secrets=str(folder), **more)


def refusal(where, party="a1"):
    """Return the sentence with which a login is refused."""
    with pytest.raises(TransportError) as raised:
        login_of(where, party)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ---------------------------------------------------------------- who logs in how


@pytest.mark.parametrize(
    ("party", "name"),
    [("a1", "a1"), (":aggregator", "aggregator"), (":listener.a1", "listener.a1")],
)
def test_everybody_has_a_log_in_of_their_own(folder, party, name):
    """A party logs in by its name, without the colon that tells it from an agent."""
    assert login_of(address(folder), party) == (name, f"secret of {name}", None)


def test_client_ids_of_those_with_secrets_cannot_be_guessed(folder, certified):
    """A run and a secret make an id: the same each time, another's is not known without it."""

    def name(run, principal):
        where = address(folder)
        return client_id_of(where, f"{run}.{principal}", principal, login_of(where, principal))

    made = hmac.new(b"secret of a1", b"lab.a1", hashlib.sha256).hexdigest()[:16]
    assert name("lab", "a1") == f"lab.a1.{made}" == name("lab", "a1")
    assert name("pumps", "a1").startswith("pumps.a1.")
    assert not name("pumps", "a1").endswith(made)
    ca, pair = certified
    (folder / "ca.crt").write_bytes(ca)
    (folder / "a2.crt").write_bytes(pair.certificate)
    (folder / "a2.key").write_bytes(pair.key)
    made = hmac.new(pair.key, b"lab.a2", hashlib.sha256).hexdigest()[:16]
    assert name("lab", "a2") == f"lab.a2.{made}"


def test_client_ids_without_a_secret_are_run_and_name():
    """Where one name is good for all, or nobody logs in, there is nothing that others lack."""
    for where in (address(), address(username="all", password="of us")):
        assert client_id_of(where, "lab.a1", "a1", login_of(where, "a1")) == "lab.a1"


def test_without_secrets_nobody_logs_in():
    """Where there is neither a name nor a folder, nobody says who they are."""
    assert login_of(address(), "a1") == (None, None, None)


def test_one_name_for_all_is_stronger_than_the_folder(folder):
    """With a username in the settings all parties use it, whatever the folder holds."""
    where = address(folder, username="all", password="of us")
    assert login_of(where, "a1") == ("all", "of us", None)
    assert login_of(where, "nobody") == ("all", "of us", None)


def test_settings_become_an_address():
    """Each part has its own folder of the secrets; an empty name is none."""
    broker = Broker(host="h", port=7, secrets="s", ca="x.pem", keepalive=30)
    assert address_of(broker, "agents") == BrokerAddress(
        "h", 7, None, None, "s/agents", "x.pem", 30
    )


def test_certificate_alone_and_with_a_password(folder, certified):
    """A certificate is shown where there is one; without a password only the name is said."""
    ca, pair = certified
    (folder / "ca.crt").write_bytes(ca)
    (folder / "a1.crt").write_bytes(pair.certificate)
    (folder / "a1.key").write_bytes(pair.key)
    both = login_of(address(folder), "a1")
    assert both[:2] == ("a1", "secret of a1")
    (folder / "a1.password").unlink()
    alone = login_of(address(folder), "a1")
    assert alone[:2] == ("a1", None)
    assert alone.tls is both.tls  # it was read once
    assert alone.tls is not login_of(address(folder), ":aggregator").tls  # which shows none


def test_who_has_no_secret_is_told_how_to_get_one(folder):
    """Where there are secrets, but none for this party, that is one sentence."""
    (folder / "a1.password").unlink()
    for where in (folder, "/nonexistent-x"):
        assert re.fullmatch(NO_SECRET, refusal(address(where)))


@pytest.mark.parametrize("spoil", ["folder", "bytes"])
def test_a_secret_that_cannot_be_read(folder, spoil):
    """What is no file, or no text, is one sentence with the party's name."""
    file = folder / "a1.password"
    file.unlink()
    _ = file.mkdir() if spoil == "folder" else file.write_bytes(b"\xff\xfe")
    assert refusal(address(folder)).startswith(f"the secret of 'a1' in {folder} cannot be read: ")


def test_a_folder_that_cannot_be_looked_into():
    """A folder of which the system will not even say whether it is there is one sentence."""
    where = address("x" * 5000)
    assert "cannot be read: [Errno 36] File name too long" in refusal(where)
    assert "cannot be used: [Errno 36] File name too long" in refusal(
        where._replace(username="all")
    )


def test_the_first_who_has_a_secret_asks(folder):
    """Where some have no secret the first who has one looks whether the broker lets us in."""
    parties = ["b0", "b1", "a1", ":aggregator"]
    assert first_known(address(folder), parties) == "a1"
    assert first_known(address(), parties) == "b0"
    assert first_known(address(folder), []) == ""
    with pytest.raises(TransportError, match=r"^no secret of 'b0' is in"):
        first_known(address(folder), ["b0", "b1"])


# ---------------------------------------------------------------- who vouches for the broker


def test_the_authority_is_the_folder_s_or_the_one_that_is_named(folder, certified, tmp_path):
    """TLS comes with ca.crt among the secrets, or with --ca, which is stronger, or not at all."""
    other = tmp_path / "other.pem"
    other.write_bytes(certificates.establish()[1].certificate)
    assert login_of(address(folder), "a1").tls is None
    (folder / "ca.crt").write_bytes(certified[0])
    found = [
        login_of(where, "a1").tls.get_ca_certs(binary_form=True)
        for where in (address(folder), address(folder, ca=str(other)), address(ca=str(other)))
    ]
    ours, theirs = (
        [ssl.PEM_cert_to_DER_cert(file.read_text())] for file in (folder / "ca.crt", other)
    )
    assert found == [ours, theirs, theirs]


def test_the_broker_is_always_asked_who_it_is(folder, certified, monkeypatch):
    """Whoever vouches, certificate and host name are looked at, and old TLS is not spoken."""
    (folder / "ca.crt").write_bytes(certified[0])
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
    for where in (address(folder), address(ca=SYSTEM), address()._replace(tls=True)):
        tls = login_of(where, "a1").tls
        assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert tls.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert len(tls.get_ca_certs()) == 1


@pytest.mark.parametrize(
    "spoil", ["ca.crt", "a1.crt", "a1.key", "no key", "no ca.crt", "locked key", "other's key"]
)
def test_certificates_that_cannot_be_used(folder, certified, spoil):
    """A broken, missing or locked file is one sentence with its name; nobody is asked to type."""
    ca, pair = certified
    files = {"ca.crt": ca, "a1.crt": pair.certificate, "a1.key": pair.key}
    key = serialization.load_pem_private_key(pair.key, None)
    match spoil.split():
        case ["no", name]:
            del files["a1.key" if name == "key" else name]
        case ["locked", _]:
            locked = serialization.BestAvailableEncryption(b"word")
            form = serialization.PrivateFormat.PKCS8
            files["a1.key"] = key.private_bytes(serialization.Encoding.PEM, form, locked)
        case ["other's", _]:
            files["a1.key"] = certificates.client(certificates.establish()[0], "a1", 1).key
        case [name]:
            files[name] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "a1.password").unlink()
    said = refusal(address(folder))
    assert str(folder / "a1.crt") in said
    assert "ca.crt" in said


def test_named_authority_that_is_not_there(tmp_path):
    """A file that is missing is named."""
    said = refusal(address(ca=str(tmp_path / "no.pem")))
    assert said == (
        f"the certificates in {tmp_path / 'no.pem'} cannot be used: "
        "[Errno 2] No such file or directory"
    )


# ---------------------------------------------------------------- TLS on a real broker


@pytest.fixture(scope="module", params=["certificates", "passwords"])
def secured(request, tmp_path_factory):
    """Start a broker that speaks TLS to those enrolled; yields its address and the secrets."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    secrets = tmp_path_factory.mktemp("enrolled") / "secrets"
    assert enrol.main(["--n", "3", "--tls", request.param, "--folder", str(secrets)]) == 0
    with local_broker("mosquitto", say=lambda _: None, secrets=secrets) as running:
        yield running, secrets


def to(secured, part):
    """Return the address of the broker for a part of the system."""
    broker, secrets = secured
    there = address_at(f"mqtts://{broker.host}:{broker.port}")
    return there._replace(secrets=str(secrets / part))


@contextmanager
def hubs(secured):
    """Open the aggregator's hub and one of agents."""
    server = transport_at(to(secured, "aggregator"), "lab", sole=True).open(":aggregator")
    agents = transport_at(to(secured, "agents"), "lab").open("agent-0")
    try:
        yield server, agents
    finally:
        agents.close()
        server.close()


def heard(hub, kind):
    """Receive until a message of a kind comes."""

    def read():
        delivery = hub.receive(0.1)
        return delivery and isinstance(delivery.message, kind) and delivery.message

    return until(read)


def test_large_messages_arrive_whole_over_tls(secured):
    """A megabyte down and one up are as they were sent, and so is a small message right behind."""
    with hubs(secured) as (server, agents):
        server.join(":aggregator", Update, Presence, presence=False)
        agents.join("agent-0", Model, Round)
        assert heard(server, Presence).agent == "agent-0"
        for number in range(3):
            server.send(":aggregator", Model(number, MEGABYTE + number))
            server.send(":aggregator", replace(BEGUN, round=number))
            model = heard(agents, Model)
            assert (model.version, model.weights.tobytes()) == (
                number,
                (MEGABYTE + number).tobytes(),
            )
            assert heard(agents, Round).round == number
            for last in (MEGABYTE + number, MEGABYTE[:1]):
                agents.send("agent-0", Update("agent-0", number, 1, 4, last))
            updates = [heard(server, Update), heard(server, Update)]
            assert [len(u.delta) for u in updates] == [262_144, 1]
            assert updates[0].delta.tobytes() == (MEGABYTE + number).tobytes()


def packet(kind, message):
    """Write a PUBLISH of MQTT 5, QoS 0."""
    topic = USUAL.of("lab", message).encode()
    body = len(topic).to_bytes(2, "big") + topic + b"\0" + codec.encode(message)
    length, left = b"", len(body)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    return bytes([kind]) + length + bytes([left]) + body


@contextmanager
def tls_server(folder, said):
    """Run a server that lets everybody in, and answers what comes then with these bytes."""
    made, files = certificates.establish()
    pair = certificates.server(made, ["127.0.0.1"], 1)
    (folder / "ca.pem").write_bytes(files.certificate)
    (folder / "broker.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "broker.pem")

    def serve(listener):
        open_ones = []
        with contextlib.suppress(OSError):  # until the listener is closed
            while True:
                plain = listener.accept()[0]
                with contextlib.suppress(OSError):  # who only looks whether somebody listens
                    open_ones.append(context.wrap_socket(plain, server_side=True))
                    open_ones[-1].recv(1000)
                    open_ones[-1].sendall(b"\x20\x03\0\0\0")
                    if open_ones[-1].recv(1000)[:1] == b"\x82":  # it subscribes
                        open_ones[-1].sendall(said)
        for one in open_ones:
            one.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield BrokerAddress(*listener.getsockname(), ca=str(folder / "ca.pem"))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_what_came_in_one_piece_is_read_to_its_end(tmp_path):
    """What was decrypted with something else, and of which no selector tells, does not wait."""
    large = Model(
        1, MEGABYTE[:5000]
    )  # more than a record of TLS, so that another packet shares one
    with (
        tls_server(tmp_path, packet(0x30, large) + packet(0x30, BEGUN)) as where,
        contextlib.closing(MqttTransport(where, "lab").open()) as hub,
    ):
        hub.join("a", Model, Round, presence=False)
        assert heard(hub, Model).weights.tobytes() == large.weights.tobytes()
        assert heard(hub, Round) == BEGUN


def test_who_the_broker_does_not_know_is_told_and_the_others_work(secured):
    """One party with another authority's certificate, or a wrong password, is named in a notice."""
    agents = secured[1] / "agents"
    spoilt = {"agent-1.password": b"wrong"}
    if (agents / "agent-1.crt").exists():
        stranger = certificates.client(certificates.establish()[0], "agent-1", 1)
        spoilt = {"agent-1.crt": stranger.certificate, "agent-1.key": stranger.key}
    before = {name: (agents / name).read_bytes() for name in spoilt}
    for name, content in spoilt.items():
        (agents / name).write_bytes(content)
    try:
        with hubs(secured) as (server, fleet):
            for name in ("agent-1", "agent-0", "agent-2"):
                fleet.join(name, Round)
            # Not every attempt: an alert that comes after the connection was reset is lost.
            (told,) = until(fleet.notices.take, 100)
            assert "the broker rejects agent-1: " in told
            assert ("alert" in told) == ("agent-1.crt" in spoilt)
            until(lambda: fleet.connections == 2)
            server.join(":aggregator", presence=False)
            server.send(":aggregator", BEGUN)
            assert {until(lambda: fleet.receive(0.1)).to for _ in range(2)} == {
                "agent-0",
                "agent-2",
            }
    finally:
        for name, content in before.items():
            (agents / name).write_bytes(content)


def test_who_has_no_secret_stays_away_and_holds_up_nobody(secured):
    """The others work; what it would say is not kept, so that the end does not wait for it."""
    with hubs(secured) as (_, fleet):
        for name in ("stranger", "agent-0"):
            fleet.join(name, Round)
        fleet.send("stranger", Update("stranger", 1, 1, 4, MEGABYTE))
        until(lambda: fleet.receive(0.02) or fleet.connections == 1)
        (told,) = fleet.notices.take()
        assert told.startswith("stranger stays away: no secret of 'stranger' is in ")
        started = time.monotonic()
        fleet.close()
        assert time.monotonic() - started < 2
        assert fleet.pool.connections_by_name["stranger"].client._out_messages == {}
        with pytest.raises(TransportError, match=r"^no secret of 'nobody'"):
            MqttTransport(to(secured, "aggregator"), "lab", sole=True).open(":nobody")


def test_the_system_s_authorities_may_vouch(secured, monkeypatch):
    """With --ca system the broker's certificate is looked up among those this machine trusts."""
    where = to(secured, "agents")._replace(ca=SYSTEM)
    monkeypatch.setenv("SSL_CERT_FILE", f"{where.secrets}/ca.crt")
    assert mqtt_client.speaks_five(probe(where, "agent-0").protocol)
    credentials.tls_context.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent-x")
    assert "cannot be trusted: " in no_way(where)


def no_way(where, party="agent-0"):
    """Return the sentence with which a broker cannot be had."""
    with pytest.raises(TransportError) as raised:
        probe(where, party)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_broker_that_another_vouches_for(secured, tmp_path):
    """A broker with a certificate of an unknown authority is not spoken to."""
    file = tmp_path / "other.pem"
    file.write_bytes(certificates.establish()[1].certificate)
    where = to(secured, "agents")._replace(ca=str(file))
    said = no_way(where)
    assert said.startswith(f"the certificate of the broker at {where} cannot be trusted: ")


def test_a_broker_of_another_name(secured):
    """A certificate that does not name the host we asked for, here 127.1, is another's."""
    said = no_way(to(secured, "agents")._replace(host="127.1"))
    assert "cannot be trusted: Hostname mismatch" in said


def test_plain_words_to_a_port_with_tls(secured):
    """Who does not encrypt where the broker does is told that it expects TLS."""
    broker = secured[0]
    where = BrokerAddress(broker.host, broker.port)
    assert no_way(where).startswith(f"what listens at {where} expects TLS: give --ca FILE")


def test_tls_to_a_plain_port(broker, certified, tmp_path, monkeypatch):
    """Who encrypts where the broker does not is told that nobody there speaks TLS."""
    monkeypatch.setattr(mqtt_probe, "PATIENCE", 0.3)
    (tmp_path / "ca.pem").write_bytes(certified[0])
    where = BrokerAddress(broker.host, broker.port, ca=str(tmp_path / "ca.pem"))
    assert no_way(where).startswith(f"what listens at {where} does not speak MQTT with TLS (")
