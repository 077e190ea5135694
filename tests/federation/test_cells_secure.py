"""Secure aggregation in cells: a group is of one cell, and only its sum leaves it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support.cells import CellFederation
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture
from support.secure_sums import OpenedOnTheWire

from fedjury.aggregator.in_cells import check_cells
from fedjury.protocol import codec
from fedjury.protocol.cells import GroupSum, GroupSumRequest
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import Update
from fedjury.protocol.secure import (
    MaskedUpdate,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    UnmaskRequest,
    UnmaskShares,
)
from fedjury.protocol.topics import USUAL
from fedjury.round.state import Training
from fedjury.secure.group import Group, Step

pytestmark = pytest.mark.usefixtures("one_thread")

SECURE = {
    "groups__size": 5,
    "groups__secure": True,
    "groups__by_seed": True,
    "groups__colluding": 0.2,
    "groups__drop_outs": 0.2,
    "groups__seconds": 4.0,
    "validation__validators": 5,
    "run__rounds": 3,
}
"""Twenty agents in groups of five, drawn by the seed so that runs can be compared."""


class Heard:
    """What cells were asked for and what they told, as the core's broker sees it."""

    def __init__(self, federation):
        self.asked: list[GroupSumRequest] = []
        self.sums: list[GroupSum] = []
        self.kinds: list[type] = []
        self.opened = OpenedOnTheWire()
        federation.broker.listeners += [self.hear, self.opened]

    def hear(self, topic, payload):
        """Take a message."""
        kind = USUAL.parse(topic).kind
        self.kinds.append(kind)
        if kind is GroupSumRequest:
            self.asked.append(codec.decode(topic, payload, Limits()))
        if kind is GroupSum:
            self.sums.append(codec.decode(topic, payload, Limits()))

    def check(self):
        """Make sure that nobody can subtract one sum from another, or sees a single update."""
        self.opened.check()
        assert MaskedUpdate not in self.kinds
        assert Update not in self.kinds
        chosen, told = {}, {}
        for one in self.asked:
            if one.survivors:
                key = one.cell, one.round, one.attempt, one.group
                assert chosen.setdefault(key, one.survivors) == one.survivors
        for one in self.sums:
            if one.data:
                key = one.cell, one.round, one.attempt, one.group, one.session
                assert told.setdefault(key, one.data) == one.data


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Run two cells to the end, with nothing happening to them."""
    return CellFederation(tmp_path_factory.mktemp("two"), cells=2, **SECURE).whole()


def test_one_cell_gives_the_bits_of_none(tmp_path):
    """Its groups are the same, and a sum is the same whoever adds it up."""
    plain = Federation(tmp_path / "plain", **SECURE).whole()
    kept = CellFederation(tmp_path / "kept", cells=1, **SECURE).whole()
    assert kept.models == plain.models
    assert [r.groups.groups for r in kept.records] == [r.groups.groups for r in plain.records]


@pytest.mark.parametrize("cells", [2, 4])
def test_groups_are_of_one_cell_and_their_sums_are_exact(cells, tmp_path):
    """All twenty are in sums each round: the model is the mean's in the clear, to the rounding."""
    kept = CellFederation(tmp_path / "kept", cells=cells, **SECURE)
    heard = Heard(kept)
    kept.whole()
    heard.check()
    clear = Federation(tmp_path / "clear", **SECURE | {"groups__secure": False, "groups__size": 1})
    clear.whole()
    np.testing.assert_allclose(kept.state.weights, clear.state.weights, atol=3 * 3 * 6e-5)
    cell_of = {name: n for n, fleet in enumerate(kept.fleets) for name in fleet.connections.of}
    for record in kept.records:
        assert (record.updates, record.missing, record.traffic.invalid_messages) == (20, 0, {})
        for group in record.groups.groups.values():
            assert len({cell_of[name] for name in group.members}) == 1


