"""Updates as whole numbers: worked by hand, exact sums, a bound whatever comes, packing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedjury.secure.agent import Refusal, shortened
from fedjury.secure.fixed_point import FixedPoint, packed, packed_size, unpacked

WIDTHS = range(8, 33, 4)

coordinates = st.floats(-2, 2, width=32)
updates = arrays(np.float32, st.tuples(st.integers(1, 9), st.just(5)), elements=coordinates)


def vector(*values):
    return np.array(values, np.float32)


def summed(fixed, rows, shares):
    """Return what the numbers of all rows sum to, as the aggregator sees it: without the carry."""
    encoded = [fixed.encode(row, share) for row, share in zip(rows, shares, strict=True)]
    return np.sum(encoded, axis=0, dtype=np.uint32) & np.uint32(2**fixed.bits - 1)


# Numbers by hand


@pytest.mark.parametrize(
    ("members", "value_bits", "bits", "largest"),
    [
        (50, 14, 20, 2**14 - 1),  # 14 and 6 that carry
        (64, 14, 20, 2**14 - 1),
        (65, 14, 24, 2**17 - 1),  # 21 become 24: all four more go to the values
        (3, 8, 12, 2**10 - 1),
        (1, 4, 8, 2**8 - 1),
        (4, 30, 32, 2**30 - 1),
    ],
)
def test_widths_by_hand(members, value_bits, bits, largest):
    """The narrowest multiple of four that holds the sum; what is over makes values finer."""
    fixed = FixedPoint.of(1.0, members, value_bits)
    assert (fixed.bits, fixed.largest) == (bits, largest)
    assert members * fixed.largest < 2**bits


def test_sums_that_do_not_fit_are_refused():
    """A million members leave 12 of 32 bits for a value."""
    assert FixedPoint.of(1.0, 10**6, 12).bits == 32
    with pytest.raises(
        ValueError, match=r"^sums of 1,000,000 values of 13 bits do not fit into 32"
    ):
        FixedPoint.of(1.0, 10**6, 13)


def test_encoding_by_hand():
    """Of 255 steps from -1 to 1: -1 is 0, 1 is 255, 0 is 127.5 and so, halves to even, 128."""
    fixed = FixedPoint(1.0, 8, 1)
    assert fixed.encode(vector(-1, 1, 0, 0.5), 1.0).tolist() == [0, 255, 128, 191, 0]
    assert fixed.encode(vector(-1, 1, 0, 0.5), 0.5).tolist() == [64, 191, 128, 159, 0]


def test_halves_are_rounded_to_even():
    """Of 15 steps from -7.5 to 7.5 each is one wide: halves between them go to the even one."""
    fixed = FixedPoint(7.5, 8, 16)
    assert fixed.largest == 15
    values = vector(-7, -6, -5, 0, 1, 6, 7)  # 0.5, 1.5, 2.5, 7.5, 8.5, 13.5, 14.5
    assert fixed.encode(values, 1.0).tolist()[:-1] == [0, 2, 2, 8, 8, 14, 14]


def test_clipped_coordinates_are_counted():
    """Two of four lie outside the box: clipped to its edge, and half of the last number's range."""
    fixed = FixedPoint(1.0, 16, 4)  # largest: 2^14 - 1 = 16,383, half of it 8,191.5, to even 8,192
    assert fixed.encode(vector(3, -9, 1, -1), 1.0).tolist() == [16383, 0, 16383, 0, 8192]
    rows = [vector(3, -9, 1, -1), vector(0.5, 0, 0, 0)]
    _, clipped = fixed.decode(summed(fixed, rows, [1.0, 1.0]), 2, 2.0)
    assert clipped == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    """One such coordinate, and there is nothing to be summed."""
    with pytest.raises(ValueError, match="the update is not finite"):
        FixedPoint(1.0, 16, 3).encode(vector(0, bad, 1), 1.0)


def test_an_update_is_not_changed():
    """It may be a read-only view of a model."""
    update = vector(5, -5, 0.1)
    update.flags.writeable = False
    FixedPoint(1.0, 16, 3).encode(update, 0.5)
    assert update.tolist() == vector(5, -5, 0.1).tolist()


@pytest.mark.parametrize("clip", [2.0**-149, 1e-30, 1e30, float(np.finfo(np.float32).max)])
def test_every_clip_of_a_float32_will_do(clip):
    """From the smallest to the largest one: half of the clip comes back as that."""
    fixed = FixedPoint(clip, 20, 50)
    update = np.array([clip, clip / 2, -clip], np.float32)
    mean, _ = fixed.decode(fixed.encode(update, 1.0), 1, 1.0)
    assert mean == pytest.approx(update, abs=clip / fixed.largest + 2.0**-149)


# Sums


@given(updates, st.data())
@settings(max_examples=30)
def test_sums_are_exact_and_in_any_order(rows, data):
    """The mean is that in the clear to half a step of each; bit for bit the same in any order."""
    weights = data.draw(st.lists(st.integers(1, 8), min_size=len(rows), max_size=len(rows)))
    order = data.draw(st.permutations(range(len(rows))))
    fixed = FixedPoint.of(0.75, len(rows), 14)
    shares = np.array(weights) / max(weights)
    total = summed(fixed, rows, shares)
    assert np.array_equal(total, summed(fixed, rows[order], shares[order]))
    mean, clipped = fixed.decode(total, len(rows), shares.sum())
    clear = shares @ np.clip(rows.astype(float), -0.75, 0.75) / shares.sum()
    half_a_step = 0.75 / fixed.largest
    assert np.abs(mean - clear).max() <= len(rows) * half_a_step / shares.sum() + 1e-7
    assert clipped == pytest.approx((np.abs(rows) > 0.75).mean(), abs=1 / fixed.largest)


