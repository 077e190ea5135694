"""Where models are trained and evaluated: on the processor, or on a GPU that PyTorch can use.

A model lies on its device; trainer and evaluator take each batch there, and nobody else need know.
"""

from __future__ import annotations

import os

import torch
from torch import nn


def device_named(name: str) -> torch.device:
    """Return the device of that name: "cpu", "cuda", or "auto", which is CUDA where it is there.

    CUDA is not touched yet: a process that has begun to use it cannot be forked.

    Raises
    ------
    ValueError
        If CUDA is asked for and not there.
    """
    if name == "cpu":
        return torch.device("cpu")
    # Otherwise looking for it would begin to use it.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError(
            "run.device is cuda, but PyTorch finds no CUDA device here: install a driver and a "
            "PyTorch that is built for it, or take --device auto or --device cpu"
        )
    return torch.device("cuda" if available else "cpu")


def device_of(model: nn.Module) -> torch.device:
    """Return the device on which a model lies."""
    return next(model.parameters()).device
