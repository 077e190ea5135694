"""All of a run's randomness: named streams of random numbers, no two of which overlap.

A stream is named by the run's seed, what is drawn for, the round and the agent. The numbers are
those of Philox-4x64-10 (Salmon, Moraes, Dror, Shaw, SC 2011), which enciphers a counter with a
key: seed and purpose are the key, round and agent upper words of the counter, and a stream counts
in the lowest. So each part of the name has a word of its own, and streams of one seed and purpose
are different parts of one sequence, 2^64 blocks long each. Lists of numbers for NumPy's
``default_rng`` are no such names: it takes [5, 1] and [5, 1, 0] for the same.

Only this file makes generators. Keys, nonces and the names of runs do not come from here, but from
the operating system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum, unique

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]


@unique
class Purpose(IntEnum):
    """What is drawn for. A number that is given stays: another one means other models."""

    MODEL = 1
    """The first global model, or a classifier that is trained alone."""
    HOLD_OUT = 2
    """The test samples of a data set that has no test set."""
    MALICIOUS = 3
    """Which agents are malicious."""
    MALICIOUS_VALIDATORS = 4
    """Which of the others lie when they vote."""
    SERVER_DATA = 5
    """The samples that the server keeps."""
    PARTITION = 6
    """What each agent is dealt."""
    BACKDOOR_TARGET = 7
    """The class that a backdoor's samples are called, if none is given."""
    SAMPLE_COUNTS = 8
    """How many samples each agent holds, where they hold unequal numbers."""

    CONTRIBUTORS = 20
    """Who is selected to train in a round."""
    VALIDATORS = 21
    """Who is selected to vote."""
    REPLACEMENTS = 22
    """Validators in place of those who were silent."""
    NEWCOMERS = 23
    """Who of those that came late is let in."""
    EVALUATORS = 24
    """Who is selected to measure a candidate."""
    GROUPS = 25
    """Who is in a group with whom."""
    GROUP_HISTORY = 26
    """Which of a round's groups is remembered, as what is usual for a group."""
    CALLS = 27
    """The key of the numbers that call agents, where it is no secret."""

    SAMPLE_ORDER = 40
    """The order in which an agent visits its samples."""
    SERVER_SAMPLE_ORDER = 41
    """The same of the server."""
    CLASSIFIER_ORDER = 42
    """The same where a classifier is trained alone."""
    TRAINING = 43
    """What a network draws while an agent trains it, as dropout does."""
    SERVER_TRAINING = 44
    """The same on the server's data."""

    AGGREGATION = 60
    """What an aggregation rule draws, as agent 0, and the steps before it, as 1 and on."""
    SKETCH = 61
    """The signs of a round's sketches."""
    GAP = 62
    """The uniform numbers that the Gap statistic compares with."""
    TRIAL = 63
    """Updates that a rule is tried on before a run."""
    SHARES_TRIED = 64
    """Which shares of a secret are tried where some of them are wrong."""

    FAKE_MODEL = 80
    """The model towards which fake agents pull."""
    ATTACK = 81
    """What a malicious agent adds of its own, such as noise."""
    BACKDOOR_TRAINING = 82
    """How the attackers train the model with their backdoor."""
    COIN = 83
    """What a validator says that tosses a coin."""
    INVENTED_SAMPLES = 84
    """Samples that a validator without data makes up."""
    INVENTED_ERRORS = 85
    """What it says to have found in an accepted model; its rounds are versions."""
    INVENTED_CANDIDATE = 86
    """What it says to have found in a candidate."""
    BACKDOOR_DRAWS = 87
    """What the attackers' network draws while they train it, as dropout does."""
    MOCK_VALIDATORS = 88
    """The validators that attackers imagine, to foresee a vote."""

    BENCHMARK = 100
    """Input that is measured with."""


