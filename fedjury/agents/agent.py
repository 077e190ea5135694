"""One agent's part in a round: a pure function from what it hears to what it has to do.

Agents that share a downlink hear the same at the same time, so they are one here: ``shares``.

An agent trains when it is called and holds the version it is called for, and votes when it is a
validator, has the candidate, and has seen the models to compare it with. It does each once for
every attempt at a round.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fedjury.protocol.call import Selection
from fedjury.protocol.messages import (
    Candidate,
    GroupCandidate,
    GroupHistory,
    History,
    Manifest,
    Message,
    Model,
    Phase,
    Round,
)
from fedjury.protocol.replaceable import Replaceable


@dataclass(frozen=True, slots=True)
class Train:
    """Train from ``version`` and send what you learnt."""

    round: int
    attempt: int
    version: int


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge the candidate of this attempt against the accepted ``versions``, oldest first."""

    round: int
    attempt: int
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contribute:
    """Judge the candidate as in ``Judge``; if it is clean train from it, and send both in one."""

    round: int
    attempt: int
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JudgeGroups:
    """Judge the groups' candidates of this attempt against those of the accepted ``versions``."""

    round: int
    attempt: int
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure the candidate of this attempt on your own data."""

    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get what is needed to judge: the candidate, and the history of these versions.

    Or the candidates of these groups, and the history of groups.
    """

    versions: tuple[int, ...]
    candidate: bool = False
    groups: tuple[int, ...] = ()
    group_versions: tuple[int, ...] = ()


Assignment = Train | Judge | JudgeGroups | Evaluate | Contribute | Fetch


@dataclass(frozen=True)
class Agent(Replaceable):
    """What an agent remembers; ``look_back``: accepted models before the latest that it needs."""

    name: str
    look_back: int = 0
    round: Round | None = None
    latest: int = -1
    """The version of the last global model it received."""
    seen: frozenset[int] = frozenset()
    """Versions it has received, as models or as history."""
    candidate: tuple[int, int] | None = None
    """Round and attempt of the last candidate it received."""
    seen_groups: frozenset[int] = frozenset()
    """Versions of which it has received a group's candidate, as history."""
    group_candidates: tuple[tuple[int, int], frozenset[int]] = ((0, 0), frozenset())
    """Round and attempt, and of which of its groups it has received the candidate."""
    asked_groups: tuple[int, int] | None = None
    """Round and attempt for which it has asked for what it lacks to judge groups."""
    voted_on_groups: tuple[int, int] | None = None
    asked: tuple[int, int] | None = None
    """Round and attempt for which it has asked for what it lacks."""
    trained: tuple[int, int] | None = None
    voted: tuple[int, int] | None = None
    measured: tuple[int, int] | None = None
    shares: frozenset[str] | None = None
    """The agents that hear through this one, if it is a listener and no agent itself."""
    group_history: bool = True
    """Whether it needs accepted groups to judge groups; else only the model that they stand on."""
    remember: bool = True
    """Whether it keeps the models it has seen; if not, it fetches them all for every vote."""


def on_message(agent: Agent, message: Message) -> tuple[Agent, Assignment | None]:
    """Take a message; returns the agent as it is then, and its task if it has one now.

    Whoever carries a task out then asks :func:`react` for the next one.
    """
    match message:
        case Manifest():
            return _forget(agent), None
        case Round():
            return react(agent.but(round=message))
        case Model(version, _):
            recent = (v for v in agent.seen if v >= version - agent.look_back)
            seen = frozenset((*recent, version)) if agent.remember else agent.seen
            groups = agent.seen_groups  # none, but of a validator of groups
            if groups:
                groups = frozenset(v for v in groups if v >= version - agent.look_back)
            return react(agent.but(latest=version, seen=seen, seen_groups=groups))
        case History(version, _):
            return react(agent.but(seen=agent.seen | {version}))
        case Candidate(number, attempt, _, _):
            return react(agent.but(candidate=(number, attempt)))
        case GroupHistory(version, _):
            return react(agent.but(seen_groups=agent.seen_groups | {version}))
        case GroupCandidate(group, number, attempt):
            turn, groups = agent.group_candidates
            here = groups if turn == (number, attempt) else frozenset[int]()
            return react(agent.but(group_candidates=((number, attempt), here | {group})))
        case _:
            return agent, None


def concerned(agent: Agent, asked: Selection) -> Collection[str]:
    """Name those of the ``asked`` that this agent stands for: itself, or who share it."""
    if agent.shares is None:
        return (agent.name,) if agent.name in asked else ()
    return asked.among(agent.shares)


