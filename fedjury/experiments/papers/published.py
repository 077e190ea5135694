"""What papers report, to stand beside our figures.

Only what could be read is here; where a paper gives a range over its settings, so do we. "" is
unknown. First BAFFLE (Andreina et al., ICDCS 2021); its pairs are CIFAR-10 and FEMNIST. Then
MPAF (Cao, Gong: CVPR workshops 2022), and what others measured of it.
"""

from __future__ import annotations

from typing import NamedTuple

Pair = tuple[str, str]


class Overhead(NamedTuple):
    """What validators receive, in models (of 10 MB each)."""

    vote: str
    """For one vote."""
    twenty: str
    """In 20 rounds, in which an agent is called twice."""


UNKNOWN: Pair = ("", "")


def missed(look_back: int, agent: str, split: str) -> Pair:
    """Return the false-negative rates with q = 5."""
    if look_back == 30:
        worst = (agent, split) == ("clients", "90-10")
        return (".6" if worst else "≤ .6"), "≤ .1"
    return {10: ("0 to .1", "1.0"), 20: ("0 to .1", "≤ .1")}.get(look_back, UNKNOWN)


def alarms(look_back: int, agent: str) -> Pair:
    """Return the false-positive rates with q = 5."""
    server = {
        10: (".11 to .19", "0"),
        20: (".11 to .19", ".01 to .22"),
        30: (".021 to .193", ".01 to .22"),
    }
    clients = {10: ("0 to .043", "0"), 20: ("0 to .043", "0"), 30: ("0 to .032", "0")}
    return (server if agent == "server" else clients).get(look_back, UNKNOWN)


def quorum(q: int) -> Pair:
    """Say what the paper says of a quorum."""
    return ("safe" if 5 <= q <= 7 else ""), ("FN = FP = 0" if 3 <= q <= 9 else "")


def adaptive(agent: str, split: str) -> str:
    """Return the share of adaptive injections missed on CIFAR-10; over all, 0 to .05 are."""
    if agent == "both":
        return "0"
    return ".333" if agent == "server" and split in ("90-10", "99-1") else ""


ADAPTIVE = "paper: 95 to 100 % of adaptive injections are detected, most by 5 of 10 or more"

EARLY = (
    "paper: injections with the defence off fade within a round or so; after it is switched on, "
    "nearly all are caught"
)

BYTES = {
    "plain": Overhead("20", "40"),
    "compressed": Overhead("2", "4"),
    "incremental": Overhead("", "< 4"),
}
"""History of l = 20: 200 MB; 10 times less when compressed; a second time only what is new."""


def shown(pair: Pair) -> str:
    """Write a pair as a table shows it."""
    return " / ".join(text or "-" for text in pair) if any(pair) else ""


class Claim(NamedTuple):
    """What is published of fakes, in its own terms, and which of our runs comes nearest."""

    what: str
    said: str
    source: str
    rule: str = ""
    """Ours that it is about; "": none that we run."""
    attacks: tuple[str, ...] = ()
    percent: int = 0
    """Fakes of the genuine."""
    drop: bool = False
    """Whether the figure to set beside it is the accuracy lost, not the accuracy itself."""


PAPER = "MPAF"
FOUNDATION = "FoundationFL, Table VIII"
LAYERGUARD = "LayerGuard, Table 1"

CLAIMS = (
    Claim(
        "FedAvg, 1 % fakes, any of the three attacks",
        "falls to random guessing",
        PAPER,
        "mean",
        ("random", "history", "mpaf"),
        1,
    ),
    Claim(
        "Purchase, trimmed mean, 10 % fakes, MPAF",
        "-32 points",
        PAPER,
        "trimmed_mean",
        ("mpaf",),
        10,
        drop=True,
    ),
    Claim(
        "Purchase, trimmed mean, 10 % fakes, baselines",
        "at most -4 points",
        PAPER,
        "trimmed_mean",
        ("random", "history"),
        10,
        drop=True,
    ),
    Claim(
        "Purchase, trimmed mean, 25 % fakes, MPAF",
        "-49 points",
        PAPER,
        "trimmed_mean",
        ("mpaf",),
        25,
        drop=True,
    ),
    Claim("MNIST, no attack", ".94 to .95", FOUNDATION, "mean", ("none",), 0),
    Claim("MNIST, 20 of 100 malicious, FedAvg", ".10", FOUNDATION, "mean", ("mpaf",), 25),
    Claim(
        "MNIST, 20 of 100 malicious, trimmed mean", ".77", FOUNDATION, "trimmed_mean", ("mpaf",), 25
    ),
    Claim("MNIST, 20 of 100 malicious, median", ".71", FOUNDATION, "median", ("mpaf",), 25),
    Claim(
        "MNIST, 20 of 100 malicious, FoundationFL with trimmed mean",
        ".95",
        FOUNDATION,
        "foundationfl",
        ("mpaf",),
        25,
    ),
    Claim(
        "MNIST, 20 of 100 malicious, FoundationFL by the lowest score",
        ".95",
        FOUNDATION,
        "foundationfl, lowest",
        ("mpaf",),
        25,
    ),
    Claim(
        "CIFAR-10, 30 % malicious: no attack with FedAvg; FedAvg, Krum, trimmed mean",
        "63.26 %; 12.95, 10.42, 18.22 %",
        LAYERGUARD,
    ),
    Claim(
        "CIFAR-10, 30 % malicious: norm bound, FLAME, FLTrust", "12.91, 57.66, 50.33 %", LAYERGUARD
    ),
)
"""FoundationFL gives error rates: .90, .23, .29, .05, and .05 to .06 without attack. Of 100 agents
20 are a quarter of the genuine."""

CLIPPING = (
    "paper: norm clipping limits fakes in part and costs accuracy without attack; MPAF still hurts"
)
