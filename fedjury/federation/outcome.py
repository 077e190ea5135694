"""What a federation came to: its rounds, what each device did, and its models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load

from fedjury.aggregator import durable_files
from fedjury.aggregator.best import BEST
from fedjury.learning.named_weights import as_safetensors, named
from fedjury.learning.own_model import OwnModel
from fedjury.protocol.messages import Vector
from fedjury.protocol.record import RoundRecord

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Result:
    """What a federation came to, or has come to so far."""

    run: str
    folder: Path
    records: tuple[RoundRecord, ...]
    """The record of each round, with all that there is to know of it."""
    weights: Vector
    """The last accepted model (d,)."""
    failure: str
    """Why the run was given up; empty if it was not."""
    _model: OwnModel

    @property
    def rounds(self) -> int:
        """How many rounds there were, rejected ones included."""
        return len(self.records)

    @property
    def history(self) -> list[Row]:
        """A row a round: what became of it, and each metric of the global model after it.

        What devices measured stands under its own name, what the server did under ``server_NAME``,
        what devices measured while training under ``train_NAME``. Ready for a data frame.
        """
        return [row_of(record) for record in self.records]

    @property
    def devices(self) -> list[Row]:
        """A row a round and device: its samples, and what it measured; see ``history``."""
        return [row for record in self.records for row in device_rows(record)]

    def state_dict(self) -> dict[str, Any]:
        """Return the last accepted model: all of a PyTorch module's state, or arrays by name."""
        self._model.load(self.weights)
        model = self._model.model
        arrays = isinstance(model, dict)
        state = model if arrays else model.state_dict()
        return {name: value.copy() if arrays else value.clone() for name, value in state.items()}

    def best_state_dict(self) -> dict[str, Any]:
        """Return what is trained of the best model, as arrays by name.

        Raises
        ------
        FileNotFoundError
            If none was kept: name a metric as ``best``.
        """
        return dict(load((self.folder / BEST).read_bytes()))

    def save(self, file: str | Path) -> Path:
        """Write what is trained of the last accepted model as safetensors, a tensor a name.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        path = Path(file)
        durable_files.replace(path, as_safetensors(self.weights, self._model.layout))
        return path

    def arrays(self) -> dict[str, Any]:
        """Return what is trained of the last accepted model, as arrays by name."""
        return dict(named(self.weights, self._model.layout))


def row_of(record: RoundRecord) -> Row:
    """Return a round as a row of ``Result.history``."""
    row: Row = {
        "round": record.round,
        "accepted": record.accepted,
        "why": record.why,
        "version": record.version,
        "selected": record.selected,
        "updates": record.updates,
        "declined": record.declined,
        "missing": record.missing,
        "poisoned": record.votes.poisoned,
        "clean": record.votes.clean,
        "silent": record.votes.silent,
        "seconds": record.timing.seconds,
        "time": record.timing.time,
    }
    by_server = {
        "server_accuracy": record.model.accuracy,
        "accuracy_lost": record.harm.accuracy_lost,
        "backdoor": record.model.backdoor,
        "largest_backdoor": record.harm.largest_backdoor,
        "epsilon": record.privacy.epsilon if record.privacy else None,
    }
    row |= {name: value for name, value in by_server.items() if value is not None}
    row |= dict(record.model.metrics)
    return row | {f"train_{name}": value for name, value in record.training.items()}


def device_rows(record: RoundRecord) -> Iterator[Row]:
    """Yield the devices of a round as rows of ``Result.devices``."""
    votes = record.votes.of_agents
    for name in sorted({*record.trained, *record.evaluated, *votes}):
        row: Row = {"round": record.round, "device": name, "poisoned": votes.get(name)}
        if (trained := record.trained.get(name)) is not None:
            row["train_samples"] = trained.samples
            row |= {f"train_{key}": value for key, value in trained.metrics.items()}
        if (evaluated := record.evaluated.get(name)) is not None:
            row["samples"] = evaluated.samples
            row |= dict(evaluated.metrics)
        yield row
