"""Bounds of options, for the annotations of a plug-in: they are checked before it is built."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Gt(0), Lt(1)]
"""Also a limit that lies between nothing and all."""
BelowOne = Annotated[float, Ge(0), Lt(1)]
Part = Annotated[float, Gt(0), Le(1)]
FromOne = Annotated[float, Ge(1)]
AboveOne = Annotated[float, Gt(1)]
AtLeastOne = Annotated[int, Ge(1)]
AtLeastTwo = Annotated[int, Ge(2)]
FromZero = Annotated[int, Ge(0)]
