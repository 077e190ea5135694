"""How Ray is to behave, said to it in environment variables, which it reads when it is loaded."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

HEALTH = {"initial_delay_ms": 2000, "period_ms": 500, "timeout_ms": 1500, "failure_threshold": 4}
"""A machine that has not answered four times counts as dead: after 2 to 8 s."""


FREE = {"period_milliseconds": 50, "batch_size": 8}
"""Pieces that were placed go from Ray's memory at once: in a second, its own habit, many come."""


def settings(token: Path) -> Mapping[str, str]:
    """Return what has to be in the environment of every process of Ray, and of its users.

    ``token``: the file with the secret that lets one in. Whoever has it can run anything.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of a future change
        **{f"RAY_health_check_{name}": str(value) for name, value in HEALTH.items()},
        **{f"RAY_free_objects_{name}": str(value) for name, value in FREE.items()},
    }


def new_token(file: Path) -> None:
    """Write a new token into a file that only its owner reads."""
    file.touch(mode=0o600, exist_ok=False)
    file.write_text(secrets.token_hex(32), encoding="utf-8")
