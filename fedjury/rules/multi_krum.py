"""Multi-Krum: the mean of the updates of least score (Blanchard et al., NeurIPS 2017).

The scores are Krum's. How many updates are averaged is a setting: n - f by default, as in most
public code; 1 is Krum.
"""

from __future__ import annotations

from fedjury.learning.arrays import Vector
from fedjury.registry import rule
from fedjury.registry.bounds import AtLeastOne
from fedjury.rules.blocks import mean_of
from fedjury.rules.byzantine import byzantine
from fedjury.rules.krum import by_score
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples


@rule(compares_all=True)
def multi_krum(
    count: int | None = None, share: float | None = None, best: AtLeastOne | None = None
) -> Rule:
    """Build the rule that averages the ``best`` updates, all but the f worst if not given.

    It reckons with ``count`` Byzantine updates, or with a ``share`` of them (0.2), lowered to
    (n - 3) / 2 where it is larger. Updates that are not finite are among the worst. The result is
    zero if no update is finite.

    Raises
    ------
    ValueError
        If count and share are both given or one number is out of range; by the rule, if
        n < 2 ``count`` + 3 or ``best`` > n - f.
    """
    number = byzantine("Multi-Krum", count, share, times=2, plus=3)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        n = updates.n
        f = number(n, context.excluded)
        if best is not None and best > n - f and not context.excluded:
            raise ValueError(
                f"Multi-Krum cannot average the best {best} of {n} updates, of which {f} are "
                f"Byzantine: at most {n - f}"
            )
        return mean_of(updates, by_score(updates, f)[: min(best or n, n - f)])

    return PartitionedRule(rule)
