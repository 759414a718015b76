"""Trace context in metadata: W3C `traceparent`, `tracestate` and `baggage`, read from calls and added to calls."""

import re
from collections.abc import Iterable
from typing import Final

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, TraceState

from grpc_common.call import Call
from grpc_common.unkept_span import SpanFacts, UnkeptSpan

type Metadata = Iterable[tuple[str, str | bytes]]

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
BAGGAGE: Final = "baggage"
KEYS: Final = frozenset({PARENT, STATE, BAGGAGE})

NOTHING: Final = Context()
# Where OpenTelemetry keeps the current span.
(_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, NOTHING)
_BAGGAGE: Final = W3CBaggagePropagator()
# W3C Trace Context level 2, section 3.2; later versions may append fields.
_PARENT: Final = re.compile(
    r"[ \t]*(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)
_MAX_STATE: Final = 8192


def extract(metadata: Metadata | None) -> Context:
    """Return the context a call came with; what is not valid is ignored, as if the caller traced nothing.

    The stock propagator gives the same, at three times the time. Nothing of the server's own context is in it: a call
    without a parent starts a trace, whatever was going on where the server was started.
    """
    found = [(key, value) for key, value in metadata or () if key in KEYS and isinstance(value, str)]
    if not found:
        return NOTHING
    parents = [value for key, value in found if key == PARENT]
    states = [value for key, value in found if key == STATE]
    members = [value for key, value in found if key == BAGGAGE]
    context = NOTHING
    if len(parents) == 1 and (span := _remote_span(parents[0], states)) is not None:
        context = trace.set_span_in_context(span, context)
    if members:
        context = _BAGGAGE.extract({BAGGAGE: ",".join(members)}, context)
    return context


def within(span: Span, parent: Context) -> Context:
    """Return `parent` with `span` as the current one, as `trace.set_span_in_context` does, which copies twice."""
    return Context({_KEY: span}) if parent is NOTHING else trace.set_span_in_context(span, parent)


def inject(metadata: Metadata | None = None, parent: Span | None = None) -> tuple[tuple[str, str | bytes], ...]:
    """Return `metadata` of an outgoing call with `parent`, or else the current span, as its parent, and the baggage.

    They take the place of a trace context in `metadata`; where there are none, what the caller has written stays.
    """
    ours: list[tuple[str, str | bytes]] = []
    replaced: list[str] = []
    given = parent or trace.get_current_span()
    span = given if isinstance(given, UnkeptSpan) else given.get_span_context()
    if span.is_valid:
        replaced += PARENT, STATE
        ours.append((PARENT, f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"))
        if span.trace_state:
            ours.append((STATE, span.trace_state.to_header()))
    if baggage.get_all():
        carrier: dict[str, str] = {}
        _BAGGAGE.inject(carrier)
        replaced += carrier
        ours.extend(carrier.items())
    return (*[pair for pair in metadata or () if pair[0] not in replaced], *ours)


def span_of(call: Call) -> SpanFacts:
    """Return the context of the call's span, whoever began it."""
    return call.span if call.span is not None else trace.get_current_span().get_span_context()


def _remote_span(header: str, states: list[str]) -> NonRecordingSpan | None:
    match = _PARENT.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more and version == "00":
        return None
    state = _state(states) if states else None
    return NonRecordingSpan(SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)), state))


def _state(headers: list[str]) -> TraceState | None:
    if sum(map(len, headers)) > _MAX_STATE:
        return None
    return TraceState.from_header(headers)
