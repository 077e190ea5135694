"""What secure aggregation is made of: keys, masks, boxes, shares of secrets, and neighbours."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.noise import drawn
from support.secure_group import chi_square

from fedjury.secure import keys, shamir
from fedjury.secure.graph import draw_graph
from fedjury.secure.keys import LOW_ORDER, KeyPair, Session
from fedjury.secure.shamir import PARTS, PRIME

ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"

secrets = st.binary(min_size=32, max_size=32)
names = st.text("ab-_9", min_size=1, max_size=3)
numbers = st.integers(0, 12)
sessions = st.builds(Session, names, numbers, numbers, numbers)


def pair(hexadecimal):
    return KeyPair.of(bytes.fromhex(hexadecimal))


# Keys


def test_agreement_is_that_of_rfc_7748():
    """Alice's and Bob's keys, and the secret they share, are those of section 6.1."""
    alice, bob = pair(ALICE), pair(BOB)
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.agree(bob.public).hex() == bob.agree(alice.public).hex() == shared


def test_keys_are_derived_as_rfc_5869_says():
    """Without salt and info: the first 32 bytes of test case A.3."""
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert keys.derive(bytes([11]) * 22, b"").hex() == expected


@given(secrets, st.binary(max_size=60))
@settings(max_examples=30)
def test_info_binds_a_derived_key(secret, info):
    """As worked out with HMAC alone: extract with a salt of zeros, expand by one block."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    assert keys.derive(secret, info) == hmac.digest(extracted, info + b"\1", "sha256")


def test_masks_are_aes_256_in_counter_mode():
    """Key 0: the blocks of counters 0, 1 and 2, which test cases 13 and 14 of GCM's paper show."""
    blocks = [
        "dc95c078a2408989ad48a21492842087",
        "530f8afbc74536b9a963b4f1c4cb738b",
        "cea7403d4d606b6e074ec5d3baf39d18",
    ]
    mask = keys.mask(bytes(32), 11)
    assert mask.dtype == np.uint32
    assert mask.astype("<u4").tobytes().hex() == "".join(blocks)[: 11 * 8]


def test_the_cipher_is_that_of_sp_800_38a():
    """The first block of F.5.5, enciphered by what ``mask`` is made of."""
    key = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
    stream = keys.Cipher(keys.AES(bytes.fromhex(key)), keys.CTR(bytes(range(240, 256))))
    out = stream.encryptor().update(bytes.fromhex("6bc1bee22e409f96e93d7e117393172a"))
    assert out.hex() == "601ec313775789a5b7a7f504bbf3d228"


def test_masks_look_random():
    """Bytes of a mask of 50,000 numbers are as even as those of chance."""
    data = keys.mask(hashlib.sha256(b"some key").digest(), 50_000).view(np.uint8)
    assert abs(chi_square(data, 256)) < 4


def test_points_of_low_order_share_no_secret():
    """With each of the seven, highest bit set or not, every agreement is refused."""
    assert len(LOW_ORDER) == 7
    for point in LOW_ORDER:
        for public in (point, point[:-1] + bytes([point[-1] | 128])):
            assert keys.same(public) == point
            with pytest.raises(ValueError, match=r"[Ee]xchang|shared"):
                pair(ALICE).agree(public)


def test_the_highest_bit_of_a_key_counts_for_nothing():
    """Bob's key with that bit is another text, but the same key."""
    public = pair(BOB).public
    other = public[:-1] + bytes([public[-1] | 128])
    assert other != public
    assert keys.same(other) == keys.same(public) == public
    assert pair(ALICE).agree(other) == pair(ALICE).agree(public)


def test_private_keys_are_not_shown():
    """What shows a pair, as a log may, shows its public key alone."""
    shown = repr(pair(ALICE))
    assert repr(pair(ALICE).public) in shown
    assert repr(bytes.fromhex(ALICE)) not in shown


@given(sessions, sessions, *[st.sampled_from(["mask", "box"])] * 2, *[names] * 4)
@settings(max_examples=30)
def test_each_use_of_a_secret_has_an_info_of_its_own(s1, s2, p1, p2, a, b, c, d):
    """Two of them are equal only if session, purpose and both agents are."""
    same = (s1, p1, a, b) == (s2, p2, c, d)
    assert (s1.info(p1, a, b) == s2.info(p2, c, d)) is same


# Boxes


def test_a_box_opens_with_its_key_and_header_alone():
    """What is in it comes out; another key, header or byte, or a part of it, and nothing does."""
    key, header = bytes(range(32)), b"from a to b"
    box = keys.seal(key, b"content", header, drawn(1))
    assert len(box) == len(b"content") + keys.SEALED
    assert keys.unseal(key, box, header) == b"content"
    changed = [box[:i] + bytes([box[i] ^ 1]) + box[i + 1 :] for i in range(len(box))]
    shorter = [box[:i] for i in range(len(box))]
    for wrong in [
        *((key, one, header) for one in changed + shorter),
        (bytes(32), box, header),
        (key, box, b"from b to a"),
    ]:
        with pytest.raises(ValueError, match="a box does not open"):
            keys.unseal(*wrong)


# Shares


def test_shares_are_those_of_googles_vector():
    """Any three of five restore 0 and 33 (federated-compute, shamir_secret_sharing_test)."""
    shares = [
        [112, 207, 118, 46, 110, 212, 170, 28],
        [48, 160, 197, 172, 38, 235, 145, 204],
        [63, 115, 238, 144, 40, 68, 183, 71],
        [29, 72, 240, 207, 114, 224, 26, 141],
        [74, 31, 204, 116, 6, 189, 187, 136],
    ]
    numbers = np.frombuffer(bytes(np.ravel(shares).tolist()), ">u4").astype(np.uint64).reshape(5, 2)
    places = [[0, 1, 2], [2, 3, 4], [4, 0, 3]]
    restored = shamir.restore(np.array([numbers[row] for row in places]), places)
    assert restored.tolist() == [[0, 33]] * 3


