"""The best model of a run by one of its metrics, kept as a file of named tensors."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open

from fedjury.aggregator.durable_files import damaged, replace
from fedjury.config.sections import Evaluation
from fedjury.learning.named_weights import as_safetensors
from fedjury.learning.own_model import Layout
from fedjury.protocol.measured import value_of
from fedjury.protocol.messages import Model
from fedjury.protocol.record import RoundRecord

BEST = "best.safetensors"


class BestModel:
    """Keeps the best of the accepted models in the run's folder."""

    def __init__(self, folder: Path, wanted: Evaluation, layout: Layout) -> None:
        """``wanted``: by which metric; none is kept where it names no metric."""
        self._file, self._layout = folder / BEST, layout
        self._metric, self._sign = wanted.best, 1.0 if wanted.best_is == "highest" else -1.0

    @property
    def value(self) -> float | None:
        """The metric of the model that is kept; None if none is.

        Raises
        ------
        StoreError
            If the file is damaged.
        """
        if not self._file.exists():
            return None
        try:
            with safe_open(self._file, "numpy") as opened:
                notes = opened.metadata() or {}
            if notes["metric"] != self._metric:
                return None
            return float(notes["value"])
        except Exception as why:  # of safetensors, or what is missing in the notes
            raise damaged(self._file, why) from why

    def offer(self, model: Model, record: RoundRecord) -> bool:
        """Keep an accepted model if it is better than the one that is kept, or as good and newer.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        value = value_of(record.model, self._metric) if self._metric else None
        if value is None:
            return False
        kept = self.value
        if kept is not None and self._sign * value < self._sign * kept:
            return False
        notes = {
            "metric": self._metric,
            "value": repr(value),
            "round": str(record.round),
            "version": str(model.version),
        }
        replace(self._file, as_safetensors(model.weights, self._layout, notes))
        return True
