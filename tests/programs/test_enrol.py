"""Enrolment: everybody gets a secret of their own, which nobody else reads; it can be undone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import signal
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.listening import until

from fedjury.broker import (
    certificates,
    enrol,
    enrolment,
    enrolment_file,
    mosquitto,
    passwords,
    principals,
    private_files,
)
from fedjury.broker.enrolment_file import EnrolError
from fedjury.gateway.state import names_of
from fedjury.learning.backdoors import Options
from fedjury.learning.partition import PartitionSpec

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    """Give a folder of secrets that is not there yet."""
    return tmp_path / "secrets"


def run(folder, *words):
    """Enrol as the command line does."""
    assert enrol.main([*words, "--folder", str(folder)]) == 0


def secrets_in(folder):
    """Return what lies in a folder of secrets: path -> bytes, the broker's own files left out."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.parent.name != "broker" and file.name != "register.json"
    }


def fits(secret, kept):
    """Say whether a secret is the one that the broker keeps, by a second way to work it out."""
    nothing, kind, iterations, salt, digest = kept.split("$")
    assert (nothing, kind) == ("", "7")
    made = hashlib.pbkdf2_hmac(
        "sha512", secret.encode(), base64.b64decode(salt), int(iterations), 64
    )
    return made == base64.b64decode(digest)


def logins_of(folder):
    """Return who may log in with which secret; checks that broker and parties agree."""
    kept = passwords.read(folder / "broker" / "passwords")
    there = {
        file.name.removesuffix(".password"): file.read_text() for file in folder.rglob("*.password")
    }
    assert there.keys() <= kept.keys()
    assert all(fits(secret, kept[login]) for login, secret in there.items())
    return there


# ---------------------------------------------------------------- what is made


def test_everybody_has_a_file_and_the_broker_knows_them(folder):
    """Aggregator, agents with their ears, and people: each in a folder that goes to its machine."""
    run(folder, "--n", "3")
    agents = {f"agent-{i}" for i in range(3)}
    assert logins_of(folder).keys() == {
        "aggregator",
        "aggregator.lookout",
        "watch",
        *agents,
        *(f"listener.{name}" for name in agents),
    }
    places = {path.partition("/")[0] for path in secrets_in(folder)}
    assert places == {"aggregator", "agents", "people"}
    assert (folder / "aggregator" / "aggregator.password").exists()
    assert (folder / "people" / "watch.password").exists()
    assert {f.name for f in (folder / "broker").iterdir()} == {"passwords", "acl", "mosquitto.conf"}


@pytest.mark.parametrize("n", [1, 2, 10, 11, 100, 101, 1000])
def test_agents_are_named_as_a_fleet_names_them(n):
    """The names are those of the agents that will come, whatever their number."""
    plan = PartitionSpec(n, 0, "", 0, 1, "iid", {}, 0, "", Options(0, 0, (), ()), 0)
    assert principals.names_of(n) == [plan.name(number) for number in range(n)]


def test_a_gateway_has_its_slots_and_its_ear(folder):
    """Slots are called as the gateway calls them, and are agents like others."""
    run(folder, "--slots", "http=12")
    made = {file.stem for file in (folder / "agents").glob("*.password")}
    assert made == {*names_of("http", 12), "listener.http"}


def test_secrets_are_random_and_private_with_any_umask(folder):
    """At least 128 bits each, no two alike; files 0600, folders 0700, the way through 0711."""
    before = os.umask(0)
    try:
        run(folder, "--n", "20", "--tls", "passwords", "--watch", "ann")
    finally:
        os.umask(before)
    secrets = logins_of(folder).values()
    assert len(set(secrets)) == len(secrets)
    assert all(len(base64.urlsafe_b64decode(secret + "==")) >= 16 for secret in secrets)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert modes.pop(folder) == 0o711
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}


