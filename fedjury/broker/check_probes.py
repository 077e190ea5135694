"""The probes of a broker: what an aggregator and an agent do with one, under topics of their own.

The agent is connected to one node, the aggregator to the next; where there is one, to the same.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

from fedjury.broker import check_verdicts as verdicts
from fedjury.broker.check_client import PATIENCE, CheckClient, Gone, Message, Will
from fedjury.broker.check_context import SPREAD, ProbeContext, Silence, leaving
from fedjury.broker.check_verdicts import Delivery, Finding, Verdict
from fedjury.protocol.transport.once_only import DROPPED

MANY, TOGETHER = 200, 10
"""Messages that go to a subscriber that reads; and how many at a time."""
SMALL = 1_000
"""Bytes of one of many."""
QUIET = 1.0
"""Seconds in which the next message comes, if there is one."""
KEEPALIVE = 2
"""Seconds, of the client that falls silent: after one and a half times that it counts as gone."""
LATE = 6.0
"""Seconds after that in which its will is awaited: Mosquitto looks every five."""
SIZES = (2**16, 2**19, 2**21, 2**23, verdicts.ROOMY)
"""Bytes of the packets that are tried, smaller ones first."""
GROWTH = 8
"""A packet may take so many times as long as the one before."""
CLEAR = 5.0
"""Seconds that tidying up may take."""
SILENT = "not acknowledged"
HEAD = 1_000
"""Bytes of a packet beside its payload, at the most."""


# ---------------------------------------------------------------- each of them


def speaks(context: ProbeContext) -> Finding:
    """Say which MQTT the broker speaks."""
    five = context.agent_at.five and context.aggregator_at.five
    return Finding(
        "MQTT version", Verdict.PASSED if five else Verdict.WARNING, "5" if five else "3.1.1"
    )


def quality(context: ProbeContext) -> Finding:
    """Look if messages of QoS 1 arrive, in order, each once."""
    aggregator, agent = context.as_aggregator(), context.as_agent()
    with leaving(agent, aggregator):
        granted = context.listen(aggregator)
        if granted != 1:
            words = "refused" if granted is None else f"granted with QoS {granted}"
            return Finding("QoS 1", Verdict.FAILED, f"a subscription with QoS 1 was {words}")
        messages, came = list(_numbered(context, MANY)), list[Message]()
        for start in range(0, MANY, TOGETHER):
            agent.publish_all(messages[start : start + TOGETHER], PATIENCE)
            came += aggregator.receive(TOGETHER, PATIENCE if start == len(came) else 0.01)
        came += aggregator.receive(MANY, PATIENCE if len(came) < MANY else 0.1, QUIET)
        return verdicts.of_delivery(_delivered(MANY, agent, came))


def retention(context: ProbeContext) -> Finding:
    """Look if what is retained reaches those who come later, and can be removed."""
    topic, name = context.topic("round"), "retained"
    aggregator = context.as_aggregator()
    with leaving(aggregator):
        context.keep(aggregator, topic, b"old")
        context.keep(aggregator, topic, b"new")
        seen = _retained(context, topic, b"new")
        context.keep(aggregator, topic, b"")
        left = _until_gone(context, topic)
    if not seen:
        return Finding(name, Verdict.FAILED, "a late subscriber gets nothing")
    if seen[-1].payload != b"new":
        return Finding(name, Verdict.FAILED, "a late subscriber gets what was replaced")
    if left:
        return Finding(name, Verdict.FAILED, "an empty message does not remove it")
    if len(seen) > 1 or not seen[0].retained:
        words = "what was replaced first" if len(seen) > 1 else "it, not marked as retained"
        return Finding(name, Verdict.WARNING, f"a late subscriber gets {words}")
    return Finding(name, Verdict.PASSED, "a late subscriber gets the newest; it can be removed")


def _retained(context: ProbeContext, topic: str, last: bytes) -> list[Message]:
    """Return what a new subscriber gets until the last of it; between nodes that takes a moment."""
    agent, seen = context.as_agent(), list[Message]()
    with leaving(agent):
        agent.subscribe(topic)
        end = time.monotonic() + PATIENCE
        while (not seen or seen[-1].payload != last) and time.monotonic() < end:
            seen += agent.receive(1, end - time.monotonic())
    return seen


def _until_gone(context: ProbeContext, topic: str) -> bool:
    """Look until a new subscriber gets nothing; returns whether it still does in the end."""
    end = time.monotonic() + PATIENCE
    while True:
        agent = context.as_agent()
        with leaving(agent):
            agent.subscribe(topic)
            agent.sync()
            if not any(one.payload for one in agent.receive(1, QUIET / 5)):
                return False
        if time.monotonic() > end:
            return True


def wildcard(context: ProbeContext) -> Finding:
    """Look if a subscription to many retained messages gets them all."""
    count = verdicts.ROUNDS_QUEUED * context.agents
    topics = [context.topic(f"history/{number}") for number in range(count)]
    context.retained.update(topics)
    aggregator = context.as_aggregator()
    with leaving(aggregator):
        sent = aggregator.publish_all(
            ((topic, b"x" * 50) for topic in topics), context.left / 2, retain=True
        )
    agent = context.as_agent()
    with leaving(agent):
        agent.subscribe(context.topic("history/+"))
        arrived = {one.topic for one in agent.receive(sent, min(10, context.left), PATIENCE)}
    return verdicts.of_wildcard(len(arrived), sent, context.agents)


def last_will(context: ProbeContext) -> Finding:
    """Look if the will of a connection that is cut is sent, and of one that says goodbye is not."""
    aggregator = context.as_aggregator()
    with leaving(aggregator):
        aggregator.subscribe(context.presence)
        context.retained.add(context.presence)
        context.as_agent(will=Will(context.presence, b"gone politely")).leave()
        mortal = context.as_agent(will=Will(context.presence, b"gone"))
        start = time.monotonic()
        mortal.cut()
        seen = aggregator.receive(1, PATIENCE * 2)
        polite = bool(seen) and seen[0].payload != b"gone"
        if polite:
            seen = aggregator.receive(1, PATIENCE * 2)
        seconds = time.monotonic() - start if seen else None
    late = context.as_aggregator()
    with leaving(late):
        late.subscribe(context.presence)
        kept = [one.payload for one in late.receive(1, PATIENCE if seen else 0.0)]
        context.keep(late, context.presence, b"")
    return verdicts.of_will(seconds, kept=kept == [b"gone"], after_goodbye=polite)


def silence(context: ProbeContext) -> Finding:
    """Look if the will of a client that falls silent is sent."""
    silent, observer, since = context.silent or begin_silence(context)
    with leaving(observer):
        try:
            left = since + 1.5 * KEEPALIVE + LATE - time.monotonic()
            seen = observer.receive(1, max(0.01, left))
        finally:
            silent.leave()
    words = f"of silence, with a keep-alive of {KEEPALIVE} s"
    seconds = f"{time.monotonic() - since:.0f} s {words}"
    if not seen:
        return Finding("silent client", Verdict.WARNING, f"no will within {seconds}")
    return Finding("silent client", Verdict.PASSED, f"its will came within {seconds}")


def begin_silence(context: ProbeContext) -> Silence:
    """Let a client fall silent: under a name of its own, if it may, beside everything else."""
    if context.logins.secrets:
        observer, topic, how = context.as_aggregator(), context.presence, context.as_agent
    else:
        observer, topic = context.as_observer(), context.topic("agent/silent")
        how = context.as_silent
    observer.subscribe(topic)
    context.retained.add(topic)
    silent = how(will=Will(topic, b"silent"), keepalive=KEEPALIVE)
    return Silence(silent, observer, time.monotonic())


def same_name(context: ProbeContext) -> Finding:
    """Look if a second connection under a name, at another node too, ends the first."""
    name = "same name twice"
    first = context.as_agent()
    with leaving(first):
        first.closed(SPREAD)  # until all nodes know of it
        second = context.as_agent(at=context.aggregator_at)
        with leaving(second):
            if not first.closed(PATIENCE):
                return Finding(name, Verdict.WARNING, "the old connection stays")
            if second.closed(SPREAD):
                return Finding(name, Verdict.WARNING, "both connections are ended")
    return Finding(name, Verdict.PASSED, "the new connection ends the old one")


def session(context: ProbeContext) -> Finding:
    """Look if what comes while a client is away waits for it, at another node too."""
    name, topic, count = "session", context.topic("model"), 20
    away = context.as_agent(session=True)
    try:
        away.subscribe(topic)
        away.leave()
        aggregator = context.as_aggregator()
        with leaving(aggregator):
            aggregator.publish_all(((topic, b"%d" % n) for n in range(count)), PATIENCE)
        back = context.as_agent(at=context.aggregator_at, session=True)
        with leaving(back):
            came = len({one.payload for one in back.receive(count, PATIENCE, QUIET)})
    finally:
        with contextlib.suppress(Gone):
            context.as_agent().leave()  # a clean one, so that nothing is kept for it
    verdict = Verdict.PASSED if came == count else Verdict.WARNING
    return Finding(name, verdict, f"{came} of {count} messages waited for a client that was away")


def payload(context: ProbeContext) -> Finding:
    """Look how large a message may be."""
    largest, stopped = 0, ""
    sizes = sorted({*SIZES, context.needed + HEAD})
    for size in sizes:
        start = time.monotonic()
        if said := _through(context, size - HEAD):
            stopped = f"{size - HEAD:,} did not: {said}"
            break
        largest = size - HEAD
        if size != sizes[-1] and GROWTH * (time.monotonic() - start) > context.left:
            stopped = "larger ones were not tried: they would take too long"
            break
    return verdicts.of_payload(largest, context.needed, stopped)


def _through(context: ProbeContext, size: int) -> str:
    """Send a message of so many bytes; returns what went wrong, if something did."""
    data = secrets.token_bytes(64) * (size // 64 + 1)
    aggregator, agent = context.as_aggregator(), context.as_agent()
    with leaving(agent, aggregator):
        context.listen(aggregator)
        seconds = max(PATIENCE, context.left / 4)
        agent.patience = seconds
        try:
            agent.publish(context.update, data[:size])
            acknowledged = agent.settle(seconds)
        except Gone as why:
            return str(why)
        if agent.refusal:
            return agent.refusal
        came = aggregator.receive(1, seconds if acknowledged else 0.1)
    if not came:
        return f"acknowledged, and not there {seconds:.0f} s later" if acknowledged else SILENT
    same = sha256(came[0].payload).digest() == sha256(data[:size]).digest()
    return "" if same else "it came as something else"


def slow(context: ProbeContext) -> Finding:
    """Look how many messages wait for a subscriber that reads nothing.

    A broker may take no more while nobody reads; then the rest is sent while it is read.
    """
    count = verdicts.ROUNDS_QUEUED * context.agents
    aggregator, agent = context.as_aggregator(), context.as_agent()
    with leaving(agent, aggregator):
        context.listen(aggregator)
        numbered, came = _numbered(context, count), list[Message]()
        sent = agent.publish_all(numbered, context.left / 2)
        end = time.monotonic() + min(10, context.left)
        while len(came) < count and time.monotonic() < end:
            new = aggregator.receive(count, QUIET, QUIET / 4)
            came += new
            if sent < count:
                sent += agent.publish_all(numbered, QUIET / 4)
            elif not new and agent.settle(0.01):
                new = aggregator.receive(count, QUIET)
                came += new
                if not new:
                    break
        return verdicts.of_slow(_delivered(count, agent, came), context.agents)


def _numbered(context: ProbeContext, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield updates that say their number."""
    return ((context.update, b"%d:" % number + b"x" * SMALL) for number in range(count))