def test_parts_by_hand():
    """32 bytes are nine parts of 31 bits, of which the first holds the eight highest."""
    secret = (5 << 248 | 7 << 217 | 2**31 - 1).to_bytes(32, "big")
    assert shamir.parts_of([secret]).tolist() == [[5, 7, 0, 0, 0, 0, 0, 0, 2**31 - 1]]


@given(st.lists(secrets, min_size=1, max_size=3), st.data())
@settings(max_examples=50)
def test_any_threshold_of_shares_restores(several, data):
    """Whichever of the holders they are, in whatever order, and whatever the secrets."""
    n = data.draw(st.integers(2, 12))
    threshold = data.draw(st.integers(1, n))
    places = data.draw(st.permutations(range(n)))[:threshold]
    shares = shamir.share(shamir.parts_of(several), n, threshold, drawn(n))
    assert shares.shape == (len(several), n, PARTS)
    assert shares.max() < PRIME
    restored = shamir.restore(shares[:, places], [places] * len(several))
    assert [shamir.secret_of(row) for row in restored] == several


@given(secrets, secrets, st.integers(2, 6))
@settings(max_examples=40)
def test_fewer_shares_fit_every_secret(secret, other, threshold):
    """One share less than the threshold: some value of the missing one makes any other secret."""
    parts, wanted = shamir.parts_of([secret, other]).astype(object)
    shares = shamir.share(shamir.parts_of([secret]), threshold, threshold, drawn(threshold))
    places = [list(range(threshold))]
    zero, one = shares.copy(), shares.copy()
    zero[:, -1], one[:, -1] = 0, 1
    at_zero = shamir.restore(zero, places)[0].astype(object)
    by_one = (shamir.restore(one, places)[0].astype(object) - at_zero) % PRIME
    missing = (wanted - at_zero) * [pow(int(w), -1, PRIME) for w in by_one] % PRIME
    shares[0, -1] = missing.astype(np.uint64)
    assert shamir.secret_of(shamir.restore(shares, places)[0]) == other
    assert secret == other or (parts != wanted).any()


def test_a_share_is_uniform():
    """Of 40,000 sharings of one secret a holder's shares fall evenly into 64 bins, as do pairs."""
    parts = np.full((40_000, 1), 123_456_789, np.uint64)
    shares = shamir.share(parts, 3, 3, drawn(2))[:, :, 0]
    for holder in range(3):
        assert abs(chi_square((shares[:, holder] * 64 // PRIME).astype(int), 64)) < 4
    two = shares[:, 0] * 8 // PRIME * 8 + shares[:, 1] * 8 // PRIME
    assert abs(chi_square(two.astype(int), 64)) < 4


@pytest.mark.parametrize("parts", [[2**31, *[0] * 8], [2**8, *[0] * 8], [*[0] * 8, PRIME - 1]])
def test_numbers_that_are_no_secret(parts):
    """Parts too large, as wrong shares make them, are no secret."""
    with pytest.raises(ValueError, match="the shares are of no secret"):
        shamir.secret_of(np.array(parts, np.uint64))


@given(secrets)
@settings(max_examples=20)
def test_a_wrong_share_makes_another_secret_or_none(secret):
    """Nothing of it is seen by itself: so what is restored must be checked."""
    shares = shamir.share(shamir.parts_of([secret]), 3, 3, drawn(3))
    shares[0, 1, 8] = (shares[0, 1, 8] + np.uint64(1)) % np.uint64(PRIME)
    restored = shamir.restore(shares, [[0, 1, 2]])[0]
    # by Lagrange at 0: place 1 counts (1 · 3) / ((1 - 2)(3 - 2)) = -3 times
    last = int.from_bytes(secret, "big") % 2**31
    assert int(restored[8]) == (last - 3) % PRIME


# Neighbours


@given(st.integers(4, 40), st.data())
@settings(max_examples=40)
def test_every_graph_is_regular_symmetric_and_connected(n, data):
    """All have as many neighbours, ascending, none is its own, and from one all are reached."""
    degree = data.draw(st.sampled_from([*range(2, n - 1, 2), n - 1]))
    graph = draw_graph(n, degree, drawn(data.draw(st.integers(0, 1000))))
    near = [set(row) for row in graph.tolist()]
    assert all(len(row) == degree and i not in row for i, row in enumerate(near))
    assert all(i in near[j] for i, row in enumerate(near) for j in row)
    assert (np.diff(graph, axis=1) > 0).all()
    reached = {0}
    while more := set().union(*(near[i] for i in reached)) - reached:
        reached |= more
    assert len(reached) == n


def test_a_graph_by_hand():
    """Numbers 30, 10, 20, 50, 40 make the circle 1, 2, 0, 4, 3: each has those beside it."""
    source = np.array([30, 10, 20, 50, 40], "<u8").tobytes()
    graph = draw_graph(5, 2, lambda size: source[:size])
    assert graph.tolist() == [[2, 4], [2, 3], [0, 1], [1, 4], [0, 3]]


def test_neighbours_are_drawn_by_the_source():
    """The same bytes, the same graph; in 3,000 draws each other one is as often a neighbour."""
    assert np.array_equal(draw_graph(20, 6, drawn(1)), draw_graph(20, 6, drawn(1)))
    source = drawn(2)
    first = np.concatenate([draw_graph(9, 2, source)[0] for _ in range(3000)]) - 1
    counts = np.bincount(first, minlength=8)  # 750 each, ± 24
    assert counts.sum() == 6000
    assert abs(counts - 750).max() < 110
