"""The votes of the members of one process: honest ones judge, liars say something else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedjury.agents.agent import Evaluate, Judge
from fedjury.agents.error_profile_cache import ErrorProfileCache, Rows
from fedjury.agents.members import Members
from fedjury.attacks import AttackContext
from fedjury.attacks.validators import Turn
from fedjury.attacks.validators.believable import Verdicts, believable
from fedjury.attacks.validators.invented import Inventor
from fedjury.attacks.validators.invented_changes import Changed, invented_changes
from fedjury.judges.judgements import Judgements, doubts, merged
from fedjury.judges.sums import Array
from fedjury.learning.error_profiles import Histories, sizes
from fedjury.learning.weights import Vector
from fedjury.protocol.checks import MAX_EVIDENCE
from fedjury.protocol.counts import packed
from fedjury.protocol.messages import Decline, Metrics, Vote
from fedjury.randomness import Purpose, stream

NO_DATA = -1
"""In the place of a member's row in the data, if it holds none."""


class Findings(NamedTuple):
    """What m validators say of a candidate."""

    judgements: Judgements
    models: Histories
    """(m, l+2, 2C): the errors that they counted, or made up, of accepted models and of it."""
    changed: list[Changed]
    """What the candidate changes, of each of them."""


class Validators:
    """What the members of a process count on their data, or make up, and how they vote by it."""

    def __init__(
        self,
        members: Members,
        world: AttackContext,
        seed: int,
        codec: str,
        *,
        with_counts: bool = False,
    ) -> None:
        """``codec``: how candidates and history travel; what is judged has been through it.

        ``with_counts``: whether votes carry what was counted.
        """
        self._with_counts = with_counts
        task, data = world.task, world.data
        self.profiles = ErrorProfileCache(world.model, data, task, codec)
        self.inventor = Inventor(seed, members.usual, task)
        self._samples, self.seed, self.task = members.usual, seed, task
        counts: list[int] = data.counts.tolist()
        dealt = zip(members.holders, counts, strict=True)
        self._held = {member.name: held for member, held in dealt if held}
        self._row = {m.name: i for i, m in enumerate(members.holders) if m.name in self._held}
        everybody = (*members.holders, *members.malicious)
        self.number = {member.name: member.number for member in everybody}
        """Member -> its number in the whole fleet."""
        claimed = {member.name: members.claimed for member in members.malicious}
        self._said = self._held | (claimed if members.claimed else {})

    def samples(self, name: str) -> int:
        """Return how many samples a member says it holds.

        Members without any say what is usual, and malicious ones what they claim, if they do.
        """
        return self._said.get(name, self._samples)

    def rows(self, names: Sequence[str]) -> Rows:
        """Return the rows (m,) of these members in the data, ``NO_DATA`` of who holds none."""
        return np.array([self._row.get(name, NO_DATA) for name in names], dtype=np.int64)

    def held(self, names: Sequence[str]) -> Rows:
        """Return how many samples (m,) these members hold; who holds none, what is usual."""
        return np.array([self._held.get(n, self._samples) for n in names], dtype=np.int64)

    def unable(self, members: Members, name: str) -> bool:
        """Say whether a member can give no vote: it is honest as a validator, and has no data."""
        return name not in self._held and name not in members.malicious_validators

    def forget(self, oldest: int) -> None:
        """Forget what was counted in the versions before ``oldest``."""
        self.profiles.forget(oldest)
        self.inventor.forget(oldest)

    def votes(
        self,
        members: Members,
        names: Sequence[str],
        task: Judge,
        models: Mapping[int, Vector],
        candidate: Vector,
        *,
        attacked: bool,
    ) -> list[Vote]:
        """Let these members judge a candidate after accepted ``models``, version -> (d,)."""
        found = self._findings(members, names, task, models, candidate, attacked)
        columns = [part.tolist() for part in found.judgements[:3]]
        rows = found.judgements.evidence[:, -MAX_EVIDENCE:]
        held = [self.samples(name) for name in names]
        return [
            Vote(
                name,
                task.round,
                task.attempt,
                poisoned,
                score,
                threshold,
                samples,
                seen.astype("<f4").tobytes(),
                changed=changed.answers,
                changed_errors=changed.errors,
                counts=self._counts(counted, samples),
            )
            for name, samples, poisoned, score, threshold, seen, changed, counted in zip(
                names, held, *columns, rows, found.changed, found.models, strict=True
            )
        ]

    def _counts(self, models: Histories, samples: int) -> bytes:
        """Write the errors of some models (l+2, 2C) of who holds so many samples, if they are sent.

        Nobody has more errors than samples: a liar that said so would be found out.
        """
        return packed(np.minimum(models, samples).ravel()) if self._with_counts else b""

    def measured(
        self,
        members: Members,
        names: Sequence[str],
        task: Evaluate,
        version: int,
        candidate: Vector,
    ) -> list[Metrics | Decline]:
        """Return what these members measure of a candidate on their own data.

        Malicious ones without data say what they would of the accepted ``version``.
        """
        rows = [self._row[name] for name in names if name in self._row]
        places = np.array(rows, dtype=np.int64)
        found = iter(self.profiles.answers(places, candidate) if rows else ())
        malicious = {member.name for member in members.malicious}
        result: list[Metrics | Decline] = []
        for name in names:
            if name in self._row:
                answers = next(found)
            elif name in malicious:
                answers = self.inventor.answers(self.number[name], version)
            else:
                result.append(Decline(name, task.round, task.attempt))
                continue
            measured = ((key, metric(*answers)) for key, metric in self.task.metrics.items())
            values = {key: value for key, value in measured if math.isfinite(value)}
            samples = self.samples(name)
            result.append(Metrics(name, task.round, task.attempt, samples, values))
        return result

    def _findings(
        self,
        members: Members,
        names: Sequence[str],
        task: Judge,
        models: Mapping[int, Vector],
        candidate: Vector,
        attacked: bool,
    ) -> Findings:
        """Return what these members say: what they found, or what liars say in its place."""
        rows = self.rows(names)
        able = rows != NO_DATA
        accepted = self._accepted(names, rows, task.versions, models)
        errors = np.concatenate([accepted, accepted[:, -1:]], axis=1)
        errors[able, -1] = self.profiles.candidate(rows[able], candidate)
        true = members.judge(accepted[able], errors[able, -1])
        honest = np.zeros(len(names), dtype=np.bool_)  # who has no data finds everything clean
        honest[able] = true.poisoned
        doubtful = np.zeros(len(names))
        doubtful[able] = doubts(true)
        wanted = self._wanted(members, names, honest, doubtful, task, attacked)
        lying = (wanted != honest) | ~able
        rngs = [
            stream(self.seed, Purpose.INVENTED_CANDIDATE, task.round, self.number[name])
            for name, lies in zip(names, lying, strict=True)
            if lies
        ]
        held = self.held(names)[lying]
        untrue = believable(members.judge, accepted[lying], wanted[lying], rngs, held)
        errors[lying] = untrue.models
        moved = sizes(errors[:, -2] - errors[:, -1]).tolist()
        found = iter(self.profiles.changed(rows[able], task.versions[-1]))
        changed = [
            Changed(next(found), by) if has else Changed(None, None)
            for has, by in zip(able, moved, strict=True)
        ]
        for i, samples, rng in zip(np.flatnonzero(lying), held.tolist(), rngs, strict=True):
            invented = invented_changes(accepted[i], samples, rng, poisoned=bool(wanted[i]))
            # Where counts are sent as well, they say what changed.
            changed[i] = invented._replace(errors=moved[i]) if self._with_counts else invented
        judgements = merged(true.of(~lying[able]), untrue.judgements, lying)
        return Findings(judgements, errors, changed)

    def _accepted(
        self,
        names: Sequence[str],
        rows: Rows,
        versions: Sequence[int],
        models: Mapping[int, Vector],
    ) -> Histories:
        """Count errors of accepted models on these members' data; who has none makes them up."""
        able = rows != NO_DATA
        numbers = [self.number[name] for name, has in zip(names, able, strict=True) if not has]
        result = np.empty((len(names), len(versions), self.task.kinds), dtype=np.int64)
        result[able] = self.profiles.history(rows[able], versions, models)
        result[~able] = self.inventor.history(numbers, versions)
        return result

    def _wanted(
        self,
        members: Members,
        names: Sequence[str],
        honest: Verdicts,
        doubtful: Array,
        task: Judge,
        attacked: bool,
    ) -> Verdicts:
        """Return the verdicts (m,) of these members, those of liars in the place of honest ones."""
        liars = [i for i, name in enumerate(names) if name in members.malicious_validators]
        if not liars:
            return honest
        numbers = tuple(self.number[names[i]] for i in liars)
        doubt = tuple(doubtful[liars].tolist())
        turn = Turn(task.round, task.attempt, numbers, self.seed, attacked, doubt)
        wanted = honest.copy()
        wanted[liars] = members.vote_attack(honest[liars], turn)
        return wanted
