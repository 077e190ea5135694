"""A run in figures: what the report's tables show of it. All of it is pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from fedjury.formatting import UNKNOWN, measure, percent, points
from fedjury.protocol.measured import Measured, harm_of, largest_let_in, measured, named
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.spent import Spent

OFTEN = 10
"""Names of those who were missing most often."""


class AttackRounds(NamedTuple):
    """When the malicious agents strike, where that is known."""

    first: int
    rounds: tuple[int, ...] = ()
    """Those alone; empty: every round from the first on."""

    def hit(self, number: int) -> bool:
        """Say whether they strike in this round."""
        return number in self.rounds if self.rounds else number >= self.first


class RejectedAttacks(NamedTuple):
    """Candidates of attacked rounds, and how many of them were rejected."""

    rejected: int
    of: int

    def __str__(self) -> str:
        """Return it as people read it everywhere: "9 of 11"."""
        return f"{self.rejected:,} of {self.of:,}"


class Row(NamedTuple):
    """A run in figures. Accuracies are shares of the held-out samples; None: nobody knows."""

    name: str
    before: float | None
    """Of the last round before the attack; None if no attack is known."""
    final: float | None
    best: float | None
    backdoor: float | None
    """Its success at the end."""
    let_in: float | None
    """Its largest success in any model that was accepted."""
    lost: float | None
    """Accuracy at its best, of the first model or any accepted one, minus that at the end."""
    accepted: int
    rejected: int
    updates: int
    refused: int
    seconds: float
    metrics: Mapping[str, Measured] = {}
    """What else was measured of the global model, by name."""
    rejected_attacks: RejectedAttacks | None = None
    """Attacks that a vote has rejected; None if no attack is known, or nobody voted."""
    spent: Spent | None = None
    """What all candidates have spent, with differential privacy."""

    @property
    def kept(self) -> float | None:
        """Share of the accuracy before the strike that is left at the end."""
        return self.final / self.before if self.before and self.final is not None else None

    @property
    def rate(self) -> float:
        """Updates a second, over the whole run."""
        return self.updates / self.seconds if self.seconds else 0.0


def row(
    name: str,
    rounds: list[RoundRecord],
    attack_rounds: AttackRounds | None,
    rejected_attacks: RejectedAttacks | None = None,
) -> Row:
    """Sum up a run; ``rejected_attacks``: of the attacks, where they are known."""
    reached = [one.model.accuracy for one in rounds if one.model.accuracy is not None]
    let_in = largest_let_in(rounds)
    return Row(
        name=name,
        before=before(rounds, attack_rounds),
        final=rounds[-1].model.accuracy if rounds else None,
        best=max(reached, default=None),
        backdoor=rounds[-1].model.backdoor if rounds else None,
        let_in=None if let_in is None else let_in.success,
        lost=harm_of(rounds).accuracy_lost,
        accepted=sum(one.accepted is True for one in rounds),
        rejected=sum(one.accepted is False for one in rounds),
        updates=sum(one.updates for one in rounds),
        refused=sum(sum(one.traffic.invalid_messages.values()) for one in rounds),
        seconds=sum(one.timing.seconds or 0.0 for one in rounds),
        metrics={one: found for one in named(rounds) if (found := measured(rounds, one))},
        rejected_attacks=rejected_attacks,
        spent=rounds[-1].privacy if rounds else None,
    )


def before(rounds: list[RoundRecord], attack_rounds: AttackRounds | None) -> float | None:
    """Return the accuracy of the last round before the attack, if there was one."""
    if attack_rounds is None or not any(one.round >= attack_rounds.first for one in rounds):
        return None
    calm = [one.model.accuracy for one in rounds if one.round < attack_rounds.first]
    return calm[-1] if calm else None


FIGURES: dict[str, Callable[[Row], str]] = {
    "run": lambda run: run.name,
    "before": lambda run: percent(run.before),
    "final": lambda run: percent(run.final),
    "kept": lambda run: "" if run.kept is None else f"{run.kept:.0%}",
    "lost": lambda run: points(run.lost),
    "backdoor": lambda run: percent(run.backdoor),
    "let in": lambda run: percent(run.let_in),
    "caught": lambda run: "" if run.rejected_attacks is None else str(run.rejected_attacks),
    "best": lambda run: percent(run.best),
    "epsilon": lambda run: run.spent.shown if run.spent else "",
    "accepted": lambda run: f"{run.accepted:,}",
    "rejected": lambda run: f"{run.rejected:,}",
    "updates": lambda run: f"{run.updates:,}",
    "refused": lambda run: f"{run.refused:,}",
    "seconds": lambda run: f"{run.seconds:,.1f}",
    "updates/s": lambda run: f"{run.rate:,.0f}",
}
"""A heading of the table -> what stands below it."""

HIDDEN = ("backdoor", "let in")
"""Where there is a backdoor: its success at the end, and its largest in any accepted model."""

ACCURACY = ("before", "final", "kept", "best", "lost")
"""What there is of accuracy, where nothing else is measured instead."""

BEST = "best "
"""What the heading of a metric's best value begins with."""


