"""The sections that say what happens in a round, from selection to the verdict."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from fedjury.config.section import Flag, Options, Section, SettingsError, Text, in_utf8, must

NO_SCORES = (
    "validation.decide = 'score' is no more, as it rejected good candidates up to six times as "
    "often as it was set to; take 'pooled', which judges the error counts of all validators "
    "together"
)
"""What is said where votes' scores are to be added up, as they were before."""


class Aggregation(Section):
    """How the updates of a round become one."""

    rule: Annotated[Text, Flag("--rule", "NAME")] = Field(
        "clipped_mean",
        description="how updates become one: {rule}",
    )
    clip: Annotated[float, Flag("--clip")] = Field(
        0.0,
        ge=0,
        description="longest update that is left as it is (L2 norm); longer ones are scaled down; "
        "0: off",
    )
    pre_aggregation: Annotated[Options, Flag("--pre-aggregation")] = Field(
        {},
        description="steps before the rule, after clip, in this order: clip, bucketing, nnm; "
        "{ nnm = 200 }",
        examples=["{ bucketing = 2, nnm = 20 }"],
    )
    server_lr: float = Field(1.5, ge=0, description="step along the aggregated update")
    options: Options = Field(
        {},
        description="of the rule: { weighted = true } (mean), { count = 200 } or { share = 0.2 } "
        "(trimmed_mean)",
        examples=["{ share = 0.2 }"],
    )
    partitions: int = Field(
        1,
        ge=1,
        le=1024,
        description="parts that the columns of a round's updates are cut into for the rule, a "
        "power of two; sums are added part by part, so a last digit may depend on it",
    )

    @field_validator("partitions")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        fits = value & (value - 1) == 0
        must(fits, "aggregation.partitions", value, "a power of two, like 1, 4 or 16")
        return value


class Sampling(Section):
    """Which agents are selected to contribute."""

    client_fraction: Annotated[float, Flag("--client-fraction")] = Field(
        1.0, ge=1e-9, le=1, description="share of the agents selected in each round"
    )
    most: int = Field(0, ge=0, description="agents selected in a round at the most; 0: no limit")
    newcomers: int = Field(
        0, ge=0, description="agents admitted in a round once the run has begun; 0: no limit"
    )
    names: int = Field(
        200,
        ge=0,
        description="agents that a round calls by their names at the most; more are called by a "
        "number and a share, with names for exceptions; 0: always by their names",
    )
    by_seed: bool = Field(
        False,
        description="numbers that call agents are made from run.seed, so that runs can be "
        "compared; false: from a key that the aggregator keeps to itself",
    )


class Collect(Section):
    """How updates come together, and when a round has enough of them."""

    strategy: Text = Field("synchronous", description="how updates come together: {collect}")
    options: Options = Field({}, description="of the strategy", examples=["{ settle_seconds = 5 }"])
    agents: int = Field(
        0,
        ge=0,
        description="agents to wait for before the first round; 0: until no new ones come (python "
        "run.py knows how many it starts)",
    )
    patience: float = Field(
        120.0,
        ge=0,
        description="seconds to wait for them; then the run starts with those that are there",
    )
    settle: float = Field(
        4.0,
        ge=0.1,
        description="seconds without a new agent after which the run starts, if agents is 0",
    )
    threshold: Annotated[int, Flag("--threshold")] = Field(
        0, ge=0, description="updates that close a round; 0: as many as agents were selected"
    )
    min_updates: int = Field(
        1, ge=1, description="fewest updates; with fewer the round is repeated"
    )
    seconds: float = Field(60.0, ge=0.01, description="longest time for the updates of a round")
    attempts: int = Field(
        5, ge=1, description="attempts at a round before the run is given up, unless wait is true"
    )
    wait: bool = Field(
        True,
        description="the run waits for its agents as long as it takes: for the first ones, and "
        "between rounds for min_updates of them; it is never given up",
    )
    missed: int = Field(
        3,
        ge=0,
        description="rounds in a row that an agent may leave unanswered before nobody waits for it "
        "any more; its answers still count; 0: it is always waited for",
    )
    every: Annotated[float, Flag("--every", "SECONDS")] = Field(
        0.0, ge=0, description="seconds from one round to the next at the least; 0: at once"
    )


