"""Topics and messages: the table is complete, and names cannot be mistaken for topics."""

from __future__ import annotations

import typing
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjury.agents.agent import Contribute, Judge, Train
from fedjury.protocol import cells, messages, secure, topics
from fedjury.protocol.logs import InvalidMessages, RunHistory
from fedjury.protocol.messages import BadMessage, Message, Reason
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.topics import CHANNELS, NAME, USUAL
from fedjury.round.effects import Clear, Publish

VECTOR = np.zeros(2, dtype=np.float32)

SAID = {
    "manifest": messages.Manifest(
        "mlp", (), 2, 1, 4, 0.1, 0.0, "int8", "int8", 9, "lof", {}, 10, 11
    ),
    "round": messages.Round(1, 0, messages.Phase.TRAIN, 0, "all", (), 1.0),
    "model": messages.Model(3, VECTOR),
    "history/3": messages.History(3, VECTOR),
    "candidate": messages.Candidate(1, 0, 3, VECTOR),
    "group/2": messages.GroupCandidate(2, 1, 0, 3, VECTOR),
    "group-history/3": messages.GroupHistory(3, VECTOR),
    "group-vote/ann": messages.GroupVotes("ann", 1, 0, bytes(4), b"\0", bytes(4), bytes(4), 4),
    "update/ann": messages.Update("ann", 1, 3, 4, VECTOR),
    "vote/ann": messages.Vote("ann", 1, 0, poisoned=False, score=1.0, threshold=2.0, samples=4),
    "decline/ann": messages.Decline("ann", 1, 1),
    "secure/keys/ann": secure.SecureKeys("ann", 1, 1, bytes(32), bytes(32), 4),
    "secure/peers/ann": secure.SecurePeers(
        "ann", 1, 1, 0, 0, 3, b"", "bob", b"", b"", b"", 2, 0.5, 16, 4, 5
    ),
    "secure/shares/ann": secure.SecureShares("ann", 1, 1, b"", b""),
    "secure/inbox/ann": secure.SecureInbox("ann", 1, 1, b""),
    "secure/masked/ann": secure.MaskedUpdate("ann", 1, 1, 3, b""),
    "secure/unmask/ann": secure.UnmaskRequest("ann", 1, 1, b""),
    "secure/unmasked/ann": secure.UnmaskShares("ann", 1, 1, b""),
    "metrics/ann": messages.Metrics("ann", 1, 1, 4, {"rmse": 0.5}),
    "collusion/update/ann": messages.ColluderUpdate("ann", 1, 3, VECTOR),
    "collusion/attack": messages.AttackVector(1, 3, VECTOR, VECTOR[:0]),
    "cell/worker/2": cells.CellWorker(2, online=True, life=5),
    "cell/agents/2": cells.CellPresence(2, 5, True, "", b"", ""),
    "cell/tally/2": cells.Tally(2, 5, 1, 1, 0, "", b"", b""),
    "cell/request": cells.SumRequest(1, 1, 1, bytes(4), bytes(4), b"", "clipped", 1.0, 32, 0),
    "cell/sum/2": cells.PartialSum(2, 5, 1, 1, 1, 1, b""),
    "cell/group-request/2": cells.GroupSumRequest(2, 1, 1, 0, bytes(32), 1, 1, 8, ""),
    "cell/group-sum/2": cells.GroupSum(2, 5, 1, 1, 0, bytes(32), b""),
    "agent/ann": messages.Presence("ann", online=True, since=0.0),
    "aggregator": messages.AggregatorPresence(online=True, since=0.0),
    "heartbeat": messages.Heartbeat(0.0),
    "log/round": messages.RoundLog(RoundRecord(1)),
    "log/invalid": messages.InvalidLog(InvalidMessages(1)),
    "log/history": messages.HistoryLog(RunHistory()),
}
"""Topic below the run -> a message that belongs there."""

OLD = {messages.Manifest1: "manifest", messages.Presence1: "aggregator"}

BESIDE = {
    "fl/v2/.cells/3/link": messages.CellLink(3, online=True),
    "fl/v2/.cells/3/run/agent/ann": messages.CellMember(3, "ann", online=True, since=0.0),
}
"""What bridges say: the whole topic -> a message that belongs there."""

RETAINED = {
    "manifest",
    "round",
    "model",
    "history/3",
    "candidate",
    "group/2",
    "group-history/3",
    "cell/worker/2",
    "cell/request",
    "agent/ann",
    "aggregator",
    "log/round",
    "log/invalid",
    "log/history",
}

EXPIRES = {"candidate", "group/2", "cell/request"}

BAD_NAMES = ["", "a/b", "/", "+", "#", "a+", "a#", "a b", "x" * 65, "ann\n", "é", "$SYS", "a.b"]

