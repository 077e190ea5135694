"""What Prometheus gets to see of the runs on a broker: made of what is known whenever it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fedjury.monitor.rows import Tally, heard_in_full
from fedjury.monitor.runs import Run, Snapshot
from fedjury.protocol.fields import OTHER
from fedjury.protocol.groups import GroupCounts
from fedjury.protocol.messages import Phase, Reason
from fedjury.protocol.record import RoundRecord

SUSPECTS = 5
"""Agents of a run that are named at a time, the most suspected."""

NAMED = 20
"""Agents of a run, and metrics, that are ever named: each is a series that Prometheus keeps."""

PHASES = tuple(map(str, Phase))
REASONS = (*map(str, Reason), OTHER)

Sample = tuple[tuple[str, ...], float]
"""The labels after the run's, and the value."""


class Reading(NamedTuple):
    """A run, and what its rounds add up to: added up once for all metrics."""

    run: Run
    tally: Tally


class Shown(NamedTuple):
    """A metric: its name, its labels after ``run``, and what it is of a run."""

    name: str
    text: str
    labels: tuple[str, ...]
    of: Callable[[Reading], list[Sample]]
    counter: bool = False


def _one(value: float | None) -> list[Sample]:
    """Make the sample of a number; none where it is not known."""
    return [] if value is None else [((), float(value))]


def _last(
    read: Callable[[RoundRecord], float | None], *, whole: bool = False
) -> Callable[[Reading], list[Sample]]:
    """Make what reads the last round; ``whole``: what ``log/history`` does not say."""

    def of(seen: Reading) -> list[Sample]:
        last = seen.run.last
        return _one(read(last)) if last is not None and (heard_in_full(last) or not whole) else []

    return of


def _measured(read: Callable[[RoundRecord], float | None]) -> Callable[[Reading], list[Sample]]:
    """Make what reads the last round, or how the model was before any."""

    def of(seen: Reading) -> list[Sample]:
        last = seen.run.last or seen.run.start
        return _one(read(last)) if last is not None else []

    return of


def _each(counts: Mapping[str, float]) -> list[Sample]:
    return [((key,), float(value)) for key, value in sorted(counts.items())]


def _fields(*names: str) -> Callable[[Reading], list[Sample]]:
    """Make what reads fields of the tally; the label is a field's name, or its last word."""
    return lambda seen: _each(
        {name.rpartition("_")[2]: getattr(seen.tally, name) for name in names}
    )


def _vote(seen: Reading) -> list[Sample]:
    last = seen.run.last
    if last is None or not last.votes.asked:
        return []
    votes = last.votes
    return _each({"poisoned": votes.poisoned, "clean": votes.clean, "silent": votes.silent})


def _groups(seen: Reading) -> list[Sample]:
    """Count the groups of all rounds; no sample where agents are in none."""
    out, every = seen.tally.groups_left_out, seen.tally.groups
    return _each({"kept": every - out, "left_out": out}) if every else []


def _judging(read: Callable[[GroupCounts], float]) -> Callable[[Reading], list[Sample]]:
    """Make what reads what the last round's groups cost the median validator; not where it is 0."""

    def of(seen: Reading) -> list[Sample]:
        last = seen.run.last
        return _one((last.groups and read(last.groups.counts)) or None) if last is not None else []

    return of


def _phase(seen: Reading) -> list[Sample]:
    return [((phase,), float(seen.run.phase == phase)) for phase in PHASES]


def _suspects(read: str) -> Callable[[Reading], list[Sample]]:
    """Make what reads a number of the suspects, where somebody looks for them."""
    return lambda seen: _one(getattr(seen.run.suspects, read, None))