class Validation(Section):
    """Who votes on a candidate, and how."""

    judged_by: Annotated[Literal["clients", "server", "both"], Flag("--judged-by")] = Field(
        "clients", description="judges of a candidate: clients, server (with data.server), both"
    )
    validators: Annotated[int, Flag("--validators")] = Field(
        40, ge=0, description="agents that vote on each candidate, drawn at random; 0: none"
    )
    quorum: Annotated[int, Flag("--quorum")] = Field(
        0,
        ge=0,
        description='"poisoned" votes that reject a candidate; 0: half of the validators '
        "(judged_by server: its own vote)",
    )
    min_votes: int = Field(
        0,
        ge=0,
        description="fewest votes; with fewer, other validators are asked once, then the "
        "candidate is rejected; 0: more than half of the validators",
    )
    on: Annotated[Literal["candidate", "groups", "both"], Flag("--vote-on")] = Field(
        "candidate",
        description="what is voted on: the candidate, the groups (those voted down are left out), "
        "or both, one after the other",
    )
    groups_each: int = Field(
        0, ge=0, description="groups that each validator judges; 0: all of them"
    )
    decide: Literal["count", "pooled"] = Field(
        "count",
        description="what decides: count (votes against the quorum), pooled (the judge, asked once "
        "about the error counts of all validators, which votes then carry)",
    )
    tolerated_malicious: int = Field(
        0,
        ge=0,
        description="malicious validators to withstand; pooled leaves out as many of each count "
        "at each end",
    )
    errs: float = Field(
        0.4,
        ge=0,
        le=1,
        description="share of honest validators expected to judge wrongly (BAFFLE's rho)",
    )
    piggy_back: bool = Field(
        False,
        description="contributors judge the candidate that they train from, which saves a message",
    )
    judge: Annotated[Text, Flag("--judge", "NAME")] = Field(
        "lof",
        description="how an honest validator decides: {judge}",
    )
    options: Options = Field(
        {},
        description='of the judge: { reading = "B" } (lof), { false_alarm = 0.05 } (calibrated)',
        examples=["{ false_alarm = 0.05 }"],
    )
    group_judge: Text = Field(
        "",
        description="how a validator decides on groups: {group_judge}; empty: as on candidates, "
        "with accepted groups in the place of accepted models",
    )
    look_back: Annotated[int, Flag("--look-back")] = Field(
        10, ge=2, description="l: a judge sees the last l + 1 accepted models"
    )
    minimum_history: int = Field(
        0,
        ge=0,
        description='accepted models that a judge needs; with fewer it says "clean"; 0: l + 1',
    )
    warm_up: int = Field(0, ge=0, description="rounds before the first vote")
    seconds: float = Field(30.0, ge=0.01, description="longest time for the votes of a round")

    @field_validator("decide", mode="before")
    @classmethod
    def _scores_are_no_longer_added_up(cls, value: object) -> object:
        if value == "score":
            raise SettingsError(NO_SCORES)
        return value

    @property
    def history(self) -> int:
        """Accepted models a judge needs before it judges."""
        return self.minimum_history or self.look_back + 1

    @property
    def asked(self) -> int:
        """Agents who vote on each candidate."""
        return 0 if self.judged_by == "server" else self.validators

    @property
    def server(self) -> bool:
        """Whether the aggregator votes too."""
        return self.judged_by != "clients"

    @property
    def voters(self) -> int:
        """Voters on each candidate, the server among them; unknown (0) with piggy-back."""
        return 0 if self.piggy_back else self.asked + self.server

    def rejects(self, asked: int) -> int:
        """Return how many "poisoned" votes of ``asked`` voters reject: unless set, half of them.

        Half of ten is BAFFLE's own q = 5. Where only the server judges, its vote decides.
        """
        wanted = 1 if self.judged_by == "server" else self.quorum
        return min(wanted or (asked + 1) // 2, asked)

    @property
    def on_groups(self) -> bool:
        """Whether validators judge groups."""
        return self.on != "candidate"

    @property
    def needed(self) -> int:
        """How many "poisoned" votes reject; 0: half of them, however many there are."""
        return self.rejects(self.voters) if self.voters else self.quorum

    def fitted(self, agents: int) -> Validation:
        """Return the same with no more validators than agents, and no more votes than these cast.

        Only what nobody gave is made smaller.

        Raises
        ------
        SettingsError
            If more votes were asked for than can be cast.
        """
        given, voters = self.model_fields_set, agents + self.server
        votes = {
            key: min(getattr(self, key), voters)
            for key in ("quorum", "min_votes")
            if key not in given
        }
        return self.replaced(validators=agents, **votes).given_as(given)

    @model_validator(mode="after")
    def _voters_can_cast_the_votes(self) -> Self:
        voters = self.asked + self.server
        for key in ("quorum", "min_votes") if self.asked else ():
            value = getattr(self, key)
            allowed = f"0 to the number of voters ({voters})"
            must(value <= voters, f"validation.{key}", value, allowed)
        return self

    def check_contributors(self, most: int) -> None:
        """Refuse a quorum that so many contributors cannot reach, where they are the voters."""
        allowed = f"0 to the contributors ({most}) with piggy_back"
        must(not self.piggy_back or self.quorum <= most, "validation.quorum", self.quorum, allowed)

    @model_validator(mode="after")
    def _most_voters_are_honest_where_counts_are_pooled(self) -> Self:
        voters = self.validators + (self.judged_by == "both")
        enough = (
            self.decide == "count"
            or self.piggy_back
            or 2 * self.tolerated_malicious < max(voters, 1)
        )
        allowed = f"less than half of the voters ({voters}) with decide pooled"
        must(enough, "validation.tolerated_malicious", self.tolerated_malicious, allowed)
        return self

    @model_validator(mode="after")
    def _those_who_judge_are_there(self) -> Self:
        both = self.judged_by != "both" or self.validators
        allowed = "1 or more where both the server and clients judge"
        must(both, "validation.validators", self.validators, allowed)
        alone = not self.piggy_back or self.judged_by == "clients"
        allowed = "clients, for with piggy_back the contributors are the validators"
        must(alone, "validation.judged_by", self.judged_by, allowed)
        return self

    @model_validator(mode="after")
    def _groups_are_judged_by_agents(self) -> Self:
        for key, right, allowed in (
            ("piggy_back", not self.piggy_back, "false: groups are judged before they are one"),
            ("judged_by", self.judged_by == "clients", "clients"),
            ("decide", self.decide == "count", "count: the error counts of groups are not sent"),
            ("validators", self.validators > 0, "1 or more"),
        ):
            fits = right or not self.on_groups
            must(fits, f"validation.{key}", getattr(self, key), f"{allowed} (validation.on)")
        return self

    @model_validator(mode="after")
    def _a_judge_sees_the_history_it_needs(self) -> Self:
        most = self.look_back + 1
        fits = self.minimum_history == 0 or 3 <= self.minimum_history <= most
        allowed = f"0, or 3 to validation.look_back + 1 ({most})"
        must(fits, "validation.minimum_history", self.minimum_history, allowed)
        return self


class Evaluation(Section):
    """How the agents measure a candidate on their own data (federated evaluation)."""

    fraction: Annotated[float, Flag("--evaluators", "SHARE")] = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the agents that measure each candidate on their own data; 0: none",
    )
    by_agent: bool = Field(
        False, description="records say what each agent trained on and measured, by name"
    )
    best: Text = Field(
        "",
        description="metric by which the best model of the run is kept, in best.safetensors; "
        "empty: none",
    )
    best_is: Literal["highest", "lowest"] = Field(
        "highest", description="whether a high value of that metric is good, or a low one"
    )


