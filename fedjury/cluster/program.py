"""Run a federation on a cluster of machines: fedjury cluster up, join, status, down."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from fedjury.broker import cell_brokers
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.cluster import down, join, ray_nodes
from fedjury.cluster.folder import ClusterError, Folder
from fedjury.cluster.progress import document_of, table_of
from fedjury.cluster.up import CellPlan, Plan, up
from fedjury.config import flags
from fedjury.config.naming import named
from fedjury.config.program import Output, Program, run_main
from fedjury.config.run_sections import PORTS
from fedjury.config.settings import Settings, SettingsError
from fedjury.config.toml import to_toml
from fedjury.processes import free_port

EXPECTED = (ClusterError, SettingsError)
"""Errors that are one sentence to people."""

FOLDER = Path("cluster")
PORT = 6390
LOOPBACK = "127.0.0.1"

FLAGS = {
    "--agents": "agents.n",
    "--evil": "agents.malicious",
    "--rounds": "run.rounds",
    "--run": "run.name",
    "--runs": "run.directory",
    "--secrets": "broker.secrets",
    "--ca": "broker.ca",
}

UP = """  %(prog)s --cells 4 --agents 100000 --config config/robust.toml
  %(prog)s --cells 2 --agents 2000 --nodes 1      two of Ray's nodes on this machine
  %(prog)s --cells 4 --agents 100000 --host 10.0.0.1 --machines 4 --broker 10.0.0.1:1883
     and on three other machines: fedjury cluster join 10.0.0.1:6390 --host 10.0.0.2 ..."""

JOIN = """examples:
  %(prog)s 10.0.0.1:6390 --host 10.0.0.2 --token token"""

STATUS = """examples:
  %(prog)s
  %(prog)s --folder other --json"""


def up_parser(prog: str) -> ArgumentParser:
    """Return the parser of the flags of ``up``."""
    parser = flags.parser(
        "Run a federation with its agents spread over machines, and look after it until it is "
        "done; Ctrl-C ends all of it.",
        UP,
        FLAGS,
        prog=prog,
    )
    flags.add_broker(parser, "one running broker for all (default: one for each cell, bridged)")
    place = parser.add_argument_group("cluster")
    place.add_argument(
        "--cells",
        type=int,
        default=2,
        metavar="K",
        help="cells: each has its share of the agents and a broker beside them (default: "
        "%(default)s)",
    )
    place.add_argument(
        "--keep-updates",
        nargs="?",
        choices=("none", "ray"),
        const="ray",
        metavar="ENGINE",
        help="updates stay in their cells, each with an ingest worker; ray: any rule works on "
        "them there (default: %(const)s), none: rules that take sums",
    )
    add_folder(place)
    place.add_argument(
        "--host",
        default=ray_nodes.ALONE,
        metavar="ADDRESS",
        help="private address of this machine (default: %(default)s, for it alone)",
    )
    place.add_argument(
        "--port", type=int, default=PORT, help="port of the cluster (default: %(default)s)"
    )
    place.add_argument(
        "--nodes",
        type=int,
        default=0,
        metavar="N",
        help="nodes of Ray besides the first on this machine (default: %(default)s)",
    )
    place.add_argument(
        "--machines",
        type=int,
        default=0,
        metavar="N",
        help="wait until so many nodes take part (default: those of this machine)",
    )
    place.add_argument(
        "--address", metavar="HOST:PORT", default="", help="use a Ray that is there already"
    )
    place.add_argument(
        "--token", type=Path, metavar="FILE", help="its token (default: a new one, in the folder)"
    )
    return parser


def join_parser(prog: str) -> ArgumentParser:
    """Return the parser of the flags of ``join``."""
    parser = plain_parser(
        prog, "Let this machine take part in a cluster, until Ctrl-C or the cluster's end.", JOIN
    )
    parser.add_argument("address", metavar="HOST:PORT", help="the cluster")
    parser.add_argument(
        "--host", required=True, metavar="ADDRESS", help="private address of this machine"
    )
    parser.add_argument(
        "--token", type=Path, required=True, metavar="FILE", help="a copy of the cluster's token"
    )
    return parser


def status_parser(prog: str) -> ArgumentParser:
    """Return the parser of the flags of ``status``."""
    parser = plain_parser(prog, "Show the programs and fleets of a cluster.", STATUS)
    add_folder(parser)
    return parser


def down_parser(prog: str) -> ArgumentParser:
    """Return the parser of the flags of ``down``."""
    about = "End a cluster: the processes that it noted down, and no other."
    parser = plain_parser(prog, about, STATUS)
    add_folder(parser)
    return parser


def plain_parser(prog: str, description: str, examples: str) -> ArgumentParser:
    """Return a parser without settings."""
    return ArgumentParser(
        prog=prog,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_folder(place: argparse._ActionsContainer) -> None:
    """Add the flag that says where a cluster's files are."""
    place.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="its logs, its token and what is known of it (default: %(default)s)",
    )


