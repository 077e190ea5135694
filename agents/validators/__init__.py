"""Validators: how an agent votes on a candidate, honest or not.

A validator is a judge: (its error profiles of the accepted models, that of the candidate, its
number of samples) -> opinion. Honest ones are the judges of ``learning.validation``; liars are
here. A new one is one function and one line of the table.
"""

from __future__ import annotations

from collections.abc import Callable

from agents.validators.liars import always_accept, always_reject
from learning import tables
from learning.validation.validate import Judge

LIARS: dict[str, Callable[[], Judge]] = {
    "always_accept": always_accept,
    "always_reject": always_reject,
}


def build(name: str) -> Judge:
    """Build the lying validator of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    return tables.build(LIARS, "liar", name, {})
