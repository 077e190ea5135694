"""Streams of random numbers: named, reproducible, without overlap, and made in one place."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fedjury import randomness, rules
from fedjury.learning import models
from fedjury.learning.weights import flatten
from fedjury.randomness import Purpose, keys, stream, stream_of_bytes
from fedjury.rules import Context

ROOT = Path(__file__).resolve().parents[2]

BORDERS = 0, 1, 2, 3, 2**31 - 1, 2**32, 2**32 + 1, 2**63 - 1
"""Numbers that are easily taken for others: by those who leave zeros out, or cut words off."""


def philox(key, counter):
    """Encipher four words with two: Philox-4x64-10 as in its paper (SC 2011, section 3.3)."""
    (k0, k1), (c0, c1, c2, c3), mask = key, counter, 2**64 - 1
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & mask, (p0 >> 64) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


# What a stream is


def test_a_stream_is_the_cipher_of_its_name():
    """Seed and purpose are the key; position, round and agent the counter: so on any machine."""
    assert philox((0, 0), (0, 0, 0, 0))[0] == 0x16554D9ECA36314C  # from the authors' own tests
    drawn = stream(2**63 - 1, Purpose.ATTACK, 7, 2**40).bit_generator.random_raw(8).tolist()
    key = 2**63 - 1, int(Purpose.ATTACK)
    assert drawn == philox(key, (1, 7, 2**40, 0)) + philox(key, (2, 7, 2**40, 0))


def test_no_two_streams_share_their_first_numbers():
    """Another seed, purpose, round or agent is another stream, also where numbers are swapped."""
    names = [*product((0, 1, 2**63 - 1), Purpose, (0, 1, 2, 7), BORDERS)]
    names += [*product((5,), (Purpose.ATTACK, Purpose.SAMPLE_ORDER), BORDERS, range(60))]
    names = list(dict.fromkeys(names))
    drawn = [stream(*name).bit_generator.random_raw(2).tolist() for name in names]
    assert len({number for pair in drawn for number in pair}) == 2 * len(names)


def test_a_stream_depends_on_its_name_alone():
    """Made again, between others and in another order, each stream begins with the same numbers."""
    names = [(3, purpose, round_, 4) for purpose in Purpose for round_ in (1, 2)]
    first = {name: stream(*name).standard_normal(3).tolist() for name in names}
    np.random.default_rng(0).shuffle(names)
    several = [(name, stream(*name)) for name in names]
    assert {name: rng.standard_normal(3).tolist() for name, rng in several} == first


@pytest.mark.parametrize(
    "name", [(-1, Purpose.MODEL), (2**64, Purpose.MODEL), (0, Purpose.GAP, -1)]
)
def test_numbers_that_would_be_cut_off_are_refused(name):
    """A seed, round or agent of more than 64 bits, or below 0, is an error."""
    with pytest.raises(OverflowError):
        stream(*name)


def test_streams_of_bytes_depend_on_each_of_them():
    """What many have sent gives a stream that changes with any bit of it, and with the purpose."""
    data = bytes(range(200))
    changed = [data, data[:-1], data + b"\0", b"\1" + data[1:]]
    drawn = [stream_of_bytes(some, Purpose.SKETCH).bytes(8) for some in changed]
    assert len({*drawn, stream_of_bytes(data, Purpose.GAP).bytes(8)}) == 5
    assert stream_of_bytes(data, Purpose.SKETCH).bytes(8) == drawn[0]


# Many agents at once


def test_keys_of_agents_never_meet():
    """All numbers that all agents of a round sort their samples by are different."""
    drawn = keys(1, Purpose.SAMPLE_ORDER, 3, [*range(500), 2**32 - 1], 40)
    assert drawn.shape == (501, 40)
    assert len(np.unique(drawn)) == drawn.size
    for other in (
        keys(2, Purpose.SAMPLE_ORDER, 3, range(500), 40),
        keys(1, Purpose.SAMPLE_ORDER, 4, range(500), 40),
        keys(1, Purpose.SERVER_SAMPLE_ORDER, 3, range(500), 40),
    ):
        assert not np.isin(other, drawn).any()


def test_keys_of_an_agent_are_its_own_business():
    """Who else is drawn for, and how many numbers, changes nothing of an agent's."""
    drawn = keys(9, Purpose.SAMPLE_ORDER, 2, (4, 70_000, 5), 6)
    np.testing.assert_array_equal(keys(9, Purpose.SAMPLE_ORDER, 2, (5,), 3)[0], drawn[2, :3])


