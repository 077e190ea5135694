"""Agents called by a number: who is, by both sides' reckoning, and what it tells of others."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from support.by_hand import policy, published, start, vector

from fedjury.config.sections import Evaluation
from fedjury.detection.state import AgentRegistry, AgentStatus, DetectionPolicy
from fedjury.protocol.call import WHOLE, Call, Roll, Selection, place_of
from fedjury.protocol.checks import MAX_EXCEPTIONS, Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.messages import BadMessage, Phase, Reason, Round, Update, Vote
from fedjury.randomness import Purpose, draw
from fedjury.round.effects import CountInvalid
from fedjury.round.lots import Lots, number_of
from fedjury.round.machine import step
from fedjury.round.state import GlobalModel, State, Tick

NUMBER = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
PLACES = {
    "node-1": 62_599_850,
    "agent-0": 468_433_803,
    "agent-7": 948_145_817,
    "site_B": 844_891_567,
}
"""As the agent in another language (examples/call.mjs) has them; docs/protocol.md has the same."""

KEY = bytes(range(32))
NAMES = [f"agent-{i}" for i in range(60)]


def opened(config, online, registry=None, round_=0):
    """Open a round; returns its state and what agents are told."""
    before = State(GlobalModel(0, vector(0, 0)), round_)
    if registry is not None:
        before = before.but(registry=registry)
    state, effects = step(before, Tick(0.0, online), config)
    return state, published(effects, Round)[-1]


def by_number(**changes):
    """Make a policy that names three agents at the most."""
    changes = {"client_fraction": 0.5, "sampling.names": 3} | changes
    return replace(policy(**changes), call_key=KEY)


# An agent's own reckoning


def test_the_places_of_four_names():
    """Each for itself, or all together."""
    assert {name: place_of(NUMBER, name) for name in PLACES} == PLACES
    roll = Roll.of(frozenset(PLACES))
    assert dict(zip(roll.names, roll.places(NUMBER).tolist(), strict=True)) == PLACES
    assert list(Roll.of(frozenset()).places(NUMBER)) == []


def test_a_place_is_worked_out_by_hand():
    """1 + 2 x + 3 y + 4 z modulo 2^64, of which the first 30 bits count."""
    a, b, c, d = 1, 2**40, 3 << 61, 4
    number = b"".join(word.to_bytes(8, "little") for word in (a, b, c, d)).hex()
    x, y, z = 0xE61B9735, 0x4A02BBE9, 0xFE825589  # of SHA-256 of "node-1": 35971be6e9bb024a895582fe
    assert place_of(number, "node-1") == (a + b * x + c * y + d * z) % 2**64 // 2**34


@pytest.mark.parametrize(
    ("call", "called"),
    [
        (Call(NUMBER, 0, 0), []),
        (Call(NUMBER, PLACES["node-1"], 0), []),
        (Call(NUMBER, PLACES["node-1"] + 1, 1), ["node-1"]),
        (Call(NUMBER, PLACES["site_B"], 2), ["agent-0", "node-1"]),
        (Call(NUMBER, WHOLE, 4), ["agent-0", "agent-7", "node-1", "site_B"]),
        (Call(NUMBER, WHOLE, 2, ("agent-0", "node-1")), ["agent-7", "site_B"]),
    ],
)
def test_who_is_called_by_a_share(call, called):
    """Those in lower places, but for the exceptions; alone, or for all who share a downlink."""
    selection = Selection((), call)
    assert sorted(selection.among(PLACES)) == called
    assert sorted(name for name in PLACES if name in selection) == called
    assert selection.size(99) == call.count


def test_who_is_named_is_called_as_well():
    """Names come beside the number; a name that is both is called once."""
    selection = Selection(("site_B", "node-1", "else"), Call(NUMBER, PLACES["node-1"] + 1, 3))
    assert sorted(selection.among(PLACES)) == ["node-1", "site_B"]
    assert "site_B" in selection
    assert "agent-7" not in selection


# The aggregator's draw


def lots_of(**places):
    """Return lots of agents in these places."""
    roll = Roll(tuple(places), {name: i for i, name in enumerate(places)}, np.zeros((3, 0)))
    return Lots(NUMBER, roll, np.array([*places.values()]))


@pytest.mark.parametrize(("count", "drawn"), [(1, "a"), (2, "ab"), (3, "abc"), (9, "abcd")])
def test_the_lowest_places_are_drawn(count, drawn):
    """Of two in one place it is the one whose name comes first."""
    lots = lots_of(d=9, c=5, b=5, a=1)
    assert lots.lowest("dcba", count) == tuple(drawn)


def test_forced_agents_are_drawn_in_any_case():
    """They count among those that are drawn."""
    lots = lots_of(d=9, c=5, b=4, a=1)
    assert lots.lowest("abcd", 2, ["d", "not there"]) == ("a", "d")
    assert lots.lowest("abcd", 1, ["c", "d"]) == ("c",)


@pytest.mark.parametrize(
    ("selected", "names", "share", "without"),
    [
        ("ab", "", 5, ""),  # b is in place 4
        ("abcd", "", WHOLE, ""),
        ("abd", "d", 5, ""),
        ("acd", "", WHOLE, "b"),
        ("", "", 0, ""),
        ("d", "d", 0, ""),
    ],
)
def test_who_is_selected_is_said_with_the_fewest_names(selected, names, share, without):
    """Four agents in places 1, 4, 5 and 9."""
    lots = lots_of(d=9, c=5, b=4, a=1)
    call = Call(NUMBER, share, len(selected), tuple(without))
    assert lots.called(selected) == (tuple(names), call)


def test_two_in_one_place_are_told_apart_by_name():
    """No share lies between them."""
    lots = lots_of(a=1, b=5, c=5)
    assert lots.called("ab") == (("b",), Call(NUMBER, 2, 2))


@pytest.mark.parametrize("round_", range(5))
def test_both_sides_come_to_the_same_agents(round_):
    """Exactly as many as the settings say, and each agent finds for itself whether it is one."""
    state, told = opened(by_number(), NAMES, round_=round_)
    assert len(state.selected) == told.trains.size(0) == 30
    assert {name for name in NAMES if name in told.trains} == state.selected
    assert told.contributors == ()
    assert told.calls["contributors"].without == ()


def test_up_to_the_size_agents_are_named_as_before():
    """With as many as may be named the draw is the seed's, and the message has no new key."""
    config = by_number(**{"sampling.names": 30})
    state, told = opened(config, NAMES)
    assert state.selected == {*draw(NAMES, 30, config.run.seed, 1, Purpose.CONTRIBUTORS)}
    assert (told.contributors, told.calls) == (tuple(sorted(state.selected)), {})
    assert b"calls" not in encode(told)
    everybody = opened(by_number(client_fraction=1.0), NAMES)[1]
    assert (everybody.contributors, everybody.calls) == ("all", {})
    assert opened(by_number(**{"sampling.names": 0}), NAMES)[1].calls == {}


