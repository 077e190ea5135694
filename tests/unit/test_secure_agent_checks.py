"""What an agent refuses in secure aggregation, each by its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.noise import drawn
from support.secure_group import (
    LEAST,
    SecureGroup,
    at_step,
    some_updates,
)

from fedjury.protocol.messages import MAX_COUNT
from fedjury.protocol.secure import (
    BOX,
    KEY,
    NOTHING,
    SHARE,
)
from fedjury.secure import agent
from fedjury.secure.agent import Least, Refusal
from fedjury.secure.bits import bits_of, places_in
from fedjury.secure.group import Lost, Step, told
from fedjury.secure.keys import LOW_ORDER


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


def refusal(call, *values):
    """Return with which sentence something is refused."""
    with pytest.raises(Refusal) as caught:
        call(*values)
    return str(caught.value)


def share(own, peers, before=None, least=LEAST):
    return agent.share(own, peers, before, least, drawn(5))


# What an agent is told of its peers


def swapped(data, size):
    return data[size : 2 * size] + data[:size] + data[2 * size :]


PEERS = {
    "small": (lambda p: {"members": 2}, "a group of 2 is too small"),
    "one neighbour": (lambda p: {"names": "b"}, "1 neighbours are too few"),
    "low threshold": (lambda p: {"threshold": 1}, "a threshold of 1 is too low"),
    "high threshold": (lambda p: {"threshold": 9}, "a threshold of 9 is above 8 neighbours"),
    "a place less": (
        lambda p: {"places": p.places[:-4]},
        "there are not as many places as names",
    ),
    "half a place": (
        lambda p: {"places": p.places + b"\1\0"},
        "there are not as many places as names",
    ),
    "a key less": (
        lambda p: {"mask_keys": p.mask_keys[KEY:]},
        "there are not as many keys as names",
    ),
    "a byte more": (
        lambda p: {"box_keys": p.box_keys + b"\1"},
        "there are not as many keys as names",
    ),
    "twice": (
        lambda p: {"names": " ".join([p.names.split(" ")[1], *p.names.split(" ")[1:]])},
        "a neighbour is named twice, or is itself",
    ),
    "itself": (
        lambda p: {"names": " ".join(["a", *p.names.split(" ")[1:]])},
        "a neighbour is named twice, or is itself",
    ),
    "a place twice": (
        lambda p: {"places": p.places[4:8] + p.places[4:]},
        "a place is named twice",
    ),
    "its own place": (lambda p: {"place": p.places[0]}, "a place is named twice"),
    "outside": (lambda p: {"place": 12}, "a place is outside the group"),
    "a neighbour outside": (
        lambda p: {"places": p.places[:-4] + b"\14\0\0\0"},
        "a place is outside the group",
    ),
    "unsorted": (lambda p: {"places": swapped(p.places, 4)}, "the places are not in order"),
    "no weight": (lambda p: {"weight": 0}, "its weight is none"),
    "above the largest": (lambda p: {"weight": 2}, "its weight is none"),
    "more than samples": (
        lambda p: {"weight": 2, "largest": 5},
        "its weight is not the number of its samples",
    ),
    "no clip": (lambda p: {"clip": 0.0}, "the clip is none"),
    "a negative clip": (lambda p: {"clip": -0.5}, "the clip is none"),
    "a clip that is no number": (lambda p: {"clip": float("nan")}, "the clip is none"),
    "an infinite clip": (lambda p: {"clip": float("inf")}, "the clip is none"),
    "a clip above float32": (lambda p: {"clip": 1e39}, "the clip is none"),
    "a clip below float32": (lambda p: {"clip": 1e-46}, "the clip is none"),
    "odd bits": (lambda p: {"bits": 18}, "sums of 18 bits are none"),
    "few bits": (lambda p: {"bits": 4}, "sums of 4 bits are none"),
    "many bits": (lambda p: {"bits": MAX_COUNT}, f"sums of {MAX_COUNT} bits are none"),
    "too narrow": (lambda p: {"bits": 8, "members": 129}, "sums of 8 bits are too narrow"),
}


@pytest.mark.parametrize("name", PEERS)
def test_peers_that_cannot_be(sharing, name):
    """Each is refused with its own sentence."""
    own, peers = sharing
    change, why = PEERS[name]
    assert refusal(share, own, replace(peers, **change(peers))) == why


def test_right_peers_are_taken(sharing):
    """So nothing else in the table above is wrong with them."""
    own, peers = sharing
    assert len(share(own, peers).neighbours) == 8


@pytest.mark.parametrize(
    ("samples", "weight", "largest", "taken"),
    [(7, 7, 9, True), (7, 6, 9, False), (7, 5, 5, True), (7, 1, 9, False), (0, 1, 9, True)],
)
def test_a_weight_follows_from_samples(sharing, samples, weight, largest, taken):
    """The samples, or the largest weight if there are more: a server cannot raise one agent's."""
    own, peers = sharing
    own, peers = replace(own, samples=samples), replace(peers, weight=weight, largest=largest)
    if taken:
        assert share(own, peers)
    else:
        assert refusal(share, own, peers) == "its weight is not the number of its samples"


