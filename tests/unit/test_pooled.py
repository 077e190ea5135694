"""Error counts of many validators, pooled and judged once, whatever some of them claim."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.by_hand import play, policy, records, start, updates, vote

from fedjury import judges
from fedjury.config import renamed
from fedjury.config.settings import SettingsError, load
from fedjury.judges.judgements import Judgements
from fedjury.judges.pooled import (
    MOST,
    Pool,
    judged_once,
    most_counts,
    pooled,
    standardised,
    sums_of_rises,
    trimmed,
)
from fedjury.protocol.counts import packed
from fedjury.protocol.messages import MAX_COUNT, Reason
from fedjury.protocol.pooled import Pooled
from fedjury.registry.faults import PluginError
from fedjury.reports import jury
from fedjury.round.state import Tick

COUNTS = np.array([[[2], [3], [3], [9]], [[8], [8], [9], [14]], [[0], [9], [0], [0]]])
"""What three validators counted of one kind of errors in three accepted models and the candidate.

By hand: usual (the second smallest of four) are 3, 8, 0, the rises -1 0 0 6, 0 0 1 6, 0 9 0 0. The
candidates' units are √(1 + 1/3), √(1 + 1/3) and √(1 + 81/3), their z 5.2, 5.2 and 0."""


def test_pooled_counts_by_hand():
    """With nobody left out it is the sum. Else the first accuses, and one is left of three.

    Of the second and the third the larger z are 0, 9, 1 / √(1 + 36/3) and 6 / √(4/3); those
    above 6 are held there. The usual in the middle is 3, the unit √(4/3) = 1.155: 3 + 1.155 (0, 6,
    .277, 5.196).
    """
    np.testing.assert_array_equal(pooled(COUNTS, 0)[0, :, 0], [10, 20, 12, 23])
    np.testing.assert_array_equal(pooled(COUNTS, 1)[0, :, 0], [3, 10, 3, 9])


def test_of_two_for_each_liar_nothing_would_be_left():
    """Two validators of whom one may lie say nothing together."""
    with pytest.raises(ValueError, match="of 2 validators 1 may lie: nothing can be pooled"):
        pooled(COUNTS[:2], 1)


def counts_of(validators, models=5, kinds=2, most=MAX_COUNT):
    """Return a strategy of what so many validators counted."""
    size = validators * models * kinds
    numbers = st.lists(st.integers(0, most), min_size=size, max_size=size)
    return numbers.map(lambda values: np.array(values).reshape(validators, models, kinds))


@given(st.data(), st.integers(1, 3), st.integers(1, 4))
def test_liars_move_no_sum_beyond_what_honest_validators_say(data, liars, kept):
    """Whatever they claim of any model: with v = 2t + kept validators, of whom t lie.

    The candidate's sum lies between those of the lowest and of the highest ``kept`` honest ones.
    An accepted model's lies above the lowest, and above the highest by 6 for each liar at most. So
    do the usual and the unit lie within the honest ones'.
    """
    honest = data.draw(counts_of(liars + kept, most=200))
    everybody = np.concatenate([honest, data.draw(counts_of(liars))])
    true, found = standardised(honest), standardised(everybody)
    ranked = np.sort(true.z.clip(-6, 6), axis=0)
    lowest, highest = ranked[:kept].sum(axis=0), ranked[-kept:].sum(axis=0)
    sums = sums_of_rises(found.z, liars)
    assert (lowest - 1e-9 <= sums).all()
    assert (sums[-1] <= highest[-1] + 1e-9).all()
    most = ranked[len(ranked) - max(kept - liars, 0) :].sum(axis=0) + 6 * min(liars, kept)
    assert (sums <= most + 1e-9).all()
    for mine, all_of_them in zip(true[:2], found[:2], strict=True):
        left = trimmed(all_of_them, liars)
        assert (mine.min(axis=0) <= left).all()
        assert (left <= mine.max(axis=0)).all()


@given(counts_of(7, most=50), st.permutations(range(4)))
def test_accepted_models_are_all_pooled_alike(counts, order):
    """In another order of accepted models the pooled ones are in that order."""
    moved = [*order, 4]
    np.testing.assert_array_equal(pooled(counts[:, moved], 2), pooled(counts, 2)[:, moved])


