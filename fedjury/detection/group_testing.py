"""Group testing: agents whose groups keep being voted down, whoever else is in them.

It sees no update. For each agent there is a stake of 1, which is bet round after round on the
agent being malicious. The rest of a round taken as it is (who is malicious, which groups were voted
down, where those stand who are suspected more than at first), an honest agent was put by lot into
one of the places that the others share. So a bet that pays w(own place) / mean of w over these
places is fair to it, whatever w is; here the ratio of the probabilities of the group's verdict
if the agent is malicious and if it is honest, which a companion under suspicion brings close to 1.

The stake of an honest agent is a supermartingale: it ever grows to n / ``chance`` with probability
``chance`` / n at most (Ville 1939), however long the run is. Agents whose stake does are flagged:
of n agents any honest one with probability ``chance`` at most. How often honest groups are voted
down, how often others are, and how many agents are malicious decides how soon agents are
flagged, and not how surely. Groups must be drawn by a secret (``groups.secret``): agents that can
foresee their companions could strike only beside those that are to be blamed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedjury.detection.detector import Detector, GroupVerdict, Memory, Observation, Scores
from fedjury.detection.rows import BLOCK, Bools, Floats, Ints, Rows, aligned, recall, renewed
from fedjury.registry import detector
from fedjury.registry.bounds import FromOne, NotNegative, Probability

EXPECTED = 0.05
"""Share of agents that are taken for malicious before anything is known of them."""

ERRS = 0.02
"""How often a group of honest agents is taken to be voted down."""

BOLDEST = 0.5
"""Share of malicious agents' groups that are taken to be voted down, at the most: a higher one
would all but clear a malicious agent at the first verdict that it escapes."""

MOST = 1e60
"""The largest stake."""


@detector(report="was in groups that kept being voted down")
def group_testing(
    chance: Probability = 0.01, uneven: FromOne = 1.5, half_life: NotNegative = 0.0
) -> Detector:
    """Build the detector of agents whose groups keep being voted down.

    ``chance``: that any honest agent is ever flagged. ``uneven``: how many times as often as others
    an honest agent may be in a group that is voted down, for its data are unlike theirs, or those
    malicious did not strike. ``half_life``: rounds after which evidence counts half; 0: it stays.
    """
    fading = 0.5 ** (1 / half_life) if half_life else 1.0

    def detect(observation: Observation, memory: Memory) -> tuple[Scores, Memory]:
        rows = _faded(recall(memory, "stakes", "rounds"), fading)
        down = [group.left_out for group in observation.groups]
        if any(down) and not all(down):
            rows = _after(rows, observation, uneven)
        known = sorted(observation.joined)
        bar = math.log(max(len(known), len(rows.names)) / chance) if known else 1.0
        scores = np.log(aligned(rows, "stakes", known, 1.0)) / (2 * bar)
        return dict(zip(known, scores.clip(0, 1).tolist(), strict=True)), rows.memory()

    return detect


def _faded(rows: Rows, fading: float) -> Rows:
    """Return what is known with evidence against agents faded; what speaks for them stays.

    A stake that is taken down stays fair; one that is put up would not.
    """
    if fading == 1 or "stakes" not in rows.values:
        return rows
    stakes = rows.values["stakes"]
    return rows._replace(
        values={**rows.values, "stakes": np.where(stakes > 1, stakes**fading, stakes)}
    )


def _after(rows: Rows, observation: Observation, uneven: float) -> Rows:
    """Return what is known after these verdicts.

    Of each stake a part is held back, ever less of it: 1/2 in the first round with such verdicts,
    1/3 in the next ... So one who strikes late is found late, and not never.
    """
    names, group, down = _placed(observation.groups)
    stakes, rounds = aligned(rows, "stakes", names, 1.0), aligned(rows, "rounds", names) + 1
    held = 1 / (rounds + 1)
    stakes = np.minimum(held + (stakes - held) * payoffs(stakes, group, down, uneven), MOST)
    values = {"stakes": stakes, "rounds": rounds}
    return renewed(rows, names, values, observation.round, len(observation.joined))


def _placed(groups: Sequence[GroupVerdict]) -> tuple[list[str], Ints, Bools]:
    """Return the members of all groups, sorted, the group of each (n,), and who is down (m,)."""
    placed = {name: number for number, group in enumerate(groups) for name in group.members}
    names = sorted(placed)
    down = np.array([group.left_out for group in groups], np.bool_)
    return names, np.array([placed[name] for name in names], np.int64), down


def payoffs(stakes: Floats, group: Ints, down: Bools, uneven: float = 1.0) -> Floats:
    """Return what a stake of 1 on each of n agents becomes by a round's verdicts, (n,).

    ``stakes`` (n,): what the agents' stakes were. ``group`` (n,): the group of each. ``down`` (m,):
    whether a group was voted down. ``uneven``: see ``group_testing``.
    """
    odds = EXPECTED / (1 - EXPECTED) * stakes
    honest = np.log(np.maximum(1 / (1 + odds), 1e-3))  # nobody is taken for malicious for certain
    suspected = stakes > 1
    free = ~suspected
    places = np.bincount(group[free], minlength=len(down)).astype(np.float64)
    suspects = np.zeros(len(down))
    np.add.at(suspects, group[suspected], honest[suspected])
    usual = float(honest[free].mean()) if free.any() else 0.0
    result = np.ones(len(stakes))
    if free.any():
        result[free] = _payoffs_at(places, suspects, usual, down, uneven)[group[free]]
    judged = np.flatnonzero(suspected)
    for some in np.array_split(judged, 1 + len(judged) * len(down) // BLOCK):
        # One that is judged itself is free to be anywhere: the others stay where they are.
        each, own = np.arange(len(some)), group[some]
        of, others = np.tile(places, (len(some), 1)), np.tile(suspects, (len(some), 1))
        of[each, own] += 1
        others[each, own] -= honest[some]
        result[some] = _payoffs_at(of, others, usual, down, uneven)[each, own]
    return result


def _payoffs_at(
    places: Floats, suspects: Floats, usual: float, down: Bools, uneven: float
) -> Floats:
    """Return what a stake of 1 on an agent becomes, had it been in each of m groups, (..., m).

    ``places`` (..., m): free ones in each group. ``suspects`` (..., m): logarithm of the chance
    that none of those under suspicion there is malicious. ``usual``: the same of one agent in a
    free place.
    """
    spoiled = 1 - np.exp(np.minimum(suspects + usual * np.maximum(places - 1, 0), 0))
    free = places.sum(-1)
    # How often malicious agents strike in this round, as the share that was voted down says.
    excess = (places @ down) / free - ERRS
    most = np.maximum((places * spoiled).sum(-1) / free * (1 - ERRS), 1e-9)
    strikes = np.clip(excess / most, 0, BOLDEST)[..., None]
    expected = ERRS + (1 - ERRS) * strikes * spoiled
    ratio = np.where(down, 1 + strikes * (1 - expected) / expected, 1 - strikes)
    weights = places * np.where(down, uneven, 1.0)
    mean = (weights * ratio).sum(-1, keepdims=True) / weights.sum(-1, keepdims=True)
    result: Floats = ratio / mean
    return result
