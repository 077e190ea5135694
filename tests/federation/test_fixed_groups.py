"""Groups that stay together, in whole federations: over rounds, restarts, comings and goings."""

from __future__ import annotations

import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture
from support.secure_sums import OpenedOnTheWire

from fedjury.agents.assembly import simulated_agents_of
from fedjury.protocol import codec
from fedjury.protocol.messages import Presence, RoundLog
from fedjury.protocol.secure import MaskedUpdate, SecureKeys, SecureShares
from fedjury.protocol.topics import USUAL
from fedjury.round.state import Waiting

pytestmark = pytest.mark.usefixtures("one_thread")

FIXED = {
    "groups__size": 5,
    "groups__secure": True,
    "groups__fixed": True,
    "groups__colluding": 0.2,
    "groups__drop_outs": 0.2,
    "run__rounds": 3,
}
"""Twenty agents in four groups of five, which stay together; drawn by a key."""


class Heard(OpenedOnTheWire):
    """Checks also that over the whole run no two sums overlap in part."""

    @property
    def ever(self):
        """Return whose updates were in each sum that was opened."""
        return {sum_ for sums in self.sums.values() for sum_ in sums}

    def check(self):
        """Make sure of both."""
        super().check()
        for one in self.ever:
            for other in self.ever:
                assert one == other or one.isdisjoint(other), (sorted(one), sorted(other))


def watched(federation):
    heard = Heard()
    federation.broker.listeners.append(heard)
    return heard


def groups_in(record):
    """Return the members of the groups that were aggregated."""
    return {group.members for group in record.groups.groups.values() if not group.why}


def leave(done, *names):
    """Let these agents go, each of which has a process of its own, as their last will says."""
    for fleet in [f for f in done.fleets if not set(names).isdisjoint(f.connections.of)]:
        fleet.transport.vanish()
        done.fleets.remove(fleet)
    for name in names:
        will = Presence(name, online=False, since=0.0)
        done.broker.publish(USUAL.of("lab", will), codec.encode(will), retain=True)


def come(done, *names):
    """Let these agents join, each in a process of its own."""
    population = simulated_agents_of(done.settings)
    numbers = {population.spec.name(number): number for number in range(population.spec.n)}
    done.fleets += [
        done.fleet(population, range(numbers[name], numbers[name] + 1)) for name in names
    ]


def after(done, round_):
    """Run until so many rounds are over."""
    done.run(lambda _: len(done.records) >= round_)
    return done.records[round_ - 1]


def test_groups_stay_together_over_the_rounds(tmp_path):
    """The same four groups in all three rounds; without the setting they are others each time."""
    done = Federation(tmp_path / "fixed", **FIXED)
    heard = watched(done)
    done.whole()
    heard.check()
    assert len(heard.ever) == 4
    first, *others = map(groups_in, done.records)
    assert all(groups == first for groups in others)
    assert [record.updates for record in done.records] == [20, 20, 20]
    changing = Federation(tmp_path / "not", **FIXED | {"groups__fixed": False}).whole()
    assert len({frozenset(groups_in(record)) for record in changing.records}) == 3


def test_by_the_seed_they_are_the_same_in_another_run(tmp_path):
    """With by_seed: the same groups and models, whoever runs it; by a key other groups."""
    seed = FIXED | {"groups__by_seed": True}
    one, other = (Federation(tmp_path / name, **seed).whole() for name in "ab")
    assert groups_in(one.records[2]) == groups_in(other.records[2])
    assert one.models == other.models
    secret = Federation(tmp_path / "c", **FIXED).whole()
    assert groups_in(secret.records[2]) != groups_in(one.records[2])


@pytest.mark.parametrize("said", [SecureKeys, SecureShares, MaskedUpdate])
def test_they_stay_together_when_the_aggregator_is_started_again(said, tmp_path):
    """Killed in mid-step of round 2, and again in round 3: the four groups of round 1."""
    done = Federation(tmp_path, **FIXED)
    heard = watched(done)
    for number in (2, 3):
        seen = []
        note = lambda topic, _, n=number, s=seen: (  # noqa: E731
            s.append(topic) if USUAL.parse(topic).kind is said and done.state.round == n else None
        )
        done.begin()
        done.broker.listeners.append(note)
        done.run(lambda _, s=seen: len(s) > 9)
        done.broker.listeners.remove(note)
        done.crash()
    done.begin()
    done.run()
    heard.check()
    assert len(heard.ever) == 4
    assert {frozenset(groups_in(record)) for record in done.records} == {
        frozenset(groups_in(done.records[0]))
    }