class Detection(Section):
    """How malicious agents are detected, and what happens to them."""

    detectors: Annotated[list[Text], Flag("--detect")] = Field(
        ["fixed_point", "length"],
        description="detectors: {detector}",
        examples=['["fixed_point"]'],
    )
    options: Annotated[dict[str, dict[str, object]], AfterValidator(in_utf8)] = Field(
        {},
        description="of the detectors, a table each: { fixed_point = { crowd = 5 } }",
        examples=["{ fixed_point = { crowd = 5 } }"],
    )
    quarantine: Annotated[bool, Flag("--quarantine")] = Field(
        True,
        description="updates of flagged agents are filtered; after some offences they are not "
        "selected",
    )
    offences: int = Field(
        2,
        ge=1,
        description="rounds flagged that lead to quarantine; a round without takes one back",
    )
    readmission_after: int = Field(
        10, ge=1, description="rounds after which an agent in quarantine is selected once more"
    )
    readmissions: int = Field(
        3,
        ge=0,
        description="failed readmissions after which it stays out permanently; 0: never",
    )


class Limits(Section):
    """Limits on what arrives."""

    finite: bool = Field(
        True,
        description="updates with inf or NaN are invalid, and candidates with such outputs are "
        "rejected; false accepts them, to watch an undefended run overflow",
    )
    samples: int = Field(
        1000, ge=1, description="cap on the number of samples that an agent reports"
    )
    agents: int = Field(
        100_000,
        ge=1,
        description="agents that may be online at once; presence of more is invalid",
    )
    size: int = Field(
        32_000_000,
        ge=1000,
        description="longest payload that is read, in bytes: 8 million float32 parameters",
    )
