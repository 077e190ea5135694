"""Who may log in at the broker: their secrets, and what the broker keeps to know them by.

Below one folder lie ``broker/``, ``aggregator/``, ``agents/`` and ``people/``, each for a machine
of its own, where machines differ. The register and the authority's key stay where they are.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import pwd
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from fedjury.broker import certificates, enrolment_file, mosquitto, passwords, private_files
from fedjury.broker.certificates import CertificateAuthority
from fedjury.broker.enrolment_file import EnrolError, Enrolment, Principal

BROKER = "broker"
KEY = "ca.key"
DAYS = 825
"""How long certificates hold."""
TOP = 0o711
"""The broker runs as a user of its own and must get through to its folder; nobody can list it."""


class Changed(NamedTuple):
    """What was done."""

    made: list[str]
    """Logins with a new secret."""
    left_out: list[str]
    """Logins that were asked for and are revoked."""
    total: int
    """How many may log in now."""
    port: int
    """Where the broker listens, as its configuration says."""


def enrol(
    folder: Path,
    wanted: Iterable[Principal],
    renew: Iterable[str] = (),
    days: int = DAYS,
    **settings: Any,
) -> Changed:
    """Give a secret to each party that has none, and to those in ``renew`` another one.

    Who was revoked stays out unless named in ``renew``. ``settings`` are those of the register;
    what is not given stays as it was.

    Raises
    ------
    EnrolError
        If a name to renew is unknown, or what is in the folder does not fit.
    """
    with _explained(folder):
        if not folder.exists():
            private_files.folder(folder, mode=TOP)
        with private_files.alone_in(folder):
            known = replace(enrolment_file.load(folder) or Enrolment(), **settings)
            folder_of_all = _EnrolmentFolder(folder, known)
            renewed = {login: folder_of_all.folder_of(login) for login in renew}
            asked = {principal.login: principal.folder for principal in wanted}
            left_out = sorted(asked.keys() & known.revoked.keys() - renewed.keys())
            for login in left_out:
                del asked[login]
            for login in renewed:
                known.revoked.pop(login, None)
            known.principals |= {
                login: place
                for login, place in (asked | renewed).items()
                if login not in known.principals
            }
            result = folder_of_all.issue(renewed.keys(), days)
            folder_of_all.write(days)
    return Changed(result, left_out, len(known.principals), mosquitto.port_of(known.tls))


def revoke(folder: Path, logins: Iterable[str]) -> Changed:
    """Let nobody in under these names any more, and remove their secrets that are here.

    Raises
    ------
    EnrolError
        If nobody of that name is enrolled.
    """
    with _explained(folder):
        known = enrolment_file.load(folder)
        if known is None:
            raise EnrolError(f"nobody is enrolled in {folder}")
        with private_files.alone_in(folder):
            known = enrolment_file.load(folder) or known
            folder_of_all = _EnrolmentFolder(folder, known)
            places = {login: folder_of_all.folder_of(login) for login in logins}
            for login, place in places.items():
                known.revoked[login] = place
                known.principals.pop(login, None)
                known.withdraw(login)
                folder_of_all.kept.pop(login, None)
                for kind in ("password", "crt", "key"):
                    (folder / place / f"{login}.{kind}").unlink(missing_ok=True)
            folder_of_all.write(None)
    return Changed([], sorted(places), len(known.principals), mosquitto.port_of(known.tls))


class _EnrolmentFolder:
    """One enrolment at work in a folder."""

    def __init__(self, folder: Path, known: Enrolment) -> None:
        self.folder, self.known = folder, known
        self.broker = folder / BROKER
        owner = user_of_mosquitto() if os.geteuid() == 0 else None
        private_files.folder(self.broker, owner)
        self.kept = passwords.read(self.broker / "passwords")
        """Login -> what the broker keeps of its password."""
        self.authority = self._authority() if known.tls else None

    def folder_of(self, login: str) -> str:
        """Say which folder a login's secrets are in."""
        places = self.known.principals | self.known.revoked
        if login not in places:
            near = difflib.get_close_matches(login, places, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise EnrolError(f"nobody called {login!r} is enrolled in {self.folder}{hint}")
        return places[login]

    def issue(self, renew: Iterable[str], days: int) -> list[str]:
        """Give secrets to those who have none, and other ones to ``renew``; returns to whom."""
        again = set(renew)
        certified = self.known.tls == "certificates"
        have = self.known.serials if certified else self.kept
        parties = self.known.principals
        result = [login for login in parties if login in again or login not in have]
        for place in dict.fromkeys(parties.values()):
            private_files.folder(self.folder / place)
        for login in result:
            home = self.folder / parties[login]
            if certified:
                self._certify(login, home, days)
            else:
                self._set_password(login, home, again=login in again)
        return result

    def write(self, days: int | None) -> None:
        """Write what the broker reads; with ``days`` also a new certificate of the broker's."""
        known, write = self.known, private_files.write
        if self.kept or known.tls != "certificates":
            write(self.broker / "passwords", passwords.text_of(self.kept))
        write(self.broker / "acl", mosquitto.rules(known))
        if self.authority is not None:
            serials = (int(serial, 16) for serial in known.withdrawn)
            write(self.broker / "crl.pem", certificates.revocations(self.authority, serials))
            if days is not None:
                result = certificates.server(self.authority, known.hosts, days)
                write(self.broker / "server.crt", result.certificate)
                write(self.broker / "server.key", result.key)
                self._spread()
        text = mosquitto.configuration(
            self.broker.resolve(), known.tls, known.page, many_runs=known.many_runs
        )
        write(self.broker / "mosquitto.conf", text)
        if known.page:
            private_files.copy(mosquitto.PAGE, self.broker / "page")
        self._write_watchers()
        write(self.folder / enrolment_file.NAME, enrolment_file.text_of(known))

    def _authority(self) -> CertificateAuthority:
        """Read the authority's files, or make them in a folder that has none."""
        certificate, key = self.broker / "ca.crt", self.folder / KEY
        if key.exists() and certificate.exists():
            return certificates.load(certificate, key)
        if self.known.serials or certificate.exists():
            missing = certificate if key.exists() else key
            raise EnrolError(
                f"{missing} is not there, and nothing can be certified or revoked without it; "
                "bring it back, or begin a new folder"
            )
        result, files = certificates.establish()
        private_files.write(key, files.key)  # first: a certificate without its key is of no use
        private_files.write(certificate, files.certificate)
        return result

    def _certify(self, login: str, home: Path, days: int) -> None:
        assert self.authority is not None
        result = certificates.client(self.authority, login, days)
        self.known.withdraw(login)
        self.known.serials[login] = f"{result.serial:x}"
        private_files.write(home / f"{login}.key", result.key)
        private_files.write(home / f"{login}.crt", result.certificate)

    def _set_password(self, login: str, home: Path, *, again: bool) -> None:
        """Give out a new secret, or have the broker know the one that is there already."""
        file = home / f"{login}.password"
        secret = file.read_text(encoding="ascii").strip() if file.exists() and not again else ""
        if not secret:
            secret = passwords.new_secret()
            private_files.write(file, secret)
        self.kept[login] = passwords.hashed(secret)

    def _spread(self) -> None:
        """Let everybody know the authority that vouches for the broker."""
        ours = (self.broker / "ca.crt").read_bytes()
        for place in dict.fromkeys(self.known.principals.values()):
            private_files.write(self.folder / place / "ca.crt", ours)

    def _write_watchers(self) -> None:
        """Let ``mosquitto_sub`` find what it needs, so that no secret is on a command line."""
        for login in ("watch", *self.known.watchers):
            home = self.folder / self.known.principals.get(login, "")
            stem = home.resolve() / login
            password, key = home / f"{login}.password", home / f"{login}.key"
            options = [f"-p {mosquitto.port_of(self.known.tls)}"]
            if self.known.tls:
                options.append(f"--cafile {stem.with_name('ca.crt')}")
            if self.known.tls == "certificates" and key.exists():
                options += [f"--cert {stem}.crt", f"--key {stem}.key"]
            elif self.known.tls != "certificates" and password.exists():
                options += [f"-u {login}", f"-P {password.read_text(encoding='ascii')}"]
            else:
                continue  # it is elsewhere by now
            private_files.write(home / "mosquitto_sub", "\n".join(options) + "\n")


def user_of_mosquitto() -> int:
    """Return the user that Mosquitto becomes when root starts it."""
    for name in ("mosquitto", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return 0


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with files into a sentence."""
    try:
        yield
    except OSError as why:
        where = why.filename or folder
        raise EnrolError(f"{where} cannot be read or written: {why.strerror or why}") from None
    except certificates.CertificateError as why:
        raise EnrolError(str(why)) from None