names = st.text(st.sampled_from("Az09_-"), min_size=1, max_size=64)


def refused(topic):
    """Say whether a topic is refused for what it is."""
    with pytest.raises(BadMessage) as caught:
        USUAL.parse(topic)
    return caught.value.reason is Reason.UNKNOWN_TOPIC


# The table


def test_every_message_has_a_channel():
    """What can be said has a topic, and every topic something that is said there."""
    assert set(CHANNELS) == set(typing.get_args(Message))
    said = {type(message) for message in (*SAID.values(), *BESIDE.values())}
    assert {*said, *OLD} == set(CHANNELS)


def test_no_two_kinds_share_a_topic():
    """A topic says what its message is."""
    assert len({(channel.root, channel.topic) for channel in CHANNELS.values()}) == len(CHANNELS)


def test_channels_travel_as_documented():
    """Only what agents say is not kept by the broker; only candidates expire; QoS is 1.

    But for signs of life: one that is lost is followed by the next.
    """
    for topic, message in SAID.items():
        channel = CHANNELS[type(message)]
        assert channel.retain == (topic in RETAINED)
        assert channel.expiry == (3600 if topic in EXPIRES else None)
        assert channel.qos == (topic != "heartbeat")
        has_vector = any(
            isinstance(getattr(message, field.name), np.ndarray) for field in fields(message)
        )
        is_vote = isinstance(message, messages.Vote | messages.GroupVotes)
        has_bytes = topic.startswith(("secure/", "cell/")) and topic != "cell/worker/2"
        kind = "msgpack" if has_vector or is_vote or has_bytes else "json"
        assert channel.content_type == f"application/{kind}"


@pytest.mark.parametrize("topic", SAID)
def test_topics_by_hand(topic):
    """Every message belongs on the topic that the protocol's page shows."""
    assert USUAL.of("run", SAID[topic]) == f"fl/v2/run/{topic}"
    address = USUAL.parse(f"fl/v2/run/{topic}")
    assert (address.run, address.kind) == ("run", type(SAID[topic]))
    assert list(address.field.values()) == topic.split("/")[-1:][: len(address.field)]


@pytest.mark.parametrize("topic", BESIDE)
def test_topics_beside_the_runs_by_hand(topic):
    """What bridges say is below the root, where no run can be; with or without a run in it."""
    message = BESIDE[topic]
    assert USUAL.of("run", message) == topic
    address = USUAL.parse(topic)
    assert address.kind is type(message)
    assert address.run == ("run" if "/run/" in topic else "")
    assert address.field["cell"] == "3"
    assert not NAME.fullmatch(topic.split("/")[2])


def test_who_listens_hears_what_bridges_say_of_its_run():
    """All cells, and of those the members in one's own run."""
    asked = USUAL.filters("run", [type(message) for message in BESIDE.values()])
    assert asked == ["fl/v2/.cells/+/link", "fl/v2/.cells/+/run/agent/+"]
    assert USUAL.all_of("run") == ["fl/v2/run/#", "fl/v2/.cells/+/run/#"]


@pytest.mark.parametrize(
    "topic",
    [
        "fl/v2/.cells/x/link",
        "fl/v2/xcells/3/link",
        "fl/v2/.cells/3/run/vote/ann",
        "fl/v2/.cells/3/a.b/agent/ann",
    ],
)
def test_other_topics_beside_the_runs_are_none(topic):
    """Cells are numbers, and of the runs' topics only presence is there once more."""
    assert refused(topic)


# There and back


@given(names, names)
def test_agents_survive_their_topic(run, agent):
    """Run and agent are read from a topic as they were written."""
    for message in SAID.values():
        if "agent" in {field.name for field in fields(message)}:
            address = USUAL.parse(USUAL.of(run, replace(message, agent=agent)))
            assert address == (run, type(message), {"agent": agent})


@given(names, st.integers(0, 2**31 - 1))
def test_versions_survive_their_topic(run, version):
    """The version of a past model is read from its topic as it was written."""
    address = USUAL.parse(USUAL.of(run, messages.History(version, VECTOR)))
    assert address == (run, messages.History, {"version": str(version)})


@given(names, names)
def test_filters_by_hand(run, agent):
    """``where`` gives one sender's topic or, by default, a wildcard for all of them."""
    assert USUAL.where(run, messages.Update, agent) == f"fl/v2/{run}/update/{agent}"
    assert USUAL.where(run, messages.Update) == f"fl/v2/{run}/update/+"
    assert USUAL.where(run, messages.History, 12) == f"fl/v2/{run}/history/12"
    assert USUAL.where(run, messages.Round) == f"fl/v2/{run}/round"


# Names