def test_a_file_is_never_there_for_others(tmp_path, monkeypatch):
    """It is made with its final mode, where nothing was, and appears under its name when whole."""
    seen = []
    really = os.open

    def look(path, flags, mode=0o777):
        seen.append((Path(path).name, flags, mode))
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", look)
    (tmp_path / "secret").write_text("old")
    (tmp_path / ".secret.new").symlink_to(tmp_path / "trap")
    private_files.write(tmp_path / "secret", "new")
    [(name, flags, mode)] = seen
    assert name != "secret"
    assert flags & os.O_EXCL
    assert flags & os.O_NOFOLLOW
    assert mode == 0o600
    assert (tmp_path / "secret").read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_adds_belongs_to_who_has_the_folder(folder):
    """An agent that is added later is readable for the user the agents run as."""
    run(folder, "--n", "2")
    for place, user in (("broker", 1883), ("agents", 1000)):
        for path in (folder / place, *(folder / place).iterdir()):
            os.chown(path, user, user)
    run(folder, "--name", "late")
    assert (folder / "agents" / "late.password").stat().st_uid == 1000
    assert {path.stat().st_uid for path in (folder / "broker").iterdir()} == {1883}


# ---------------------------------------------------------------- again, and otherwise


def test_enrolling_again_keeps_what_is_there(folder, capsys):
    """A second time nothing is new; with more agents only those are."""
    run(folder, "--n", "11")
    before, kept = secrets_in(folder), (folder / "broker" / "passwords").read_text()
    capsys.readouterr()
    run(folder, "--n", "11")
    assert secrets_in(folder) == before
    assert (folder / "broker" / "passwords").read_text() == kept
    assert " 0 of them new" in capsys.readouterr().out
    run(folder, "--n", "12")
    after = secrets_in(folder)
    assert before.items() <= after.items()
    assert {path.rpartition("/")[2] for path in after.keys() - before.keys()} == {
        "agent-11.password",
        "listener.agent-11.password",
    }


def test_secrets_that_moved_to_their_machines_still_hold(folder):
    """Who took a file away keeps being let in; a password file that was lost is made again."""
    run(folder, "--n", "2")
    moved = folder / "agents" / "agent-0.password"
    secret = moved.read_text()
    moved.unlink()
    run(folder, "--n", "3")
    assert not moved.exists()
    assert fits(secret, passwords.read(folder / "broker" / "passwords")["agent-0"])
    moved.write_text(secret)
    (folder / "broker" / "passwords").unlink()
    before = secrets_in(folder)
    run(folder, "--n", "3")
    assert secrets_in(folder) == before
    assert logins_of(folder)["agent-0"] == secret


def test_renew_gives_another_secret(folder):
    """To those who are named; without names, to all who are asked for."""
    run(folder, "--n", "3")
    first = logins_of(folder)
    run(folder, "--renew", "agent-1", "watch")
    second = logins_of(folder)
    assert {login for login in first if first[login] != second[login]} == {"agent-1", "watch"}
    run(folder, "--n", "3", "--renew")
    third = logins_of(folder)
    assert not any(third[login] == second[login] for login in second)


@pytest.mark.parametrize("tls", [[], ["--tls"]])
def test_an_enrolment_cut_short_is_completed_by_the_next(folder, monkeypatch, tls):
    """Interrupted at any file, it leaves secrets that the next enrolment finds or replaces."""
    write, count = private_files.write, 0

    def interrupted(path, data):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(path, data)

    while True:
        left = count
        monkeypatch.setattr(private_files, "write", interrupted)
        try:
            run(folder, "--n", "2", *tls)
        except KeyboardInterrupt:
            monkeypatch.setattr(private_files, "write", write)
            run(folder, "--n", "2", *tls)
        else:
            break
        count += 1
        if tls:
            assert_certificates_fit(
                folder, ["agent-0", "agent-1", "listener.agent-1", "aggregator"]
            )
        else:
            assert len(logins_of(folder)) == 7
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
    assert count > 8


