"""A private broker for this machine: Mosquitto where there is one, else the embedded one.

``with local_broker() as address:`` starts a broker on a free loopback port as a child process
and stops it at the end. ``fedjury broker`` does the same until Ctrl-C. With the secrets of
an enrolment it knows everybody by their own, else it lets everybody in: that is for a demo.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fedjury import processes
from fedjury.broker import mosquitto, pid_file
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers
from fedjury.processes import User
from fedjury.shipped import PACKAGE

Say = Callable[[str], None]

HOST = "127.0.0.1"
KINDS = ("auto", "mosquitto", "embedded")
START_SECONDS = 15.0

NOTICE = (
    "no Mosquitto on this machine: using the embedded development broker (MQTT 3.1.1 only, "
    "several times slower); the fast one: `sudo apt install mosquitto mosquitto-clients`, or your "
    "system's package"
)


class BrokerError(RuntimeError):
    """A private broker that cannot be had, in one sentence."""


class BrokerAddress(NamedTuple):
    """Where a broker listens, and which kind it is: "mosquitto" or "embedded".

    ``websockets`` is where it speaks MQTT over websockets, like ws://127.0.0.1:8080, empty if it
    does not.
    """

    host: str
    port: int
    kind: str
    websockets: str = ""

    @property
    def page(self) -> str:
        """Where it serves the live page, as Mosquitto does without TLS; empty if it does not."""
        plain = self.kind == "mosquitto" and self.websockets.startswith("ws://")
        return f"http{self.websockets.removeprefix('ws')}/" if plain else ""


class _Running(NamedTuple):
    """A broker's process, where it listens and where its log is."""

    address: BrokerAddress
    child: subprocess.Popen[bytes]
    log: Path
    tls: bool = False


@contextlib.contextmanager
def local_broker(
    kind: str = "auto",
    say: Say = print,
    log: Path | None = None,
    port: int = 0,
    secrets: Path | None = None,
    page: int | None = None,
) -> Iterator[BrokerAddress]:
    """Run a broker on this machine's loopback for as long as the with-block lasts.

    ``kind`` is "mosquitto", "embedded", or "auto" for Mosquitto where there is one. ``log``
    receives the broker's own messages (appended); ``port`` 0 means any free one; ``secrets`` is
    the folder of an enrolment, without which everybody is let in; ``page`` a port for browsers,
    to which it speaks websockets and, if it can, shows the live page: 0 is any free one, and so is
    one that is taken; None is none. The broker does not get the
    terminal's Ctrl-C, so clients can still say goodbye. On Linux it also ends when the thread
    that started it ends: start it from one that stays.

    Raises
    ------
    BrokerError
        If the broker is not there, does not start, or does not answer.
    """
    with _running(kind, say, log, port, secrets, page) as broker:
        yield broker.address


@contextlib.contextmanager
def _running(
    kind: str,
    say: Say,
    log: Path | None,
    port: int,
    secrets: Path | None,
    page: int | None = None,
) -> Iterator[_Running]:
    """Start a broker, wait until it answers, and stop it at the end."""
    chosen = choose(kind, say, secrets)
    if page is not None and not 0 <= page <= 65535:
        raise BrokerError(f"the page's port {page} must be 0 to 65535")
    tls = "\ncafile " in private_configuration(port, secrets)
    websockets = ""
    if page is not None:
        websockets = f"ws{'s' * tls}://{HOST}:{_free_port(page, or_any=True)}"
    address = BrokerAddress(HOST, _free_port(port), chosen, websockets)
    with tempfile.TemporaryDirectory(prefix="fedjury-broker-") as name:
        folder = Path(name)
        log = log or folder / "broker.log"
        child = _start(_command(address, folder, secrets), chosen, log, secrets)
        broker = _Running(address, child, log, tls)
        try:
            _wait_until_it_answers(broker)
            yield broker
        finally:
            processes.stop(child)


def choose(kind: str, say: Say, secrets: Path | None = None) -> str:
    """Settle on "mosquitto" or "embedded"."""
    if kind not in KINDS:
        raise BrokerError(f"unknown kind of broker {kind!r}; one of {', '.join(KINDS)}")
    if kind != "embedded" and find_mosquitto():
        return "mosquitto"
    if secrets is not None:
        raise BrokerError("logins need Mosquitto: `apt install mosquitto`")
    if find_spec("amqtt") is None:
        raise BrokerError(
            "no Mosquitto on this machine, and the embedded broker needs a package that is not "
            "installed: `apt install mosquitto`, or pip install 'fedjury[lab]'"
        )
    if kind == "embedded":
        return kind
    if kind == "mosquitto":
        raise BrokerError(
            "no Mosquitto on PATH or in the sbin folders: `apt install mosquitto`, "
            "or take the embedded broker"
        )
    say(NOTICE)
    return "embedded"


def _free_port(port: int, *, or_any: bool = False) -> int:
    """Return the wanted loopback port if it is free, and else any, or refuse; 0 is any."""
    try:
        return processes.free_port(HOST, port)
    except OSError as problem:
        if or_any:
            return processes.free_port(HOST)
        raise BrokerError(f"port {port} of {HOST} cannot be used: {problem.strerror}") from None


