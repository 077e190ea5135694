"""Hostile members of a group under secure aggregation, on a real broker with passwords or TLS.

All twelve agents are one group. Two of them are raw clients whose updates are zero: in the quiet
run they are honest, in the other they say all that they should not, and lie to their neighbours.
What is refused is counted by its reason, to the last message: the second of them answers each step
only once the first has said everything. So no step is over too soon.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.guarded import guarded
from support.listening import until
from support.network import ended
from support.secure_member import Last, Member, Raw
from support.secure_net import AGENTS, SAMPLES, TO_AGENTS, TO_THE_AGGREGATOR, flags

from fedjury.broker.mosquitto import find_mosquitto
from fedjury.protocol.secure import (
    BOX,
    SHARE,
    MaskedUpdate,
    SecureKeys,
    SecureShares,
    UnmaskShares,
)

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="logins need Mosquitto"),
]

PARAMETERS = 2410
FLEET = AGENTS - 2
NOISY, UNDONE, GARBAGE = (1, 2), 3, 4
"""Rounds: with all that is refused; in which the masks cannot be undone; with a garbage update."""
ROUNDS = 4
MALLORY, TRUDY, EVE = "Mallory", "Trudy", "eve"
"""The first of the group by name, and so the first whose shares are used; another; an outsider."""
ONE_GROUP = [*TO_THE_AGGREGATOR, *flags({"groups.size": 0, "groups.least": 6})]
ONE_GROUP += ["--rounds", str(ROUNDS), "--set", "groups.clip=0.05", "--look-back", "4"]
WEAK = bytes(32), bytes([1]) + bytes(30) + bytes([128])
"""Points of low order: 0, and 1 with the bit that nobody looks at."""


class Mallory(Member):
    """She says all that a member should not, before and after what she has to."""

    FORGED = 4 + 3 + 3

    def __init__(self, house, eve):
        self._eve, self.turns, self.keys = eve, [], {}
        super().__init__(house, MALLORY, PARAMETERS)

    def reply(self, turn, said):
        """Say much, and among it what is asked for, or something like it."""
        number, _ = turn
        if isinstance(said, SecureKeys):
            self.turns.append(turn)
            self.keys[turn] = said
        if number in NOISY:
            self._before(said)
            if isinstance(said, SecureKeys):
                self._eve.sneak_in(said)
        self.tell(self._lie(turn, said))
        if number in NOISY:
            self.tell(said)  # twice
        self.after[turn, type(said)] = self.sent

    def _before(self, said):
        """Say what is refused."""
        later = replace(said, round=said.round + 1), replace(said, attempt=said.attempt + 1)
        self.tell(*later)
        match said:
            case SecureKeys(mask_key=mask):
                self._junk()
                for key in WEAK:
                    self.tell(replace(said, mask_key=key), replace(said, box_key=key))
                self.tell(replace(said, box_key=mask))
            case SecureShares(boxes=boxes):
                self.tell(replace(said, boxes=boxes[:-BOX]), replace(said, boxes=boxes + boxes))
                self.tell(replace(said, boxes=boxes[:-1]))
            case MaskedUpdate(version=version, data=data):
                self.tell(replace(said, version=version + 1))
                self.tell(replace(said, data=data[:-5]), replace(said, data=data + bytes(5)))
            case UnmaskShares(shares=shares):
                self.tell(replace(said, shares=shares[:-SHARE]))
                self.tell(replace(said, shares=shares + shares))
        self.tell(*(other for other in _all_of(said) if type(other) is not type(said)))

    def _junk(self):
        """Say what is no message, and what only others may say."""
        for kind in ("keys", "shares", "masked", "unmasked"):
            self.throw(f"secure/{kind}/{MALLORY}", b"\x81" * 900)
            self.throw(f"secure/{kind}/agent-0", b"forged")
        for kind in ("peers", "inbox", "unmask"):
            for name in ("agent-0", MALLORY):
                self.throw(f"secure/{kind}/{name}", b"forged", retain=True)

    def _lie(self, turn, said):
        """Return what she says at a step."""
        match turn, said:
            case (1, _), SecureShares():  # two boxes that do not open
                return replace(said, boxes=_spoilt(said.boxes, 2))
            case (2, _), UnmaskShares():
                return replace(said, shares=_changed(said.shares))
            case (3, 1), SecureShares():
                return replace(said, boxes=_spoilt(said.boxes, AGENTS))
            case (4, _), MaskedUpdate():
                noise = np.random.default_rng(0).bytes(len(said.data))
                return replace(said, data=noise)
        return said


def _all_of(said):
    """Return what is said at each of the steps, in the same turn."""
    turn = said.agent, said.round, said.attempt
    return (
        SecureKeys(*turn, bytes([9] * 32), bytes([8] * 32), SAMPLES),
        SecureShares(*turn, bytes(32), bytes(BOX)),
        MaskedUpdate(*turn, 0, bytes(100)),
        UnmaskShares(*turn, bytes(SHARE)),
    )


def _spoilt(boxes, count):
    """Change a byte in so many boxes, the last ones."""
    return (
        boxes[: -BOX * count]
        + bytes(byte ^ (i % BOX == 40) for i, byte in enumerate(boxes))[-BOX * count :]
    )


def _changed(shares):
    """Add one to every number of shares."""
    return (np.frombuffer(shares, "<u4") + 1).astype("<u4").tobytes()


class Trudy(Last):
    """She sends Mallory's keys as her own, first."""

    def reply(self, turn, said):
        """Wait for Mallory; then say what is asked for."""
        if isinstance(said, SecureKeys) and turn[0] in NOISY:
            until(lambda: self._other.has_said((turn, SecureKeys)))
            theirs = self._other.keys[turn]
            self.tell(replace(said, mask_key=theirs.mask_key))
            self.tell(replace(said, box_key=theirs.mask_key))
        super().reply(turn, said)