def test_two_enrolments_at_once_both_count(folder):
    """One waits for the other, so that neither forgets what the other did."""
    run(folder, "--name", "first")
    command = [sys.executable, "-m", "fedjury.broker.enrol", "--folder", str(folder), "--name"]
    both = [
        subprocess.Popen([*command, name], cwd=ROOT, stdout=subprocess.DEVNULL)
        for name in ("left", "right")
    ]
    assert [child.wait(20) for child in both] == [0, 0]
    assert logins_of(folder).keys() >= {"first", "left", "right"}


# ---------------------------------------------------------------- revoking


def test_revoked_is_out_until_named_again(folder, capsys):
    """A revoked login and its file are gone, and enrolling the fleet again does not let it in."""
    run(folder, "--n", "3")
    old = logins_of(folder)["agent-1"]
    run(folder, "--revoke", "agent-1", "--revoke", "listener.agent-1")
    assert not {"agent-1", "listener.agent-1"} & logins_of(folder).keys()
    assert "agent-1" not in (folder / "broker" / "passwords").read_text()
    capsys.readouterr()
    run(folder, "--n", "3")
    assert "left out: agent-1, listener.agent-1" in capsys.readouterr().out
    assert "agent-1" not in logins_of(folder)
    run(folder, "--renew", "agent-1")
    assert logins_of(folder)["agent-1"] != old


def test_revoking_says_how_to_tell_the_broker(folder, capsys):
    """A broker that is not ours is told by a signal, and the command is there to copy."""
    run(folder, "--n", "2")
    capsys.readouterr()
    run(folder, "--revoke", "agent-0")
    said = capsys.readouterr().out
    assert "kill -HUP" in said
    assert "docker compose kill -s HUP broker" in said


# ---------------------------------------------------------------- certificates


def certificate(file):
    """Read a certificate."""
    return x509.load_pem_x509_certificate(file.read_bytes())


def assert_certificates_fit(folder, logins):
    """Check that each login has a key and a certificate in its name, by our authority."""
    ca = certificate(folder / "broker" / "ca.crt")
    assert (folder / "agents" / "ca.crt").read_bytes() == (folder / "broker/ca.crt").read_bytes()
    for login in logins:
        home = folder / ("aggregator" if login == "aggregator" else "agents")
        mine = certificate(home / f"{login}.crt")
        mine.verify_directly_issued_by(ca)
        [name] = mine.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert name.value == login
        # Fails if the key is not the certificate's.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(home / f"{login}.crt", home / f"{login}.key")


def test_certificates_say_who_is_who(folder):
    """Each login has one by the federation's authority; there are no passwords beside."""
    run(folder, "--n", "2", "--tls")
    assert_certificates_fit(folder, ["agent-0", "agent-1", "listener.agent-0", "aggregator"])
    assert not list(folder.rglob("*password*"))
    keys = [file.read_bytes() for file in folder.rglob("*.key")]
    assert len(set(keys)) == len(keys)