def _delivered(count: int, agent: CheckClient, came: Sequence[Message]) -> Delivery:
    """Return what became of numbered updates."""
    numbers = [int(one.payload.partition(b":")[0]) for one in came]
    return Delivery(count, agent.taken, numbers, agent.refusal)


def in_flight(context: ProbeContext) -> Finding:
    """Count the messages that come before one of them is acknowledged."""
    count = 2 * verdicts.AT_A_TIME
    aggregator, agent = context.as_aggregator(), context.as_agent()
    aggregator.acknowledges = False
    with leaving(agent, aggregator):
        context.listen(aggregator)
        agent.publish_all(((context.update, b"x") for _ in range(count)), PATIENCE)
        return verdicts.of_flight(len(aggregator.receive(count, PATIENCE, QUIET)), count)


def counters(context: ProbeContext) -> Finding:
    """Look if what the broker counts can be read."""
    aggregator = context.as_aggregator()
    with leaving(aggregator):
        aggregator.subscribe(DROPPED)
        seen = aggregator.receive(1, PATIENCE)
    if seen:
        return Finding(
            "$SYS", Verdict.PASSED, f"{seen[0].payload.decode(errors='replace')} dropped"
        )
    return Finding("$SYS", Verdict.WARNING, f"{DROPPED} says nothing")


