"""Mosquitto's password file: a line ``login:$7$iterations$salt$hash`` for each login."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path

ITERATIONS = 101
"""As ``mosquitto_passwd`` has it. More would slow down who guesses at what people make up; our
secrets are random, and nobody guesses one in 2^192, however cheap a guess. Few iterations let
1,000 agents log in at once."""

SECRET, SALT, HASH = 24, 12, 64
"""Bytes."""


def new_secret() -> str:
    """Draw a secret of 192 random bits: letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(SECRET)


def hashed(secret: str) -> str:
    """Make what the broker keeps of a secret: PBKDF2 with HMAC-SHA512, and a salt."""
    salt = os.urandom(SALT)
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, ITERATIONS, HASH)
    return f"$7${ITERATIONS}${_base64(salt)}${_base64(digest)}"


def read(file: Path) -> dict[str, str]:
    """Read a password file: login -> what the broker keeps; empty if there is no such file."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return {login: kept for login, colon, kept in (line.partition(":") for line in lines) if colon}


def text_of(kept: dict[str, str]) -> str:
    """Write a password file."""
    return "".join(f"{login}:{kept[login]}\n" for login in sorted(kept))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
