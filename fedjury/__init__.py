"""Federated learning over MQTT that can be attacked and defends itself."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjury.agents.device import Device
    from fedjury.agents.functions import Metrics, Trained, Turn
    from fedjury.agents.torch_trainer import TorchTrainer
    from fedjury.federation.federation import Devices, Federation
    from fedjury.federation.outcome import Result
    from fedjury.federation.simulation import simulate

__all__ = [
    "Device",
    "Devices",
    "Federation",
    "Metrics",
    "Result",
    "TorchTrainer",
    "Trained",
    "Turn",
    "simulate",
]

PLACES = {
    "Device": "fedjury.agents.device",
    "Devices": "fedjury.federation.federation",
    "Federation": "fedjury.federation.federation",
    "Metrics": "fedjury.agents.functions",
    "TorchTrainer": "fedjury.agents.torch_trainer",
    "Trained": "fedjury.agents.functions",
    "Result": "fedjury.federation.outcome",
    "Turn": "fedjury.agents.functions",
    "simulate": "fedjury.federation.simulation",
}
"""Where each public name is; it is imported when it is first used."""


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in PLACES:
        raise AttributeError(f"module 'fedjury' has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)