def test_an_agents_certificate_makes_nobody_a_broker(folder):
    """Certificates are for one use: who has an agent's cannot pose as the broker, nor sign."""
    run(folder, "--n", "1", "--tls")
    agent = certificate(folder / "agents" / "agent-0.crt").extensions
    server = certificate(folder / "broker" / "server.crt").extensions
    for extensions, use in (
        (agent, ExtendedKeyUsageOID.CLIENT_AUTH),
        (server, ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [use]
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_the_brokers_certificate_names_its_hosts(folder):
    """Loopback, this machine and compose's name are in it, and what --host adds, permanently."""
    run(folder, "--n", "1", "--tls", "--host", "fl.example.org", "--host", "192.0.2.7")
    run(folder, "--n", "2")
    names = certificate(folder / "broker" / "server.crt").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    hosts = names.value.get_values_for_type(x509.DNSName)
    addresses = map(str, names.value.get_values_for_type(x509.IPAddress))
    assert {"localhost", "broker", "fl.example.org"} <= {*hosts}
    assert {*addresses} == {"127.0.0.1", "::1", "192.0.2.7"}


def revoked_serials(folder):
    """Return the numbers on the revocation list, which must be the authority's."""
    crl = x509.load_pem_x509_crl((folder / "broker" / "crl.pem").read_bytes())
    ca = certificate(folder / "broker" / "ca.crt")
    assert crl.is_signature_valid(ca.public_key())
    assert crl.next_update_utc == ca.not_valid_after_utc
    return {entry.serial_number for entry in crl}


def test_a_certificate_is_revoked_wherever_it_is(folder):
    """It is on the list though its file was moved away; so is one that was renewed."""
    run(folder, "--n", "3", "--tls")
    serials = [certificate(folder / "agents" / f"agent-{i}.crt").serial_number for i in range(3)]
    assert revoked_serials(folder) == set()
    (folder / "agents" / "agent-0.crt").unlink()
    run(folder, "--revoke", "agent-0")
    run(folder, "--renew", "agent-1")
    assert revoked_serials(folder) == set(serials[:2])
    assert (
        "user agent-0\ntopic deny fl/v1/#\ntopic deny fl/v2/#"
        in (folder / "broker" / "acl").read_text()
    )
    run(folder, "--n", "3")
    assert not (folder / "agents" / "agent-0.crt").exists()


def test_tls_stays(folder):
    """Who once encrypts does not stop by leaving out a flag; from passwords one can go over."""
    run(folder, "--n", "2")
    run(folder, "--n", "2", "--tls")
    assert_certificates_fit(folder, ["agent-0", "agent-1"])
    run(folder, "--n", "3")
    text = (folder / "broker" / "mosquitto.conf").read_text()
    assert "\nlistener 8883\ncafile " in text
    assert "\nlistener 1883" not in text
    assert "\nrequire_certificate true\nuse_identity_as_username true\n" in text
    assert_certificates_fit(folder, ["agent-2"])


def test_passwords_over_tls(folder):
    """The broker shows a certificate, clients need none and log in with passwords."""
    run(folder, "--n", "2", "--tls", "passwords")
    text = (folder / "broker" / "mosquitto.conf").read_text()
    assert "\nkeyfile " in text
    assert "\npassword_file " in text
    assert "require_certificate" not in text
    assert "agent-0" in logins_of(folder)
    assert (folder / "agents" / "ca.crt").exists()


# ---------------------------------------------------------------- what the broker is told


def acl(folder):
    """Return the lines of the ACL that say something."""
    lines = (folder / "broker" / "acl").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_rules_fit_who_is_enrolled(folder):
    """Watchers and gateways get what is theirs, attackers their topics, and only where asked."""
    run(folder, "--n", "2")
    plain = acl(folder)
    assert plain == [
        line
        for line in (ROOT / "broker" / "acl.conf").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert not any("collusion" in line or "%c" in line for line in plain)
    run(folder, "--slots", "http=2", "--watch", "ann", "--collusion")
    told = acl(folder)
    assert told[: len(plain)] == plain
    ann, gateway = told.index("user watch.ann"), told.index("user listener.http")
    assert "topic deny fl/v2/+/agent/watch.ann" in told[ann:gateway]
    assert "topic read fl/v2/+/log/+" in told[gateway:]
    assert "pattern write fl/v2/+/collusion/update/%u" in told
    run(folder, "--no-collusion")
    assert not any("collusion" in line for line in acl(folder))


def test_logins_can_be_for_one_run(folder):
    """With --run every rule is about that run, until it is said to be for any."""
    run(folder, "--n", "2", "--run", "lab")
    topics = [line.split()[-1] for line in acl(folder) if "fl/v2" in line]
    assert topics
    assert all(topic.startswith("fl/v2/lab/") for topic in topics)
    run(folder, "--run", "+")
    assert "pattern write fl/v2/+/update/%u" in acl(folder)


def test_people_need_not_type_a_secret(folder):
    """What mosquitto_sub needs lies in a folder that it reads, for each person one."""
    run(folder, "--n", "1", "--watch", "ann")
    for home, login in (("people", "watch"), ("people/ann", "watch.ann")):
        secret = (folder / home / f"{login}.password").read_text()
        options = (folder / home / "mosquitto_sub").read_text()
        assert options == f"-p 1883\n-u {login}\n-P {secret}\n"


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nobody is enrolled in .* say how many agents"),
        (["--revoke", "agent-0"], "nobody is enrolled in"),
        (["--n", "2", "--host", "a"], "goes with --tls"),
        (["--n", "2", "--revoke", "agent-0"], "--revoke can only be combined with --folder"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(folder, words, says):
    """It is said what is missing, and nothing is written."""
    with pytest.raises(EnrolError, match=says):
        run(folder, *words)
    assert not folder.exists()


@pytest.mark.parametrize("flag", ["--revoke", "--renew"])
def test_an_unknown_name_is_told_with_the_nearest(folder, flag):
    """A slip of the pen locks nobody out."""
    run(folder, "--n", "100")
    before = logins_of(folder)
    with pytest.raises(EnrolError, match=r"nobody called 'agent-7' .* did you mean agent-\d7\?"):
        run(folder, flag, "agent-7")
    assert logins_of(folder) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--n", "0"], "0 must be a number from 1 to"),
        (["--n", "-3"], "-3 must be|expected one argument"),
        (["--n", "many"], "many must be a number"),
        (["--n", "1", "--days", "0"], "0 must be"),
        (["--name", "a b"], "'a b' must be 1 to 64 of"),
        (["--name", "aggregator"], "not a name for an agent"),
        (["--name", "listener.agent-0"], "must be 1 to 64 of"),
        (["--slots", "http"], "must be a number"),
        (["--slots", "../x=3"], "must be 1 to 64 of"),
        (["--n", "1", "--run", "a/#"], "must be 1 to 64 of"),
        (["--n", "1", "--tls", "maybe"], "invalid choice"),
        (["--n", "1", "--host", "a b"], "is not a name or address"),
        (["--watch", "x" * 51], "50 characters at most"),
    ],
)
def test_a_flag_that_cannot_be_is_explained(folder, capsys, words, says):
    """As all our programs do: one sentence, exit code 2, nothing written."""
    with pytest.raises(SystemExit) as ended:
        run(folder, *words)
    assert ended.value.code == 2
    assert re.search(says, capsys.readouterr().err)
    assert not folder.exists()


def test_what_is_in_the_way_is_told(folder, tmp_path):
    """A file where a folder should be, a foreign register, an authority without its key."""
    (tmp_path / "file").touch()
    with pytest.raises(EnrolError, match=r"file/secrets.* cannot be read"):
        run(tmp_path / "file" / "secrets", "--n", "1")
    run(folder, "--n", "1", "--tls")
    key = folder / "ca.key"
    secret = key.read_bytes()
    key.unlink()
    for words in (["--n", "2"], ["--revoke", "agent-0"]):
        with pytest.raises(EnrolError, match=r"ca\.key is not there"):
            run(folder, *words)
    key.write_bytes(certificates.establish()[1].key)
    with pytest.raises(EnrolError, match="is not the key of"):
        run(folder, "--n", "2")
    key.write_bytes(b"nonsense")
    with pytest.raises(EnrolError, match="are no authority's"):
        run(folder, "--n", "2")
    key.write_bytes(secret)
    run(folder, "--n", "2")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "tls": 3}', "\udcff"]
)
def test_a_register_that_is_none_is_told(folder, text):
    """Nothing is enrolled on top of what cannot be read."""
    run(folder, "--n", "1")
    file = folder / enrolment_file.NAME
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(EnrolError, match="register"):
        run(folder, "--n", "1")
    assert file.read_bytes() == text.encode(errors="surrogateescape")