def access(context: ProbeContext) -> Finding:
    """Look if an agent can send updates under another's name."""
    name, topic = "access", context.topic("update/somebody-else")
    if not context.logins.secrets:
        return Finding(name, Verdict.PASSED, "not tried without --secrets")
    aggregator, agent = context.as_aggregator(), context.as_agent()
    with leaving(agent, aggregator):
        context.listen(aggregator)
        agent.publish(topic, b"x")
        agent.settle()
        if aggregator.receive(1, QUIET):
            return Finding(name, Verdict.WARNING, "an agent can send updates for another")
    return Finding(name, Verdict.PASSED, "an agent cannot send updates for another")


PROBES: dict[str, Callable[[ProbeContext], Finding]] = {
    "MQTT version": speaks,
    "QoS 1": quality,
    "retained": retention,
    "retained by wildcard": wildcard,
    "last will": last_will,
    "payload": payload,
    "slow subscriber": slow,
    "in flight": in_flight,
    "same name twice": same_name,
    "session": session,
    "$SYS": counters,
    "access": access,
    "silent client": silence,
}

WANTED = {"silent client", "same name twice", "session", "in flight", "$SYS", "access"}
"""What fedjury does without, at a price."""

QUICK = {"MQTT version", "access", "silent client"}
"""What takes no time, or, once begun, has had it."""


