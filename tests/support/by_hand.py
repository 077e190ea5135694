"""Rounds by hand: toy models of two parameters, events made up, and a look at the effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace

import numpy as np

from fedjury import rules
from fedjury.config.sections import Settings
from fedjury.protocol.messages import Manifest, Update, Vote
from fedjury.protocol.record import Quality
from fedjury.round.effects import Persist, Publish
from fedjury.round.machine import step
from fedjury.round.state import GlobalModel, RoundConfig, State, Tick

MEAN = rules.build("mean")
DELTAS = {"a": (1, 0), "b": (3, 0), "c": (2, 6)}
"""Three updates whose mean is (2, 2)."""


def vector(*values):
    return np.array(values, dtype=np.float32)


SHORT = {
    "rounds": "run.rounds",
    "seed": "run.seed",
    "server_lr": "aggregation.server_lr",
    "client_fraction": "sampling.client_fraction",
    "threshold": "collect.threshold",
    "min_updates": "collect.min_updates",
    "collect_seconds": "collect.seconds",
    "attempts": "collect.attempts",
    "wait": "collect.wait",
    "validators": "validation.validators",
    "quorum": "validation.quorum",
    "min_votes": "validation.min_votes",
    "decide": "validation.decide",
    "tolerated_malicious": "validation.tolerated_malicious",
    "piggy_back": "validation.piggy_back",
    "look_back": "validation.look_back",
    "warm_up": "validation.warm_up",
    "vote_seconds": "validation.seconds",
    "finite": "limits.finite",
    "samples_cap": "limits.samples",
    "agents_cap": "limits.agents",
}
"""How tests write the settings of a round for short."""


def policy(**changes):
    """Make a policy for toy models of two parameters, whose accuracy is their first parameter."""
    settings = Settings()
    plain_policy = RoundConfig(
        rule=MEAN,
        measure=lambda weights: Quality(float(weights[0])),
        run=settings.run,
        aggregation=settings.aggregation,
        sampling=settings.sampling,
        collect=settings.collect,
        validation=settings.validation,
        limits=settings.limits,
    )
    usual = {
        "rounds": 9,
        "server_lr": 1.0,
        "collect_seconds": 10,
        "validators": 0,
        "vote_seconds": 5,
        "look_back": 2,
        "quorum": 2,
        "wait": False,
    }
    return changed(plain_policy, **usual | changes)


def changed(said, **changes):
    """Return a policy with other settings, as short as in ``SHORT``; what they fit is not asked."""
    for key, value in changes.items():
        section, _, name = SHORT.get(key, key).partition(".")
        if section == "invalid_seconds":
            said = replace(said, collecting=replace(said.collecting, settle_seconds=value))
            continue
        part = getattr(said, section).model_copy(update={name: value}) if name else value
        said = replace(said, **{section: part})
    cap = said.limits.samples
    collecting = replace(said.collecting, threshold=said.collect.threshold, largest_weight=cap)
    return replace(said, collecting=collecting)


def pending(state):
    """Return the candidate on which the round's contributors vote, if they do."""
    return getattr(state.phase, "pending", None)


def start(said, online="abc", now=0.0):
    """Open round 1 of a run whose first model is (0, 0)."""
    return step(State(GlobalModel(0, vector(0, 0)), 0), Tick(now, set(online)), said)


def play(state, said, *events):
    """Take the events one after the other; returns the last state and all effects."""
    effects = []
    for event in events:
        state, more = step(state, event, said)
        effects += more
    return state, effects


def updates(state, deltas=DELTAS):
    """Make an update of each agent for the state's round."""
    return [
        Update(name, state.round, state.version, 4, vector(*delta))
        for name, delta in deltas.items()
    ]


def vote(agent, round_=1, attempt=1, *, poisoned=False, seen=(), counts=b"", samples=4):
    seen = evidence(*seen)
    return Vote(agent, round_, attempt, poisoned, 1.5, 1.25, samples, seen, 300, counts=counts)


def evidence(*numbers):
    """Write what a judge measured as votes carry it."""
    return np.array(numbers, dtype="<f4").tobytes()


def validating(said, online="abc"):
    """Bring a run to the vote of round 1; returns the state and the effects of the last step."""
    state, _ = start(said, online)
    deltas = DELTAS | {name: (2, 2) for name in online if name not in DELTAS}
    return play(state, said, *updates(state, deltas), Tick(3.0, set(online)))


def plain(value):
    """Turn records with vectors in them into something that can be compared."""
    match value:
        case np.ndarray():
            return value.tolist()
        case tuple():
            return type(value).__name__, *map(plain, value)
        case _ if is_dataclass(value):
            said = ((field.name, plain(getattr(value, field.name))) for field in fields(value))
            return type(value).__name__, *said
        case list():
            return [plain(item) for item in value]
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case _:
            return value


def all_but_the_count(state):
    return {key: plain(item) for key, item in vars(state).items() if key != "invalid"}


def accepted_models(effects):
    return [effect.accepted for effect in effects if isinstance(effect, Persist)]


def records(effects):
    return [effect.record for effect in effects if isinstance(effect, Persist)]


def published(effects, kind):
    return [e.message for e in effects if isinstance(e, Publish) and isinstance(e.message, kind)]


def toy_manifest(**changes):
    """Make the manifest of a toy model of two parameters, or what differs from it."""
    usual = {
        "model": "mlp",
        "tensors": (("w", (2,)),),
        "parameters": 2,
        "classes": 10,
        "input_shape": (1, 8, 8),
        "epochs": 1,
        "batch_size": 4,
        "learning_rate": 0.1,
        "momentum": 0.0,
        "codec": "float32",
        "history_codec": "float32",
        "max_bytes": 8_000_000,
        "judge": "lof",
        "judge_options": {},
        "look_back": 10,
        "minimum_history": 11,
    }
    return Manifest(**usual | changes)