def test_a_register_comes_back_as_it_was(folder):
    """What is written is what is read, and it holds no secret."""
    run(folder, "--n", "2", "--tls", "--watch", "ann", "--run", "lab", "--collusion")
    known = enrolment_file.load(folder)
    assert known.watchers == ["watch.ann"]
    assert (known.tls, known.run, known.collusion) == ("certificates", "lab", True)
    said = json.loads((folder / enrolment_file.NAME).read_text())
    assert said == json.loads(enrolment_file.text_of(known))


def test_a_register_of_before_there_was_a_page_is_read(folder):
    """Whoever enrolled agents with an older version goes on with them."""
    run(folder, "--n", "2")
    file = folder / enrolment_file.NAME
    said = json.loads(file.read_text())
    del said["page"], said["many_runs"]
    file.write_text(json.dumps(said))
    assert enrolment_file.load(folder).page == 0
    run(folder, "--n", "3")
    assert "agent-2" in enrolment_file.load(folder).principals


def test_a_login_for_many_runs_is_asked_for(folder, capsys):
    """The configuration says so, and the broker must be started again; it can be undone."""
    run(folder, "--n", "2")
    file = folder / "broker" / "mosquitto.conf"
    before = file.read_text()
    assert "\nuse_username_as_clientid true\n" in before
    run(folder, "--many-runs")
    assert "must be started again" in capsys.readouterr().out
    assert "use_username_as_clientid" not in file.read_text()
    run(folder, "--n", "3")
    assert "use_username_as_clientid" not in file.read_text()
    run(folder, "--no-many-runs")
    assert file.read_text() == before


