"""Finding the logins that lie at hand, where a broker wants some and nobody said which."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from fedjury.config.sections import Broker
from fedjury.protocol.credentials import BrokerAddress, address_of, first_known
from fedjury.protocol.transport.connection import BrokerAway, TransportError
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.waiting import patiently

FOLDER = "secrets"
"""Where ``fedjury enroll`` puts them, and ``docker compose up``."""


def secrets_for(broker: Broker, part: str, principals: Callable[[], Iterable[str]]) -> str:
    """Return the folder of secrets to use: the one that was given, else ours if it is wanted.

    A broker is first asked whether it lets us in without. A password from a folder that nobody
    named goes to no other machine unencrypted: only to this one, or to a broker that the folder's
    own authority vouches for. ``part``: of the folder.

    Raises
    ------
    BrokerAway
        If nobody answers there.
    TransportError
        If the broker wants a login, and what is at hand is of no use.
    """
    plain = address_of(broker, part)
    result = plain._replace(secrets=str(Path(FOLDER) / part))
    if broker.secrets or plain.username is not None or not Path(result.secrets).is_dir():
        return broker.secrets
    try:
        probe(plain)
    except BrokerAway:
        raise
    except TransportError as why:
        _check(result, why)
        probe(result, first_known(result, principals()))
        return FOLDER
    return ""


def _check(result: BrokerAddress, why: TransportError) -> None:
    vouched = (Path(result.secrets) / "ca.crt").exists()
    if not result.here and not vouched and not result.ca:
        raise TransportError(
            f"{why}. The folder {FOLDER} here is only used for a broker on another machine with "
            f"--secrets {FOLDER}: its passwords would travel unencrypted"
        ) from why


def with_log_ins(
    broker: Broker, part: str, principals: Callable[[], Iterable[str]], say: Callable[[str], None]
) -> Broker:
    """Return the settings with the secrets that the broker wants; wait until it is there.

    Raises
    ------
    TransportError
        If the broker wants a login, and what is at hand is of no use.
    """
    secrets = patiently(lambda: secrets_for(broker, part, principals), say)
    if secrets == broker.secrets:
        return broker
    say(f"the broker requires a login: using the one in the folder {secrets} here")
    return broker.replaced(secrets=secrets)
