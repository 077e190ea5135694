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
from fedjury.attacks.validators.believable import Rngs, Verdicts, believable
from fedjury.judges.group_judges import GroupJudge, Measured, judged_groups
from fedjury.judges.judgements import Judge, Judgements, doubts, merged, no_judgement
from fedjury.judges.sums import Array
from fedjury.learning.weights import Matrix, Vector
from fedjury.protocol.compression import as_received
from fedjury.protocol.messages import GroupVotes, Vote
from fedjury.randomness import Purpose, stream


class GroupValidators:
    """How members of a process judge groups: what is usual is what groups were like before."""

    def __init__(self, validators: Validators, world: AttackContext, codec: str) -> None:
        """``codec``: how candidates and history travel; what is judged has been through it."""
        self._validators, self._codec = validators, codec
        self.profiles = ErrorProfileCache(world.model, world.data, world.task, codec)

    def knows(self, versions: Sequence[int]) -> bool:
        """Say whether a group of each of these versions is here, as history."""
        return self.profiles.knows(versions, {})

    def votes(
        self,
        members: Members,
        given: Mapping[str, tuple[int, ...]],
        task: JudgeGroups,
        model: Vector | None,
        candidates: Mapping[int, Vector],
        attacked: Collection[int],
    ) -> list[GroupVotes]:
        """Let members judge the groups given to each, one pass over the data for all of them.

        ``model``: the accepted one (d,) on which groups stand, for a group judge. ``candidates``:
        those (d,) of the groups. ``attacked``: the groups in which their own side attacks, as far
        as its members know.
        """
        names, ours = list(given), self._validators
        groups = sorted({group for mine in given.values() for group in mine})
        asked = np.array([[group in given[name] for group in groups] for name in names])
        looked_at = np.stack([candidates[group] for group in groups])
        rows = ours.rows(names)
        who, which = np.nonzero(asked)
        able = rows[who] != NO_DATA
        past = None
        if members.group_judge is None:
            past = self._past(names, rows, task.versions)
            true = self._judged(members.judge, rows, asked, looked_at, past)
        else:
            assert model is not None
            base = as_received(model, self._codec)
            true = self._compared(members.group_judge, rows, asked, base, looked_at)
        own, doubt = np.zeros(len(who), np.bool_), np.zeros(len(who))
        own[able], doubt[able] = true.poisoned, doubts(true)
        wanted = own.copy()
        for place, group in enumerate(groups):
            at = np.flatnonzero(which == place)
            asked_for = [names[i] for i in who[at]]
            turn = self._turn(task, group, groups, attacked)
            wanted[at] = self._wanted(members, asked_for, own[at], doubt[at], turn)
        lying = (wanted != own) | ~able
        untruthful, lied_about = [names[i] for i in who[lying]], which[lying]
        rngs = self._rngs(task.round, untruthful, lied_about)
        if past is None:
            untrue = made_up(wanted[lying], true, rngs)
        else:
            told = past[who[lying]], wanted[lying], rngs, ours.held(untruthful)
            untrue = believable(members.judge, *told).judgements
        result = merged(true.of(~lying[able]), untrue, lying)
        places = ((names[i], groups[place]) for i, place in zip(who, which, strict=True))
        return self._messages(task, list(places), result)

    def _rngs(self, round_: int, untruthful: Sequence[str], groups: Values) -> Rngs:
        """Make the generator of each liar's invention about one group, (m,)."""
        ours = self._validators
        return [
            stream(ours.seed, Purpose.INVENTED_CANDIDATE, round_, ours.number[name] + (g << 32))
            for name, g in zip(untruthful, (groups + 1).tolist(), strict=True)
        ]

    def _messages(
        self, task: JudgeGroups, places: Sequence[tuple[str, int]], said: Judgements
    ) -> list[GroupVotes]:
        """Put what is said of each validator and group, (k,), into one message a validator."""
        votes: dict[str, dict[int, Vote]] = {}
        columns = zip(*(part.tolist() for part in said[:3]), strict=True)
        for (name, group), (poisoned, score, threshold) in zip(places, columns, strict=True):
            verdict = poisoned, score, threshold, self._validators.samples(name)
            vote = Vote(name, task.round, task.attempt, *verdict)
            votes.setdefault(name, {})[group] = vote
        return [GroupVotes.of(mine) for mine in votes.values()]

    def _judged(
        self, judge: Judge, rows: Values, asked: Verdicts, candidates: Matrix, past: Values
    ) -> Judgements:
        """Return what a judge says of each group that those with data are asked about, (k,)."""
        able = rows != NO_DATA
        if asked.all():
            errors = self.profiles.candidates(rows[able], candidates)
        else:
            errors = np.repeat(past[able][:, -1:], len(candidates), axis=1)
            for place in range(len(candidates)):
                mine = asked[able, place]
                one = candidates[place : place + 1]
                errors[mine, place] = self.profiles.candidates(rows[able][mine], one)[:, 0]
        found = judged_groups(judge, past[able], errors)
        return Judgements(*(part[asked[able]] for part in found))

    def _compared(
        self, judge: GroupJudge, rows: Values, asked: Verdicts, base: Vector, candidates: Matrix
    ) -> Judgements:
        """Return what a judge of groups says of them, (k,): of each member's own together."""
        parts = []
        for row, mine in zip(rows.tolist(), asked, strict=True):
            if row == NO_DATA:
                continue
            models = np.concatenate([base[np.newaxis], candidates[mine]])
            [found] = self.profiles.losses(np.array([row]), models)
            means = found.means[np.newaxis]
            parts.append(judge(Measured(means[:, 0], means[:, 1:], found.counts[np.newaxis])))
        if not parts:
            return no_judgement(0)
        verdict, score, threshold = (
            np.concatenate([one[part][0] for one in parts]) for part in range(3)
        )
        return Judgements(verdict, score, threshold, np.zeros((len(score), 0)))

    def _past(self, names: Sequence[str], rows: Values, versions: Sequence[int]) -> Values:
        """Count errors of groups of accepted models, (m, l+1, p); who has no data makes them up."""
        able, ours = rows != NO_DATA, self._validators
        numbers = [ours.number[name] for name, has in zip(names, able, strict=True) if not has]
        result = np.empty((len(names), len(versions), ours.task.kinds), dtype=np.int64)
        result[able] = self.profiles.history(rows[able], versions, {})
        result[~able] = ours.inventor.history(numbers, versions)
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


def made_up(wanted: Verdicts, honest: Judgements, rngs: Rngs) -> Judgements:
    """Return judgements (m,) with these verdicts, with numbers like those that honest ones have."""
    scores = honest.score if len(honest.score) else np.zeros(1)
    middle, width = float(np.median(scores)), float(np.ptp(scores)) or 1.0
    away = np.array([rng.uniform(0.05, 1) for rng in rngs]) * width
    score = middle + np.where(wanted, away, -away)
    return Judgements(wanted, score, np.full(len(score), middle), np.zeros((len(score), 0)))