def test_what_goes_up_of_a_group_is_one_sum(tmp_path):
    """Of 2,410 parameters at 20 bits a masked update is 6 kB: one a group goes up, not five."""
    kept = CellFederation(tmp_path, cells=2, **SECURE | {"run__rounds": 1})
    heard, masked = Heard(kept), []
    for edge in kept.edges:
        edge.listeners.append(
            lambda topic, payload: (
                masked.append(len(payload)) if USUAL.parse(topic).kind is MaskedUpdate else None
            )
        )
    kept.whole()
    [sums] = {len(one.data) for one in heard.sums if one.data}
    assert len({one.group for one in heard.sums}) == 4
    assert len(masked) == 20
    assert 6000 < sums < min(masked) < sums + 100


def test_votes_on_groups_work_on_their_sums(tmp_path):
    """Two fakes, whose groups are voted down; what is judged are means, as without cells."""
    setup = SECURE | {
        "validation__on": "groups",
        "validation__validators": 10,
        "validation__quorum": 5,
        "validation__judge": "robust",
        "validation__look_back": 6,
        "validation__minimum_history": 5,
        "agents__malicious": 0.1,
        "agents__attack": "mpaf",
        "agents__scale": 1e6,
        "agents__start": 8,
        "run__rounds": 9,
    }
    done = CellFederation(tmp_path, cells=2, **setup).whole()
    assert all(record.accepted for record in done.records)
    for record in done.records[7:]:
        assert 1 <= len(record.groups.left_out) <= 2


def test_a_cell_with_too_few_agents_sits_out_and_is_counted(tmp_path):
    """Two of seven agents are in a cell of their own: a sum of two would tell too much."""
    few = SECURE | {"agents__n": 7, "groups__size": 3, "validation__validators": 0}
    few |= {"run__rounds": 1, "groups__colluding": 0.0, "groups__drop_outs": 0.0}
    done = CellFederation(tmp_path, cells=3, **few).whole()  # 2, 2 and 3 agents
    [record] = done.records
    assert (record.accepted, record.updates) == (True, 3)
    lost = sorted(group.why for group in record.groups.groups.values() if group.why)
    assert lost == [f"lost: cell {cell} has 2 agents for it, 3 are needed" for cell in (1, 2)]


# ---------------------------------------------------------------- who leaves


class OneByOne(CellFederation):
    """Two cells of ten agents, each of them in a process of its own."""

    def fleet(self, population, numbers):
        """Let an agent join the first cell or the second, by its number."""
        self.joined = numbers[0] // 10
        return super().fleet(population, numbers)

    def join(self, fleets=1):
        """Let each agent join by itself."""
        super().join(20 if self.edges else fleets)


def run_with_leavers(done, after, most, together=lambda _: True):
    """Run to the end; up to so many agents leave without a goodbye once they have said that."""
    heard, gone = [], []

    def hear(topic, _):
        place = USUAL.parse(topic)
        if place.kind is after:
            heard.append(place.field["agent"])

    for edge in done.edges:
        edge.listeners.append(hear)

    def part(state):
        while heard:
            name = heard.pop(0)
            if len(gone) < most and name not in gone and together([*gone, name]):
                gone.append(name)
                fleet = next(f for f in done.fleets if name in f.connections.of)
                fleet.transport.vanish()
                done.fleets.remove(fleet)

    done.begin()
    done.run(part)
    done.aggregator.end()
    return gone


@pytest.mark.parametrize(
    ("after", "left_out"), [(SecureKeys, 1), (SecureShares, 1), (MaskedUpdate, 0)]
)
def test_one_of_five_may_leave_after_any_step(after, left_out, tmp_path):
    """Its group is opened without it, or with it where its cell had its update."""
    done = OneByOne(tmp_path, cells=2, **SECURE | {"run__rounds": 2})
    heard = Heard(done)
    [gone] = run_with_leavers(done, after, 1)
    heard.check()
    first, second = done.records
    assert (first.accepted, first.updates) == (True, 20 - left_out)
    assert first.groups.left_out == ()
    members = {name for group in first.groups.groups.values() for name in group.members}
    assert (gone in members) == (not left_out)
    assert second.updates == 19


