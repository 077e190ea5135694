"""The votes on groups of the members of one process: one look at all groups, a verdict on each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fedjury.agents.agent import JudgeGroups
from fedjury.agents.error_profile_cache import ErrorProfileCache, Values
from fedjury.agents.members import Members
from fedjury.agents.voting import NO_DATA, Validators
from fedjury.attacks import AttackContext
from fedjury.attacks.validators import Turn
from fedjury.attacks.validators.believable import Verdicts, believable
from fedjury.judges.judgements import doubts, merged
from fedjury.judges.sums import Array
from fedjury.learning.weights import Vector
from fedjury.protocol.messages import GroupVotes, Vote
from fedjury.randomness import Purpose, stream


class GroupValidators:
    """How members of a process judge groups: what is usual is what groups were like before."""

    def __init__(self, validators: Validators, world: AttackContext, codec: str) -> None:
        """``codec``: how candidates and history travel; what is judged has been through it."""
        self._validators = validators
        self.profiles = ErrorProfileCache(world.model, world.data, world.task, codec)

    def votes(
        self,
        members: Members,
        given: Mapping[str, tuple[int, ...]],
        task: JudgeGroups,
        candidates: Mapping[int, Vector],
        attacked: Collection[int],
    ) -> list[GroupVotes]:
        """Let members judge the groups given to each, one pass over the data for all of them.

        ``candidates``: those (d,) of the groups. ``attacked``: the groups in which their own side
        attacks, as far as its members know.
        """
        names = list(given)
        groups = sorted({group for mine in given.values() for group in mine})
        asked = np.array([[group in given[name] for group in groups] for name in names])
        ours = self._validators
        rows = ours.rows(names)
        past = self._past(names, rows, task.versions)
        errors = self._errors(rows, asked, [candidates[group] for group in groups], past)
        who, which = np.nonzero(asked)
        able = rows[who] != NO_DATA
        true = members.judge(past[who[able]], errors[who[able], which[able]])
        own, doubt = np.zeros(len(who), np.bool_), np.zeros(len(who))
        own[able], doubt[able] = true.poisoned, doubts(true)
        wanted = own.copy()
        for place, group in enumerate(groups):
            at = np.flatnonzero(which == place)
            told = [names[i] for i in who[at]]
            turn = self._turn(task, group, groups, attacked)
            wanted[at] = self._wanted(members, told, own[at], doubt[at], turn)
        lying = (wanted != own) | ~able
        liars = [names[i] for i in who[lying]]
        rngs = [
            stream(ours.seed, Purpose.INVENTED_CANDIDATE, task.round, ours.number[name] + (g << 32))
            for name, g in zip(liars, (which[lying] + 1).tolist(), strict=True)
        ]
        past, held = past[who[lying]], ours.held(liars)
        untrue = believable(members.judge, past, wanted[lying], rngs, held).judgements
        result = merged(true.of(~lying[able]), untrue, lying)
        said: dict[str, dict[int, Vote]] = {name: {} for name in names}
        columns = [part.tolist() for part in result[:3]]
        for i, place, poisoned, score, threshold in zip(
            who.tolist(), which.tolist(), *columns, strict=True
        ):
            name = names[i]
            verdict = poisoned, score, threshold, ours.samples(name)
            said[name][groups[place]] = Vote(name, task.round, task.attempt, *verdict)
        return [GroupVotes.of(votes) for votes in said.values()]

    def _past(self, names: Sequence[str], rows: Values, versions: Sequence[int]) -> Values:
        """Count errors of groups of accepted models, (m, l+1, p); who has no data makes them up."""
        able, ours = rows != NO_DATA, self._validators
        numbers = [ours.number[name] for name, has in zip(names, able, strict=True) if not has]
        result = np.empty((len(names), len(versions), ours.task.kinds), dtype=np.int64)
        result[able] = self.profiles.history(rows[able], versions, {})
        result[~able] = ours.inventor.history(numbers, versions)
        return result

    def _errors(
        self, rows: Values, asked: Verdicts, candidates: Sequence[Vector], past: Values
    ) -> Values:
        """Count errors of groups' candidates, (m, G, p); anything where nobody is asked."""
        result = np.repeat(past[:, -1:], len(candidates), axis=1)
        for place, candidate in enumerate(candidates):
            able = asked[:, place] & (rows != NO_DATA)
            if able.any():
                result[able, place] = self.profiles.candidate(rows[able], candidate)
        return result

    def _turn(
        self, task: JudgeGroups, group: int, groups: Sequence[int], attacked: Collection[int]
    ) -> Turn:
        honest = tuple(other for other in groups if other not in attacked)
        seed = self._validators.seed
        return Turn(task.round, task.attempt, (), seed, group in attacked, (), group, honest)

    def _wanted(
        self, members: Members, names: Sequence[str], own: Verdicts, doubt: Array, turn: Turn
    ) -> Verdicts:
        """Return the verdicts (m,) of members on a group: of liars what they want to say."""
        liars = [i for i, name in enumerate(names) if name in members.malicious_validators]
        if not liars:
            return own
        numbers = tuple(self._validators.number[names[i]] for i in liars)
        turn = turn._replace(members=numbers, doubts=tuple(doubt[liars].tolist()))
        wanted = own.copy()
        wanted[liars] = members.vote_attack(own[liars], turn)
        return wanted
