"""Finding the log-ins that lie at hand, where a broker wants some and nobody said which."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from fedjury.config.sections import Broker
from fedjury.protocol.credentials import BrokerAddress, address_of, first_known
from fedjury.protocol.transport.link import BrokerAway, LinkError
from fedjury.protocol.transport.mqtt_client import probe
from fedjury.protocol.transport.waiting import patiently

FOLDER = "secrets"
"""Where ``fedjury enroll`` puts them, and ``docker compose up``."""


def secrets_for(broker: Broker, part: str, parties: Callable[[], Iterable[str]]) -> str:
    """Return the folder of secrets to use: the one that was given, else ours if it is wanted.

    A broker is first asked whether it lets us in without. A password from a folder that nobody
    named goes to no other machine unencrypted: only to this one, or to a broker that the folder's
    own authority vouches for. ``part``: of the folder.

    Raises
    ------
    BrokerAway
        If nobody answers there.
    LinkError
        If the broker wants a log-in, and what is at hand is of no use.
    """
    plain = address_of(broker, part)
    found = plain._replace(secrets=str(Path(FOLDER) / part))
    if broker.secrets or plain.username is not None or not Path(found.secrets).is_dir():
        return broker.secrets
    try:
        probe(plain)
    except BrokerAway:
        raise
    except LinkError as why:
        _check(found, why)
        probe(found, first_known(found, parties()))
        return FOLDER
    return ""


def _check(found: BrokerAddress, why: LinkError) -> None:
    vouched = (Path(found.secrets) / "ca.crt").exists()
    if not found.here and not vouched and not found.ca:
        raise LinkError(
            f"{why}. The folder {FOLDER} that is here is only used for a broker on another machine "
            f"if you say so, with --secrets {FOLDER}: its passwords would travel unencrypted"
        ) from why


def with_log_ins(
    broker: Broker, part: str, parties: Callable[[], Iterable[str]], say: Callable[[str], None]
) -> Broker:
    """Return the settings with the secrets that the broker wants; wait until it is there.

    Raises
    ------
    LinkError
        If the broker wants a log-in, and what is at hand is of no use.
    """
    secrets = patiently(lambda: secrets_for(broker, part, parties), say)
    if secrets == broker.secrets:
        return broker
    say(f"the broker wants a log-in: taking it from the folder {secrets} here")
    return broker.replaced(secrets=secrets)
