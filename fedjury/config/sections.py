"""The sections of the settings: frozen records, one for each table of the TOML file.

What each setting means is written once, in ``default.toml``; a test holds the two together.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

WHO = ("clients", "server", "both")
DECIDE = ("count", "score")


class SettingsError(ValueError):
    """A setting that cannot be: names the key, what is allowed, and the nearest right name."""


def _setting(default: T, low: float = -math.inf, high: float = math.inf) -> T:
    """Declare a setting with the numbers it may be; both ends are allowed."""
    value: T = field(default=default, metadata={"low": low, "high": high})
    return value


@dataclass(frozen=True)
class Run:
    """The run as a whole."""

    name: str = "fedjury"
    seed: int = _setting(0, 0, 2**63 - 1)
    rounds: int = _setting(30, 1, 10**9)
    directory: str = "runs"


@dataclass(frozen=True)
class Broker:
    """Where the broker is and who we are to it."""

    host: str = "127.0.0.1"
    port: int = _setting(1883, 1, 65535)
    username: str = ""
    password: str = field(default="", repr=False)
    secrets: str = ""
    ca: str = ""
    keepalive: int = _setting(60, 2, 3600)
    forget: bool = False


@dataclass(frozen=True)
class Model:
    """The network and its first weights."""

    name: str = "mlp"
    init: str = ""


@dataclass(frozen=True)
class Data:
    """The data set."""

    name: str = "mnist5k"
    root: str = "data"
    test: int = _setting(1000, 1)
    server: float = _setting(0.0, 0, 0.9)


@dataclass(frozen=True)
class Training:
    """How an agent trains between two rounds."""

    epochs: int = _setting(3, 1)
    batch_size: int = _setting(4, 1)
    learning_rate: float = _setting(0.1, 0)
    momentum: float = _setting(0.5, 0, 0.9999)


@dataclass(frozen=True)
class Aggregation:
    """How the updates of a round become one."""

    rule: str = "clipped_mean"
    clip: float = _setting(0.0, 0)
    before: dict[str, Any] = field(default_factory=dict)
    server_lr: float = _setting(1.5, 0)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """Who is called to contribute."""

    share: float = _setting(1.0, 1e-9, 1)
    newcomers: int = _setting(0, 0)


@dataclass(frozen=True)
class Collect:
    """When a round has enough updates."""

    agents: int = _setting(0, 0)
    patience: float = _setting(120.0, 0)
    settle: float = _setting(4.0, 0.1)
    threshold: int = _setting(0, 0)
    at_least: int = _setting(1, 1)
    seconds: float = _setting(60.0, 0.01)
    attempts: int = _setting(5, 1)


@dataclass(frozen=True)
class Validation:
    """Who votes on a candidate, and how."""

    who: str = "clients"
    validators: int = _setting(40, 0)
    quorum: int = _setting(0, 0)
    min_votes: int = _setting(0, 0)
    decide: str = "count"
    liars: int = _setting(0, 0)
    errs: float = _setting(0.4, 0, 1)
    false_alarm: float = _setting(0.02, 1e-9, 0.5)
    piggy_back: bool = False
    judge: str = "lof"
    options: dict[str, Any] = field(default_factory=dict)
    look_back: int = _setting(10, 2)
    minimum_history: int = _setting(0, 0)
    warm_up: int = _setting(0, 0)
    seconds: float = _setting(30.0, 0.01)

    @property
    def history(self) -> int:
        """Accepted models a judge needs before it judges."""
        return self.minimum_history or self.look_back + 1

    @property
    def asked(self) -> int:
        """Agents who vote on each candidate."""
        return 0 if self.who == "server" else self.validators

    @property
    def server(self) -> bool:
        """Whether the aggregator votes too."""
        return self.who != "clients"

    @property
    def voters(self) -> int:
        """Who votes on each candidate, the server among them; unknown (0) with piggy-back."""
        return 0 if self.piggy_back else self.asked + self.server

    @property
    def needed(self) -> int:
        """How many "poisoned" votes reject; 0: half of them, however many there are.

        Where the server judges alone, its own does.
        """
        return 1 if self.who == "server" else self.quorum or (self.voters + 1) // 2


@dataclass(frozen=True)
class Detection:
    """How fakes are looked for, and what becomes of them."""

    detectors: list[str] = field(default_factory=lambda: ["fixed_point", "length"])
    options: dict[str, Any] = field(default_factory=dict)
    quarantine: bool = True
    strikes: int = _setting(2, 1)
    appeal: int = _setting(10, 1)
    appeals: int = _setting(3, 0)


@dataclass(frozen=True)
class Limits:
    """What is let in."""

    finite: bool = True
    samples: int = _setting(1000, 1)
    agents: int = _setting(100_000, 1)
    bytes: int = _setting(32_000_000, 1000)


@dataclass(frozen=True)
class Wire:
    """How vectors travel."""

    codec: str = "float32"
    history: str = "int7+zstd"


@dataclass(frozen=True)
class Agents:
    """The fleet."""

    n: int = _setting(1000, 1, 1_000_000)
    evil: float = _setting(0.2, 0, 1)
    attack: str = "mpaf"
    options: dict[str, Any] = field(default_factory=dict)
    scale: float = 1e6
    start: int = _setting(1, 1)
    arrive: int = _setting(1, 1)
    liars: str = "always_accept"
    lying: float = _setting(0.0, 0, 1)
    remember: bool = True
    samples: int = _setting(0, 0)
    split: str = "iid"
    alpha: float = _setting(0.9, 1e-9)
    degree: float = _setting(0.5, 0, 1)
    processes: int = _setting(0, 0, 1024)
    shard: str = "1/1"
    shared_downlink: bool = False
    diary: str = ""

    @property
    def prompt(self) -> int:
        """Agents that are there from the beginning."""
        return self.n - round(self.n * self.evil) if self.arrive > 1 else self.n

    @property
    def part(self) -> tuple[int, int]:
        """The shard as (i, k), counted from 1; where replicas share it out, the whole."""
        i, _, k = ("1/1" if self.common else self.shard).partition("/")
        return int(i), int(k)

    @property
    def common(self) -> str:
        """The folder in which replicas share the fleet out among themselves; empty: they do not."""
        return self.shard.removeprefix("auto:") if self.shard.startswith("auto:") else ""


@dataclass(frozen=True)
class Backdoor:
    """What the attacks "backdoor" and "adaptive" hide in the model, and when."""

    task: str = "label_flip"
    inject: list[int] = field(default_factory=list)
    planted: bool = True
    source: int = _setting(-1, -1)
    target: int = _setting(-1, -1)
    train: list[int] = field(default_factory=list)
    test: list[int] = field(default_factory=list)
    boost: float = _setting(0.0, 0)
    share: float = _setting(0.3, 0.01, 1)
    epochs: int = _setting(6, 1)
    learning_rate: float = _setting(0.05, 0)
    alpha: float = _setting(1.0, 0, 1)
    judged_clean: bool = False


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    run: Run = Run()
    broker: Broker = Broker()
    model: Model = Model()
    data: Data = Data()
    training: Training = Training()
    aggregation: Aggregation = Aggregation()
    sampling: Sampling = Sampling()
    collect: Collect = Collect()
    validation: Validation = Validation()
    detection: Detection = Detection()
    limits: Limits = Limits()
    wire: Wire = Wire()
    agents: Agents = Agents()
    backdoor: Backdoor = Backdoor()

    @property
    def expected(self) -> int:
        """Agents to wait for before the first round."""
        return self.collect.agents or self.agents.prompt

    def __post_init__(self) -> None:
        """Check what no section can check alone."""
        votes = self.validation
        _must(
            re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.run.name),
            "run.name",
            self.run.name,
            "1 to 64 of A-Z a-z 0-9 _ -",
        )
        _must(votes.who in WHO, "validation.who", votes.who, " or ".join(WHO))
        _must(votes.decide in DECIDE, "validation.decide", votes.decide, " or ".join(DECIDE))
        voters = votes.validators + (votes.who == "both")
        free = votes.who == "server" or not votes.validators
        _must(
            free or votes.quorum <= voters,
            "validation.quorum",
            votes.quorum,
            f"0 to the number of voters ({voters})",
        )
        _must(
            free or votes.min_votes <= voters,
            "validation.min_votes",
            votes.min_votes,
            f"0 to the number of voters ({voters})",
        )
        enough = votes.decide == "count" or votes.piggy_back or 2 * votes.liars < max(voters, 1)
        _must(
            enough,
            "validation.liars",
            votes.liars,
            f"less than half of the voters ({voters}) where scores decide",
        )
        _must(
            votes.who != "both" or votes.validators,
            "validation.validators",
            votes.validators,
            "1 or more where both the server and clients judge",
        )
        watch = self.detection
        odd = [name for name, item in watch.options.items() if not isinstance(item, dict)]
        _must(
            not odd,
            "detection.options",
            watch.options,
            "a table for each detector, like { fixed_point = { crowd = 5 } }",
        )
        _must(
            self.aggregation.rule != "fltrust" or self.data.server,
            "data.server",
            self.data.server,
            "above 0 with the rule fltrust, which trusts it",
        )
        _must(
            votes.who == "clients" or self.data.server,
            "data.server",
            self.data.server,
            f"above 0 where validation.who is {votes.who!r}, to judge with",
        )
        _must(
            not votes.piggy_back or votes.who == "clients",
            "validation.who",
            votes.who,
            "clients, for with piggy_back the contributors are the validators",
        )
        called = max(1, round(self.sampling.share * self.expected))
        _must(
            not votes.piggy_back or votes.quorum <= called,
            "validation.quorum",
            votes.quorum,
            f"0 to the contributors ({called}) with piggy_back",
        )
        _must(
            votes.minimum_history == 0 or 3 <= votes.minimum_history <= votes.look_back + 1,
            "validation.minimum_history",
            votes.minimum_history,
            f"0, or 3 to validation.look_back + 1 ({votes.look_back + 1})",
        )
        _must(
            self.agents.prompt,
            "agents.arrive",
            self.agents.arrive,
            "1 where all agents are evil, for somebody has to be there",
        )
        shard = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})|auto:.+", self.agents.shard)
        _must(
            shard and (not shard[1] or int(shard[1]) <= int(shard[2])),
            "agents.shard",
            self.agents.shard,
            "i/k with 1 <= i <= k, like 2/4, or auto:FOLDER",
        )


def _must(right: object, key: str, value: object, allowed: str) -> None:
    if not right:
        raise SettingsError(f"{key} = {value!r} must be {allowed}")
