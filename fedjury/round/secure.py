"""Secure aggregation in a round: its groups, each at its own step, until all are opened or lost.

The selected agents are drawn into groups, each of which goes through the steps of
``fedjury.secure.group`` by itself. What has come of them then is what updates are in other rounds:
the mean of each group is a contribution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from fedjury.learning.contributions import Contributions
from fedjury.protocol import groups as recorded
from fedjury.protocol.cells import GroupSum
from fedjury.protocol.messages import Reason, Vector
from fedjury.protocol.replaceable import Replaceable
from fedjury.protocol.secure import SecureUp
from fedjury.round.answers import Step, count_invalid
from fedjury.round.effects import Effect, PersistSums, Publish
from fedjury.round.grouping import members_of
from fedjury.round.selection import too_few
from fedjury.round.state import JudgingAndTraining, RoundConfig, State, Tick, Training, Voting
from fedjury.round.sums import OpenedSum
from fedjury.secure import group as steps
from fedjury.secure import in_cell
from fedjury.secure.agent import base_of
from fedjury.secure.group import Group, Lost, Opened
from fedjury.secure.opening import opened

EVERY = 1.0
"""Seconds between two looks at who has left."""
TELLINGS = 4
"""How often a member that does not answer is told its part, within the time of a step: a broker
that was restarted may have lost it, or the answer."""


@dataclass(frozen=True)
class SecureRound(Replaceable):
    """The groups of a round under secure aggregation."""

    groups: Mapping[int, Group | Opened | Lost]
    group_of: Mapping[str, int]
    """A selected agent -> the number of its group."""
    base: bytes
    """What stands for the model from which they train."""
    out: int
    """Selected agents that sit out, as their updates are in sums that were opened."""
    terms: steps.Terms
    clip: float
    """The largest coordinate of an update that is summed."""
    due: Mapping[int, float]
    """A group that waits -> when its step is late."""
    begun: frozenset[int]
    """Groups whose step has begun since the last tick."""
    look: float = 0.0
    """When it is looked again who has left."""
    stays: bool = False
    """Whether whoever is summed together stays together over the run."""
    again: Mapping[int, float] = field(default_factory=dict)
    """A group that waits -> when those who have not answered are told their part once more."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come of any group."""
        return not any(isinstance(group, Group) for group in self.groups.values())

    @property
    def opened(self) -> list[Opened]:
        """The groups whose sums are known."""
        return [group for group in self.groups.values() if isinstance(group, Opened)]

    @property
    def came(self) -> frozenset[str]:
        """Who has answered to the last."""
        groups = self.groups.values()
        return frozenset(
            name for group in groups if not isinstance(group, Group) for name in group.members
        )

    @property
    def contributors(self) -> tuple[str, ...]:
        """Whose updates are in their sums, sorted."""
        return tuple(sorted(name for group in self.opened for name in group.members))


def attempts(state: State, round_: int) -> int:
    """Return how many attempts at a round have opened sums, before the run was resumed."""
    return state.sums.attempt if state.sums.round == round_ else 0


def begun(state: State, config: RoundConfig, cells: Mapping[str, int]) -> State:
    """Return the state with the groups of the attempt that it has just begun, if there are any.

    Selected are only those who may take part. ``cells``: an agent -> the cell that it is in.
    """
    if config.secure is None:
        return state
    phase = state.phase
    assert isinstance(phase, Training)
    secure = _drawn(state, phase.declined, config, cells)
    return state.but(selected=frozenset(secure.group_of), phase=phase.but(secure=secure))