@pytest.mark.parametrize("kind", ["mask_keys", "box_keys"])
@pytest.mark.parametrize("point", sorted(LOW_ORDER))
def test_a_neighbours_key_of_low_order(sharing, kind, point):
    """There would be no secret with it: the agent says whose key it is."""
    own, peers = sharing
    keys = getattr(peers, kind)
    wrong = replace(peers, **{kind: point + keys[KEY:]})
    name = peers.names.split(" ")[0]
    assert refusal(share, own, wrong) == f"a key of {name} is none"


@pytest.mark.parametrize(
    ("least", "why"),
    [
        (Least(members=13), "a group of 12 is too small"),
        (Least(degree=9), "8 neighbours are too few"),
        (Least(threshold=4), "a threshold of 3 is too low"),
    ],
)
def test_what_an_agent_asks_for_at_the_least(sharing, least, why):
    """Its own settings count, whatever the server's are."""
    assert refusal(share, *sharing, None, least) == why


# Its inbox


def some_boxes(inbox, keep):
    """Return an inbox of which only so many boxes that are there still open."""
    boxes = agent.pieces(inbox.boxes, BOX)
    there = [i for i, box in enumerate(boxes) if box != NOTHING]
    for i in there[keep:]:
        boxes[i] = bytes([boxes[i][0] ^ 1]) + boxes[i][1:]
    return replace(inbox, boxes=b"".join(boxes))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda i: replace(i, boxes=i.boxes[:-1]), "there are not as many boxes as neighbours"),
        (
            lambda i: replace(i, boxes=i.boxes + NOTHING),
            "there are not as many boxes as neighbours",
        ),
        (lambda i: replace(i, boxes=NOTHING * 8), "too few boxes of neighbours open"),
        (lambda i: some_boxes(i, 2), "too few boxes of neighbours open"),
        (lambda i: replace(i, boxes=swapped(i.boxes, BOX * 4)), "too few boxes of neighbours open"),
    ],
)
def test_an_inbox_that_cannot_be(masking, change, why):
    """Of the wrong length, or with fewer boxes that open than undo a mask."""
    shared, inbox = masking
    assert refusal(agent.add_masks, shared, change(inbox), 7) == why


def test_three_boxes_that_open_are_enough(masking):
    """What did not open is held as nothing; only who has sent no box has left."""
    shared, inbox = masking
    masked = agent.add_masks(shared, some_boxes(inbox, 3), 7)
    assert sum(map(bool, masked.shares)) == 3
    assert len(masked.left) == 1


def test_a_box_of_another_attempt_does_not_open():
    """A replayed box is bound to run, round, attempt, group and both names."""
    group, other = (SecureGroup(some_updates(), group=number) for number in (0, 1))
    for one in (group, other):
        one.until(Step.UPDATES)
    assert group.agents["a"].own.mask == other.agents["a"].own.mask  # the same source
    replayed = told(other.group, "a")
    why = refusal(agent.add_masks, group.agents["a"], replayed, 7)
    assert why == "too few boxes of neighbours open"


# What it is asked for


def without_own(masked, request):
    return bits_of(set(places_in(request.survivors, 12)) - {masked.shared.peers.place}, 12)


UNMASK = {
    "short": (lambda m, r: r.survivors[:1], "there are not as many survivors as members"),
    "long": (lambda m, r: r.survivors + b"\0", "there are not as many survivors as members"),
    "itself": (without_own, "it is asked to count itself out"),
    "back again": (lambda m, r: b"\xff\x0f", "a neighbour that had left survives"),
    "few": (lambda m, r: bits_of([0, 1], 12), "a sum of 2 is of too few"),
    "few neighbours": (
        lambda m, r: bits_of(
            {0, *(set(range(12)) - {one.place for one in m.shared.neighbours})}, 12
        ),
        "too few of its neighbours survive",
    ),
}


