"""Rules over partitions of columns: one set of bits, whoever holds the partitions."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.updates import NOTHING, honest_updates, matrix, ones, told
from support.workers import dealt, engine_of, on_workers

from fedjury import rules
from fedjury.aggregator.rule import checked_rule
from fedjury.cluster.partitions import gathered
from fedjury.config.section import SettingsError
from fedjury.config.settings import load
from fedjury.rules import blocks, cut
from fedjury.rules.limit import matrices
from fedjury.rules.partitions import COLUMNWISE, LocalPartitions, columnwise, places, tree_sum

ROOT = Path(__file__).resolve().parents[2]

FRONTS = ({"clip": 9.0}, {"bucketing": 3}, {"nnm": 5}, {"clip": 9.0, "bucketing": 2, "nnm": 2})
CASES = [
    *((name, {}) for name in rules.RULES),
    ("mean", {"weighted": True}),
    ("foundationfl", {"base": "median", "copied": "lowest"}),
    ("fedavgm", {"base": "multi_krum"}),
    *(("median", {"before": front}) for front in FRONTS),
    ("multi_krum", {"before": FRONTS[-1]}),
]
"""Every rule of the table, every step before one, and what they can be made of."""

BY_COLUMN = {"mean", "median", "trimmed_mean"}
"""Rules that look at each column by itself."""

ROUNDED = 6
"""How many of 1,003 coordinates may end in another digit for another number of partitions."""

N, D = 30, 1003
"""Updates and parameters: 16 partitions of 62 or 63 columns."""


@cache
def updates(kind):
    """Return updates (n, d), read-only."""
    result = honest_updates(1 if kind == "one" else N, D)
    if kind == "spoilt":
        result[3], result[7, 500], result[11] = np.inf, np.nan, -np.inf
    result.flags.writeable = False
    return result


def aggregated(name, options, partitions):
    """Return what a rule makes of partitions, and what it keeps."""
    typical = honest_updates(2, D, seed=0)[1]
    n = partitions.n
    context = told(honest_updates(n, D, seed=7), typical)
    rule, keeps = rules.build(name, **options), bool(rules.RULES.facts(name).needs & {"state"})
    made, state = rules.applied(rule, name, partitions, np.arange(1, n + 1), context, keeps=keeps)
    return [made, *state.values()]


@pytest.mark.parametrize("kind", ["finite", "spoilt", "one"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bits_do_not_depend_on_the_number_of_workers(case, kind):
    """16 partitions give the same, in one process and on 1, 2, 4 or 16 workers."""
    name, options = case
    if kind == "one" and "nnm" in options.get("before", {}):
        options = options | {"before": {"nnm": 0}}  # one update has no five to be mixed without
    here = aggregated(name, options, cut(updates(kind), 16))
    for workers in (1, 2, 4, 16):
        there = aggregated(name, options, on_workers(updates(kind), 16, workers))
        for mine, theirs in zip(here, there, strict=True):
            np.testing.assert_array_equal(mine.view("u4"), theirs.view("u4"))


@pytest.mark.parametrize("kind", ["finite", "spoilt"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_partitions_change_a_last_digit_at_the_most(case, kind):
    """1, 4 and 16 partitions give the same by columns, else all but a few coordinates."""
    one, *others = (aggregated(*case, cut(updates(kind), count))[0] for count in (1, 4, 16))
    for other in others:
        differing = np.flatnonzero(one.view("u4") != other.view("u4"))
        assert len(differing) <= (0 if case[0] in BY_COLUMN and len(case[1]) < 2 else ROUNDED)
        np.testing.assert_allclose(one[differing], other[differing], rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 7, N])
def test_bucketing_does_not_depend_on_partitions(size):
    """Means of buckets have the same bits for 1, 4 and 16 partitions."""
    step = rules.PRE_AGGREGATIONS["bucketing"](size)
    one, *others = (
        step(cut(updates("spoilt"), count), ones(N), NOTHING)[0].whole() for count in (1, 4, 16)
    )
    for other in others:
        np.testing.assert_array_equal(one, other)


def test_more_partitions_than_columns():
    """Of three columns in 16 partitions 13 are empty, and nobody minds."""
    rows = matrix([1, 2, 3], [3, 2, 1], [2, 2, 2], [9, 9, 9])
    for name in rules.RULES:
        context = told(rows, rows[0])
        many, one = (rules.build(name)(cut(rows, count), ones(4), context) for count in (16, 1))
        many, one = (made[0] if isinstance(made, tuple) else made for made in (many, one))
        np.testing.assert_allclose(many, one, rtol=1e-6)


@pytest.mark.parametrize("name", ["foolsgold", "fltrust", "centered_clipping"])
def test_a_worker_is_told_its_own_columns(name):
    """Of 30 x 1,003 update sums, 120 KB, one of four workers hears of a quarter, and some words."""
    rows, context = updates("finite"), told(honest_updates(N, D, seed=7), honest_updates(1, D)[0])
    placements = dealt(N, 4)
    engine = engine_of(rows, 16, placements)
    workers = gathered(engine, "r", placements, D, 16)
    rules.build(name)(workers, ones(N), context)
    largest = {"foolsgold": N * D * 4 / 4}.get(name, D * 8 / 4)
    assert largest < max(engine.told) < largest * 1.05 + 1500


def test_a_columnwise_function_is_called_once_where_all_are_in_one_array():
    """But a sum over partitions is always added in their tree; workers call it for each part."""
    seen = []

    def ones_of(part, first):
        seen.append(part.shape[1])
        return np.ones(part.shape[1], dtype=np.float32)

    columnwise(ones_of)
    try:
        assert len(cut(updates("finite"), 16).columns(ones_of)) == D
        assert seen == [D]
        cut(np.ones((2, 32), dtype=np.float32), 16).total(ones_of)
        assert seen[1:] == [2] * 16
    finally:
        COLUMNWISE.discard(ones_of)


# How sums are added


def test_sums_are_added_in_a_tree():
    """Of 1, 2 ** 53, 1, 1 in pairs it is (1 + 2 ** 53) + 2: the first 1 is lost, the others not."""
    parts = [np.array([value]) for value in (1.0, 2.0**53, 1.0, 1.0)]
    np.testing.assert_array_equal(tree_sum(parts), [2.0**53 + 2])


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16])
def test_workers_add_parts_of_one_tree(workers):
    """Sums of 16 numbers of all sizes, a part by each worker, have the bits of one process."""
    rng = np.random.default_rng(0)
    parts = list(rng.standard_normal((16, 200)) * 10.0 ** rng.integers(-8, 8, (16, 200)))
    each = 16 // workers
    sums = [tree_sum(map(np.copy, parts[i : i + each])) for i in range(0, 16, each)]
    np.testing.assert_array_equal(tree_sum(sums), tree_sum(map(np.copy, parts)))


def test_a_sum_leaves_what_cannot_be_written():
    """An array that an engine hands out is read-only, and is not added into."""
    parts = [np.ones(2), np.ones(2)]
    for part in parts:
        part.flags.writeable = False
    np.testing.assert_array_equal(tree_sum(parts), [2, 2])
    np.testing.assert_array_equal(parts, np.ones((2, 2)))


@pytest.mark.parametrize("count", [0, 3, 12, 2048])
def test_partitions_are_a_power_of_two(count):
    """A tree over any other number could not be shared by workers."""
    with pytest.raises(ValueError, match=f"a power of two from 1 to 1,024, not {count}"):
        cut(updates("finite"), count)


@pytest.mark.parametrize(("d", "count"), [(1003, 16), (3, 16), (16, 16), (5, 1)])
def test_partitions_cover_all_columns_once(d, count):
    """They stand side by side, and none is wider than another by more than a column."""
    found = places(d, count)
    assert (found[0].start, found[-1].stop, len(found)) == (0, d, count)
    assert all(left.stop == right.start for left, right in pairwise(found))
    widths = {place.stop - place.start for place in found}
    assert max(widths) - min(widths) <= 1


# Rules and steps of others


def test_a_rule_on_arrays_is_given_one():
    """A rule that knows no partitions gets the whole array, from one process or from workers."""
    for partitions in (cut(updates("finite"), 4), on_workers(updates("finite"), 4, 2)):
        seen = []

        def middle(rows, samples, context, seen=seen):
            seen.append(rows)
            return np.median(rows, axis=0)

        made, _ = rules.applied(middle, "mine", partitions, ones(N), NOTHING, keeps=False)
        np.testing.assert_array_equal(seen[0], updates("finite"))
        assert not seen[0].flags.writeable
        np.testing.assert_array_equal(made, np.median(updates("finite"), axis=0))


def test_a_step_on_arrays_stands_among_ours():
    """What it makes is cut into as many partitions as it was given."""
    seen = []

    def half(rows, samples, context):
        seen.append(type(rows))
        return rows[::2] / 2, samples[::2]

    def look(partitions, samples, context):
        seen.append((partitions.n, partitions.d, partitions.count, len(samples)))
        return partitions.columns(first_row)

    steps = {"clip": rules.PRE_AGGREGATIONS["clip"](1e6), "mine:half": half}
    rule = rules.with_pre_aggregation(steps, rules.PartitionedRule(look))
    made, _ = rules.applied(rule, "mine", cut(updates("finite"), 4), ones(N), NOTHING, keeps=False)
    assert seen == [np.ndarray, (N // 2, D, 4, N // 2)]
    np.testing.assert_array_equal(made, updates("finite")[0] / 2)


def first_row(part, first):
    return part[0]


def test_an_array_is_one_partition():
    """A rule of ours takes an array too, and a step of ours gives one back for it."""
    rows = matrix([3, 4], [0, 0])
    clipped, _ = rules.PRE_AGGREGATIONS["clip"](1.0)(rows, ones(2), NOTHING)
    np.testing.assert_allclose(clipped, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    parted, _ = rules.PRE_AGGREGATIONS["clip"](1.0)(cut(rows, 2), ones(2), NOTHING)
    assert isinstance(parted, LocalPartitions)
    np.testing.assert_array_equal(parted.whole(), clipped)


def test_the_recipe_works():
    """The page's rule leaves out (3, 4), of norm 5, and averages (.6, .8) and (0, 0)."""
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    code = text.partition("<!-- recipe: a rule on partitions -->")[2].split("```")[1]
    found: dict = {"__name__": "acme"}
    exec(code.removeprefix("python"), found)
    rows = matrix([0.6, 0.8], [3, 4], [0, 0])
    made, _ = rules.applied(found["short"](1.01), "m", cut(rows, 2), ones(3), NOTHING, keeps=False)
    np.testing.assert_allclose(made, [0.3, 0.4], rtol=1e-6)


