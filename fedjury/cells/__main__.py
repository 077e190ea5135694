"""The ingest worker of a cell: fedjury ingest --cell 2 --broker mqtt://127.0.0.1:1885."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fedjury.cells.at_broker import found, name_in, worker_at
from fedjury.cells.spill import SpillError
from fedjury.cells.worker import Place
from fedjury.config import flags
from fedjury.config.program import Output, Program, run_main
from fedjury.config.sections import Broker
from fedjury.config.settings import SettingsError
from fedjury.protocol.cells import MAX_CELLS
from fedjury.protocol.runs import await_newest
from fedjury.protocol.topics import ROOT
from fedjury.protocol.transport.connection import TransportError

EXAMPLES = """examples:
  %(prog)s --cell 1 --broker 127.0.0.1:1884
  %(prog)s --cell 2 --broker mqtts://10.0.0.2 --secrets secrets --run lab
  %(prog)s --cell 2 --broker 127.0.0.1:1885 --folder /var/tmp/updates"""

EXPECTED = (SettingsError, TransportError, SpillError)
"""Errors that are one sentence to people."""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    made = ArgumentParser(
        prog=prog,
        description="Keep the updates of one cell beside its broker, and tell the aggregator "
        "names, counts and sums alone, until it is stopped. See docs/scale.md.",
        epilog=EXAMPLES,
        formatter_class=flags.Help,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--cell", type=int, required=True, metavar="N", help="number of the cell, from 1")
    add(
        "--broker",
        default="127.0.0.1:1883",
        metavar="URL",
        help="the cell's own broker: mqtt://HOST:PORT, or with TLS mqtts://HOST:PORT "
        "(default: %(default)s)",
    )
    add("--run", default="", metavar="NAME", help="the run (default: the newest at the broker)")
    add(
        "--root",
        default=ROOT,
        metavar="TOPIC",
        help="topic below which all runs are (default: %(default)s)",
    )
    add("--secrets", default="", metavar="DIR", help="what fedjury enroll made")
    add(
        "--folder",
        type=Path,
        metavar="DIR",
        help="where updates are kept that memory is too small for (default: in memory)",
    )
    return made


def work(chosen: Namespace, output: Output) -> int:
    """Serve the cell until Ctrl-C."""
    if not 1 <= chosen.cell <= MAX_CELLS:
        raise SettingsError(f"--cell {chosen.cell} must be from 1 to {MAX_CELLS:,}")
    broker = Broker.at(chosen.broker).replaced(root=chosen.root, secrets=chosen.secrets)
    address = found(broker, chosen.cell, print)
    run = chosen.run or await_newest(address, name_in(chosen.cell), print)
    worker = worker_at(address, run, Place(chosen.cell, chosen.folder))
    said = {"cell": chosen.cell, "run": run, "broker": str(address)}
    text = f"cell {chosen.cell} keeps the updates of run {run!r} at {address}"
    output.result(lambda: print(text, flush=True), said)
    worker.run()
    return 0


main = Program("fedjury ingest", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
