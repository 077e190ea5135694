"""A tiny federation of real programs, and what it should have come to had nothing happened to it.

Thirty-two agents in two processes, a network of 2,410 parameters, fakes that strike and are
clipped, five validators who judge: everything that a round can do, in a few hundredths of a second.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from safetensors.numpy import load_file

from fedjury.aggregator.store import read_records
from fedjury.config.settings import Settings, load
from fedjury.config.toml import to_toml
from fedjury.protocol.record import RoundRecord
from tools.chaos.broker import Broker
from tools.chaos.cells import CellBrokers
from tools.chaos.listener import Listener, digest
from tools.chaos.programs import ChaosError, Child, Trap, be_ours, prepare
from tools.chaos.proxy import Proxy

Setup = dict[str, Any]

SMALL: Setup = {
    "run.rounds": 10,
    "data.name": "digits",
    "data.test": 500,
    "model.name": "mlp",
    "agents.n": 32,
    "agents.malicious": 0.125,
    "agents.samples": 20,
    "agents.processes": 1,
    "collect.agents": 32,
    "agents.start": 3,
    "training.batch_size": 10,
    "training.learning_rate": 0.2,
    "training.epochs": 1,
    "training.momentum": 0.0,
    "aggregation.rule": "mean",
    "aggregation.clip": 1.0,
    "aggregation.server_lr": 3.0,
    "collect.seconds": 30.0,
    "collect.patience": 30.0,
    "collect.wait": False,
    "validation.validators": 0,
    "detection.detectors": [],
}
PLAIN = SMALL | {
    "validation.validators": 5,
    "validation.quorum": 3,
    "validation.look_back": 10,
    "validation.minimum_history": 4,
    "validation.seconds": 30.0,
}
"""Validators vote; all models of the run stay on disk."""
PIGGY_BACK = SMALL | {
    "validation.piggy_back": True,
    "validation.quorum": 20,
    "validation.look_back": 10,
    "validation.minimum_history": 4,
}
"""Contributors judge the candidate of the round before."""
ON_GROUPS = PLAIN | {
    "groups.size": 4,
    "validation.on": "both",
    "validation.judge": "robust",
}
"""Validators vote on eight groups of four, and on what is made of those that are left."""
SECURE = SMALL | {
    "groups.size": 8,
    "groups.secure": True,
    "groups.by_seed": True,
    "groups.colluding": 0.2,
    "groups.drop_outs": 0.25,
    "groups.seconds": 1.5,
    "collect.seconds": 4.0,
    "collect.min_updates": 5,
    "aggregation.clip": 0.0,
    "aggregation.server_lr": 1.0,
    "validation.look_back": 10,
    "validation.validators": 8,
    "validation.decide": "pooled",
    "validation.judge": "robust",
    "validation.minimum_history": 3,
    "validation.seconds": 4.0,
}
"""Updates are summed under masks, in four groups of eight, and so is what validators count."""
DETECTION = SMALL | {
    "detection.detectors": ["fixed_point"],
    "detection.quarantine": True,
    "aggregation.clip": 0.0,
    "validation.look_back": 10,
}
"""Suspects are left out, and what is known of agents has to survive too."""

OPEN = ("attempt", "absent", "cells", "run", "traffic", "timing", "left", "truth")
"""What may differ in a record, whatever happened: when, how often and at what cost."""


def differing(mine: RoundRecord, theirs: RoundRecord) -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields of two records in which they must not differ and do, with both values."""
    for field in fields(RoundRecord):
        message, right = getattr(mine, field.name), getattr(theirs, field.name)
        if field.name == "votes":
            message, right = (replace(votes, voters={}, replaced=()) for votes in (message, right))
        if field.name == "groups" and message is not None and right is not None:
            message, right = (replace(groups, voters={}) for groups in (message, right))
        if field.name not in OPEN and message != right:
            yield field.name, message, right


OVER = "rounds already"
"""What an aggregator says that is started after the end of its run."""
SHARDS = 2
GOODBYE = 10.0
"""Seconds that agents have to end once the aggregator has."""
BOUND = 60.0
"""Seconds after which a run that still goes on has not survived."""


