"""What crosses a real broker under secure aggregation: nobody's update, and what does is noise.

What agents have trained is worked out again, in the clear, from what the broker saw: the same
models and rounds. So the test knows what to look for.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from support.listening import RawClient, until
from support.network import KIND, RUN, ended
from support.network import federation as open_federation
from support.secure_net import AGENTS, TO_AGENTS, TO_THE_AGGREGATOR, decoded, true_updates

from fedjury.protocol.codec import encode
from fedjury.protocol.compression import compress
from fedjury.protocol.messages import Manifest, Model, Update
from fedjury.protocol.secure import MaskedUpdate, SecurePeers
from fedjury.secure.fixed_point import FixedPoint, packed, unpacked

ROUNDS = 3
CODECS = "float32", "float16", "int8", "int7"
WORD = 8
"""Bytes that are looked for in one piece."""
ALMOST_NEVER = {16: 76.0, 256: 413.0}
"""Kinds of values -> a sum of squares that noise is above once in a thousand million times."""


@pytest.fixture(scope="module")
def wire(tmp_path_factory):
    """Run a federation, and keep all that crosses its broker: topics and payloads, in order."""
    with (
        open_federation(KIND, tmp_path_factory.mktemp("wire")) as programs,
        RawClient(programs.address, "#") as everything,
    ):
        server = programs.aggregator(*TO_THE_AGGREGATOR, "--rounds", str(ROUNDS))
        ended(server, programs.agents(*TO_AGENTS))
        records = programs.records()
        last = f"fl/v2/{RUN}/log/round"
        until(lambda: sum(m.topic == last for m in list(everything.heard)) > ROUNDS)
        heard = [(m.topic, m.payload) for m in everything.heard if m.payload]
    assert [(r.updates, r.accepted, r.traffic.invalid_messages) for r in records] == [
        (AGENTS, True, {})
    ] * ROUNDS
    return heard


@pytest.fixture(scope="module")
def trained(wire):
    """Return what each agent has trained in each round: (round, agent) -> (d,)."""
    return {key: update.delta for key, update in true_updates(wire, RUN).items()}


@pytest.fixture(scope="module")
def groups(wire):
    """Return who was told what of its group: (round, group) -> SecurePeers of each member."""
    found = defaultdict(list)
    for said in decoded(wire):
        if isinstance(said, SecurePeers):
            found[said.round, said.group].append(said)
    return found


def masked(wire):
    """Return what stands under masks: (round, agent) -> bytes."""
    said = (message for message in decoded(wire) if isinstance(message, MaskedUpdate))
    return {(one.round, one.agent): one.data for one in said}


def words(data, step):
    """Return the words in some bytes, one in ``step``, but for such as are found by chance."""
    bytes_ = np.frombuffer(data, np.uint8)
    found = np.lib.stride_tricks.sliding_window_view(bytes_, WORD)[::step]
    distinct = (np.diff(np.sort(found, axis=1), axis=1) > 0).sum(axis=1) + 1
    return np.ascontiguousarray(found[distinct > WORD // 2]).view("<u8")[:, 0]


def plain(update, peers):
    """Return all that would give an update away: its bytes in each codec, and without a mask."""
    forms = {codec: compress(update, codec).data for codec in CODECS}
    fixed = FixedPoint(peers.clip, peers.bits, peers.members)
    return forms | {"unmasked": packed(fixed.encode(update, 1.0), peers.bits)}


def squares(values, kinds):
    """Return how far values are from being equally frequent: chi squared."""
    counts = np.bincount(values, minlength=kinds)
    expected = len(values) / kinds
    return ((counts - expected) ** 2).sum() / expected


def nibbles(data):
    """Return the halves of bytes; the last number may be one of nothing, so it is left out."""
    values = np.frombuffer(data, np.uint8)[:-3]
    return np.concatenate([values & 15, values >> 4])


def test_what_is_looked_for_is_what_agents_have_trained(wire, trained):
    """The mean of what was worked out is the step of the model, to the rounding of the sum."""
    models = {said.version: said.weights for said in decoded(wire) if isinstance(said, Model)}
    for number in range(1, ROUNDS + 1):
        mean = np.mean([trained[number, name] for at, name in trained if at == number], axis=0)
        step = models[number] - models[number - 1]
        assert np.abs(mean).max() > 1e-3
        np.testing.assert_allclose(step, mean, atol=2e-4)


def test_no_update_crosses_the_broker(wire, trained, groups):
    """Of nobody's update are there eight bytes in a row, in any codec, or as whole numbers."""
    payloads = b"".join(payload for _, payload in wire)
    assert len(payloads) > AGENTS * ROUNDS * 6_000
    told = {(said.round, said.agent): said for members in groups.values() for said in members}
    assert told.keys() == trained.keys()
    forms = {
        (*key, form): words(data, WORD)
        for key, update in trained.items()
        for form, data in plain(update, told[key]).items()
    }
    assert all(len(of_one) > 20 for of_one in forms.values())
    every = np.unique(np.concatenate([*forms.values()]))
    assert not np.isin(every, words(payloads, 1)).any()


