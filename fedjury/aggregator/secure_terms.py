"""Secure aggregation of a run, made of its settings."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from fedjury.config.group_sections import FEWEST_VOTERS
from fedjury.config.settings import Settings
from fedjury.registry import DETECTORS, Need
from fedjury.secure.agent import Least
from fedjury.secure.group import Terms
from fedjury.secure.parameters import Parameters, parameters


def secure_terms_of(settings: Settings) -> Terms | None:
    """Say how sums of groups are opened; None where updates come one by one.

    Raises
    ------
    ValueError
        If a detector needs to see single updates, or no group of so many can be safe.
    """
    groups = settings.groups
    if not groups.secure:
        return None
    for name in settings.detection.detectors:
        if Need.UPDATES in DETECTORS.facts(name).needs:
            raise ValueError(
                f"detector {name!r} looks at single updates, and with groups.secure nobody sees "
                "one; take detection.detectors without it, or groups.secure = false"
            )
    _weakest(settings)
    return Terms(
        run=settings.run.name,
        colluding=groups.colluding,
        dropping=groups.drop_outs,
        least=groups.fewest,
        value_bits=groups.value_bits,
        largest_weight=1 if settings.privacy.noise else settings.limits.samples,
        random=os.urandom,
    )


def secure_counts_of(settings: Settings) -> Terms | None:
    """Say how sums of what validators count are opened; None where they are not summed.

    Raises
    ------
    ValueError
        If no group of so many validators can be safe.
    """
    terms, votes = secure_terms_of(settings), settings.validation
    if terms is None or votes.decide != "pooled":
        return None
    _weakest_in(*_sizes_of_counts(settings), settings)
    return replace(terms, least=FEWEST_VOTERS, value_bits=0, largest_weight=settings.limits.samples)


def _sizes_of_counts(settings: Settings) -> tuple[int, int]:
    """Return how many validators a sum of counts needs, and how many it has."""
    votes = settings.validation
    return FEWEST_VOTERS, votes.validators // (2 * votes.tolerated_malicious + 1)


def least_of(settings: Settings) -> dict[str, Any]:
    """Return what agents are told to ask for at the least; empty where updates come one by one.

    With differential privacy also the longest update that counts whole.
    """
    if not settings.groups.secure:
        return {}
    weakest = _weakest(settings)
    least: dict[str, Any] = {
        "members": settings.groups.fewest,
        "degree": weakest.degree,
        "threshold": weakest.threshold,
    }
    if settings.groups.hidden_samples:
        least["hidden"] = settings.groups.hidden_samples
    if settings.privacy.noise:
        least["norm"] = settings.privacy.clip
    if settings.validation.decide == "pooled":
        weakest = _weakest_in(*_sizes_of_counts(settings), settings)
        counts = Least(FEWEST_VOTERS, weakest.degree, weakest.threshold)
        least |= {f"counts_{name}": value for name, value in counts._asdict().items()}
    return least


def _weakest(settings: Settings) -> Parameters:
    """Return the weakest parameters of any group whose updates are summed; raises as below."""
    groups = settings.groups
    return _weakest_in(groups.fewest, groups.size or settings.contributors, settings)


def _weakest_in(fewest: int, size: int, settings: Settings) -> Parameters:
    """Return the least degree and threshold of any group in which a sum may be opened.

    Raises
    ------
    ValueError
        If there is none for a group that is complete.
    """
    shares = settings.groups.colluding, settings.groups.drop_outs
    known = [parameters(size, *shares)]
    for n in {fewest, *range(fewest, min(size, 200))}:
        try:
            known.append(parameters(n, *shares))
        except ValueError:
            continue
    return Parameters(min(one.degree for one in known), min(one.threshold for one in known))