@given(st.integers(1, 70), st.data())
@settings(max_examples=30)
def test_no_mean_leaves_the_box(members, data):
    """Whatever the members send, and however few of them: no coordinate is above the clip."""
    fixed = FixedPoint.of(0.5, members, data.draw(st.integers(4, 16)))
    total = data.draw(arrays(np.uint32, 4, elements=st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(1, members))
    weight = data.draw(st.floats(count / 8, count))
    mean, clipped = fixed.decode(total, count, weight)
    assert (np.abs(mean) <= 0.5).all()
    assert 0 <= clipped <= 1


def test_the_bound_by_hand():
    """Of 50 members 45 are left, and one makes the sum as large as can be: 1.84 clips, clipped."""
    fixed = FixedPoint.of(0.1, 50, 14)
    total = np.full(2, 2**20 - 1, np.uint32)
    unbounded = (2**20 - 1) * 0.2 / (2**14 - 1) / 45 - 0.1
    assert unbounded > 0.18
    assert fixed.decode(total, 45, 45.0)[0].tolist() == vector(0.1).tolist()


# Packing


@pytest.mark.parametrize(
    ("bits", "values", "expected"),
    [
        (8, [0x12, 0x34, 0x56], "12345600"),
        (12, [0x123, 0x456], "236145"),
        (20, [0x12345, 0xABCDE], "4523e1cdab"),
        (32, [0x12345678], "7856341200000000"),
    ],
)
def test_packing_by_hand(bits, values, expected):
    """Lowest bits first, two numbers in as many bytes as they need."""
    data = packed(np.array(values, np.uint32), bits)
    assert data.hex() == expected
    assert len(data) == packed_size(len(values), bits)
    assert unpacked(data, len(values), bits).tolist() == values


@pytest.mark.parametrize("bits", WIDTHS)
@given(words=arrays(np.uint32, st.integers(0, 9), elements=st.integers(0, 2**32 - 1)))
@settings(max_examples=20)
def test_packing_keeps_the_lowest_bits(bits, words):
    """For every width and length what comes out are the numbers that went in, modulo 2^bits."""
    data = packed(words, bits)
    assert len(data) == packed_size(len(words), bits) == (len(words) + 1) // 2 * bits // 4
    assert unpacked(data, len(words), bits).tolist() == [int(w) % 2**bits for w in words]


@pytest.mark.parametrize("bits", WIDTHS)
def test_another_number_of_bytes_is_refused(bits):
    """One byte more or less than five numbers take."""
    size = packed_size(5, bits)
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(ValueError, match=rf"^{wrong} bytes, not {size}$"):
            unpacked(bytes(wrong), 5, bits)


@given(st.binary(min_size=5, max_size=5))
@settings(max_examples=20)
def test_any_bytes_are_numbers(data):
    """Two numbers of 20 bits are five bytes, and all five bytes are two such numbers."""
    assert packed(unpacked(data, 2, 20), 20) == data


def test_a_long_update_is_shortened_with_room_for_its_rounding():
    """Of 4 numbers in steps of 2 / 255 rounding may add half a step each: √4 / 255 = .0078."""
    fixed = FixedPoint(clip=1.0, bits=8, members=1)
    long = np.array([3, 4, 0, 0], np.float32)
    short = shortened(long, 1.0, fixed)
    np.testing.assert_allclose(np.linalg.norm(short), 1 - 2 / 255, rtol=1e-5)
    np.testing.assert_allclose(short[1] / short[0], 4 / 3, rtol=1e-6)
    decoded, _ = fixed.decode(fixed.encode(short, 1.0), 1, 1.0)
    assert np.linalg.norm(decoded) <= 1
    assert shortened(long / 10, 1.0, fixed) is not None
    np.testing.assert_array_equal(shortened(long / 10, 1.0, fixed), long / 10)
    with pytest.raises(Refusal, match=r"rounding alone may make an update longer than 0\.007"):
        shortened(long, 0.007, fixed)


def test_hidden_weights_are_summed_beside_what_they_weigh():
    """Of 1 and 1/4 at 11 bits for one: 2,047 and 512; (1 x .5 + .25 x -.5) / 1.25 is .3."""
    fixed = FixedPoint.of(1.0, 2, 11)
    assert fixed.encode(vector(0.5), 0.25, hidden=True).tolist()[1:] == [0, 512]
    one = fixed.encode(vector(0.5), 1.0, hidden=True)
    other = fixed.encode(vector(-0.5), 0.25, hidden=True)
    total = one + other
    assert fixed.weight(total) == pytest.approx(1.25, abs=1e-3)
    mean, clipped = fixed.decode(total[:-1], 2, fixed.weight(total))
    assert (mean.tolist(), clipped) == (pytest.approx([0.3], abs=2e-3), 0)


def test_a_sum_whose_weights_are_none_divides_by_something():
    """As liars may say: the mean stays in the box."""
    fixed = FixedPoint.of(1.0, 2, 11)
    total = np.array([4000, 0, 0], np.uint32)
    assert fixed.decode(total[:-1], 1, fixed.weight(total))[0].tolist() == [1.0]
