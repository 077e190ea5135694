"""Who the agents of one process are, and how they behave."""

from __future__ import annotations

from typing import NamedTuple

from fedjury.agents.collusion import ColluderPool
from fedjury.attacks import LocalTraining
from fedjury.attacks.validators import VoteAttack
from fedjury.judges.group_judges import GroupJudge
from fedjury.judges.judgements import Judge


class Member(NamedTuple):
    """One agent of the cohort: its name on the wire and its number in the whole fleet."""

    name: str
    number: int


class Members(NamedTuple):
    """Who is in the cohort, and how they behave."""

    holders: tuple[Member, ...]
    """Those who are dealt data, in the order of the rows of the cohort's shards.

    One whose row holds no sample sits every round out."""
    malicious: tuple[Member, ...]
    """Those who train by ``attack``; fakes are no holders."""
    malicious_validators: frozenset[str]
    """Those who say in a vote what ``vote_attack`` makes of their verdict."""
    train: LocalTraining
    attack: LocalTraining
    judge: Judge
    vote_attack: VoteAttack
    group_judge: GroupJudge | None = None
    """How they judge groups; None: one by one, as ``judge`` does."""
    attackers: frozenset[str] = frozenset()
    """The malicious agents of the whole fleet, but for those whom lack of data keeps out."""
    usual: int = 1
    """How many samples those without data say they hold: as many as others usually do."""
    claimed: int = 0
    """How many samples the malicious ones say they hold; 0: as many as they do."""
    colluders: ColluderPool | None = None
    """How the evil ones collude, if they do: ``attack`` then is what they train honestly by."""
