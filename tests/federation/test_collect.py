"""A second collect strategy, written by somebody else: buffered rounds, as in FedBuff.

Nguyen et al., AISTATS 2022: the server keeps the first k updates that come, whichever model they
were trained from, and makes a new version of them; one that is s versions old counts 1 / √(1 + s).
Nothing of the round's machine knows of it: the settings name it, and that is all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pytest
from support.by_hand import changed, play, policy, records, start, updates, vector, vote
from support.federation import Federation, one_thread  # noqa: F401 - a fixture

from fedjury.aggregator.assembly import build
from fedjury.learning.contributions import Contributions
from fedjury.protocol.messages import Phase, Reason, Update
from fedjury.registry import collect
from fedjury.round.collect import COLLECT, Allocate, Answer, Progress, Request
from fedjury.round.effects import CountInvalid
from fedjury.round.state import Tick

pytestmark = pytest.mark.usefixtures("one_thread")

UNIT = 1000
"""The weight of an update that is not stale: weights are whole numbers."""


@dataclass(frozen=True)
class Buffer:
    """Updates of any age, one an agent."""

    updates: tuple[Update, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The agents, sorted."""
        return tuple(sorted(update.agent for update in self.updates))

    def __len__(self) -> int:
        return len(self.updates)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def add(self, update: Update) -> Buffer:
        """Return the buffer with one update more."""
        return Buffer((*self.updates, update))


@collect
@dataclass(frozen=True)
class Buffered:
    """A round is closed by its k-th update; stale ones count less."""

    threshold: int
    largest_weight: int
    allocate: Allocate
    oldest: int = 4
    """Versions that an update may be behind."""

    def begin(self, selected: Collection[str]) -> Buffer:
        """Return an empty buffer."""
        return Buffer()

    def refusal(self, update: Update, collected: Buffer, request: Request) -> Reason | None:
        """Refuse what is too old, or from a version that is not there yet."""
        if update.agent not in request.selected:
            return Reason.NOT_SELECTED
        if not 0 <= request.version - update.version <= self.oldest:
            return Reason.WRONG_VERSION
        return Reason.DUPLICATE if update.agent in collected else None

    def awaited(self, selected: int) -> int:
        """Return k."""
        return self.threshold

    def enough(self, progress: Progress, now: float, *, late: bool) -> Answer:
        """Close at the k-th, or by the deadline with what there is."""
        return Answer.CLOSE if late or progress.answered >= self.threshold else Answer.WAIT

    def contributions(self, collected: Buffer, request: Request) -> Contributions:
        """Return a row an update, weighted by how stale it is."""
        rows = sorted(collected.updates, key=lambda update: update.agent)
        staleness = np.array([request.version - update.version for update in rows])
        weights = np.rint(UNIT / np.sqrt(1 + staleness)).astype(np.int64)
        vectors = np.stack([update.delta for update in rows])
        made = Contributions.of_agents(collected.names, vectors, weights)
        return replace(made, staleness=staleness)


HERE = f"{__name__}:Buffered"


def buffered(**changes):
    """Return the configuration of a round that is closed by its second update."""
    strategy = COLLECT.build(HERE, 2, 1000, np.empty)
    weighted = lambda vectors, weights, _: np.average(vectors, 0, weights).astype("f4")  # noqa: E731
    said = changed(policy(rule=weighted, **changes))
    return replace(said, collecting=strategy)


def test_late_updates_count_in_the_next_round_and_less():
    """A and b close round 1 at (2, 0); c, from version 0, comes late and counts 1 / √2 in round 2.

    With a's fresh (0, 0) it makes (2, 6) * 707 / 1707 of version 1.
    """
    said = buffered()
    state, _ = start(said)
    a, b, c = updates(state)
    state, effects = play(state, said, a, b, Tick(1.0, set("abc")))
    assert (state.round, state.version, state.weights.tolist()) == (2, 1, [2, 0])
    fresh = Update("a", 2, 1, 4, vector(0, 0))
    state, effects = play(state, said, c, fresh, Tick(2.0, set("abc")))
    assert [record.updates for record in records(effects)] == [2]
    np.testing.assert_allclose(state.weights, [2 + 2 * 707 / 1707, 6 * 707 / 1707], rtol=1e-6)


def test_what_is_too_old_or_not_yet_there_is_invalid():
    """The strategy says so, and the machine counts it: no update is from a version to come."""
    said = buffered()
    state, _ = start(said)
    ahead = Update("a", 1, 1, 4, vector(1, 1))
    state, effects = play(state, said, ahead)
    assert effects == [CountInvalid("a", Reason.WRONG_VERSION, {"wrong_version": 1})]
    assert not len(state.updates)


def test_a_stale_update_is_no_vote_on_a_candidate_that_its_sender_never_saw():
    """With piggy-back only an update that was trained from the candidate speaks for it."""
    said = buffered(piggy_back=True, quorum=2)
    state, _ = start(said)
    a, b, c = updates(state)
    state, _ = play(state, said, a, b, Tick(1.0, set("abc")))
    assert state.phase.name is Phase.JUDGE_AND_TRAIN
    state, _ = play(state, said, c)
    assert (len(state.updates), dict(state.votes)) == (1, {})
    state, _ = play(state, said, Update("a", 2, 1, 4, vector(0, 0)), vote("b", 2, poisoned=True))
    assert sorted(state.votes) == ["a", "b"]


def test_a_federation_runs_with_a_strategy_that_the_settings_name(tmp_path):
    """Twenty train, a round takes the first sixteen that come: those left are in the next round.

    Nothing is refused for the round it was made for, only what is more than one version old; and
    the model learns the digits.
    """
    run = Federation(
        tmp_path,
        run__rounds=20,
        collect__strategy=HERE,
        collect__options={"oldest": 1},
        collect__threshold=16,
        aggregation__rule="mean",
        aggregation__options={"weighted": True},
        aggregation__server_lr=1.0,
    ).whole()
    assert [(record.updates, record.accepted) for record in run.records] == [(16, True)] * 20
    refused = {reason for record in run.records for reason in record.traffic.invalid_messages}
    assert refused == {"wrong_version"}
    assert run.accuracies[-1] > 0.8


def test_a_strategy_that_there_is_not_is_named_before_anything_starts(tmp_path):
    """Like any other plug-in: the nearest name, and what may be written."""
    for name, said in [("synchronus", "synchronous"), (f"{__name__}:Bufferd", "Buffered")]:
        run = Federation(tmp_path, collect__strategy=name)
        with pytest.raises(ValueError, match=said):
            build(run.settings)
    with pytest.raises(ValueError, match="settle_seconds"):
        COLLECT.build("synchronous", 0, 1, np.empty, options={"settel_seconds": 3})
