"""One command: broker, aggregator and agents on this machine, progress, and a report."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fedjury import processes, reports
from fedjury.aggregator.durable_files import explained, held
from fedjury.aggregator.naming import ENDED
from fedjury.aggregator.store import StoreError, read_records, writable
from fedjury.broker.local import KINDS, BrokerError, local_broker
from fedjury.broker.mosquitto import PAGE_PORT
from fedjury.config import flags
from fedjury.config.naming import named
from fedjury.config.settings import Settings, SettingsError, keys_of, load
from fedjury.monitor.web.opening import opened, stay
from fedjury.processes import death
from fedjury.protocol.record import to_json
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.open_files import make_room
from fedjury.registry import ATTACKS
from fedjury.shipped import shipped

EXPECTED = (SettingsError, TransportError, BrokerError, StoreError)
"""Errors that are one sentence to people."""

EXAMPLES = """  python run.py --demo
  python run.py --demo --monitor
  python run.py --n 200 --evil 0.1 --rounds 20 --rule median
  python run.py --config config/demo.toml --config config/jury.toml
  python run.py --n 1000 --evil 0.2 --rule median --attack random --broker 127.0.0.1:1883"""

CASES = {
    "undefended FedAvg": "undefended",
    "norm clipping": "robust",
    "detection": "detect",
    "validators' vote": "jury",
}
"""The demo: what people read -> the settings file that makes it."""

SHOWN = {
    "run",
    "before",
    "final",
    "kept",
    "backdoor",
    "at most",
    "accepted",
    "rejected",
    "updates/s",
}
"""The report's columns that fit a terminal."""

GOODBYE = 5.0
"""Seconds that processes have to end once they are told to."""

LEAVING = 15.0
"""Seconds that agents have to leave by themselves once the run is done."""


def main(arguments: Sequence[str]) -> int:
    """Read the flags and run one federation, or the demo's four."""
    parser = flags.parser(
        "Run a whole federation on this machine: broker, aggregator and agents. A run that is not "
        "named with --run is called by the time.",
        EXAMPLES,
        flags.RUN_FLAGS,
        flags.AGGREGATOR_FLAGS,
        flags.AGENT_FLAGS,
        flags.BROKER_FLAGS,
        prog="python run.py",
        defaults={"run.name": "run-TIME"},
    )
    flags.add_broker(parser, "a running broker (default: start a private one)")
    parser.add_argument(
        "--broker-kind",
        choices=KINDS,
        default="auto",
        help="the private broker to start (default: mosquitto if it is there)",
    )
    parser.add_argument(
        "--monitor",
        nargs="?",
        type=int,
        const=PAGE_PORT,
        metavar="PORT",
        help="show the live page in a browser, at this port or a free one (default: %(const)s)",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="the same attack four times: undefended, clipped, detected, voted on",
    )
    chosen = parser.parse_args(arguments)
    if chosen.monitor is not None and chosen.broker is not None:
        raise SettingsError(
            "--monitor goes with the private broker; for yours, which must speak websockets: "
            "fedjury page --broker ws://HOST:PORT"
        )
    if chosen.demo:
        chosen.config.insert(0, shipped("config/demo.toml"))
    settings = flags.settings_from(chosen)
    if chosen.demo:
        check_demo(settings)
    if not flags.names_a_run(chosen, settings):
        settings = named(settings, "demo" if chosen.demo else "run")
    with ExitStack() as stack:
        page = ""
        if chosen.broker is None:
            # The broker may open what we may, and has them all.
            make_room(settings.agents.n, "agents", ", or take fewer agents (--n)")
            settings, page = stack.enter_context(
                private_broker(settings, chosen.broker_kind, chosen.monitor)
            )
        try:
            code = demo(settings) if chosen.demo else single(settings)
        except KeyboardInterrupt:
            say(f"stopped; with --run {settings.run.name} the same command resumes it")
            raise
        if page:
            stay(page, say)
        return code


def single(settings: Settings) -> int:
    """Run one federation and report on it; returns the exit code."""
    folder = Path(settings.run.directory) / settings.run.name
    if code := federation(settings, folder):
        return code
    name = settings.run.name
    finish(folder, told(f"Run {name}", settings, [(name, settings, read_records(folder))]))
    return 0


def first_attack(settings: Settings) -> int | None:
    """Return the round in which the malicious agents first strike, if they do."""
    agents = settings.agents
    if not round(agents.n * agents.malicious):
        return None
    there = agents.arrive + 1 if agents.arrive > 1 else 1
    if ATTACKS.facts(agents.attack).hides_backdoor:
        return min((r for r in settings.backdoor.inject if r >= there), default=None)
    return max(agents.start, there)


