"""How a group's sum is opened: the masks that are still in it are restored, checked and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fedjury.randomness import Purpose, stream
from fedjury.secure import keys, shamir
from fedjury.secure.agent import commitment
from fedjury.secure.group import Group, Lost, Opened, shares_of
from fedjury.secure.keys import KeyPair, Session
from fedjury.secure.shamir import Numbers

TRIES = 200
"""Sets of shares that are tried where some are wrong, at the most."""


def opened(group: Group, run: str) -> Opened | Lost:
    """Return a group's mean, or why nobody will ever know it.

    A restored secret counts only if it is the one that its owner has vouched for; where it is not,
    other shares are tried.
    """
    total = np.array(group.total)
    wrong: set[str] = set()
    for owner, name in enumerate(group.names):
        if name not in group.shares:
            continue
        survived = name in group.came
        fits = _is_seed(group, name) if survived else _is_key(group, name)
        secret = _restored(group, owner, fits, wrong)
        if secret is None:
            what = "its mask" if survived else "the masks of who has left"
            return Lost(group.number, group.names, f"too few shares that fit came to undo {what}")
        if survived:
            total -= keys.mask(secret, group.length)
        else:
            _remove_masks_towards(group, owner, secret, total, run)
    members = tuple(sorted(group.came))
    peers = [group.peers[name] for name in members]
    weight = sum(one.weight for one in peers)
    mean, clipped = group.fixed.decode(total, len(members), weight / peers[0].largest)
    return Opened(group.number, members, weight, mean, clipped, tuple(sorted(wrong)))


def _is_seed(group: Group, name: str) -> Callable[[bytes], bool]:
    return lambda secret: commitment(secret) == group.shares[name].commitment


def _is_key(group: Group, name: str) -> Callable[[bytes], bool]:
    return lambda secret: KeyPair.of(secret).public == group.keys[name].mask_key


def _remove_masks_towards(
    group: Group, owner: int, private: bytes, total: keys.Words, run: str
) -> None:
    """Take out of the sum what neighbours have masked their updates with towards one who left."""
    session, pair = Session(run, *group.turn, group.number), KeyPair.of(private)
    name = group.names[owner]
    for place in group.graph[owner].tolist():
        other = group.names[place]
        if other in group.came:
            secret = pair.agree(group.keys[other].mask_key)
            key = keys.derive(secret, session.info("mask", *sorted((name, other))))
            words = keys.mask(key, group.length)
            (np.subtract if place < owner else np.add)(total, words, out=total)


def _restored(
    group: Group, owner: int, fits: Callable[[bytes], bool], wrong: set[str]
) -> bytes | None:
    """Restore a secret of the owner's from its neighbours' shares; None if that cannot be.

    Whose shares are found to be wrong on the way is added to ``wrong``.
    """
    places, shares = shares_of(group, owner)
    if len(places) < group.threshold:
        return None
    numbers = np.frombuffer(b"".join(shares), "<u4").astype(np.uint64)
    numbers = numbers.reshape(len(places), shamir.PARTS)
    for tried, chosen in enumerate(_sets(len(places), group.threshold)):
        parts = _of(numbers, places, chosen)
        secret = _secret(parts)
        if secret is not None and fits(secret):
            if tried:
                names = (group.names[place] for place in group.graph[owner][[*places]])
                bad = [_of(numbers, places, [*chosen[1:], i]) for i in range(len(places))]
                wrong.update(
                    name
                    for i, (name, found) in enumerate(zip(names, bad, strict=True))
                    if i not in chosen and not np.array_equal(found, parts)
                )
            return secret
    return None


def _of(numbers: Numbers, places: list[int], chosen: list[int]) -> Numbers:
    """Restore the parts of a secret from the shares that are chosen."""
    if len({*chosen}) < len(chosen):
        return np.empty(0, np.uint64)
    restored = shamir.restore(numbers[np.newaxis, chosen], [[places[i] for i in chosen]])
    parts: Numbers = restored[0]
    return parts


def _secret(parts: Numbers) -> bytes | None:
    try:
        return shamir.secret_of(parts)
    except ValueError:
        return None


def _sets(n: int, size: int) -> Iterator[list[int]]:
    """Go through sets of so many of n, first neighbours in a circle, then such as are drawn."""
    yield list(range(size))
    if size == n:
        return
    for first in range(1, n):
        yield sorted((first + i) % n for i in range(size))
    rng = stream(0, Purpose.TRIAL)
    for _ in range(TRIES - n):
        yield sorted(rng.choice(n, size, replace=False).tolist())