def usual_port() -> int:
    """Return the port at which programs look for a broker, or if that is taken a free one."""
    return _free_port(mosquitto.PORT, or_any=True)


def private_configuration(
    port: int, secrets: Path | None = None, page: tuple[int, Path] | None = None
) -> str:
    """Give the shipped Mosquitto configuration, bound to a port of this machine alone.

    With secrets it is the enrolment's, for a broker that runs in the folder of its files.
    ``page`` is the port and the folder of the live page.
    """
    if secrets is None:
        shipped = mosquitto.CONFIGURATION.read_text(encoding="utf-8")
        return mosquitto.on_loopback(mosquitto.anonymous(shipped), port, page)
    file = secrets / "broker" / "mosquitto.conf"
    try:
        text = mosquitto.beside(file.read_text(encoding="utf-8"))
        return mosquitto.on_loopback(text, port, page)
    except OSError as problem:
        raise BrokerError(
            f"{file} cannot be read ({problem.strerror}); 'fedjury enroll --n 1000' makes "
            "it, and everybody's secrets"
        ) from None


def _command(address: BrokerAddress, folder: Path, secrets: Path | None = None) -> list[str]:
    """Write down what to start, and for Mosquitto its configuration."""
    if address.kind == "embedded":
        command = [sys.executable, "-m", "fedjury.broker.embedded", "--port", str(address.port)]
        return command + ["--websockets", address.websockets] * bool(address.websockets)
    configuration = folder / "mosquitto.conf"
    page = None
    if address.websockets:  # a copy, for whoever Mosquitto runs as may not get to our own
        people = int(address.websockets.rpartition(":")[2])
        page = people, Path(shutil.copytree(mosquitto.PAGE, folder / "page"))
    text = private_configuration(address.port, secrets, page)
    if secrets is not None and _owner(secrets).number == 0:
        text += "user root\n"  # else root's Mosquitto changes its user, and cannot read its files
    configuration.write_text(text, encoding="utf-8")
    folder.chmod(0o755)  # whoever Mosquitto runs as must be able to read it; it holds no secret
    return [str(find_mosquitto()), "-c", str(configuration)]


def _start(
    command: list[str], kind: str, log: Path, secrets: Path | None
) -> subprocess.Popen[bytes]:
    """Start a broker's process.

    Root's Mosquitto would change to another user by itself, and with that forget to die with its
    parent: hence start it as that user. With secrets this is the owner of the broker's folder, in
    which it runs, so that it has to get through no other.
    """
    try:
        if secrets is None:
            user = None
            if kind == "mosquitto" and os.geteuid() == 0:
                nobody = pwd.getpwnam("nobody")
                user = User(nobody.pw_uid, nobody.pw_gid)
            return processes.start(command, log, PACKAGE.parent, user)
        with pid_file.opened(secrets / "broker") as handle:
            child = processes.start(command, log, secrets / "broker", _owner(secrets), [handle])
            with contextlib.suppress(OSError):  # nobody can then tell it to read its files again
                os.write(handle, str(child.pid).encode())
            return child
    except BlockingIOError:
        raise BrokerError(f"a broker with the secrets in {secrets} is running already") from None
    except OSError as problem:
        raise BrokerError(f"the {kind} broker cannot be started: {problem}") from None


def _owner(secrets: Path) -> User:
    result = (secrets / "broker").stat()
    return User(result.st_uid, result.st_gid)


def _wait_until_it_answers(broker: _Running) -> None:
    """Wait until a broker accepts MQTT clients."""
    deadline = time.monotonic() + START_SECONDS
    while not answers(*broker.address[:2], tls=broker.tls):
        code = broker.child.poll()
        if code is not None:
            raise BrokerError(_last_words(broker, f"ended with status {code} before it answered"))
        if time.monotonic() > deadline:
            raise BrokerError(_last_words(broker, f"did not answer within {START_SECONDS:.0f} s"))
        time.sleep(0.02)


def _last_words(broker: _Running, what: str) -> str:
    """Make one message of what happened to a broker and the end of its log."""
    lines = broker.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
    log = "".join(f"\n  {line}" for line in lines) or " nothing"
    return f"the {broker.address.kind} broker {what}; the end of its log:{log}"


def follow(
    kind: str,
    port: int,
    secrets: Path | None,
    page: int | None,
    begun: Callable[[BrokerAddress], object],
) -> None:
    """Run a broker, copying its log to stderr, until Ctrl-C; ``begun`` is told where it is.

    Raises
    ------
    BrokerError
        If it does not start, or ends by itself.
    """
    with _running(kind, say_now, None, port, secrets, page) as broker:
        begun(broker.address)
        _follow(broker)
        raise BrokerError(f"the {broker.address.kind} broker stopped by itself")


def _follow(broker: _Running) -> None:
    """Copy a broker's log to stderr until it ends."""
    with broker.log.open(encoding="utf-8", errors="replace") as log:
        while broker.child.poll() is None:
            sys.stderr.write(log.read())
            time.sleep(0.3)
        sys.stderr.write(log.read())


def say_now(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)
