"""Write the brokers of cells, each with a bridge to the core's: fedjury cells."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from fedjury.broker import cell_files, mosquitto
from fedjury.broker.cell_brokers import Place, Plan
from fedjury.broker.cell_files import CELL, CONFIGURATION, CORE, WORKERS, CellsError, Written
from fedjury.broker.enrolment_file import EnrolError, Enrolment
from fedjury.config.program import Output, Program, run_main
from fedjury.config.run_sections import ROOTS, is_root
from fedjury.protocol.cells import worker_login_of
from fedjury.protocol.topics import ROOT

FOLDER = Path("cells")
MOST = 1_000
"""Cells: a core broker has two connections to each, and sends each model to each."""
LOOPBACK = "127.0.0.1"

EXAMPLES = """examples:
  %(prog)s --count 4                                four cells on this machine
  %(prog)s --count 2 --secrets secrets              with the logins of fedjury enroll
  %(prog)s --count 2 --secrets secrets --core 10.0.0.1:8883 \\
      --edge 10.0.0.2:8883 --edge 10.0.0.3:8883     on three machines
  %(prog)s --count 4 --root lab/a --out cells-a     for runs below another root

Each folder below --out goes to the machine of its broker. Agents connect to the broker of their
cell, and the aggregator and people who watch to the core's; for them nothing else is different.
"""

EXPECTED = (CellsError, EnrolError)
"""Errors that are one sentence to people."""


def parser_of(prog: str) -> argparse.ArgumentParser:
    """Return the parser of its flags."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Write the configuration of a core broker, and of a broker for each cell of\n"
        "agents, with a bridge between them: for more agents than one broker carries.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--count", type=_count, required=True, metavar="N", help=f"cells, 1 to {MOST:,}")
    add(
        "--out",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder of the brokers' folders (default: %(default)s)",
    )
    add(
        "--core",
        type=_place,
        metavar="HOST:PORT",
        help="where the core's broker listens, and cells find it (default: port "
        f"{mosquitto.PORT} of this machine, with TLS {mosquitto.TLS_PORT})",
    )
    add(
        "--edge",
        type=_place,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="where the broker of a cell listens, once for each cell (default: this machine, the "
        "ports after that of the core)",
    )
    add(
        "--secrets",
        type=Path,
        metavar="DIR",
        help="made by fedjury enroll: its logins and its TLS, for bridges too (default: no logins)",
    )
    add(
        "--root",
        type=_root,
        metavar="TOPIC",
        help=f"topic below which the runs are (default: {ROOT}, or that of the secrets)",
    )
    add(
        "--keep-updates",
        action="store_true",
        help="updates and presence stay in their cell, where an ingest worker takes them",
    )
    add(
        "--open",
        action="store_true",
        help="no logins, though brokers are on several machines: whoever reaches them is let in",
    )
    add("--replace", action="store_true", help="write over what is in --out already")
    return parser


def work(chosen: argparse.Namespace, output: Output) -> int:
    """Write everything, and say what to type next."""
    enrolment = None
    plan = plan_of(chosen, None)  # what is wrong with addresses, before anything is made
    if chosen.secrets is not None:
        enrolment = cell_files.enrolled(chosen.secrets, chosen.count, keep=chosen.keep_updates)
        plan = plan_of(chosen, enrolment)
    written = cell_files.write(plan, chosen.out, chosen.secrets, replace=chosen.replace)
    data = {
        "core": str(plan.core),
        "cells": list(map(str, plan.cells)),
        "folder": str(chosen.out),
        "replaced": written.replaced,
    }
    output.result(lambda: show(plan, written, chosen), data)
    return 0


