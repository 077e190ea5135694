"""A judge of the company's own."""

import numpy as np

from fedjury.judges.judgements import Judgements, informed
from fedjury.registry import judge


@judge
def worse(minimum_history: int = 3, factor: float = 2.0):
    """Call a model poisoned that makes ``factor`` times the errors of the last accepted one."""

    def decide(profiles, candidates):
        before = profiles[:, -1].sum(axis=1) / 2.0  # each error is counted with two classes
        errors = candidates.sum(axis=1) / 2.0
        limit = factor * before + 2
        return Judgements(errors > limit, errors, limit, np.zeros((len(errors), 0)))

    return informed(decide, minimum_history)
