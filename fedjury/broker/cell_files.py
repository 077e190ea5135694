"""A folder for each broker of cells, to be copied to its machine: all that it reads, no more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fedjury.broker import certificates, enrolment, enrolment_file, passwords, private_files
from fedjury.broker.cell_brokers import (
    Place,
    Plan,
    cell_configuration,
    cell_passwords,
    cell_rules,
    core_configuration,
    core_rules,
    login_of,
    members_login_of,
)
from fedjury.broker.enrolment import BROKER, KEY, TOP, user_of_mosquitto
from fedjury.broker.enrolment_file import EnrolError, Enrolment, Principal
from fedjury.protocol.cells import worker_login_of

CORE, CELL, WORKERS = "core", "cell-{}", "workers"
CONFIGURATION = "mosquitto.conf"
HERE = ("localhost", "127.0.0.1", "::1")
"""Names by which programs on a broker's own machine call it."""


class CellsError(ValueError):
    """What cannot be made, in one sentence."""


class Written(NamedTuple):
    """What was done."""

    new: list[str]
    """Folders that were not there."""
    replaced: list[str]
    """Files that were there, with another content."""
    left: list[str]
    """Folders of cells that are not in the plan: those of an earlier one."""


def enrolled(secrets: Path, cells: int, *, keep: bool) -> Enrolment:
    """Give logins to the bridges of so many cells; returns the enrolment with them.

    ``keep``: to ingest workers as well.

    Raises
    ------
    EnrolError
        If nobody is enrolled there, or one of these is revoked.
    """
    if enrolment_file.load(secrets) is None:
        raise EnrolError(
            f"nobody is enrolled in {secrets}: 'fedjury enroll --n 1000 --folder {secrets}' first"
        )
    numbers = range(1, cells + 1)
    wanted = [Principal(login_of(cell), "cells") for cell in numbers]
    if keep:
        wanted += [Principal(worker_login_of(cell), WORKERS) for cell in numbers]
    else:
        wanted += [Principal(members_login_of(cell), "cells") for cell in numbers]
    done = enrolment.enrol(secrets, wanted)
    if done.left_out:
        name = done.left_out[0]
        raise EnrolError(
            f"{name} is revoked in {secrets}: 'fedjury enroll --renew {name}' readmits it"
        )
    known = enrolment_file.load(secrets)
    assert known is not None
    return known


def write(plan: Plan, folder: Path, secrets: Path | None, *, replace: bool = False) -> Written:
    """Write a folder for the core's broker and one for that of each cell.

    ``secrets``: the folder of the plan's enrolment. ``replace``: there may be such folders already.

    Raises
    ------
    CellsError
        If there are, and they are not to be replaced, or a file cannot be read or written.
    """
    try:
        if not replace and (folder / CORE / CONFIGURATION).exists():
            raise CellsError(
                f"{folder} holds brokers of cells already: --replace writes them again"
            )
        owner = user_of_mosquitto() if os.geteuid() == 0 and secrets is not None else None
        folder.mkdir(mode=TOP, parents=True, exist_ok=True)
        new, replaced = [], []
        for name, files in _folders(plan, secrets):
            place = folder / name
            if not place.exists():
                new.append(name)
            private_files.folder(place, owner)
            for file, text in files.items():
                data = text.encode() if isinstance(text, str) else text
                path = place / file
                if path.exists() and path.read_bytes() != data:
                    replaced.append(f"{name}/{file}")
                private_files.write(path, data)
        planned = {CELL.format(cell) for cell in plan.numbers}
        there = {each.name for each in folder.glob(CELL.format("*"))}
    except OSError as why:
        where = why.filename or folder
        raise CellsError(f"{where} cannot be read or written: {why.strerror or why}") from None
    except certificates.CertificateError as why:
        raise CellsError(str(why)) from None
    return Written(new, replaced, sorted(there - planned))


def _folders(plan: Plan, secrets: Path | None) -> Iterator[tuple[str, dict[str, str | bytes]]]:
    """Yield the name of each broker's folder, and the files in it."""
    core: dict[str, str | bytes] = {CONFIGURATION: core_configuration(plan)}
    if secrets is None:
        yield CORE, core
        for cell in plan.numbers:
            yield CELL.format(cell), {CONFIGURATION: cell_configuration(plan, cell, {})}
        return
    kept = passwords.read(secrets / BROKER / "passwords")
    core["acl"] = core_rules(plan)
    yield CORE, core | _of_logins(plan, secrets, plan.core, kept)
    for cell in plan.numbers:
        logins = [login_of(cell)] if plan.keep else [login_of(cell), members_login_of(cell)]
        files, keys = _secrets_of(plan, secrets, logins)
        files[CONFIGURATION] = cell_configuration(plan, cell, keys)
        files["acl"] = cell_rules(plan, cell)
        ours = cell_passwords(kept, plan)
        yield CELL.format(cell), files | _of_logins(plan, secrets, plan.cells[cell - 1], ours)


def _secrets_of(
    plan: Plan, secrets: Path, logins: list[str]
) -> tuple[dict[str, str | bytes], dict[str, str]]:
    """Return the files by which a bridge logs in, and the password or key of each of its logins."""
    home, files, keys = secrets / "cells", {}, {}
    for login in logins:
        if plan.tls == "certificates":
            for name in (f"{login}.crt", f"{login}.key"):
                files[name] = (home / name).read_bytes()
            keys[login] = files[f"{login}.key"].decode("ascii")
        else:
            keys[login] = (home / f"{login}.password").read_text(encoding="ascii").strip()
    return dict(files), keys


def _of_logins(
    plan: Plan, secrets: Path, at: Place, kept: dict[str, str]
) -> dict[str, str | bytes]:
    """Return what a broker knows everybody by, and is known by itself."""
    files: dict[str, str | bytes] = {}
    if plan.tls != "certificates":
        files["passwords"] = passwords.text_of(kept)
    if plan.tls:
        broker = secrets / BROKER
        authority = certificates.load(broker / "ca.crt", secrets / KEY)
        hosts = dict.fromkeys([at.host, *HERE])
        pair = certificates.server(authority, hosts, enrolment.DAYS)
        files |= {
            "ca.crt": (broker / "ca.crt").read_bytes(),
            "crl.pem": (broker / "crl.pem").read_bytes(),
            "server.crt": pair.certificate,
            "server.key": pair.key,
        }
    return files