def test_rules_need_no_torch():
    """A worker that aggregates starts without PyTorch, which takes seconds under load."""
    load = "import sys; from fedjury.rules import RULES; [RULES[name] for name in RULES]"
    code = f"{load}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Rules that compare all updates


COMPARING = {"krum", "multi_krum", "bulyan", "flame", "foolsgold", "geometric_median", "dnc"}


def test_rules_that_compare_all_say_so():
    """Those that make a matrix of n x n are marked, and no other."""
    assert {name for name in rules.RULES if rules.RULES.facts(name).compares_all} == COMPARING
    steps = rules.PRE_AGGREGATIONS
    assert {name for name in steps if steps.facts(name).compares_all} == {"nnm"}


@pytest.mark.parametrize("name", sorted(COMPARING))
def test_too_many_to_compare_is_an_error_and_no_crash(name):
    """10,001 updates are refused before memory is asked for; 5 matrices of them are 4 GB."""
    rows = np.ones((10_001, 1), dtype=np.float32)
    message = r"10,001 updates cannot be compared with each other, which takes 4\.0 GB"
    with pytest.raises(ValueError, match=message):
        rules.build(name)(rows, ones(10_001), told(rows, rows[0]))


@pytest.mark.parametrize("partitions", [1, 16])
@pytest.mark.parametrize("plugin", [rules.build("krum"), rules.PRE_AGGREGATIONS["nnm"](200)])
def test_comparing_takes_no_more_memory_than_is_said(plugin, partitions):
    """In partitions the sums that wait in the tree count too: 6 matrices for 16, 5 for one.

    Beside them there is a block of 1,024 columns, which for 1,000 updates is a matrix as well.
    """
    n = 1000
    rows = cut(honest_updates(n, 2048), partitions)
    tracemalloc.start()
    plugin(rows, ones(n), NOTHING)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert matrices(partitions) == {1: 5, 16: 6}[partitions]
    assert peak < 8 * n * n * (matrices(partitions) + 1.1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"aggregation.rule": "krum"},
            (
                r"rule 'krum' compares all updates with each other: of 20,000 that takes 16\.0 GB "
                r"of memory, and more than 10,000 .* \{ bucketing = 2 \} or more"
            ),
        ),
        ({"aggregation.pre_aggregation": {"nnm": 4}}, "pre-aggregation 'nnm' compares all"),
        (
            {"aggregation.rule": "fedavgm", "aggregation.options": {"base": "multi_krum"}},
            "rule 'multi_krum' compares all",
        ),
        ({"aggregation.rule": "flame", "aggregation.pre_aggregation": {"bucketing": 1}}, "20,000"),
        ({"aggregation.rule": "foolsgold"}, "are not compared; call fewer agents"),
    ],
)
def test_a_run_of_too_many_to_compare_is_refused_at_the_start(given, words):
    """The sentence names the rule, how many updates, the memory and what to do."""
    with pytest.raises(ValueError, match=words):
        checked_rule(load(overrides={"agents.n": 20_000, "aggregation.rule": "median"} | given))