@pytest.mark.parametrize("tls", ["", "certificates", "passwords"])
def test_the_page_is_the_brokers_and_asks_who_comes(folder, capsys, tls):
    """Its port knows logins as the other does; its files belong to the broker; 0 takes it away."""
    run(folder, "--n", "2", "--page", "8099", *(["--tls", tls] if tls else []))
    assert "8099" in capsys.readouterr().out
    file = folder / "broker" / "mosquitto.conf"
    _, _, people = file.read_text().partition("listener 8099\n")
    assert people.startswith("protocol websockets\n")
    assert (f"http_dir {folder.resolve()}/broker/page\n" in people) == (not tls)
    assert "use_username_as_clientid true" in people
    assert ("certfile " in people) == bool(tls)
    assert ("require_certificate true" in people) == (tls == "certificates")
    page = folder / "broker" / "page"
    for source in mosquitto.PAGE.rglob("*"):
        copy = page / source.relative_to(mosquitto.PAGE)
        assert copy.stat().st_mode & 0o077 == 0
        assert copy.stat().st_uid == (folder / "broker").stat().st_uid
        assert source.is_dir() or copy.read_bytes() == source.read_bytes()
    run(folder, "--n", "2")
    assert "listener 8099" in file.read_text()
    run(folder, "--page", "0")
    assert "websockets" not in file.read_text()
    assert "must be started again" in capsys.readouterr().out


# ---------------------------------------------------------------- the program


def test_the_examples_of_the_help_are_true():
    """Every command line in --help that is ours parses."""
    lines = [line.strip() for line in enrol.main.flags().format_help().splitlines()]
    ours = [line for line in lines if line.startswith("fedjury enroll")]
    assert len(ours) > 5
    for line in ours:
        words = shlex.split(re.split(r"\s{2,}", line)[0])
        enrol.main.flags().parse_args(words[2:])


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_no_traceback(folder, name):
    """Ctrl-C in the middle of many agents ends it at once, and quietly."""
    command = [
        sys.executable,
        "-m",
        "fedjury.broker.enrol",
        "--n",
        "500000",
        "--folder",
        str(folder),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        try:
            until((folder / "agents" / "agent-000000.password").exists)
            it.send_signal(name)
            out, err = it.communicate(timeout=20)
        finally:
            it.kill()
    assert (it.returncode, out, err) == (130, b"", b"")
    assert enrolment.enrol(folder, principals.principals(1)).total == 5