METRICS = (
    Shown(
        "fedjury_accuracy", "of the global model, 0 to 1", (), _measured(lambda r: r.model.accuracy)
    ),
    Shown(
        "fedjury_candidate_accuracy",
        "of the last candidate, 0 to 1",
        (),
        _last(lambda row: row.candidate.accuracy if row.candidate else None),
    ),
    Shown(
        "fedjury_backdoor",
        "success of an experiment's backdoor, 0 to 1",
        (),
        _measured(lambda row: row.model.backdoor),
    ),
    Shown(
        "fedjury_largest_backdoor",
        "the largest of any model accepted so far",
        (),
        _last(lambda row: row.harm.largest_backdoor, whole=True),
    ),
    Shown(
        "fedjury_accuracy_lost",
        "since the best of the models so far, 0 to 1",
        (),
        _last(lambda row: row.harm.accuracy_lost, whole=True),
    ),
    Shown(
        "fedjury_epsilon",
        "spent by all candidates so far, with differential privacy",
        (),
        _last(lambda row: row.privacy.epsilon if row.privacy else None, whole=True),
    ),
    Shown(
        "fedjury_candidate_backdoor",
        "the same of the last candidate",
        (),
        _last(lambda row: row.candidate.backdoor if row.candidate else None, whole=True),
    ),
    Shown("fedjury_round", "that is open, or was the last", (), lambda s: _one(s.run.round)),
    Shown("fedjury_attempt", "at this round", (), lambda s: _one(s.run.attempt)),
    Shown("fedjury_phase", "1 for what the round waits for", ("phase",), _phase),
    Shown("fedjury_version", "of the global model", (), lambda s: _one(s.run.version)),
    Shown("fedjury_run_over", "1 once the run is", (), lambda s: _one(float(s.run.over))),
    Shown(
        "fedjury_rounds",
        "that are over",
        ("verdict",),
        _fields("accepted", "rejected", "pending"),
        counter=True,
    ),
    Shown(
        "fedjury_repeated", "rounds tried again", (), lambda s: _one(s.run.repeated), counter=True
    ),
    Shown("fedjury_vote", "of the last round", ("verdict",), _vote),
    Shown(
        "fedjury_votes",
        "of all rounds",
        ("verdict",),
        _fields("poisoned", "clean", "silent"),
        counter=True,
    ),
    Shown("fedjury_groups", "of all rounds", ("verdict",), _groups, counter=True),
    Shown(
        "fedjury_group_validator_bytes",
        "that the median validator received to judge the last round's groups",
        (),
        _judging(lambda groups: groups.size),
    ),
    Shown(
        "fedjury_group_validator_seconds",
        "of processor time in which the median validator judged the last round's groups",
        (),
        _judging(lambda groups: groups.cpu / 1e6),
    ),
    Shown(
        "fedjury_refused",
        "messages that the aggregator found invalid",
        ("reason",),
        lambda s: _each(dict.fromkeys(REASONS, 0) | s.run.refused),
        counter=True,
    ),
    Shown("fedjury_agents_online", "agents", (), lambda s: _one(len(s.run.online))),
    Shown(
        "fedjury_selected", "agents selected in the last round", (), _last(lambda row: row.selected)
    ),
    Shown(
        "fedjury_declined",
        "selected agents that sat the last round out",
        (),
        _last(lambda row: row.declined, whole=True),
    ),
    Shown(
        "fedjury_missing",
        "selected agents that did not answer",
        (),
        _last(lambda row: row.missing, whole=True),
    ),
    Shown("fedjury_updates", "taken", (), lambda s: _one(s.tally.updates), counter=True),
    Shown(
        "fedjury_updates_per_second",
        "in the last round",
        (),
        _last(lambda row: row.timing.updates_per_second, whole=True),
    ),
    Shown(
        "fedjury_round_seconds",
        "that the last round took",
        (),
        _last(lambda row: row.timing.seconds, whole=True),
    ),
    Shown(
        "fedjury_bytes",
        "payload bytes at the aggregator, of completely observed rounds",
        ("direction",),
        _fields("bytes_in", "bytes_out"),
        counter=True,
    ),
    Shown(
        "fedjury_dropped",
        "messages that the broker dropped",
        (),
        lambda s: _one(s.tally.dropped),
        counter=True,
    ),
    Shown(
        "fedjury_flagged",
        "agents, by the detector that suspects them most",
        ("detector",),
        lambda s: _each(s.run.suspects.detectors) if s.run.suspects else [],
    ),
    Shown(
        "fedjury_quarantined",
        "agents in quarantine, which are not selected",
        (),
        _suspects("quarantined"),
    ),
    Shown("fedjury_permanent", "of these, permanently", (), _suspects("permanent")),
    Shown("fedjury_filtered", "updates that were not aggregated", (), _suspects("filtered")),
)
"""What there is of each run; besides ``fedjury_suspicion``, and ``fedjury_metric`` by name."""

SUSPICION = "fedjury_suspicion"
METRIC = "fedjury_metric"


class RunsCollector(Collector):
    """Collects for ``prometheus_client``."""

    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look
        self._named: dict[str, set[str]] = {}
        """Run -> agents that were named."""
        self._metrics: dict[str, set[str]] = {}
        """Run -> metrics that were named."""

    def collect(self) -> Iterator[Metric]:
        """Yield all there is to know."""
        snapshot = self._look()
        runs = snapshot.state.runs
        every = [Reading(run, run.tally) for run in runs.values()]
        for shown in METRICS:
            family = CounterMetricFamily if shown.counter else GaugeMetricFamily
            metric = family(shown.name, shown.text, labels=["run", *shown.labels])
            for seen in every:
                for labels, value in shown.of(seen):
                    metric.add_metric([seen.run.name, *labels], value)
            yield metric
        yield self._suspicion(runs)
        yield self._measured(runs)
        yield GaugeMetricFamily(
            "fedjury_broker_connected", "1 if the broker is there", value=float(snapshot.connected)
        )
        yield CounterMetricFamily(
            "fedjury_broker_outages", "times the broker was lost", value=snapshot.outages
        )
        yield GaugeMetricFamily("fedjury_runs", "that are known", value=len(runs))
        malformed = snapshot.state.malformed + snapshot.state.turned_away
        yield CounterMetricFamily("fedjury_odd", "messages that could not be read", value=malformed)

    def _suspicion(self, runs: Mapping[str, Run]) -> Metric:
        """Name the most suspected of each run; nobody new once so many were named."""
        metric = GaugeMetricFamily(
            SUSPICION, "of the most suspected agents, 0 to 1", labels=["run", "agent"]
        )
        self._named = {name: named for name, named in self._named.items() if name in runs}
        for run in runs.values():
            named = self._named.setdefault(run.name, set())
            for agent, score in run.suspects.most[:SUSPECTS] if run.suspects else ():
                if agent in named or len(named) < NAMED:
                    named.add(agent)
                    metric.add_metric([run.name, agent], score)
        return metric

    def _measured(self, runs: Mapping[str, Run]) -> Metric:
        """Give the named metrics of each run's model; no new name once so many were named."""
        metric = GaugeMetricFamily(METRIC, "of the global model, by name", labels=["run", "name"])
        self._metrics = {name: known for name, known in self._metrics.items() if name in runs}
        for run in runs.values():
            known = self._metrics.setdefault(run.name, set())
            last = run.last or run.start
            for name, value in last.model.metrics.items() if last is not None else ():
                if name in known or len(known) < NAMED:
                    known.add(name)
                    metric.add_metric([run.name, name], value)
        return metric
