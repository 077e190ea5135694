"""The section [privacy], and under which other settings its promise does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedjury.config.section import Section, must

if TYPE_CHECKING:
    from fedjury.config.sections import Settings

RULES = ("mean", "fedavgm", "fedadam", "fedyogi")
"""Rules that see nothing but the noisy mean."""

ALONE = "with privacy.noise"


class Privacy(Section):
    """Central differential privacy: noise on the sum of a round's updates."""

    noise: float = Field(
        0.0,
        ge=0,
        description="standard deviation of the noise on the sum of a round's updates, in units of "
        "clip; 0: no differential privacy",
    )
    clip: float = Field(
        1.0,
        ge=0,
        description="longest update that counts whole (L2 norm); longer ones are scaled down",
    )
    delta: float = Field(
        1e-5,
        ge=1e-15,
        le=0.5,
        description="probability for which epsilon promises nothing; at most 1 / expected",
    )
    expected: int = Field(
        0,
        ge=0,
        description="number by which the noisy sum is divided, however many updates come; 0: as "
        "many as are selected if all agents come",
    )


def expected_of(settings: Settings) -> int:
    """Return the number by which the noisy sum of a round is divided."""
    count = settings.contributors
    return settings.privacy.expected or min(count, settings.sampling.most or count)


def check_privacy(settings: Settings) -> None:
    """Refuse settings under which the promise of [privacy] does not hold.

    Raises
    ------
    SettingsError
        With the reason.
    """
    said, most = settings.privacy, 1 / expected_of(settings)
    if not said.noise:
        return
    must(said.clip, "privacy.clip", said.clip, f"above 0 {ALONE}, which is measured by it")
    allowed = f"at most 1 / {expected_of(settings):,} (one update of so many may be told whole)"
    must(said.delta <= most, "privacy.delta", said.delta, allowed)
    _check_rule(settings)
    message, strategy = settings.detection.detectors, settings.collect.strategy
    why = "as detectors tell, or decide by, what single updates say"
    must(not message, "detection.detectors", message, f"[] {ALONE}, {why}")
    why = "as another may choose by what updates say"
    must(strategy == "synchronous", "collect.strategy", strategy, f"synchronous {ALONE}, {why}")
    _check_groups(settings)


def _check_rule(settings: Settings) -> None:
    """Refuse a rule that sees single updates, or weighs them."""
    said = settings.aggregation
    rule, options = said.rule, said.options
    why = f"{', '.join(RULES[:-1])} or {RULES[-1]} {ALONE}: nothing bounds what one update does"
    must(rule in RULES, "aggregation.rule", rule, f"{why} in any other")
    base = options.get("base", "mean")
    must(base == "mean", "the option base of the rule", base, f"mean {ALONE}")
    weighted = options.get("weighted", False)
    why = "as agents choose the weight themselves"
    must(not weighted, "the option weighted of the rule", weighted, f"false {ALONE}, {why}")
    clip, before = options.get("clip", said.clip), said.pre_aggregation
    must(not clip, "aggregation.clip", clip, f"0 {ALONE}, whose privacy.clip takes its place")
    why = "as steps before the rule mix or compare updates"
    must(not before, "aggregation.pre_aggregation", before, f"{{}} {ALONE}, {why}")


def _check_groups(settings: Settings) -> None:
    """Refuse that means of groups leave the aggregator: they have no noise of their own."""
    about = settings.validation.on
    why = "as means of groups are told without noise"
    must(about == "candidate", "validation.on", about, f"candidate {ALONE}, {why}")
    size, secure = settings.groups.size, settings.groups.secure
    why = "as each agent's own update is clipped, or groups.secure, where each clips its own"
    must(size == 1 or secure, "groups.size", size, f"1 {ALONE}, {why}")
