"""What a report says in plain words: who attacked, what defended, and how it ended. All pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fedjury.config.sections import Detection, Groups, Privacy, Settings, Validation
from fedjury.formatting import measure
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.record import RoundRecord
from fedjury.registry import ATTACKS
from fedjury.reports.detection_section import (
    Tally,
    Truth,
    attacked,
    detection_summary,
    verdicts,
)
from fedjury.reports.rounds import text
from fedjury.reports.statistics import AttackRounds, RejectedAttacks, Row, row

Records = list[RoundRecord]

PRIVATE = {"broker", "run.directory", "data.root", "agents.attack_log"}
"""Sections and settings that say where things are on somebody's machine: no report names them."""

UNTOLD = "The aggregator does not know which agents are malicious."


class RunInput(NamedTuple):
    """A run, and what was set."""

    name: str
    records: Records
    defence: str = ""
    quorum: int = 0
    """"Poisoned" votes that reject a candidate; 0: nobody votes, or it is not their number."""
    settings: Mapping[str, str] = {}
    """Those that differ from the defaults, as ``section.key``."""


class ReportData(NamedTuple):
    """All that a report tells."""

    title: str
    about: str
    """Who took part and who attacked, in a few sentences."""
    cases: list[RunInput]
    attack_rounds: AttackRounds | None = None
    truth: Truth | None = None

    @property
    def notes(self) -> list[str]:
        """What the report in Markdown says above its table."""
        truth = self.truth
        result = [detection_summary(run.records, truth) for run in self.cases] if truth else []
        return [self.about, *(line for lines in result for line in lines)]


def of_run(name: str, settings: Settings, records: Records) -> ReportData:
    """Tell of a run what its aggregator knows."""
    run = _case(name, settings, records)
    about = f"Model {settings.model.name} on {settings.data.name}, seed {settings.run.seed}."
    return ReportData(f"Run {name}", f"{about} {UNTOLD}", [run])


def of_experiment(
    title: str,
    about: str,
    settings: Settings,
    strike: int | None,
    runs: Iterable[tuple[str, Settings, Records]],
) -> ReportData:
    """Tell of runs (name, settings, records) with the same agents, of whom everything is known.

    ``settings``: what the runs have in common; ``strike``: the round of the first strike, if any.
    """
    spec = partition_spec_of(settings)
    malicious = frozenset(spec.name(number) for number in spec.malicious_agents)
    names = frozenset(spec.name(number) for number in range(spec.n))
    attack_rounds = None
    if strike is not None:
        later = tuple(sorted({r for r in settings.backdoor.inject if r >= strike}))
        attack_rounds = AttackRounds(strike, later if spec.armed else ())
    told = [_case(*run) for run in runs]
    does = ATTACKS.facts(spec.attack).report if malicious else ""
    return ReportData(
        title, f"{about} {does}".strip(), told, attack_rounds, Truth(malicious, names - malicious)
    )


def figures_of(report: ReportData, run: RunInput) -> Row:
    """Sum up one of a report's runs, with what its votes caught where the attacks are known."""
    rounds, when = run.records, report.attack_rounds
    found = verdicts(rounds, attacked(rounds, when, report.truth))
    known = found is not None and when is not None and report.truth is not None
    return row(
        run.name,
        rounds,
        when,
        RejectedAttacks(found.thrown, found.hit) if found and known else None,
    )


def _case(name: str, settings: Settings, records: Records) -> RunInput:
    votes = settings.validation
    asked = votes.asked or votes.server or votes.piggy_back
    quorum = votes.needed if asked and votes.decide == "count" else 0
    told = f"{defence(settings)} {noise(settings.privacy)}".strip()
    return RunInput(name, records, told, quorum, differing(settings))


def noise(message: Privacy) -> str:
    """Say how noise hides each agent's updates; empty if there is none."""
    if not message.noise:
        return ""
    return (
        f"Each update counts with a length of {message.clip:g} at the most, and noise of standard "
        f"deviation {message.noise * message.clip:g} is added to their sum (differential privacy)."
    )


def defence(settings: Settings) -> str:
    """Say how updates become a model, and who looks at them and at it."""
    message = settings.aggregation
    clip = message.options.get("clip", message.clip)
    parts = [f"updates longer than {clip:g} are scaled down"] if clip else []
    parts += (
        [f"they go through {', '.join(message.pre_aggregation)}"] if message.pre_aggregation else []
    )
    rule = "averaged" if message.rule == "mean" else f"combined by the rule {message.rule}"
    parts.append(f"they are {rule}" if parts else f"updates are {rule}")
    first = ", ".join(parts[:-1]) + (", then " if parts[:-1] else "") + parts[-1]
    votes, detection = _votes(settings.validation), _detection(settings.detection)
    every = [_groups(settings.groups), first, votes, detection]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in every if part)


