"""All settings of a run, and what no section can check alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Self

from pydantic import Field, model_validator

from fedjury.config.agent_sections import Agents, Backdoor, Training
from fedjury.config.group_sections import Groups as Groups  # noqa: PLC0414
from fedjury.config.group_sections import check_secure
from fedjury.config.privacy_sections import Privacy, check_privacy
from fedjury.config.round_sections import (
    Aggregation,
    Collect,
    Detection,
    Evaluation,
    Limits,
    Sampling,
    Validation,
)
from fedjury.config.run_sections import Broker, Cells, Data, Model, Run, Wire
from fedjury.config.section import Section, SettingsError, must
from fedjury.config.sizes import Dirichlet, LogNormal, Sizes, Uniform

__all__ = [
    "Agents",
    "Aggregation",
    "Backdoor",
    "Broker",
    "Cells",
    "Collect",
    "Data",
    "Detection",
    "Dirichlet",
    "Evaluation",
    "Groups",
    "Limits",
    "LogNormal",
    "Model",
    "Privacy",
    "Run",
    "Sampling",
    "Settings",
    "SettingsError",
    "Sizes",
    "Training",
    "Uniform",
    "Validation",
    "Wire",
]

RENAMED: Mapping[str, str] = {
    "sampling.share": "sampling.client_fraction",
    "collect.at_least": "collect.min_updates",
    "validation.who": "validation.judged_by",
    "validation.liars": "validation.tolerated_malicious",
    "detection.strikes": "detection.offences",
    "detection.appeal": "detection.readmission_after",
    "detection.appeals": "detection.readmissions",
    "aggregation.before": "aggregation.pre_aggregation",
    "limits.bytes": "limits.size",
    "agents.evil": "agents.malicious",
    "agents.liars": "agents.vote_attack",
    "agents.lying": "agents.malicious_validators",
    "agents.diary": "agents.attack_log",
    "backdoor.planted": "backdoor.forced",
}
"""Names that settings had before -> those that they have now, both as "section.key"."""


class Settings(Section):
    """All settings of a run."""

    run: Run = Field(default_factory=Run)
    broker: Broker = Field(default_factory=Broker)
    model: Model = Field(default_factory=Model)
    data: Data = Field(default_factory=Data)
    training: Training = Field(default_factory=Training)
    aggregation: Aggregation = Field(default_factory=Aggregation)
    sampling: Sampling = Field(default_factory=Sampling)
    groups: Groups = Field(default_factory=Groups)
    collect: Collect = Field(default_factory=Collect)
    cells: Cells = Field(default_factory=Cells)
    validation: Validation = Field(default_factory=Validation)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    detection: Detection = Field(default_factory=Detection)
    privacy: Privacy = Field(default_factory=Privacy)
    limits: Limits = Field(default_factory=Limits)
    wire: Wire = Field(default_factory=Wire)
    agents: Agents = Field(default_factory=Agents)
    backdoor: Backdoor = Field(default_factory=Backdoor)

    @property
    def expected(self) -> int:
        """Agents to wait for before the first round."""
        return self.collect.agents or self.agents.prompt

    @property
    def contributors(self) -> int:
        """Agents called to contribute to the first round, if all come that are expected."""
        return max(1, round(self.sampling.client_fraction * self.expected))

    @property
    def given(self) -> frozenset[str]:
        """The settings that somebody gave, as "section.key"."""
        return frozenset(
            f"{name}.{key}" for name, section in self for key in section.model_fields_set
        )

    def with_given(self, given: Collection[str]) -> Self:
        """Return the same settings, of which somebody gave these ("section.key")."""
        sections = {
            name: section.given_as({key for key in dict(section) if f"{name}.{key}" in given})
            for name, section in self
        }
        return self.model_copy(update=sections)

    def with_honest_devices(self) -> Self:
        """Return settings in which devices of somebody else's are not malicious.

        Raises
        ------
        SettingsError
            If somebody asked for malicious ones: what they would do is not ours to say.
        """
        agents = self.agents
        if not agents.devices or not agents.malicious:
            return self
        given = "agents.malicious" in self.given
        must(not given, "agents.malicious", agents.malicious, "0 where agents.devices makes them")
        honest = agents.replaced(malicious=0.0).given_as(agents.model_fields_set)
        return self.model_copy(update={"agents": honest})

    def with_possible_groups(self) -> Self:
        """Return the same settings.

        Raises
        ------
        SettingsError
            If a group is to hold more agents than a round calls, where that is known.
        """
        size, called = self.groups.size, self.contributors
        known = "agents.n" in self.given or "collect.agents" in self.given
        allowed = f"0 to the agents that a round calls ({called:,})"
        must(size <= called or not known, "groups.size", size, allowed)
        return self

    def with_fitting_jury(self) -> Self:
        """Return settings whose jury is no larger than the fleet, if that is known.

        A jury that nobody asked for becomes all agents, with votes that they can cast.

        Raises
        ------
        SettingsError
            If somebody asked for more validators than agents, or for more votes than can be cast.
        """
        votes, agents = self.validation, self.agents.n
        if "agents.n" not in self.given or votes.piggy_back or votes.asked <= agents:
            return self
        must(
            "validation.validators" not in self.given,
            "validation.validators",
            votes.validators,
            f"0 to the number of agents ({agents:,})",
        )
        fitting = votes.fitted(agents)
        return self.model_copy(update={"validation": fitting})

    def jury_note(self) -> str:
        """Say that the jury became smaller, as the agents are few; empty if it did not."""
        votes, agents = self.validation, self.agents.n
        usual = type(votes)().validators
        chosen = "validation.validators" in self.given or votes.piggy_back
        return "" if chosen or not votes.asked == agents < usual else all_vote(usual, agents)

    @model_validator(mode="after")
    def _the_server_holds_the_data_it_needs(self) -> Self:
        trusts = self.aggregation.rule == "fltrust"
        held, agent = self.data.server, self.validation.judged_by
        must(
            held or not trusts,
            "data.server",
            held,
            "above 0 with the rule fltrust, which trusts it",
        )
        why = f"above 0 where validation.judged_by is {agent!r}, to judge with"
        must(held or agent == "clients", "data.server", held, why)
        return self

    @model_validator(mode="after")
    def _groups_can_be_made_and_judged(self) -> Self:
        size = self.groups.size
        must(
            size or not self.validation.on_groups,
            "groups.size",
            size,
            "1 or more where groups are voted on: one group of all is the candidate",
        )
        alone = size == 1 or not self.validation.piggy_back or self.groups.secure
        must(alone, "groups.size", size, "1 with validation.piggy_back, or groups.secure = true")
        blames = "group_testing" in self.detection.detectors
        must(
            self.validation.on_groups or not blames,
            "validation.on",
            self.validation.on,
            "groups or both with the detector group_testing, which goes by votes on groups",
        )
        return self

    @model_validator(mode="after")
    def _contributors_can_cast_the_votes(self) -> Self:
        self.validation.check_contributors(self.contributors)
        return self

    @model_validator(mode="after")
    def _candidates_are_there_to_be_measured(self) -> Self:
        asked = self.evaluation.fraction
        must(
            not (asked and self.validation.piggy_back),
            "evaluation.fraction",
            asked,
            "0 with piggy_back, where agents are not asked about a candidate by itself",
        )
        return self

    @model_validator(mode="after")
    def _the_promise_of_privacy_holds(self) -> Self:
        check_privacy(self)
        check_secure(self)
        return self


def all_vote(validators: int, agents: int) -> str:
    """Say that there are fewer agents than validators."""
    return f"{validators:,} validators are more than the {agents:,} agents: all {agents:,} vote"
