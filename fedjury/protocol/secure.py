"""What is said in the four steps of secure aggregation (``fedjury.secure``), one agent a topic.

Keys, boxes and shares of several neighbours stand in one piece, in the order of the neighbours'
places in the group; of one that is missing there are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

KEY = 32
"""Bytes of a public key, a commitment, and a hash."""
SHARE = 36
"""Bytes of a share of a secret: nine numbers of four."""
BOX = 12 + 2 * SHARE + 16
"""Bytes of a box with two of them: its nonce, what is in it, and its seal."""
NOTHING = bytes(BOX)
"""In the place of a box that there is not."""

MAX_NEIGHBOURS = 10_000
MAX_MEMBERS = 1_000_000


@dataclass(frozen=True, slots=True)
class SecureKeys:
    """Step 0, up: an agent takes part in an attempt, with new keys and so many samples."""

    agent: str
    round: int
    attempt: int
    mask_key: bytes
    """Public, to agree on masks."""
    box_key: bytes
    """Public, to agree on what locks boxes."""
    samples: int


@dataclass(frozen=True, slots=True)
class SecurePeers:
    """Step 1, down: an agent's group, and its neighbours in it."""

    agent: str
    round: int
    attempt: int
    group: int
    place: int
    """The agent's, among the members sorted by name, from 0."""
    members: int
    """How many have sent keys."""
    roster: bytes
    """SHA-256 of their names, sorted, a line each."""
    names: str
    """The neighbours', with a blank between two, in the order of their places."""
    places: bytes
    """Theirs, four bytes each, least first."""
    mask_keys: bytes
    box_keys: bytes
    threshold: int
    """How many neighbours it takes to undo a mask."""
    clip: float
    """The largest coordinate of an update that is summed."""
    bits: int
    """Of the sum."""
    weight: int
    """Of the agent's update."""
    largest: int
    """The largest weight in the group."""


@dataclass(frozen=True, slots=True)
class SecureShares:
    """Step 1, up: for each neighbour a box with a share of each of two secrets."""

    agent: str
    round: int
    attempt: int
    commitment: bytes
    """SHA-256 of the secret of the agent's own mask, so that wrong shares of it are found out."""
    boxes: bytes


@dataclass(frozen=True, slots=True)
class SecureInbox:
    """Step 2, down: the boxes for an agent; of a neighbour that has left there is none."""

    agent: str
    round: int
    attempt: int
    boxes: bytes


@dataclass(frozen=True, slots=True)
class MaskedUpdate:
    """Step 2, up: an update under masks, (d + 1,) numbers (``fedjury.secure.fixed_point``)."""

    agent: str
    round: int
    attempt: int
    version: int
    data: bytes


@dataclass(frozen=True, slots=True)
class UnmaskRequest:
    """Step 3, down: of whom there are masked updates, a bit for each place in the group."""

    agent: str
    round: int
    attempt: int
    survivors: bytes
    """Least bit of the first byte first."""


@dataclass(frozen=True, slots=True)
class UnmaskShares:
    """Step 3, up: for each neighbour a share: of its own mask if it survived, else of its key."""

    agent: str
    round: int
    attempt: int
    shares: bytes


SecureUp = SecureKeys | SecureShares | MaskedUpdate | UnmaskShares
"""What agents say."""
SecureDown = SecurePeers | SecureInbox | UnmaskRequest
"""What agents are told, each by itself."""

LONGEST: dict[type, int] = {
    SecureKeys: 0,
    SecurePeers: MAX_NEIGHBOURS * (4 + 2 * KEY + 65),
    SecureShares: MAX_NEIGHBOURS * BOX,
    SecureInbox: MAX_NEIGHBOURS * BOX,
    UnmaskRequest: MAX_MEMBERS // 8,
    UnmaskShares: MAX_NEIGHBOURS * SHARE,
}
"""Bytes of a message beside what is short, at the most; a masked update is as long as its model."""