@given(counts_of(5, most=50), counts_of(2, models=5, most=50), st.integers(1000, MAX_COUNT))
def test_accusers_are_left_out_of_the_past_as_well(honest, claims, huge):
    """The sums are those of the others, each model's made in one way; past claims do nothing."""
    claims[:, -1] = huge  # of two liars who say that of the candidate
    z = standardised(np.concatenate([claims, honest])).z
    ranked = np.sort(standardised(honest).z.clip(-6, 6), axis=0)
    np.testing.assert_allclose(sums_of_rises(z, 2), ranked[2:].sum(axis=0))


@pytest.mark.parametrize("name", ["lof", "calibrated", "robust"])
@pytest.mark.parametrize("liars", [0, 2])
def test_the_largest_claims_break_no_judge(name, liars):
    """Numbers that a decoder lets in are cut before a judge squares them."""
    rng = np.random.default_rng(3)
    judge = judges.build(name, minimum_history=5)
    for _ in range(20):
        claims = rng.choice([0, 1, MAX_COUNT], (5, 12, 4))
        assert 0 <= pooled(claims, liars).min() <= pooled(claims, liars).max() <= MOST
        found = judged_once(judge, claims, liars)
        assert np.isfinite(np.concatenate(found[1:3])).all()


SAMPLES = 150


def jury_of(seed, *, struck):
    """Count as ten validators with 15 samples of each of ten classes do, a fifth of them wrong.

    A strike has all samples of class 0 called class 1.
    """
    counts = np.random.default_rng(seed).binomial(15, 0.2, (10, 22, 20))
    if struck:
        counts[:, -1, [0, 11]] += 12
    return counts


LIES = {
    "deny": lambda mine: mine[:, -1].fill(SAMPLES),
    "deny the past": lambda mine: (mine.fill(0), mine[:, -1].fill(SAMPLES)),
    "hide": lambda mine: mine[:, -1].fill(0),
    "hide behind a wild past": lambda mine: (mine[:, ::3].fill(SAMPLES), mine[:, -1].fill(0)),
}
ROBUST = judges.build("robust", minimum_history=11)


@pytest.mark.parametrize("lie", LIES)
def test_two_liars_of_ten_turn_nothing(lie):
    """With two left out, of 40 rounds each strike is rejected, of the good ones two at the most."""
    verdicts = {True: 0, False: 0}
    for seed, struck in itertools.product(range(40), verdicts):
        counts = jury_of(seed, struck=struck)
        LIES[lie](counts[3:5])
        verdicts[struck] += int(judged_once(ROBUST, counts, 2).poisoned[0])
    assert verdicts[True] == 40
    assert verdicts[False] <= 2


def test_with_nobody_left_out_one_liar_turns_both():
    """One who denies has each good candidate rejected, one with a wild past hides each strike."""
    for seed in range(20):
        good, struck = jury_of(seed, struck=False), jury_of(seed, struck=True)
        assert judged_once(ROBUST, struck, 0).poisoned[0]
        LIES["deny"](good[:1])
        struck[0, ::2], struck[0, -1] = SAMPLES, 0
        assert judged_once(ROBUST, good, 0).poisoned[0]
        assert not judged_once(ROBUST, struck, 0).poisoned[0]


# What the server asks


def more_than(limit=9.0):
    """Make a judge that rejects if the first error rises above the last model's by more."""

    def judge(profiles, candidates):
        rise = (candidates[:, 0] - profiles[:, -1, 0]).astype(float)
        return Judgements(rise > limit, rise, np.full(len(rise), limit), np.zeros((len(rise), 0)))

    return judge


def pool(malicious=1, history=2, **changes):
    """Make a pool that looks back at two models and the last one."""
    usual = {"judge": more_than(), "look_back": 2, "most": 40} | changes
    return Pool(malicious=malicious, history=history, **usual)


def ballots(*rows):
    """Make votes of validators with these counts."""
    names = (f"v{i}" for i in range(len(rows)))
    return [
        vote(n, counts=packed(np.array(r)), samples=50) for n, r in zip(names, rows, strict=True)
    ]


def test_the_server_asks_its_judge_once():
    """Three validators, two accepted models and two kinds of errors: 3, 4 and 5 rise above 1.

    Nothing varied before, so the unit is one error; the one of 5 accuses, that of 3 may hide.
    """
    votes = ballots([1, 0, 1, 0, 4, 0], [1, 7, 1, 7, 5, 7], [1, 0, 1, 0, 6, 0])
    assert pool(judge=more_than(3.5)).judged(votes, version=1) == Pooled(True, 4.0, 3.5, 3, 1)
    assert pool(judge=more_than(4.0)).judged(votes, version=1) == Pooled(False, 4.0, 4.0, 3, 1)


