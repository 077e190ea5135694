"""The commands of docs/scale.md that start cells on a laptop, typed as they are printed.

Runs are made small by what is put behind a command; nothing else is changed.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

import pytest
from support.machine import Machine, needs_a_machine

from fedjury.aggregator.store import read_records

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"

SMALL = {"fedjury serve": "--rounds 2 --validators 3"}

TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = [
    TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    for title in ("Cells", "Cells that keep their updates")
]
BLOCKS = re.findall(r"^```\n(fedjury .*?)^```$", "".join(SECTIONS), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def machine():
    with tempfile.TemporaryDirectory() as folder:
        # Mosquitto, started by root, becomes a user of its own, who has to get to its files.
        Path(folder).chmod(0o755)
        made = Machine(Path(folder), warm=True)
        yield made
        made.close()


@needs_a_machine
@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=["plain", "tls", "keeping"])
def test_a_stranger_starts_cells_from_the_page(machine, block):
    """Brokers, agents and aggregator find each other, and all agents are in every round."""
    fleets = []
    for line in block.splitlines():
        command = line.removesuffix(" &")
        small = [more for begin, more in SMALL.items() if command.startswith(begin)]
        if broker := re.fullmatch(r"\(cd (\S+) && (.*)\)", command):
            machine.start(broker[2], machine.folder / broker[1])
            time.sleep(0.2)
        elif command.startswith("fedjury ingest"):
            machine.start(command)
        elif line != command:
            fleets.append(machine.start(command))
        else:
            said = machine.end_of(machine.start(" ".join([command, *small])))
    for fleet in fleets:
        machine.end_of(fleet)
    machine.stop("fedjury ingest", "mosquitto")
    folder = machine.folder / re.search(r"done: .*; (\S+)/", said)[1]
    expected = 100 * len(fleets)
    assert [(r.selected, r.updates) for r in read_records(folder)] == [(expected, expected)] * 2


def test_there_are_commands_on_the_page():
    """The test above has something to type."""
    assert len(BLOCKS) == 3
