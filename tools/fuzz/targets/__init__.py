"""All targets, by name; each is a file here. They are imported one at a time, under the fuzzer."""

from __future__ import annotations

import importlib
from pathlib import Path

from tools.fuzz.target import Target

NAMES = (
    "topics",
    "vectors",
    "codec",
    "decoder",
    "rounds",
    "secure",
    "packets",
    "stream",
    "settings",
    "http_requests",
    "subscribers",
    "folder",
    "weights",
)

SHARES = {"topics": 0.25, "vectors": 0.25, "rounds": 2.0, "secure": 2.0}
"""How much more or less time a target gets than the others: small ones are soon seen through."""

BESIDES = {
    "stream": ("paho",),
    "settings": ("tomllib",),
    "weights": ("torch._weights_only_unpickler",),
}
"""What else reads the bytes, in Python, and so can be watched by the fuzzer."""

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
"""What is kept: a folder a target, a file an input."""


def load(name: str) -> Target:
    """Import a target."""
    target: Target = importlib.import_module(f"tools.fuzz.targets.{name}").TARGET
    return target


def kept(name: str) -> list[Path]:
    """List the inputs that are kept for a target, those that once were bugs among them."""
    return sorted(file for file in (CORPUS / name).glob("*") if file.is_file())


def inputs_of(name: str, target: Target) -> list[bytes]:
    """Return all inputs we have for a target."""
    return [*target.seeds(), *(file.read_bytes() for file in kept(name))]
