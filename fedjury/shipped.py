"""Files that come with fedjury and that people deploy: the broker's and the scenarios' settings."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
DEPLOYED = PACKAGE / "deployed"
"""Where an installed package has them; a checkout has them at its top."""


def shipped(name: str) -> Path:
    """Return the path of a file or folder like ``broker/mosquitto.conf`` or ``config``."""
    return (DEPLOYED if DEPLOYED.exists() else PACKAGE.parent) / name