@given(names)
def test_names_are_let_through(name):
    """1 to 64 letters, digits, underscores and hyphens are a name."""
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused(name):
    """Slashes, wildcards, nothing, too much: no name, in no topic."""
    assert not NAME.fullmatch(name)
    assert refused(f"fl/v2/{name}/round")
    for kind in ("update", "vote", "agent", "collusion/update"):
        assert refused(f"fl/v2/run/{kind}/{name}")


@pytest.mark.parametrize("version", ["", "-1", "01", "1.0", "x", "+", "12345678901", "1\n", "٣"])
def test_bad_versions_are_refused(version):
    """A version in a topic is a plain decimal number, written in one way only."""
    assert refused(f"fl/v2/run/history/{version}")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "round",
        "fl/v2/run",
        "fl/v2/run/",
        "fl/v1/run/round",
        "fl/v3/run/round",
        "fl/v2/run/rounds",
        "x/fl/v2/run/round",
        "fl/v2/run/round/",
        "/fl/v2/run/round",
        "fl/v2/run/update",
        "FL/v2/run/round",
        "$SYS/broker",
        "fl/v2/run/collusion",
        "fl/v2/run/collusion/update",
        "fl/v2/run/collusion/attack/ann",
    ],
)
def test_other_topics_are_refused(topic):
    """What is nearly a topic of ours is none."""
    assert refused(topic)


def test_a_long_topic_is_cut_in_the_message():
    """People read 200 characters of a bad topic, not 65,000."""
    with pytest.raises(BadMessage) as caught:
        USUAL.parse("x" * 65_000)
    assert caught.value.detail == "x" * 200


# Clearing


@pytest.mark.parametrize("topic", SAID)
def test_only_an_empty_retained_message_says_nothing(topic):
    """An empty payload clears what is retained; where nothing is, it is a bad message."""
    assert USUAL.is_retained_clear(f"fl/v2/run/{topic}", b"") == (topic in RETAINED)
    assert not USUAL.is_retained_clear(f"fl/v2/run/{topic}", b"{}")


def test_a_strange_topic_never_says_nothing():
    """Emptiness on a topic of nobody's is left for the decoder to refuse."""
    assert not USUAL.is_retained_clear("fl/v2/run/nowhere", b"")


# Bad messages


def test_bad_messages_say_why():
    """The text is the reason, and the detail where there is one."""
    assert str(BadMessage(Reason.DUPLICATE)) == "duplicate"
    bad = BadMessage(Reason.TOO_LARGE, "9 bytes", "ann")
    assert (str(bad), bad.reason, bad.detail, bad.agent) == (
        "too_large: 9 bytes",
        Reason.TOO_LARGE,
        "9 bytes",
        "ann",
    )


def test_bad_messages_are_safe_to_print():
    """Control characters and half characters of a sender's are shown by their numbers."""
    detail = BadMessage(Reason.MISSING_KEY, "\x1b[2J \ud800").detail
    assert detail == r"'\x1b[2J \ud800'"


def test_reasons_are_the_documented_ones():
    """The list of reasons is part of the protocol: eighteen, until there are more."""
    assert [str(reason) for reason in Reason] == [
        "unknown_topic",
        "too_large",
        "malformed",
        "missing_key",
        "wrong_type",
        "out_of_range",
        "unknown_codec",
        "wrong_length",
        "not_finite",
        "wrong_phase",
        "wrong_round",
        "wrong_version",
        "not_selected",
        "duplicate",
        "too_many",
        "wrong_groups",
        "bad_key",
        "wrong_share",
    ]


def test_topics_are_below_version_two():
    """The protocol's version is in the topic and in the manifest, and both say 2."""
    assert (topics.ROOT, messages.PROTOCOL, SAID["manifest"].protocol) == ("fl/v2", 2, 2)


def test_the_first_version_is_told_where_it_looks():
    """What its agents read, a manifest and a presence, is still written below fl/v1."""
    for kind, part in OLD.items():
        assert USUAL.where("run", kind) == f"fl/v1/run/{part}"
        assert USUAL.parse(f"fl/v1/run/{part}") == ("run", kind, {})
        assert CHANNELS[kind].retain


# Values


def test_values_of_different_types_are_never_equal():
    """To publish a message is not to clear it, and a model is not the history of it."""
    presence = messages.Presence("ann", online=True, since=1.0)
    assert Publish(presence) != Clear(presence)
    assert Publish(presence) == Publish(presence)
    assert messages.Model(1, None) != messages.History(1, None)
    assert Train(1, 1, 0) != Judge(1, 1, 0) != Contribute(1, 1, 0)
    assert presence != ("ann", True, 1.0)


def test_messages_cannot_be_changed_or_unpacked():
    """They are frozen records and no tuples."""
    for message in SAID.values():
        with pytest.raises(FrozenInstanceError):
            setattr(message, fields(message)[0].name, 1)
        with pytest.raises(TypeError):
            iter(message)
