"""A span, with what a person wants to see of it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from grpc import StatusCode
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

SHOWN = ("http.url", "upstream_address", "response_flags", "meshwork.error.reason", "error.type", "rpc.method_original")
GRPC_STATUSES = ("rpc.status_code", "grpc.status_code")
HTTP_STATUSES = ("http.response.status_code", "http.status_code")
"""The conventions', then Envoy's."""
KINDS = {trace_pb2.Span.SPAN_KIND_SERVER: "server", trace_pb2.Span.SPAN_KIND_CLIENT: "client"}
NAMES = {str(code.value[0]): code.name for code in StatusCode}
LONGEST_VALUE = 200
NANOSECONDS = 1e9


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work: `began` is seconds since 1970, `lasted` seconds; ids are hexadecimal, `parent` may be empty."""

    trace: str
    id: str
    parent: str
    service: str
    name: str
    kind: str
    """`server` for what was asked of this service, `client` for what it asks of others, or empty."""
    began: float
    lasted: float
    failed: bool
    status: str
    details: Mapping[str, str]

    @classmethod
    def of(cls, service: str, span: trace_pb2.Span) -> Self:
        """A span out of OTLP."""
        attributes = dict(_texts(span.attributes))
        return cls(
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            service=service,
            name=span.name,
            kind=KINDS.get(span.kind, ""),
            began=span.start_time_unix_nano / NANOSECONDS,
            lasted=max(0, span.end_time_unix_nano - span.start_time_unix_nano) / NANOSECONDS,
            failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
            status=_status(attributes),
            details={name: attributes[name] for name in SHOWN if attributes.get(name, "-") not in {"", "-"}},
        )

    def as_json(self) -> dict[str, Any]:
        """All of it, for the way to another process."""
        return asdict(self)


def _status(attributes: Mapping[str, str]) -> str:
    """Such as `NOT_FOUND`, or `HTTP 503` where no gRPC status is known; empty without either."""
    code = next((attributes[name] for name in GRPC_STATUSES if name in attributes), None)
    if code is not None:
        return NAMES.get(code, code)
    return next((f"HTTP {attributes[name]}" for name in HTTP_STATUSES if name in attributes), "")


def _texts(attributes: Iterable[KeyValue]) -> Iterable[tuple[str, str]]:
    for attribute in attributes:
        value = attribute.value
        kind = value.WhichOneof("value")
        if kind is not None:
            yield attribute.key, str(getattr(value, kind))[:LONGEST_VALUE]
