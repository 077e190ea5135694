"""The section [groups], and with what secure aggregation does not go together."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fedjury.config.section import Flag, Section, must

if TYPE_CHECKING:
    from fedjury.config.sections import Settings

ALONE = "with groups.secure"
FEWEST_VOTERS = 3
"""Validators whose counts are added up, at the least."""


class Groups(Section):
    """How the agents of a round are put into groups, whose means are what is aggregated."""

    size: Annotated[int, Flag("--group-size", "N")] = Field(
        1,
        ge=0,
        description="agents in a group at the least, drawn for each round; rules and votes on "
        "groups see the groups' means alone; 1: no groups, 0: one group of all",
    )
    secret: bool = Field(
        False,
        description="groups are drawn by a key that the aggregator keeps to itself, so that no "
        "agent can foresee who is with whom; false: by run.seed",
    )
    secure: bool = Field(
        False,
        description="secure aggregation (SecAgg+): nobody sees more of a group's updates than "
        "their sum, the aggregator included",
    )
    by_seed: bool = Field(
        False,
        description="secure: groups are drawn by run.seed all the same, so that runs can be "
        "compared; false: by a key",
    )
    fixed: bool = Field(
        False,
        description="secure: groups stay together over the whole run, so that sums of many rounds "
        "tell no more of an agent than one; a group of which somebody is missing sits the round "
        "out. false: other groups are drawn for each round",
    )
    colluding: float = Field(
        0.33,
        ge=0,
        lt=1,
        description="secure: largest share of a group who may tell the aggregator all they know, "
        "and nobody else's update is seen",
    )
    drop_outs: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="secure: largest share of a group who may leave between their keys and the "
        "sum, and it is opened all the same",
    )
    least: int = Field(
        0,
        ge=0,
        description="secure: agents in a sum at the least; 0: half of groups.size, 3 at the least",
    )
    seconds: float = Field(
        60.0,
        ge=0.1,
        description="secure: how long each step after the training may take; who is seen to have "
        "left is not waited for",
    )
    value_bits: int = Field(
        14, ge=2, le=24, description="secure: bits of a coordinate at the least"
    )
    clip: float = Field(
        0.0,
        ge=0,
        description="secure: largest coordinate of an update that is summed, larger ones are "
        "clipped; 0: clip_factor times the largest of the last accepted step",
    )
    clip_factor: float = Field(4.0, ge=1, description="secure: see clip")
    first_clip: float = Field(
        0.5, ge=1e-9, description="secure: clip until a step was accepted, where clip is 0"
    )

    @property
    def by_key(self) -> bool:
        """Whether groups are drawn by a key of the aggregator's."""
        return self.secret or (self.secure and not self.by_seed)

    @property
    def fewest(self) -> int:
        """Agents in a sum at the least."""
        return self.least or max(3, ceil(self.size / 2))


def check_secure(settings: Settings) -> None:
    """Refuse settings that need to see single updates, where nobody sees any.

    Raises
    ------
    SettingsError
        With the reason.
    """
    said = settings.groups
    if not said.secure:
        why = "without groups.secure, where the aggregator sees each update anyway"
        must(not said.fixed, "groups.fixed", said.fixed, f"false {why}")
        return
    if said.fixed:
        _check_fixed(settings)
    size = said.size
    must(size == 0 or size >= 3, "groups.size", size, f"0, or 3 and more, {ALONE}")
    fewest = said.fewest
    must(
        fewest >= 3 and (not size or fewest <= size),
        "groups.least",
        fewest,
        f"3 to groups.size {ALONE}",
    )
    strategy, threshold = settings.collect.strategy, settings.collect.threshold
    why = "as a group's sum is opened once all of it have answered, or are late"
    must(strategy == "synchronous", "collect.strategy", strategy, f"synchronous {ALONE}, {why}")
    must(not threshold, "collect.threshold", threshold, f"0 {ALONE}, {why}")
    votes = settings.validation
    if votes.decide == "pooled":
        most = votes.validators // FEWEST_VOTERS
        enough = 2 * votes.tolerated_malicious < most
        why = f"{FEWEST_VOTERS} validators in each of 2 x tolerated_malicious + 1 sums of counts"
        must(enough, "validation.validators", votes.validators, f"enough for {why}, {ALONE}")
        why = "as nobody sees what a validator counts"
        must(not votes.piggy_back, "validation.piggy_back", votes.piggy_back, f"false {ALONE}")
        clients = votes.judged_by == "clients"
        must(clients, "validation.judged_by", votes.judged_by, f"clients {ALONE}, {why}")
    by_agent = settings.evaluation.by_agent
    why = "as what an agent measures in training tells of its update"
    must(not by_agent, "evaluation.by_agent", by_agent, f"false {ALONE}, {why}")


def _check_fixed(settings: Settings) -> None:
    """Refuse what groups that stay together do not go with.

    Raises
    ------
    SettingsError
        With the reason.
    """
    size, alone = settings.groups.size, "with groups.fixed"
    why = "as a group of all changes with everybody who comes or goes"
    must(size, "groups.size", size, f"3 and more {alone}, {why}")
    most = settings.sampling.most
    why = "as whole groups are selected; sampling.client_fraction says how many"
    must(not most, "sampling.most", most, f"0 {alone}, {why}")
    piggy_back = settings.validation.piggy_back
    why = "as whoever votes against a candidate is missing in its group"
    must(not piggy_back, "validation.piggy_back", piggy_back, f"false {alone}, {why}")
    detectors = settings.detection.detectors
    why = "which goes by groups that change: where they stay together nobody can be told from them"
    must(
        "group_testing" not in detectors,
        "groups.fixed",
        settings.groups.fixed,
        f"false with the detector group_testing, {why}",
    )
