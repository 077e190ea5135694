"""Frozen values that are replaced a thousand times a round."""

from __future__ import annotations

from typing import Any, Self


class Replaceable:
    """A frozen dataclass without slots that is quickly copied with other fields.

    ``dataclasses.replace`` takes six times as long, for it sets field by field.
    """

    def but(self, **changed: Any) -> Self:
        """Return the same with other fields.

        Raises
        ------
        TypeError
            If there is no such field.
        """
        if not changed.keys() <= self.__dict__.keys():
            odd = ", ".join(sorted(changed.keys() - self.__dict__.keys()))
            raise TypeError(f"{type(self).__name__} has no field {odd}")
        result = object.__new__(type(self))
        result.__dict__.update(self.__dict__)
        result.__dict__.update(changed)
        return result
