"""What the chaos sweep hears of secure aggregation: it sees what must never be."""

from __future__ import annotations

import numpy as np
import pytest

from fedjury.protocol.messages import Model, Phase, Round
from fedjury.protocol.secure import SecureKeys, SecurePeers, UnmaskRequest
from fedjury.secure.bits import bits_of
from tools.chaos.sums_heard import SumsHeard

FOUR = "ann", "bob", "eve", "joe"


def peers(name, place, attempt, names):
    """Tell one of a group where its place is; the rest is of no use here."""
    said = dict.fromkeys(("roster", "places", "mask_keys", "box_keys"), b"")
    numbers = {"threshold": 2, "clip": 1.0, "bits": 16, "weight": 1, "largest": 1}
    return SecurePeers(
        name, 1, attempt, group=0, place=place, members=len(names), names="", **said, **numbers
    )


def opened(heard, attempt, names, alive, version=3):
    """Let a sum be opened over a version, all of whose parameters are its number."""
    heard.hear(Model(version, np.full(2, version, np.float32)))
    heard.hear(Round(1, attempt, Phase.TRAIN, version, "all", (), 1.0))
    for place, name in enumerate(names):
        heard.hear(peers(name, place, attempt, names))
    for place in alive:
        heard.hear(UnmaskRequest(names[place], 1, attempt, bits_of(alive, len(names))))


@pytest.mark.parametrize(
    ("names", "alive", "wrong"),
    [
        (FOUR, (0, 1, 2, 3), ""),  # the same once more
        (("kim", "lea", "mia"), (0, 1, 2), ""),  # others
        (FOUR, (0, 1, 2), "ann, bob, eve are in two sums over one model that differ"),
        (("joe", "kim", "lea"), (0, 1, 2), "joe are in two sums over one model that differ"),
    ],
)
def test_sums_over_one_model_that_overlap_in_part_are_seen(names, alive, wrong):
    """The same sum again is fine, and so are others' sums; one with some of its members is not."""
    heard = SumsHeard()
    opened(heard, 1, FOUR, (0, 1, 2, 3))
    opened(heard, 2, names, alive)
    assert heard.wrong() == wrong


def test_over_another_model_sums_may_overlap():
    """An update of another model is another one."""
    heard = SumsHeard()
    opened(heard, 1, FOUR, (0, 1, 2, 3))
    opened(heard, 2, FOUR, (0, 1, 2), version=4)
    assert len(heard.sums) == 2
    assert heard.wrong() == ""


def test_a_key_that_comes_twice_is_seen():
    """In the same message twice delivered it is fine; in another attempt it is not."""
    heard = SumsHeard()
    for attempt in (1, 1):
        heard.hear(SecureKeys("ann", 1, attempt, b"m" * 32, b"b" * 32, 4))
    assert heard.wrong() == ""
    heard.hear(SecureKeys("ann", 1, 2, b"n" * 32, b"b" * 32, 4))
    assert heard.wrong() == "a public key is of [('ann', (1, 1)), ('ann', (1, 2))]"


def test_what_was_missed_is_left_out():
    """Who was not there when places were told knows nothing of the sum."""
    heard = SumsHeard()
    heard.hear(UnmaskRequest("ann", 1, 1, bytes([7])))
    assert heard.wrong() == ""
    assert not heard.sums
