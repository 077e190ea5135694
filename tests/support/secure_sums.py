"""What a broker sees of secure aggregation: which sums were opened over which model."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import BadMessage, Candidate, Model, Phase, Round
from fedjury.protocol.secure import SecurePeers, UnmaskRequest
from fedjury.protocol.topics import USUAL
from fedjury.secure.agent import base_of, places_in


class OpenedOnTheWire:
    """Listens on a run, and knows the members of every sum that its aggregator asked to open."""

    def __init__(self) -> None:
        self.sums: dict[bytes, set[frozenset[str]]] = defaultdict(set)
        """The model from which they trained -> whose updates were in each sum."""
        self._models: dict[int, bytes] = {}
        self._candidate = self._base = b""
        self._group: dict[tuple[int, int, int], dict[int, str]] = defaultdict(dict)
        """Round, attempt, group -> place -> name."""
        self._of: dict[tuple[str, int, int], int] = {}

    def __call__(self, topic: str, payload: bytes) -> None:
        """Take a message."""
        try:
            kind = USUAL.parse(topic).kind
        except BadMessage:
            return
        if kind not in (Round, Model, Candidate, SecurePeers, UnmaskRequest) or not payload:
            return
        match codec.decode(topic, payload, Limits(finite=False)):
            case Model(version, weights):
                self._models[version] = base_of(weights)
            case Candidate(weights=weights):
                self._candidate = base_of(weights)
            case Round(version=version, phase=phase):
                judged = phase is Phase.JUDGE_AND_TRAIN
                self._base = self._candidate if judged else self._models.get(version, b"")
            case SecurePeers() as peers:
                turn = peers.round, peers.attempt
                self._group[*turn, peers.group][peers.place] = peers.agent
                self._of[peers.agent, *turn] = peers.group
            case UnmaskRequest(agent, number, attempt, survivors):
                members = self._group[number, attempt, self._of[agent, number, attempt]]
                alive = places_in(survivors, len(members))
                self.sums[self._base].add(frozenset(members[place] for place in alive))

    def check(self) -> None:
        """Make sure that of the sums over one model, no two overlap in part."""
        for sums in self.sums.values():
            for one, other in combinations(sums, 2):
                assert one.isdisjoint(other), sorted(one & other)