class Eve(Raw):
    """She is enrolled, and in no group."""

    def sneak_in(self, said):
        """Say what members do; returns once the broker has it."""
        mine = replace(said, agent=EVE)
        self.tell(mine, *_all_of(mine)[1:])
        self.after[said.round] = self.sent
        until(lambda: self.has_said(said.round))


@contextlib.contextmanager
def house_of(folder, *words):
    """Enrol the fleet and three others, and start a broker for them."""
    names = (word for name in (MALLORY, TRUDY, EVE) for word in ("--name", name))
    with guarded(folder, "--n", str(FLEET), *names, *words) as programs:
        yield programs


def whole(programs):
    """Run a federation to its end; returns its records and models."""
    server = programs.aggregator(*ONE_GROUP)
    ended(server, programs.agents(*TO_AGENTS, "--n", str(FLEET)))
    records = programs.records()
    models = [
        np.frombuffer(programs.weights(version), np.float32)
        for version in range(records[-1].version + 1)
    ]
    return SimpleNamespace(records=records, models=models, log=server.log.read_text())


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Run the same federation with honest members, over TLS: it works with certificates, too."""
    with (
        house_of(tmp_path_factory.mktemp("quiet"), "--tls") as programs,
        Member(programs.house, MALLORY, PARAMETERS) as one,
        Member(programs.house, TRUDY, PARAMETERS) as other,
    ):
        done = whole(programs)
        assert (one.denied, other.denied) == (0, 0)
    assert [record.updates for record in done.records] == [AGENTS] * ROUNDS
    assert not any(record.traffic.invalid_messages for record in done.records)
    return done


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Run it with hostile ones, and passwords."""
    with (
        house_of(tmp_path_factory.mktemp("hostile")) as programs,
        Eve(programs.house, EVE) as eve,
        Mallory(programs.house, eve) as mallory,
        Trudy(programs.house, TRUDY, PARAMETERS, mallory),
    ):
        done = whole(programs)
        done.denied, done.turns = mallory.denied, mallory.turns
    return done


@pytest.mark.parametrize("number", NOISY)
def test_all_that_does_not_fit_is_refused_by_reason(quiet, hostile, number):
    """Every single message is counted; the model is that of honest members, bit for bit."""
    record = hostile.records[number - 1]
    steps = 4
    right = {
        "wrong_round": 2 * steps,
        "wrong_phase": 3 * steps,
        "duplicate": steps,
        "malformed": 4,
        "not_selected": 4,
        "bad_key": 2 * len(WEAK) + 1 + 2,
        "wrong_length": 3 + 2 + 2,
        "wrong_version": 1,
    }
    if number == 2:
        right["wrong_share"] = 1
    assert dict(record.traffic.invalid_messages) == right
    assert (record.updates, record.missing, record.accepted) == (AGENTS, 0, True)
    np.testing.assert_array_equal(hostile.models[number], quiet.models[number])


def test_what_only_others_may_say_is_not_delivered(hostile):
    """The broker tells her so, and nobody else of it."""
    assert hostile.denied == Mallory.FORGED * len(NOISY)


def test_masks_that_cannot_be_undone_cost_an_attempt(quiet, hostile):
    """None of her boxes opens: the sum stays closed, and is opened with the same members again."""
    record = hostile.records[UNDONE - 1]
    assert [turn for turn in hostile.turns if turn[0] == UNDONE] == [(UNDONE, 1), (UNDONE, 2)]
    assert (record.attempt, record.updates, record.traffic.invalid_messages) == (2, AGENTS, {})
    np.testing.assert_array_equal(hostile.models[UNDONE], quiet.models[UNDONE])


def test_a_garbage_update_moves_the_model_no_further_than_the_clip(hostile):
    """Whatever stands under her masks, no coordinate of the mean leaves the box."""
    record = hostile.records[GARBAGE - 1]
    assert (record.accepted, record.traffic.invalid_messages) == (True, {})
    step = hostile.models[GARBAGE] - hostile.models[GARBAGE - 1]
    assert record.groups.clip == pytest.approx(0.05)
    assert 0.02 < np.abs(step).max() <= 0.05001