def _drawn(
    state: State, unheard: frozenset[str], config: RoundConfig, cells: Mapping[str, int]
) -> SecureRound:
    """Draw the groups of an attempt from the selected agents, as far as these may take part.

    ``unheard``: who missed the last rounds, and is not waited for.
    """
    base = base_model(state)
    stands_for, fixed = base_of(base), config.groups.fixed
    drawn, apart = members_of(state, stands_for, config, cells)
    assert config.secure is not None
    turn, version = (state.round, state.attempt), state.request.version
    hidden = config.groups.hidden_samples
    length = len(base) + 1 + (hidden > 0)
    keep = config.cells.count > 0
    groups = [
        Group(
            i,
            turn,
            version,
            length,
            frozenset(members),
            hidden=hidden,
            cell=cells[members[0]] if keep else 0,
        )
        for i, members in enumerate(drawn)
    ]
    if fixed:
        groups = [group.but(least=len(group.awaited)) for group in groups]
    made = of_groups(groups, stands_for, config.secure, clip_of(state, config), unheard)
    lost = {
        number: Lost(
            number,
            (),
            _not_in_one_cell(members, cells, config.secure.least)
            if keep
            else _not_there(members, state.selected),
        )
        for number, members in enumerate(apart, start=len(groups))
    }
    out = len(state.selected) - sum(map(len, drawn))
    return made.but(groups={**made.groups, **lost}, out=out, stays=fixed)


def of_groups(
    groups: Iterable[Group], base: bytes, terms: steps.Terms, clip: float, unheard: frozenset[str]
) -> SecureRound:
    """Return the round of these groups, which begin with keys; ``unheard``: as in ``_drawn``."""
    waiting = {one.number: one.but(unheard=unheard & one.awaited) for one in groups}
    return SecureRound(
        groups=waiting,
        group_of={name: number for number, group in waiting.items() for name in group.awaited},
        base=base,
        out=0,
        terms=terms,
        clip=clip,
        due={},
        begun=frozenset(waiting),
    )


def _not_there(members: tuple[str, ...], online: frozenset[str]) -> str:
    """Say why a group that stays together sits out."""
    here = sum(name in online for name in members)
    return f"{here} of its {len(members)} agents are there, all are needed"


def _not_in_one_cell(members: tuple[str, ...], cells: Mapping[str, int], least: int) -> str:
    """Say why a group sits out where a group is of one cell."""
    there = {cells.get(name, 0) for name in members}
    if len(there) > 1:
        return f"its {len(members)} agents are no longer in one cell"
    return f"cell {min(there)} has {len(members)} agents for it, {least} are needed"


def base_model(state: State) -> Vector:
    """Return the model (d,) from which they train: with piggy-back it is a candidate."""
    phase = state.phase
    return phase.pending if isinstance(phase, JudgingAndTraining) else state.weights


def clip_of(state: State, config: RoundConfig) -> float:
    """Return the largest coordinate of an update that is summed in the next round.

    By the last accepted step: an update scatters more than the mean of many.
    """
    settings, step = config.groups, state.model.step
    if settings.clip or step is None or not np.isfinite(step).all() or not step.any():
        return settings.clip or settings.first_clip
    # Two digits: a run that is resumed works the step out again, and may be off in the last bit.
    return float(f"{settings.clip_factor * np.abs(step).max():.1e}")


def _now(state: State) -> tuple[Training | Voting, SecureRound]:
    """Return the phase, and its groups."""
    phase = state.phase
    assert isinstance(phase, Training | Voting)
    assert phase.secure is not None
    return phase, phase.secure


def take(state: State, message: SecureUp, config: RoundConfig) -> Step:  # noqa: ARG001
    """Take what an agent says at its group's step."""
    phase = state.phase
    assert isinstance(phase, Training | Voting)
    secure = phase.secure
    if secure is None:
        return count_invalid(state, message.agent, Reason.WRONG_PHASE)
    if (message.round, message.attempt) != (state.round, state.attempt):
        return count_invalid(state, message.agent, Reason.WRONG_ROUND)
    number = secure.group_of.get(message.agent)
    if number is None:
        return count_invalid(state, message.agent, Reason.NOT_SELECTED)
    group = secure.groups[number]
    result = steps.take(group, message) if isinstance(group, Group) else Reason.WRONG_PHASE
    if isinstance(result, Reason):
        return count_invalid(state, message.agent, result)
    return _moved(state, result)