NOTHING = {
    "nobody voted": (),
    "nobody sent counts": ([], [], []),
    "two of whom one may lie": ([1, 1, 20], [1, 1, 20]),
    "numbers that are not of three models": ([1, 1], [1, 1], [1, 1]),
}


@pytest.mark.parametrize("case", NOTHING)
def test_where_nothing_can_be_pooled(case):
    """Then there is no judgement, and the quorum decides."""
    assert pool().judged(ballots(*NOTHING[case]), version=1) is None


def test_before_the_judge_has_its_history_nothing_is_pooled():
    """With one accepted model, of two that it needs, there is no judgement."""
    votes = ballots(*([1, 50],) * 3)
    assert pool().judged(votes, version=0) is None
    assert pool(0, history=1).judged(votes, version=0) == Pooled(True, 147.0, 9.0, 3, 0)


def test_validators_that_count_other_kinds_of_errors_are_left_out():
    """Three count one kind of error, one counts two kinds, and one nothing."""
    votes = ballots([1, 1, 5], [1] * 6, [1, 1, 5], [], [1, 1, 5])
    assert pool().judged(votes, version=1) == Pooled(False, 4.0, 9.0, 3, 1)


def test_where_a_judge_fails_the_quorum_decides_and_people_are_told():
    """Somebody else's judge that raises makes no judgement."""

    def fails(profiles, candidates):
        raise PluginError("judge 'acme' fails: no")

    told = []
    votes = ballots(*([1, 1, 5],) * 3)
    alone = pool(judge=fails, tell=lambda text, kind: told.append((text, kind)))
    assert alone.judged(votes, version=1) is None
    assert told == [("judge 'acme' fails: no; the quorum decides where it fails", "judge")]


@pytest.mark.parametrize(
    ("counts", "version", "reason"),
    [
        ([], 9, None),
        ([1, 2, 3, 50], 9, None),
        ([1, 2, 3, 51], 9, Reason.OUT_OF_RANGE),
        ([1, 2, 3], 9, Reason.WRONG_LENGTH),
        ([1, 2, 3], 1, None),
    ],
)
def test_counts_must_be_of_the_models_and_no_more_than_samples(counts, version, reason):
    """With l = 2 four models are counted, three after version 1; the voter holds 50 samples."""
    assert pool().refusal(ballots(counts)[0], version) == reason


def test_as_many_numbers_as_may_come():
    """Of 10 classes with l = 20: 22 models, 20 kinds; of numbers at most ten bins, two sides."""
    assert (most_counts(20, 10), most_counts(20, 0), most_counts(2, 3)) == (440, 440, 24)


@pytest.mark.parametrize("heads", ["", "ab"])
@pytest.mark.parametrize(("last", "accepted"), [(3, True), (5, False)])
def test_pooled_counts_decide_whatever_heads_say(heads, last, accepted):
    """Three count 1 and then 3 or 5: 6 more errors, or 12, where 9 are too many."""
    said = policy(validators=3, decide="pooled", pool=pool(0, history=1))
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    counts = packed(np.array([1, last]))
    votes = [vote(n, poisoned=n in heads, counts=counts, samples=5) for n in "abc"]
    _, effects = play(state, said, *votes, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record.accepted, record.why) == (accepted, "" if accepted else "voted down")
    assert record.votes.pooled == Pooled(not accepted, 3.0 * (last - 1), 9.0, 3, 0)
    assert record.votes.decided_by == f"pooled score {3 * (last - 1):.1f}, threshold 9.0"


@pytest.mark.parametrize("heads", ["", "a", "ab"])
def test_where_too_few_send_counts_heads_decide(heads):
    """Two of three would have to be pooled for one liar: q = 2 of three reject."""
    said = policy(validators=3, decide="pooled", pool=pool(1, history=1))
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    counts = {"a": packed(np.array([1, 4])), "b": packed(np.array([1, 4]))}
    votes = [vote(n, poisoned=n in heads, counts=counts.get(n, b"")) for n in "abc"]
    _, effects = play(state, said, *votes, Tick(2.0, set("abc")))
    (record,) = records(effects)
    assert (record.votes.pooled, record.accepted) == (None, len(heads) < 2)


