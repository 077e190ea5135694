"""Who listens: the logins of people, as ``fedjury enroll --watch`` makes them, and which run."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

from fedjury.config.sections import Broker
from fedjury.monitor.runs import Run, Snapshot
from fedjury.monitor.terminal import formatting
from fedjury.protocol.credentials import BrokerAddress, address_of
from fedjury.protocol.finding import secrets_for
from fedjury.protocol.topics import NAME
from fedjury.protocol.transport.connection import TransportError

PEOPLE = "people"
"""Their part of a folder of secrets."""

SETTLE = 1.0
"""Seconds for what is retained to arrive."""

LISTEN = 5.0
"""Seconds in which, of several runs, the one that goes on should say something."""

LISTED = 20


class Several(Exception):  # noqa: N818 - it is a question, not a failure
    """There are several runs, and none stands out; names them."""


def add_flags(parser: ArgumentParser, run: str) -> None:
    """Let people say under which of their logins they listen, and to which ``run``."""
    parser.add_argument(
        "--as",
        dest="person",
        default=None,
        metavar="NAME",
        help="the login made by 'fedjury enroll --watch NAME', in --secrets (default: watch)",
    )
    parser.add_argument("--run", dest="run.name", default=None, metavar="NAME", help=run)


def login(broker: Broker, person: str) -> tuple[BrokerAddress, str]:
    """Return where the broker is, and as whom to listen.

    Raises
    ------
    TransportError
        If there are secrets, but none of this person.
    """
    if person and not NAME.fullmatch(person):
        raise TransportError(f"--as {person!r} must be 1 to 64 of A-Z a-z 0-9 _ -")
    part = f"{PEOPLE}/{person}" if person else PEOPLE
    principal = f":watch.{person}" if person else ":watch"
    secrets = secrets_for(broker, part, lambda: [principal])
    address = address_of(broker.replaced(secrets=secrets), part)
    # With certificates of the system or a password for all, there need be no folder of ours.
    if address.secrets and address.username is None and not Path(address.secrets).is_dir():
        how = f"--watch {person}" if person else "--n N"
        raise TransportError(
            f"there is no folder {address.secrets}: 'fedjury enroll {how}' makes one, in "
            "the folder that --secrets names"
        )
    return address, principal


def choose(snapshot: Snapshot) -> str:
    """Return the run to watch where nobody named one; empty as long as that is open.

    Raises
    ------
    Several
        If there are some, and none stands out.
    """
    runs, waited = snapshot.state.runs, snapshot.now - snapshot.since
    going = {name: run for name, run in runs.items() if not run.over}
    if not snapshot.connected or waited < SETTLE or not runs:
        return ""
    for values in (runs, going):
        if len(values) == 1:
            return next(iter(values))
    speaking = [name for name, run in going.items() if run.heard > snapshot.since + SETTLE]
    if len(speaking) == 1:
        return speaking[0]
    if speaking or not going or waited > LISTEN:
        raise Several(_listed(runs))
    return ""


def _listed(runs: Mapping[str, Run]) -> str:
    """Write runs below each other, those that go on first."""
    ordered = sorted(runs.values(), key=lambda run: (run.over, run.name))
    lines = [f"  {run.name}: {formatting.where(run)}" for run in ordered[:LISTED]]
    if len(ordered) > LISTED:
        lines.append(f"  and {len(ordered) - LISTED} more")
    return "\n".join([f"{len(runs)} runs on this broker; choose one with --run NAME:", *lines])
