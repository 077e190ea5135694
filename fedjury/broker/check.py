"""Tell whether a broker will do, a cluster of your own too: fedjury broker check URL ..."""

from __future__ import annotations

import secrets as random
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedjury.broker import check_verdicts
from fedjury.broker.check_client import Gone
from fedjury.broker.check_context import Logins, Node, ProbeContext
from fedjury.broker.check_probes import PROBES, probe_all, serving
from fedjury.broker.check_verdicts import Finding
from fedjury.broker.principals import AGENTS, AGGREGATOR
from fedjury.config import flags
from fedjury.config.program import Output, Program, run_main
from fedjury.config.sections import Broker, SettingsError
from fedjury.protocol.credentials import address_of
from fedjury.protocol.topics import NAME
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_client import speaks_five
from fedjury.protocol.transport.mqtt_probe import greet

EXAMPLES = """  %(prog)s mqtt://127.0.0.1:1883
  %(prog)s mqtt://10.0.0.1 mqtt://10.0.0.2 --agents 5000     two nodes of a cluster
  %(prog)s mqtts://fl.example.com --secrets secrets          where no run is on
  %(prog)s mqtts://mqtt.example.com --username ann --ca system --json

Exit code 0: it will do, perhaps with warnings; 1: it will not; 2: it cannot be reached."""

EXPECTED = (SettingsError, TransportError, Gone)
"""Errors that are one sentence to people."""

SECONDS = 17.0
"""When no more is begun; what is under way, and tidying up, may take a few more."""
FLOAT32 = 4
"""Bytes of a parameter."""
AGENTS_USUAL, MODEL = 1_000, 13_106
"""How many agents, and how many parameters of their model, unless more is said."""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = flags.parser(
        "Tell whether a broker will do for fedjury, by using it as an aggregator and an agent do, "
        "below topics of its own, which are removed afterwards. Takes less than half a minute.",
        EXAMPLES,
        flags.LISTENER_FLAGS,
        prog=prog,
    )
    parser.add_argument(
        "urls",
        nargs="+",
        metavar="URL",
        help="mqtt://HOST:PORT, or mqtts://HOST:PORT with TLS; of several nodes of one broker an "
        "agent uses each, and the aggregator the next",
    )
    add = parser.add_argument
    add("--agents", type=int, default=AGENTS_USUAL, metavar="N", help=f"of a run ({AGENTS_USUAL})")
    add("--parameters", type=int, default=MODEL, metavar="N", help=f"of its model ({MODEL})")
    add(
        "--as",
        dest="agent",
        default="",
        metavar="NAME",
        help="the agent whose login in --secrets is used, beside the aggregator's (default: the "
        "last one's)",
    )
    add(
        "--only",
        action="append",
        choices=list(PROBES),
        metavar="PROBE",
        help=f"try this alone; may be repeated: {', '.join(PROBES)}",
    )
    return parser


def work(chosen: Namespace, output: Output) -> int:
    """Try everything, and say what came of it."""
    if chosen.agents < 1 or chosen.parameters < 1:
        raise SettingsError("--agents and --parameters must be 1 or more")
    broker = flags.settings_from(chosen).broker
    logins = _logins(broker, chosen.agent)
    nodes = [_node(broker, url, logins) for url in chosen.urls]
    contexts = _contexts(nodes, logins, chosen)
    if logins.secrets and (run := serving(contexts[0])):
        raise SettingsError(
            f"the aggregator of run {run!r} is connected, and a login allows one connection: "
            "check the broker when no run is on"
        )
    print(f"checking {', '.join(chosen.urls)}: up to half a minute", flush=True)
    findings = _findings(contexts, chosen.only or list(PROBES))
    if left := sum(len(context.retained) for context in contexts):
        runs = ", ".join(f"{broker.root}/{context.run}" for context in contexts)
        print(f"{left:,} retained messages may be left below {runs}", file=sys.stderr)
    code = check_verdicts.exit_code(findings)
    data = {"will_do": not code, "findings": [one.as_json() for one in findings]}
    output.result(lambda: print("\n".join(check_verdicts.table(findings)), flush=True), data)
    return code


def _logins(broker: Broker, agent: str) -> Logins:
    """Return as whom to connect.

    Raises
    ------
    SettingsError
        If there are secrets, but none of an agent.
    """
    if not broker.secrets or broker.username:
        return Logins(agent or "agent")
    folder = Path(broker.secrets) / AGENTS
    known = sorted(
        file.stem
        for file in folder.glob("*")
        if file.suffix in (".password", ".crt") and NAME.fullmatch(file.stem) and file.stem != "ca"
    )
    if not known or (agent and agent not in known):
        raise SettingsError(
            f"no secret of {f'agent {agent!r}' if agent else 'an agent'} is in {folder}: the check "
            "logs in as the aggregator and as an agent, so run it where both parts of the secrets "
            "are"
        )
    return Logins(agent or known[-1], (str(Path(broker.secrets) / AGGREGATOR), str(folder)))


def _node(broker: Broker, url: str, logins: Logins) -> Node:
    """Ask a node how it speaks."""
    at = Broker.at(url)
    there = broker.replaced(host=at.host, port=at.port, tls=at.tls or broker.tls, secrets="")
    address = address_of(there, "")
    folder = logins.secrets[1] if logins.secrets else ""
    welcome = greet(address._replace(secrets=folder), f":{logins.agent}")
    return Node(address, speaks_five(welcome.protocol))


def _contexts(nodes: Sequence[Node], logins: Logins, chosen: Namespace) -> list[ProbeContext]:
    """Return what is tried: from each node to the next, for an equal share of the time."""
    start, share = time.monotonic(), SECONDS / len(nodes)
    return [
        ProbeContext(
            agent_at=node,
            aggregator_at=nodes[(number + 1) % len(nodes)],
            run=f"check-{random.token_hex(4)}",
            logins=logins,
            agents=chosen.agents,
            needed=FLOAT32 * chosen.parameters,
            deadline=start + share * (number + 1),
        )
        for number, node in enumerate(nodes)
    ]


def _findings(contexts: Sequence[ProbeContext], probes: Sequence[str]) -> list[Finding]:
    """Try everything between all nodes; returns the worst finding of each probe."""
    found: list[list[Finding]] = []
    for context in contexts:
        nodes = f"{context.agent_at.address} to {context.aggregator_at.address}"
        some = probe_all(context, probes)
        found.append([replace(one, nodes=nodes) for one in some] if len(contexts) > 1 else some)
    return [check_verdicts.worst(same) for same in zip(*found, strict=True)]


main = Program("fedjury broker check", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