def test_a_group_that_lost_too_many_is_lost_and_the_round_is_not(tmp_path):
    """Three of five leave after their shares: fifteen others make the model."""
    done = OneByOne(tmp_path, cells=2, **SECURE | {"run__rounds": 1})
    heard = Heard(done)

    def together(names):
        group = done.state.phase.secure.group_of
        return len({group[name] for name in names}) == 1

    assert len(run_with_leavers(done, SecureShares, 3, together)) == 3
    heard.check()
    [record] = done.records
    assert (record.accepted, record.updates) == (True, 15)
    [lost] = [group.why for group in record.groups.groups.values() if group.why]
    assert lost == "lost: 2 of 5 agents sent masked updates, 3 are needed"


# ---------------------------------------------------------------- what is lost


def groups_of(federation, cell):
    """Return the groups of a cell, in the round at hand."""
    phase = federation.state.phase
    if federation.state.round != 2 or not isinstance(phase, Training) or phase.secure is None:
        return []
    return [g for g in phase.secure.groups.values() if isinstance(g, Group) and g.cell == cell]


def run_until(federation, cell, step):
    """Run until a group of a cell is at a step, in round 2."""
    federation.run(lambda _: any(g.step is step for g in groups_of(federation, cell)))


@pytest.mark.parametrize("step", [Step.KEYS, Step.SHARES, Step.UPDATES])
def test_a_worker_replaced_before_a_sum_is_asked_for_costs_nothing(step, undisturbed, tmp_path):
    """Agents are asked again, and send the next worker the very same masked updates."""
    done = CellFederation(tmp_path, cells=2, **SECURE)
    heard = Heard(done)
    done.begin()
    done.bridges[1].lost = lambda kind: done.state.round == 2 and kind is GroupSum
    run_until(done, 2, step)
    done.bridges[1].lost = lambda _: False
    done.replace_worker(2)
    done.run()
    heard.check()
    assert done.models == undisturbed.models
    assert [record.attempt for record in done.records] == [1, 1, 1]
    assert [record.traffic.invalid_messages for record in done.records] == [{}] * 3


def test_a_worker_replaced_when_its_sum_is_asked_for_loses_its_groups(tmp_path):
    """Those of the other cell make the model; nobody asks for another sum in that attempt."""
    done = CellFederation(tmp_path, cells=2, **SECURE)
    heard = Heard(done)
    done.begin()
    done.bridges[1].lost = lambda kind: (
        kind is GroupSum and bool([g for g in groups_of(done, 2) if g.step is Step.SUM])
    )
    run_until(done, 2, Step.SUM)
    done.bridges[1].lost = lambda _: False
    done.replace_worker(2)
    done.run()
    heard.check()
    second = done.records[1]
    lost = {group.why for group in second.groups.groups.values() if group.why}
    assert lost == {"lost: the ingest worker of cell 2 was replaced, and what it had is gone"}
    assert second.accepted
    assert second.updates in (10, 15)
    assert [done.records[at].updates for at in (0, 2)] == [20, 20]


def test_a_round_whose_groups_are_all_lost_is_tried_again_with_other_keys(undisturbed, tmp_path):
    """The only cell loses its worker: the same sums are opened in the second attempt."""
    whole = CellFederation(tmp_path / "whole", cells=1, **SECURE).whole()
    done = CellFederation(tmp_path / "cut", cells=1, **SECURE)
    heard = Heard(done)
    done.begin()
    done.run(lambda state: state.round == 2)
    done.bridges[0].lost = lambda kind: kind is GroupSum
    done.run(lambda state: state.attempt == 2)
    done.bridges[0].lost = lambda _: False
    done.run()
    heard.check()
    assert [record.attempt for record in done.records] == [1, 2, 1]
    assert done.models == whole.models


@pytest.mark.parametrize("after", [SecureShares, GroupSumRequest, GroupSum, UnmaskShares])
def test_an_aggregator_that_is_killed_opens_no_sum_that_overlaps(after, undisturbed, tmp_path):
    """What cells have is of keys that nobody goes on with: they begin again. The same models."""
    cut = CellFederation(tmp_path, cells=2, **SECURE)
    heard = Heard(cut)
    cut.begin()
    cut.run(lambda state: state.round == 2)
    before = heard.kinds.count(after)
    cut.run(lambda _: heard.kinds.count(after) > before + 2)
    cut.crash()
    cut.begin()
    cut.run()
    cut.aggregator.end()
    heard.opened.check()
    assert cut.models == undisturbed.models
    assert [record.updates for record in cut.records] == [20, 20, 20]


