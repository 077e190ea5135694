"""What Prometheus gets to see: made from the view and a tally whenever it asks.

Nothing is kept beside these two, so that a run which begins again begins at zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
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
        posts = CounterMetricFamily(
            "fedjury_gateway_updates", "updates posted over HTTP", labels=["result", "reason"]
        )
        for reason, count in sorted(tally.posts.items()):
            taken = reason == TAKEN
            posts.add_metric([TAKEN, ""] if taken else ["refused", reason], count)
        yield posts
        refused = CounterMetricFamily(
            "fedjury_refused",
            "messages that the aggregator found invalid, from any sender",
            labels=["reason"],
        )
        for reason, count in sorted(state.invalid.items()):
            refused.add_metric([reason], count)
        yield refused
        bodies = CounterMetricFamily(
            "fedjury_gateway_bytes", "bytes of bodies over HTTP", labels=["direction"]
        )
        for direction in ("in", "out"):
            bodies.add_metric([direction], tally.bytes[direction])
        yield bodies
        rounds = max(0, len(state.history) - 1)
        yield CounterMetricFamily("fedjury_rounds", "rounds that are over", value=rounds)
        yield from _gauges(state)


def _gauges(state: GatewayState) -> Iterator[Metric]:
    known = [accuracy for accuracy in state.history if accuracy is not None]
    if known:
        yield GaugeMetricFamily("fedjury_accuracy", "of the global model, 0 to 1", value=known[-1])
    if state.model is not None:
        version = state.model.version
        yield GaugeMetricFamily("fedjury_version", "of the global model", value=version)
    if state.round is not None:
        yield GaugeMetricFamily("fedjury_round", "that is open", value=state.round.round)
    yield GaugeMetricFamily(
        "fedjury_gateway_slots", "agents of the gateway", value=len(state.slots)
    )
    yield GaugeMetricFamily("fedjury_gateway_clients", "clients by name", value=len(state.bound))
    yield GaugeMetricFamily("fedjury_gateway_connections", "to the broker", value=state.connections)


def registry_of(state: Callable[[], GatewayState], tally: Tally) -> CollectorRegistry:
    """Make a registry that holds this and nothing else."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(state, tally))
    return registry