def _groups(message: Groups) -> str:
    """Say what groups agents are in; empty if each is by itself."""
    if message.size == 1:
        return ""
    size = f"groups of at least {message.size:,}" if message.size else "one group"
    return f"agents are drawn into {size} in each round, and only the groups' means are looked at"


def _votes(message: Validation) -> str:
    late = f" from round {message.warm_up + 1} on" if message.warm_up else ""
    needed = (
        f"{message.needed} “poisoned” vote{'s reject' if message.needed > 1 else ' rejects'} it"
    )
    if not message.needed:
        needed = "half of these votes, if they say “poisoned”, reject it"
    if message.decide == "pooled":
        needed = "the judge decides by the error counts of all of them together"
    if message.piggy_back:
        return f"the next round's contributors vote on each candidate{late}, and {needed}"
    clients = f"{message.asked:,} validators" if message.asked else ""
    agent = " and ".join(filter(None, (clients, "the server" if message.server else "")))
    if not agent:
        return ""
    verb = "vote" if message.asked else "votes"
    if not message.on_groups:
        return f"{agent} {verb} on each candidate{late} (judge {message.judge}), and {needed}"
    each = f" on {message.groups_each:,} groups each" if message.groups_each else " on each group"
    both = message.on == "both"
    also = " and then on the candidate" if both else ""
    votes = f"{message.needed} “poisoned” vote{'s leave' if message.needed > 1 else ' leaves'}"
    reject = " or reject the candidate" if message.needed > 1 else " or rejects the candidate"
    return (
        f"{agent} {verb}{each}{also}{late} (judge {message.judge}), and {votes} a group out"
        f"{reject * both}"
    )


def _detection(message: Detection) -> str:
    if not message.detectors:
        return ""
    several = len(message.detectors) > 1
    look = f"the detector{'s' * several} {', '.join(message.detectors)} "
    look += "look for malicious agents" if several else "looks for malicious agents"
    if not message.quarantine:
        return f"{look}; flagged agents are only recorded"
    rounds = f"{message.offences} round{'s' * (message.offences > 1)}"
    return (
        f"{look}; updates of flagged agents are filtered, and after {rounds} of that the "
        "agents are "
        "no longer selected"
    )


def differing(settings: Settings) -> dict[str, str]:
    """Return ``section.key`` -> value of the settings that differ from the defaults."""
    defaults = type(settings)().model_dump()
    return {
        f"{section}.{key}": text(value if isinstance(value, str) else json.dumps(value))
        for section, keys in settings.model_dump().items()
        for key, value in keys.items()
        if not {section, f"{section}.{key}"} & PRIVATE and value != defaults[section][key]
    }


def common(runs: Iterable[RunInput]) -> dict[str, str]:
    """Return the settings that all cases have alike."""
    every = [dict(run.settings) for run in runs]
    first = every[0] if every else {}
    return {
        key: value for key, value in first.items() if all(one.get(key) == value for one in every)
    }


def ending(figures: Row, rounds: int, result: Iterable[Tally]) -> str:
    """Say in a few sentences what a run came to; ``result``: who was flagged, counted."""
    if not rounds:
        return "No round was finished."
    message = []
    if figures.before is not None and figures.final is not None:
        was, after = f"{figures.before:.1%}", f"{figures.final:.1%}"
        moved = "rose" if figures.final > figures.before else "fell"
        message.append(
            f"Accuracy was {was} before the attack, and is the same at the end."
            if was == after
            else f"Accuracy {moved} from {was} before the attack to {after} at the end."
        )
    elif figures.final is not None:
        message.append(f"Accuracy is {figures.final:.1%} at the end.")
    for name, found in figures.metrics.items():
        best = f" (best: {measure(name, found.best)})" if found.best is not None else ""
        message.append(f"At the end {text(name)} is {measure(name, found.last)}{best}.")
    if figures.backdoor is not None:
        most = "none, for no model was accepted"
        if figures.let_in is not None:
            most = f"{figures.let_in:.1%} of its samples"
        message.append(
            f"The backdoor works on {figures.backdoor:.1%} of its samples at the end; the largest "
            f"let in: {most}."
        )
    were = "was" if figures.accepted == 1 else "were"
    message.append(
        f"Of {rounds:,} rounds {figures.accepted:,} {were} accepted and {figures.rejected:,} "
        "rejected."
        if rounds > 1
        else f"One round was finished{', and rejected' if figures.rejected else ''}."
    )
    flagged = [
        f"{one.flagged:,} of {one.agents:,} {one.kind} agents" for one in result if one.agents
    ]
    if flagged:
        message.append(f"Flagged: {', '.join(flagged)}.")
    return " ".join(message)