def test_bits_of_keys_are_fair():
    """Each of the 64 bits of 40,000 keys is set in half of them (sd 100), and differs in half."""
    drawn = keys(0, Purpose.SAMPLE_ORDER, 1, range(10_000), 4)
    for numbers in (drawn, drawn[1:] ^ drawn[:-1], drawn[:, 1:] ^ drawn[:, :-1]):
        bits = np.unpackbits(np.ascontiguousarray(numbers).view(np.uint8)).reshape(-1, 64)
        assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(bits))


def test_split_mix_is_split_mix():
    """The first numbers from seed 0 are those of the published generator."""
    drawn = randomness._split_mix(0, np.arange(3, dtype=np.uint64))
    assert [f"{n:016x}" for n in drawn] == [
        "e220a8397b1dcdaf",
        "6e789e6aa1b965f4",
        "06c45d188009454f",
    ]


# Who draws from them


def test_fakes_pull_towards_a_model_of_their_own():
    """The fakes' model is no run's first model: not of this seed, nor of the next."""
    drawn = [
        flatten(models.build("mlp", (1, 4, 4), 3, seed, purpose))[:5].tolist()
        for seed in (0, 1, 2)
        for purpose in (Purpose.MODEL, Purpose.FAKE_MODEL)
    ]
    assert len({tuple(weights) for weights in drawn}) == 6


def test_a_rule_and_what_is_before_it_draw_from_different_streams():
    """Two fronts and the rule behind them each have a generator of their own in a round."""
    seen = []

    def front(updates, samples, context):
        seen.append(context.rng().random())
        return updates, samples

    def rule(updates, _samples, context):
        seen.append(context.rng().random())
        return updates[0]

    context = Context(seed=3, round=2)
    rules.with_pre_aggregation({"first": front, "second": front}, rule)(
        np.ones((2, 2)), np.ones(2), context
    )
    assert len(set(seen)) == 3
    assert seen[-1] == context.rng().random()


# Who may make generators

MAKERS = {
    *("default_rng", "SeedSequence", "RandomState", "BitGenerator", "Philox", "PCG64", "PCG64DXSM"),
    *("MT19937", "SFC64", "manual_seed", "fork_rng", "set_rng_state", "seed"),
}
"""What makes or seeds a generator in NumPy or PyTorch, whatever module it is taken from."""

DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
"""What PyTorch draws from its own generator, if it is given none."""


def makers_in(module):
    """Find where a file makes a generator, or draws from one that is everybody's."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & MAKERS:
            yield node.lineno
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        *base, name = ast.unparse(node.func).split(".")
        numpy_draws = base[-2:] == ["np", "random"] or base[-2:] == ["numpy", "random"]
        torch_draws = base == ["torch"] and name in DRAWS
        torch_maker = name == "Generator" and bool(base)
        if name in MAKERS or numpy_draws or torch_maker or torch_draws:
            yield node.lineno


@pytest.mark.parametrize(
    "code",
    [
        "np.random.default_rng([seed, 1])",
        "numpy.random.normal(0, 1)",
        "from numpy.random import default_rng",
        "rng = default_rng()",
        "np.random.Generator(np.random.PCG64(1))",
        "torch.manual_seed(3)",
        "torch.Generator().manual_seed(3)",
        "torch.randn(3)",
        "def f():\n    with torch.random.fork_rng(): pass",
    ],
)
def test_makers_are_found_wherever_they_hide(code):
    """Called by any name, imported alone, inside functions: a maker of generators is seen."""
    assert list(makers_in(ast.parse(code)))


def test_one_file_makes_generators():
    """In the package and its tools all random numbers come from the streams of one file."""
    files = [*(ROOT / "fedjury").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    found = {
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        for line in makers_in(ast.parse(file.read_text(encoding="utf-8")))
    }
    others = {place for place in found if not place.startswith("fedjury/randomness.py:")}
    assert found > others
    assert not others
