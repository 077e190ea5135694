"""What is known of the runs on a broker, from their topics alone. All of it is pure.

``on_message`` takes what came on a topic and returns the next state. Nothing that comes is
believed: what does not fit is counted as odd and changes nothing, and of everything only so much
is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fedjury.monitor import sanitize
from fedjury.monitor.rows import Tally, alike, sum_of, suspects_of
from fedjury.monitor.runs import Repeat, Run, State
from fedjury.monitor.sanitize import NOTHING
from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.logs import InvalidMessages, RoundRepeated, RunHistory
from fedjury.protocol.messages import (
    BadMessage,
    HistoryLog,
    InvalidLog,
    Manifest,
    Presence,
    Round,
    RoundLog,
)
from fedjury.protocol.record import Quality, RoundRecord
from fedjury.protocol.topics import USUAL, Topics

RUNS, AGENTS, ROUNDS, REPEATS = 50, 20_000, 1_000, 50
"""Runs that are known; of each the agents who are online, rounds, and rounds tried again."""

METRIC = 40
"""Characters of a metric's name."""

LIMITS = Limits(size=8_000_000)
"""Payloads that are looked at: the record of a round of 20,000 agents is shorter."""

OVER_FOR, QUIET_FOR = 60.0, 600.0
"""Seconds after which a new run may take the place of one that is over, and of a silent one."""

TOLD = (Manifest, Round, RoundLog, InvalidLog, HistoryLog)
"""What only an aggregator says: a run exists once one of these has come."""


Received = tuple[str, bytes]
"""A topic and its payload."""


def on_message(
    state: State, topic: str, payload: bytes, now: float, topics: Topics = USUAL
) -> State:
    """Take in what came on a topic at a time (seconds)."""
    return on_messages(state, [(topic, payload)], now, topics)


def on_messages(
    state: State, heard: Iterable[Received], now: float, topics: Topics = USUAL
) -> State:
    """Take in messages in the order in which they came, on these topics."""
    runs, malformed, away = dict(state.runs), state.malformed, state.turned_away
    presences: dict[str, dict[str, bool]] = {}
    for topic, payload in heard:
        try:
            run, kind, field = topics.parse(topic)
            if kind is Presence:  # a thousand come at once: they are put in together below
                presences.setdefault(run, {})[field["agent"]] = _is_online(topic, payload, topics)
            elif kind not in TOLD:
                malformed += 1
            elif run in runs or _make_room(runs, now):
                known = runs.get(run) or Run(run)
                runs[run] = replace(_told(known, kind, topic, payload, topics), heard=now)
            else:
                away += 1
        except BadMessage:
            malformed += 1
    for run, content in presences.items():
        if run in runs:
            runs[run] = _present(runs[run], content)
    return State(runs, malformed, away)


def reconnected(state: State) -> State:
    """Forget who is online: the broker says it again, and who left meanwhile is not in it."""
    return replace(
        state, runs={name: replace(run, online=frozenset()) for name, run in state.runs.items()}
    )


def _make_room(runs: dict[str, Run], now: float) -> bool:
    """Let go of the run that was silent for longest, if there are too many and it was for long."""
    if len(runs) < RUNS:
        return True
    stale = [
        run for run in runs.values() if now - run.heard > (OVER_FOR if run.over else QUIET_FOR)
    ]
    if not stale:
        return False
    del runs[min(stale, key=lambda run: run.heard).name]
    return True


def _is_online(topic: str, payload: bytes, topics: Topics) -> bool:
    message = codec.decode(topic, payload, LIMITS, topics) if payload else None
    return isinstance(message, Presence) and message.online


def _present(run: Run, content: Mapping[str, bool]) -> Run:
    """Note who is there and who is not; beyond :data:`AGENTS` nobody new is counted."""
    online = set(run.online)
    for agent, there in content.items():
        if not there:
            online.discard(agent)
        elif len(online) < AGENTS:
            online.add(agent)
    return replace(run, online=frozenset(online))