def test_a_vote_whose_counts_do_not_fit_is_refused():
    """It is counted by its reason and is no vote."""
    said = policy(validators=3, decide="pooled", pool=pool(0, history=1))
    state, _ = start(said)
    state, _ = play(state, said, *updates(state), Tick(1.0, set("abc")))
    odd = vote("a", counts=packed(np.array([1, 2, 3]))), vote("b", counts=packed(np.array([1, 9])))
    state, _ = play(state, said, *odd)
    assert dict(state.invalid) == {"wrong_length": 1, "out_of_range": 1}
    assert not state.votes


# Sums of groups


@given(st.integers(1, 9), st.data())
def test_liars_in_less_than_half_of_the_groups_do_not_turn_groups_that_agree(groups, data):
    """Each spoils one group's sum; the groups without one agree, and theirs is the verdict."""
    struck = data.draw(st.booleans())
    sums = np.array([[[10], [10], [40 if struck else 10]]] * groups)
    spoilt = data.draw(st.integers(0, (groups - 1) // 2))
    sums[:spoilt] = data.draw(counts_of(spoilt, models=3, kinds=1)) if spoilt else sums[:0]
    found = pool(malicious=spoilt).judged_sums(sums.reshape(groups, -1), groups, version=1)
    assert found.poisoned == struck


def test_liars_in_half_of_the_groups_hide_anything():
    """Two of four groups find it poisoned: no majority."""
    sums = np.array([[[10], [10], [40]]] * 2 + [[[10], [10], [10]]] * 2)
    assert not pool(malicious=1).judged_sums(sums.reshape(4, -1), 4, version=1).poisoned


def test_sums_are_judged_by_most_of_them_and_none_where_liars_may_be_in_most():
    """Rises of 30, 30 and 0 above a limit of 9: poisoned; the score is that of the middle one."""
    sums = np.array([[10, 10, 40], [10, 10, 10], [7, 5, 35]])
    found = pool(malicious=1, history=2, most=8).judged_sums(sums, 9, version=1)
    assert found == Pooled(True, 30.0, 9.0, 9, 1, 3)
    assert pool(malicious=1).judged_sums(sums[:2], 6, version=1) is None
    assert pool(malicious=1, history=3).judged_sums(sums, 9, version=1) is None


def test_a_sum_larger_than_anybody_counts_is_cut():
    """A liar may make a sum of any size up to its modulus: judges square such numbers."""
    sums = np.array([[2**32 - 1, 0, 2**32 - 1]])
    found = pool(malicious=0).judged_sums(sums, 3, version=1)
    assert found == Pooled(True, 1e7, 9.0, 3, 0, 1)


def test_people_are_told_how_many_liars_sums_of_counts_withstand():
    (line,) = jury.pooled_advice(10, 1, secret=True)
    assert line == (
        "10 voters, whose error counts are only seen in 3 sums that are judged each, most of which "
        "decide: 1 who lie are tolerated (validation.tolerated_malicious)"
    )


def test_people_are_told_how_many_liars_pooled_counts_withstand():
    """Where none are, they are warned."""
    (line,) = jury.pooled_advice(10, 2)
    assert line == (
        "10 voters, whose error counts are judged together, without the 2 largest and the 2 "
        "smallest of each: 2 who lie are tolerated (validation.tolerated_malicious)"
    )
    _, warning = jury.pooled_advice(10, 0)
    assert warning == "warning: so a single validator that lies can have any candidate rejected"


# What came before


def test_added_up_scores_are_refused_with_what_comes_in_their_place(tmp_path):
    """Settings that ask for them name pooled counts; a file is brought up to date by a command."""
    with pytest.raises(SettingsError, match=r"'score' is no more.*take 'pooled'"):
        load(overrides={"validation.decide": "score"})
    with pytest.raises(SettingsError, match=r"validation\.false_alarm is no more.*options = "):
        load(overrides={"validation.false_alarm": 0.1})
    file = tmp_path / "old.toml"
    file.write_text('[validation]\ndecide = "score"\nfalse_alarm = 0.1\n')
    assert renamed.upgrade(file) == [
        "validation.false_alarm -> nothing",
        'validation.decide = "score" -> "pooled"',
    ]
    assert file.read_text() == '[validation]\ndecide = "pooled"\n'