@pytest.mark.parametrize(
    "given",
    [
        {"agents.n": 10_000},
        {"agents.n": 20_000, "aggregation.pre_aggregation": {"bucketing": 2}},
        {"agents.n": 20_000, "sampling.client_fraction": 0.5},
        {"agents.n": 20_000, "groups.size": 2},
        {"agents.n": 1_000_000, "aggregation.rule": "median"},
    ],
    ids=str,
)
def test_as_many_as_can_be_compared_may_start(given):
    """Buckets, a fraction of the agents and groups all make fewer updates."""
    checked_rule(load(overrides={"aggregation.rule": "krum"} | given))


def test_a_run_may_have_partitions():
    """``aggregation.partitions`` is a power of two; the rule is tried with as many."""
    checked_rule(load(overrides={"agents.n": 20, "aggregation.partitions": 16}))
    with pytest.raises(SettingsError, match="a power of two, like 1, 4 or 16"):
        load(overrides={"aggregation.partitions": 12})


@pytest.mark.parametrize("width", [3, 819, 8192, 8193, 13_106])
@pytest.mark.parametrize("first", [0, 5])
def test_squared_norms_are_those_of_one_call(width, first):
    """Bit for bit, of 100 rows that lie apart, or not; also of one that is not finite."""
    whole = np.random.default_rng(1).normal(size=(100, first + width)).astype(np.float32)
    whole[7, -1] = np.inf
    part = whole[:, first:]
    expected = np.einsum("nd,nd->n", part, part, dtype=np.float64)
    np.testing.assert_array_equal(blocks.squares(part, 0), expected)
    np.testing.assert_allclose(expected[0], math.fsum(float(x) ** 2 for x in part[0]), rtol=1e-12)


def test_no_row_has_no_norm():
    """Of no update, and of updates without a parameter."""
    assert blocks.squares(np.empty((0, 3), np.float32), 0).shape == (0,)
    assert blocks.squares(np.empty((2, 0), np.float32), 0).tolist() == [0, 0]
