"""What the aggregator refuses of members in secure aggregation, and hostile ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.noise import drawn
from support.secure_group import (
    TURN,
    VERSION,
    SecureGroup,
    letters,
    some_updates,
)

from fedjury.protocol.messages import Reason
from fedjury.protocol.secure import (
    BOX,
    KEY,
    NOTHING,
    SHARE,
    MaskedUpdate,
    SecureKeys,
    SecureShares,
    UnmaskShares,
)
from fedjury.secure import agent
from fedjury.secure.group import Group, Lost, Opened, Step, take, told
from fedjury.secure.keys import LOW_ORDER

# What the aggregator is told


def key(number):
    """Return a public key that is somebody's, or nobody's."""
    return agent.KeyPair.of(bytes([number]) * KEY).public


def high(public):
    return public[:-1] + bytes([public[-1] | 128])


def keys_of(name, mask_key, box_key):
    return SecureKeys(name, *TURN, mask_key, box_key, 1)


@pytest.fixture(scope="module")
def beginning():
    """Return a group to which only b has sent keys."""
    group = Group(0, TURN, VERSION, 7, frozenset("abc"))
    return take(group, keys_of("b", key(1), key(2)))


@pytest.mark.parametrize("change", [bytes, high])
@pytest.mark.parametrize("point", sorted(LOW_ORDER))
def test_keys_of_low_order_are_refused(beginning, point, change):
    """For masks or for boxes, with their highest bit set or not."""
    for pair in ((change(point), key(3)), (key(3), change(point))):
        assert take(beginning, keys_of("a", *pair)) is Reason.BAD_KEY


@pytest.mark.parametrize(
    "pair",
    [
        (key(1), key(3)),  # b's key for masks
        (key(3), key(1)),
        (key(2), key(3)),  # b's for boxes
        (high(key(1)), key(3)),
        (key(3), key(3)),  # one for both
        (key(3), high(key(3))),
    ],
)
def test_keys_of_somebody_else_or_for_both_are_refused(beginning, pair):
    """As they are, or with their highest bit set."""
    assert take(beginning, keys_of("a", *pair)) is Reason.BAD_KEY


def test_right_keys_are_taken(beginning):
    """Two that nobody else has; twice, or of somebody else, they are not."""
    group = take(beginning, keys_of("a", key(3), key(4)))
    assert group.answered == {"a", "b"}
    assert take(group, keys_of("a", key(5), key(6))) is Reason.DUPLICATE
    assert take(group, keys_of("stranger", key(5), key(6))) is Reason.NOT_SELECTED


def messages(group):
    """Return one message of a's of each kind, as the steps of a whole group have them."""
    return [group.sent[kind]["a"] for kind in ("SecureKeys", "SecureShares", "MaskedUpdate")] + [
        group.sent["UnmaskShares"]["a"]
    ]


def test_each_step_takes_its_own_messages_only():
    """A message of another step, of a stranger, or a second one, is refused by its reason."""
    whole = SecureGroup(some_updates())
    whole.run()
    steps = [step for step in Step if step is not Step.SUM]  # what a cell is asked for then
    for step, own in zip(steps, messages(whole), strict=True):
        group = SecureGroup(some_updates()).until(step)
        for message in messages(whole):
            result = take(group.group, message)
            assert isinstance(result, Group) if message is own else result is Reason.WRONG_PHASE
        assert take(group.group, replace(own, agent="stranger")) is Reason.NOT_SELECTED
        assert take(take(group.group, own), own) is Reason.DUPLICATE


def test_who_has_left_is_no_member_of_the_next_step():
    """Boxes that come too late to be passed on are followed by no update."""
    group = SecureGroup(some_updates()).until(Step.SHARES)
    group.step("a")
    update = MaskedUpdate("a", *TURN, VERSION, b"")
    assert take(group.group, update) is Reason.NOT_SELECTED
    assert told(group.group, "a") is None


@pytest.mark.parametrize(
    ("step", "message", "reason"),
    [
        (Step.SHARES, SecureShares("a", *TURN, bytes(KEY), b"\1" * BOX * 7), Reason.WRONG_LENGTH),
        (Step.SHARES, SecureShares("a", *TURN, bytes(KEY), b"\1" * BOX * 9), Reason.WRONG_LENGTH),
        (
            Step.SHARES,
            SecureShares("a", *TURN, bytes(KEY), b"\1" * BOX * 7 + NOTHING),
            Reason.WRONG_SHARE,
        ),
        (Step.UPDATES, MaskedUpdate("a", *TURN, VERSION, bytes(19)), Reason.WRONG_LENGTH),
        (Step.UPDATES, MaskedUpdate("a", *TURN, VERSION, bytes(21)), Reason.WRONG_LENGTH),
        (Step.UPDATES, MaskedUpdate("a", *TURN, VERSION - 1, bytes(20)), Reason.WRONG_VERSION),
        (Step.UNMASK, UnmaskShares("a", *TURN, bytes(SHARE * 7)), Reason.WRONG_LENGTH),
        (Step.UNMASK, UnmaskShares("a", *TURN, bytes(SHARE * 9)), Reason.WRONG_LENGTH),
    ],
)
def test_answers_of_the_wrong_length_or_version(step, message, reason):
    """Eight neighbours, seven numbers of 20 bits: other lengths, and no box, are refused."""
    group = SecureGroup(some_updates()).until(step)
    assert take(group.group, message) is reason


def test_an_empty_box_would_take_others_out():
    """Its receiver takes the sender for gone, and so would refuse to say that it is not."""
    group = SecureGroup(
        some_updates(),
        hostile=lambda m: (
            replace(m, boxes=NOTHING * 8) if isinstance(m, SecureShares) and m.agent == "c" else m
        ),
    )
    group.run()
    assert group.refused["c"] is Reason.WRONG_SHARE
    assert isinstance(group.group, Opened)
    assert group.refusals == {}
    assert group.group.members == tuple(sorted(set(letters(12)) - {"c"}))


def garbage(source, message):
    """Return a message with other bytes, valid by the schema, some of another length."""
    choice = source(1)[0] % 4
    match message:
        case SecureKeys():
            weak = sorted(LOW_ORDER)[source(1)[0] % 7]
            box_key = [weak, message.mask_key, source(KEY), message.box_key][choice]
            return replace(message, box_key=box_key, samples=int.from_bytes(source(3)))
        case SecureShares():
            size = len(message.boxes) + BOX * (choice == 0)
            return replace(message, boxes=source(size), commitment=source(KEY))
        case MaskedUpdate():
            return replace(message, data=source(len(message.data) + (choice == 0)))
        case UnmaskShares():
            size = len(message.shares) + SHARE * (choice == 0)
            half = message.shares[: size // 2]
            return replace(message, shares=half + source(size - len(half)))


@given(st.integers(0, 10**6), st.sets(st.sampled_from("abcdef"), max_size=5), st.data())
@settings(max_examples=25, deadline=None)
def test_whatever_members_say(seed, liars, data):
    """Any bytes at any step: messages are refused, a group is opened or lost; nothing is raised."""
    source = drawn(seed)
    kinds = (SecureKeys, SecureShares, MaskedUpdate, UnmaskShares)
    where = data.draw(st.sets(st.sampled_from(kinds)))
    group = SecureGroup(
        some_updates(6),
        seed=seed,
        hostile=lambda m: garbage(source, m) if m.agent in liars and type(m) in where else m,
    )
    result = group.run()
    assert isinstance(result, Opened | Lost)
    if isinstance(result, Opened):
        assert (np.abs(result.mean) <= 0.5).all()
    if not (liars and where):
        assert isinstance(result, Opened)
