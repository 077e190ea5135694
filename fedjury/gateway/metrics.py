"""What Prometheus gets to see: made from the view and a tally whenever it asks.

Nothing is kept beside these two, so that a run which begins again begins at zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fedjury.gateway.state import GatewayState

TAKEN = "taken"


class Tally:
    """Counts what went over HTTP in the current run; ``posts``: "taken" or a reason -> count."""

    def __init__(self) -> None:
        self.posts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._generation = 0

    def of(self, state: GatewayState) -> Tally:
        """Begin again if the run has; returns itself. A request may come with an older view."""
        if state.generation > self._generation:
            self.posts.clear()
            self.bytes.clear()
            self._generation = state.generation
        return self


class GatewayCollector(Collector):
    """Collects for ``prometheus_client``."""

    def __init__(self, state: Callable[[], GatewayState], tally: Tally) -> None:
        self._state, self._tally = state, tally

    def collect(self) -> Iterator[Metric]:
        """Yield all there is to know."""
        state = self._state()
        tally = self._tally.of(state)
        posts: dict[tuple[str, ...], int] = {
            (TAKEN, "") if reason == TAKEN else ("refused", reason): count
            for reason, count in tally.posts.items()
        }
        yield _counted(
            "fedjury_gateway_updates", "updates posted over HTTP", ["result", "reason"], posts
        )
        yield _counted(
            "fedjury_refused",
            "messages that the aggregator found invalid, from any sender",
            ["reason"],
            {(reason,): count for reason, count in state.invalid.items()},
        )
        yield _counted(
            "fedjury_gateway_bytes",
            "bytes of bodies over HTTP",
            ["direction"],
            {(direction,): tally.bytes[direction] for direction in ("in", "out")},
        )
        rounds = max(0, len(state.history) - 1)
        yield CounterMetricFamily("fedjury_rounds", "rounds that are over", value=rounds)
        measured = GaugeMetricFamily(
            "fedjury_metric", "of the global model, by name", labels=["name"]
        )
        for name, number in state.metrics.items():
            measured.add_metric([name], number)
        yield measured
        known = [accuracy for accuracy in state.history if accuracy is not None]
        for name, text, value in (
            ("accuracy", "of the global model, 0 to 1", known[-1] if known else None),
            ("version", "of the global model", state.model.version if state.model else None),
            ("round", "that is open", state.round.round if state.round else None),
            ("gateway_slots", "agents of the gateway", len(state.slots)),
            ("gateway_clients", "clients by name", len(state.bound)),
            ("gateway_connections", "to the broker", state.connections),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"fedjury_{name}", text, value=value)


def _counted(
    name: str, text: str, labels: list[str], counts: Mapping[tuple[str, ...], int]
) -> Metric:
    """Make a counter with labels."""
    metric = CounterMetricFamily(name, text, labels=labels)
    for values, count in sorted(counts.items()):
        metric.add_metric(values, count)
    return metric
