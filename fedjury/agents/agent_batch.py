"""The members of one process: their data, their training in one batch, their votes.

A cohort of one is a device. Nothing here knows of networks or clocks: the fleet tells a cohort
what has to be done, and sends what it makes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

import numpy as np

from fedjury.agents.agent import Contribute, Evaluate, JudgeGroups, Train
from fedjury.agents.agent import Judge as JudgeTask
from fedjury.agents.faults import Faults
from fedjury.agents.group_voting import GroupValidators
from fedjury.agents.members import Member, Members
from fedjury.agents.voting import Validators
from fedjury.attacks import AttackContext, RoundContext
from fedjury.learning.partition import PartitionSpec
from fedjury.learning.weights import Vector
from fedjury.protocol.call import Selection
from fedjury.protocol.messages import (
    AttackVector,
    ColluderUpdate,
    Decline,
    GroupVotes,
    Manifest,
    Metrics,
    Phase,
    Round,
    Update,
    Vote,
)
from fedjury.randomness import Purpose, draw_groups, stream

CHUNK = 100
"""Members trained in one batch: few enough for the cache, many enough for the processor.

Chunks are cut by the members' numbers in the whole fleet, never by arrival: which members share a
batch may touch the last bit of a result, and the same seed must give the same bits. So the parts
into which a fleet is cut must not cut through a chunk. Where few are called, whole chunks are put
together: a call has its price, however few it trains (see ``fedjury.attacks.honest``). Members who
hold unequal numbers of samples are cut by these (``chunks_by_size``): there, as where chunks are
put together, bits are the same because the products of one member do not depend on the others'.
"""


NOBODY = Selection(())

Said = TypeVar("Said", bound=Vote | GroupVotes)


class AgentBatch:
    """Trains and judges for all members of a process."""

    def __init__(
        self,
        members: Members,
        world: AttackContext,
        manifest: Manifest,
        spec: PartitionSpec,
        attacked: Callable[[int], bool],
        faults: Faults | None = None,
        group_size: int | None = None,
    ) -> None:
        """``world``: what they learn in. ``attacked``: whether attackers strike in a round.

        ``faults``: takes what fails in plug-ins of somebody else's. ``group_size``: of the groups
        that those who know the run's seed can draw; None: they cannot.
        """
        self._group_size, self._spec = group_size, spec
        self._faults = faults or Faults()
        self.members = members
        self._seed, self._look_back, self._attacked = spec.seed, manifest.look_back, attacked
        self._member = {member.name: member for member in (*members.holders, *members.malicious)}
        self._everybody = spec.n
        self._malicious = {member.name for member in members.malicious}
        self._colluders = members.colluders
        counts: list[int] = world.data.counts.tolist()
        dealt = zip(members.holders, counts, strict=True)
        self._held = {member.name: held for member, held in dealt}
        self._empty = frozenset(name for name, held in self._held.items() if not held)
        """Who was dealt no sample, and sits every round out."""
        self._unequal = world.data.held is not None
        self._absent: frozenset[str] = frozenset()
        self.models: dict[int, Vector] = {}
        self._validators = Validators(
            members, world, spec.seed, manifest.history_codec, with_counts=manifest.counts
        )
        self.profiles = self._validators.profiles
        self._group_validators = GroupValidators(self._validators, world, manifest.history_codec)
        self._round, self._attempt = (-1, -1), 0
        self._start: Vector | None = None
        """What is trained from, if not the version of the round: a candidate."""
        self._selection = NOBODY
        """Who is called to train in the round."""
        self._called, self._attackers = 0, 0
        """How many are, of all agents, and how many of them attack; 0 where all are called."""
        self._planned: set[str] = set()
        self._chunks: deque[tuple[bool, tuple[Member, ...]]] = deque()
        """Who is still to train, and whether they are evil."""
        self.deltas: dict[str, Vector] = {}
        """Agent -> what it learnt in the round."""
        self._from: dict[str, Vector] = {}
        """Agent -> the model that it learnt from."""
        self._verdicts: dict[str, Vote] = {}

    @property
    def number(self) -> int:
        """The round it is in; -1 before the first."""
        return self._round[0]

    def keep(self, version: int, weights: Vector) -> None:
        """Remember an accepted model; forget those that no judge will ask for."""
        self.models[version] = weights
        oldest = version - max(self._look_back, 1)
        self.models = {v: w for v, w in self.models.items() if v >= oldest}
        self._validators.forget(oldest)
        self._group_validators.profiles.forget(oldest)

    def look_back_at(self, version: int, weights: Vector) -> None:
        """Remember an accepted model that came as history."""
        self.profiles.receive(version, weights)

    def look_back_at_group(self, version: int, weights: Vector) -> None:
        """Remember the candidate of a group of an accepted model that came as history."""
        self._group_validators.profiles.receive(version, weights)

    def exclude(self, absent: frozenset[str]) -> None:
        """From now on, leave out of rounds to which all are called those who have not come."""
        self._absent, self._selection = absent, NOBODY

    def begin(self, message: Round) -> None:
        """Plan the training of a round; what was learnt for it already is kept.

        An earlier round is over: a member with a slower connection has only now heard of it.
        """
        if self._colluders is not None:
            self._colluders.announce(message)
        turn = message.round, message.version
        if turn[0] < self._round[0] or message.phase is Phase.JUDGE_AND_TRAIN:
            return
        if turn != self._round or self._start is not None:
            self._reset(turn, None, message.seconds)
        elif message.trains == self._selection:
            return
        self._select(message.trains)
        self._plan(message.trains.among(self._member))

    def contribute(self, message: Round, task: Contribute, candidate: Vector) -> None:
        """Let the called members judge a candidate, and plan the training of those who pass it.

        All called members of the process do so at once, whoever heard of it first.
        """
        turn = message.round, message.version
        if turn[0] < self._round[0]:
            return  # a member with a slow connection has only now heard of a round that is over
        start = self._start if turn == self._round else None
        if start is None or not np.array_equal(start, candidate, equal_nan=True):
            self._reset(turn, candidate, message.seconds)
        elif message.attempt == self._attempt:
            return
        self._attempt = message.attempt
        self._select(message.trains)
        out = self._absent | self._empty
        selected = [name for name in message.trains.among(self._member) if name not in out]
        judging = JudgeTask(task.round, task.attempt, task.versions)
        votes = self.votes(selected, judging, candidate, made_in=task.round - 1)
        self._verdicts = {vote.agent: vote for vote in votes if isinstance(vote, Vote)}
        self._faults.out.update(vote.agent for vote in votes if isinstance(vote, Decline))
        # Who colludes trains even if it votes against: its coordinator waits for its report.
        colluding = self._malicious if self._colluders is not None else ()
        clean = (name for name, vote in self._verdicts.items() if not vote.poisoned)
        self._plan([*clean, *self._verdicts.keys() & colluding])

    def _reset(self, turn: tuple[int, int], start: Vector | None, seconds: float) -> None:
        self._round, self._start, self._attempt = turn, start, 0
        self.deltas.clear()
        self._from.clear()
        self._chunks.clear()
        self._planned.clear()
        self._verdicts.clear()
        self._faults.out.clear()
        if self._colluders is not None:
            self._colluders.begin(turn, seconds)

    def _select(self, selection: Selection) -> None:
        """Take note of who is called to train, also of others' agents."""
        self._selection, self._called = selection, selection.size(self._everybody)
        everybody = selection.names == "all"
        self._attackers = 0 if everybody else len(selection.among(self.members.attackers))

    def _plan(self, called: Collection[str]) -> None:
        """Put those who are called and not planned yet into chunks, the evil ones first."""
        selected = [self._member[name] for name in called]
        done = self._planned | self._absent | self._empty
        selected = sorted(
            (member for member in selected if member.name not in done),
            key=lambda member: member.number,
        )
        self._planned.update(member.name for member in selected)
        for malicious in (True, False):
            values = [
                member for member in selected if (member.name in self._malicious) is malicious
            ]
            cut = chunks_by_size(values, self._held) if self._unequal else chunks(values)
            self._chunks.extend((malicious, chunk) for chunk in cut)

    def train_chunk(self) -> list[str]:
        """Train the next chunk of the planned round; returns who that was.

        Nobody, if there is no chunk left, or the model has not come. Where that fails by somebody
        else's plug-in, they sit the round out.
        """
        number, version = self._round
        weights = self.models.get(version) if self._start is None else self._start
        if not self._chunks or weights is None:
            return []
        malicious, members = self._chunks.popleft()
        learner = self.members.attack if malicious else self.members.train
        known = [self.models[v] for v in sorted(self.models) if v <= version]
        if self._start is not None:
            known = [*known, weights][-self._look_back - 1 :]
        context = RoundContext(
            number,
            tuple(member.number for member in members),
            self._seed,
            tuple(known),
            self._called,
            self._attackers,
        )
        names = [member.name for member in members]
        self._from.update(dict.fromkeys(names, weights))
        try:
            deltas = learner(weights, context)
        except Exception as why:
            self._faults.note(why, names)
            return names
        # Fakes that all send the same share one row, and so one payload.
        rows = [deltas[0]] * len(members) if deltas.strides[0] == 0 else deltas
        learnt = {m.name: row for m, row in zip(members, rows, strict=True)}
        if malicious and self._colluders is not None and self._attacked(number):
            self._colluders.learn(learnt)
        else:
            self.deltas.update(learnt)
        return names

    def observe(self, message: ColluderUpdate | AttackVector, now: float) -> None:
        """Let those who collude hear what one of them said; ``now``: in seconds."""
        if self._colluders is not None:
            self._colluders.on_message(message, now)

    def collude(self, now: float) -> tuple[list[ColluderUpdate | AttackVector], Collection[str]]:
        """Return what those who collude tell each other now, and who of them is ready to send."""
        if self._colluders is None:
            return [], ()
        message: list[ColluderUpdate | AttackVector] = []
        try:
            message = self._colluders.messages(now)
        except Exception as why:  # they hear of no plot
            self._faults.note(why)
        ready = self._colluders.ready(now)
        self.deltas.update(ready)
        return message, ready.keys()

    def trained_from(self, name: str) -> Vector:
        """Return the model (d,) from which an agent's update of this round was trained."""
        return self._from[name]

    @property
    def unclipped(self) -> Collection[str]:
        """Return who attacks."""
        return self.members.attackers

    def update(self, name: str, task: Train | Contribute) -> Update | Vote | Decline | None:
        """Return what a member sends for this round, if it is ready.

        That is its update; where it judged the candidate as well, the update says so, or there is
        only its vote against it. Who holds no sample declines.
        """
        if name in self._empty or name in self._faults.out:
            return Decline(name, task.round, task.attempt)
        piggy_back = isinstance(task, Contribute)
        version = self._round[1] if isinstance(task, Contribute) else task.version
        if (task.round, version) != self._round:
            return None
        vote = self._verdicts.get(name) if piggy_back else None
        if vote is not None and vote.poisoned:
            return vote
        if name not in self.deltas or (piggy_back and vote is None):
            return None
        delta = self.deltas[name]
        update = Update(
            name, task.round, version + piggy_back, self._validators.samples(name), delta
        )
        if vote is None:
            return update
        return replace(
            update,
            score=vote.score,
            threshold=vote.threshold,
            evidence=vote.evidence,
            changed=vote.changed,
            changed_errors=vote.changed_errors,
            counts=vote.counts,
        )

    def votes(
        self, names: Sequence[str], task: JudgeTask, candidate: Vector, made_in: int | None = None
    ) -> list[Vote | Decline]:
        """Let validators judge a candidate: one forward pass for all of them together.

        Nobody votes on a candidate whose predecessors are gone: newer models have come, and its
        round is over. ``made_in``: the round that made the candidate, if not the task's.
        """
        if not self.profiles.knows(task.versions, self.models):
            return []
        attacked = self._attacked(made_in or task.round)

        def ask(able: list[str]) -> list[Vote]:
            return self._validators.votes(
                self.members, able, task, self.models, candidate, attacked=attacked
            )

        return self._votes_of(names, task, ask)

    def _votes_of(
        self,
        names: Sequence[str],
        task: JudgeTask | JudgeGroups,
        ask: Callable[[list[str]], list[Said]],
    ) -> list[Said | Decline]:
        """Return what these vote when they are asked, and that the others decline.

        Honest ones without data decline. Where somebody else's plug-in fails, liars do first, and
        if it fails without them, all do.
        """
        able = [name for name in names if not self._validators.unable(self.members, name)]
        honest = [name for name in able if name not in self.members.malicious_validators]
        votes: list[Said] = []
        for asked in (able, honest) if len(honest) < len(able) else (able,):
            try:
                votes = ask(asked) if asked else []
                break
            except Exception as why:
                self._faults.note(why)
        unable = {*names}.difference(vote.agent for vote in votes)
        declined = [Decline(name, task.round, task.attempt) for name in sorted(unable)]
        return [*votes, *declined]

    def group_votes(
        self,
        given: Mapping[str, tuple[int, ...]],
        task: JudgeGroups,
        candidates: Mapping[int, Vector],
    ) -> list[GroupVotes | Decline]:
        """Let validators judge the groups given to each, all of them together."""
        model = self.models.get(task.versions[-1])
        alone = self.members.group_judge is not None
        known = model is not None if alone else self._group_validators.knows(task.versions)
        if not known:
            return []
        attacked = self._attacked_groups(task.round)

        def ask(able: list[str]) -> list[GroupVotes]:
            own = {name: given[name] for name in able}
            return self._group_validators.votes(
                self.members, own, task, model, candidates, attacked
            )

        return self._votes_of([*given], task, ask)

    def _attacked_groups(self, round_: int) -> Collection[int]:
        """Return the groups with one of the malicious agents of the fleet, if they attack.

        They draw the groups as the aggregator does, of the agents that it has called: of all, where
        it called all. Where groups are drawn by a secret, none of them knows of any.
        """
        if self._group_size is None or not self._attacked(round_):
            return ()
        spec = self._spec
        names = {*self._selection.among([spec.name(number) for number in range(spec.n)])}
        if self._selection.names != "all":
            names.update(self._selection.names)
        groups = draw_groups(names, self._group_size, stream(self._seed, Purpose.GROUPS, round_))
        out = self.members.attackers
        return [number for number, group in enumerate(groups) if not out.isdisjoint(group)]

    def measure(
        self, names: Sequence[str], task: Evaluate, candidate: Vector
    ) -> list[Metrics | Decline]:
        """Let members measure a candidate on their own data, all of them together."""
        version = self._round[1]
        try:
            return self._validators.measured(self.members, names, task, version, candidate)
        except Exception as why:
            self._faults.note(why)
        return [Decline(name, task.round, task.attempt) for name in names]


def chunks(selected: Sequence[Member]) -> Iterator[tuple[Member, ...]]:
    """Cut members, in order of number, into chunks, small ones put together."""
    together: tuple[Member, ...] = ()
    for _, values in groupby(selected, key=lambda member: member.number // CHUNK):
        chunk = tuple(values)
        if together and len(together) + len(chunk) > CHUNK:
            yield together
            together = ()
        together += chunk
    if together:
        yield together


def chunks_by_size(selected: Sequence[Member], held: Mapping[str, int]) -> list[tuple[Member, ...]]:
    """Cut members into chunks of those who hold about as many samples, most first.

    So a chunk is made of members who take about as many steps, and those who take many cost the
    others nothing.
    """
    ranked = sorted(selected, key=lambda member: -held.get(member.name, 0))
    return [tuple(ranked[first : first + CHUNK]) for first in range(0, len(ranked), CHUNK)]
