"""What a run came to, in the sentences at its end: attacked by how many, stopped by what.

An aggregator does not know who is malicious. It says what its records show, and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fedjury.config.sections import Detection, Evaluation, Settings
from fedjury.formatting import measure, percent, points
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.measured import Measured, harm_of, largest_let_in, measured
from fedjury.protocol.measured import named as names_of
from fedjury.protocol.record import TOO_FEW, VOTED_DOWN, RoundRecord
from fedjury.registry import DETECTORS
from fedjury.reports import groups_section
from fedjury.reports.detection_section import outcomes
from fedjury.reports.jury import blind, still_share, untrusted
from fedjury.reports.rounds import text
from fedjury.reports.statistics import RejectedAttacks

FALL = 0.05
"""Accuracy lost since the best round that is worth a sentence."""

CHANCE = 1.3
"""Times 1 / classes: a model no better than that has learnt nothing, or lost it."""

STEPS = "smaller steps may help (--set aggregation.server_lr=1, training.learning_rate)"
"""What to try where a network dies by itself, as some do of steps that others learn by."""

SHOWN = 5
"""Rounds that are listed by number."""


def conclusion(rounds: list[RoundRecord], settings: Settings, classes: int) -> list[str]:
    """Return what a run came to, a sentence a line; ``classes``: how many the model tells apart."""
    if not rounds:
        return []
    falling = fell(rounds, settings, classes)
    lines = (
        *([] if falling else reached(rounds, settings.evaluation)),
        named(rounds, settings.detection),
        voted(rounds),
        groups_section.sentence(rounds),
        lost(rounds),
        hidden(rounds, settings),
        spent(rounds),
        falling,
        unseen(rounds, classes),
        doubted(rounds, settings),
    )
    return [line for line in lines if line]


def reached(rounds: list[RoundRecord], evaluation: Evaluation) -> list[str]:
    """Return what was measured at last and at best, in a line; empty if there is nothing to say.

    It is the metric by which the best model is kept, else accuracy, else the first there is. Of
    accuracy alone nothing is said that is said elsewhere.
    """
    chosen = measured(rounds, evaluation.best, evaluation.best_is) if evaluation.best else None
    if chosen is not None:
        return [at_last(chosen)]
    server = any(one.model.accuracy is not None for one in rounds)
    metric = ("accuracy",) if server else names_of(rounds, 1)
    found = measured(rounds, *metric) if metric else None
    if found is None:
        return []
    if not server:
        return [at_last(found)]
    same = found.best is None or percent(found.best) == percent(found.last)
    return [] if same else [at_last(found)]


def at_last(one: Measured) -> str:
    """Return a metric like "rmse 0.033, by 40 agents; best 0.031 in round 17"."""
    text = f"{one.name} {measure(one.name, one.last)}"
    if one.agents:
        text += f", by {one.agents:,} agent{'s' * (one.agents != 1)}"
    if one.best is None:
        return text
    return f"{text}; best {measure(one.name, one.best)} in round {one.when}"


def named(rounds: list[RoundRecord], detection: Detection) -> str:
    """Return which agents were found to attack, from which round on, and the outcome."""
    if not any(one.detection for one in rounds):
        return ""
    result = outcomes(rounds)
    last = rounds[-1]
    guilty = {name for name, outcome in result.items() if outcome.out or name in last.flagged}
    if not guilty:
        cleared = f"; {len(result):,} were flagged for a while and cleared" if result else ""
        by_whom = ", ".join(detection.detectors)
        return f"no agent is flagged by {by_whom}{cleared}; other kinds of attack are not ruled out"
    by = Counter(" and ".join(result[name].by) for name in guilty)
    did = "; ".join(_did(detectors, count) for detectors, count in by.most_common())
    first = min(result[name].first for name in guilty)
    stopped = "their updates were filtered and they are no longer selected"
    outcome = (
        stopped if detection.quarantine else "they were only recorded (detection.quarantine is off)"
    )
    return f"attacked from round {first} on: {did}; {outcome}"


def _did(detectors: str, count: int) -> str:
    """Return what so many agents did that these detectors name, like "fixed_point and length"."""
    did = " and ".join(
        DETECTORS.known(one).report or "were flagged" for one in detectors.split(" and ")
    )
    return f"{count:,} agent{'s' * (count != 1)} {did} (found by {detectors})"


def voted(rounds: list[RoundRecord]) -> str:
    """Return how often validators rejected a candidate, and in which rounds."""
    asked = [one for one in rounds if one.votes.asked]
    if not asked:
        return ""
    down = [one.round for one in asked if one.why == VOTED_DOWN]
    few = [one.round for one in asked if one.why.startswith(TOO_FEW)]
    text = f"validators rejected {len(down):,} of {len(asked):,} candidates{_in(down)}"
    return text + (f"; too few of them voted on {len(few):,}{_in(few)}" if few else "")


def lost(rounds: list[RoundRecord]) -> str:
    """Return for what other reasons rounds brought nothing, the most frequent first."""
    why = Counter(
        one.why
        for one in rounds
        if one.accepted is False and not one.why.startswith((VOTED_DOWN, TOO_FEW))
    )
    if not why:
        return ""
    [(most, count), *others] = why.most_common()
    more = sum(n for _, n in others)
    message = f"{count:,} round{'s' * (count != 1)} changed nothing: {text(most)}"
    return message + (f" ({more:,} more for other reasons)" if more else "")


def hidden(rounds: list[RoundRecord], settings: Settings) -> str:
    """Return the largest backdoor let in, what accuracy was lost and which attacks were caught.

    It is empty where nobody measures the success of a backdoor.
    """
    known = [one.model.backdoor for one in rounds if one.model.backdoor is not None]
    if not known:
        return ""
    most = largest_let_in(rounds)
    parts = ["largest backdoor let in: none, for no model was accepted"]
    if most is not None:
        when = f" (round {most.round}), {percent(known[-1])} at the end" if most.success else ""
        parts = [f"largest backdoor let in: {percent(most.success)}{when}"]
    if (less := harm_of(rounds).accuracy_lost) is not None:
        parts.append(f"accuracy lost: {points(less)} points")
    if (found := rejected_attacks(rounds, settings)) is not None:
        parts.append(f"caught: {found} attacked rounds")
    return "; ".join(parts)


def spent(rounds: list[RoundRecord]) -> str:
    """Return what the run has spent, with differential privacy."""
    said = rounds[-1].privacy
    if said is None:
        return ""
    return f"noise hid each agent's updates: {said} spent by {said.releases:,} candidates"


def rejected_attacks(rounds: list[RoundRecord], settings: Settings) -> RejectedAttacks | None:
    """Return how many candidates with a backdoor the votes have rejected; None if none is known.

    Only an experiment's settings say in which rounds there is an attack.
    """
    spec = partition_spec_of(settings)
    attacked = settings.backdoor.inject if spec.armed and spec.malicious_agents else []
    judged = [one for one in rounds if one.votes.asked and one.about in attacked]
    if not judged:
        return None
    return RejectedAttacks(sum(one.accepted is False for one in judged), len(judged))


def fell(rounds: list[RoundRecord], settings: Settings, classes: int) -> str:
    """Return by how much accuracy fell from its best, whether to chance, and what defended it."""
    known = [(one.model.accuracy, one.round) for one in rounds if one.model.accuracy is not None]
    if not known or not classes:
        return ""
    best, when = max(known, key=lambda at: (at[0], -at[1]))
    final = known[-1][0]
    chance = classes > 0 and final <= CHANCE / classes
    if best - final < FALL and not chance:
        return ""
    text = f"accuracy fell from {percent(best)} in round {when} to {percent(final)}"
    if best - final < FALL:
        text = f"accuracy is {percent(final)}"
    if chance:
        text += f", no better than chance with {classes:,} classes"
    text += f": {_defence(settings)}"
    return f"{text}; if there is no attack, {STEPS}" if chance else text


def _defence(settings: Settings) -> str:
    """Return in a few words what stands between an update and the model."""
    rule, votes, looks = settings.aggregation, settings.validation, settings.detection
    bare = rule.rule == "mean" and not (rule.clip or rule.pre_aggregation)
    if bare and not (votes.asked or votes.server or votes.piggy_back or looks.detectors):
        return "this run has no defence (plain mean, no validators, no detection)"
    parts = [f"rule {rule.rule}" if not bare else "plain mean"]
    parts.append(f"{votes.asked:,} validators" if votes.asked else "no clients that vote")
    looked = f"detection by {', '.join(looks.detectors)}"
    parts.append(looked if looks.detectors else "no detection")
    return f"the defence did not stop it ({', '.join(parts)})"


def unseen(rounds: list[RoundRecord], classes: int) -> str:
    """Return what the validators cannot see for want of samples, if there is such a thing."""
    judged = [one.votes for one in rounds if one.votes.median_samples and one.votes.rejects_at]
    if not judged:
        return ""
    last = judged[-1]
    assert last.median_samples
    return blind(last.median_samples, classes, last.asked, last.rejects_at)


def doubted(rounds: list[RoundRecord], settings: Settings) -> str:
    """Return that the judge is not to be trusted with these models, if that is so."""
    told = [still_share(one.votes) for one in rounds]
    return untrusted(settings.validation.judge, [share for share in told if share is not None])


def _in(numbers: Iterable[int]) -> str:
    """List rounds, like " (rounds 3, 6, 9, ...)"; nothing for none."""
    values = list(numbers)
    if not values:
        return ""
    more = ", ..." if len(values) > SHOWN else ""
    return f" (round{'s' * (len(values) != 1)} {', '.join(map(str, values[:SHOWN]))}{more})"
