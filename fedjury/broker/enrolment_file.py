"""What an enrolment remembers: who is enrolled, who is revoked, and how the broker is to be set up.

One JSON file, ``register.json``, beside the secrets of which it tells and holding none itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

ROOT = "fl/v2"
"""Where topics begin, in the rules that we ship."""
VERSION = 1
NAME = "register.json"
TLS = ("", "certificates", "passwords")
"""Not encrypted; encrypted, and each client has a certificate, or a password."""


class EnrolError(ValueError):
    """What cannot be done, in one sentence."""


class Principal(NamedTuple):
    """Who logs in: under which name, and the folder that its secrets go to."""

    login: str
    folder: str


@dataclass
class Enrolment:
    """What an enrolment remembers."""

    tls: str = ""
    hosts: list[str] = field(default_factory=list)
    """Names and addresses of the broker, for its certificate."""
    run: str = "+"
    """The run that logins are for; + is any."""
    root: str = ROOT
    """The topic below which the runs are."""
    page: int = 0
    """The port at which the broker serves the live page; 0: it does not."""
    collusion: bool = False
    """Whether attackers of an experiment may talk to each other."""
    many_runs: bool = False
    """Whether a login may take part in several runs at once, through a connection each."""
    gateways: list[str] = field(default_factory=list)
    """The logins through which HTTP gateways listen."""
    principals: dict[str, str] = field(default_factory=dict)
    """Login -> folder, below that of all secrets."""
    serials: dict[str, str] = field(default_factory=dict)
    """Login -> the number of its certificate, in hexadecimal digits."""
    withdrawn: list[str] = field(default_factory=list)
    """Numbers of certificates that hold no longer."""
    revoked: dict[str, str] = field(default_factory=dict)
    """Login -> folder, as it was, of those who must not be enrolled again by accident."""

    @property
    def watchers(self) -> list[str]:
        """The logins of people who watch, beside the one that is always there."""
        return [login for login in self.principals if login.startswith("watch.")]

    def withdraw(self, login: str) -> None:
        """Note that the certificate of a login holds no longer, if it has one."""
        if serial := self.serials.pop(login, None):
            self.withdrawn.append(serial)


def load(folder: Path) -> Enrolment | None:
    """Read the register of a folder of secrets; None if there is none.

    Raises
    ------
    EnrolError
        If the file is no register.
    """
    file = folder / NAME
    try:
        message = json.loads(file.read_text(encoding="utf-8"))
        version = dict(message).pop("version")
    except FileNotFoundError:
        return None
    except OSError as why:
        raise EnrolError(f"{file} cannot be read: {why.strerror}") from None
    except (ValueError, KeyError, TypeError) as why:
        raise EnrolError(f"{file} is no register of an enrolment: {why!r}") from None
    del message["version"]
    kinds = {item.name: type(getattr(Enrolment(), item.name)) for item in fields(Enrolment)}
    # There were registers before there was any of these.
    message = {"page": 0, "root": ROOT, "many_runs": False} | message
    right = message.keys() == kinds.keys() and all(type(message[k]) is kinds[k] for k in kinds)
    if version != VERSION or not right:
        raise EnrolError(f"{file} is of another version of this program: begin a new folder")
    return Enrolment(**message)


def text_of(enrolment: Enrolment) -> str:
    """Write a register."""
    return json.dumps({"version": VERSION, **asdict(enrolment)}, indent=1) + "\n"