def too_late(settings: Settings) -> str:
    """Warn of malicious agents that would attack only after the last round; empty if none do."""
    first_attack_round = first_attack(settings)
    if first_attack_round is None or first_attack_round <= settings.run.rounds:
        return ""
    return (
        f"nobody will strike: there are {settings.run.rounds} rounds, and the first strike would "
        f"be in round {first_attack_round}"
    )


@contextmanager
def private_broker(
    settings: Settings, kind: str, page: int | None
) -> Iterator[tuple[Settings, str]]:
    """Start a broker for us alone; yields the settings that lead to it, and where its page is."""
    secrets = Path(settings.broker.secrets) if settings.broker.secrets else None
    with ExitStack() as stack:
        address = stack.enter_context(local_broker(kind, say=say, secrets=secrets, page=page))
        broker = settings.broker.replaced(host=address.host, port=address.port)
        where = stack.enter_context(opened(address, say)) if address.websockets else ""
        yield settings.replaced(broker=broker), where


def demo(settings: Settings) -> int:
    """Run the same attack four times and set the four beside each other."""
    whole = Path(settings.run.directory) / settings.run.name
    cases: list[tuple[str, Settings, reports.Records]] = []
    manifests: dict[str, Any] = {}
    lines: list[str] = []
    for number, (title, file) in enumerate(CASES.items(), start=1):
        say(f"\n{number}/{len(CASES)}  {title}: fakes strike from round {settings.agents.start} on")
        case = layered(settings, file)
        folder = whole / file
        if (folder / ENDED).exists():  # it is the demo's second time, which was stopped after this
            say("it is done already")
        elif code := federation(case, folder, telling=number == 1):
            return code
        cases.append((title, case, read_records(folder)))
        lines += [json.dumps(to_json(replace(r, run=title))) for r in read_records(folder)]
        manifests[title] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    with explained(whole):
        (whole / "manifest.json").write_text(json.dumps(manifests, indent=2), encoding="utf-8")
        (whole / "rounds.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    finish(whole, told("One attack, three defences", settings, cases))
    return 0


def layered(settings: Settings, name: str) -> Settings:
    """Put a scenario on top of settings, and its name behind the run's."""
    folder = Path(settings.run.directory) / settings.run.name
    named = {"run.name": name, "run.directory": str(folder)}
    return load([], named, base=settings, scenarios=[shipped("config") / f"{name}.toml"])


def check_demo(settings: Settings) -> None:
    """Refuse what somebody gave and the demo's cases set themselves."""
    own = {key for file in CASES.values() for key in keys_of(shipped("config") / f"{file}.toml")}
    names = {setting: flag for flag, setting in flags.AGGREGATOR_FLAGS.items()}
    if odd := ", ".join(names.get(key, key) for key in sorted(own & settings.given)):
        raise SettingsError(
            f"--demo sets up {len(CASES)} defences of its own and takes no {odd}; leave it out, or "
            "run one federation: python run.py --config config/demo.toml and what you want to set"
        )


def federation(settings: Settings, folder: Path, *, telling: bool = True) -> int:
    """Run an aggregator and its agents, each in processes of their own; returns the exit code.

    ``telling``: say what people should know of the agents and their data.
    """
    writable(folder)
    # Imports torch, which takes seconds and 150 MB: once, and both programs begin with it.
    from fedjury.agents import agent_runner, simulated, spawn  # noqa: F401, PLC0415
    from fedjury.aggregator import __main__ as aggregator  # noqa: PLC0415

    notes = check(settings), too_late(settings)
    for note in notes if telling else ():
        if note:
            say(note)
    # Settings are handed on in memory. A file of them could be another's by the time it is read.
    # And the aggregator does not have to wait and see how many come.
    known = settings.replaced(collect=settings.collect.replaced(agents=settings.expected))
    serving = Part("aggregator", lambda: aggregator.aggregate(known), aggregator.EXPECTED)
    joining = Part("agents", lambda: spawn.spawn(settings), spawn.EXPECTED)
    file = folder / "agents.log"
    running: list[BaseProcess] = []
    with held(folder, settings.run.name), explained(file), file.open("w", encoding="utf-8") as log:
        try:
            start(running, serving)
            start(running, joining, log)
            return watch(running[0], running[1], file)
        finally:
            processes.end(running, GOODBYE)


def check(settings: Settings) -> str:
    """Refuse what agents or aggregator would refuse, before anything is started.

    Returns what people should know of the data; empty if nothing.

    Raises
    ------
    SettingsError
        If a name, a value, the data or a file of weights will not do.
    """
    from fedjury.agents.spawn import simulated_agents_of  # noqa: PLC0415 - imports torch, which takes seconds
    from fedjury.aggregator.assembly import build  # noqa: PLC0415

    simulated = simulated_agents_of(settings)
    try:
        data = simulated.check()
        build(settings, data)
        return simulated.repeats(data)
    except ValueError as why:
        raise SettingsError(str(why)) from why


class Part(NamedTuple):
    """One of our programs, to be run in a process of its own."""

    name: str
    """What ``top`` shows of it."""
    main: Callable[[], int]
    expected: tuple[type[Exception], ...]
    """Its errors that are one sentence to people."""


def start(running: list[BaseProcess], part: Part, output: IO[str] | None = None) -> None:
    """Start one of our programs in a process of its own, with what this one has loaded."""
    sys.stdout.flush()
    gc.freeze()  # what the collector does not touch stays shared
    running.append(processes.fork(become, part, output, os.getpid()))


def become(part: Part, output: IO[str] | None, parent: int) -> None:
    """Be a program, as if it had been started by itself, but end with its parent (on Linux).

    It is told to end by its parent alone: Ctrl-C reaches both, and two interrupts are one too many.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(130))  # until the program minds it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, processes.ENDING)
    processes.die_with_parent()
    if os.getppid() != parent:
        return  # it was killed before we could say so
    processes.name_process(part.name)
    if output is not None:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    flags.run_main(lambda _: part.main(), part.expected, ())


def watch(aggregator: BaseProcess, agents: BaseProcess, log: Path) -> int:
    """Wait for the aggregator; end early if the agents die."""
    while aggregator.exitcode is None:
        if agents.exitcode:
            raise TransportError(f"the agents stopped:\n{tail(log)}")
        aggregator.join(0.1)
    if aggregator.exitcode == 0:
        agents.join(LEAVING)
    if aggregator.exitcode < 0:  # it could not say so itself
        raise TransportError(f"the aggregator was ended ({death(aggregator.exitcode)})")
    return aggregator.exitcode


def finish(folder: Path, report: reports.ReportData) -> None:
    """Write the report and show its table."""
    with explained(folder / reports.FILES):
        rows = reports.write(folder, report)
    table = Table(title=report.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    shown = [heading for heading in reports.headings(rows) if heading in SHOWN]
    for heading in shown:
        table.add_column(heading, justify="left" if heading == "run" else "right", no_wrap=True)
    for figures in rows:
        table.add_row(*reports.cells(figures, shown))
    Console().print("", table)
    for note in report.notes[1:]:  # the first says what was run
        say(note)
    for what, file in (
        ("report", "report.html"),
        ("table", "report.md"),
        ("picture", "accuracy.png"),
        ("rounds", "rounds.jsonl"),
    ):
        say(f"{what:8} {folder / file}")


def told(
    title: str, settings: Settings, cases: list[tuple[str, Settings, reports.Records]]
) -> reports.ReportData:
    """Put together what there is to tell of runs (name, settings, records) of the same agents."""
    first_attack_round = first_attack(settings)
    return reports.of_experiment(title, describe(settings), settings, first_attack_round, cases)


def describe(settings: Settings) -> str:
    """Say in a sentence or two what was run."""
    agents = settings.agents
    fake_agents = round(agents.n * agents.malicious)
    share = f"{agents.samples} samples" if agents.samples else "an equal share"
    each = "each" if not agents.min_samples else f"on average, {agents.min_samples} at least"
    text = (
        f"{agents.n:,} agents, each its own MQTT connection, {share} of "
        f"{settings.data.name} {each}; model {settings.model.name}, seed {settings.run.seed}."
    )
    if not fake_agents:
        return text
    s, be = ("s", "is") if fake_agents == 1 else ("", "are")
    late = f" They connect in round {agents.arrive}." if agents.arrive > 1 else ""
    if ATTACKS.facts(agents.attack).hides_backdoor:
        hidden = settings.backdoor
        rounds = ", ".join(map(str, hidden.inject)) or "none"
        return (
            f"{text} {fake_agents:,} hide{s} a backdoor ({agents.attack}, {hidden.task}) in the "
            f"model in "
            f"rounds {rounds} and else train{s} honestly.{late}"
        )
    attacks = f"strike{s} from round {first_attack(settings)} on"
    if ATTACKS.facts(agents.attack).holds_data:
        options = "".join(f", {key} {value}" for key, value in agents.options.items())
        return (
            f"{text} {fake_agents:,} hold{s} data, {attacks} ({agents.attack}{options}) and "
            f"train{s} "
            f"honestly before.{late}"
        )
    return (
        f"{text} {fake_agents:,} {be} fake ({agents.attack}, scaling {agents.scale:g}) and "
        f"{attacks}.{late}"
    )


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-5:])


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
