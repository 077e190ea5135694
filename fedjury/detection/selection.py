"""Draw agents from (seed, purpose, round), so that a resumed run selects the same ones."""

from __future__ import annotations

from collections.abc import Collection

from fedjury.randomness import Purpose, stream


def draw(
    agents: Collection[str],
    count: int,
    seed: int,
    round_: int,
    purpose: Purpose,
    forced: Collection[str] = (),
) -> tuple[str, ...]:
    """Draw ``count`` of the agents uniformly, or all if there are fewer; sorted by name.

    Those of ``forced`` who are among the agents are drawn in any case, the others for the rest.
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
