"""Who is asked in a round, who is not waited for, and who has not answered."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping

from fedjury.detection.state import eligible
from fedjury.protocol.call import PARTS
from fedjury.protocol.messages import Decline, Metrics, Reason, Vote
from fedjury.protocol.record import refusals
from fedjury.randomness import Purpose, draw
from fedjury.round.lots import Lots, number_of
from fedjury.round.state import RoundConfig, State, Tick, Training, Voting, VotingOnGroups

Names = Collection[str]


def lacks_agents(state: State, tick: Tick, config: RoundConfig) -> bool:
    """Return whether fewer agents are there than a round needs, in a run that waits for them."""
    if not config.collect.wait:
        return False
    there = len(tick.online)
    if out := state.registry.in_quarantine(state.round + 1):
        there -= len(set(out).intersection(tick.online))
    return there < config.collect.min_updates


def contributors(agents: Names, tick: Tick, number: int, config: RoundConfig) -> tuple[str, ...]:
    """Draw who trains in a round, of those who may be selected.

    All, where groups stay together: whole groups are drawn then.
    """
    sampling = config.sampling
    if config.groups.fixed:
        return tuple(sorted(agents))
    count = max(1, round(sampling.client_fraction * len(agents)))
    count = min(count, sampling.most or count)
    forced = config.forced.get(number, ())
    return _drawn(Purpose.CONTRIBUTORS, agents, count, tick, number, config, forced)


def validators(agents: Names, tick: Tick, number: int, config: RoundConfig) -> tuple[str, ...]:
    """Draw who votes on the candidate of a round, of those who can."""
    votes = config.validation
    if number <= votes.warm_up or votes.piggy_back:
        return ()
    able = set(agents).difference(tick.cannot_vote) if tick.cannot_vote else agents
    if votes.on_groups:  # it is by their places in the list that they take turns
        return draw(able, votes.asked, config.run.seed, number, Purpose.VALIDATORS)
    return _drawn(Purpose.VALIDATORS, able, votes.asked, tick, number, config)


def evaluators(agents: Names, tick: Tick, number: int, config: RoundConfig) -> frozenset[str]:
    """Draw who measures the candidate of a round, of those who can."""
    fraction = config.evaluation.fraction
    if not fraction or not tick.can_evaluate:
        return frozenset()
    able = set(agents).intersection(tick.can_evaluate)
    count = max(1, round(fraction * len(able)))
    return frozenset(_drawn(Purpose.EVALUATORS, able, count, tick, number, config))


def _drawn(
    purpose: Purpose,
    agents: Names,
    count: int,
    tick: Tick,
    number: int,
    config: RoundConfig,
    forced: Names = (),
) -> tuple[str, ...]:
    """Draw some of the agents: by the seed, or more than can be named by the round's number."""
    if not 0 < config.sampling.names < count < len(agents):
        return draw(agents, count, config.run.seed, number, purpose, forced)
    lots = Lots.of(frozenset(tick.online), number_of(PART[purpose], number, config))
    return lots.lowest(agents, count, forced)


PART = dict(zip((Purpose.CONTRIBUTORS, Purpose.VALIDATORS, Purpose.EVALUATORS), PARTS, strict=True))


def asks_everybody(state: State, config: RoundConfig) -> bool:
    """Return whether all agents are selected to train, whoever they are."""
    sampling, passes_over = config.sampling, state.registry.passes_over(state.round)
    everybody = sampling.client_fraction >= 1 and not (sampling.most or passes_over)
    if isinstance(state.phase, Training) and state.phase.secure is not None:
        return everybody and not state.phase.secure.out
    return everybody


