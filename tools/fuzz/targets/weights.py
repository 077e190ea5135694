"""Any file as the first model that ``--init`` names."""

from __future__ import annotations

import io
from typing import Any

import safetensors.torch
import torch
from torch import nn

from fedjury.learning.saved import read_weights
from tools.fuzz.target import File, Target, tried


def network() -> nn.Module:
    """Return a network of three parameters."""
    return nn.Linear(2, 1)


def one(data: bytes) -> None:
    """Read weights; nothing may be run, and a refusal is a ``ValueError``."""
    file: Any = File(data, "some.pth")
    model = network()
    vector = tried(lambda: read_weights(file, model), ValueError)
    if isinstance(vector, ValueError):
        assert "some.pth" in str(vector)
        return
    assert vector.shape == (3,)


def seeds() -> list[bytes]:
    """Return weights as PyTorch writes them, in both of its formats, and as safetensors does."""
    result = [
        safetensors.torch.save(network().state_dict()),
        safetensors.torch.save({"weights": torch.zeros(3)}),
    ]
    for zipped in (True, False):
        for state in (network().state_dict(), {"model": network().state_dict()}, [1, 2], {}):
            file = io.BytesIO()
            torch.save(state, file, _use_new_zipfile_serialization=zipped)
            result.append(file.getvalue())
    return result


WORDS = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x80\x02",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"cposix\nsystem\n",
    b"c__builtin__\neval\n",
    b"FloatStorage",
    b"\x8a\x0a",
    b'{"weights":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}',
)

TARGET = Target(one, seeds, longest=4096, words=WORDS)
