"""One OpenTelemetry span per call."""

import asyncio
import traceback
from typing import Any, Final

from grpc import StatusCode
from grpc.aio import AbortError
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
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

from grpc_common.access_line import HEALTH
from grpc_common.call import UNKNOWN, Call, Method, Run, asked_for
from grpc_common.chain import Interceptor
from grpc_common.outcome import outcome
from grpc_common.sampling import Lot
from grpc_common.span_attributes import (
    CORRELATION_ID,
    ERROR_ID,
    ERROR_REASON,
    ERROR_TYPE,
    GRPC,
    OTHER,
    REQUESTS,
    RESPONSES,
    RPC_METHOD,
    RPC_METHOD_ORIGINAL,
    RPC_STATUS,
    RPC_SYSTEM,
    original,
    server,
    span_name,
)
from grpc_common.trace_context import KEYS, NOTHING, extract, within
from grpc_common.unkept_span import UnkeptSpan

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


class TracingInterceptor(Interceptor):
    """A call is a span in its caller's trace, and the current one while the handler runs.

    What spans say is named as in OpenTelemetry's semantic conventions for gRPC (1.45). A method that the server does
    not know, or has too many names for, has the name "grpc", so that no caller makes up names. Health checks are not
    traced.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("grpc_common")
        self._server: dict[str, AttributeValue] = {}

    def served_at(self, address: str, port: int | None) -> None:
        """Name the server in spans that begin from now on; grpc.aio does not tell what name a caller used."""
        self._server.clear()
        self._server.update(server(address, port))

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Start a span for each call, and end it when the call has ended; streams included."""
        if method.service == HEALTH:
            return _untraced(call_next)
        unknown = method.path == UNKNOWN
        called = OTHER if unknown or not method.is_named else f"{method.service}/{method.name}"
        name, where = span_name(called), self._server
        attributes: dict[str, AttributeValue] = {RPC_SYSTEM: GRPC, RPC_METHOD: called}
        start_span, lot = self._tracer.start_span, Lot.of(self._tracer)

        async def run(call: Call, request: Any) -> Any:
            parent = NOTHING if KEYS.isdisjoint(call.headers) else extract(call.metadata)
            caller = _caller(parent) if parent else None
            # What is not kept is decided here, as the sampler would: it would take longer for that than all the rest.
            if lot is not None and (unkept := lot.draw() if caller is None else _unsampled(caller)) is not None:
                call.span = unkept
                token = attach(within(unkept, parent) if isinstance(unkept, UnkeptSpan) else parent)
                try:
                    return await call_next(call, request)
                finally:
                    detach(token)
            facts = attributes | where
            if called is OTHER:
                facts[RPC_METHOD_ORIGINAL] = original(asked_for.get() if unknown else method.path)
            span = start_span(name, parent, SpanKind.SERVER, facts)
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


def _untraced(call_next: Run) -> Run:
    async def run(call: Call, request: Any) -> Any:
        parent = NOTHING if KEYS.isdisjoint(call.headers) else extract(call.metadata)
        call.span = trace.get_current_span(parent).get_span_context() if parent else INVALID_SPAN_CONTEXT
        token = attach(parent)
        try:
            return await call_next(call, request)
        finally:
            detach(token)

    return run


def _caller(parent: Context) -> SpanContext | None:
    span = trace.get_current_span(parent).get_span_context()
    return span if span.trace_id else None


def _unsampled(caller: SpanContext) -> SpanContext | None:
    return None if caller.trace_flags & TraceFlags.SAMPLED else caller


def _describe(span: Span, call: Call, failure: BaseException | None) -> None:
    status = outcome(call, failure)
    method = call.method
    facts: dict[str, AttributeValue] = {RPC_STATUS: status.name}
    if call.correlation_id:
        facts[CORRELATION_ID] = call.correlation_id
    if method.request_streaming:
        facts[REQUESTS] = call.received
    if method.response_streaming:
        facts[RESPONSES] = call.sent
    if call.error_code:
        facts[ERROR_REASON] = call.error_code
    if status in ERRORS:
        facts[ERROR_TYPE] = status.name
        if call.error_id:
            facts[ERROR_ID] = call.error_id
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