def test_an_update_would_be_seen(trained, groups):
    """Had an agent sent its update, in whichever codec, its words would be on the wire."""
    [key, update], said = next(iter(trained.items())), groups[1, 0][0]
    for codec in CODECS:
        payload = encode(Update(key[1], key[0], 0, 20, update), codec)
        there = np.isin(words(plain(update, said)[codec], WORD), words(payload, 1))
        assert there.all()


def test_updates_under_masks_are_noise(wire, trained, groups):
    """Each for itself, and all of them: every byte as often as any other. Without masks not."""
    under = masked(wire)
    assert under.keys() == trained.keys()
    for data in under.values():
        assert squares(nibbles(data), 16) < ALMOST_NEVER[16]
    together = np.concatenate([np.frombuffer(data, np.uint8)[:-3] for data in under.values()])
    assert squares(together, 256) < ALMOST_NEVER[256]
    for members in groups.values():
        for said in members:
            bare = plain(trained[said.round, said.agent], said)["unmasked"]
            assert squares(nibbles(bare), 16) > 10 * ALMOST_NEVER[16]


def test_the_sum_of_a_group_is_noise_until_its_members_open_it(wire, groups):
    """Masks of two neighbours cancel out; each one's own is still in it."""
    [manifest] = {said.parameters for said in decoded(wire) if isinstance(said, Manifest)}
    under = masked(wire)
    for members in groups.values():
        bits = members[0].bits
        sums = [unpacked(under[s.round, s.agent], manifest + 1, bits) for s in members]
        total = packed(np.sum(sums, axis=0, dtype=np.uint32), bits)
        assert len(sums) == AGENTS // 2
        assert squares(nibbles(total), 16) < ALMOST_NEVER[16]


def test_who_is_with_whom_is_all_that_agents_are_told(wire, groups):
    """Each hears of its own neighbours, on its own topic; keys are never used twice."""
    keys = [key for members in groups.values() for said in members for key in _keys(said)]
    used = defaultdict(set)
    for owner, turn, key in keys:
        used[key].add((owner, turn))
    assert len(used) == 2 * AGENTS * ROUNDS
    assert all(len(whose) == 1 for whose in used.values())
    for topic, payload in wire:
        if "/secure/peers/" in topic:
            [said] = decoded([(topic, payload)])
            assert topic.endswith(f"/{said.agent}")


def _keys(said):
    """Go through the keys that an agent is told: whose each is, and of which round."""
    turn = said.round, said.attempt
    for place, name in enumerate(said.names.split(" ")):
        for kind in (said.mask_keys, said.box_keys):
            yield name, turn, kind[32 * place : 32 * place + 32]