class Result(NamedTuple):
    """What became of a run."""

    code: int | None
    """Of the aggregator that ran last; None if it had to be ended."""
    agents: tuple[int | None, ...]
    """Exit codes of those that were to see the end."""
    records: list[RoundRecord]
    stored: dict[int, str]
    """Version -> the model on disk."""
    published: dict[int, set[str]]
    """Version -> all that was heard of it."""
    last_words: str
    settings: Settings
    wrong_sums: str = ""
    """What must never be under secure aggregation, and was heard."""

    @property
    def survived(self) -> bool:
        """Whether it came to its end by itself, with all rounds done, and the agents too."""
        rounds = [r.round for r in self.records]
        done = rounds == list(range(1, self.settings.run.rounds + 1))
        # What is started again after a kill in its very last moment has nothing left to do.
        over = self.code == 0 or (self.code == 2 and OVER in self.last_words)
        return done and over and not any(code != 0 for code in self.agents)

    @property
    def lost(self) -> int:
        """Answers that were asked for and did not come, and what the broker dropped."""
        silent = sum(r.votes.silent for r in self.records)
        if self.settings.validation.piggy_back:
            silent = 0  # there an answer is both, and counted as missing
        silent += sum(
            group.silent for r in self.records if r.groups for group in r.groups.groups.values()
        )
        return silent + sum(r.missing + (r.traffic.dropped or 0) for r in self.records)

    def against(self, quiet: Result) -> str:
        """Say what differs from an undisturbed run; empty if every accepted model is the same."""
        if len(self.records) != len(quiet.records):
            return f"{len(self.records)} rounds are recorded, not {len(quiet.records)}"
        for mine, theirs in zip(self.records, quiet.records, strict=True):
            for key, message, right in differing(mine, theirs):
                return f"round {mine.round}: {key} is {message}, not {right}"
        if self.stored != quiet.stored:
            return "the models on disk differ"
        for version, heard in self.published.items():
            if heard != {quiet.stored.get(version, "")}:
                return f"version {version} was published with other weights"
        return ""


def stored_in(folder: Path) -> dict[int, str]:
    """Return what the models in a run's folder are, by version."""
    files = sorted((folder / "models").glob("*.safetensors"))
    return {int(file.stem): digest(load_file(file)["weights"]) for file in files}


