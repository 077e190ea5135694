"""Secure aggregation in whole federations: the same means, whoever leaves; no sums that overlap."""

from __future__ import annotations

import re
from itertools import count

import numpy as np
import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture
from support.secure_sums import OpenedOnTheWire

from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import Presence, RoundLog, Update, Vote
from fedjury.protocol.secure import (
    MaskedUpdate,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    UnmaskShares,
)
from fedjury.protocol.topics import USUAL
from fedjury.round.state import Voting

pytestmark = pytest.mark.usefixtures("one_thread")

SECURE = {
    "groups__size": 5,
    "groups__secure": True,
    "groups__by_seed": True,
    "groups__colluding": 0.2,
    "groups__drop_outs": 0.2,
    "run__rounds": 3,
}
"""Twenty agents in four groups of five, drawn by the seed so that runs can be compared."""

INJECTION = {
    "groups__size": 0,
    "run__rounds": 12,
    "agents__samples": 90,
    "data__server": 0.25,
    "training__epochs": 2,
    "agents__malicious": 0.05,
    "agents__attack": "backdoor",
    "backdoor__inject": [12],
    "backdoor__replaces": "group",
    "backdoor__learning_rate": 0.1,
    "backdoor__epochs": 10,
    "backdoor__share": 0.5,
    "validation__decide": "pooled",
    "validation__judge": "robust",
    "validation__tolerated_malicious": 1,
    "validation__validators": 12,
    "validation__look_back": 10,
}
"""One group of all, whose mean one agent makes its own in round 12."""

VOTES = {
    "validation__on": "groups",
    "validation__validators": 10,
    "validation__quorum": 5,
    "validation__judge": "robust",
    "validation__look_back": 6,
    "validation__minimum_history": 5,
    "run__rounds": 10,
}


def watched(federation):
    """Let the sums that are opened be checked; returns them."""
    sums = OpenedOnTheWire()
    federation.broker.listeners.append(sums)
    return sums


def weights(federation):
    return [np.frombuffer(bits, np.float32) for bits in federation.models.values()]


