"""One device between the network and its own functions: it trains, measures and votes with them.

What a function of the user's does wrong is said in a sentence, and the device sits that round out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury import judges
from fedjury.agents.agent import Contribute, Evaluate, JudgeGroups
from fedjury.agents.agent import Judge as JudgeTask
from fedjury.agents.agent import Train as TrainTask
from fedjury.agents.functions import (
    FunctionError,
    Functions,
    Metrics,
    Trained,
    Turn,
    called,
    flaw_of_values,
    named,
)
from fedjury.judges.judgements import Judgements
from fedjury.learning.error_profiles import (
    BINS,
    Edges,
    answers_changed,
    edges_of,
    error_profile,
    residual_profile,
    sizes,
)
from fedjury.learning.own_model import OwnModel
from fedjury.protocol import messages
from fedjury.protocol.checks import MAX_EVIDENCE
from fedjury.protocol.counts import packed
from fedjury.protocol.messages import (
    MAX_COUNT,
    AttackVector,
    ColluderUpdate,
    Decline,
    GroupVotes,
    Manifest,
    Phase,
    Round,
    Update,
    Vector,
    Vote,
)
from fedjury.randomness import Purpose, stream_of_bytes

CLEAN, POISONED = (0.0, 1.0), (2.0, 1.0)
"""Score and threshold of the votes of a judge of one's own."""


class _Found(NamedTuple):
    """What a model says of a device's samples."""

    samples: int
    errors: npt.NDArray[np.int64]
    """(p,)"""
    answers: npt.NDArray[Any]
    """(samples,)"""


