"""Whatever an agent is told in secure aggregation ends in a refusal or in a state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.noise import drawn
from support.secure_group import LEAST, TURN, VERSION, at_step

from fedjury.protocol.messages import MAX_COUNT
from fedjury.protocol.secure import NOTHING, SHARE, SecureInbox, UnmaskRequest
from fedjury.secure import agent
from fedjury.secure.agent import Refusal
from fedjury.secure.group import Step


@pytest.fixture(scope="module")
def sharing():
    """Return a's state before it shares its secrets, and what it is told of its peers."""
    return at_step(Step.SHARES)


@pytest.fixture(scope="module")
def masking():
    """Return a's state before it adds its masks, and its inbox; one neighbour has left."""
    return at_step(Step.UPDATES, 0)


@pytest.fixture(scope="module")
def unmasking():
    """Return a's state before it gives shares away, and what it is asked; two have left."""
    return at_step(Step.UNMASK, 0, 1)


@pytest.fixture(scope="module")
def states(sharing, masking, unmasking):
    return sharing, masking, unmasking


counts = st.integers(0, MAX_COUNT) | st.integers(0, 40)
few = st.sampled_from(
    ["b", "b c", "b c d e f g h i", "c b i h g f e d", "a b c", "", " ", "é ü", "b  c"]
)
numbers = st.floats() | st.sampled_from([0.5, 1e-300, 1e300])


def hostile_value(data, value):
    """Draw another value of the same type: changed, or any."""
    match value:
        case bytes():
            cut, new = data.draw(st.integers(0, len(value))), data.draw(st.binary(max_size=40))
            same = value[:cut] + new + value[cut + len(new) :]
            return data.draw(st.sampled_from([same, same[: len(value)], value[:cut], value + new]))
        case str():
            return data.draw(few)
        case int():
            return data.draw(counts)
        case _:
            return data.draw(numbers)


@given(st.data())
@settings(max_examples=50)
def test_whatever_an_agent_is_told(states, data):
    """Any bytes, numbers and names at each step end in a refusal or a state; nothing is raised."""
    which = data.draw(st.integers(0, 2))
    state, heard = states[which]
    fields = [name for name in heard.__slots__ if name not in ("agent", "round", "attempt")]
    names = data.draw(st.lists(st.sampled_from(fields), min_size=1, max_size=3, unique=True))
    hostile = replace(heard, **{name: hostile_value(data, getattr(heard, name)) for name in names})
    try:
        if which == 0:
            shared = agent.share(state, hostile, None, LEAST, drawn(5))
            empty = SecureInbox("a", *TURN, NOTHING * len(shared.neighbours))
            agent.add_masks(shared, empty, 7)
        elif which == 1:
            masked = agent.add_masks(state, hostile, 7)
            agent.masked_update(masked, VERSION, np.ones(6, np.float32))
            agent.unmask(masked, UnmaskRequest("a", *TURN, b"\xff\x0f"), None, LEAST)
        else:
            answered, _ = agent.unmask(state, hostile, None, LEAST)
            assert len(answered.answer.shares) == 8 * SHARE
    except Refusal:
        return


@given(
    clip=numbers | st.floats(2.0**-149, 3e38),
    bits=st.sampled_from([*range(4, 40, 4), MAX_COUNT]),
    members=counts | st.integers(12, 20),
    largest=counts,
)
@settings(max_examples=30)
def test_whatever_the_fixed_point_is_said_to_be(masking, clip, bits, members, largest):
    """What an agent does not refuse it can encode by."""
    shared, inbox = masking
    said = replace(shared.peers, clip=clip, bits=bits, members=members, largest=largest)
    try:
        agent.share(shared.own, said, None, LEAST, drawn(5))
    except Refusal:
        return
    masked = agent.add_masks(replace(shared, peers=said), inbox, 7)
    agent.masked_update(masked, VERSION, np.array([0, 1, -1, 1e30, -1e-30, 5], np.float32))
