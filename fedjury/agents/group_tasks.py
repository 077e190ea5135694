"""The votes on groups that a process was asked for, until the groups' candidates have come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from fedjury.agents.agent import JudgeGroups
from fedjury.agents.batch import Batch
from fedjury.protocol.messages import Decline, GroupCandidate, GroupVotes, Vector


class GroupTasks:
    """Which of our agents are to judge which groups, and the candidates that have come."""

    def __init__(self) -> None:
        self._voting: dict[JudgeGroups, dict[str, tuple[int, ...]]] = {}
        """A vote on groups -> its validators, and the groups that each is to judge."""
        self._turn = 0, 0
        """Round and attempt of the candidates."""
        self._candidates: dict[int, Vector] = {}

    def __bool__(self) -> bool:
        """Say whether anybody was asked and has not answered."""
        return bool(self._voting)

    def forget(self) -> None:
        """Forget what was asked for, and the candidates."""
        self._voting.clear()
        self._turn, self._candidates = (0, 0), {}

    def receive(self, message: GroupCandidate) -> None:
        """Take the candidate of a group; those of an earlier attempt are of no use then."""
        turn = message.round, message.attempt
        if turn > self._turn:
            self._turn, self._candidates = turn, {}
        if turn == self._turn:
            self._candidates[message.group] = message.weights

    def ask(self, task: JudgeGroups, given: Mapping[str, tuple[int, ...]]) -> None:
        """Ask validators, each for its groups."""
        self._voting.setdefault(task, {}).update(given)

    def answers(self, batch: Batch, size: Callable[[str], int]) -> Iterator[GroupVotes | Decline]:
        """Let all who are ready judge groups at once; each says its part of the time that took.

        ``size``: bytes that an agent has received for it.
        """
        voting, self._voting = self._voting, {}
        for task, given in voting.items():
            if (task.round, task.attempt) != self._turn:
                continue
            before = time.process_time()
            answers = batch.group_votes(given, task, self._candidates)
            cpu = round((time.process_time() - before) / max(1, len(answers)) * 1e6)
            for said in answers:
                if isinstance(said, Decline):
                    yield said
                else:
                    yield replace(said, size=size(said.agent), cpu=cpu)
