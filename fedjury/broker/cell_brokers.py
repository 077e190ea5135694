"""What the brokers of cells and the core's read: Mosquitto's configuration, and access rules.

Each is the shipped one with an address of its own; that of a cell has a bridge to the core besides.
All of it follows from a plan, and nothing is written here.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fedjury.broker import mosquitto
from fedjury.broker.cell_topics import (
    WORKER_REPEATS,
    as_rules,
    directions,
    link_of,
    place_of,
    worker_topics,
)
from fedjury.broker.enrolment_file import Enrolment
from fedjury.protocol.cells import worker_login_of
from fedjury.protocol.membership import PLACE
from fedjury.protocol.topics import below

BRIDGE = """
# What agents say goes up to the core's broker, everything else comes down ("fedjury cells"). An
# outage loses nothing: both ends keep what is for the other, in a session that outlives it.
connection {name}
address {core}
remote_clientid {client_id}
cleansession false
# So the core's broker knows that this is a bridge, and never sends back what has come from it.
try_private true
# In MQTT 5 Mosquitto 2.0 would ask for a session that ends with the connection.
bridge_protocol_version mqttv311
# A link that falls silent is given up after 15 s, and tried again after 1 to 5 s.
keepalive_interval 10
restart_timeout 1 5
{notifications}{secret}"""

NOTIFICATIONS = """\
# 1 while the bridge is connected, else 0, retained at both ends: the aggregator counts agents of a
# cell that is cut off for long as offline.
notifications true
notification_topic {topic}
"""

MEMBERS = """
# Presence goes up once more, to a place of this cell's own: so it is known who is in which cell.
"""

BRIDGE_CERTIFICATE = """\
bridge_certfile {login}.crt
bridge_keyfile {login}.key
"""

NO_AGGREGATOR = "aggregator"
"""The login that brokers of cells do not know: nobody says there what only the core says."""


class Place(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def here(self) -> bool:
        """Whether it is this machine alone."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True)
class Plan:
    """The brokers that there are to be, and what they let through."""

    core: Place
    cells: tuple[Place, ...]
    root: str
    keep: bool = False
    """Whether updates stay in their cells."""
    enrolment: Enrolment | None = None
    """Who may log in; None: everybody."""

    @property
    def tls(self) -> str:
        """How connections are encrypted, if they are."""
        return self.enrolment.tls if self.enrolment else ""

    @property
    def run(self) -> str:
        """The run that there may be alone, or + for any."""
        return self.enrolment.run if self.enrolment else "+"

    @property
    def numbers(self) -> range:
        """The cells' numbers."""
        return range(1, len(self.cells) + 1)


def login_of(cell: int) -> str:
    """Return as whom a cell's bridge logs in at the core: a name that no agent can have."""
    return f"cell.{cell}"


def members_login_of(cell: int) -> str:
    """Return as whom it says who its members are: a login is good for one connection."""
    return f"members.{cell}"


def core_configuration(plan: Plan) -> str:
    """Return the configuration of the core's broker, which runs in the folder of its files."""
    return _shipped(plan, plan.core)


def cell_configuration(plan: Plan, cell: int, secrets: dict[str, str]) -> str:
    """Return the configuration of a cell's broker, which runs in the folder of its files.

    ``secrets``: the passwords or keys of its bridge's logins, where they have some.
    """
    ways = directions(
        cell,
        plan.root,
        plan.run,
        keep=plan.keep,
        collusion=plan.enrolment is None or plan.enrolment.collusion,
    )
    notifications = NOTIFICATIONS.format(topic=link_of(cell, plan.root))
    text = _shipped(plan, plan.cells[cell - 1])
    text += _bridge(plan, f"cell-{cell}", login_of(cell), secrets, notifications)
    for way, topics in (("out", ways.up), ("in", ways.down), ("both", ways.both)):
        text += "".join(f"topic {topic} {way} 1\n" for topic in topics)
    if plan.keep:
        return text  # the worker says who is there
    text += MEMBERS + _bridge(plan, f"members-{cell}", members_login_of(cell), secrets)
    return text + f"topic {plan.run}/agent/+ out 1 {plan.root}/ {place_of(cell, plan.root)}/\n"


