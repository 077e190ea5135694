"""What a report says in plain words: who attacked, what defended, and how it ended. All pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fedjury.config.sections import Detection, Settings, Validation
from fedjury.learning.dealing import plan_of
from fedjury.protocol.record import RoundRecord
from fedjury.registry import ATTACKS
from fedjury.reports.caught import Tally, Truth, caught
from fedjury.reports.figures import Row, Strikes
from fedjury.reports.rounds import text

Records = list[RoundRecord]

PRIVATE = {"broker", "run.directory", "data.root", "agents.diary"}
"""Sections and settings that say where things are on somebody's machine: no report names them."""

UNTOLD = "Who among the agents is evil, if anybody is, the aggregator does not know."


class Case(NamedTuple):
    """A run, and what was set."""

    name: str
    records: Records
    defence: str = ""
    quorum: int = 0
    """"Poisoned" votes that reject a candidate; 0: nobody votes, or it is not their number."""
    settings: Mapping[str, str] = {}
    """Those that differ from the defaults, as ``section.key``."""


class Story(NamedTuple):
    """All that a report tells."""

    title: str
    about: str
    """Who took part and who attacked, in a few sentences."""
    cases: list[Case]
    strikes: Strikes | None = None
    truth: Truth | None = None

    @property
    def notes(self) -> list[str]:
        """What the report in Markdown says above its table."""
        truth = self.truth
        found = [caught(case.records, truth) for case in self.cases] if truth else []
        return [self.about, *(line for lines in found for line in lines)]


def of_run(name: str, settings: Settings, records: Records) -> Story:
    """Tell of a run what its aggregator knows."""
    case = _case(name, settings, records)
    about = f"Model {settings.model.name} on {settings.data.name}, seed {settings.run.seed}."
    return Story(f"Run {name}", f"{about} {UNTOLD}", [case])


def of_experiment(
    title: str,
    about: str,
    settings: Settings,
    strike: int | None,
    cases: Iterable[tuple[str, Settings, Records]],
) -> Story:
    """Tell of runs (name, settings, records) with the same agents, of whom everything is known.

    ``settings``: what the runs have in common; ``strike``: the round of the first strike, if any.
    """
    plan = plan_of(settings)
    evil = frozenset(plan.name(number) for number in plan.evils)
    names = frozenset(plan.name(number) for number in range(plan.n))
    strikes = None
    if strike is not None:
        later = tuple(sorted({r for r in settings.backdoor.inject if r >= strike}))
        strikes = Strikes(strike, later if plan.armed else ())
    told = [_case(*case) for case in cases]
    does = ATTACKS.facts(plan.attack).report if evil else ""
    return Story(title, f"{about} {does}".strip(), told, strikes, Truth(evil, names - evil))


def _case(name: str, settings: Settings, records: Records) -> Case:
    votes = settings.validation
    asked = votes.asked or votes.server or votes.piggy_back
    quorum = votes.needed if asked and votes.decide == "count" else 0
    return Case(name, records, defence(settings), quorum, differing(settings))


def defence(settings: Settings) -> str:
    """Say how updates become a model, and who looks at them and at it."""
    said = settings.aggregation
    clip = said.options.get("clip", said.clip)
    parts = [f"updates longer than {clip:g} are scaled down"] if clip else []
    parts += [f"they go through {', '.join(said.before)}"] if said.before else []
    rule = "averaged" if said.rule == "mean" else f"combined by the rule {said.rule}"
    parts.append(f"they are {rule}" if parts else f"updates are {rule}")
    first = ", ".join(parts[:-1]) + (", then " if parts[:-1] else "") + parts[-1]
    every = [first, _votes(settings.validation), _detection(settings.detection)]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in every if part)


def _votes(said: Validation) -> str:
    late = f" from round {said.warm_up + 1} on" if said.warm_up else ""
    needed = f"{said.needed} “poisoned” vote{'s reject' if said.needed > 1 else ' rejects'} it"
    if not said.needed:
        needed = "half of these votes, if they say “poisoned”, reject it"
    if said.decide == "score":
        needed = "what all of them saw, added up, decides"
    if said.piggy_back:
        return f"the next round's contributors vote on each candidate{late}, and {needed}"
    clients = f"{said.asked:,} validators" if said.asked else ""
    who = " and ".join(filter(None, (clients, "the server" if said.server else "")))
    if not who:
        return ""
    verb = "vote" if said.asked else "votes"
    return f"{who} {verb} on each candidate{late} (judge {said.judge}), and {needed}"


def _detection(said: Detection) -> str:
    if not said.detectors:
        return ""
    several = len(said.detectors) > 1
    look = f"the detector{'s' * several} {', '.join(said.detectors)} "
    look += "look for fakes" if several else "looks for fakes"
    if not said.quarantine:
        return f"{look}; who is suspected is only noted"
    rounds = f"{said.strikes} round{'s' * (said.strikes > 1)}"
    return f"{look}; who is suspected is left out, and after {rounds} of that no longer called"


def differing(settings: Settings) -> dict[str, str]:
    """Return ``section.key`` -> value of the settings that differ from the defaults."""
    defaults = type(settings)().model_dump()
    return {
        f"{section}.{key}": text(value if isinstance(value, str) else json.dumps(value))
        for section, keys in settings.model_dump().items()
        for key, value in keys.items()
        if not {section, f"{section}.{key}"} & PRIVATE and value != defaults[section][key]
    }


def common(cases: Iterable[Case]) -> dict[str, str]:
    """Return the settings that all cases have alike."""
    every = [dict(case.settings) for case in cases]
    first = every[0] if every else {}
    return {
        key: value for key, value in first.items() if all(one.get(key) == value for one in every)
    }


def ending(figures: Row, rounds: int, found: Iterable[Tally]) -> str:
    """Say in a few sentences what a run came to; ``found``: who was suspected, counted."""
    if not rounds:
        return "No round was finished."
    said = []
    if figures.before is not None and figures.final is not None:
        was, after = f"{figures.before:.1%}", f"{figures.final:.1%}"
        moved = "rose" if figures.final > figures.before else "fell"
        said.append(
            f"Accuracy was {was} before the first strike, and is the same at the end."
            if was == after
            else f"Accuracy {moved} from {was} before the first strike to {after} at the end."
        )
    elif figures.final is not None:
        said.append(f"Accuracy is {figures.final:.1%} at the end.")
    if figures.peak is not None and figures.backdoor is not None:
        said.append(
            f"The backdoor works on {figures.backdoor:.1%} of its samples at the end, on "
            f"{figures.peak:.1%} at the most."
        )
    were = "was" if figures.accepted == 1 else "were"
    said.append(
        f"Of {rounds:,} rounds {figures.accepted:,} {were} accepted and {figures.rejected:,} "
        "rejected."
        if rounds > 1
        else f"One round was finished{', and rejected' if figures.rejected else ''}."
    )
    suspected = [
        f"{one.suspected:,} of {one.agents:,} {one.kind} agents" for one in found if one.agents
    ]
    if suspected:
        said.append(f"Suspected: {', '.join(suspected)}.")
    return " ".join(said)
