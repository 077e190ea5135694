"""Import torchvision's data sets also where its compiled operators cannot load."""

from __future__ import annotations

from typing import Any

import torch

_Library: Any = torch.library.Library  # torch leaves it without types

_declared: list[Any] = []
"""Declarations end with the object that made them, so it is kept."""


def torchvision_datasets() -> Any:
    """Import and return the module ``torchvision.datasets``.

    A torchvision linked against a CUDA build of torch cannot load its operators on a CPU-only
    torch and refuses to be imported, because it describes two operators that do not exist then.
    Data sets need neither: declaring them, without any implementation, is enough.
    """
    try:
        from torchvision import datasets  # noqa: PLC0415 - 1.5 s to import
    except RuntimeError as error:
        if "operator torchvision::" not in str(error) or _declared:
            raise
        _declare_operators()
        from torchvision import datasets  # noqa: PLC0415
    return datasets


def _declare_operators() -> None:
    library = _Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
