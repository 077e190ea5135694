"""The agents of one process under secure aggregation: each one's own step, and what it sends.

An agent takes part once its update is ready, so none leaves a sum because its training takes long.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.agents.agent import Contribute, Train
from fedjury.agents.connections import Connections
from fedjury.agents.opened_sums import OpenedSums
from fedjury.learning.error_profiles import BINS
from fedjury.protocol.counts import unpacked
from fedjury.protocol.messages import Decline, Manifest, Message, Update, Vector, Vote
from fedjury.protocol.secure import (
    MaskedUpdate,
    SecureDown,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    UnmaskRequest,
)
from fedjury.secure import agent as steps
from fedjury.secure.agent import Answered, Joined, Least, Masked, Random, Refusal, Shared
from fedjury.secure.fixed_point import Words
from fedjury.secure.keys import KEY, KeyPair, agreed, mask


class Counts(NamedTuple):
    """What a validator has counted of a candidate, and of accepted models."""

    version: int
    """The last accepted one."""
    counts: npt.NDArray[np.int64]
    """(models * 2C,)"""


@dataclass(slots=True)
class Member:
    """An agent of ours in an attempt at a round."""

    turn: tuple[int, int]
    content: Update | Counts
    """What is summed."""
    base: bytes
    """What stands for that from which it follows, beside the agent's data."""
    state: Joined | Shared | Masked | Answered


MASKS = 32 * 2**20
"""Bytes of masks that are kept until the second of two agents needs them."""


class Pairs:
    """What two agents of ours have in common in an attempt, worked out once for both."""

    def __init__(self, random: Random) -> None:
        """``random``: where secrets come from."""
        self.ours: set[bytes] = set()
        """Public keys for boxes."""
        self._secret = random(KEY)
        self._agreed: dict[frozenset[bytes], bytes] = {}
        """Two public keys -> the key of the two."""
        self._both: set[bytes] = set()
        """Keys for masks that two of ours will need."""
        self._masks: dict[bytes, Words] = {}

    def agree(self, own: KeyPair, public: bytes, info: bytes) -> bytes:
        """Return the key of two agents for one purpose; raises as ``keys.agreed``.

        A box between two of ours is never opened elsewhere: its key need not come of theirs.
        """
        if public in self.ours:
            return hashlib.blake2b(info, key=self._secret, digest_size=KEY).digest()
        pair = frozenset((own.public, public))
        if pair in self._agreed:
            key = self._agreed.pop(pair)
            self._both.add(key)
            return key
        key = self._agreed[pair] = agreed(own, public, info)
        return key

    def mask(self, key: bytes, length: int) -> Words:
        """Return the mask of two agents, (length,): nobody may change it."""
        if key not in self._both:
            return mask(key, length)
        words = self._masks.pop(key, None)
        if words is None:
            words = mask(key, length)
            if (len(self._masks) + 1) * words.nbytes <= MASKS:
                self._masks[key] = words
        return words


