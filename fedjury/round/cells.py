"""Rounds whose updates stay in cells: what they tell is noted, and what they add up is asked for.

A cell is asked for the sum of the updates that it had told of when the collection was closed. If
its worker is replaced before it has answered, its updates are gone: the round goes back to
collecting, and the agents of that cell send theirs again. A cell that does not answer in time is
left out, and the others are asked once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np

from fedjury.protocol.cells import GroupSum, PartialSum, SumRequest, Tally, listed
from fedjury.protocol.messages import MAX_COUNT, Decline, Reason
from fedjury.round.aggregate import aggregate, context_of
from fedjury.round.announcement import announcement
from fedjury.round.answers import Step, count_invalid
from fedjury.round.collect.tallied import Tallied
from fedjury.round.effects import CountInvalid, Effect, Publish
from fedjury.round.selection import unasked
from fedjury.round.state import Aggregated, Gathered, RoundConfig, State, Summing, Tick, Training
from fedjury.rules.partitions import WorkerLost
from fedjury.rules.sums import Asked, Known, Total


def take_tally(state: State, tally: Tally, config: RoundConfig) -> Step:  # noqa: ARG001
    """Note whose updates a cell has admitted, and what it has refused."""
    phase = state.phase
    assert isinstance(phase, Training)
    if (tally.round, tally.attempt) != (state.round, state.attempt):
        return state, []  # of before: they were counted, or came too late
    updates = phase.updates
    assert isinstance(updates, Tallied)
    now, refused = updates.with_tally(tally)
    declined = frozenset(name for name in phase.declined if name not in now)
    invalid = phase.invalid_from.union(state.selected & {*listed(tally.invalid)}) - declined
    invalid_from = frozenset(name for name in invalid if name not in now)
    settled = None if len(now) != len(updates) else phase.settled
    phase = phase.but(updates=now, declined=declined, invalid_from=invalid_from, settled=settled)
    return counted(state.but(phase=phase), tally.agent, refused)


def counted(state: State, cell: str, refused: Mapping[str, int]) -> Step:
    """Count what a cell has refused, and tell people."""
    if not refused:
        return state, []
    invalid = dict(state.invalid)
    for why, often in refused.items():
        invalid[why] = invalid.get(why, 0) + often
    return state.but(invalid=invalid), [CountInvalid(cell, Reason(min(refused)), invalid)]


def tally_in_summing(state: State, tally: Tally, config: RoundConfig) -> Step:  # noqa: ARG001
    """Note what a cell tells; go back to collecting if what it was asked for is gone.

    That is where its worker is another. What is told of late changes nothing of what was asked for,
    but must be known if the round goes back: a cell tells each thing once.
    """
    phase = state.phase
    assert isinstance(phase, Summing)
    assert isinstance(phase.training.updates, Tallied)
    if (tally.round, tally.attempt) != (state.round, state.attempt):
        return state, []
    told = phase.tallied.cells.get(tally.cell)
    updates, refused = phase.training.updates.with_tally(tally)
    training = phase.training.but(updates=updates, settled=None)
    gone = told is not None and tally.life > told.life and tally.cell in phase.places
    if gone:
        state = state.but(phase=training, requests=phase.number)
    else:
        state = state.but(phase=phase.but(training=training))
    return counted(state, tally.agent, refused)


def decline_in_summing(state: State, event: Decline, config: RoundConfig) -> Step:  # noqa: ARG001
    """Note that an agent sits the round out, should it be collected again."""
    phase = state.phase
    assert isinstance(phase, Summing)
    if why := unasked(state, event, state.selected):
        return count_invalid(state, event.agent, why)
    training = phase.training.but(declined=phase.training.declined | {event.agent})
    declined = state.declined | {event.agent}
    return state.but(phase=phase.but(training=training), declined=declined), []


def take_sum(state: State, said: PartialSum, config: RoundConfig) -> Step:  # noqa: ARG001
    """Note a cell's sum."""
    phase = state.phase
    assert isinstance(phase, Summing)
    asked_for = (said.round, said.attempt, said.number)
    told = phase.tallied.cells.get(said.cell)
    if asked_for != (state.round, state.attempt, phase.number) or told is None:
        return state, []  # an earlier one, which its broker has kept
    if said.life != told.life or said.cell not in phase.places or said.cell in phase.sums:
        return state, []
    try:
        total = Total.unpacked(said.width, said.data, len(state.weights))
    except ValueError:
        return count_invalid(state, said.agent, Reason.WRONG_LENGTH)
    return state.but(phase=phase.but(sums={**phase.sums, said.cell: total})), []


def too_late(state: State, said: Tally | PartialSum | GroupSum, config: RoundConfig) -> Step:  # noqa: ARG001
    """Change nothing: what a cell says when it is no longer asked for is of no use."""
    return state, []


