"""The frozen vector of secure aggregation: what programs in other languages are written against.

It is made again from our own code, and its numbers are recomputed here from the words of
docs/protocol.md with nothing of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from pathlib import Path

import msgpack
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from support.secure_vector import vector, written

FILE = Path(__file__).parent / "recorded" / "secure_vector.json"
VECTOR = json.loads(FILE.read_text(encoding="utf-8"))
AGENTS = VECTOR["agents"]
SHARERS = [name for name, agent in AGENTS.items() if "own_secret" in agent]
PRIME = 2**31 + 11


def hexed(name, *keys):
    """Return bytes of an agent."""
    found = AGENTS[name]
    for key in keys:
        found = found[key]
    return bytes.fromhex(found)


def message(name, step):
    """Return what an agent said or heard."""
    [payload] = [
        one["payload"]
        for one in AGENTS[name]["messages"]
        if one["topic"] == f"secure/{step}/{name}"
    ]
    return msgpack.unpackb(bytes.fromhex(payload))


def test_it_is_made_again_byte_for_byte():
    """With the same random bytes all is as it was; what differs would not be understood."""
    assert written(vector()) == FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["mask", "box"])
def test_neighbours_have_the_same_secret(kind):
    """X25519 of one's private key and the other's public key, which is that of its private one."""
    for name in SHARERS:
        private = X25519PrivateKey.from_private_bytes(hexed(name, f"{kind}_private"))
        public = hexed(name, f"{kind}_public")
        assert private.public_key().public_bytes_raw() == public
        assert message(name, "keys")[f"{kind}_key"] == public
        for other in AGENTS[name]["neighbours"]:
            their = X25519PublicKey.from_public_bytes(hexed(other, f"{kind}_public"))
            assert private.exchange(their) == hexed(name, "with", other, f"{kind}_secret")


@pytest.mark.parametrize("purpose", ["mask", "box"])
def test_keys_are_derived_as_documented(purpose):
    """HKDF-SHA256 without salt: one block. Both neighbours come to the same key."""
    for name in SHARERS:
        for other, found in AGENTS[name]["with"].items():
            pair = "/".join(sorted((name, other)))
            info = f"fedjury/secagg/{purpose}/lab/3/2/1/{pair}"
            assert found[f"{purpose}_info"] == info
            secret = hexed(name, "with", other, f"{purpose}_secret")
            extracted = hmac.digest(bytes(32), secret, "sha256")
            key = hmac.digest(extracted, info.encode() + b"\1", "sha256")
            assert key == hexed(name, "with", other, f"{purpose}_key")
            if other in SHARERS:
                assert key == hexed(other, "with", name, f"{purpose}_key")


def test_what_is_random_comes_from_the_documented_streams():
    """An agent takes two private keys, its own secret, its polynomials, and a nonce a box."""
    for name in SHARERS:
        agent, drawn = AGENTS[name], hexed(name, "random_bytes")
        key = hashlib.sha256(f"fedjury/secure vector/{name}".encode()).digest()
        assert drawn == Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(len(drawn)))
        nonces = [found["nonce"] for found in agent["with"].values()]
        kept = [agent[key] for key in ("mask_private", "box_private", "own_secret")]
        polynomials = drawn[96 : 96 + 16 * 18]
        assert drawn == bytes.fromhex("".join(kept)) + polynomials + bytes.fromhex("".join(nonces))
        high, low = (struct.unpack("<18Q", polynomials[at : at + 144]) for at in (0, 144))
        numbers = [((h << 64) + one) % PRIME for h, one in zip(high, low, strict=True)]
        assert agent["coefficients"] == [[numbers[:9], numbers[9:]]]


def test_any_two_shares_restore_a_secret():
    """At 1 to 4, in the order of the neighbours, stand the values of lines that begin in it."""
    for name in SHARERS:
        for share, secret in (
            ("share_of_mask_private", "mask_private"),
            ("share_of_own_secret", "own_secret"),
        ):
            values = [
                struct.unpack("<9I", hexed(name, "with", other, share))
                for other in AGENTS[name]["neighbours"]
            ]
            for i in range(4):
                for j in range(i):
                    slope = pow(i - j, -1, PRIME)
                    parts = [
                        (a - (a - b) * slope * (i + 1)) % PRIME
                        for a, b in zip(values[i], values[j], strict=True)
                    ]
                    number = sum(part << 31 * (8 - p) for p, part in enumerate(parts))
                    assert number.to_bytes(32, "big") == hexed(name, secret)


def test_boxes_hold_both_shares_for_one_reader():
    """A box: nonce, content and seal of AES-256-GCM; the inbox has them in the reader's order."""
    for name in SHARERS:
        inbox = message(name, "inbox")["boxes"]
        for i, sender in enumerate(AGENTS[name]["neighbours"]):
            box = inbox[100 * i : 100 * (i + 1)]
            if sender not in SHARERS:
                assert box == bytes(100)
                continue
            header = f"fedjury/secagg/share/lab/3/2/1/{sender}/{name}"
            key = hexed(name, "with", sender, "box_key")
            content = AESGCM(key).decrypt(box[:12], box[12:], header.encode())
            both = AGENTS[sender]["with"][name]
            assert content.hex() == both["share_of_mask_private"] + both["share_of_own_secret"]


def stretched(key):
    """Return eight numbers of a key."""
    return [*struct.unpack("<8I", Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(32)))]