@pytest.mark.parametrize(
    "lost", [GroupSumRequest, GroupSum, SecureInbox, SecurePeers, UnmaskRequest]
)
def test_what_a_bridge_loses_is_told_once_more(lost, undisturbed, tmp_path):
    """The first message of a kind in each round, either way: nobody is missing."""
    done = CellFederation(tmp_path, cells=2, **SECURE)
    seen = set()

    def drop(kind):
        if kind is not lost or done.state.round in seen:
            return False
        seen.add(done.state.round)
        return True

    done.begin()
    done.bridges[1].lost = drop
    done.run()
    assert seen == {1, 2, 3}
    assert done.models == undisturbed.models
    assert [record.missing for record in done.records] == [0, 0, 0]


# ---------------------------------------------------------------- what is refused


def test_what_a_cell_refuses_of_masked_updates_is_counted_with_its_reasons(undisturbed, tmp_path):
    """Just as some are asked for: what else is sent is heard, and not taken."""
    done = CellFederation(tmp_path, cells=2, **SECURE)
    done.begin()
    run_until(done, 1, Step.SHARES)
    there = next(iter(done.fleets[1].connections.of))
    sent = []

    def hostile(topic, _):
        place = USUAL.parse(topic)
        if place.kind is not SecureInbox or sent:
            return
        name = place.field["agent"]
        one = next(g for g in groups_of(done, 1) if name in g.awaited)
        size = -(-one.length // 2) * one.fixed.bits // 4
        sent.extend(
            [
                MaskedUpdate(name, 1, 1, one.version, bytes(size)),
                MaskedUpdate(name, 2, 2, one.version, bytes(size)),
                MaskedUpdate(name, 2, 1, one.version + 1, bytes(size)),
                MaskedUpdate(name, 2, 1, one.version, bytes(size - 5)),
                MaskedUpdate("stranger", 2, 1, one.version, bytes(size)),
                MaskedUpdate(there, 2, 1, one.version, bytes(size)),  # it is of the other cell
                Update(name, 2, one.version, 40, np.zeros(2410, np.float32)),
            ]
        )
        for message in sent:
            done.edges[0].publish(done.topics.of("lab", message), codec.encode(message))

    done.edges[0].listeners.append(hostile)
    done.run()
    assert done.records[1].traffic.invalid_messages == {
        "wrong_round": 2,
        "wrong_version": 1,
        "wrong_length": 1,
        "not_selected": 2,
        "wrong_phase": 1,
    }
    assert done.models == undisturbed.models


def test_a_masked_update_that_comes_up_by_itself_is_not_added(undisturbed, tmp_path):
    """As a bridge that is set up wrongly would let it: it is counted, and left where it is."""
    done = CellFederation(tmp_path, cells=2, **SECURE)
    done.begin()
    run_until(done, 1, Step.UPDATES)
    one = next(g for g in groups_of(done, 1) if g.step is Step.UPDATES)
    size = -(-one.length // 2) * one.fixed.bits // 4
    message = MaskedUpdate(min(one.awaited), 2, 1, one.version, bytes(size))
    done.broker.publish(done.topics.of("lab", message), codec.encode(message))
    done.run()
    assert done.records[1].traffic.invalid_messages == {"wrong_phase": 1}
    assert done.models == undisturbed.models


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups__secure": False, "groups__by_seed": False}, "groups.size other than 1 cannot"),
        ({"groups__fixed": True}, "groups.fixed cannot be had with groups.secure where cells"),
        ({"validation__piggy_back": True}, "votes with updates (piggy-back) cannot be had"),
        (
            {"validation__decide": "pooled", "validation__judge": "robust"},
            "validation.decide = 'pooled' cannot be had with groups.secure where cells",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_run(change, words):
    """In one sentence."""
    with pytest.raises(ValueError, match=re.escape(words)):
        check_cells(settings_of(**(SECURE | {"cells__count": 2} | change)))
