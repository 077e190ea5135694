"""Who is suspected of being fake, who is no longer called, and who is heard again. All pure.

Detectors score everybody in each round. Who is suspected in ``strikes`` rounds, not made good by
as many without, is in quarantine if there is to be one: not called for ``appeal`` rounds, then
once more. Suspected again it has failed its appeal, and after ``appeals`` of these it stays out.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.config.sections import Detection
from fedjury.detection import SUSPECT, Detector, Memory, Seen
from fedjury.protocol.record import DetectionRecord, Truth
from fedjury.round.past import NOTHING, Past
from fedjury.round.sampling import Purpose, draw

NONE: Mapping[str, Any] = MappingProxyType({})

FOR_GOOD = 2**31 - 1
"""A round that never comes."""

STRANGERS = 4
"""Times as many agents as are online are known by name, at the most."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How fakes are looked for, and what becomes of them."""

    detectors: Mapping[str, Detector] = field(default_factory=dict)
    rules: Detection = field(default_factory=lambda: Detection(quarantine=False))
    """What becomes of those who are suspected."""
    newcomers: int = 0
    """Agents let in a round once the run has begun; 0: all who come."""
    past: bool = False
    """Whether the rule asks for what each agent sent in earlier rounds."""

    @property
    def remembers(self) -> bool:
        """Whether anything has to be kept from round to round."""
        return bool(self.detectors or self.newcomers or self.past)


NOBODY = Watch()
"""Nobody is looked for."""


class Standing(NamedTuple):
    """Where an agent stands. Agents without strikes have none."""

    strikes: int = 0
    until: int = 0
    """The round in which it is called again; 0: it is not in quarantine."""
    failed: int = 0
    """Appeals that failed."""


@dataclass(frozen=True, slots=True)
class Docket:
    """What is known of the agents after a round."""

    standings: Mapping[str, Standing] = field(default_factory=dict)
    memories: Mapping[str, Memory] = field(default_factory=dict)
    """Detector -> what it remembers."""
    seen: Mapping[str, int] = field(default_factory=dict)
    """Agent -> the round before which it was first seen."""
    admitted: Mapping[str, int] = field(default_factory=dict)
    """Agent -> the round from which on it may be called."""
    votes: Mapping[str, bool] = field(default_factory=dict)
    """Who voted in the last round -> whether it said "poisoned"."""
    verdict: bool | None = None
    """Whether that candidate was accepted; None if nobody voted."""
    past: Past = NOTHING


EMPTY = Docket()


@dataclass(frozen=True, slots=True)
class Findings:
    """What a round's updates said of their senders."""

    docket: Docket
    """What will be known after the round."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Agent -> its suspicion, the highest of all detectors."""
    suspected: Mapping[str, str] = field(default_factory=dict)
    """Agent -> the detector that suspects it most, of those suspected in this round."""


def welcome(docket: Docket, online: Names[str], round_: int, watch: Watch, seed: int) -> Docket:
    """Take note of who is there before a round, and let newcomers in: all, or so many a round.

    Who was there before the first round is let in at once; of others those that the seed says.
    Names are free to make up: too many are not kept, but for those of the first round, who are no
    newcomers if the network lost them for a while.
    """
    if not watch.remembers:
        return docket
    seen, standings = dict(docket.seen), docket.standings
    if len(seen) > STRANGERS * len(online):
        seen = {name: since for name, since in seen.items() if name in online or since == 1}
        standings = {name: standing for name, standing in standings.items() if name in seen}
    since = round_ if docket.seen else 1
    seen |= dict.fromkeys(sorted(name for name in online if name not in seen), since)
    outside = sorted(name for name in online if name not in docket.admitted)
    if watch.newcomers and docket.admitted:
        already = sum(since == round_ for since in docket.admitted.values())
        outside = list(draw(outside, watch.newcomers - already, seed, round_, Purpose.ADMIT))
    kept = {name: since for name, since in docket.admitted.items() if name in seen}
    admitted = kept | dict.fromkeys(outside, round_)
    return replace(docket, standings=standings, seen=seen, admitted=admitted)


def resumed(docket: Docket, watch: Watch) -> Docket:
    """Return what a resumed run, whose settings may have changed, goes by of what was known.

    Memories of detectors that do not look any more are dropped by ``inspect``.
    """
    standings = docket.standings
    if not watch.rules.quarantine:
        standings = {name: Standing(at.strikes) for name, at in standings.items() if at.strikes}
    return replace(docket, standings=standings, past=docket.past if watch.past else NOTHING)


def in_quarantine(docket: Docket, round_: int) -> Names[str]:
    """Return who is not to be called in a round."""
    return {name for name, standing in docket.standings.items() if standing.until > round_}


def eligible(docket: Docket, online: Names[str], round_: int, watch: Watch) -> Names[str]:
    """Return those who may be called: let in, and not in quarantine."""
    if not watch.remembers:
        return online
    out = in_quarantine(docket, round_)
    return [name for name in online if name in docket.admitted and name not in out]


def passes_over(docket: Docket, round_: int) -> bool:
    """Say whether anybody may not be called in a round, so that who may has to be named."""
    return bool(in_quarantine(docket, round_)) or len(docket.admitted) < len(docket.seen)