class Federation:
    """One run: an aggregator and agents that can be started, killed and waited for."""

    def __init__(
        self, settings: Settings, logs: Path, proxies: dict[str, Proxy], ports: Sequence[int] = ()
    ) -> None:
        """``proxies``: through which "aggregator" and "agents" go to the broker, if they do.

        ``ports``: of the brokers that the shards of agents are to be at, where they have their own.
        """
        self.settings = settings
        self.proxies = proxies
        self._ports = ports
        self.folder = Path(settings.run.directory) / settings.run.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self.children: list[Child] = []
        self.listener = Listener(settings)
        self.aggregator: Child
        self.agents: list[Child] = []
        self.workers: list[Child] = []
        """Of the cells, where these keep their updates."""

    def start(self, *failpoints: Trap, pace: float = 0.0) -> Federation:
        """Start everything; the traps are for the aggregator.

        ``pace``: seconds that agents take more to train, where rounds would be over too soon.
        """
        self.serve(*failpoints)
        self.workers = [self.ingest(cell) for cell in range(1, self.settings.cells.count + 1)]
        slow: list[Trap] = [("slow", pace)] if pace else []
        self.agents = [self.join(shard, *slow) for shard in range(1, SHARDS + 1)]
        return self

    def serve(self, *failpoints: Trap) -> Child:
        """Start the aggregator, or start it again."""
        flags = [*self._settings("aggregator"), "--no-report"]
        self.aggregator = self.begin("aggregator", flags, "aggregator", failpoints)
        return self.aggregator

    def move(self, directory: Path, *, copied: bool = True) -> None:
        """Have the next aggregator use a copy of the run's folder, or an empty one, elsewhere.

        It reaches the broker, whatever becomes of the network of the one before.
        """
        folder = directory / self.settings.run.name
        if copied:
            shutil.copytree(self.folder, folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        run = self.settings.run.replaced(directory=str(directory))
        self.settings = self.settings.replaced(run=run)
        self.proxies = {name: it for name, it in self.proxies.items() if name != "aggregator"}

    def join(self, shard: int, *failpoints: Trap) -> Child:
        """Start the agents of one of the shards."""
        flags = [*self._settings("agents", shard), "--shard", f"{shard}/{SHARDS}"]
        return self.begin("agents", flags, f"agents-{shard}", failpoints)

    def ingest(self, cell: int) -> Child:
        """Start the ingest worker of a cell."""
        broker = f"{self.settings.broker.host}:{self._ports[cell - 1]}"
        flags = ["--cell", f"{cell}", "--broker", broker, "--run", self.settings.run.name]
        return self.begin("ingest", flags, f"ingest-{cell}")

    def begin(
        self, program: str, arguments: list[str], name: str, failpoints: Sequence[Trap] = ()
    ) -> Child:
        """Start a program of ``tools.chaos.loaded``, which ends with the federation."""
        log = self._logs / f"{self.settings.run.name}-{name}.log"
        self.children.append(Child(log, be_ours, program, arguments, failpoints))
        return self.children[-1]

    def _settings(self, program: str, shard: int = 0) -> list[str]:
        """Write the settings of one of the programs; returns its flags."""
        file, broker = self.folder / f"settings-{program}-{shard}.toml", self.settings.broker
        if program in self.proxies:
            broker = broker.replaced(port=self.proxies[program].port)
        if shard and self._ports:
            broker = broker.replaced(port=self._ports[shard - 1])
        file.write_text(to_toml(self.settings.replaced(broker=broker)), encoding="utf-8")
        return ["--config", str(file)]

    def records(self) -> list[RoundRecord]:
        """Return the rounds that are recorded so far."""
        with suppress(OSError):
            return read_records(self.folder)
        return []

    def until(self, condition: Callable[[], object]) -> bool:
        """Wait until something holds; False if it never did, or the aggregator ended before."""
        until = time.monotonic() + BOUND
        while not condition():
            if time.monotonic() > until or self.aggregator.code is not None:
                return bool(condition())
            time.sleep(0.003)
        return True

    def reach(self, number: int) -> bool:
        """Wait until so many rounds are recorded."""
        return self.until(lambda: len(self.records()) >= number)

    def train(self, number: int) -> bool:
        """Wait for a round after so many: then all are called and, at their pace, at work."""
        there = self.reach(number)
        return there and self.until(lambda: self.listener.round > len(self.records()))

    def finish(self, seconds: float = BOUND) -> Result:
        """Wait for the end of the run, and say what became of it."""
        code = self.aggregator.wait(seconds)
        # Of an end that came by itself the agents have heard too.
        patience = 0.0 if code is None or code < 0 else GOODBYE
        codes = tuple(agents.wait(patience) for agents in self.agents)
        records, stored, heard = self.records(), self.stored(), dict(self.listener.models)
        words = self.aggregator.last_words()
        sums = self.listener.sums.wrong()
        if self.settings.groups.secure and not self.listener.sums.sums:
            sums = "no sum was heard of"
        return Result(code, codes, records, stored, heard, words, self.settings, sums)

    def stored(self) -> dict[int, str]:
        """Return what the models on disk are, by version."""
        return stored_in(self.folder)

    def close(self) -> None:
        """End what still runs."""
        self.listener.close()
        for child in self.children:
            child.kill_all()


class Harness:
    """Where federations are made: a folder, the parent of all programs, a broker."""

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        self.say = say
        self.folder = Path(tempfile.mkdtemp(prefix="fedjury-chaos-"))
        self.folder.chmod(0o755)  # root's broker becomes another user
        self._numbers = itertools.count(1)
        self._quiet: dict[str, Result] = {}
        prepare()
        self.broker = Broker(self.folder / "broker")
        self._cells: dict[bool, CellBrokers] = {}
        self._keep = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything and leave nothing behind."""
        for made in self._cells.values():
            made.close()
        self.broker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def dropped(self) -> int:
        """Say how many messages brokers have thrown away in all."""
        return self.broker.dropped() + sum(made.dropped() for made in self._cells.values())

    @property
    def cells(self) -> CellBrokers:
        """The brokers of cells, one for each shard of agents; the core's is our own.

        Those of cells that keep their updates, if the last run was one of such.
        """
        if self._keep not in self._cells:
            folder = self.folder / ("keeping" if self._keep else "cells")
            self._cells[self._keep] = CellBrokers(folder, self.broker.port, SHARDS, keep=self._keep)
        return self._cells[self._keep]

    @contextmanager
    def federation(
        self, setup: Setup = PLAIN, *, proxied: bool = False, cells: bool = False
    ) -> Iterator[Federation]:
        """Make a run of its own name.

        ``proxied``: through a proxy for each side; ``cells``: each shard of agents in a cell.
        """
        own = {"run.name": f"chaos-{next(self._numbers)}", "broker.port": self.broker.port}
        kept = {
            "run.directory": str(self.folder / "runs"),
            "agents.state": str(self.folder / "kept"),
        }
        settings = load(overrides=kept | setup | own)
        with ExitStack() as stack:
            names = ("aggregator", "agents") if proxied else ()
            proxies = {
                name: stack.enter_context(closing(Proxy(self.broker.port))) for name in names
            }
            self._keep = cells and settings.cells.count > 0
            ports = self.cells.ports if cells else ()
            result = Federation(settings, self.folder, proxies, ports)
            stack.callback(shutil.rmtree, result.folder, ignore_errors=True)
            stack.callback(result.close)
            yield result

    def quiet(self, setup: Setup = PLAIN) -> Result:
        """Return what becomes of a run that nobody disturbs; made once for each setup."""
        key = json.dumps(setup, sort_keys=True)
        if key not in self._quiet:
            with self.federation(setup, cells=bool(setup.get("cells.count"))) as built:
                result = built.start().finish()
            if not result.survived:
                raise ChaosError(f"even an undisturbed run fails: {result.last_words}")
            self._quiet[key] = result
        return self._quiet[key]