def test_agents_in_quarantine_are_excepted():
    """All others are called, and those whose place is among theirs are named as exceptions."""
    statuses = {name: AgentStatus(2, 9) for name in NAMES[::6]}
    registry = AgentRegistry(
        statuses, seen=dict.fromkeys(NAMES, 1), admitted=dict.fromkeys(NAMES, 1)
    )
    detection = DetectionPolicy(update_sums=True)
    config = replace(by_number(client_fraction=1.0), detection=detection)
    state, told = opened(config, NAMES, registry)
    assert state.selected == {*NAMES}.difference(statuses)
    assert {name for name in NAMES if name in told.trains} == state.selected
    assert 0 < len(told.calls["contributors"].without) <= 10
    assert set(told.calls["contributors"].without) <= statuses.keys()


def test_names_are_told_where_the_exceptions_would_be_as_many():
    """Of sixty agents 54 are in quarantine: their names say less than six names."""
    kept = NAMES[::10]
    statuses = {name: AgentStatus(2, 9) for name in NAMES if name not in kept}
    registry = AgentRegistry(
        statuses, seen=dict.fromkeys(NAMES, 1), admitted=dict.fromkeys(NAMES, 1)
    )
    config = replace(by_number(client_fraction=1.0), detection=DetectionPolicy(update_sums=True))
    _, told = opened(config, NAMES, registry)
    assert (told.contributors, told.calls) == (tuple(sorted(kept)), {})


def test_forced_attackers_are_named():
    """An experiment's attackers contribute whatever their place is."""
    config = replace(by_number(client_fraction=0.2), forced={1: ("agent-3", "agent-4", "agent-5")})
    state, told = opened(config, NAMES)
    assert {"agent-3", "agent-4", "agent-5"} < state.selected
    assert len(state.selected) == 12
    assert {name for name in NAMES if name in told.trains} == state.selected


