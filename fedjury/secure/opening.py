"""How a group's sum is opened: the masks that are still in it are restored, checked and removed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import combinations
from math import comb

import numpy as np

from fedjury.randomness import Purpose, stream
from fedjury.secure import keys, shamir
from fedjury.secure.agent import commitment
from fedjury.secure.group import Group, Lost, Opened, shares_of
from fedjury.secure.keys import KeyPair, Session
from fedjury.secure.shamir import Numbers

TRIES = 100
"""Sets of shares that are tried where some are wrong, at the most."""


def opened(group: Group, run: str) -> Opened | Lost:
    """Return a group's sum, or why nobody will ever know it.

    A restored secret counts only if it is the one that its owner has vouched for; where it is not,
    other shares are tried.
    """
    wrong: set[str] = set()
    secrets = _secrets(group, wrong)
    if isinstance(secrets, str):
        what = "the mask of {}" if secrets in group.came else "those towards {}, which has left"
        why = f"too few shares that fit came to undo {what.format(secrets)}"
        return Lost(group.number, group.names, why)
    total = np.array(group.total)
    for name, secret in secrets.items():
        if name in group.came:
            total -= keys.mask(secret, group.length)
        else:
            _remove_masks_towards(group, group.place(name), secret, total, run)
    members = tuple(sorted(group.came))
    peers = [group.peers[name] for name in members]
    weight, largest = sum(one.weight for one in peers), peers[0].largest
    if group.hidden:
        largest, weight = group.hidden, max(1, round(group.fixed.weight(total) * group.hidden))
    return Opened(
        group.number,
        members,
        weight,
        total,
        group.fixed,
        largest,
        tuple(sorted(wrong)),
        hidden=group.hidden > 0,
    )


def _secrets(group: Group, wrong: set[str]) -> dict[str, bytes] | str:
    """Restore the secrets that undo the masks, by owner; or return one whose secret cannot be.

    Once the easy ones are restored it is known of more senders that their shares are wrong, and the
    others are tried again without those.
    """
    result: dict[str, bytes] = {}
    waiting = [name for name in group.names if name in group.shares]
    for name in waiting:
        if len(shares_of(group, group.place(name))[0]) < group.threshold:
            return name
    while waiting:
        for name in waiting:
            fits = _is_seed(group, name) if name in group.came else _is_key(group, name)
            secret = _restored(group, group.place(name), fits, wrong)
            if secret is not None:
                result[name] = secret
        left = [name for name in waiting if name not in result]
        if len(left) == len(waiting):
            return left[0]
        waiting = left
    return result


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
            info = session.info("mask", *sorted((name, other)))
            key = keys.agreed(pair, group.keys[other].mask_key, info)
            words = keys.mask(key, group.length)
            (np.subtract if place < owner else np.add)(total, words, out=total)


def _restored(
    group: Group, owner: int, fits: Callable[[bytes], bool], wrong: set[str]
) -> bytes | None:
    """Restore a secret of the owner's from its neighbours' shares; None if that cannot be.

    Those whose shares are found to be wrong on the way are added to ``wrong``: theirs are tried
    last from then on.
    """
    places, shares = shares_of(group, owner)
    names = [group.names[place] for place in group.graph[owner][places]]
    order = sorted(range(len(places)), key=lambda i: names[i] in wrong)
    places, names = [places[i] for i in order], [names[i] for i in order]
    numbers = np.frombuffer(b"".join(shares[i] for i in order), "<u4").astype(np.uint64)
    numbers = numbers.reshape(len(places), shamir.PARTS)
    for tried, chosen in enumerate(_sets(len(places), group.threshold)):
        parts = _of(numbers, places, chosen)
        secret = _secret(parts)
        if secret is not None and fits(secret):
            if tried or wrong:
                wrong.update(_wrong_ones(numbers, places, names, chosen, wrong))
            return secret
    return None


def _wrong_ones(
    numbers: Numbers,
    places: list[int],
    names: list[str],
    chosen: Sequence[int],
    known: Collection[str],
) -> list[str]:
    """Return whose shares are not of the polynomial that the chosen ones are of.

    Nobody, if too few fit: liars together can make one up that restores the secret too, and has
    honest shares in common with the owner's, one less than the threshold.
    """
    parts = _of(numbers, places, chosen)
    others = [i for i in range(len(places)) if i not in chosen]
    odd = [i for i in others if not np.array_equal(_of(numbers, places, [*chosen[1:], i]), parts)]
    unknown = sum(name not in known for name in names)
    fitting = unknown - sum(names[i] not in known for i in odd)
    sure = 2 * fitting > unknown + len(chosen) - 1
    return [names[i] for i in odd] if sure else []


def _of(numbers: Numbers, places: list[int], chosen: Sequence[int]) -> Numbers:
    """Restore the parts of a secret from the shares that are chosen."""
    restored = shamir.restore(numbers[np.newaxis, [*chosen]], [[places[i] for i in chosen]])
    parts: Numbers = restored[0]
    return parts


def _secret(parts: Numbers) -> bytes | None:
    try:
        return shamir.secret_of(parts)
    except ValueError:
        return None


def _sets(n: int, size: int) -> Iterator[Sequence[int]]:
    """Go through sets of so many of n: all, or neighbours in a circle and such as are drawn."""
    if comb(n, size) <= TRIES:
        yield from combinations(range(n), size)
        return
    for first in range(n):
        yield sorted((first + i) % n for i in range(size))
    rng = stream(0, Purpose.SHARES_TRIED)
    for _ in range(TRIES - n):
        yield sorted(rng.choice(n, size, replace=False).tolist())