def _told(run: Run, kind: type, topic: str, payload: bytes, topics: Topics) -> Run:
    """Take in what the aggregator said.

    Raises
    ------
    BadMessage
        If it is none of its messages.
    """
    if not payload:
        gone = {Manifest: replace(run, removed=True), Round: replace(run, phase="")}
        return gone.get(kind, run)
    match codec.decode(topic, payload, LIMITS, topics):
        case Manifest() as manifest:
            model = sanitize.text(manifest.model, 40)
            return replace(run, model=model, parameters=manifest.parameters, removed=False)
        case Round() as opened:
            selected = None if opened.contributors == "all" else opened.trains.size(0)
            return replace(
                run,
                phase=str(opened.phase),
                round=opened.round,
                attempt=opened.attempt,
                selected=selected,
                version=opened.version,
                validators=opened.votes.size(0),
                removed=False,
            )
        case RoundLog(RoundRepeated() as record):
            return _again(run, record)
        case RoundLog(RoundRecord() as record):
            return _recorded(run, record)
        case InvalidLog(record):
            return _refusing(run, record)
        case HistoryLog(record):
            return _past(run, record)
    return run


def _again(run: Run, message: RoundRepeated) -> Run:
    """Take in that a round is tried again."""
    repeat = Repeat(message.round, message.attempt, sanitize.text(message.why))
    if repeat in run.repeats[-1:]:
        return run  # retained: it came again with a new connection
    repeats = (*run.repeats, repeat)[-REPEATS:]
    return replace(run, repeats=repeats, repeated=run.repeated + 1)


def _recorded(run: Run, record: RoundRecord) -> Run:
    """Take in the record of a round, or that the run begins."""
    row = _row(record)
    if row.round == 0:
        return _begun(run, row)
    before = run.rows
    if (
        before
        and row.round <= before[-1].round
        and not (row.round == before[-1].round and alike(row, before[-1]))
    ):
        run = _gone_back(run, row.round)
    kept = (known for known in run.rows if known.round < row.round)
    suspects = suspects_of(record, run.suspects)
    return _limited(replace(run, rows=(*kept, row), suspects=suspects))


def _row(record: RoundRecord) -> RoundRecord:
    """Return what is kept of a round: it is short, and fit for a terminal."""
    short = record.short()
    candidate = short.candidate and _named(short.candidate)
    why = sanitize.text(record.why)
    return replace(short, why=why, model=_named(short.model), candidate=candidate)


def _named(quality: Quality) -> Quality:
    """Return a model's quality with names of metrics that are short and plain."""
    if not quality.metrics:
        return quality
    plain = {sanitize.text(key, METRIC): value for key, value in quality.metrics.items()}
    return replace(quality, metrics=plain)


def _begun(run: Run, row: RoundRecord) -> Run:
    """Begin again; who is online stays."""
    if not run.rows and not run.horizon:
        return replace(run, start=row)
    return Run(
        run.name,
        generation=run.generation + 1,
        model=run.model,
        parameters=run.parameters,
        phase=run.phase,
        round=run.round,
        attempt=run.attempt,
        version=run.version,
        start=row,
        online=run.online,
    )


def _gone_back(run: Run, number: int) -> Run:
    """Forget this round and those after it: the aggregator has lost them, or it is another run."""
    kept = tuple(row for row in run.rows if row.round < number)
    if number <= run.horizon:
        run = replace(run, forgotten=Tally(), horizon=0)
    return replace(run, rows=kept, refusing=NOTHING, refusing_round=0)


def _refusing(run: Run, record: InvalidMessages) -> Run:
    """Take in what was refused so far in a round."""
    return replace(
        run,
        refusing=record.invalid_messages,
        refusing_round=record.round,
        latest=(record.agent or "somebody", record.reason),
    )


def _past(run: Run, record: RunHistory) -> Run:
    """Fill in the rounds that were not heard of; where the two differ, the past is right."""
    rows = [_row(one) for one in record.rounds]
    first, last = (rows[0].round, rows[-1].round) if rows else (0, 0)
    known = {row.round: row for row in run.rows}
    merged = {number: row for number, row in known.items() if not first <= number <= last}
    for row in rows:
        ours = known.get(row.round)
        if row.round > run.horizon:
            merged[row.round] = ours if ours is not None and alike(ours, row) else row
    ordered = tuple(merged[number] for number in sorted(merged))
    return _limited(
        replace(run, rows=ordered, past_refused=record.invalid_messages, past_round=last)
    )


def _limited(run: Run) -> Run:
    """Keep the last rounds, and of older ones what they add up to."""
    old, kept = run.rows[:-ROUNDS], run.rows[-ROUNDS:]
    if not old:
        return run
    return replace(run, rows=kept, forgotten=sum_of(old, run.forgotten), horizon=old[-1].round)