def plan_of(chosen: argparse.Namespace, enrolment: Enrolment | None) -> Plan:
    """Return what the flags ask for.

    Raises
    ------
    CellsError
        If it makes no sense.
    """
    encrypted = enrolment is not None and bool(enrolment.tls)
    core = chosen.core or Place(LOOPBACK, mosquitto.port_of("tls" if encrypted else ""))
    cells = tuple(chosen.edge) or tuple(
        Place(LOOPBACK, core.port + number) for number in range(1, chosen.count + 1)
    )
    if len(cells) != chosen.count:
        raise CellsError(f"--edge is once for each cell: {len(cells)} of --count {chosen.count}")
    if odd := [place for place in (core, *cells) if not 0 < place.port <= 65535]:
        raise CellsError(f"there is no port {odd[0].port}: ports are 1 to 65535")
    seen: set[Place] = set()
    for place in (core, *cells):
        if place in seen:
            raise CellsError(f"two brokers cannot both listen at {place}")
        seen.add(place)
    if far := [place for place in cells if core.here and not place.here]:
        raise CellsError(
            f"the broker at {far[0]} cannot reach the core's, which is on this machine alone "
            f"({core}): --core HOST:PORT says where else it is"
        )
    far = [place for place in (core, *cells) if not place.here]
    if far and chosen.secrets is None and not chosen.open:
        raise CellsError(
            f"whoever reaches {far[0]} would be let in: --secrets DIR takes the logins of fedjury "
            "enroll, --open does without"
        )
    if enrolment is not None and chosen.root not in (None, enrolment.root):
        raise CellsError(
            f"the logins in {chosen.secrets} are for runs below {enrolment.root}, not below "
            f"{chosen.root}"
        )
    if chosen.open and chosen.secrets is not None:
        raise CellsError("--open does without the logins that --secrets has: choose one of them")
    root = enrolment.root if enrolment else chosen.root or ROOT
    return Plan(core, cells, root, chosen.keep_updates, enrolment)


def show(plan: Plan, written: Written, chosen: argparse.Namespace) -> None:
    """Say what was written, and what to type next."""
    out, number = chosen.out, len(plan.cells)
    print(f"the core's broker at {plan.core} and {number:,} cell{'s' * (number > 1)}, in {out}/")
    if written.replaced:
        print(f"replaced: {', '.join(written.replaced)}; brokers that run must be started again")
    if written.left:
        print(f"of an earlier plan, and no part of this one: {', '.join(written.left)}")
    print("\nstart the brokers, each in its folder, on its machine:")
    for name, place in _brokers(plan):
        folder = shlex.quote(str(out / name))
        print(f"  (cd {folder} && mosquitto -c {CONFIGURATION})    # {place}")
    print("then the aggregator, and in each cell its share of the agents:")
    flags = f" --root {shlex.quote(plan.root)}" * (plan.root != ROOT)
    secrets = f" --secrets {shlex.quote(str(chosen.secrets))}" if chosen.secrets else ""
    scheme = "mqtts://" if plan.tls else ""
    print(f"  fedjury serve --broker {scheme}{plan.core}{secrets}{flags}")
    for cell, place in zip(plan.numbers, plan.cells, strict=True):
        where = f"--shard {cell}/{number} --broker {scheme}{place}{secrets}{flags}"
        print(f"  fedjury spawn --n 1000 --evil 0.2 {where}")
    if plan.keep:
        login = f", which logs in as {worker_login_of(1)}, ... ({chosen.secrets}/{WORKERS})"
        print(
            "updates stay in their cells: they are taken by an ingest worker beside each broker"
            f"{login * bool(secrets)}"
        )


def _brokers(plan: Plan) -> list[tuple[str, Place]]:
    names = [CORE, *map(CELL.format, plan.numbers)]
    return list(zip(names, (plan.core, *plan.cells), strict=True))


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,7}", text) or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text} must be a number from 1 to {MOST:,}")
    return int(text)


def _place(text: str) -> Place:
    found = re.fullmatch(r"([A-Za-z0-9._-]{1,253}):([0-9]{1,5})", text)
    if not found or not 0 < int(found[2]) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT")
    host = LOOPBACK if found[1] == "localhost" else found[1]
    return Place(host, int(found[2]))


def _root(text: str) -> str:
    if not is_root(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be {ROOTS}")
    return text


main = Program("fedjury cells", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
