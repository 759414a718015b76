"""The span of a trace that is not kept."""

from typing import Final

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

UNSAMPLED: Final = TraceFlags(TraceFlags.RANDOM_TRACE_ID)


class UnkeptSpan(NonRecordingSpan):
    """A span that begins a trace which is not kept, by its two ids; what else is known of it all such have in common.

    It tells what a SpanContext tells, and makes one only for whoever asks: almost every span of a server is one, and
    what logs, metrics and callees want are the ids.
    """

    is_remote: Final = False
    is_valid: Final = True
    trace_flags: Final = UNSAMPLED
    trace_state: Final = TraceState()

    def __init__(self, trace_id: int, span_id: int) -> None:
        self.trace_id: Final = trace_id
        self.span_id: Final = span_id

    def get_span_context(self) -> SpanContext:
        """Return its context, equal to the one of before."""
        return SpanContext(self.trace_id, self.span_id, self.is_remote, self.trace_flags, self.trace_state)

    def __repr__(self) -> str:
        return f"NonRecordingSpan({self.get_span_context()!r})"


type SpanFacts = SpanContext | UnkeptSpan
"""What tells the ids of a span."""
