"""What the probes of a broker come to: a finding for each, a table, an exit code. All is pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a probe came to."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "FAILED"


RANK = {Verdict.PASSED: 0, Verdict.WARNING: 1, Verdict.FAILED: 2}

WHY = {
    "MQTT version": "with MQTT 5 a broker says why it refuses something; 3.1.1 will do",
    "QoS 1": "updates and votes must arrive, each once",
    "retained": "agents that join later, or again, get the model and the round this way",
    "retained by wildcard": "an aggregator that restarts learns who is there this way",
    "last will": "a round waits for agents that are gone until somebody says so",
    "payload": "a model, and each update as float32, is one message",
    "slow subscriber": "an aggregator that computes reads nothing for a while; its updates wait",
    "in flight": "a distant subscriber waits a round trip for every so many messages",
    "same name twice": "an agent whose old connection hangs comes back under its own name",
    "session": "bridges between cells keep one, so that nothing is lost while a link is down",
    "$SYS": "the aggregator reports what the broker has dropped, as counted there",
    "access": "no agent may speak for another",
    "silent client": "a machine without power says no goodbye; its will must be sent all the same",
}
"""Each probe's name, in the order of the table -> why fedjury needs it."""

ROOMY = 32 * 2**20
"""Bytes of the largest payload that our own configuration takes."""
AT_A_TIME = 100
"""Messages in flight with our own configuration."""
ROUNDS_QUEUED = 3
"""So many rounds of messages are sent to a subscriber that does not read."""


@dataclass(frozen=True)
class Finding:
    """What one probe found."""

    name: str
    verdict: Verdict
    measured: str
    nodes: str = ""
    """Between which nodes, where there are several."""

    @property
    def why(self) -> str:
        """Why fedjury needs it."""
        return WHY[self.name]

    def as_json(self) -> dict[str, str]:
        """Return what ``--json`` says of it."""
        words = {"name": self.name, "verdict": self.verdict.lower(), "measured": self.measured}
        return words | {"nodes": self.nodes, "why": self.why}


@dataclass(frozen=True)
class Delivery:
    """Messages of QoS 1 that went through a broker."""

    sent: int
    acknowledged: int
    came: Sequence[int]
    """The numbers of those that arrived, in the order in which they did."""
    refusal: str = ""
    """What the broker said against it, if it said anything."""

    @property
    def arrived(self) -> int:
        """How many different ones."""
        return len(set(self.came))

    @property
    def twice(self) -> int:
        """How many came again."""
        return len(self.came) - self.arrived

    @property
    def ordered(self) -> bool:
        """Whether they came in the order in which they were sent."""
        return list(self.came) == sorted(self.came)

    def __str__(self) -> str:
        words = f"{self.arrived:,} of {self.sent:,} arrived, {self.acknowledged:,} acknowledged"
        return f"{words}; {self.refusal}" if self.refusal else words


def of_delivery(sent: Delivery) -> Finding:
    """Judge messages to a subscriber that reads."""
    verdict, more = Verdict.PASSED, ", in order, none twice"
    if sent.arrived < sent.sent:
        verdict, more = Verdict.FAILED, ""
    elif sent.twice or not sent.ordered:
        twice = f", {sent.twice:,} of them twice" if sent.twice else ""
        verdict, more = Verdict.WARNING, twice or ", not in order"
    return Finding("QoS 1", verdict, f"{sent}{more}")


def of_slow(sent: Delivery, needed: int) -> Finding:
    """Judge messages to a subscriber that reads nothing until all were sent; all should wait."""
    if sent.arrived >= sent.sent:
        return Finding("slow subscriber", Verdict.PASSED, f"{sent}")
    lost = sent.acknowledged - sent.arrived
    more = f", so that {lost:,} were acknowledged and dropped" if lost > 0 else ""
    untaken = lost <= 0 and not sent.refusal
    if untaken:
        more = ", and it did not take the others in time"
    enough = untaken or sent.arrived >= needed
    verdict = Verdict.WARNING if enough else Verdict.FAILED
    return Finding("slow subscriber", verdict, f"{sent}{more}; {needed:,} must wait")


def of_wildcard(arrived: int, retained: int, needed: int) -> Finding:
    """Judge how many retained messages a subscription with a wildcard got."""
    words = f"{arrived:,} of {retained:,} arrived"
    if arrived >= retained >= needed:
        return Finding("retained by wildcard", Verdict.PASSED, words)
    if arrived >= retained:
        words += f", and it did not take {needed:,} in time"
        return Finding("retained by wildcard", Verdict.WARNING, words)
    verdict = Verdict.WARNING if arrived >= needed else Verdict.FAILED
    return Finding("retained by wildcard", verdict, f"{words}; {needed:,} must")


def of_payload(largest: int, needed: int, stopped: str) -> Finding:
    """Judge the largest payload that came through; ``stopped``: why none larger did, if so."""
    verdict = Verdict.PASSED
    if largest < needed:
        verdict = Verdict.FAILED
    elif stopped:
        verdict = Verdict.WARNING
    words = f"{largest:,} bytes came through" if largest else "nothing came through"
    return Finding("payload", verdict, f"{words}; {stopped}" if stopped else words)


def of_flight(count: int, sent: int) -> Finding:
    """Judge how many messages a subscriber gets before it must acknowledge one."""
    few = count < min(sent, AT_A_TIME)
    words = f"{count:,} at a time" if count < sent else f"{count:,} or more at a time"
    return Finding("in flight", Verdict.WARNING if few else Verdict.PASSED, words)


def of_will(seconds: float | None, *, kept: bool, after_goodbye: bool) -> Finding:
    """Judge a last will: when it came, if it did, if it was retained, and if it came unasked."""
    if seconds is None:
        return Finding("last will", Verdict.FAILED, "none came after a connection was cut")
    words = f"came {seconds:.1f} s after a connection was cut"
    if after_goodbye:
        return Finding("last will", Verdict.FAILED, f"{words}, and also after a proper goodbye")
    if not kept:
        return Finding("last will", Verdict.FAILED, f"{words}, but was not retained")
    return Finding("last will", Verdict.PASSED, f"{words}, and is retained")


def worst(findings: Iterable[Finding]) -> Finding:
    """Return the worst finding of a probe between several nodes; of equals the first."""
    return max(findings, key=lambda one: RANK[one.verdict])


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if everything that fedjury needs is there, else 1."""
    return int(any(one.verdict is Verdict.FAILED for one in findings))


def table(findings: Sequence[Finding]) -> list[str]:
    """Write a line for each probe, and one of them all."""
    wide = max(len(one.name) for one in findings)
    shown = [f"{one.measured} ({one.nodes})" if one.nodes else one.measured for one in findings]
    lines = [
        f"{one.verdict:7}  {one.name:{wide}}  {text}  -- {one.why}"
        for one, text in zip(findings, shown, strict=True)
    ]
    return [*lines, summary(findings)]


def summary(findings: Sequence[Finding]) -> str:
    """Return what all of it comes to, in a sentence."""
    failed = [one.name for one in findings if one.verdict is Verdict.FAILED]
    warned = [one.name for one in findings if one.verdict is Verdict.WARNING]
    if failed:
        return f"this broker will not do: {', '.join(failed)}"
    if warned:
        return f"this broker will do; see to: {', '.join(warned)}"
    return "this broker will do"