def plan_of(chosen: Namespace) -> Plan:
    """Return what the flags say.

    Raises
    ------
    ClusterError
        If they do not go together.
    """
    settings = flags.settings_from(chosen)
    if not 1 <= chosen.cells <= settings.agents.n:
        raise ClusterError(f"--cells {chosen.cells} must be 1 to the number of agents")
    if not 0 <= chosen.nodes <= 64:
        raise ClusterError(f"--nodes {chosen.nodes} must be 0 to 64")
    if bool(chosen.address) != bool(chosen.token):
        raise ClusterError("--address and --token go together")
    host = ray_nodes.private(chosen.host)
    here = chosen.nodes + (not chosen.address)
    machines = chosen.machines or max(1, here)
    settings = prepared(named(settings, "cluster"), chosen, f"{host}:{chosen.port}")
    core, broker, cells = brokers(chosen, settings, host if machines > here else LOOPBACK)
    return Plan(
        Folder(chosen.folder),
        settings.run.name,
        to_toml(settings),
        cells,
        broker,
        host,
        chosen.port,
        nodes=chosen.nodes,
        machines=machines,
        address=chosen.address,
        token=chosen.token,
        core=core,
        root=settings.broker.root,
        keep=bool(chosen.keep_updates),
    )


def brokers(
    chosen: Namespace, settings: Settings, host: str
) -> tuple[str, str, Sequence[CellPlan]]:
    """Return the core broker's configuration, its address, and what cells are to be.

    ``host``: where machines find the core's. Those of cells are beside their agents.

    Raises
    ------
    ClusterError
        If there is to be a broker of somebody else's, or one with logins.
    """
    if chosen.broker is not None:
        if chosen.keep_updates:
            raise ClusterError("--keep-updates needs brokers of the cluster's own, not --broker")
        return "", chosen.broker, [CellPlan(chosen.broker)] * chosen.cells
    if settings.broker.secrets:
        raise ClusterError(
            "the cluster's own brokers know no logins; fedjury cells --secrets writes some that do"
        )
    if find_mosquitto() is None:
        raise ClusterError("cells need Mosquitto: apt install mosquitto (or --broker HOST:PORT)")
    core = cell_brokers.Place(host, mosquitto_port())
    places = tuple(cell_brokers.Place(LOOPBACK, free_port()) for _ in range(chosen.cells))
    plan = cell_brokers.Plan(core, places, settings.broker.root, keep=bool(chosen.keep_updates))
    cells = [
        CellPlan(str(place), cell_brokers.cell_configuration(plan, number, {}))
        for number, place in enumerate(places, start=1)
    ]
    return cell_brokers.core_configuration(plan), str(core), cells


def mosquitto_port() -> int:
    """Return the usual port of a broker, or a free one if that is taken."""
    try:
        return free_port("", PORTS["mqtt"])
    except OSError:
        return free_port("")


def prepared(settings: Settings, chosen: Namespace, address: str) -> Settings:
    """Return settings whose agents share a download, and all of whom are waited for.

    ``address``: of Ray, where updates stay in their cells.
    """
    agents = settings.agents.replaced(shared_downlink=True, shard="1/1")
    wanted = settings.collect.agents or settings.expected
    settings = settings.replaced(agents=agents, collect=settings.collect.replaced(agents=wanted))
    if not chosen.keep_updates:
        return settings
    cells = settings.cells.replaced(count=chosen.cells).replaced(
        engine=chosen.keep_updates, address=chosen.address or address
    )
    return settings.replaced(cells=cells)


def work_up(chosen: Namespace, output: Output) -> int:
    """Run a cluster until its run is done."""
    ray_nodes.needed()
    plan = plan_of(chosen)
    line = Line()
    up(plan, line.say, line.show)
    summary = {"run": plan.run, "folder": str(plan.folder.path)}
    output.result(lambda: print(f"run {plan.run!r} is done; logs: {plan.folder.logs}"), summary)
    return 0


def work_join(chosen: Namespace, _: Output) -> int:
    """Be a machine of a cluster."""
    ray_nodes.needed()
    return join.join(chosen.address, ray_nodes.private(chosen.host), chosen.token, Line().say)


def work_status(chosen: Namespace, output: Output) -> int:
    """Show a cluster."""
    state = down.found(Folder(chosen.folder))
    output.result(lambda: print(table_of(state)), document_of(state))
    return 0


def work_down(chosen: Namespace, output: Output) -> int:
    """End a cluster."""
    ended = down.down(Folder(chosen.folder), Line().say)
    data = [{"name": each.name, "pid": each.pid} for each in ended]
    output.result(lambda: print(f"the cluster has ended ({len(ended)} processes)"), data)
    return 0


class Line:
    """The last line of a terminal, which changes; elsewhere a line is printed when it changes."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """Show a text in place of the last one."""
        if text == self._shown:
            return
        self._shown = text
        if self._terminal:
            print(f"\r\x1b[K{text}", end="", flush=True)
        elif text:
            print(text, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        start, end = ("\r\x1b[K", f"\n{self._shown}") if self._terminal else ("", "\n")
        print(f"{start}{text}", end=end, flush=True)


up_main = Program("fedjury cluster up", up_parser, work_up)
join_main = Program("fedjury cluster join", join_parser, work_join, results=False)
status_main = Program("fedjury cluster status", status_parser, work_status)
down_main = Program("fedjury cluster down", down_parser, work_down)


if __name__ == "__main__":
    run_main(up_main, EXPECTED)
