"""Observers of what the interceptors of this library record."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grpc import StatusCode
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from grpc_common.call_metrics import code_label
from grpc_common.conformance.subject import Observer, Record
from grpc_common.span_attributes import RPC_STATUS

_NAME_OF_LABEL = {code_label(status): status.name for status in StatusCode}
_NAMES = frozenset(status.name for status in StatusCode)


def access_lines(entries: Sequence[Mapping[str, Any]]) -> Observer:
    """Observe the access log, as `structlog.testing.capture_logs` gives it."""
    return Observer(
        lambda: [Record(line["method"], line["status"]) for line in entries if line.get("component") == "access"]
    )


def failure_reports(entries: Sequence[Mapping[str, Any]]) -> Observer:
    """Observe what is logged of failures that nobody has foreseen, each with its traceback."""
    return Observer(
        lambda: [Record(line["method"], "INTERNAL") for line in entries if line.get("component") == "error"],
        only=frozenset({StatusCode.INTERNAL}),
    )


def calls_started(registry: CollectorRegistry) -> Observer:
    """Observe the metric of calls begun."""
    return Observer(lambda: _samples(registry, "grpc_server_started_total"))


def calls_handled(registry: CollectorRegistry) -> Observer:
    """Observe the metric of calls ended."""
    return Observer(lambda: _samples(registry, "grpc_server_handled_total"))


def calls_in_flight(registry: CollectorRegistry) -> float:
    """Return how many calls are being worked on according to the metrics."""
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "grpc_server_in_flight"
    )


def finished_spans(exporter: InMemorySpanExporter) -> Observer:
    """Observe the spans that were ended."""
    return Observer(lambda: [_span(span) for span in exporter.get_finished_spans()])


def _span(span: ReadableSpan) -> Record:
    status = (span.attributes or {}).get(RPC_STATUS)
    return Record(f"/{span.name}", str(status) if status in _NAMES else "no status")


def _samples(registry: CollectorRegistry, name: str) -> Iterable[Record]:
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == name:
                labels = sample.labels
                record = Record(
                    f"/{labels['grpc_service']}/{labels['grpc_method']}",
                    _NAME_OF_LABEL[labels["grpc_code"]] if "grpc_code" in labels else "",
                )
                yield from [record] * int(sample.value)