def test_means_are_those_of_the_clear(tmp_path):
    """To the rounding: 14 bits of a box of .5 either way are steps of 6e-5; nobody was clipped."""
    clear = Federation(tmp_path / "clear", **SECURE | {"groups__secure": False}).whole()
    masked = Federation(tmp_path / "masked", **SECURE)
    sums = watched(masked)
    masked.whole()
    sums.check()
    for one, other in zip(weights(clear)[1:], weights(masked)[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=3 * 6e-5)
    assert [len(each) for each in sums.sums.values()] == [4] * 3
    for record in masked.records:
        assert (record.updates, record.missing, record.traffic.invalid_messages) == (20, 0, {})
        assert len(record.groups.groups) == 4
        assert record.groups.clip > 0


def test_hidden_samples_weigh_as_told_ones_do(tmp_path):
    """Agents who hold more or fewer than 40: nobody is told, and the mean is the same."""
    unequal = SECURE | {"agents__samples": "uniform(10, 70)", "run__rounds": 2}
    told = Federation(tmp_path / "told", **unequal).whole()
    hidden = Federation(tmp_path / "hidden", **unequal | {"groups__hidden_samples": 320})
    said = []
    hidden.broker.listeners.append(
        lambda topic, payload: (
            said.append(codec.decode(topic, payload, Limits()).samples)
            if USUAL.parse(topic).kind is SecureKeys
            else None
        )
    )
    hidden.whole()
    assert set(said) == {0}
    for one, other in zip(weights(told)[1:], weights(hidden)[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_no_update_is_ever_sent_by_itself(tmp_path):
    """Of the updates that agents send there are none: only what stands under masks."""
    done = Federation(tmp_path, **SECURE)
    kinds = []
    done.broker.listeners.append(lambda topic, _: kinds.append(USUAL.parse(topic).kind))
    done.whole()
    assert Update not in kinds
    assert kinds.count(MaskedUpdate) == 3 * 20


def test_an_update_without_masks_does_not_count(tmp_path):
    """Whoever sends one all the same, as one that knows nothing of masks would: it is refused."""
    done = Federation(tmp_path, **SECURE | {"run__rounds": 1})
    done.begin()
    done.run(lambda state: state.round == 1)
    update = Update("agent-07", 1, 0, 40, np.zeros(2410, np.float32))
    done.broker.publish(USUAL.of("lab", update), codec.encode(update))
    done.run()
    [record] = done.records
    assert (record.updates, record.traffic.invalid_messages) == (20, {"wrong_phase": 1})


def test_who_was_heard_first_changes_nothing(tmp_path):
    """The same models from one process as from three whose messages come in another order."""
    one = Federation(tmp_path / "one", **SECURE).whole()
    other = Federation(tmp_path / "three", fleets=3, **SECURE)
    other.inbox_order = np.random.default_rng(3)
    assert other.whole().models == one.models


def test_groups_are_drawn_by_a_key_unless_the_seed_is_asked_for(tmp_path):
    """Nobody who knows the seed can foresee who is with whom."""
    by_key = {key: value for key, value in SECURE.items() if key != "groups__by_seed"}
    done = Federation(tmp_path / "a", **by_key).whole()
    other = Federation(tmp_path / "b", **by_key).whole()
    assert (tmp_path / "a" / "groups.key").exists()
    assert [r.groups.groups for r in done.records] != [r.groups.groups for r in other.records]


def run_with_leavers(done, after, chosen, enough=lambda _: False):
    """Run to the end; agents chosen by name leave without a goodbye once they have said that."""
    heard, gone = [], []
    done.broker.listeners.append(
        lambda topic, _: (
            heard.append(USUAL.parse(topic).field.get("agent"))
            if USUAL.parse(topic).kind is after
            else None
        )
    )

    def part(state):
        while heard:
            name = heard.pop(0)
            if name not in gone and chosen(name, gone, state):
                gone.append(name)
                fleet = next(f for f in done.fleets if name in f.connections.of)
                fleet.transport.vanish()
                done.fleets.remove(fleet)
        return enough(state)

    done.begin()
    done.run(part)
    done.aggregator.end()
    return gone


@pytest.mark.parametrize(
    ("after", "left_out"), [(SecureKeys, 1), (SecureShares, 1), (MaskedUpdate, 0)]
)
def test_one_of_five_may_leave_after_any_step(after, left_out, tmp_path):
    """Its group is opened without it, or with it where its update had come; all others as usual."""
    done = Federation(tmp_path, fleets=20, **SECURE | {"run__rounds": 2})
    sums = watched(done)
    [gone] = run_with_leavers(done, after, lambda _, gone, __: not gone)
    sums.check()
    first, second = done.records
    assert first.accepted
    assert first.updates == 20 - left_out
    assert first.groups.left_out == ()
    members = {name for group in first.groups.groups.values() for name in group.members}
    assert (gone in members) == (not left_out)
    assert second.updates == 19


def test_a_group_that_lost_too_many_is_lost_and_the_round_is_not(tmp_path):
    """Three of five leave after their keys: fifteen others make the model."""
    done = Federation(tmp_path, fleets=20, **SECURE | {"run__rounds": 1})

    def chosen(name, gone, state):
        group = state.phase.secure.group_of
        return len(gone) < 3 and (not gone or group[name] == group[gone[0]])

    assert len(run_with_leavers(done, SecureKeys, chosen)) == 3
    [record] = done.records
    assert (record.accepted, record.updates) == (True, 15)
    [lost] = [group for group in record.groups.groups.values() if group.why]
    assert lost.members == ()
    assert lost.why == "lost: 2 of 5 agents sent shares, 3 are needed"


def test_votes_drop_a_group_that_nobody_has_looked_into(tmp_path):
    """Two fakes, who send what they like within the sum: their groups go, the model goes on."""
    fakes = {
        "agents__malicious": 0.1,
        "agents__attack": "mpaf",
        "agents__scale": 1e6,
        "agents__start": 8,
    }
    done = Federation(tmp_path, **SECURE | VOTES, **fakes).whole()
    assert all(record.accepted for record in done.records)
    for record in done.records[7:]:
        assert 1 <= len(record.groups.left_out) <= 2
    assert done.accuracies[-1] > done.accuracies[6] - 0.02


def test_after_a_rejection_only_the_same_groups_are_summed_again(tmp_path):
    """Validators who reject all: with half of the agents called, those who were summed sit out."""
    never = {
        "validation__validators": 10,
        "validation__quorum": 3,
        "agents__malicious_validators": 0.5,
        "agents__vote_attack": "always_reject",
        "agents__malicious": 0.5,
        "agents__attack": "label_flip",
        "agents__start": 99,
        "sampling__client_fraction": 0.5,
        "collect__min_updates": 1,
        "run__rounds": 6,
    }
    done = Federation(tmp_path, **SECURE | never)
    sums = watched(done)
    done.whole()
    sums.check()
    assert not any(record.accepted for record in done.records)
    assert sum(len(each) for each in sums.sums.values()) > 2


def test_a_run_waits_where_nobody_may_be_in_another_sum(tmp_path):
    """One of each group leaves in the middle, and the model is rejected: nobody may go on."""
    reject = {
        "validation__validators": 8,
        "validation__quorum": 1,
        "validation__min_votes": 1,
        "agents__malicious_validators": 0.6,
        "agents__vote_attack": "always_reject",
        "agents__malicious": 0.3,
        "agents__attack": "label_flip",
        "agents__start": 99,
        "collect__wait": True,
        "run__rounds": 2,
    }
    done = Federation(tmp_path, fleets=20, **SECURE | reject)
    logs, gone, turns = [], {}, count()
    done.broker.listeners.append(
        lambda topic, payload: logs.append(payload) if USUAL.parse(topic).kind is RoundLog else None
    )

    def first_of_its_group(name, _, state):
        first = gone.setdefault(state.phase.secure.group_of.get(name), name) == name
        if first:
            will = Presence(name, online=False, since=0.0)
            done.broker.publish(USUAL.of("lab", will), codec.encode(will), retain=True)
        return first

    run_with_leavers(
        done,
        SecureShares,
        first_of_its_group,
        enough=lambda state: state.round == 2 and next(turns) > 99,
    )
    assert len(gone) == 4
    assert [record.accepted for record in done.records] == [False]
    waits = [payload for payload in logs if b"waiting for more agents" in payload]
    assert len(waits) == 1


def killed_and_resumed(cut, kind, after, when):
    """Run it, but kill the aggregator once so many messages of a kind were heard, where that is."""
    seen = []

    def note(topic, _):
        if USUAL.parse(topic).kind is kind and when(cut.state):
            seen.append(topic)

    cut.begin()
    cut.broker.listeners.append(note)
    cut.run(lambda _: len(seen) >= after)
    cut.crash()
    cut.begin()
    cut.run()
    cut.aggregator.end()


@pytest.mark.parametrize("after", [SecureKeys, SecureShares, MaskedUpdate, UnmaskShares])
def test_an_aggregator_that_is_killed_opens_no_sum_that_overlaps(after, tmp_path):
    """Killed in mid-step of round 2, resumed with a new broker: the models of a whole run."""
    whole = Federation(tmp_path / "whole", **SECURE).whole()
    cut = Federation(tmp_path / "cut", **SECURE)
    sums = watched(cut)
    killed_and_resumed(cut, after, 10, lambda state: state.round == 2)
    sums.check()
    assert cut.models == whole.models


def test_piggy_back_under_masks_comes_to_the_same_models(tmp_path):
    """They vote and train at once: with fakes from round 6 on whose candidates are rejected.

    A candidate that is rejected leaves the model before it, over which sums were opened already:
    only the same groups are summed over that again.
    """
    piggy = {
        "validation__piggy_back": True,
        "validation__quorum": 8,
        "validation__judge": "robust",
        "validation__look_back": 4,
        "validation__minimum_history": 4,
        "wire__history": "float32",
        "agents__malicious": 0.1,
        "agents__attack": "mpaf",
        "agents__scale": 1e6,
        "agents__start": 6,
        "run__rounds": 9,
    }
    clear = {"groups__secure": False, "groups__size": 1}
    one = Federation(tmp_path / "clear", **SECURE | piggy | clear).whole()
    other = Federation(tmp_path / "masked", **SECURE | piggy)
    sums = watched(other)
    other.whole()
    sums.check()
    first = [(r.accepted, r.updates, r.votes.counts) for r in one.records[:5]]
    assert [(r.accepted, r.updates, r.votes.counts) for r in other.records[:5]] == first
    for this, that in zip(weights(one)[1:5], weights(other)[1:5], strict=True):
        np.testing.assert_allclose(this, that, atol=1e-3)


NOISE = {
    "privacy__noise": 1e-6,
    "privacy__clip": 0.3,
    "privacy__delta": 0.01,
    "wire__history": "float32",
}


def test_with_hardly_any_noise_the_sum_is_that_of_clipped_updates(tmp_path):
    """Each agent clips its own, and all weigh the same: as in the clear, to the rounding."""
    clear = {"groups__secure": False, "groups__size": 1}
    one = Federation(tmp_path / "clear", **SECURE | NOISE | clear).whole()
    other = Federation(tmp_path / "masked", **SECURE | NOISE).whole()
    moved = 0.0
    for this, that in zip(weights(one)[1:], weights(other)[1:], strict=True):
        np.testing.assert_allclose(this, that, atol=3e-4)
        moved = max(moved, float(np.abs(this - weights(one)[0]).max()))
    assert moved > 0.01
    for record in other.records:
        assert (record.groups.clipped, len(record.groups.groups)) == (0, 4)
        assert record.privacy.releases == record.round


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups__size": 2}, "groups.size = 2 must be 0, or 3 and more, with groups.secure"),
        ({"groups__least": 2}, "groups.least = 2 must be 3 to groups.size with groups.secure"),
        ({"groups__least": 6}, "groups.least = 6 must be 3 to groups.size with groups.secure"),
        ({"collect__threshold": 9}, "collect.threshold = 9 must be 0 with groups.secure"),
        ({"evaluation__by_agent": True}, "evaluation.by_agent = True must be false with"),
    ],
)
def test_what_cannot_be_had_under_masks_is_refused(change, words, tmp_path):
    """In one sentence, before anything is trained."""
    with pytest.raises(ValueError, match=re.escape(words)):
        Federation(tmp_path, **SECURE | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"detection__detectors": ["length"]}, "detector 'length' looks at single updates"),
        ({"groups__colluding": 0.6, "groups__drop_outs": 0.4}, "no secure aggregation of 5 agents"),
        ({"aggregation__rule": "foolsgold"}, "goes by what each agent sent in earlier rounds"),
    ],
)
def test_what_an_aggregator_cannot_do_under_masks_is_told(change, words, tmp_path):
    """A detector of single updates, a group that nothing can make safe, a rule with a memory."""
    with pytest.raises(ValueError, match=words):
        Federation(tmp_path, **SECURE | change).begin()