def with_rows(
    state: State, gathered: Gathered, tick: Tick, config: RoundConfig
) -> tuple[State, Aggregated | None, list[Effect]]:
    """Return what the rule makes of rows that stay with the workers of their cells.

    None where a worker is lost meanwhile: then its cell is collected again, and all are told of
    the round once more, so that they tell again what they have. Where that does not help for a
    while there is no candidate, and the result says why.
    """
    phase, names = state.phase, gathered.contributions.names
    assert isinstance(phase, Training)
    assert isinstance(phase.updates, Tallied)
    assert config.rows is not None
    try:
        if names:
            key, taken = (state.round, state.attempt), phase.updates.rows(names)
            gathered = gathered.but(rows=config.rows(key, taken, len(state.weights)))
        return state, aggregate(state, gathered, config), []
    except ValueError as why:
        return state, aggregate(state, gathered.but(problem=str(why)), config), []
    except WorkerLost as lost:
        since = tick.now if phase.lost is None else phase.lost
        if tick.now >= since + config.cells.seconds:
            problem = f"the updates that cells keep cannot be had: {lost}"
            return state, aggregate(state, gathered.but(problem=problem), config), []
        kept = phase.updates.without((lost.worker + 1,))  # workers are those of the cells, in order
        phase = phase.but(updates=kept, settled=None, lost=since)
        state = state.but(phase=phase, deadline=since + config.cells.seconds)
        return state, None, [Publish(announcement(state, config))]


class Summed(NamedTuple):
    """What a collection in cells has come to: a request for sums, or what the rule makes of it."""

    state: State
    effects: list[Publish]
    gathered: Gathered | None = None
    """With the rule's update, where nothing is to be asked any more."""


def asked_first(state: State, gathered: Gathered, tick: Tick, config: RoundConfig) -> Summed:
    """Ask cells for the first sum of what was gathered."""
    phase = state.phase
    assert isinstance(phase, Training)
    assert isinstance(phase.updates, Tallied)
    assert config.sums is not None
    names = gathered.contributions.names
    if not names:
        return Summed(state, [], gathered)
    samples, norms = phase.updates.samples_and_norms(names)
    context = context_of(state, gathered, config)
    known = Known(samples, norms, len(state.weights), context)
    try:
        wanted = config.sums.first(known)
    except ValueError as why:
        return Summed(state, [], gathered.but(problem=str(why)))
    if not isinstance(wanted, Asked):
        return Summed(state, [], gathered.but(made=wanted))
    places = phase.updates.places(names)
    # A restarted aggregator asks for other sums: none of its requests has the number of one before.
    number = max(state.requests + 1, int(tick.time) % MAX_COUNT)
    summing = Summing(gathered, phase, phase.updates, known, places, wanted, number=number)
    return requested(state, summing, tick, config)


def requested(state: State, phase: Summing, tick: Tick, config: RoundConfig) -> Summed:
    """Ask cells for a sum."""
    deadline = tick.now + config.cells.seconds
    state = state.but(phase=phase, deadline=deadline, requests=phase.number)
    return Summed(state, [Publish(request_of(state, phase))])


def request_of(state: State, phase: Summing) -> SumRequest:
    """Return what cells are asked for."""
    told = phase.tallied.cells
    taken = [told[cell].updates for cell in phase.places]
    left_out = [
        (cell, place)
        for cell, places in phase.places.items()
        for place in np.setdiff1d(np.arange(told[cell].updates), places)
    ]
    asked = phase.asked
    return SumRequest(
        state.round,
        state.attempt,
        phase.number,
        np.array([*phase.places], "<u4").tobytes(),
        np.array(taken, "<u4").tobytes(),
        np.array(left_out, "<u4").tobytes(),
        asked.kind,
        asked.bound,
        asked.bits,
        asked.largest,
        asked.centre,
    )


def added_up(state: State, tick: Tick, config: RoundConfig) -> Summed:
    """Go on with the rule once all cells have answered; do without those that do not in time."""
    phase = state.phase
    assert isinstance(phase, Summing)
    assert config.sums is not None
    if silent := [cell for cell in phase.places if cell not in phase.sums]:
        return _without(state, phase, silent, tick) if tick.now >= state.deadline else waits(state)
    total = together(phase.sums[cell] for cell in phase.places)
    try:
        wanted = config.sums.then(phase.known, phase.asked, phase.step, total)
    except ValueError as why:
        return Summed(state, [], phase.gathered.but(problem=str(why)))
    if not isinstance(wanted, Asked):
        return Summed(state, [], phase.gathered.but(made=wanted))
    more = phase.but(asked=wanted, number=phase.number + 1, step=phase.step + 1, sums={})
    return requested(state, more, tick, config)


def waits(state: State) -> Summed:
    """Say that there is nothing to do."""
    return Summed(state, [])


def _without(state: State, phase: Summing, silent: Iterable[int], tick: Tick) -> Summed:
    """Collect without the cells that do not answer, and close that at once."""
    assert isinstance(phase.training.updates, Tallied)
    kept = phase.training.updates.without(tuple(silent))
    training = phase.training.but(updates=kept)
    return Summed(state.but(phase=training, deadline=tick.now, requests=phase.number), [])


def together(totals: Iterable[Total]) -> Total:
    """Return the sum of sums."""
    return reduce(Total.plus, totals)
