"""What is heard of secure aggregation on a broker: which sums were opened, and with which keys."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import BadMessage, Candidate, Message, Model, Phase, Round
from fedjury.protocol.secure import MaskedUpdate, SecureKeys, SecurePeers, UnmaskRequest
from fedjury.protocol.topics import USUAL
from fedjury.round.secure_counts import FIRST
from fedjury.secure.agent import base_of
from fedjury.secure.bits import places_in

HEARD = Round, Model, Candidate, SecureKeys, SecurePeers, MaskedUpdate, UnmaskRequest
"""Messages that are of use."""

Turn = tuple[int, int]
"""Round and attempt."""


class SumsHeard:
    """Knows the members of every sum that agents were asked to open, and all public keys.

    Who was not there all the time may have missed some of it: what is not known is left out.
    """

    def __init__(self) -> None:
        self.sums: dict[bytes, set[frozenset[str]]] = defaultdict(set)
        """The model from which they trained, or the candidate on which they counted -> who was in
        each sum."""
        self.count: Counter[type[Message]] = Counter()
        """How many messages of each kind were heard."""
        self._models: dict[int, bytes] = {}
        self._candidate = b""
        self._bases: dict[tuple[Turn, bool], bytes] = {}
        """Turn, and whether counts of validators are summed -> what they follow from."""
        self._members: dict[tuple[Turn, int], dict[int, str]] = defaultdict(dict)
        """Turn and group -> place -> name."""
        self._groups: dict[tuple[str, Turn], int] = {}
        self._keys: dict[bytes, set[tuple[str, Turn]]] = defaultdict(set)
        """A public key -> whose it was, and in which attempts."""

    def overhear(self, topic: str, payload: bytes) -> None:
        """Take what crosses a broker, as far as it is of use."""
        try:
            kind = USUAL.parse(topic).kind
        except BadMessage:
            return
        if kind in HEARD and payload:
            self.hear(codec.decode(topic, payload, Limits(finite=False)))

    def hear(self, message: Message) -> None:
        """Take a message."""
        self.count[type(message)] += 1
        match message:
            case Model(version, weights):
                self._models[version] = base_of(weights)
            case Candidate(weights=weights):
                self._candidate = base_of(weights)
            case Round(number, attempt, phase, version):
                judging = phase in (Phase.JUDGE_AND_TRAIN, Phase.VALIDATE)
                base = self._candidate if judging else self._models.get(version, b"")
                voting = phase is Phase.VALIDATE
                if voting and base:
                    base = b"counts/%d/" % version + base
                self._bases.setdefault(((number, attempt), voting), base)
            case SecureKeys(agent, number, attempt, mask_key, box_key):
                for key in (mask_key, box_key):
                    self._keys[key].add((agent, (number, attempt)))
            case SecurePeers(agent, number, attempt, group, place):
                self._members[(number, attempt), group][place] = agent
                self._groups[agent, (number, attempt)] = group
            case UnmaskRequest(agent, number, attempt, survivors):
                self._opened(agent, (number, attempt), survivors)

    def _opened(self, agent: str, turn: Turn, survivors: bytes) -> None:
        group = self._groups.get((agent, turn))
        voting = group is not None and group >= FIRST
        base = self._bases.get((turn, voting))
        members = {} if group is None else self._members[turn, group]
        alive = places_in(survivors, 8 * len(survivors))
        if base and members.keys() >= {*alive}:
            self.sums[base].add(frozenset(members[place] for place in alive))

    def wrong(self) -> str:
        """Say which sums over one model overlap in part, or which key came twice; or nothing."""
        for sums in self.sums.values():
            for one, other in combinations(sums, 2):
                if not one.isdisjoint(other):
                    both = ", ".join(sorted(one & other))
                    return f"{both} are in two sums over one model that differ"
        for whose in self._keys.values():
            if len(whose) > 1:
                return f"a public key is of {sorted(whose)}"
        return ""
