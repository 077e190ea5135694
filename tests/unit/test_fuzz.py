"""Hostile bytes for everything that decodes: what the fuzzer found, and what hypothesis makes up.

The fuzzer itself is ``make fuzz``; its corpus is replayed here, without it.
"""

from __future__ import annotations

import importlib.util
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.compression import CODECS
from fedjury.protocol.messages import AttackVector, BadMessage, Reason, Update, Vote
from fedjury.protocol.topics import USUAL
from tools.fuzz import target as target_module
from tools.fuzz import targets
from tools.fuzz.__main__ import GROWTH
from tools.fuzz.__main__ import main as fuzz
from tools.fuzz.examples import MESSAGES, PARAMETERS
from tools.fuzz.memory_growth import measure, twisted
from tools.fuzz.targets import CORPUS, NAMES, SHARES, inputs_of, kept, load
from tools.fuzz.targets import codec as codec_target
from tools.fuzz.variants import damaged, variant

KINDS = [type(message) for message in MESSAGES]
EACH = {"rounds": 20, "secure": 20, "folder": 40}
"""Examples of targets that are slow; of others there are more."""


def test_the_corpus_is_small_and_complete():
    """Every target has a corpus, and there is none of anything else; all of it is under 1 MB."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(NAMES)
    assert SHARES.keys() | targets.BESIDES.keys() <= set(NAMES)
    files = [file for name in NAMES for file in kept(name)]
    assert all(kept(name) for name in NAMES)
    assert len(files) < 1000
    assert sum(file.stat().st_size for file in files) < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_is_harmless(name):
    """Whatever the fuzzer kept, and what once was a bug, is read or refused as it should be."""
    target = load(name)
    for data in inputs_of(name, target):
        target.one(data)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_variants(name):
    """Inputs changed where it may hurt are read or refused: nothing else is raised."""
    target = load(name)
    known = inputs_of(name, target)

    @settings(
        deadline=None,
        max_examples=EACH.get(name, 150),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.sampled_from(known), st.randoms(use_true_random=False))
    def harmless(data, rng):
        target.one(twisted(data, target, rng))

    harmless()


@pytest.mark.parametrize(
    "name",
    [
        "codec",
        *(
            pytest.param(name, marks=pytest.mark.chaos)
            for name in ("packets", "http_requests", "settings")
        ),
    ],
)
def test_memory_does_not_grow(name):
    """Thousands of hostile inputs leave nothing behind."""
    found = measure(name, 3000, 10.0)
    assert found.inputs > 100
    assert found.grown < GROWTH


def test_variants_get_behind_the_first_check():
    """Of an update's variants some are messages, and others are refused for every kind of fault."""
    rng, limits = random.Random(0), Limits(PARAMETERS)
    (update,) = (message for message in MESSAGES if isinstance(message, Update))
    topic, good = USUAL.of("run", update), encode(update)
    outcomes = Counter()
    for _ in range(2000):
        try:
            decode(topic, variant(good, rng), limits)
        except BadMessage as bad:
            outcomes[bad.reason] += 1
        else:
            outcomes["let in"] += 1
    faults = {
        Reason.MALFORMED,
        Reason.MISSING_KEY,
        Reason.WRONG_TYPE,
        Reason.OUT_OF_RANGE,
        Reason.UNKNOWN_CODEC,
        Reason.WRONG_LENGTH,
        Reason.NOT_FINITE,
    }
    assert outcomes.keys() >= {"let in", *faults}
    assert outcomes[Reason.MALFORMED] < 1200
    assert damaged(good, rng) != good


def test_a_target_sees_a_codec_that_lets_too_much_in(monkeypatch):
    """A decoder that no longer looks at numbers is caught by its target: the net has no hole."""
    target = load("codec")
    known = inputs_of("codec", target)
    monkeypatch.setattr(codec_target, "decode", lambda *given: forged(decode(*given)))
    caught = [data for data in known if isinstance(tried(data, target), AssertionError)]
    assert caught
    assert {data[0] for data in caught} == {KINDS.index(Vote)}


def tried(data, target):
    """Return how a target failed."""
    return target_module.tried(lambda: target.one(data), AssertionError)


def forged(message):
    """Let a vote with a count below zero pass."""
    return replace(message, samples=-1) if isinstance(message, Vote) else message


def test_without_the_fuzzer_it_says_so(monkeypatch, capsys):
    """Where Atheris is not installed, that is one sentence, with what to do."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as left:
        fuzz(["--target", "codec"])
    assert left.value.code == 2
    assert "'make fuzz' installs it" in capsys.readouterr().err


# ---------------------------------------------------------------- longer than a model


@pytest.mark.parametrize("parameters", [1, 300, 13_106, 400_000])
def test_what_cannot_be_made_smaller_still_fits(parameters):
    """Noise, which zstd makes larger, with all else at its longest, is no more than is let in."""
    noise = np.random.default_rng(0).integers(0, 2**32, parameters, dtype=np.uint32)
    count = 2**31 - 1
    evidence = b"\xff\xff\x7f\x7f" * 101
    vote = (-1e308, -1e308, evidence, count)
    metrics = {f"{i:064d}": -1e308 for i in range(32)}
    sent = Update("a", count, count, count, noise.view(np.float32), *vote, metrics)
    for codec in CODECS:
        payload = encode(sent, codec)
        limits = Limits(parameters, size=10**9, finite=False)
        assert decode(USUAL.of("run", sent), payload, limits).evidence == evidence


@pytest.mark.parametrize("kind", [Update, AttackVector])
def test_longer_than_a_model_is_not_read(kind, monkeypatch):
    """A payload that no vector of the known model can fill is refused by its length alone."""
    monkeypatch.setattr("fedjury.protocol.codec._parse", lambda *_: pytest.fail("it was parsed"))
    (message,) = (message for message in MESSAGES if isinstance(message, kind))
    longest = (4 * 1000 + 1000 // 32 + 4000) * (1 + (kind is AttackVector))
    topic = USUAL.of("run", message)
    with pytest.raises(BadMessage, match=r"^too_large: "):
        decode(topic, bytes(longest + 1), Limits(1000))
    with pytest.raises(pytest.fail.Exception, match="it was parsed"):
        decode(topic, bytes(longest), Limits(1000))