def stream(seed: int, purpose: Purpose, round_: int = 0, agent: int = 0) -> np.random.Generator:
    """Return the generator of that name, at its beginning.

    Raises
    ------
    OverflowError
        If a number is below 0 or above 2^64 - 1.
    """
    key = np.array((seed, purpose), dtype=np.uint64)
    counter = np.array((0, round_, agent, 0), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def stream_of_bytes(data: bytes, purpose: Purpose) -> np.random.Generator:
    """Return a generator that nobody can foresee who does not know all of ``data``."""
    digest = hashlib.blake2b(data, digest_size=24).digest()
    seed, round_, agent = (int.from_bytes(digest[i : i + 8], "little") for i in (0, 8, 16))
    return stream(seed, purpose, round_, agent)


def draw(
    agents: Collection[str],
    count: int,
    seed: int,
    round_: int,
    purpose: Purpose,
    forced: Collection[str] = (),
) -> tuple[str, ...]:
    """Draw ``count`` of the agents uniformly, or all if there are fewer; sorted by name.

    A resumed run draws the same ones. Those of ``forced`` who are among the agents are drawn in any
    case, the others for the rest.
    """
    if count <= 0:
        return ()
    sure = sorted(set(forced).intersection(agents))[:count]
    names = sorted(set(agents).difference(sure)) if sure else sorted(agents)
    count -= len(sure)
    if count >= len(names):
        return tuple(sorted([*names, *sure]))
    rng = stream(seed, purpose, round_)
    drawn = (names[i] for i in rng.choice(len(names), count, replace=False))
    return tuple(sorted([*drawn, *sure]))


def draw_groups(
    agents: Collection[str], size: int, rng: np.random.Generator
) -> tuple[tuple[str, ...], ...]:
    """Draw agents into groups of ``size`` at the least; returns the names of each, sorted.

    There are as many groups as that allows, some larger by one or more, for the rest. ``size`` 0:
    one group of all. Where there are fewer agents than ``size`` they are one group.
    """
    names = np.array(sorted(agents))
    count = max(1, len(names) // size) if size else 1
    order = names[rng.permutation(len(names))]
    return tuple(tuple(sorted(part.tolist())) for part in np.array_split(order, count))


def keys(seed: int, purpose: Purpose, round_: int, agents: Sequence[int], count: int) -> Words:
    """Return ``count`` random numbers for each of many agents at once, (m, count) uint64.

    Number k of agent a is the 2^32 a + k-th of the round, put through SplitMix64 (Steele, Lea,
    Flood 2014) twice, from two numbers of the round's stream. SplitMix64 is a permutation of 64
    bits, so all of a round's numbers differ. A generator for each agent takes 10 ms for 1,000 of
    them; this takes 0.2.

    Raises
    ------
    OverflowError
        If an agent's number, or ``count``, is below 0 or above 2^32 - 1.
    """
    first, second = stream(seed, purpose, round_).bit_generator.random_raw(2)
    upper = np.array(agents, dtype=np.uint32).astype(np.uint64) << np.uint64(32)
    places = upper[:, np.newaxis] | np.arange(np.uint32(count), dtype=np.uint64)
    return _split_mix(second, _split_mix(first, places))


def _split_mix(state: np.uint64, places: Words) -> Words:
    """Return the numbers at these places of SplitMix64 from ``state``, counted from 0."""
    z: Words = state + (places + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@contextmanager
def torch_stream(seed: int, purpose: Purpose, round_: int = 0) -> Iterator[None]:
    """Let PyTorch's own draws in the with-block come from a stream, and go on as before after it.

    Its generator is begun with 32 random bits, more it does not take.
    """
    with torch_seeded(int(stream(seed, purpose, round_).integers(2**32))):
        yield


@contextmanager
def torch_seeded(number: int) -> Iterator[None]:
    """Let PyTorch draw from ``number`` on in the with-block, and go on as before after it.

    On a GPU too, if that was used before.
    """
    import torch  # noqa: PLC0415 - rules and detectors do without PyTorch

    there = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=there):
        torch.manual_seed(number % 2**32)
        yield
