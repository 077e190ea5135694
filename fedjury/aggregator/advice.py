"""What an aggregator tells people of their settings before it begins."""

from __future__ import annotations

from fedjury.aggregator.in_cells import blind_detectors
from fedjury.config.settings import Settings
from fedjury.reports import jury


def advice(settings: Settings) -> list[str]:
    """Say who votes where agents are few, which quorums are safe, and what weights are capped."""
    notes = settings.jury_note(), _cap(settings), _foreseen(settings), _blind(settings)
    return [*filter(None, notes), *_safety(settings)]


def _cap(settings: Settings) -> str:
    """Say how much one agent can weigh; empty if all weigh the same."""
    if settings.aggregation.options.get("weighted") is not True:
        return ""
    return (
        f"updates are weighted by the samples that agents report; more than "
        f"{settings.limits.samples:,} count as {settings.limits.samples:,} (limits.samples)"
    )


def _blind(settings: Settings) -> str:
    """Say which detectors see nothing, where cells keep their updates; empty if none."""
    if not (names := blind_detectors(settings)):
        return ""
    return f"cells keep their updates, so nobody looks for fakes by {' and '.join(names)}"


def _foreseen(settings: Settings) -> str:
    """Say that agents can have others blamed by their groups; empty if they cannot."""
    groups = settings.groups
    if "group_testing" not in settings.detection.detectors or groups.by_key or groups.size == 1:
        return ""
    return (
        "group_testing can be made to blame honest agents: groups are drawn by run.seed, so an "
        "agent can foresee its companions and strike only beside some; groups.secret = true "
        "prevents it"
    )


def _safety(settings: Settings) -> list[str]:
    votes = settings.validation
    voters = votes.asked + votes.server
    if votes.piggy_back:
        voters = settings.contributors
    if voters < 2:
        return []
    if votes.decide == "pooled":
        secret = settings.groups.secure
        return jury.pooled_advice(voters, votes.tolerated_malicious, secret=secret)
    return jury.advice(voters, votes.tolerated_malicious, votes.errs, votes.rejects(voters))
