"""Who is in a group with whom, under secure aggregation: as far as no two sums overlap in part."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fedjury.randomness import Purpose, draw, draw_groups
from fedjury.round.groups import rng_of
from fedjury.round.state import RoundConfig, State, Tick
from fedjury.round.sums import FixedGroups, OpenedSum, fixed_groups, groups_of
from fedjury.secure.agent import base_of

Groups = tuple[tuple[str, ...], ...]


def members_of(
    state: State, base: bytes, config: RoundConfig, cells: Mapping[str, int]
) -> FixedGroups:
    """Draw the groups of an attempt over the model that ``base`` stands for.

    Where groups stay together they are made of all who are there, and some of them are selected.
    ``cells``: an agent -> its cell, where cells keep updates: then a group is of one cell.
    """
    sums = state.sums.over(base)
    if config.cells.count:
        return _in_cells(state.selected, state.round, sums, config, cells)
    if not config.groups.fixed:
        made = groups_of(state.selected, sums, lambda free: _drawn(free, state.round, config))
        return FixedGroups(made, [])
    whole, apart = _fixed(state.selected, state, state.round, config, sums)
    return FixedGroups(_selected(whole, state.round, config), apart)


def lacks_groups(state: State, tick: Tick, config: RoundConfig) -> bool:
    """Return whether so few agents may be in a sum now that a round has to wait for others.

    In a run that waits for its agents: where groups stay together, somebody of each may be missing;
    elsewhere all may be in sums over the model at hand of which somebody has left since.
    """
    if config.secure is None or not config.collect.wait:
        return False
    there = {*tick.online}.difference(state.registry.in_quarantine(state.round))
    if config.cells.count:
        sums = state.sums.over(base_of(state.weights))
        groups, _ = _in_cells(there, state.round, sums, config, tick.cells)
    elif config.groups.fixed:
        groups, _ = _fixed(there, state, state.round, config)
    else:
        pending = getattr(state.phase, "pending", None)
        sums = state.sums.over(base_of(state.weights if pending is None else pending))
        if not sums:
            return False
        groups = groups_of(there, sums, lambda free: _drawn(free, state.round, config))
        groups = [members for members in groups if len(members) >= config.secure.least]
    return sum(map(len, groups)) < config.collect.min_updates


def _in_cells(
    there: Collection[str],
    round_: int,
    sums: Sequence[OpenedSum],
    config: RoundConfig,
    cells: Mapping[str, int],
) -> FixedGroups:
    """Draw groups within cells, one cell after the other.

    Those sit out that are too small to be safe, and those of which somebody is elsewhere by now.
    """
    assert config.secure is not None

    def drawn(free: Collection[str]) -> Groups:
        rng, parts = rng_of(round_, config), dict[int, list[str]]()
        for name in sorted(free):
            if name in cells:
                parts.setdefault(cells[name], []).append(name)
        size = config.groups.size
        return tuple(one for cell in sorted(parts) for one in draw_groups(parts[cell], size, rng))

    whole, apart = list[tuple[str, ...]](), list[tuple[str, ...]]()
    for members in groups_of(there, sums, drawn):
        together = len({cells.get(name) for name in members}) == 1
        fits = together and len(members) >= config.secure.least
        (whole if fits else apart).append(members)
    return FixedGroups(whole, apart)


def _fixed(
    there: Collection[str],
    state: State,
    round_: int,
    config: RoundConfig,
    sums: Sequence[OpenedSum] = (),
) -> FixedGroups:
    """Return the groups that stay together; ``sums``: those over the model at hand."""
    known, size = (*state.sums.ever, *sums), config.groups.size
    return fixed_groups(there, known, size, lambda free: _drawn(free, round_, config))


def _drawn(agents: Collection[str], round_: int, config: RoundConfig) -> Groups:
    return draw_groups(agents, config.groups.size, rng_of(round_, config))


def _selected(
    groups: Sequence[tuple[str, ...]], round_: int, config: RoundConfig
) -> list[tuple[str, ...]]:
    """Draw which of the groups that stay together train in a round, as agents are elsewhere."""
    first = {members[0]: members for members in groups}
    count = max(1, round(config.sampling.client_fraction * len(first)))
    attackers = {*config.forced.get(round_, ())}
    forced = [name for name, members in first.items() if not attackers.isdisjoint(members)]
    chosen = draw(first, count, config.run.seed, round_, Purpose.CONTRIBUTORS, forced)
    return [first[name] for name in chosen]
