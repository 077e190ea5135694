"""The folder of a cluster: its token, its logs, and what is known of it by those outside.

token         what lets one in; whoever has it can run anything on its machines
config.toml   the settings of the run, of which its programs are started
state.json    its processes by number and beginning, its fleets, how far the run is
fleets.json   what the supervisor says of the fleets
logs/         of every program; those of fleets on other machines too
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedjury.cluster.known import Known

VERSION = 1


class ClusterError(RuntimeError):
    """A cluster that cannot be had, in one sentence."""


@dataclass(frozen=True)
class FleetLine:
    """What is known of a fleet."""

    name: str
    machine: str = ""
    """Empty while it is being placed."""
    pid: int = 0
    restarts: int = 0
    moves: int = 0
    state: str = "starting"
    """starting, running, moving, done, or failed."""


@dataclass(frozen=True)
class State:
    """A cluster as its folder tells it."""

    up: Known
    """The program that runs it, ``fedjury cluster up``."""
    run: str
    address: str
    """Of the Ray head."""
    broker: str
    own: str = ""
    """The folder of Ray's own files."""
    programs: Sequence[Known] = ()
    """What ``up`` has started."""
    others: Sequence[Known] = ()
    """What these have started: Ray's processes, actors, agents."""
    fleets: Sequence[FleetLine] = ()
    nodes: int = 0
    """Of Ray: machines that take part."""
    progress: str = ""
    written: float = field(default_factory=time.time)

    @property
    def processes(self) -> list[Known]:
        """All processes of the cluster on this machine."""
        return [self.up, *self.programs, *self.others]


class Folder:
    """Files of a cluster."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = path / "token"
        self.config = path / "config.toml"
        self.fleets = path / "fleets.json"
        self.plan = path / "plan.json"
        self.logs = path / "logs"
        self._state = path / "state.json"

    def make(self) -> None:
        """Make the folders, which only their owner reads, and remove the logs of another cluster.

        Raises
        ------
        ClusterError
            If nobody can write there.
        """
        try:
            if self.logs.is_dir():
                shutil.rmtree(self.logs)
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700)
        except OSError as why:
            raise ClusterError(f"{self.path} cannot be written: {why.strerror}") from why

    def read(self) -> State | None:
        """Return the state that was written last; None if there is none.

        Raises
        ------
        ClusterError
            If the file is damaged.
        """
        try:
            data = json.loads(self._state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as why:
            raise ClusterError(f"{self._state} cannot be read: {why}") from why
        try:
            if data.pop("version") != VERSION:
                raise ClusterError(f"{self._state} is of another version of fedjury")
            data["up"] = Known(*data["up"])
            data |= {key: [Known(*each) for each in data[key]] for key in ("programs", "others")}
            data["fleets"] = [FleetLine(**each) for each in data["fleets"]]
            return State(**data)
        except (TypeError, KeyError, AttributeError) as why:
            raise ClusterError(f"{self._state} is damaged: {why}") from why

    def write(self, state: State) -> None:
        """Write the state."""
        replaced(self._state, asdict(state) | {"version": VERSION})

    def forget(self) -> None:
        """Remove what says that a cluster is there, and its token."""
        for file in (self._state, self.fleets, self.plan, self.token):
            file.unlink(missing_ok=True)


def replaced(file: Path, data: Mapping[str, Any]) -> None:
    """Write JSON so that a reader has the old or the new file, never a part."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(data), encoding="utf-8")
    part.replace(file)
