"""How many Byzantine updates f a rule reckons with: by count, or by share (0.2).

A share means ceil(share n) updates: as many attackers as n agents may have among them if the fleet
was told the same share, which it rounds to the nearest. A nudge of 1e-9 keeps a share that means a
whole number at that: 0.07 * 100 is 7.000000000000001 in floating point. Public code differs here:
some rounds down, some takes ``share`` for both ends together. Give ``count`` where it matters.

A count that a rule cannot withstand is an error; an f that only comes from the share is lowered to
the largest that it can withstand, down to 0, so that a rule works for few updates, too. So is a
count where flagged agents are left out: it was set for as many updates as there would be with
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def byzantine(
    rule: str, count: int | None, share: float | None, times: int, plus: int
) -> Callable[[int, int], int]:
    """Build the function (n, out) -> f for a rule that needs n >= ``times`` f + ``plus`` updates.

    ``out``: how many agents are left out because they are flagged (``Context.out``).

    Raises
    ------
    ValueError
        If both are given or one is out of range; by the function, if n is too small for the count
        although nobody is left out.
    """
    if count is not None and share is not None:
        raise ValueError(f"{rule}: by a count ({count}) or a share ({share}), not by both")
    part = 0.2 if share is None else share
    if not 0 <= part < 0.5:
        raise ValueError(f"{rule}: the share must lie in [0, 0.5), not {part}")
    if count is not None and count < 0:
        raise ValueError(f"{rule}: the count must not be negative, not {count}")

    def number(n: int, out: int) -> int:
        most = max(0, (n - plus) // times)
        if count is None:
            return min(rounded_up(part * n), most)
        if n < times * count + plus and not out:
            raise ValueError(
                f"{rule} needs at least {times * count + plus} updates to withstand {count} "
                f"Byzantine ones ({times} * {count} + {plus}), not {n}"
            )
        return min(count, most)

    return number


def rounded_up(number: float) -> int:
    """Round up, but for what is a whole number beside the rounding of a product."""
    return math.ceil(number - 1e-9)