POOLED = {
    "validation__decide": "pooled",
    "validation__judge": "robust",
    "validation__validators": 10,
    "validation__look_back": 4,
    "validation__minimum_history": 4,
    "run__rounds": 5,
}
"""Ten validators whose counts are added up, once there are four accepted models."""


def votes_on(federation):
    """Return the votes that are sent from now on, as anybody could read them."""
    heard = []

    def hear(topic, payload):
        if USUAL.parse(topic).kind is Vote:
            heard.append(codec.decode(topic, payload, Limits(finite=False, counts=1000)))

    federation.broker.listeners.append(hear)
    return heard


@pytest.mark.parametrize(("liars", "groups"), [(0, 1), (1, 3)])
def test_what_validators_count_is_summed(liars, groups, tmp_path):
    """In more than twice as many sums as may hold a liar; a vote is a verdict and nothing else."""
    setup = SECURE | POOLED | {"validation__tolerated_malicious": liars}
    masked = Federation(tmp_path, fleets=3, **setup)
    sums, votes = watched(masked), votes_on(masked)
    masked.whole()
    sums.check()
    assert [len(each) for each in sums.sums.values()] == [4, 4, 4, 4, groups, 4, groups]
    assert {(vote.counts, vote.evidence, vote.changed, vote.changed_errors) for vote in votes} == {
        (b"", b"", None, None)
    }
    assert {(vote.score, vote.threshold) for vote in votes} == {(0.0, 0.5)}
    for record in masked.records:
        assert (record.accepted, record.traffic.invalid_messages) == (True, {})
        found = record.votes.pooled
        assert (found is not None) == (record.round >= 4)
        assert found is None or (found.validators, found.secret_sums) == (10, groups)