@pytest.mark.parametrize("name", UNMASK)
def test_requests_that_cannot_be(unmasking, name):
    """Each is refused with its own sentence."""
    masked, request = unmasking
    change, why = UNMASK[name]
    if name == "few":
        masked = replace(masked, left=frozenset())
    request = replace(request, survivors=change(masked, request))
    assert refusal(agent.unmask, masked, request, None, LEAST) == why


def test_a_sum_of_fewer_than_an_agent_asks_for(unmasking):
    """Ten of twelve are left, and it wants eleven."""
    assert refusal(agent.unmask, *unmasking, None, Least(members=11)) == "a sum of 10 is of too few"


def test_each_share_is_given_by_who_survives(unmasking):
    """The key's of who left before its update, the mask's of others, nothing of the first."""
    masked, request = unmasking
    answered, _ = agent.unmask(masked, request, None, LEAST)
    given = agent.pieces(answered.answer.shares, SHARE)
    alive = places_in(request.survivors, 12)
    kinds = [
        "none" if not held else "mask" if share == held[SHARE:] else "key"
        for held, share in zip(masked.shares, given, strict=True)
    ]
    expected = [
        "none" if one.place in masked.left else "mask" if one.place in alive else "key"
        for one in masked.shared.neighbours
    ]
    assert kinds == expected
    assert sorted(kinds) == ["key", *["mask"] * 6, "none"]
    assert given[kinds.index("none")] == bytes(SHARE)
    assert given[kinds.index("key")] == masked.shares[kinds.index("key")][:SHARE]


def test_a_server_that_asks_for_both_shares_is_refused(unmasking):
    """The same request gets the same answer, however often; one with another survivor gets none."""
    masked, request = unmasking
    answered, _ = agent.unmask(masked, request, None, LEAST)
    assert agent.again(answered, replace(request)) == answered.answer
    assert agent.again(answered, request) == answered.answer
    alive = set(places_in(request.survivors, 12))
    gone = (alive - {masked.shared.peers.place}).pop()
    for changed in (
        replace(request, survivors=bits_of(alive - {gone}, 12)),
        replace(request, attempt=request.attempt + 1),
    ):
        why = refusal(agent.again, answered, changed)
        assert why == "a second request that differs from the first"


@given(st.binary(min_size=2, max_size=2))
@settings(max_examples=30)
def test_no_request_gets_both_shares(unmasking, survivors):
    """Whoever is said to survive: at most one of each neighbour's two, or all is refused."""
    masked, request = unmasking
    try:
        answered, opened = agent.unmask(masked, replace(request, survivors=survivors), None, LEAST)
    except Refusal:
        return
    alive = places_in(survivors, 12)
    assert masked.shared.peers.place in alive
    assert opened.survivors == survivors
    for one, held, share in zip(
        masked.shared.neighbours,
        masked.shares,
        agent.pieces(answered.answer.shares, SHARE),
        strict=True,
    ):
        assert share == (held[SHARE:] if one.place in alive else held[:SHARE] or bytes(SHARE))


# One base model, one sum

OTHERS = "another sum over the same model was opened, with other members or weights"


def opened_once(**options):
    """Return what the members of a group remember that was opened once."""
    group = SecureGroup(some_updates(), **options)
    group.run()
    return group.before


def once_more(before, **options):
    group = SecureGroup(some_updates(), seed=9, **options)
    group.before = before
    return group


def test_the_same_sum_may_be_opened_again():
    """With other keys, neighbours and masks, the same members and survivors: the same bits."""
    first = SecureGroup(some_updates())
    group = once_more(opened_once())
    assert group.run().mean.tobytes() == first.run().mean.tobytes()
    assert group.refusals == {}


def test_another_sum_over_the_same_model_is_refused():
    """A member less, a survivor less, or another weight: nobody who was in the first takes part."""
    before = opened_once()
    fewer = once_more(before)
    fewer.run("c")
    assert fewer.refusals == dict.fromkeys("abdefghijkl", OTHERS)
    weighted = once_more(before, samples=[2, *[1] * 11])
    weighted.run()
    assert weighted.refusals["a"] == OTHERS
    gone = once_more(before)
    gone.run("", "", "c")
    why = "another sum over the same model was opened, of other agents"
    assert gone.refusals == dict.fromkeys("abdefghijkl", why)
    assert isinstance(gone.group, Lost)


def test_another_clip_makes_another_sum(sharing):
    """What one clip cuts off and another does not would tell of few: it is refused as well."""
    own, peers = sharing
    group = SecureGroup(some_updates())
    group.run()
    before = group.before["a"]
    assert share(own, peers, before)
    assert refusal(share, own, replace(peers, clip=0.25), before) == OTHERS
