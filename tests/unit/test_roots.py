"""The root of all topics: of any depth, checked, and the same for programs, rules and the page."""

from __future__ import annotations

import pytest

import fedjury
from fedjury.broker import enrolment_file, mosquitto
from fedjury.broker.enrolment_file import Enrolment
from fedjury.config.run_sections import Broker
from fedjury.config.sections import SettingsError
from fedjury.monitor.web.opening import page_at
from fedjury.protocol import topics
from fedjury.protocol.credentials import address_of
from fedjury.protocol.messages import (
    AggregatorPresence,
    BadMessage,
    Manifest1,
    Phase,
    Presence1,
    Round,
    Update,
)
from fedjury.protocol.runs import NONE, on_message
from fedjury.protocol.topics import USUAL, below
from fedjury.protocol.transport.connection import TransportError

ROOTS = ["fl2", "fl/v2", "acme/plant-7/fl/v2", "a/b/c/d/e/f", "Werk_Köln/fl.v2"]
OPENED = Round(1, 1, Phase.DONE, 1, "all", (), 1.0)


@pytest.mark.parametrize("root", ROOTS)
def test_topics_go_there_and_back_below_any_root(root):
    """Where a message belongs is read as that message's topic, however many levels the root has."""
    there = below(root)
    assert there.of("lab", OPENED) == f"{root}/lab/round"
    assert there.parse(f"{root}/lab/round") == ("lab", Round, {})
    assert there.where("lab", Update, "ann") == f"{root}/lab/update/ann"
    assert there.parse(f"{root}/lab/update/ann") == ("lab", Update, {"agent": "ann"})
    assert there.is_retained_clear(f"{root}/lab/round", b"")


@pytest.mark.parametrize("root", ROOTS)
def test_topics_of_another_root_are_none(root):
    """One level more or less, or another word, and it is no topic of ours."""
    there = below(root)
    for topic in (f"x/{root}/lab/round", f"{root}/x/lab/round", f"{root}x/lab/round", "lab/round"):
        with pytest.raises(BadMessage):
            there.parse(topic)
    others = [other for other in ROOTS if other != root]
    for other in others:
        with pytest.raises(BadMessage):
            there.parse(f"{other}/lab/round")


def test_what_a_root_holds_is_no_pattern():
    """A dot in a root is a dot."""
    with pytest.raises(BadMessage):
        below("fl.v2").parse("fl-v2/lab/round")


def test_topics_of_a_root_are_compiled_once():
    """A thousand updates a round are read: whoever asks gets the same."""
    assert below("acme/fl") is below("acme/fl")


def test_version_1_has_a_place_beside_our_usual_root_alone():
    """Its programs look below fl/v1, and know of no other."""
    kinds = (Manifest1, Presence1, AggregatorPresence)
    assert USUAL.filters("+", kinds) == [
        "fl/v1/+/manifest",
        "fl/v1/+/aggregator",
        "fl/v2/+/aggregator",
    ]
    assert below("acme/fl/v2").filters("+", kinds) == ["acme/fl/v2/+/aggregator"]
    with pytest.raises(BadMessage):
        below("acme/fl/v2").parse("fl/v1/lab/manifest")


@pytest.mark.parametrize(
    "root",
    [
        "",
        "/",
        "/fl",
        "fl/",
        "fl//v2",
        "fl/+/v2",
        "fl/#",
        "$SYS/fl",
        "fl v2",
        "a\nb",
        "%u/fl",
        "x" * 101,
    ],
)
def test_roots_that_cannot_be(root):
    """Wildcards, empty levels, and what is special to brokers or their rules, are refused."""
    with pytest.raises(SettingsError, match=r"broker\.root = .* must be 1 to 100 printable"):
        Broker().replaced(root=root)
    with pytest.raises(TransportError, match=r"broker\.root = "):
        fedjury.Device("site-a", root=root)


def test_the_default_is_the_protocol_s():
    """Settings, protocol and the rules that we ship begin topics in the same way."""
    assert Broker().root == topics.ROOT == enrolment_file.ROOT
    assert f" {topics.ROOT}/+/#" in mosquitto.RULES.read_text(encoding="utf-8")
    assert address_of(Broker(root="acme/fl"), "agents").topics is below("acme/fl")


def test_runs_are_looked_for_below_the_root():
    """Who was given no run finds those below its root, and none of another."""
    payload = b'{"online": true, "since": 2, "partition": ""}'
    there = below("acme/plant-7/fl/v2")
    found = on_message(NONE, "acme/plant-7/fl/v2/lab/aggregator", payload, there)
    assert found["lab"].online
    assert on_message(NONE, "fl/v2/lab/aggregator", payload, there) == {}


def test_rules_are_written_for_the_chosen_root():
    """Every line of an enrolment's rules is below it; the usual root's are as they were."""
    plain = mosquitto.rules(Enrolment())
    assert plain == mosquitto.RULES.read_text(encoding="utf-8")
    known = Enrolment(
        root="acme/plant-7/fl/v2",
        run="lab",
        collusion=True,
        tls="certificates",
        revoked={"eve": "agents"},
        principals={"listener.http": "agents"},
        gateways=["listener.http"],
    )
    lines = mosquitto.rules(known).splitlines()
    rules = [line.split() for line in lines if line.startswith(("topic", "pattern"))]
    ours = [rule[-1] for rule in rules if "$SYS" not in rule[-1]]
    assert all(topic.startswith("acme/plant-7/fl/v2/") for topic in ours)
    assert "pattern write acme/plant-7/fl/v2/lab/update/%u" in lines
    assert "topic readwrite acme/plant-7/fl/v2/lab/#" in lines
    assert lines[-2:] == ["user eve", "topic deny acme/plant-7/fl/v2/#"]


def test_a_register_of_before_has_the_usual_root(tmp_path):
    """Logins that were made before roots could be chosen go on as they were."""
    text = enrolment_file.text_of(Enrolment()).replace(' "root": "fl/v2",\n', "")
    assert "root" not in text
    (tmp_path / enrolment_file.NAME).write_text(text)
    assert enrolment_file.load(tmp_path) == Enrolment()


def test_the_page_is_told_the_root_in_its_address():
    """Only where it is another than the usual one."""
    assert page_at("http://h:8080/", "fl/v2") == "http://h:8080/"
    assert page_at("http://h:8080/", "acme/fl") == "http://h:8080/?root=acme/fl"
