"""The server as a validator: BAFFLE-S, where it judges alone, or one voter among the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from fedjury.judges.judgements import Judge
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.datasets.split import Indices
from fedjury.learning.error_profiles import Profile, sizes
from fedjury.learning.evaluation import predict
from fedjury.learning.task import Task
from fedjury.learning.weights import Vector
from fedjury.protocol.checks import MAX_EVIDENCE
from fedjury.protocol.compression import as_received
from fedjury.protocol.counts import packed
from fedjury.protocol.fields import SERVER
from fedjury.protocol.messages import Vote
from fedjury.registry.faults import PluginError, Tell


class ServerView(NamedTuple):
    """What the server says of a candidate."""

    profile: Profile
    """What it found in it."""
    vote: Vote | None
    """None where votes do not count yet, or its judge fails."""
    silent: str = ""
    """Why it gives no vote though it was to; empty if that is not so."""


class ServerValidator(NamedTuple):
    """How the server judges: what it finds in a model on its own data, and what it makes of it."""

    profile: Callable[[Vector], Profile]
    """A model (d,) -> its error profile (p,) on the server's data, as a client would find it."""
    judge: Judge
    samples: int
    """|D|: how many it holds."""
    models: int
    """Accepted models to compare a candidate with: l + 1."""
    tell: Tell = lambda _text, _kind: None
    """Told why it gives no vote."""
    with_counts: bool = False
    """Whether its vote carries what it counted."""

    def look(
        self, candidate: Vector, known: Sequence[Profile], turn: tuple[int, int] | None
    ) -> ServerView:
        """Look at a candidate (d,) and, in a turn (round, attempt) in which votes count, vote."""
        new = self.profile(candidate)
        try:
            return ServerView(new, self.cast(known, new, turn) if turn else None)
        except PluginError as why:
            self.tell(f"{why}; the server gives no vote where it fails", "judge")
            return ServerView(new, None, str(why))

    def cast(self, known: Sequence[Profile], new: Profile, turn: tuple[int, int]) -> Vote:
        """Vote on a candidate of this (round, attempt), going by the profiles of the accepted."""
        opinions = self.judge(np.stack(known)[np.newaxis], new[np.newaxis])
        counts = packed(np.concatenate([*known, new])) if self.with_counts else b""
        poisoned, score, threshold = (part.tolist()[0] for part in opinions[:3])
        seen = opinions.evidence[0, -MAX_EVIDENCE:].astype("<f4").tobytes()
        moved = int(sizes(known[-1] - new))
        return Vote(
            SERVER,
            *turn,
            poisoned,
            score,
            threshold,
            self.samples,
            seen,
            changed_errors=moved,
            counts=counts,
        )


def server_validator(
    model: nn.Module,
    task: Task,
    data: Dataset,
    held: Indices,
    judge: Judge,
    look_back: int,
    codec: str,
    tell: Tell = lambda _text, _kind: None,
    *,
    with_counts: bool = False,
) -> ServerValidator:
    """Let the server judge with the training samples ``held`` (k,) that it kept for itself.

    ``codec``: how candidates and history travel. The server has the models themselves, and looks at
    what arrives of them all the same: it is one validator among the others. ``tell``: told where
    somebody else's judge fails. ``with_counts``: whether its votes carry what it counted.
    """
    x, y = torch.from_numpy(data.x_train[held]), data.y_train[held]

    def profile(weights: Vector) -> Profile:
        return task.profile(predict(model, as_received(weights, codec), x, task), y)

    return ServerValidator(profile, judge, len(y), look_back + 1, tell, with_counts)
