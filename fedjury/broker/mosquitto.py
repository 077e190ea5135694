"""What Mosquitto reads: the shipped files, made to fit an enrolment, or this machine alone."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from fedjury.broker.enrolment_file import ROOT, Enrolment
from fedjury.shipped import PACKAGE, shipped

CONFIGURATION = shipped("broker/mosquitto.conf")
RULES = shipped("broker/acl.conf")

SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where packages put Mosquitto and where the PATH of a plain user does not look."""

PAGE = PACKAGE / "monitor" / "web" / "page"
"""The live page: files that a browser reads."""

PORT, TLS_PORT, PAGE_PORT = 1883, 8883, 8080

ENCRYPTED = """\
cafile {folder}/ca.crt
certfile {folder}/server.crt
keyfile {folder}/server.key
"""

CERTIFIED = """\
crlfile {folder}/crl.pem
require_certificate true
use_identity_as_username true
"""
"""Who comes without a certificate of the authority is not heard; the name in it is the login."""

MANY_RUNS = (
    "# A login may be in several runs: client ids are what fedjury's programs call themselves."
)

FOR_PEOPLE = "# The live page, and MQTT over websockets for its readers.\n"
"""Begins the last part of a configuration."""

WEBSOCKETS = """\
listener {port}{host}
protocol websockets
"""

GATEWAY = """
user {login}
topic read fl/v2/+/log/+
"""

MUTED = """
user {login}
topic deny fl/v1/#
topic deny fl/v2/#
"""
"""A certificate that is revoked lets nobody in, but whoever is in stays connected: silent."""

COLLUSION = """
# Attackers of an experiment exchange their updates.
pattern write fl/v2/+/collusion/update/%u
pattern read fl/v2/+/collusion/update/+
pattern readwrite fl/v2/+/collusion/attack
"""


KNOWN = "use_username_as_clientid true\n"

OF_A_LISTENER = (
    "use_username_as_clientid|cafile|certfile|keyfile|crlfile|require_certificate"
    "|use_identity_as_username"
)


def find_mosquitto() -> Path | None:
    """Find the Mosquitto broker on PATH or in the folders for system programs."""
    result = shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(SBIN))
    return Path(result) if result else None


def port_of(tls: str) -> int:
    """Say where the broker listens."""
    return TLS_PORT if tls else PORT


def configuration(folder: Path, tls: str, page: int = 0, *, many_runs: bool = False) -> str:
    """Give the shipped configuration for a broker whose files are in ``folder``.

    ``page`` is the port of the live page, whose files are in the folder too; 0 is none.
    ``many_runs``: a login may have a connection for each of several runs.
    """
    text = CONFIGURATION.read_text(encoding="utf-8")
    if tls:
        listener = f"listener {TLS_PORT}\n{_encrypted(folder, tls)}".rstrip()
        text = instead(text, "listener", listener)
    if tls == "certificates":
        text = instead(text, "password_file", "# Certificates take the place of passwords.")
    else:
        text = instead(text, "password_file", f"password_file {folder}/passwords")
    text = instead(text, "acl_file", f"acl_file {folder}/acl")
    if many_runs:
        text = instead(text, "use_username_as_clientid", MANY_RUNS)
    if page:
        text += _for_people(page, folder / "page", encrypted=bool(tls)) + KNOWN
        text += _encrypted(folder, tls)
    return text


def on_loopback(text: str, port: int, page: tuple[int, Path] | None = None) -> str:
    """Bind a configuration to a port of this machine alone.

    ``page``: another port, for the live page, whose files are in that folder.
    """
    text, _, _ = text.partition(FOR_PEOPLE)
    text = instead(text, "listener", f"listener {port} 127.0.0.1")
    if page is None:
        return text
    # What a listener is told of logins and encryption holds for it alone.
    told = re.findall(rf"(?m)^(?:{OF_A_LISTENER}) .*\n", text)
    # Given an address alone, Mosquitto 2.0 lets everybody in who reaches this machine.
    host = " 127.0.0.1\nsocket_domain ipv4"
    encrypted = any(line.startswith("certfile ") for line in told)
    return text + _for_people(*page, host, encrypted=encrypted) + "".join(told)


def anonymous(text: str) -> str:
    """Let everybody in who reaches the port, under any name: for this machine alone."""
    text = instead(text, "allow_anonymous", "allow_anonymous true")
    for needless in ("password_file", "acl_file", "use_username_as_clientid"):
        text = instead(text, needless, f"# no {needless}")
    return text


def _for_people(port: int, page: Path, host: str = "", *, encrypted: bool) -> str:
    """Let browsers in through a port of their own."""
    text = "\n" + FOR_PEOPLE + WEBSOCKETS.format(port=port, host=host)
    # Encrypted, Mosquitto 2.0 offers browsers HTTP/2, and then cannot serve files in it.
    return text if encrypted else text + f"http_dir {page}\n"


def _encrypted(folder: Path, tls: str) -> str:
    """Say what a listener needs for TLS; empty if there is none."""
    if not tls:
        return ""
    text = ENCRYPTED + (CERTIFIED if tls == "certificates" else "")
    return text.format(folder=folder)


def without(login: str, text: str) -> str:
    """Return rules without the part of one login: it may then do no more than everybody."""
    return re.sub(rf"(?m)^user {login}\n(?:topic .*\n)*", "", text)


def beside(text: str) -> str:
    """Let a configuration name its files without their folder, in which the broker then runs."""
    names = "password_file|acl_file|cafile|certfile|keyfile|crlfile|http_dir"
    return re.sub(rf"(?m)^({names}) .*/", r"\1 ", text)


def rules(enrolment: Enrolment) -> str:
    """Give the shipped rules of who may say and hear what, for those who are enrolled."""
    text = RULES.read_text(encoding="utf-8")
    _, heading, watcher = text.partition("user watch\n")
    for login in enrolment.watchers:
        text += "\n" + (heading + watcher).replace("watch", login)
    for login in enrolment.gateways:
        if login in enrolment.principals:
            text += GATEWAY.format(login=login)
    if enrolment.collusion:
        text += COLLUSION
    if enrolment.tls == "certificates":
        for login in enrolment.revoked:
            text += MUTED.format(login=login)
    text = re.sub(r"fl/(v\d)/\+/", rf"fl/\1/{enrolment.run}/", text)
    return text if enrolment.root == ROOT else below(enrolment.root, text)


def below(root: str, text: str) -> str:
    """Return rules for topics below another root; version 1 has no place beside it."""
    lines = [line for line in text.splitlines() if " fl/v1/" not in line]
    return "\n".join(lines).replace(f"{ROOT}/", f"{root}/") + "\n"


def instead(text: str, setting: str, line: str) -> str:
    """Put something in the place of the one line that makes a setting."""
    # A function, for what is put in may hold a backslash.
    changed, count = re.subn(rf"(?m)^{setting} .*$", lambda _: line, text)
    if count != 1:
        raise ValueError(f"{CONFIGURATION.name} must have exactly one line '{setting} ...'")
    return changed