def test_the_sum_of_what_validators_count_is_judged_as_their_counts_are(tmp_path):
    """The same models, judged by the same numbers: the scores differ as the models' rounding."""
    masked = Federation(tmp_path / "masked", **SECURE | POOLED).whole()
    clear = Federation(
        tmp_path / "clear", **SECURE | POOLED | {"groups__secure": False, "groups__secret": False}
    ).whole()
    for one, other in zip(masked.records[3:], clear.records[3:], strict=True):
        assert one.votes.pooled.score == pytest.approx(other.votes.pooled.score, abs=0.3)


def test_a_validator_may_leave_the_sum_of_counts_and_too_many_leave_the_quorum(tmp_path):
    """One of ten: nine are judged. Six of ten: nothing can be opened, and the votes decide."""
    for leavers, validators in ((1, 9), (6, None)):
        done = Federation(tmp_path / str(leavers), fleets=20, **SECURE | POOLED)
        sums = watched(done)

        def chosen(_, gone, state, leavers=leavers):
            return isinstance(state.phase, Voting) and len(gone) < leavers

        gone = run_with_leavers(done, SecureShares, chosen)
        sums.check()
        assert len(gone) == leavers
        record = done.records[3]
        assert record.accepted
        found = record.votes.pooled
        assert (found and found.validators) == validators


