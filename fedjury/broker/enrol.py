"""Make and take back the secrets by which the broker knows everybody: fedjury enroll."""

from __future__ import annotations

import argparse
import re
import socket
from functools import partial
from pathlib import Path
from typing import Any

from fedjury.broker import enrolment, enrolment_file, mosquitto, pid_file
from fedjury.broker.enrolment import BROKER
from fedjury.broker.enrolment_file import EnrolError, Enrolment
from fedjury.broker.principals import named_otherwise, names_of, principals
from fedjury.config.program import Output, Program, run_main
from fedjury.config.run_sections import ROOTS, is_root

FOLDER = Path("secrets")

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What agents may be called, as the protocol has it."""

MOST = 1_000_000

EXAMPLES = """examples:
  %(prog)s --n 1000                    passwords for aggregator, 1,000 agents, people
  %(prog)s --n 1000 --tls              certificates instead; connections encrypted
  %(prog)s --n 1000 --tls passwords --host fl.example.org
  %(prog)s --slots http=20             an HTTP gateway with 20 slots besides
  %(prog)s --name robot --watch ann    one agent, and one person who watches
  %(prog)s --page                      the live page, at port 8080
  %(prog)s --renew agent-007           another secret; a revoked agent is readmitted
  %(prog)s --revoke agent-007 --revoke agent-123

Existing secrets are kept; run it again to add missing ones. Then
  mosquitto -c secrets/broker/mosquitto.conf         or: fedjury broker --secrets secrets
  fedjury serve --secrets secrets                    reads only secrets/aggregator/
  fedjury spawn --n 1000 --secrets secrets           reads only secrets/agents/
  XDG_CONFIG_HOME=secrets/people mosquitto_sub -v -t 'fl/v2/+/log/#' -t 'fl/v2/+/vote/+'
"""


def work(chosen: argparse.Namespace, _: Output) -> int:
    """Enrol who is asked for, or lock out who is to be."""
    usual = vars(main.flags().parse_args([])) | {"quiet": chosen.quiet}
    message = {name for name, value in vars(chosen).items() if value != usual[name]}
    if not chosen.revoke:
        _enrol(chosen, message)
    elif message <= {"revoke", "folder"}:
        done = enrolment.revoke(chosen.folder, dict.fromkeys(chosen.revoke))
        print(f"revoked: {', '.join(done.left_out)}; {done.total:,} logins are left")
        tell(chosen.folder)
    else:
        raise EnrolError("--revoke can only be combined with --folder")
    return 0


def _enrol(chosen: argparse.Namespace, message: set[str]) -> None:
    """Enrol who is asked for, and say what was done."""
    known = enrolment_file.load(chosen.folder)
    if known is None and not message & {"n", "slots", "name"}:
        raise EnrolError(
            f"nobody is enrolled in {chosen.folder} yet: say how many agents, like --n 1000"
        )
    wanted = principals(chosen.n, chosen.slots, chosen.name, chosen.watch)
    renew = dict.fromkeys(chosen.renew or ())
    if chosen.renew == [] and known is not None:  # without names: all who are asked for
        renew = {
            principal.login: None for principal in wanted if principal.login in known.principals
        }
    settings = _settings(chosen, known or Enrolment())
    done = enrolment.enrol(chosen.folder, wanted, renew, chosen.days, **settings)
    print(f"{done.total:,} logins in {chosen.folder}/, {len(done.made):,} of them new")
    if done.left_out:
        print(f"revoked, and so left out: {', '.join(done.left_out)}; --renew NAME readmits one")
    if known is None:
        where = chosen.folder / BROKER / "mosquitto.conf"
        print(f"the broker, on port {done.port}: mosquitto -c {where}")
        if chosen.page and settings.get("tls"):
            host = (*chosen.host, "localhost")[0]
            below = f" --root {chosen.root}" if chosen.root else ""
            print(f"the live page: fedjury page --broker wss://{host}:{chosen.page}{below}")
        elif chosen.page:
            at = f" at /?root={chosen.root}" if chosen.root else ""
            print(f"the live page, on port {chosen.page}{at}; log in as watch")
        return
    if chosen.n is not None and (others := named_otherwise(known, names_of(chosen.n))):
        digits = len(str(chosen.n - 1))
        print(
            f"note: {len(others):,} agents enrolled before, like {others[0]}, are none of a fleet "
            f"of {chosen.n:,}, whose numbers have {digits} digit{'s' * (digits > 1)}"
        )
    if any(
        settings.get(key, getattr(known, key)) != getattr(known, key)
        for key in ("tls", "page", "many_runs")
    ):
        print(f"the broker must be started again: from now on it listens on port {done.port}")
    else:
        tell(chosen.folder)


def _settings(chosen: argparse.Namespace, known: Enrolment) -> dict[str, Any]:
    """Say what the flags change of the register."""
    content = {
        "tls": chosen.tls,
        "run": chosen.run,
        "root": chosen.root,
        "collusion": chosen.collusion,
        "many_runs": chosen.many_runs,
        "page": chosen.page,
    }
    changes: dict[str, Any] = {name: value for name, value in content.items() if value is not None}
    listeners = [f"listener.{prefix}" for prefix, _ in chosen.slots]
    changes["gateways"] = list(dict.fromkeys([*known.gateways, *listeners]))
    if changes.get("tls", known.tls):
        usual = ["localhost", "127.0.0.1", "::1", "broker", socket.gethostname()]
        changes["hosts"] = list(dict.fromkeys([*usual, *known.hosts, *chosen.host]))
    elif chosen.host:
        raise EnrolError("--host is for the broker's certificate: it goes with --tls")
    return changes


def tell(folder: Path) -> None:
    """Have the private broker read its files, or say how to tell another one."""
    if pid_file.tell(folder / BROKER):
        print("the private broker has been told")
    else:
        print(
            "a broker that runs must be told: kill -HUP $(pidof mosquitto)\n"
            "in containers: docker compose kill -s HUP broker"
        )


def parser_of(prog: str) -> argparse.ArgumentParser:
    """Return the parser of its flags."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Make a login for each agent, the aggregator and people who watch.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_principals(parser)
    _add_broker(parser)
    parser.add_argument(
        "--renew", nargs="*", metavar="NAME", help="new secrets for these; without names: for all"
    )
    parser.add_argument(
        "--revoke", action="append", default=[], metavar="NAME", help="lock a login out"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder of all secrets (default: %(default)s)",
    )
    return parser


