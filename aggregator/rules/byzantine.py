"""How many Byzantine updates f a rule reckons with: by count, or by share (0.2).

A share rounds down as in ``trimmed_mean``. A count that a rule cannot withstand is an error; an f
that only comes from the share is lowered to the largest that it can withstand, down to 0, so that
a rule works for few updates, too. So is a count where suspected agents are left out: it was set for
as many updates as there would be with them.
"""

from __future__ import annotations

from collections.abc import Callable

from aggregator.rules.trimmed_mean import checked_share, trimmed_count


def byzantine(
    rule: str, count: int | None, share: float | None, times: int, plus: int
) -> Callable[[int, int], int]:
    """Build the function (n, out) -> f for a rule that needs n >= ``times`` f + ``plus`` updates.

    ``out``: how many agents are left out because they are suspected (``Context.out``).

    Raises
    ------
    ValueError
        If both are given or one is out of range; by the function, if n is too small for the count
        although nobody is left out.
    """
    share = checked_share(rule, count, share)

    def number(n: int, out: int) -> int:
        most = max(0, (n - plus) // times)
        if count is None:
            return min(trimmed_count(n, share), most)
        if n < times * count + plus and not out:
            raise ValueError(
                f"{rule} needs at least {times * count + plus} updates to withstand {count} "
                f"Byzantine ones ({times} * {count} + {plus}), not {n}"
            )
        return min(count, most)

    return number
