"""What Prometheus gets to see: made from the view and a tally whenever it asks.

Nothing is kept beside these two, so that a run which begins anew begins at zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fedjury.gateway.state import View

TAKEN = "taken"


class Tally:
    """Counts what went over HTTP in the current run; ``posts``: "taken" or a reason -> count."""

    def __init__(self) -> None:
        self.posts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._era = 0

    def of(self, view: View) -> Tally:
        """Begin anew if the run has; returns itself. A request may come with an older view."""
        if view.era > self._era:
            self.posts.clear()
            self.bytes.clear()
            self._era = view.era
        return self


class GatewayCollector(Collector):
    """Collects for ``prometheus_client``."""

    def __init__(self, view: Callable[[], View], tally: Tally) -> None:
        self._view, self._tally = view, tally

    def collect(self) -> Iterator[Metric]:
        """Yield all there is to know."""
        view = self._view()
        tally = self._tally.of(view)
        posts = CounterMetricFamily(
            "fedjury_gateway_updates", "updates posted over HTTP", labels=["result", "reason"]
        )
        for reason, count in sorted(tally.posts.items()):
            taken = reason == TAKEN
            posts.add_metric([TAKEN, ""] if taken else ["refused", reason], count)
        yield posts
        refused = CounterMetricFamily(
            "fedjury_refused",
            "messages the aggregator refused, whoever sent them",
            labels=["reason"],
        )
        for reason, count in sorted(view.refused.items()):
            refused.add_metric([reason], count)
        yield refused
        bodies = CounterMetricFamily(
            "fedjury_gateway_bytes", "bytes of bodies over HTTP", labels=["direction"]
        )
        for direction in ("in", "out"):
            bodies.add_metric([direction], tally.bytes[direction])
        yield bodies
        rounds = max(0, len(view.history) - 1)
        yield CounterMetricFamily("fedjury_rounds", "rounds that are over", value=rounds)
        yield from _gauges(view)


def _gauges(view: View) -> Iterator[Metric]:
    known = [accuracy for accuracy in view.history if accuracy is not None]
    if known:
        yield GaugeMetricFamily("fedjury_accuracy", "of the global model, 0 to 1", value=known[-1])
    if view.model is not None:
        version = view.model.version
        yield GaugeMetricFamily("fedjury_version", "of the global model", value=version)
    if view.round is not None:
        yield GaugeMetricFamily("fedjury_round", "that is open", value=view.round.round)
    yield GaugeMetricFamily("fedjury_gateway_slots", "agents it stands for", value=len(view.slots))
    yield GaugeMetricFamily("fedjury_gateway_clients", "clients by name", value=len(view.bound))
    yield GaugeMetricFamily("fedjury_gateway_connections", "to the broker", value=view.connections)


def registry_of(view: Callable[[], View], tally: Tally) -> CollectorRegistry:
    """Make a registry that holds this and nothing else."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(view, tally))
    return registry
