"""What an aggregator whose validators send error counts makes of them, and accepts of messages."""

from __future__ import annotations

from fedjury import judges
from fedjury.config.sections import Validation
from fedjury.judges.pooled import Pool, most_counts
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import Manifest
from fedjury.registry.faults import Tell
from fedjury.round.state import RoundConfig


def pool_of(votes: Validation, classes: int, tell: Tell) -> Pool | None:
    """Return how the server judges what validators count, where that decides.

    ``classes``: 0 where none are known. ``tell``: told where somebody else's judge fails.
    """
    if votes.decide != "pooled":
        return None
    judge = judges.build(votes.judge, minimum_history=votes.history, **votes.options)
    most = most_counts(votes.look_back, classes)
    return Pool(judge, votes.tolerated_malicious, votes.look_back, votes.history, most, tell)


def limits_of(config: RoundConfig, manifest: Manifest) -> Limits:
    """Return what the aggregator of a run accepts of a message."""
    limits = config.limits
    counts = config.pool.most if config.pool else 0
    return Limits(manifest.parameters, limits.size, limits.finite, counts)