NOTHING: Mapping[str, Any] = {
    "trained": None,
    "voted": None,
    "voted_on_groups": None,
    "measured": None,
    "asked": None,
    "asked_groups": None,
    "candidate": None,
    "group_candidates": ((0, 0), frozenset()),
}
"""What an agent remembers of rounds before the first."""


def _forget(agent: Agent) -> Agent:
    """Forget the attempt that was answered: an aggregator that began again has no answers.

    It says the manifest first, and then the round again, which it may call by the same attempt.
    """
    now = agent.round
    answered = agent.trained, agent.voted, agent.voted_on_groups, agent.measured
    if now is None or (now.round, now.attempt) not in answered:
        return agent
    return agent.but(round=None, **NOTHING)


def began_again(agent: Agent) -> Agent:
    """Forget all but the latest model: the run goes through earlier rounds once more."""
    return agent.but(seen=frozenset({agent.latest}), seen_groups=frozenset(), **NOTHING)


def of_another(agent: Agent, *, same_model: bool) -> Agent:
    """Forget what was of another manifest; of the same model's the latest is kept."""
    return began_again(agent.but(round=None, latest=agent.latest if same_model else -1))


def react(agent: Agent) -> tuple[Agent, Assignment | None]:
    """Find what is to be done now, if anything is."""
    now = agent.round
    if now is None:
        return agent, None
    turn = (now.round, now.attempt)
    if now.phase is Phase.TRAIN:
        ready = agent.latest == now.version and agent.trained != turn
        if ready and concerned(agent, now.trains):
            return agent.but(trained=turn), Train(*turn, now.version)
    if now.phase is Phase.VALIDATE_GROUPS:
        return _judge_groups(agent, now)
    if now.phase is Phase.VALIDATE:
        return _look_at_candidate(agent, now)
    if agent.voted == turn:
        return agent, None
    if now.phase is Phase.JUDGE_AND_TRAIN and concerned(agent, now.trains):
        return _judge(agent, now, Contribute)
    return agent, None


def _look_at_candidate(agent: Agent, now: Round) -> tuple[Agent, Assignment | None]:
    """Measure the candidate, or judge it, as far as this agent is asked to."""
    turn = (now.round, now.attempt)
    measures = agent.measured != turn and concerned(agent, now.measures)
    if measures and agent.candidate == turn:
        return agent.but(measured=turn), Evaluate(*turn)
    if agent.voted != turn and concerned(agent, now.votes):
        return _judge(agent, now, Judge)
    if measures and agent.asked != turn:
        return agent.but(asked=turn), Fetch((), candidate=True)
    return agent, None


def _judge(
    agent: Agent, now: Round, kind: type[Judge | Contribute]
) -> tuple[Agent, Assignment | None]:
    """Judge if everything is here; else ask for what is not, once."""
    turn = (now.round, now.attempt)
    wanted = tuple(range(max(0, now.version - agent.look_back), now.version + 1))
    missing = tuple(version for version in wanted if version not in agent.seen)
    if agent.candidate == turn and not missing:
        seen = agent.seen if agent.remember else frozenset()
        return agent.but(voted=turn, trained=turn, seen=seen), kind(*turn, wanted)
    if agent.asked == turn:
        return agent, None
    return agent.but(asked=turn), Fetch(missing, candidate=agent.candidate != turn)


def groups_given(agent: Agent, now: Round) -> dict[str, tuple[int, ...]]:
    """Return which groups those validators judge that an agent stands for, by name.

    None judge anything where there are no groups.
    """
    mine = set(concerned(agent, now.votes) if now.groups else ())
    return {name: now.groups_of(place) for place, name in enumerate(now.validators) if name in mine}


def _judge_groups(agent: Agent, now: Round) -> tuple[Agent, Assignment | None]:
    """Judge groups if all that takes is here; else ask for what is not, once."""
    turn = (now.round, now.attempt)
    given = {} if agent.voted_on_groups == turn else groups_given(agent, now)
    if not given:
        return agent, None
    oldest = max(0, now.version - agent.look_back) if agent.group_history else now.version
    wanted = tuple(range(oldest, now.version + 1))
    past: tuple[int, ...] = ()
    if agent.group_history:
        past = tuple(version for version in wanted if version not in agent.seen_groups)
    elif agent.latest != now.version:
        return agent, None
    here = agent.group_candidates[1] if agent.group_candidates[0] == turn else ()
    groups = tuple(sorted({group for mine in given.values() for group in mine}.difference(here)))
    if not past and not groups:
        seen = agent.seen_groups if agent.remember else frozenset[int]()
        return agent.but(voted_on_groups=turn, seen_groups=seen), JudgeGroups(*turn, wanted)
    if agent.asked_groups == turn:
        return agent, None
    return agent.but(asked_groups=turn), Fetch((), groups=groups, group_versions=past)
