"""What the rule keeps between rounds, on disk: the same arrays, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save

from fedjury.aggregator.durable_files import damaged, readable
from fedjury.round.memory import RuleMemory

PARTS = ("accepted", "pending")


def packed(memory: RuleMemory) -> bytes:
    """Write what a rule keeps, as a file holds it."""
    states = {part: getattr(memory, part) for part in PARTS}
    there = {part: sorted(state) for part, state in states.items() if state is not None}
    arrays = {f"{part}.{key}": states[part][key] for part, keys in there.items() for key in keys}
    return save(arrays, metadata={"rule": memory.rule, "keys": json.dumps(there)})


def unpacked(file: Path) -> RuleMemory:
    """Read it.

    Raises
    ------
    StoreError
        If the file is damaged.
    """
    readable(file)
    try:
        with safe_open(file, "numpy") as opened:
            note = opened.metadata() or {}
            states = {
                part: {key: opened.get_tensor(f"{part}.{key}") for key in keys}
                for part, keys in json.loads(note["keys"]).items()
            }
            return RuleMemory(note["rule"], states["accepted"], states.get("pending"))
    except Exception as why:  # of safetensors, JSON, NumPy or the system
        raise damaged(file, why) from why
