"""The sections that say what the agents are and do: agents, training, backdoor."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedjury.config.section import Flag, Names, Numbers, Options, Section, Text, must
from fedjury.config.sizes import Sizes, sizes_of


class Training(Section):
    """How an agent trains between two rounds."""

    epochs: int = Field(3, ge=1, description="passes over an agent's own data in a round")
    batch_size: int = Field(4, ge=1, description="samples a step")
    learning_rate: float = Field(0.1, ge=0, description="of the agents' SGD")
    momentum: float = Field(0.5, ge=0, le=0.9999, description="of the agents' SGD, 0 to below 1")
    optimizer: Text = Field(
        "sgd",
        description="how agents step, fresh in each round: {optimizer}; another than sgd trains "
        "one agent after the other",
    )
    options: Options = Field(
        {},
        description="of the optimizer: { weight_decay = 0.01 }; also with them agents train one "
        "after the other",
        examples=["{ weight_decay = 0.01 }"],
    )
    loss: Text = Field(
        "",
        description="what agents train towards: {loss}; empty: cross_entropy of classes, mse of "
        "numbers",
    )
    loss_options: Options = Field(
        {}, description="of the loss: { delta = 2.0 } (huber)", examples=["{ delta = 2.0 }"]
    )
    metrics: Names = Field(
        [],
        description="how models are measured, besides by accuracy, or rmse and mae: {metric}",
        examples=['["balanced_accuracy", "f1"]'],
    )


class Agents(Section):
    """The agents: how many, who is malicious, which data they hold, where they run."""

    n: Annotated[int, Flag("--n")] = Field(
        1000, ge=1, le=1_000_000, description="agents in the federation"
    )
    malicious: Annotated[float, Flag("--evil")] = Field(
        0.2,
        ge=0,
        le=1,
        description="share of them that is malicious: exactly round(n * share) agents",
    )
    attack: Annotated[Text, Flag("--attack", "NAME")] = Field(
        "mpaf",
        description="what malicious agents send, see docs/attacks.md: {attack}",
    )
    options: Options = Field(
        {},
        description="of the attack: { factor = 2.0 } (sign_flip), { z = 1.5 } (alie), ...",
        examples=["{ z = 1.5 }"],
    )
    scale: Annotated[float, Flag("--scale")] = Field(
        1e6, description="lambda, the scaling of mpaf, random and history"
    )
    start: Annotated[int, Flag("--start")] = Field(
        1,
        ge=1,
        description="first round in which malicious agents attack; before it fakes send zeros, "
        "others train honestly",
    )
    arrive: Annotated[int, Flag("--arrive")] = Field(
        1,
        ge=1,
        description="above 1: the malicious agents all connect in this round, and are selected "
        "from the next on",
    )
    vote_attack: Annotated[Text, Flag("--vote-attack", "NAME")] = Field(
        "always_accept",
        description="how malicious agents vote: {vote_attack}",
    )
    malicious_validators: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of all agents that train honestly but vote as set by vote_attack; "
        "malicious agents always do",
    )
    remember: bool = Field(
        True, description="false: a validator fetches its whole look-back again for each vote"
    )
    samples: Annotated[int | Text, Flag("--samples", "N|SIZES")] = Field(
        0,
        description="samples of each agent with data; 0: the training set divided evenly; unequal "
        "numbers: lognormal(mean=4, sigma=1), dirichlet(mean=4, alpha=0.5), uniform(2, 6)",
    )
    claimed_samples: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="samples that malicious agents say they hold; 0: as many as they do",
    )
    repeats: bool = Field(
        True,
        description="false: it is an error if the training set has too few samples for all agents; "
        "true: some samples are dealt several times",
    )
    split: Annotated[Text, Flag("--split", "NAME")] = Field(
        "iid", description="how the data are partitioned: {split}"
    )
    alpha: Annotated[float, Flag("--alpha")] = Field(
        0.9, ge=1e-9, description="of dirichlet: the smaller, the fewer classes an agent has"
    )
    degree: Annotated[float, Flag("--degree")] = Field(
        0.5,
        ge=0,
        le=1,
        description="of groups: share of an agent's data that is its group's class",
    )
    processes: Annotated[int, Flag("--processes")] = Field(
        0, ge=0, le=1024, description="processes to spread the agents over; 0: one per core"
    )
    shard: Annotated[Text, Flag("--shard", "I/K")] = Field(
        "1/1",
        description="the part of the agents that runs here: i/k; auto:FOLDER: replicas that share "
        "this folder divide the agents among themselves",
    )
    devices: Annotated[Text, Flag("--devices", "NAME")] = Field(
        "",
        description="package.module:name of a function that makes fedjury.Device number i; the "
        "agents are these, and none is malicious",
    )
    attack_log: Text = Field(
        "", description="file to which attackers write when they attack, and how strongly"
    )
    state: Text = Field(
        "",
        description="folder in which agents remember, across restarts, which sums they have helped "
        "to open under secure aggregation; empty: only while they run",
    )
    shared_downlink: Annotated[bool, Flag("--shared-downlink")] = Field(
        False,
        description="a process receives the model once for all its agents, not once per agent",
    )

    @property
    def prompt(self) -> int:
        """Agents that are there from the beginning."""
        return self.n - round(self.n * self.malicious) if self.arrive > 1 else self.n

    @property
    def part(self) -> tuple[int, int]:
        """The shard as (i, k), counted from 1; the whole where replicas divide it."""
        i, _, k = ("1/1" if self.common else self.shard).partition("/")
        return int(i), int(k)

    @property
    def common(self) -> str:
        """The folder through which replicas divide the agents; empty: they do not."""
        return self.shard.removeprefix("auto:") if self.shard.startswith("auto:") else ""

    @property
    def sizes(self) -> Sizes:
        """How many samples each agent holds."""
        return sizes_of("agents.samples", self.samples)

    @field_validator("samples", mode="before")
    @classmethod
    def _are_sizes(cls, samples: object) -> object:
        sizes = sizes_of("agents.samples", samples)
        return sizes if isinstance(sizes, int) else samples

    @field_validator("shard")
    @classmethod
    def _is_a_part(cls, shard: str) -> str:
        match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})|auto:.+", shard)
        fits = match and (not match[1] or int(match[1]) <= int(match[2]))
        must(fits, "agents.shard", shard, "i/k with 1 <= i <= k, like 2/4, or auto:FOLDER")
        return shard

    @model_validator(mode="after")
    def _some_are_there(self) -> Self:
        allowed = "1 where all agents are malicious, as some must be there at the start"
        must(self.prompt, "agents.arrive", self.arrive, allowed)
        return self


class Backdoor(Section):
    """What the attacks "backdoor", "adaptive" and "evasive" hide in the model, and when."""

    task: Annotated[Text, Flag("--task", "NAME")] = Field(
        "label_flip",
        description="the backdoor: {backdoor}",
    )
    inject: Annotated[Numbers, Flag("--inject")] = Field(
        [],
        description="rounds in which the attackers inject it; in all others they train honestly",
        examples=["[30, 35, 40]"],
    )
    forced: bool = Field(
        True,
        description="all attackers are among the contributors of these rounds, whatever the draw",
    )
    source: int = Field(
        -1,
        ge=-1,
        description="label_flip: the class that is relabelled; -1: the one the attackers have "
        "most of",
    )
    target: int = Field(
        -1, ge=-1, description="the class it is labelled as; -1: drawn from the seed"
    )
    train: Numbers = Field(
        [],
        description="semantic: training samples that carry the backdoor; no other agent holds them",
        examples=["[30, 35, 40]"],
    )
    test: Numbers = Field(
        [],
        description="semantic: training samples its success is measured on; no agent holds them",
        examples=["[30, 35, 40]"],
    )
    boost: float = Field(
        0.0, ge=0, description="gamma; 0: whatever makes the candidate the attackers' model"
    )
    replaces: Literal["round", "group"] = Field(
        "round",
        description="whose mean becomes the attackers' model: the round's, or that of a group with "
        "one of them",
    )
    share: float = Field(
        0.3,
        ge=0.01,
        le=1,
        description="share of poisoned samples among those that the attackers train on",
    )
    epochs: int = Field(6, ge=1, description="passes over these samples")
    learning_rate: float = Field(0.05, ge=0, description="of the training on these samples")
    alpha: float = Field(
        1.0,
        ge=0,
        le=1,
        description="constrain-and-scale: weight of the loss, 1 - alpha that of the distance; "
        "1: off",
    )
    judged_clean: bool = Field(
        False,
        description="adaptive: it judges only on its clean data, not on the samples of the "
        "backdoor",
    )