class SecureMembers:
    """Takes agents of one process through the steps of secure aggregation."""

    def __init__(
        self,
        run: str,
        manifest: Manifest,
        opened_sums: OpenedSums,
        unclipped: Collection[str] = (),
        say: Callable[[str], None] = lambda _: None,
        random: Random = os.urandom,
    ) -> None:
        """``opened_sums``: which they have helped to open before.

        ``unclipped``: who sends what it likes, within what the sum can hold. ``say``: tells people
        why one takes no part, once for each reason. ``random``: where keys come from; another
        source is for tests alone.
        """
        self._run, self._manifest = run, manifest
        self._least, self._least_counts = least_in(manifest), least_in(manifest, "counts_")
        self._norm = float(manifest.secure.get("norm", 0))
        self._hidden = hidden_in(manifest)
        self._opened_sums, self._unclipped, self._random = opened_sums, unclipped, random
        self._say, self._said = say, set[str]()
        self._members: dict[str, Member] = {}
        self._turn = (-1, -1)
        self._base: tuple[Vector | None, bytes] = None, b""
        self._pairs = Pairs(random)

    def offer(self, update: Update, task: Train | Contribute, model: Vector) -> list[Message]:
        """Return what an agent says whose update from ``model`` (d,) is ready: its new keys.

        With piggy-back also its vote, which the update holds.
        """
        turn = update.round, task.attempt
        keys = self._join(update.agent, turn, update.samples, update, self._base_of(model))
        return [update.vote(task.attempt), keys] if isinstance(task, Contribute) else [keys]

    def offer_counts(self, vote: Vote, versions: Sequence[int], candidate: Vector) -> list[Message]:
        """Return what a validator says whose counts are to be summed: its verdict, and new keys.

        Nothing else of what it has seen; and no keys while there are too few accepted ``versions``
        for a judgement of the sum.
        """
        turn, models = (vote.round, vote.attempt), len(versions) + 1
        verdict = Vote(
            vote.agent,
            *turn,
            vote.poisoned,
            score=float(vote.poisoned),
            threshold=0.5,
            samples=vote.samples,
            size=vote.size,
        )
        if models <= self._manifest.minimum_history:
            return [verdict]
        counts = np.zeros((models, 2 * (self._manifest.classes or BINS)), np.int64)
        own = unpacked(vote.counts).reshape(models, -1)  # of numbers there may be fewer kinds
        counts[:, : own.shape[1]] = own
        base = steps.base_of_counts(self._base_of(candidate), versions)
        content = Counts(versions[-1], counts.ravel())
        return [verdict, self._join(vote.agent, turn, vote.samples, content, base)]

    def _join(
        self,
        name: str,
        turn: tuple[int, int],
        samples: int,
        content: Update | Counts,
        base: bytes,
    ) -> SecureKeys:
        """Let an agent begin; what it was in the middle of is over."""
        if turn != self._turn:
            self._turn = turn
            self._pairs = Pairs(self._random)
        hidden = self._hidden if isinstance(content, Update) else 0
        joined, keys = steps.join(name, self._run, turn, samples, self._random, hidden)
        self._pairs.ours.add(joined.box.public)
        self._members[name] = Member(turn, content, base, joined)
        return keys

    def answer(self, message: SecureDown) -> Message | None:
        """Return what an agent answers to what it is told, or that it takes no part, and why."""
        member = self._members.get(message.agent)
        if member is None or member.turn != (message.round, message.attempt):
            return None  # of another attempt
        try:
            return self._next(member, message)
        except (Refusal, ValueError) as why:
            del self._members[message.agent]
            if str(why) not in self._said:
                self._said.add(str(why))
                self._say(f"{message.agent} takes no part in its group's sum: {why}")
            return Decline(message.agent, *member.turn, str(why)[:200])

    def _next(self, member: Member, message: SecureDown) -> Message | None:
        """Go to the next step; told once more it says the same, to what does not fit nothing."""
        name = message.agent
        before = self._opened_sums.over(name, member.base)
        least = self._least if isinstance(member.content, Update) else self._least_counts
        match message, member.state:
            case SecurePeers(), Joined() as own:
                agree = self._pairs.agree
                shared = steps.share(own, message, before, least, self._random, agree)
                member.state = shared
                return shared.sent
            case SecurePeers(), Shared() | Masked() as state:
                shared = state if isinstance(state, Shared) else state.shared
                if message != shared.peers:
                    raise Refusal("its group was changed in the middle of an attempt")
                return shared.sent if state is shared else None
            case SecureInbox(), Masked() as masked:
                return self._masked(member, masked)  # whatever it says now, the same update
            case SecureInbox(), Shared() as shared:
                masked = steps.add_masks(shared, message, self._length(member), self._pairs.mask)
                member.state = masked
                return self._masked(member, masked)
            case UnmaskRequest(), Masked() as masked:
                answered, opened = steps.unmask(masked, message, before, least)
                self._opened_sums.add(name, member.base, opened)  # before anybody is told
                member.state = answered
                return answered.answer
            case UnmaskRequest(), Answered() as answered:
                return steps.again(answered, message)
        return None

    def _length(self, member: Member) -> int:
        """Return how many numbers are summed."""
        content = member.content
        if isinstance(content, Counts):
            return len(content.counts)
        return self._manifest.parameters + 1 + (self._hidden > 0)

    def _masked(self, member: Member, masked: Masked) -> MaskedUpdate:
        """Return what is summed of a member, under its masks."""
        content = member.content
        if isinstance(content, Counts):
            return steps.masked_counts(masked, content.version, content.counts)
        delta, clipped = content.delta, content.agent not in self._unclipped
        if self._norm and clipped:
            delta = steps.shortened(delta, self._norm, steps.fixed_point_of(masked))
        return steps.masked_update(masked, content.version, delta, clipped=clipped)

    def _base_of(self, model: Vector) -> bytes:
        """Return what stands for a model (d,), which many of ours have trained from."""
        if self._base[0] is not model:
            self._base = model, steps.base_of(model)
        return self._base[1]


def least_in(manifest: Manifest, prefix: str = "") -> Least:
    """Return what agents of a run ask for at the least, and no less than is safe at all.

    ``prefix``: "counts_": of sums of what validators count.
    """
    told = (manifest.secure.get(prefix + name, 0) for name in Least._fields)
    given = [value if isinstance(value, int) else 0 for value in told]
    return Least(*map(max, given, Least()))


def hidden_in(manifest: Manifest) -> int:
    """Return as how many samples an update counts at the most where these are hidden; 0: told."""
    given = manifest.secure.get("hidden", 0)
    return max(0, given) if isinstance(given, int) else 0


def secure_members(
    connections: Connections,
    run: str,
    manifest: Manifest,
    opened_sums: OpenedSums,
    unclipped: Collection[str],
    say: Callable[[str], None],
) -> SecureMembers:
    """Let agents hear what each is told alone, to take them through secure aggregation."""
    connections.hear_alone(SecurePeers, SecureInbox, UnmaskRequest)
    return SecureMembers(run, manifest, opened_sums, unclipped, say)
