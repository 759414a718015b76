"""One OpenTelemetry span per call."""

import asyncio
import traceback
from typing import Any, Final

from grpc import StatusCode
from grpc.aio import AbortError
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.util.types import AttributeValue

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.outcome import outcome
from grpc_common.sampling import Lot
from grpc_common.trace_context import KEYS, NOTHING, extract

# OpenTelemetry's conventions for gRPC: of a server's span only these are errors, the others are the caller's doing.
ERRORS: Final = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
MAX_STACKTRACE: Final = 8192
"""Characters; the innermost frames are kept."""

_NUMBER: Final[dict[StatusCode, int]] = {status: status.value[0] for status in StatusCode}


class TracingInterceptor(Interceptor):
    """A call is a span in its caller's trace, and the current one while the handler runs."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("grpc_common")

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Start a span for each call, and end it when the call has ended; streams included."""
        name = f"{method.service}/{method.name}" if method.path.startswith("/") else method.name
        attributes = {"rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name}
        start_span, lot = self._tracer.start_span, Lot.of(self._tracer)

        async def run(call: Call, request: Any) -> Any:
            parent = NOTHING if KEYS.isdisjoint(call.headers) else extract(call.metadata)
            caller = _caller(parent)
            # What is not kept is decided here, as the sampler would: it would take longer for that than all the rest.
            if lot is not None and (unsampled := lot.draw() if caller is None else _unsampled(caller)) is not None:
                call.span = unsampled
                inside = parent if unsampled is caller else set_span_in_context(NonRecordingSpan(unsampled), parent)
                token = attach(inside)
                try:
                    return await call_next(call, request)
                finally:
                    detach(token)
            span = start_span(name, parent, SpanKind.SERVER, attributes)
            call.span = span.get_span_context()
            token = attach(set_span_in_context(span, parent))
            try:
                reply = await call_next(call, request)
            except BaseException as error:
                if span.is_recording():
                    _describe(span, call, error)
                raise
            else:
                if span.is_recording():
                    _describe(span, call, None)
                return reply
            finally:
                detach(token)
                span.end()

        return run


def _caller(parent: Context) -> SpanContext | None:
    if not parent:
        return None
    span = trace.get_current_span(parent).get_span_context()
    return span if span.trace_id else None


def _unsampled(caller: SpanContext) -> SpanContext | None:
    return None if caller.trace_flags & TraceFlags.SAMPLED else caller


def _describe(span: Span, call: Call, failure: BaseException | None) -> None:
    status = outcome(call, failure)
    method = call.method
    facts: dict[str, AttributeValue] = {"rpc.grpc.status_code": _NUMBER[status]}
    if call.correlation_id:
        facts["correlation_id"] = call.correlation_id
    if method.request_streaming:
        facts["rpc.requests_per_rpc"] = call.received
    if method.response_streaming:
        facts["rpc.responses_per_rpc"] = call.sent
    if status in ERRORS:
        facts["error.type"] = call.error_code or status.name
        if call.error_id:
            facts["error.id"] = call.error_id
        span.set_status(Status(SpanStatus.ERROR))
        if (cause := _cause(failure)) is not None:
            span.add_event("exception", _exception(cause))
    span.set_attributes(facts)


def _cause(failure: BaseException | None) -> BaseException | None:
    """Return what the handler raised, also where an abort has taken its place."""
    while isinstance(failure, AbortError):
        failure = failure.__context__
    return None if isinstance(failure, asyncio.CancelledError) else failure


def _exception(error: BaseException) -> dict[str, str]:
    # Its message stays away: it may hold a caller's data, and traces are read by more people than logs.
    kind = type(error)
    stack = "".join(traceback.format_tb(error.__traceback__))
    return {
        "exception.type": f"{kind.__module__}.{kind.__qualname__}",
        "exception.stacktrace": stack[-MAX_STACKTRACE:],
    }