def test_whole_groups_are_selected(tmp_path):
    """Half of the agents a round: two of the four groups, others in other rounds."""
    done = Federation(tmp_path, **FIXED | {"sampling__client_fraction": 0.5, "run__rounds": 8})
    heard = watched(done)
    done.whole()
    heard.check()
    assert [record.updates for record in done.records] == [10] * 8
    assert [len(groups_in(record)) for record in done.records] == [2] * 8
    assert len(heard.ever) == 4


def test_a_group_of_which_somebody_left_sits_out_until_it_is_back(tmp_path):
    """One of twenty leaves after round 1: fifteen train until it is back; the record says why."""
    done = Federation(tmp_path, fleets=20, **FIXED | {"run__rounds": 4})
    heard = watched(done)
    done.begin()
    gone = min(groups_in(after(done, 1)))[0]
    leave(done, gone)
    after(done, 2)
    second = after(done, 3)
    assert second.updates == 15
    [out] = [group for group in second.groups.groups.values() if group.why]
    assert out.why == "lost: 4 of its 5 agents are there, all are needed"
    come(done, gone)
    done.run()
    heard.check()
    assert len(heard.ever) == 4


@pytest.mark.parametrize("said", [SecureKeys, SecureShares])
def test_a_group_that_somebody_leaves_in_the_middle_is_lost_for_the_round(said, tmp_path):
    """Its sum is not opened without that one; the other three groups make the model."""
    done = Federation(tmp_path, fleets=20, **FIXED | {"run__rounds": 1})
    heard, gone = watched(done), []

    def note(topic, _):
        if USUAL.parse(topic).kind is said and not gone:
            gone.append(USUAL.parse(topic).field["agent"])

    done.broker.listeners.append(note)

    def part(_):
        leave(done, *gone)
        return False

    done.begin()
    done.run(part)
    heard.check()
    record = done.records[0]
    assert (record.accepted, record.updates) == (True, 15)
    [out] = [group for group in record.groups.groups.values() if group.why]
    assert out.why.startswith("lost: 4 of 5 agents sent")
    assert out.why.endswith("5 are needed")


def test_who_comes_late_is_in_a_new_group_once_there_are_enough(tmp_path):
    """Ten are there at first, in two groups; three more wait, with two more they are a third."""
    done = Federation(tmp_path, fleets=20, **FIXED | {"run__rounds": 6, "collect__agents": 10})
    heard = watched(done)
    names = sorted(name for fleet in done.fleets for name in fleet.connections.of)
    leave(done, *names[10:])
    done.begin()
    first = groups_in(after(done, 1))
    assert sorted(name for group in first for name in group) == names[:10]
    come(done, *names[10:13])
    after(done, 2)
    assert groups_in(after(done, 3)) == first
    come(done, *names[13:15])
    done.run()
    heard.check()
    assert groups_in(done.records[5]) == first | {tuple(names[10:15])}


def test_a_run_without_a_whole_group_waits_for_it(tmp_path):
    """One of each group leaves: people are told why nothing goes on, once; then they are back.

    As soon as the agents that a round needs are in whole groups it goes on: with all four of them.
    """
    waits = {"collect__wait": True, "collect__every": 2.0, "collect__min_updates": 16}
    done = Federation(tmp_path, fleets=20, **FIXED | waits | {"run__rounds": 2})
    heard, notes = watched(done), []
    done.begin()
    gone = [group[0] for group in groups_in(after(done, 1))]
    assert isinstance(done.state.phase, Waiting)

    def note(topic, payload):
        message = USUAL.parse(topic)
        if message.kind is RoundLog and b'"attempt"' in payload:
            notes.append(payload)

    done.broker.listeners.append(note)
    leave(done, *gone)
    done.run(lambda _: notes)
    for _ in range(100):
        done.turn()
    repeated = [text for text in notes if b"waiting for more agents" in text]
    assert len(repeated) == 1
    assert b"4 of its 5 agents are there, all are needed" in repeated[0]
    assert len(done.records) == 1
    come(done, *gone)
    done.run()
    heard.check()
    assert [record.updates for record in done.records] == [20, 20]