def test_keys_are_stretched_to_masks():
    """AES-256 in counter mode over zeros, from a counter of zero; four bytes a number."""
    for name in SHARERS:
        assert stretched(hexed(name, "own_secret")) == AGENTS[name]["own_mask"]
        for other, found in AGENTS[name]["with"].items():
            assert stretched(hexed(name, "with", other, "mask_key")) == found["mask"]


def test_updates_become_numbers():
    """Clipped, weighted, moved, scaled and rounded in this order; the last is what was clipped."""
    clip, largest = VECTOR["clip"], VECTOR["largest_number"]
    assert largest == 2 ** (20 - 3) - 1
    for agent in AGENTS.values():
        if "encoded" in agent:
            values = struct.unpack("<7f", bytes.fromhex(agent["update"]))
            weight = agent["weight"] / VECTOR["largest_weight"]
            scale = largest / (2 * clip)
            numbers = [round((min(max(v, -clip), clip) * weight + clip) * scale) for v in values]
            share = sum(abs(v) > clip for v in values) / 7
            assert agent["encoded"] == [*numbers, round(share * largest)]


def test_of_each_neighbour_one_share_is_given_away():
    """Of cem, dan and fay the own mask's, of bob the key's, who has left, of eve none."""
    for name in ("ada", "cem", "dan", "fay"):
        said = message(name, "unmasked")["shares"]
        for i, other in enumerate(AGENTS[name]["neighbours"]):
            share = "share_of_mask_private" if other == "bob" else "share_of_own_secret"
            given = AGENTS[other].get("with", {}).get(name, {}).get(share, "00" * 36)
            assert said[36 * i : 36 * (i + 1)].hex() == given
            assert (given == "00" * 36) == (other == "eve")


def test_an_agent_is_masked_by_its_own_mask_and_those_with_neighbours():
    """Of two, the one whose place is lower adds the mask that they share; eve sent no box."""
    for name in SHARERS:
        total = [*AGENTS[name]["own_mask"]]
        for other, found in AGENTS[name]["with"].items():
            if other in SHARERS:
                sign = 1 if name < other else -1
                total = [a + sign * b for a, b in zip(total, found["mask"], strict=True)]
        assert [number % 2**32 for number in total] == AGENTS[name]["masks"]


def test_without_the_masks_of_who_is_left_and_of_who_went_the_sum_appears():
    """Survivors' own masks, and what each shares with bob, who has shared but sent no update."""
    survivors = [name for name in SHARERS if "masked" in AGENTS[name]]
    assert survivors == ["ada", "cem", "dan", "fay"]
    assert bytes.fromhex(VECTOR["survivors"]) == bytes([0b101101])
    total = [0] * 8
    for name in survivors:
        data = message(name, "masked")["data"]
        pairs = [int.from_bytes(data[i : i + 5], "little") for i in range(0, 20, 5)]
        words = [half for pair in pairs for half in (pair % 2**20, pair >> 20)]
        assert words == [number % 2**20 for number in AGENTS[name]["masked"]]
        sign = 1 if name < "bob" else -1
        shared = AGENTS[name]["with"].get("bob", {"mask": [0] * 8})["mask"]
        for i, own in enumerate(AGENTS[name]["own_mask"]):
            total[i] += words[i] - own - sign * shared[i]
    assert [number % 2**20 for number in total] == VECTOR["sum"]


def test_the_mean_is_the_weighted_mean_of_clipped_updates():
    """To within half a unit of each survivor; the share of clipped coordinates is three of 28."""
    clip, largest = VECTOR["clip"], VECTOR["largest_number"]
    names = [name for name in AGENTS if "masked" in AGENTS[name]]
    weights = np.array([AGENTS[name]["weight"] for name in names])
    assert weights.tolist() == [60, 420, 30, 75]  # cem has 1000 samples: 8 times the median, 52.5
    updates = np.array([np.frombuffer(hexed(name, "update"), "<f4") for name in names], float)
    expected = weights @ np.clip(updates, -clip, clip) / weights.sum()
    unit = 2 * clip / largest
    assert abs(VECTOR["mean"] - expected).max() <= 2 * unit * 420 / weights.sum() + 1e-8
    assert VECTOR["clipped"] == pytest.approx(3 / 28, abs=1e-4)


def test_the_roster_and_the_commitment_are_hashes():
    """SHA-256 of the names, a line each; of that and the weights; of the secret behind a word."""
    roster = hashlib.sha256(b"ada\nbob\ncem\ndan\neve\nfay").hexdigest()
    assert roster == VECTOR["roster"] == message("ada", "peers")["roster"].hex()
    for one in AGENTS.values():
        if "summed" in one:
            terms = struct.pack("<QQd", one["weight"], VECTOR["largest_weight"], VECTOR["clip"])
            assert hashlib.sha256(bytes.fromhex(roster) + terms).hexdigest() == one["summed"]
    for name in SHARERS:
        said = hashlib.sha256(b"fedjury/secagg/own/" + hexed(name, "own_secret")).digest()
        assert said == hexed(name, "commitment") == message(name, "shares")["commitment"]


def test_halves_go_to_the_even_number():
    """A coordinate of j times 2^-18 is halfway: 65535.5 + j, rounded to the even one."""
    assert VECTOR["rounding"]["encoded"] == [65536, 65536, 65538, 65538, 65534, 65534, 0]