def with_calls(state: State, tick: Tick, config: RoundConfig) -> State:
    """Return the state with how those are called that are too many to name.

    They are named all the same where the exceptions would be as many names.
    """
    asked: dict[str, Names] = {"validators": state.validators, "evaluators": state.evaluators}
    if not asks_everybody(state, config):
        asked["contributors"] = state.selected
    if config.validation.on_groups:
        del asked["validators"]
    few = config.sampling.names
    many = {part: names for part, names in asked.items() if 0 < few < len(names)}
    there = frozenset(tick.online).union(*many.values()) if many else frozenset()
    calls = {}
    for part, names in many.items():
        said = Lots.of(there, number_of(part, state.round, config)).called(names)
        if len(said.names) + len(said.call.without) < len(names):
            calls[part] = said
    return state.but(calls=calls)


def unheard(asked: Names, missed: Mapping[str, int], config: RoundConfig) -> frozenset[str]:
    """Return who has left so many rounds unanswered that nobody waits for it."""
    most = config.collect.missed
    late = (name for name, times in missed.items() if times >= most) if most else ()
    return frozenset(late).intersection(asked)


def but_for(cut_off: Names, missed: Mapping[str, int]) -> Mapping[str, int]:
    """Return who left how many rounds unanswered, without those that could not answer.

    Their cell was cut off: when it is back they are waited for as others are.
    """
    if not cut_off:
        return missed
    return {name: times for name, times in missed.items() if name not in cut_off}


def still_training(state: State) -> frozenset[str]:
    """Return the evaluators that have not answered the round yet: busy, they cannot measure soon.

    Validators among them are waited for all the same, as each vote may decide.
    """
    silent = state.evaluators.intersection(state.missed, state.selected)
    return silent.difference(state.validators)


def heard_from_all(state: State, answered: Container[str]) -> bool:
    """Return whether each selected agent has answered, or has said that it sits out."""
    heard = (name in answered or name in state.declined for name in state.selected)
    return bool(state.selected) and all(heard)


def missing(
    missed: Mapping[str, int], asked: Names, answered: Container[str], declined: Names
) -> Mapping[str, int]:
    """Count who has left one more round unanswered; who answers, or declines, starts again at 0."""
    silent = [name for name in asked if name not in answered]
    if not silent and not missed:
        return missed
    kept = {name: times for name, times in missed.items() if name not in asked}
    return kept | {name: missed.get(name, 0) + 1 for name in silent if name not in declined}


def too_few(state: State, config: RoundConfig) -> str:
    """Say how many updates came of how many, and why not more."""
    text = (
        f"{len(state.updates):,} of {len(state.selected):,} selected agents sent a valid "
        f"update, {config.collect.min_updates:,} needed"
    )
    if out := len(state.declined.difference(state.updates.names)):
        text += f"; {out:,} sat out"
    if refused := refusals(state.invalid):
        text += f"; invalid: {refused}"
    excluded = len(state.registry.in_quarantine(state.round))
    return f"{text} ({excluded:,} agents are in quarantine)" if excluded else text


def unasked(
    state: State, answer: Vote | Metrics | Decline, asked: Collection[str]
) -> Reason | None:
    """Return why an answer is none to this attempt; None if it is one."""
    if (answer.round, answer.attempt) != (state.round, state.attempt):
        return Reason.WRONG_ROUND
    return None if answer.agent in asked else Reason.NOT_SELECTED


def replacements(
    state: State, phase: Voting | VotingOnGroups, tick: Tick, config: RoundConfig
) -> State | None:
    """Return the state in which others are asked in the places of the silent, once; else None."""
    silent = tuple(name for name in state.validators if name not in phase.votes)
    there = eligible(state.registry, tick.online, state.round, config.detection)
    free = set(there).difference(state.validators, tick.cannot_vote)
    others = draw(free, len(silent), config.run.seed, state.round, Purpose.REPLACEMENTS)
    if phase.silent or not others:
        return None
    places = iter(others)
    asked = (name if name in phase.votes else next(places, "") for name in state.validators)
    state = state.but(
        phase=phase.but(silent=silent),
        validators=tuple(name for name in asked if name),
        deadline=tick.now + config.validation.seconds,
    )
    return with_calls(state, tick, config) if state.calls else state
