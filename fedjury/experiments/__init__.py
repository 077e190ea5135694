"""The experiments of papers, by name. A new one is one file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjury.experiments.engine.experiment import Experiment

NAMES = (
    "baffle-stable",
    "baffle-quorum",
    "baffle-early",
    "baffle-adaptive",
    "baffle-liars",
    "baffle-bytes",
    "baffle-votes",
    "judge-adaptive",
    "judge-always",
    "group-votes",
    "group-crowd",
    "group-testing",
    "group-leak",
    "secure-votes",
    "judge-alarms",
    "judge-liars",
    "judge-settled",
    "mpaf",
    "detection",
    "matrix",
    "privacy",
)
"""Each is a module of ``papers``, with an underscore for a dash."""


class _Experiments(Mapping[str, "Experiment[Any]"]):
    """Experiments by name, which are loaded when they are asked for: their names cost nothing."""

    def __getitem__(self, name: str) -> Experiment[Any]:
        if name not in NAMES:
            raise KeyError(name)
        module = importlib.import_module(f"{__name__}.papers.{name.replace('-', '_')}")
        found: Experiment[Any] = module.EXPERIMENT
        return found

    def __contains__(self, name: object) -> bool:
        return name in NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


EXPERIMENTS: Mapping[str, Experiment[Any]] = _Experiments()