def test_validators_and_evaluators_have_numbers_of_their_own():
    """All three are told by number, and none of the numbers is that of another."""
    config = replace(
        by_number(validators=20, **{"validation.min_votes": 1}), evaluation=Evaluation(fraction=0.5)
    )
    before = State(GlobalModel(0, vector(0, 0)), 0)
    state, effects = step(before, Tick(0.0, NAMES, can_evaluate=NAMES), config)
    [told] = published(effects, Round)
    assert len({call.number for call in told.calls.values()}) == 3
    assert {name for name in NAMES if name in told.votes} == {*state.validators}
    assert {name for name in NAMES if name in told.measures} == state.evaluators
    assert (len(state.validators), len(state.evaluators)) == (20, 30)


def test_who_votes_in_the_place_of_the_silent_is_told():
    """After the deadline others are asked; each agent still finds for itself whether it is one."""
    config = by_number(validators=20, client_fraction=1.0)
    state, _ = start(config, online=NAMES)
    for name in NAMES:
        state, _ = step(state, Update(name, 1, 0, 1, vector(1, 1)), config)
    state, _ = step(state, Tick(1.0, NAMES), config)
    asked = state.validators
    for name in asked[:5]:
        state, _ = step(state, Vote(name, 1, 1, False, 0.0, 0.0, 9), config)
    state, effects = step(state, Tick(90.0, NAMES), config)
    [told] = published(effects, Round)
    assert told.phase is Phase.VALIDATE
    assert {*state.validators}.intersection(asked) == {*asked[:5]}
    assert {name for name in NAMES if name in told.votes} == {*state.validators}


def test_validators_of_groups_are_named():
    """Which groups each judges follows from its place in the list."""
    config = by_number(validators=20, **{"validation.on": "groups"})
    state, told = opened(config, NAMES)
    assert told.validators == state.validators
    assert "validators" not in told.calls


# What comes in all the same


def test_an_agent_that_is_not_called_is_refused():
    """It is the aggregator that decides, whatever an agent makes of the number."""
    config = by_number()
    state, told = opened(config, NAMES)
    stranger = next(name for name in NAMES if name not in told.trains)
    after, effects = step(state, Update(stranger, 1, 0, 1, vector(1, 1)), config)
    [refused] = effects
    assert isinstance(refused, CountInvalid)
    assert (refused.agent, refused.reason) == (stranger, Reason.NOT_SELECTED)
    assert len(after.updates) == 0


def test_an_agent_that_came_later_is_refused_whatever_its_number():
    """As where all are called: who was not there when the round was opened has no part in it."""
    config = by_number()
    state, told = opened(config, NAMES)
    late = next(name for name in (f"late-{i}" for i in range(99)) if name in told.trains)
    _, [refused] = step(state, Update(late, 1, 0, 1, vector(1, 1)), config)
    assert refused.reason is Reason.NOT_SELECTED


# What the number tells


def test_the_number_is_an_hmac_of_round_and_part():
    """With the aggregator's key it does not depend on the seed."""
    config = by_number(seed=7)
    number = hmac.new(KEY, b"contributors/12", hashlib.sha256).hexdigest()
    assert number_of("contributors", 12, config) == number
    assert number_of("contributors", 12, by_number(seed=8)) == number
    others = {number_of(part, n, config) for part in ("validators", "evaluators") for n in (11, 12)}
    assert len({number, number_of("contributors", 11, config), *others}) == 6


