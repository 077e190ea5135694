"""Secure aggregation of a run, made of its settings."""

from __future__ import annotations

import os
from typing import Any

from fedjury.config.settings import Settings
from fedjury.registry import DETECTORS, Need
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


def least_of(settings: Settings) -> dict[str, Any]:
    """Return what agents are told to ask for at the least; empty where updates come one by one.

    With differential privacy also the longest update that counts whole.
    """
    if not settings.groups.secure:
        return {}
    weakest = _weakest(settings)
    least = {
        "members": settings.groups.fewest,
        "degree": weakest.degree,
        "threshold": weakest.threshold,
    }
    return least | ({"norm": settings.privacy.clip} if settings.privacy.noise else {})


def _weakest(settings: Settings) -> Parameters:
    """Return the least degree and threshold of any group in which a sum may be opened.

    Raises
    ------
    ValueError
        If there is none for a group that is complete.
    """
    groups = settings.groups
    size = groups.size or settings.contributors
    shares = groups.colluding, groups.drop_outs
    known = [parameters(size, *shares)]
    for n in {groups.fewest, *range(groups.fewest, min(size, 200))}:
        try:
            known.append(parameters(n, *shares))
        except ValueError:
            continue
    return Parameters(min(one.degree for one in known), min(one.threshold for one in known))