def headings(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the table's headings: what any run measured stands there, and nothing else."""
    rows = list(rows)
    metrics: dict[str, None] = {}
    for name, found in ((name, found) for one in rows for name, found in one.metrics.items()):
        best = [BEST + name] if found.best is not None else []
        metrics |= dict.fromkeys([name, *best])
    hidden = any(one.backdoor is not None for one in rows)
    caught = any(one.rejected_attacks is not None for one in rows)
    private = any(one.spent is not None for one in rows)
    known = not metrics or any(one.best is not None for one in rows)
    plain = [
        heading
        for heading in FIGURES
        if (hidden or heading not in HIDDEN)
        and (known or heading not in ACCURACY)
        and (caught or heading != "caught")
        and (private or heading != "epsilon")
    ]
    at = plain.index("epsilon" if private else "accepted")
    return (*plain[:at], *(name for name in metrics if name not in FIGURES), *plain[at:])


def cells(figures: Row, heads: Iterable[str]) -> tuple[str, ...]:
    """Return a row's figures as the table shows them under these headings."""
    return tuple(
        FIGURES[heading](figures) if heading in FIGURES else _cell(figures.metrics, heading)
        for heading in heads
    )


def _cell(metrics: Mapping[str, Measured], heading: str) -> str:
    """Return a metric at the end, or at its best; empty where a run did not measure it."""
    if (found := metrics.get(heading)) is not None:
        return measure(found.name, found.last)
    found = metrics.get(heading.removeprefix(BEST))
    return "" if found is None or found.best is None else measure(found.name, found.best)


class Traffic(NamedTuple):
    """What crossed the network in a run. None: no round says."""

    rounds: int
    seconds: float
    updates: int
    bytes_in: int | None
    bytes_out: int | None
    dropped: int | None
    missing: int
    absent: list[tuple[str, int]]
    """Who was missing most often, and in how many rounds."""
    repeated: int
    """Rounds that had to be tried again."""
    refused: int
    declined: int
    """Selected agents that sat a round out."""


def traffic(rounds: list[RoundRecord]) -> Traffic:
    """Add up what crossed the network."""
    absent = Counter(name for one in rounds for name in one.absent)
    often = sorted(absent.items(), key=lambda item: (-item[1], item[0]))[:OFTEN]
    return Traffic(
        rounds=len(rounds),
        seconds=sum(one.timing.seconds or 0.0 for one in rounds),
        updates=sum(one.updates for one in rounds),
        bytes_in=_sum(one.traffic.bytes_in for one in rounds),
        bytes_out=_sum(one.traffic.bytes_out for one in rounds),
        dropped=_sum(one.traffic.dropped for one in rounds),
        missing=sum(one.missing for one in rounds),
        absent=often,
        repeated=sum(one.attempt > 1 for one in rounds),
        refused=sum(sum(one.traffic.invalid_messages.values()) for one in rounds),
        declined=sum(one.declined for one in rounds),
    )


class Refusal(NamedTuple):
    """What was refused for one reason."""

    reason: str
    messages: int
    rounds: int
    """Rounds in which it was."""
    first: int
    last: int


def refusals(rounds: list[RoundRecord]) -> list[Refusal]:
    """Count what was refused by reason, the most frequent first."""
    counts: Counter[str] = Counter()
    where: dict[str, list[int]] = {}
    for one in rounds:
        counts.update(one.traffic.invalid_messages)
        for reason in one.traffic.invalid_messages:
            where.setdefault(reason, []).append(one.round)
    result = [
        Refusal(reason, count, len(where[reason]), where[reason][0], where[reason][-1])
        for reason, count in counts.items()
    ]
    return sorted(result, key=lambda item: (-item.messages, item.reason))


def amount(count: int | None) -> str:
    """Write a number of things; a dash if nobody knows it."""
    return UNKNOWN if count is None else f"{count:,}"


def _sum(counts: Iterable[int | None]) -> int | None:
    """Add up what is known; None if nothing is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
