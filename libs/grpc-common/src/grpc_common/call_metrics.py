"""The numbers of all calls, kept as plain integers and turned into Prometheus' metrics when somebody asks for them.

Names and labels are those of go-grpc-middleware's Prometheus provider, so that its dashboards and alerts fit.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from threading import Lock
from time import perf_counter
from typing import Final, Self
from weakref import WeakKeyDictionary

from grpc import StatusCode
from opentelemetry import trace
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from grpc_common.call import Call, Method
from grpc_common.trace_context import span_of

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: from a read out of memory to the longest deadline; streams that live longer are in +Inf."""

LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")

_TYPES: Final = {
    "unary_unary": "unary",
    "stream_unary": "client_stream",
    "unary_stream": "server_stream",
    "stream_stream": "bidi_stream",
}
_OK: Final = StatusCode.OK


def code_label(status: StatusCode) -> str:
    """Return the name Go has for `status`: NotFound for NOT_FOUND."""
    if status is _OK:
        return "OK"
    if status is StatusCode.CANCELLED:
        return "Canceled"
    return "".join(word.capitalize() for word in status.name.split("_"))


class MethodMetrics:
    """The numbers of one method; written by the event loop's thread, read by any."""

    __slots__ = ("_bounds", "_exemplars", "_failed", "_live", "_lock", "_ok", "_received", "_seconds", "_sent",
                 "_streams", "_tally", "in_flight", "labels", "started")  # fmt: skip

    def __init__(self, method: Method, bounds: Sequence[float]) -> None:
        self.labels: Final = (_TYPES[method.kind], method.service, method.name)
        self.started = 0
        self.in_flight = 0
        self._bounds = bounds
        self._tally = [0] * (len(bounds) + 1)
        self._exemplars: list[tuple[int, int, float, float] | None] = [None] * (len(bounds) + 1)
        self._seconds = 0.0
        self._ok = 0
        self._failed: dict[StatusCode, int] = {}
        self._received = 0
        self._sent = 0
        self._streams = method.request_streaming or method.response_streaming
        self._live: set[Call] = set()
        self._lock = Lock()

    def start(self, call: Call) -> None:
        """Count a call that begins."""
        self.started += 1
        self.in_flight += 1
        if self._streams:
            with self._lock:
                self._live.add(call)
        else:
            self._received += 1

    def end(self, call: Call, status: StatusCode) -> None:
        """Count a call that has ended."""
        self.in_flight -= 1
        seconds = perf_counter() - call.started
        at = bisect_left(self._bounds, seconds)
        self._tally[at] += 1
        self._seconds += seconds
        span = span_of(call)
        if span.trace_flags & 1:
            self._exemplars[at] = (span.trace_id, span.span_id, seconds, time.time())
        if status is _OK:
            self._ok += 1
        else:
            self._failed[status] = self._failed.get(status, 0) + 1
        if self._streams:
            # A scrape sees the messages of this call either among the living or in the sum, and never in both.
            with self._lock:
                self._live.discard(call)
                self._received += _received(call)
                self._sent += _sent(call) if call.method.response_streaming else status is _OK
        elif status is _OK:
            self._sent += 1

    def messages(self) -> tuple[int, int]:
        """Return how many messages have come and gone; those of streams count as they pass."""
        with self._lock:
            live = tuple(self._live)
            return self._received + sum(map(_received, live)), self._sent + sum(map(_sent, live))

    def handled(self) -> dict[StatusCode, int]:
        """Return how many calls ended with each status; OK is always there."""
        return {_OK: self._ok, **self._failed.copy()}

    def buckets(self) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        """Return the cumulated histogram, with an exemplar where a sampled call fell."""
        below, found = 0, list[tuple[str, float] | tuple[str, float, Exemplar]]()
        bounds = (*self._bounds, float("inf"))
        for bound, count, exemplar in zip(bounds, tuple(self._tally), self._exemplars, strict=True):
            below += count
            name = "+Inf" if bound == float("inf") else repr(bound)
            if exemplar is None:
                found.append((name, below))
            else:
                trace_id, span_id, seconds, at = exemplar
                labels = {"trace_id": trace.format_trace_id(trace_id), "span_id": trace.format_span_id(span_id)}
                found.append((name, below, Exemplar(labels, seconds, at)))
        return found

    @property
    def seconds(self) -> float:
        """The time all ended calls took together."""
        return self._seconds


def _received(call: Call) -> int:
    return call.received if call.method.request_streaming else 1


def _sent(call: Call) -> int:
    return call.sent if call.method.response_streaming else 0


class CallMetrics(Collector):
    """The numbers of all methods, as a registry's collector."""

    def __init__(self, bounds: Sequence[float] = BUCKETS) -> None:
        self.bounds: Final = tuple(bounds)
        self._methods: dict[tuple[str, str, str], MethodMetrics] = {}

    @classmethod
    def of(cls, registry: CollectorRegistry, bounds: Sequence[float] = BUCKETS) -> Self:
        """Return the one collector of calls that `registry` has; several servers of a process share it."""
        metrics = _of_registry.get(registry)
        if metrics is None:
            metrics = cls(bounds)
            registry.register(metrics)
            _of_registry[registry] = metrics
        if metrics.bounds != tuple(bounds):
            raise ValueError(f"the registry's calls are already measured with the buckets {metrics.bounds}")
        return metrics  # type: ignore[return-value]  # only this class puts any in

    def method(self, method: Method) -> MethodMetrics:
        """Return the numbers of `method`; those without a name of their own share theirs."""
        method = method.label
        key = (method.kind, method.service, method.name)
        found = self._methods.get(key)
        if found is None:
            found = self._methods[key] = MethodMetrics(method, self.bounds)
        return found

    def describe(self) -> Iterator[Metric]:
        """Tell the registry which names are taken."""
        yield from _families()

    def collect(self) -> Iterator[Metric]:
        """Give all metrics as they are now."""
        started, handled, received, sent, in_flight, seconds = families = _families()
        for method in tuple(self._methods.values()):
            labels = method.labels
            started.add_metric(labels, method.started)
            for status, count in method.handled().items():
                handled.add_metric((*labels, code_label(status)), count)
            came, went = method.messages()
            received.add_metric(labels, came)
            sent.add_metric(labels, went)
            in_flight.add_metric(labels, method.in_flight)
            seconds.add_metric(labels, method.buckets(), method.seconds)
        yield from families


_of_registry: Final[WeakKeyDictionary[CollectorRegistry, CallMetrics]] = WeakKeyDictionary()


def _families() -> tuple[
    CounterMetricFamily,
    CounterMetricFamily,
    CounterMetricFamily,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
]:
    return (
        CounterMetricFamily("grpc_server_started", "Calls begun.", labels=LABELS),
        CounterMetricFamily("grpc_server_handled", "Calls ended, whatever the status.", labels=(*LABELS, "grpc_code")),
        CounterMetricFamily("grpc_server_msg_received", "Messages received from callers.", labels=LABELS),
        CounterMetricFamily("grpc_server_msg_sent", "Messages sent to callers.", labels=LABELS),
        GaugeMetricFamily("grpc_server_in_flight", "Calls being worked on.", labels=LABELS),
        HistogramMetricFamily("grpc_server_handling_seconds", "Time from a call's begin to its end.", labels=LABELS),
    )
