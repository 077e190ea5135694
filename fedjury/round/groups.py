"""Groups of a round: how agents are drawn into them, and which are left out after a vote.

The selected agents are drawn into groups in each round, by the run's seed, or by a key that
the aggregator tells nobody. All that rules and voters see of a group is the mean of its updates.
Votes on groups come before there is a candidate: validators judge for each group what the model
would become by its mean alone, groups that are voted down are left out, and the rest is aggregated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedjury.learning.weights import Matrix
from fedjury.protocol.groups import GroupBallot
from fedjury.protocol.messages import GroupVotes, Reason, Vote, turn_of
from fedjury.protocol.record import TOO_FEW
from fedjury.randomness import Purpose, stream, stream_of_bytes
from fedjury.round.state import Aggregated, Gathered, RoundConfig, State, VotingOnGroups
from fedjury.round.verdict import Decision, decide


def rng_of(round_: int, config: RoundConfig) -> np.random.Generator:
    """Make the generator that draws a round's groups, whatever the attempt at it."""
    if config.group_key:
        return stream_of_bytes(config.group_key + b"%d" % round_, Purpose.GROUPS)
    return stream(config.run.seed, Purpose.GROUPS, round_)


def candidates_of(gathered: Gathered, rows: Sequence[int]) -> Matrix:
    """Return what the model would become by each of these groups alone, (m, d)."""
    with np.errstate(over="ignore", invalid="ignore"):
        candidates: Matrix = gathered.start + gathered.contributions.vectors[[*rows]]
    return candidates


def refusal(state: State, said: GroupVotes, config: RoundConfig) -> Reason | None:
    """Return why votes on groups are not counted; None if they are."""
    phase = state.phase
    assert isinstance(phase, VotingOnGroups)
    if (said.round, said.attempt) != (state.round, state.attempt):
        return Reason.WRONG_ROUND
    if said.agent not in state.validators:
        return Reason.NOT_SELECTED
    if said.agent in phase.votes:
        return Reason.DUPLICATE
    given = turn_of(state.validators.index(said.agent), phase.count, config.validation.groups_each)
    return None if said.numbers == given else Reason.WRONG_GROUPS


def usable(gathered: Gathered, config: RoundConfig) -> Gathered:
    """Return what is left without groups on whose candidates nobody has to vote.

    The groups that are left are numbered first, as the rows of the contributions are.
    """
    assert gathered.groups is not None
    rows = range(len(gathered.contributions))
    why = {row: config.unusable(candidates_of(gathered, [row])[0]) for row in rows}
    kept = [row for row in rows if not why[row]]
    groups = [
        replace(gathered.groups.groups[f"{row}"], why=why[row])
        for row in [*kept, *(row for row in rows if why[row])]
    ]
    groups += list(gathered.groups.groups.values())[len(rows) :]  # lost before they had a sum
    return replace(
        gathered,
        contributions=gathered.contributions.of_rows(kept),
        groups=replace(
            gathered.groups, groups={f"{number}": one for number, one in enumerate(groups)}
        ),
    )


def verdicts(state: State, phase: VotingOnGroups, config: RoundConfig) -> dict[int, Decision]:
    """Decide on each group by the votes of those who judged it."""
    rows, each = range(phase.count), config.validation.groups_each
    turns = [turn_of(place, phase.count, each) for place in range(len(state.validators))]
    judges = Counter(group for turn in turns for group in turn)
    votes: dict[int, dict[str, Vote]] = {}
    for name, said in sorted(phase.votes.items()):
        for group, vote in said.votes().items():
            votes.setdefault(group, {})[name] = vote
    return {
        row: decide(votes.get(row, {}), config.validation, judges[row])
        if judges[row]
        else Decision(why=f"{TOO_FEW}: nobody was asked")
        for row in rows
    }


def nothing_left(gathered: Gathered) -> Aggregated:
    """Return what becomes of a round whose groups are all left out."""
    assert gathered.groups is not None
    reasons = dict.fromkeys(group.why for group in gathered.groups.groups.values())
    why = f"no group is left: {', '.join(reasons)}" if reasons else "there is no group"
    return Aggregated(
        why=why,
        contributors=gathered.contributors,
        detection=gathered.detection,
        filtered=gathered.filtered,
        figures=gathered.figures,
        groups=gathered.groups,
    )


def without(phase: VotingOnGroups, decisions: Mapping[int, Decision]) -> Gathered:
    """Return what is left without the groups that are not accepted, and what became of all."""
    gathered, kept = phase.gathered, [row for row, made in decisions.items() if not made.why]
    assert gathered.groups is not None
    groups = dict(gathered.groups.groups)
    for row, made in decisions.items():
        poisoned, clean, silent = made.votes.counts
        groups[f"{row}"] = replace(
            groups[f"{row}"], poisoned=poisoned, clean=clean, silent=silent, why=made.why
        )
    record = replace(
        gathered.groups,
        groups=groups,
        voters={name: GroupBallot.of(said) for name, said in sorted(phase.votes.items())},
        rejects_at=max(made.votes.rejects_at for made in decisions.values()),
    )
    contributions = gathered.contributions.of_rows(sorted(kept))
    return replace(gathered, contributions=contributions, groups=record)
