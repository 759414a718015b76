"""The numbers of all outgoing calls, kept as plain integers and turned into Prometheus' metrics when asked for.

Names and labels of calls are those of go-grpc-middleware's Prometheus provider; attempts and breakers have ours.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, Self
from weakref import WeakKeyDictionary, WeakSet

from grpc import StatusCode
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from grpc_common.call import UNKNOWN
from grpc_common.call_metrics import BUCKETS, LABELS, code_label
from grpc_common.client.breaker import CircuitBreaker
from grpc_common.client.call_plan import CallPlan
from grpc_common.policy import is_declared

_TYPES: Final = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


class ClientMethodMetrics:
    """The numbers of one method; written by the event loop's thread, read by any."""

    __slots__ = ("_bounds", "_tally", "attempts", "ended", "hedges", "in_flight", "labels", "received", "refused",
                 "retries", "seconds", "sent", "started")  # fmt: skip

    def __init__(self, labels: tuple[str, str, str], bounds: Sequence[float]) -> None:
        self.labels: Final = labels
        self.started = self.in_flight = self.sent = self.received = 0
        self.attempts = self.retries = self.hedges = 0
        self.refused = 0
        """Calls that an open breaker has not let out."""
        self.ended: Final[dict[StatusCode, int]] = {StatusCode.OK: 0}
        self.seconds = 0.0
        self._bounds = bounds
        self._tally = [0] * (len(bounds) + 1)

    def begin(self) -> None:
        """Count a call that begins."""
        self.started += 1
        self.in_flight += 1

    def end(self, status: StatusCode, seconds: float) -> None:
        """Count a call that has ended."""
        self.in_flight -= 1
        self.ended[status] = self.ended.get(status, 0) + 1
        self.seconds += seconds
        self._tally[bisect_left(self._bounds, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulated histogram."""
        below, found = 0, list[tuple[str, float]]()
        for bound, count in zip((*map(repr, self._bounds), "+Inf"), tuple(self._tally), strict=True):
            below += count
            found.append((bound, below))
        return found


class ClientMetrics(Collector):
    """The numbers of all methods called, as a registry's collector."""

    def __init__(self) -> None:
        self._methods: dict[tuple[str, str, str], ClientMethodMetrics] = {}
        self._breakers: dict[tuple[str, str], WeakSet[CircuitBreaker]] = {}

    @classmethod
    def of(cls, registry: CollectorRegistry) -> Self:
        """Return the one collector of outgoing calls that `registry` has; several factories share it."""
        metrics = _of_registry.get(registry)
        if metrics is None:
            metrics = cls()
            registry.register(metrics)
            _of_registry[registry] = metrics
        return metrics  # type: ignore[return-value]  # only this class puts any in

    def method(self, plan: CallPlan) -> ClientMethodMetrics:
        """Return the numbers of the method of `plan`; all that no proto declares are one, so that labels stay few."""
        service, name = (plan.service, plan.name) if is_declared(plan.path) else (UNKNOWN, UNKNOWN)
        labels = (_TYPES[plan.request_streaming, plan.response_streaming], service, name)
        found = self._methods.get(labels)
        if found is None:
            found = self._methods[labels] = ClientMethodMetrics(labels, BUCKETS)
        return found

    def watch(self, target: str, path: str, breaker: CircuitBreaker) -> None:
        """Show the state of that breaker as long as anybody uses it."""
        self._breakers.setdefault((target, path if is_declared(path) else UNKNOWN), WeakSet()).add(breaker)

    def describe(self) -> Iterator[Metric]:
        """Tell the registry which names are taken."""
        yield from (*_counters().values(), _in_flight(), _seconds(), _handled(), _state())

    def collect(self) -> Iterator[Metric]:
        """Give all metrics as they are now."""
        counters, in_flight, seconds, handled, state = _counters(), _in_flight(), _seconds(), _handled(), _state()
        for method in tuple(self._methods.values()):
            labels = method.labels
            for name, family in counters.items():
                family.add_metric(labels, getattr(method, name))
            in_flight.add_metric(labels, method.in_flight)
            seconds.add_metric(labels, method.buckets(), method.seconds)
            for status, count in method.ended.copy().items():
                handled.add_metric((*labels, code_label(status)), count)
        for key, breakers in tuple(self._breakers.items()):
            worst = max((breaker.state.value for breaker in tuple(breakers)), default=None)
            if worst is not None:
                state.add_metric(key, worst)
        yield from (*counters.values(), in_flight, seconds, handled, state)


_of_registry: Final[WeakKeyDictionary[CollectorRegistry, ClientMetrics]] = WeakKeyDictionary()


def _counters() -> dict[str, CounterMetricFamily]:
    texts = {
        "started": ("started", "Calls begun."),
        "received": ("msg_received", "Messages received from servers."),
        "sent": ("msg_sent", "Messages sent to servers."),
        "attempts": ("attempts", "Attempts sent; a call may have several."),
        "retries": ("retries", "Attempts after one that had failed."),
        "hedges": ("hedges", "Attempts beside one that was slow."),
        "refused": ("breaker_refused", "Calls that an open breaker did not let out."),
    }
    return {key: CounterMetricFamily(f"grpc_client_{name}", text, labels=LABELS) for key, (name, text) in texts.items()}


def _handled() -> CounterMetricFamily:
    text = "Calls ended, whatever the status."
    return CounterMetricFamily("grpc_client_handled", text, labels=(*LABELS, "grpc_code"))


def _in_flight() -> GaugeMetricFamily:
    return GaugeMetricFamily("grpc_client_in_flight", "Calls that have not ended.", labels=LABELS)


def _seconds() -> HistogramMetricFamily:
    text = "Time from a call's begin to its end, attempts and pauses together."
    return HistogramMetricFamily("grpc_client_handling_seconds", text, labels=LABELS)


def _state() -> GaugeMetricFamily:
    text = "State of the circuit breaker: 0 closed, 1 half open, 2 open."
    return GaugeMetricFamily("grpc_client_breaker_state", text, labels=("target", "grpc_path"))