def inspect(watch: Watch, docket: Docket, seen: Seen) -> Findings:
    """Let the detectors look at a round, and say where everybody stands after it."""
    scores: dict[str, float] = {}
    by: dict[str, str] = {}
    memories: dict[str, Memory] = {}
    for detector, detect in watch.detectors.items():
        found, memories[detector] = detect(seen, docket.memories.get(detector, NONE))
        for name, score in found.items():
            if score > scores.get(name, -1.0):
                scores[name], by[name] = float(score), detector
    suspected = {name: by[name] for name in sorted(scores) if scores[name] >= SUSPECT}
    standings = dict(docket.standings)
    for name in {*seen.names, *suspected}:
        now = judged(standings.get(name, Standing()), name in suspected, seen.round, watch)
        if now == Standing():
            standings.pop(name, None)
        else:
            standings[name] = now
    after = replace(
        docket,
        standings={name: standings[name] for name in sorted(standings)},
        memories=memories,
        past=docket.past.plus(seen.names, seen.updates, docket.seen) if watch.past else docket.past,
    )
    return Findings(after, scores, suspected)


def judged(standing: Standing, suspected: bool, round_: int, watch: Watch) -> Standing:
    """Return where an agent stands after a round in which it was suspected, or was not."""
    if standing.until > round_:
        return standing
    on_appeal, rules = standing.until > 0, watch.rules
    if not suspected:
        left = max(0, standing.strikes - 1)
        return Standing(left, standing.until if left else 0, standing.failed if left else 0)
    strikes = min(standing.strikes + 1, rules.strikes)
    if not rules.quarantine or strikes < rules.strikes:
        return standing._replace(strikes=strikes)
    failed = standing.failed + on_appeal
    until = FOR_GOOD if rules.appeals and failed >= rules.appeals else round_ + rules.appeal + 1
    return Standing(strikes, until, failed)


def record(findings: Findings, left_out: int, round_: int) -> DetectionRecord:
    """Write down who was suspected of what, and who is out after the round.

    Most scores of a thousand agents can be nothing; these are left out.
    """
    standings = findings.docket.standings
    scores = {name: round(score, 3) for name, score in sorted(findings.scores.items())}
    return DetectionRecord(
        suspicion={name: score for name, score in scores.items() if score},
        suspected=dict(findings.suspected),
        left_out=left_out,
        quarantined=tuple(sorted(in_quarantine(findings.docket, round_))),
        for_good=tuple(name for name, at in standings.items() if at.until == FOR_GOOD),
    )


def against_truth(said: DetectionRecord, evil: Names[str]) -> Truth:
    """Hold a round's detection against who is evil, which only an experiment knows.

    Flagged is who was suspected in the round or is in quarantine after it. ``precision``: the share
    of the flagged that are evil; ``recall``: the share of the evil that are flagged; None where
    there is nobody to take a share of.
    """
    flagged = {*said.suspected, *said.quarantined}
    hits = len(flagged.intersection(evil))
    return Truth(
        precision=hits / len(flagged) if flagged else None,
        recall=hits / len(evil) if evil else None,
        wrongly_quarantined=len(set(said.quarantined).difference(evil)),
        wrongly_for_good=len(set(said.for_good).difference(evil)),
    )


Arrays = dict[str, npt.NDArray[np.generic]]


def to_arrays(docket: Docket) -> Arrays:
    """Write a docket as plain arrays, for the disk."""
    names = _names(docket.standings)
    arrays: Arrays = {
        "standings.names": names,
        "standings": np.array(list(docket.standings.values()), np.int64).reshape(-1, 3),
        "verdict": np.array([-1 if docket.verdict is None else docket.verdict], np.int64),
        "past.names": docket.past.names,
        "past": docket.past.rows,
    }
    for key in ("seen", "admitted", "votes"):
        numbers: Mapping[str, int] = getattr(docket, key)
        arrays |= {f"{key}.names": _names(numbers), key: np.array([*numbers.values()], np.int64)}
    for detector, memory in docket.memories.items():
        arrays |= {f"memory.{detector}.{key}": value for key, value in memory.items()}
    return arrays


def from_arrays(arrays: Arrays) -> Docket:
    """Read what ``to_arrays`` wrote.

    Raises
    ------
    KeyError
        If something is missing.
    """
    memories: dict[str, Arrays] = {}
    for name, value in arrays.items():
        if name.startswith("memory."):
            detector, key = name.removeprefix("memory.").split(".", 1)
            memories.setdefault(detector, {})[key] = value
    verdict = int(arrays["verdict"].item())
    standings = (Standing(*map(int, row)) for row in arrays["standings"].tolist())
    past = Past(arrays["past.names"], arrays["past"].astype(np.float32))
    return Docket(
        dict(zip(_texts(arrays["standings.names"]), standings, strict=True)),
        memories,
        _counts(arrays, "seen"),
        _counts(arrays, "admitted"),
        {name: bool(said) for name, said in _counts(arrays, "votes").items()},
        None if verdict < 0 else bool(verdict),
        past,
    )


def _names(names: Names[str]) -> npt.NDArray[np.bytes_]:
    return np.array(list(names), dtype="S64")


def _texts(names: npt.NDArray[np.generic]) -> list[str]:
    return [name.decode() for name in names.tolist()]


def _counts(arrays: Arrays, key: str) -> dict[str, int]:
    return dict(zip(_texts(arrays[f"{key}.names"]), arrays[key].tolist(), strict=True))