def test_an_aggregator_that_is_killed_while_counts_are_summed_opens_none_twice(tmp_path):
    """The candidate is the same again: the same validators add up the same counts."""
    whole = Federation(tmp_path / "whole", **SECURE | POOLED).whole()
    cut = Federation(tmp_path / "cut", **SECURE | POOLED)
    sums = watched(cut)
    killed_and_resumed(cut, UnmaskShares, 4, lambda state: isinstance(state.phase, Voting))
    sums.check()
    assert cut.models == whole.models
    assert cut.records[3].votes.pooled == whole.records[3].votes.pooled


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"validation__piggy_back": True}, "validation.piggy_back"),
        ({"validation__judged_by": "both", "data__server": 0.2}, "validation.judged_by"),
        ({"validation__tolerated_malicious": 2}, "3 validators in each of"),
    ],
)
def test_sums_of_counts_that_cannot_be_had_are_refused(change, words, tmp_path):
    with pytest.raises(ValueError, match=re.escape(words)):
        Federation(tmp_path, **SECURE | POOLED | change)


def test_an_injection_is_voted_down_by_counts_that_nobody_has_seen(tmp_path):
    """One of twenty makes the mean of all its own; the three sums of counts say so."""
    done = Federation(tmp_path, **SECURE | INJECTION).whole()
    assert [record.round for record in done.records if not record.accepted] == [12]
    struck = done.records[11]
    assert (struck.why, struck.votes.pooled.secret_sums) == ("voted down", 3)
    assert struck.candidate.backdoor > 0.5
    assert max(record.model.backdoor for record in done.records) < 0.1


@pytest.mark.parametrize("lost", [SecurePeers, SecureShares, SecureInbox, MaskedUpdate])
def test_what_a_broker_loses_is_told_once_more(lost, tmp_path):
    """A message of every other agent is lost at one step, either way: nobody is missing."""
    done = Federation(tmp_path, **SECURE | {"run__rounds": 2, "groups__seconds": 4})
    sums, dropped = watched(done), set()
    publish = done.broker.publish

    def lossy(topic, payload, **more):
        place = USUAL.parse(topic)
        agent = place.field.get("agent", "")
        if place.kind is lost and int(agent[-2:]) % 2 and (agent, done.state.round) not in dropped:
            dropped.add((agent, done.state.round))
        else:
            publish(topic, payload, **more)

    done.broker.publish = lossy
    done.whole()
    sums.check()
    assert len(dropped) == 20
    for record in done.records:
        assert (record.updates, record.missing, record.traffic.invalid_messages) == (20, 0, {})