def probe_all(context: ProbeContext, names: Sequence[str]) -> list[Finding]:
    """Try these, and take away what is left at the broker, whatever happens."""
    try:
        if "silent client" in names and not context.logins.secrets:
            with contextlib.suppress(Gone):
                context.silent = begin_silence(context)
        return [_probed(name, PROBES[name], context) for name in names]
    finally:
        clear(context)


def _probed(name: str, probe: Callable[[ProbeContext], Finding], context: ProbeContext) -> Finding:
    bad = Verdict.WARNING if name in WANTED else Verdict.FAILED
    begun = name != "silent client" or context.silent is not None
    if not context.left and not (begun and name in QUICK):
        return Finding(name, bad, "not tried: there was no time left")
    try:
        return probe(context)
    except Gone as why:
        return Finding(name, bad, str(why))


def clear(context: ProbeContext) -> None:
    """Remove what may be retained; ``context.retained`` then holds what could not be."""
    topics = sorted(context.retained)
    with contextlib.suppress(Gone):
        aggregator = context.as_aggregator()
        with leaving(aggregator):
            for topic in topics:
                aggregator.publish(topic, b"", retain=True, qos=0)
            if aggregator.sync(CLEAR):
                context.retained.clear()


def serving(context: ProbeContext) -> str:
    """Return the run whose aggregator is connected, "" if none is: we would take its login."""
    agent = context.as_agent()
    with leaving(agent):
        agent.subscribe(f"{context.agent_at.address.root}/+/aggregator")
        for message in agent.receive(1_000, QUIET, QUIET / 2):
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                if json.loads(message.payload).get("online"):
                    return message.topic.split("/")[-2]
    return ""
