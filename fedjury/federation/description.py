"""What is said of a whole federation: who is in it, who attacks, and from which round on."""

from __future__ import annotations

from fedjury import reports
from fedjury.config.settings import Settings
from fedjury.registry import ATTACKS


def first_attack(settings: Settings) -> int | None:
    """Return the round in which the malicious agents first strike, if they do."""
    agents = settings.agents
    if not round(agents.n * agents.malicious):
        return None
    there = agents.arrive + 1 if agents.arrive > 1 else 1
    if ATTACKS.facts(agents.attack).hides_backdoor:
        return min((r for r in settings.backdoor.inject if r >= there), default=None)
    return max(agents.start, there)


def too_late(settings: Settings) -> str:
    """Warn of malicious agents that would attack only after the last round; empty if none do."""
    first_attack_round = first_attack(settings)
    if first_attack_round is None or first_attack_round <= settings.run.rounds:
        return ""
    return (
        f"there will be no attack: there are {settings.run.rounds} rounds, and the first "
        "attack would "
        f"be in round {first_attack_round}"
    )


def describe(settings: Settings) -> str:
    """Say in a sentence or two what was run."""
    agents = settings.agents
    fake_agents = round(agents.n * agents.malicious)
    share = f"{agents.samples} samples" if agents.samples else "an equal share"
    text = (
        f"{agents.n:,} agents, each its own MQTT connection, {share} of "
        f"{settings.data.name} each; model {settings.model.name}, seed {settings.run.seed}."
    )
    if not fake_agents:
        return text
    s, be = ("s", "is") if fake_agents == 1 else ("", "are")
    late = f" They connect in round {agents.arrive}." if agents.arrive > 1 else ""
    if ATTACKS.facts(agents.attack).hides_backdoor:
        hidden = settings.backdoor
        rounds = ", ".join(map(str, hidden.inject)) or "none"
        return (
            f"{text} {fake_agents:,} hide{s} a backdoor ({agents.attack}, {hidden.task}) in the "
            f"model in "
            f"rounds {rounds} and otherwise train{s} honestly.{late}"
        )
    attacks = f"attack{s} from round {first_attack(settings)} on"
    if ATTACKS.facts(agents.attack).holds_data:
        options = "".join(f", {key} {value}" for key, value in agents.options.items())
        return (
            f"{text} {fake_agents:,} hold{s} data, {attacks} ({agents.attack}{options}) and "
            f"train{s} "
            f"honestly before.{late}"
        )
    return (
        f"{text} {fake_agents:,} {be} fake ({agents.attack}, scaling {agents.scale:g}) and "
        f"{attacks}.{late}"
    )


def told(
    title: str, settings: Settings, cases: list[tuple[str, Settings, reports.Records]]
) -> reports.ReportData:
    """Put together what there is to tell of runs (name, settings, records) of the same agents."""
    first_attack_round = first_attack(settings)
    return reports.of_experiment(title, describe(settings), settings, first_attack_round, cases)
