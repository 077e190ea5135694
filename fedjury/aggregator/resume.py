"""Where a run goes on: from what is in its folder, or from its first model."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import version
from typing import Any

from fedjury.aggregator import manifest, records
from fedjury.aggregator.assembly import Parts
from fedjury.aggregator.release_file import RELEASE
from fedjury.aggregator.store import RunStore, Saved, StoreError
from fedjury.config.settings import Settings
from fedjury.detection.state import AgentRegistry, resumed
from fedjury.learning.error_profiles import Profile
from fedjury.learning.weights import Vector, step_between
from fedjury.protocol.harm import Harm
from fedjury.protocol.measured import harm_of
from fedjury.protocol.messages import Manifest, Model
from fedjury.protocol.record import RoundRecord
from fedjury.round.memory import RuleMemory
from fedjury.round.release import Release
from fedjury.round.state import GlobalModel, RoundConfig, State, Waiting
from fedjury.round.sums import NO_SUMS, OpenedSums

PACKAGES = ("torch", "numpy", "scikit-learn", "paho-mqtt", "msgpack", "safetensors")


def show(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def resume(
    store: RunStore, settings: Settings, parts: Parts, say: Callable[[str], None] = show
) -> tuple[list[Model], State]:
    """Go on where the run stopped, or begin with version 0; ``say`` tells people where that is.

    Raises
    ------
    StoreError
        If the folder holds another run, or one that cannot go on.
    """
    now, before = description(settings, parts), store.described()
    told = manifest.changes(store.folder, before, now) if store.begun else []
    records.check(store.folder)
    saved = store.load(parts.manifest.parameters if before else None)
    if saved is None:
        store.describe(now)
        first = Model(0, parts.model.read())
        quality = parts.config.measure(first.weights)
        record = with_harm(RoundRecord(0, settings.run.name, model=quality))
        store.save(first, record)
        return [first], begin([first], record, parts.config)
    history = fitting(saved.models, store, settings, parts.manifest)
    number, latest = saved.record.round, history[-1].version
    say(f"run {settings.run.name!r} resumes after round {number}, at version {latest}")
    for line in (*told, *saved.notes):
        say(line)
    memory, rule = saved.memory, settings.aggregation.rule
    if memory is not None and memory.rule != rule:
        say(f"what rule {memory.rule!r} kept is of no use to rule {rule!r}, which begins anew")
        memory = None
    check_releases(saved, settings, store)
    record = with_harm(saved.record, records.read_records(store.folder))
    left = saved.pending, saved.registry, memory, saved.release, saved.sums
    return history, begin(history, record, parts.config, *left)


def check_releases(saved: Saved, settings: Settings, store: RunStore) -> None:
    """Refuse to go on with noise where rounds were without it, or the other way round.

    Raises
    ------
    StoreError
        If epsilon would not be that of the whole run.
    """
    rounds, noise = saved.record.round, settings.privacy.noise
    if noise and rounds and saved.release is None:
        raise StoreError(
            f"{store.folder} has {rounds} rounds and no {RELEASE}: nothing bounds what they told "
            "without noise; choose another --run, or resume without privacy.noise"
        )
    if not noise and saved.release is not None:
        raise StoreError(
            f"{store.folder} holds a run with differential privacy, of which rounds without noise "
            "would leave nothing; resume with privacy.noise, or choose another --run"
        )


def with_harm(last: RoundRecord, rounds: Iterable[RoundRecord] = ()) -> RoundRecord:
    """Return the record to go on from with the harm so far; an older one does not say it."""
    return last if last.harm != Harm() else replace(last, harm=harm_of([*rounds, last]))


def fitting(
    models: list[Model], store: RunStore, settings: Settings, manifest: Manifest
) -> list[Model]:
    """Return the accepted models that the next round needs, of those that were kept.

    Raises
    ------
    StoreError
        If they are those of another model, or too few.
    """
    wanted, kept, version = settings.validation.look_back + 1, len(models), models[-1].version
    for model in models:
        if len(model.weights) != manifest.parameters:
            raise StoreError(
                f"{store.folder} holds a run of another model ({len(model.weights):,} parameters, "
                f"not {manifest.parameters:,}); choose another --run"
            )
    voting = settings.validation
    votes = voting.asked or voting.piggy_back or voting.server
    if votes and 3 <= kept < min(wanted, version + 1):
        raise StoreError(
            f"{store.folder} keeps the last {kept} models, too few to look back at {wanted - 1}; "
            f"resume with --look-back {kept - 1} at most"
        )
    # Some rules go by the step between the last two.
    if kept < min(wanted if votes else 2, version + 1):
        raise StoreError(
            f"{store.folder} lacks version {version - kept}, which the next round needs; remove "
            "the models after it to resume from an older one, or choose another --run"
        )
    return models[-wanted:]


def begin(
    history: list[Model],
    record: RoundRecord,
    config: RoundConfig,
    pending: Vector | None = None,
    registry: AgentRegistry | None = None,
    memory: RuleMemory | None = None,
    release: Release | None = None,
    sums: OpenedSums = NO_SUMS,
) -> State:
    """Return the state after the round of this record, with these accepted models.

    ``release``: the last noisy candidate. If it is of the next round, that is put to the vote.
    """
    profiles: tuple[Profile, ...] = ()
    if config.server_validator is not None:
        profiles = tuple(config.server_validator.profile(model.weights) for model in history)
    step = None
    if len(history) > 1:
        step = step_between(history[-2].weights, history[-1].weights, config.aggregation.server_lr)
    # With a pending candidate votes on that were lost, too: nobody was told of the one after it.
    waits = release if release and pending is None else None
    if waits and (waits.round, waits.version) != (record.round + 1, history[-1].version):
        waits = None
    return State(
        GlobalModel(
            history[-1].version, history[-1].weights, record.model, step, profiles, record.harm
        ),
        record.round,
        Waiting(pending if config.validation.piggy_back else None, release=waits),
        registry=resumed(registry or AgentRegistry(), config.detection),
        memory=memory or RuleMemory(),
        releases=release.releases if release else (),
        sums=sums,
    )


def description(settings: Settings, parts: Parts) -> dict[str, Any]:
    """Write down what was run, so that it can be run again."""
    message = settings.model_dump()
    del message["broker"]["password"]
    return {
        "format": manifest.FORMAT,
        "settings": message,
        "manifest": asdict(parts.manifest),
        "data": dict(parts.data),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "packages": packages(),
    }


@cache
def packages() -> dict[str, str]:
    """Return the versions of the packages whose numbers decide what a run comes to."""
    return {name: version(name) for name in PACKAGES}