def take_group_sum(state: State, said: GroupSum, config: RoundConfig) -> Step:  # noqa: ARG001
    """Take what a cell tells of the masked updates that it keeps."""
    phase = state.phase
    assert isinstance(phase, Training)
    secure = phase.secure
    if secure is None or (said.round, said.attempt) != (state.round, state.attempt):
        return state, []
    group = secure.groups.get(said.group)
    if not isinstance(group, Group):
        return state, []
    result = in_cell.take(group, said)
    if isinstance(result, Reason):
        return count_invalid(state, said.agent, result)
    return (state, []) if result is group else _moved(state, result)


def without(state: State, agent: str) -> Step:
    """Wait no longer for an agent at any step of its group's, where there are such."""
    phase = state.phase
    if not isinstance(phase, Training | Voting) or phase.secure is None:
        return state, []
    group = phase.secure.groups.get(phase.secure.group_of.get(agent, -1))
    if not isinstance(group, Group):
        return state, []
    return _moved(state, steps.without(group, agent))


def wait(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Go on with the groups whose step is late; ``over`` says whether there are any left."""
    phase, secure = _now(state)
    effects: list[Effect] = []
    if secure.begun:
        waiting = {number for number, group in secure.groups.items() if isinstance(group, Group)}
        known = {number: at for number, at in secure.due.items() if number in waiting}
        begun = dict(_due(state, tick, config))
        again = dict.fromkeys(begun, tick.now + config.groups.seconds / TELLINGS)
        secure = secure.but(due=known | begun, again={**secure.again, **again}, begun=frozenset())
        state = state.but(phase=phase.but(secure=secure))
    if tick.now >= secure.look:
        state, effects = _without_those_who_left(state, tick)
        state, more = _told_again(state, tick, config)
        effects += more
        _, secure = _now(state)
    for number in sorted(number for number, at in secure.due.items() if tick.now >= at):
        group = _now(state)[1].groups[number]
        if isinstance(group, Group):
            state, more = _moved(state, group, late=True)
            effects += more
    return state, effects


def _without_those_who_left(state: State, tick: Tick) -> Step:
    """Wait no longer for members who are not online, once a second, after their training."""
    _, secure = _now(state)
    effects: list[Effect] = []
    for group in secure.groups.values():
        if not isinstance(group, Group) or group.step is steps.Step.KEYS:
            continue
        left = [name for name in group.awaited if name not in tick.online]
        now = group
        for name in left:
            now = steps.without(now, name)
        if now is not group:
            state, more = _moved(state, now)
            effects += more
    phase, secure = _now(state)
    return state.but(phase=phase.but(secure=secure.but(look=tick.now + EVERY))), effects


def _told_again(state: State, tick: Tick, config: RoundConfig) -> Step:
    """Tell those who have not answered for long what they were told before."""
    phase, secure = _now(state)
    late = [number for number, at in secure.again.items() if tick.now >= at]
    effects: list[Effect] = []
    for number in late:
        group = secure.groups[number]
        if isinstance(group, Group):
            effects += _told(group, group.awaited.difference(group.answered))
    if late:
        next_ = dict.fromkeys(late, tick.now + config.groups.seconds / TELLINGS)
        state = state.but(phase=phase.but(secure=secure.but(again={**secure.again, **next_})))
    return state, effects


def _due(state: State, tick: Tick, config: RoundConfig) -> Iterator[tuple[int, float]]:
    """Go through the groups whose step has just begun, and when it is late."""
    phase, secure = _now(state)
    first = config.validation if isinstance(phase, Voting) else config.collect
    for number in secure.begun:
        group = secure.groups[number]
        if isinstance(group, Group):
            before = group.step is steps.Step.KEYS  # they train or judge first
            yield number, tick.now + (first if before else config.groups).seconds


def postponed(secure: SecureRound) -> SecureRound:
    """Let the time of each step begin again."""
    return secure.but(begun=frozenset(secure.groups))


def _told(group: Group, names: Collection[str]) -> list[Publish]:
    """Tell members their part; a cell first, so that it knows whose updates it is to take."""
    told = (steps.told(group, name) for name in sorted(names))
    return [Publish(message) for message in (in_cell.asked(group), *told) if message is not None]


def _moved(state: State, group: Group | Lost, *, late: bool = False) -> Step:
    """Put a group into its place, after the steps that it is through with."""
    phase, secure = _now(state)
    effects, number = list[Effect](), group.number
    now: Group | Opened | Lost = group
    while isinstance(now, Group) and (late or now.complete):
        late = False
        if now.step is steps.Step.UNMASK:
            now = opened(now, secure.terms.run)
        else:
            now = steps.advance(now, secure.terms, secure.clip)
        if isinstance(now, Group):
            if now.step is steps.Step.UNMASK:
                state, kept = _before_opening(state, secure, now)
                effects.append(kept)
            effects += _told(now, now.awaited)
        secure = secure.but(begun=secure.begun | {number})
    secure = secure.but(groups={**secure.groups, number: now})
    state = state.but(phase=phase.but(secure=secure))
    if isinstance(now, Opened):
        for name in now.wrong:
            state, more = count_invalid(state, name, Reason.WRONG_SHARE)
            effects += more
    return state, effects


def _before_opening(state: State, secure: SecureRound, group: Group) -> tuple[State, Effect]:
    """Note that a sum is about to be opened, before anybody is asked to."""
    one = OpenedSum(group.names, tuple(sorted(group.came)))
    turn, stays = (state.round, state.attempt), secure.stays
    sums = state.sums.with_sum(*turn, secure.base, one, stays=stays)
    return state.but(sums=sums), PersistSums(sums)


def contributions_of(secure: SecureRound) -> Contributions:
    """Return the mean of each opened group as a contribution, in the order of their numbers."""
    groups = sorted(secure.opened, key=lambda group: group.number)
    vectors = np.array([group.mean for group in groups], np.float32)
    return Contributions(
        vectors.reshape(len(groups), -1),
        np.array([group.weight for group in groups], np.int64),
        tuple(name for group in groups for name in group.members),
        np.cumsum([0, *(len(group.members) for group in groups)]),
        np.zeros(len(groups), np.int64),
    )


def record_of(secure: SecureRound, *, tell: bool) -> recorded.Groups:
    """Return what a record says of the groups: the opened ones first, as the contributions are.

    ``tell``: whether it may say something of the updates, though there is no noise on it.
    """
    known = sorted(secure.opened, key=lambda group: group.number)
    lost = [group for group in secure.groups.values() if isinstance(group, Lost)]
    entries = [recorded.Group(group.members) for group in known]
    entries += [recorded.Group((), why=f"lost: {group.why}") for group in lost]
    clipped = [group.clipped for group in known]
    return recorded.Groups(
        {f"{number}": entry for number, entry in enumerate(entries)},
        clip=secure.clip,
        clipped=float(np.mean(clipped)) if clipped and tell else 0.0,
    )


def why_too_few(state: State, config: RoundConfig) -> str:
    """Say how many updates there are, of how many, and why not more."""
    phase = state.phase
    if not isinstance(phase, Training) or phase.secure is None:
        return too_few(state, config)
    secure = phase.secure
    text = (
        f"{len(secure.contributors):,} of {len(state.selected):,} selected agents are in groups "
        f"whose sum could be opened, {config.collect.min_updates:,} needed"
    )
    why = {group.why for group in secure.groups.values() if isinstance(group, Lost)}
    return f"{text}: {'; '.join(sorted(why))}" if why else text
