"""The cells of a cluster are placed, and looked after: a process of its own, as Ray's users are.

What loses the head of Ray is ended by it; ``fedjury cluster up`` then starts another one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fedjury.cluster import environment
from fedjury.cluster.cell import Making, Place
from fedjury.cluster.fleet import FAILED, FleetPlan, FleetState
from fedjury.cluster.folder import FleetLine, Folder, replaced
from fedjury.cluster.ingest import CellIngest
from fedjury.config.sections import Broker

EVERY = 1.0
"""Seconds between two looks."""


def supervise(folder: Folder) -> int:
    """Place the cells of a cluster's plan, and look after them until all have ended."""
    plan = json.loads(folder.plan.read_text(encoding="utf-8"))
    os.environ.update(environment.settings(Path(plan["token"])))
    from fedjury.cluster import ray_engine  # noqa: PLC0415 - reads the environment

    ray_engine.connect(plan["address"], plan["host"], plan["run"])
    try:
        while len(ray_engine.machines()) < plan["machines"]:
            time.sleep(EVERY)
        config = folder.config.read_text(encoding="utf-8")
        cells = ray_engine.Cells([parts_of(each, plan, config) for each in plan["cells"]])
        try:
            return _watch(folder, cells, ray_engine.machines)
        finally:
            cells.stop()
    finally:
        ray_engine.disconnect()


def parts_of(
    cell: Mapping[str, Any], plan: Mapping[str, Any], config: str
) -> tuple[FleetPlan, Making | None]:
    """Return what is to run of a cell."""
    fleet = FleetPlan(cell["arguments"], plan["where"], config, cell["broker"])
    if not cell["ingest"]:
        return fleet, None
    broker = Broker.at(cell["address"]).replaced(root=plan["root"])
    return fleet, (CellIngest, (cell["number"], broker, plan["run"]))


def _watch(folder: Folder, cells: Any, machines: Any) -> int:
    lines = {name: FleetLine(name) for name in cells.names}
    while True:
        for name, found in cells.look(EVERY).items():
            lines[name] = told(lines[name], found)
            if found and found[1].log:
                with (folder.logs / f"{name}.log").open("ab") as log:
                    log.write(found[1].log)
        write(folder, lines, len(machines()))
        states = {line.state for line in lines.values()}
        if "failed" in states:
            return FAILED
        if states == {"done"}:
            return 0
        time.sleep(EVERY)


def told(line: FleetLine, found: tuple[Place, FleetState] | None) -> FleetLine:
    """Return what is known of a fleet after a look at it; None: its machine, or actor, has died."""
    if found is None:
        return replace(line, state="moving")
    place, state = found
    moved = bool(line.pid) and (line.state == "moving" or line.machine != place.machine)
    names = {None: "running", 0: "done"}
    return FleetLine(
        line.name,
        place.machine,
        state.pid,
        state.restarts,
        line.moves + moved,
        names.get(state.ended, "failed"),
    )


def write(folder: Folder, lines: Mapping[str, FleetLine], machines: int) -> None:
    """Write what is known of the fleets."""
    fleets = [asdict(line) for line in lines.values()]
    replaced(folder.fleets, {"fleets": fleets, "machines": machines})


def read(folder: Folder) -> tuple[list[FleetLine], int]:
    """Return what was written of the fleets last, and on how many machines they are."""
    try:
        data = json.loads(folder.fleets.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], 0
    return [FleetLine(**each) for each in data["fleets"]], data["machines"]


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    try:
        code = supervise(Folder(Path(sys.argv[1])))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