def test_without_a_key_it_follows_from_the_seed():
    """Runs of one seed call the same agents, those of another others."""
    first, again, other = (
        opened(replace(by_number(seed=seed), call_key=b""), NAMES)[0].selected for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


def test_the_draw_does_not_depend_on_the_order_in_which_agents_came():
    """Neither does what they are told, nor on the attempt."""
    config = by_number()
    state, told = opened(config, NAMES)
    assert opened(config, NAMES[::-1])[1] == told
    again, _ = step(state, Tick(99.0, NAMES), config)
    assert (again.attempt, again.selected) == (2, state.selected)


def test_draws_are_even():
    """Over 400 rounds of 30 among 60 each agent is called about 200 times."""
    config, times = by_number(), dict.fromkeys(NAMES, 0)
    for round_ in range(400):
        lots = Lots.of(frozenset(NAMES), number_of("contributors", round_, config))
        for name in lots.lowest(NAMES, 30):
            times[name] += 1
    # Binomial(400, 1/2) has mean 200 and a deviation of 10.
    assert all(abs(count - 200) < 45 for count in times.values())


# How much is said, and what it takes


def test_ten_thousand_agents_are_called_in_less_than_a_kilobyte():
    """Of 20,000; by name it would be 160 KB."""
    names = [f"agent-{i}" for i in range(20_000)]
    state, told = opened(replace(policy(client_fraction=0.5), call_key=KEY), names)
    assert len(state.selected) == 10_000
    assert len(encode(told)) < 400
    named = replace(told, contributors=tuple(sorted(state.selected)), calls={})
    assert len(encode(named)) > 100_000
    # All who share a downlink: found at once, and the same.
    assert {*told.trains.among(frozenset(names))} == state.selected


def test_of_a_hundred_thousand_some_are_drawn_at_once():
    """20 ms of processor time on an idle machine once the names are known; less than 0.2 s."""
    names = frozenset(f"agent-{i}" for i in range(100_000))
    Roll.of(names)
    begun = time.process_time()
    lots = Lots.of(names, NUMBER)
    drawn = lots.lowest(names, 1_000)
    said = lots.called(drawn)
    assert (len(drawn), said.names, said.call.without) == (1_000, (), ())
    assert time.process_time() - begun < 0.2


# On the wire

TOLD = Round(
    3, 1, Phase.TRAIN, 2, ("ann",), (), 9.0, calls={"contributors": Call(NUMBER, 77, 4, ("bob",))}
)


def test_a_call_by_number_as_it_travels():
    """Below the part that it calls for: number, share, count and exceptions."""
    payload = encode(TOLD)
    assert payload == (
        b'{"round":3,"attempt":1,"phase":"train","version":2,"contributors":["ann"],'
        b'"validators":[],"seconds":9.0,"calls":{"contributors":{"number":"'
        + NUMBER.encode()
        + b'",'
        b'"share":77,"count":4,"without":["bob"]}}}'
    )
    assert decode("fl/v2/run/round", payload, Limits()) == TOLD


CALL = {"number": NUMBER, "share": 77, "count": 4}


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ([], Reason.WRONG_TYPE),
        ({"contributors": NUMBER}, Reason.WRONG_TYPE),
        ({"contributors": {"number": NUMBER, "share": 77}}, Reason.MISSING_KEY),
        ({"validators": CALL | {"number": 7}}, Reason.WRONG_TYPE),
        ({"validators": CALL | {"number": NUMBER[2:]}}, Reason.OUT_OF_RANGE),
        ({"validators": CALL | {"number": NUMBER.upper()}}, Reason.OUT_OF_RANGE),
        ({"validators": CALL | {"number": f"{NUMBER}\n"}}, Reason.OUT_OF_RANGE),
        ({"validators": CALL | {"number": NUMBER * 100_000}}, Reason.OUT_OF_RANGE),
        ({"evaluators": CALL | {"share": -1}}, Reason.OUT_OF_RANGE),
        ({"evaluators": CALL | {"share": 2**30 + 1}}, Reason.OUT_OF_RANGE),
        ({"evaluators": CALL | {"share": 0.5}}, Reason.WRONG_TYPE),
        ({"evaluators": CALL | {"share": True}}, Reason.WRONG_TYPE),
        ({"evaluators": CALL | {"count": -1}}, Reason.OUT_OF_RANGE),
        ({"evaluators": CALL | {"without": "ann"}}, Reason.WRONG_TYPE),
        ({"evaluators": CALL | {"without": ["a/b"]}}, Reason.OUT_OF_RANGE),
        ({"evaluators": CALL | {"without": ["a"] * (MAX_EXCEPTIONS + 1)}}, Reason.OUT_OF_RANGE),
    ],
)
def test_a_call_that_is_none_is_refused(calls, reason):
    """With a reason, and the round with it."""
    payload = json.dumps(json.loads(encode(TOLD)) | {"calls": calls}).encode()
    with pytest.raises(BadMessage) as refused:
        decode("fl/v2/run/round", payload, Limits())
    assert refused.value.reason is reason


def test_what_later_versions_call_for_is_skipped():
    """A part that we do not know, or a key beside ours, changes nothing."""
    content = json.loads(encode(TOLD))
    content["calls"]["auditors"] = "some"
    content["calls"]["contributors"]["until"] = 9
    assert decode("fl/v2/run/round", json.dumps(content).encode(), Limits()) == TOLD


def test_places_are_spread_evenly():
    """Half of many names are in the lower half: 50,000 of 100,000, with a deviation of 158."""
    found = Roll.of(frozenset(f"agent-{i}" for i in range(100_000))).places(NUMBER)
    assert abs(int(np.count_nonzero(found < WHOLE // 2)) - 50_000) < 5 * 158
