"""A run's folder with anything in it: ``[which file, what it holds...]``."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from fedjury.aggregator.store import RunStore, StoreError, read_records
from fedjury.detection.state import AgentRegistry, AgentStatus
from fedjury.detection.update_sums import UpdateSums
from fedjury.protocol.messages import Model
from fedjury.protocol.record import Quality, RoundRecord, Traffic
from tools.fuzz.examples import VECTOR
from tools.fuzz.target import Target, tried

FILES = (
    "models/000002.safetensors",
    "rounds.jsonl",
    "candidate-000003.safetensors",
    "agents-000003.npz",
    "models/000001.safetensors",
    "manifest.json",
)
SHM = Path("/dev/shm")  # noqa: S108 - in memory, where there is such a place


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that is gone when we are."""
    return tempfile.TemporaryDirectory(prefix="fedjury-fuzz-", dir=SHM if SHM.is_dir() else None)


@cache
def good() -> dict[str, bytes]:
    """Return what the files of a run hold."""
    with tempfile.TemporaryDirectory(prefix="fedjury-fuzz-") as name:
        store = RunStore(Path(name), keep=2)
        past = UpdateSums(np.array([b"ann"]), VECTOR[np.newaxis])
        registry = AgentRegistry(
            {"ann": AgentStatus(1, 2, 0)},
            {"burst": {"joined": np.arange(3)}},
            {"ann": 1},
            {"ann": 1},
            {"ann": True},
            True,
            past,
        )
        for number in (1, 2, 3):
            record = RoundRecord(
                number,
                version=min(number, 2),
                model=Quality(0.5),
                traffic=Traffic({"duplicate": 1}),
            )
            model = Model(number, VECTOR) if number < 3 else None
            store.persist(record, model, VECTOR, registry)
        store.describe({"format": 1, "settings": {}, "manifest": {}})
        files = [file for file in Path(name).rglob("*") if file.is_file()]
        return {file.relative_to(name).as_posix(): file.read_bytes() for file in files}


def one(data: bytes) -> None:
    """Load a run of which one file holds something else."""
    if not data:
        return
    place = Path(folder().name)
    (place / "models").mkdir(exist_ok=True)
    changed = FILES[data[0] % len(FILES)]
    for left in place.glob("*"):
        if left.is_file():
            left.unlink()
    for file, content in good().items():
        (place / file).write_bytes(data[1:] if file == changed else content)
    store = RunStore(place, keep=2)
    for read in (store.described, lambda: read_records(place)):
        result = tried(read, StoreError)
        assert isinstance(result, StoreError | dict | list)
    saved = tried(lambda: store.load(len(VECTOR)), StoreError)
    if isinstance(saved, StoreError):
        assert len(str(saved)) < 1000
        return
    assert saved is not None
    for model in saved.models:
        assert model.weights.dtype == np.float32
        assert model.weights.shape == VECTOR.shape
    assert type(saved.record.round) is int
    assert saved.pending is None or saved.pending.shape == saved.models[-1].weights.shape


def seeds() -> list[bytes]:
    """Return every file as it should be, and model files that hold something else."""
    result = [bytes([number]) + good()[file] for number, file in enumerate(FILES)]
    note = {"version": "2", "record": json.dumps({"round": 2, "accuracy": 0.5})}
    odd = VECTOR.astype(np.float64), VECTOR[np.newaxis], VECTOR[:0]
    result += [b"\0" + save({"weights": weights}, metadata=note) for weights in odd]
    result.append(b"\0" + save({"other": VECTOR}, metadata=note))
    result.append(b"\0" + save({"weights": VECTOR}))
    return result


WORDS = (
    b'"weights"',
    b'"dtype":"F64"',
    b'"dtype":"F32"',
    b'"dtype":"BF16"',
    b'"shape":[4]',
    b'"data_offsets":[0,16]',
    b'"__metadata__"',
    b'"version"',
    b'\\"round\\":',
    b'"round":',
    b"null",
    b"NaN",
    b"[]",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x93NUMPY",
    b"'descr': '|O'",
    b"\n",
)

TARGET = Target(one, seeds, longest=8192, words=WORDS)
