"""What a run has told with noise so far, and how often."""

from __future__ import annotations

Releases = tuple[tuple[float, int], ...]
"""As (noise, how many times in a row)."""


def after(releases: Releases, noise: float) -> Releases:
    """Return what was told so far, once more with this noise."""
    if releases and releases[-1][0] == noise:
        return (*releases[:-1], (noise, releases[-1][1] + 1))
    return (*releases, (noise, 1))


def number(releases: Releases) -> int:
    """Return how many times something was told."""
    return sum(count for _, count in releases)