def _bridge(
    plan: Plan, name: str, login: str, secrets: dict[str, str], notifications: str = ""
) -> str:
    text, client_id = "", login
    if plan.enrolment is not None and plan.tls != "certificates":
        text = f"remote_username {login}\nremote_password {secrets[login]}\n"
    if plan.tls:
        text += "bridge_cafile ca.crt\n"
    if plan.tls == "certificates":
        text += BRIDGE_CERTIFICATE.format(login=login)
    if plan.enrolment is not None and plan.enrolment.many_runs:
        # Clients choose their ids there, and nobody else must be able to take this one.
        code = hmac.new(secrets[login].encode(), login.encode(), "sha256").hexdigest()[:16]
        client_id = f"{login}.{code}"
    return BRIDGE.format(
        name=name,
        core=plan.core,
        client_id=client_id,
        notifications=notifications or "notifications false\n",
        secret=text,
    )


def _shipped(plan: Plan, at: Place) -> str:
    """Return the shipped configuration for a broker at this place."""
    if plan.enrolment is None:
        text = mosquitto.anonymous(mosquitto.CONFIGURATION.read_text(encoding="utf-8"))
    else:
        folder, many = Path("/"), plan.enrolment.many_runs
        text = mosquitto.beside(mosquitto.configuration(folder, plan.tls, many_runs=many))
    text, _, _ = text.partition(mosquitto.FOR_PEOPLE)
    host = f" {at.host}" if at.here else ""  # else of all interfaces: it may have several names
    return mosquitto.instead(text, "listener", f"listener {at.port}{host}")


def core_rules(plan: Plan) -> str:
    """Return who may say and hear what at the core: as everywhere, and bridges theirs.

    The bridge of a cell says what agents say, of any of them, and hears the rest. It can say
    nothing that only the aggregator says, nor that another cell is cut off, or who is there.
    """
    enrolment = _known(plan)
    lines = ["user aggregator", f"topic readwrite {plan.root}/{PLACE}/#"]
    for cell in plan.numbers:
        ways = directions(cell, plan.root, plan.run, keep=plan.keep, collusion=enrolment.collusion)
        lines += ["", f"user {login_of(cell)}"]
        lines += as_rules("write", (*ways.up, link_of(cell, plan.root)))
        lines += as_rules("read", ways.down)
        lines += as_rules("readwrite", ways.both)
        lines += ["", f"user {members_login_of(cell)}"]
        lines += as_rules("write", [f"{place_of(cell, plan.root)}/{plan.run}/agent/+"])
    return mosquitto.rules(enrolment) + "\n# Cells.\n" + "\n".join(lines) + "\n"


def cell_rules(plan: Plan, cell: int) -> str:
    """Return who may say and hear what at the broker of a cell, besides its bridge, which may all.

    Nobody who logs in there may speak for the aggregator, but for a worker that repeats it.
    """
    text = mosquitto.without(NO_AGGREGATOR, mosquitto.rules(_known(plan)))
    if not plan.keep:
        return text
    says, _ = worker_topics(cell, plan.root, plan.run)
    repeats = below(plan.root).filters(plan.run, WORKER_REPEATS)
    lines = ["", "# It takes the updates of this cell.", f"user {worker_login_of(cell)}"]
    lines += as_rules("read", [f"{plan.root}/{plan.run}/#"])
    lines += as_rules("write", [*says, *repeats])
    return text + "\n".join(lines) + "\n"


def cell_passwords(kept: dict[str, str], plan: Plan) -> dict[str, str]:
    """Return those of all passwords that the broker of a cell knows: not the core's own."""
    ours = {NO_AGGREGATOR, *map(login_of, plan.numbers), *map(members_login_of, plan.numbers)}
    return {login: each for login, each in kept.items() if login not in ours}


def _known(plan: Plan) -> Enrolment:
    assert plan.enrolment is not None
    return plan.enrolment