class DeviceBatch:
    """The batch of a process that is one real device; see ``fedjury.agents.batch``."""

    unclipped: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        functions: Functions,
        model: OwnModel,
        manifest: Manifest,
        say: Callable[[str], None],
    ) -> None:
        self.name = name
        self._functions, self._model, self._say = functions, model, say
        self._manifest = manifest
        self._models: dict[int, Vector] = {}
        self._round, self._attempt = (-1, -1), 0
        self._start: Vector | None = None
        """What is trained from, if not the version of the round: a candidate."""
        self._from: Vector = np.empty(0, np.float32)
        """What the update was trained from."""
        self._planned = self._done = False
        self._update: Update | None = None
        self._verdict: Vote | None = None
        self._profiles: dict[int, npt.NDArray[np.int64]] = {}
        """Version -> what the accepted model gets wrong here."""
        self._groups: dict[int, Vector] = {}
        """Version -> a group's candidate of the round that made it."""
        self._group_profiles: dict[int, npt.NDArray[np.int64]] = {}
        """Version -> what that gets wrong here."""
        self._answers: tuple[int, npt.NDArray[Any]] | None = None
        """The last accepted version that it voted after, and what that says of its samples."""
        self._edges: Edges | None = None
        """Of the bins of targets that are numbers: those of the first that were seen."""
        self._last: tuple[Vector, Metrics] | None = None
        """The last model that was measured, and what was found."""
        self._told: set[str] = set()

    @property
    def number(self) -> int:
        """The round it is in; -1 before the first."""
        return self._round[0]

    @property
    def planned(self) -> bool:
        """Whether it is still to train in the round."""
        return self._planned and not self._done

    def keep(self, version: int, weights: Vector) -> None:
        """Remember an accepted model (d,), and forget those that no judge will ask for."""
        oldest = version - max(self._manifest.look_back, 1)
        self._models = {v: w for v, w in self._models.items() if v >= oldest} | {version: weights}
        for kept in (self._profiles, self._groups, self._group_profiles):
            for gone in [kept_version for kept_version in kept if kept_version < oldest]:
                del kept[gone]

    def look_back_at(self, version: int, weights: Vector) -> None:
        """Remember an accepted model (d,) that came as history."""
        self._models.setdefault(version, weights)

    def look_back_at_group(self, version: int, weights: Vector) -> None:
        """Remember the candidate (d,) of a group of an accepted model that came as history."""
        self._groups.setdefault(version, weights)

    def exclude(self, absent: frozenset[str]) -> None:
        """Do nothing: a device is there."""

    def begin(self, message: Round) -> None:
        """Plan the training of a round; what was learnt for it already is kept."""
        turn = message.round, message.version
        if turn[0] < self.number or message.phase is Phase.JUDGE_AND_TRAIN:
            return
        if turn != self._round or self._start is not None:
            self._reset(turn, None)
        if message.phase is Phase.TRAIN:
            self._planned = self.name in message.trains

    def contribute(self, message: Round, task: Contribute, candidate: Vector) -> None:
        """Judge a candidate (d,), and plan to train from it if it is clean."""
        turn = message.round, message.version
        if turn[0] < self.number or (turn == self._round and message.attempt == self._attempt):
            return
        self._reset(turn, candidate)
        self._attempt = message.attempt
        judging = JudgeTask(task.round, task.attempt, task.versions)
        votes = [v for v in self.votes([self.name], judging, candidate) if isinstance(v, Vote)]
        self._verdict = votes[0] if votes else None
        self._planned = self._verdict is not None and not self._verdict.poisoned
        self._done = self._verdict is None  # it cannot judge, and so sits the round out

    def _reset(self, turn: tuple[int, int], start: Vector | None) -> None:
        self._round, self._start, self._attempt = turn, start, 0
        self._planned = self._done = False
        self._update = self._verdict = None

    def train_chunk(self) -> list[str]:
        """Train, if that is planned and the model is here; returns this device's name then."""
        weights = self._models.get(self._round[1]) if self._start is None else self._start
        if not self.planned or weights is None:
            return []
        self._done, self._from = True, weights
        try:
            self._update = self._trained(weights)
        except FunctionError as why:
            self._say(f"round {self.number} goes on without this device: {why}")
        return [self.name]

    def _trained(self, weights: Vector) -> Update | None:
        """Let the user's function train from ``weights`` (d,); None if it sits the round out."""
        train = self._functions.train
        if train is None:
            raise FunctionError("it has no train function; write one and mark it @device.train")
        self._model.load(weights)
        before = self._model.read()
        turn = self._turn()
        with self._model.training(turn.seed):
            result = called(train, self._model.model, turn)
        result = Trained(result) if isinstance(result, int) else result
        if not isinstance(result, Trained):
            raise FunctionError(
                f"{named(train)} returned {type(result).__name__}; it must return "
                "fedjury.Trained(samples=...)"
            )
        if not 0 <= result.samples <= MAX_COUNT:
            raise FunctionError(f"{named(train)} returned samples={result.samples}")
        if not result.samples:
            return None
        if flaw := flaw_of_values(result.metrics):
            raise FunctionError(f"{named(train)} {flaw}")
        try:
            delta = self._model.read() - before
        except ValueError as why:
            raise FunctionError(f"{named(train)}: {why}") from why
        if not np.isfinite(delta).all():
            raise FunctionError(f"{named(train)} left weights that are not finite (NaN, infinity)")
        return Update(
            self.name,
            self.number,
            self._round[1] + (self._start is not None),
            result.samples,
            delta,
            metrics=dict(result.metrics),
            counts=b"" if self._verdict is None else self._verdict.counts,
        )

    def _turn(self) -> Turn:
        """Return what the functions are told of the round."""
        said = self._manifest
        name = f"{self.number} {self.name}".encode()
        seed = int(stream_of_bytes(name, Purpose.TRAINING).integers(2**31))
        pace = said.learning_rate, said.momentum
        loss, optimizer = (said.loss, said.loss_options), (said.optimizer, said.optimizer_options)
        return Turn(self.number, seed, said.epochs, said.batch_size, *pace, *loss, *optimizer)

    def observe(self, message: ColluderUpdate | AttackVector, now: float) -> None:
        """Do nothing: a device does not collude."""

    def collude(self, now: float) -> tuple[list[ColluderUpdate | AttackVector], Collection[str]]:  # noqa: ARG002
        """Return nothing: a device does not collude."""
        return [], ()

    def update(self, name: str, task: TrainTask | Contribute) -> Update | Vote | Decline | None:
        """Return the update of this round, or with piggy-back the vote against the candidate.

        Or that it sits the round out.
        """
        if task.round != self.number:
            return None
        if self._verdict is not None and self._verdict.poisoned:
            return self._verdict
        if self._done and self._update is None:
            return Decline(name, task.round, task.attempt)
        return self._update

    def trained_from(self, name: str) -> Vector:  # noqa: ARG002
        """Return the model (d,) from which this device's update was trained."""
        return self._from

    def votes(
        self, names: Sequence[str], task: JudgeTask, candidate: Vector
    ) -> list[Vote | Decline]:
        """Return this device's vote on a candidate (d,), or that it cannot judge it.

        Nothing on one whose predecessors are gone: newer models have come, and its round is over.
        """
        known = self._models.keys() | self._profiles.keys()
        if self.name not in names or not known >= set(task.versions):
            return []
        try:
            return [self._vote(task, candidate)]
        except FunctionError as why:
            self._once(f"asked to vote, it cannot: {why}")
            return [Decline(self.name, task.round, task.attempt)]

    def group_votes(
        self,
        given: Mapping[str, tuple[int, ...]],
        task: JudgeGroups,
        candidates: Mapping[int, Vector],
    ) -> list[GroupVotes | Decline]:
        """Return this device's votes on the groups given to it, or that it cannot judge them."""
        known = self._groups.keys() | self._group_profiles.keys()
        alone = self._manifest.group_judge
        if self.name not in given or not (alone or known >= set(task.versions)):
            return []
        groups = given[self.name]
        try:
            if self._manifest.group_judge and self._functions.judge is None:
                raise FunctionError(
                    f"the judge {self._manifest.group_judge!r} needs losses by class"
                )
            votes = [self._group_vote(task, candidates[group]) for group in groups]
        except FunctionError as why:
            self._once(f"asked to vote on groups, it cannot: {why}")
            return [Decline(self.name, task.round, task.attempt)]
        return [GroupVotes.of(dict(zip(groups, votes, strict=True)))]

    def _group_vote(self, task: JudgeGroups, candidate: Vector) -> Vote:
        """Return this device's vote on one group's candidate (d,)."""
        if self._functions.judge is not None:
            return self._own_vote(task, candidate)
        for version in task.versions:
            if version not in self._group_profiles:
                self._group_profiles[version] = self._profile(self._groups[version]).errors
        here = self._profile(candidate)
        history = np.stack([self._group_profiles[version] for version in task.versions])
        found = self._judged(history, here.errors)
        verdict = bool(found.poisoned[0]), float(found.score[0]), float(found.threshold[0])
        return Vote(self.name, task.round, task.attempt, *verdict, here.samples)

    def measure(
        self, names: Sequence[str], task: Evaluate, candidate: Vector
    ) -> list[messages.Metrics | Decline]:
        """Return what this device measures of a candidate (d,), or that it cannot."""
        if self.name not in names:
            return []
        try:
            found = self._evaluated(candidate)
        except FunctionError as why:
            self._once(f"asked to evaluate a candidate, it cannot: {why}")
            return [Decline(self.name, task.round, task.attempt)]
        if not found.samples:
            return [Decline(self.name, task.round, task.attempt)]
        return [
            messages.Metrics(self.name, task.round, task.attempt, found.samples, found.figures())
        ]

    def _vote(self, task: JudgeTask, candidate: Vector) -> Vote:
        if self._functions.judge is not None:
            return self._own_vote(task, candidate)
        for version in task.versions:
            if version not in self._profiles:
                past = self._profile(self._models[version])
                self._profiles[version], self._answers = past.errors, (version, past.answers)
        here = self._profile(candidate)
        history = np.stack([self._profiles[version] for version in task.versions])
        found = self._judged(history, here.errors)
        seen = found.evidence[0, -MAX_EVIDENCE:].astype("<f4").tobytes()
        return Vote(
            self.name,
            task.round,
            task.attempt,
            bool(found.poisoned[0]),
            float(found.score[0]),
            float(found.threshold[0]),
            here.samples,
            seen,
            changed=self._changed(task.versions[-1], here.answers),
            changed_errors=int(sizes(history[-1] - here.errors)),
            counts=packed(np.concatenate([*history, here.errors]))
            if self._manifest.counts
            else b"",
        )

    def _own_vote(self, task: JudgeTask | JudgeGroups, candidate: Vector) -> Vote:
        """Return what a judge function of the user's says of a candidate (d,)."""
        judge = self._functions.judge
        assert judge is not None
        self._model.load(candidate)
        poisoned = bool(called(judge, self._model.model, self._turn()))
        score, threshold = POISONED if poisoned else CLEAN
        return Vote(self.name, task.round, task.attempt, poisoned, score, threshold, 1)

    def _judged(self, history: npt.NDArray[np.int64], errors: npt.NDArray[np.int64]) -> Judgements:
        """Return what the run's judge says of errors (p,) after a history (l + 1, p)."""
        try:  # no message makes us import a judge
            judge = judges.build(
                judges.JUDGES.agreed(self._manifest.judge),
                minimum_history=self._manifest.minimum_history,
                **self._manifest.judge_options,
            )
            return judge(history[None], errors[None])
        except ValueError as why:
            raise FunctionError(str(why)) from why

    def _changed(self, version: int, answers: npt.NDArray[Any]) -> int | None:
        """Count the answers that are others than those of the last accepted version, if known."""
        if self._answers is None or self._answers[0] != version:
            return None
        return answers_changed(self._answers[1], answers)

    def _profile(self, weights: Vector) -> _Found:
        """Return what a model (d,) says of the samples here, and what it gets wrong."""
        found = self._evaluated(weights)
        evaluate = self._functions.evaluate
        assert evaluate is not None
        if not found.samples:
            raise FunctionError("it holds no samples to judge with")
        if found.predictions is None or found.targets is None:
            raise FunctionError(
                f"{named(evaluate)} must return fedjury.Metrics with predictions= and targets="
            )
        try:
            counts = self._errors(found.predictions, found.targets)
        except (ValueError, TypeError, IndexError) as why:
            raise FunctionError(f"{named(evaluate)}: {why}") from why
        return _Found(len(found.targets), counts, np.asarray(found.predictions))

    def _errors(
        self, predictions: npt.NDArray[Any], targets: npt.NDArray[Any]
    ) -> npt.NDArray[np.int64]:
        """Count what is wrong by kinds: of errors of each class, or by bins of the targets."""
        if self._manifest.classes:
            return error_profile(predictions, targets, self._manifest.classes)
        if self._edges is None:
            # Whole answers to whole targets are classes that the server does not know: each has a
            # bin of its own, for what moves within a bin is not seen. Pooled counts have a limit.
            whole = np.asarray(predictions).dtype.kind in "iu" and targets.dtype.kind in "iu"
            own = whole and not self._manifest.counts
            self._edges = edges_of(targets, max(BINS, targets.size) if own else BINS)
        return residual_profile(predictions, targets, self._edges)

    def _evaluated(self, weights: Vector) -> Metrics:
        """Let the user's function measure a model (d,); asked again for the same, it remembers."""
        if self._last is not None and self._last[0] is weights:
            return self._last[1]
        evaluate = self._functions.evaluate
        if evaluate is None:
            raise FunctionError("it has neither an evaluate nor a judge function")
        self._model.load(weights)
        found = called(evaluate, self._model.model, self._turn())
        if not isinstance(found, Metrics):
            raise FunctionError(
                f"{named(evaluate)} returned {type(found).__name__}; it must return fedjury.Metrics"
            )
        if why := found.flaw():
            raise FunctionError(f"{named(evaluate)} {why}")
        self._last = weights, found
        return found

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)
