"""Any text as a file of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedjury.config.settings import SettingsError, load
from fedjury.config.toml import to_toml
from tools.fuzz.target import File, Target

CONFIG = Path(__file__).resolve().parents[3] / "config"


def one(data: bytes) -> None:
    """Load settings; what loads can be written down and loaded again."""
    file: Any = File(data, "some.toml")
    try:
        settings = load([file])
    except SettingsError:
        return
    again: Any = File(to_toml(settings).encode(), "some.toml")
    assert to_toml(load([again])) == to_toml(settings)


def seeds() -> list[bytes]:
    """Return all files of settings that we ship, and each of their sections alone."""
    result = []
    for file in sorted(CONFIG.glob("*.toml")):
        text = file.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        sections = "\n".join(line.partition("  #")[0] for line in lines).split("\n[")
        result += [f"[{section.removeprefix('[')}\n".encode() for section in sections]
    return sorted(set(result))


WORDS = (
    b"[run]\n",
    b"[broker]\n",
    b"[limits]\n",
    b"[agents]\n",
    b"= 1\n",
    b"= -1\n",
    b"= nan\n",
    b"= inf\n",
    b"= true\n",
    b'= ""\n',
    b"= []\n",
    b"= {}\n",
    b"= 1979-05-27T07:32:00Z\n",
    b'"""',
    b"'''",
    b"[[",
    b"]]",
    b"= 99999999999999999999\n",
    b"= 1e400\n",
    b"\\uD800",
    b"\\U0010FFFF",
)

TARGET = Target(one, seeds, longest=2048, words=WORDS)