def _add_principals(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say who is enrolled."""
    add = partial(parser.add_argument, action="append", default=[])
    parser.add_argument("--n", type=_count, metavar="N", help="agents in the federation")
    add(
        "--slots",
        type=_slots,
        metavar="PREFIX=N",
        help="slots of an HTTP gateway, like http=20; they are agents",
    )
    add("--name", type=_name, metavar="NAME", help="one more agent")
    add(
        "--watch",
        type=_short,
        metavar="NAME",
        help="one more login to watch with, watch.NAME: a login allows one connection",
    )


def _add_broker(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how the broker is set up, and for what."""
    add = parser.add_argument
    add(
        "--tls",
        nargs="?",
        const="certificates",
        choices=enrolment_file.TLS[1:],
        metavar="HOW",
        help="encrypt; clients show certificates (the default) or passwords",
    )
    add(
        "--host",
        type=_host,
        action="append",
        default=[],
        metavar="NAME",
        help="another name or address of the broker besides this machine's, for TLS",
    )
    add(
        "--days",
        type=_count,
        default=enrolment.DAYS,
        metavar="N",
        help="how long new certificates are valid (default: %(default)s)",
    )
    add("--run", type=_run, metavar="NAME", help="logins are only for this run; '+': for any")
    add(
        "--many-runs",
        action=argparse.BooleanOptionalAction,
        help="a login may be in several runs at once, with a connection for each",
    )
    add(
        "--root",
        type=_root,
        metavar="TOPIC",
        help="topic below which the runs are, as programs are told it with --root (default: fl/v2)",
    )
    add(
        "--page",
        type=_port,
        nargs="?",
        const=mosquitto.PAGE_PORT,
        metavar="PORT",
        help="serve the live page at this port (%(const)s), or with 0 no longer",
    )
    add(
        "--collusion",
        action=argparse.BooleanOptionalAction,
        help="for experiments: attackers may communicate",
    )


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,7}", text) or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text} must be a number from 1 to {MOST:,}")
    return int(text)


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} must be a port, 0 to 65535")
    return int(text)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be 1 to 64 of A-Z a-z 0-9 _ -")
    if text in ("aggregator", "watch"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name for an agent")
    return text


def _short(text: str) -> str:
    """Read a name that more is put in front of, or behind: a certificate has room for 64."""
    if len(text) > 50:
        raise argparse.ArgumentTypeError(f"{text!r} must be 50 characters at most")
    return _name(text)


def _slots(text: str) -> tuple[str, int]:
    prefix, _, count = text.partition("=")
    return _short(prefix), _count(count)


def _run(text: str) -> str:
    return text if text == "+" else _name(text)


def _root(text: str) -> str:
    if not is_root(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be {ROOTS}")
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:*_-]{1,253}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name or address of a machine")
    return text


EXPECTED = (EnrolError,)
"""Errors that are one sentence to people."""

main = Program("fedjury enroll", parser_of, work, results=False)


if __name__ == "__main__":
    run_main(main, EXPECTED)
