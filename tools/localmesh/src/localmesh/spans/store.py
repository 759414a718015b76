"""The latest traces, in bounded memory."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from localmesh.spans.span import Span

MOST_TRACES, MOST_SPANS, MOST_SPANS_OF_A_TRACE = 2_000, 20_000, 500
SHORTEST_START = 4


@dataclass
class Trace:
    """The spans of one call and of all that it caused, in the order in which they came."""

    id: str
    spans: list[Span] = field(default_factory=list)
    left_out: int = 0
    """Spans there were no room for."""

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {"id": self.id, "left_out": self.left_out, "spans": [span.as_json() for span in self.spans]}


class Spans:
    """Keeps the latest traces; what is too much of one is counted, what is too old is forgotten."""

    def __init__(
        self, traces: int = MOST_TRACES, spans: int = MOST_SPANS, of_a_trace: int = MOST_SPANS_OF_A_TRACE
    ) -> None:
        self._most_traces = traces
        self._most_spans = spans
        self._most_of_a_trace = of_a_trace
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, spans: Iterable[Span]) -> None:
        """Takes spans in."""
        for span in spans:
            trace = self._traces.get(span.trace)
            if trace is None:
                trace = self._traces[span.trace] = Trace(span.trace)
            if len(trace.spans) < self._most_of_a_trace:
                trace.spans.append(span)
                self._count += 1
            else:
                trace.left_out += 1
        while self._traces and (len(self._traces) > self._most_traces or self._count > self._most_spans):
            _, oldest = self._traces.popitem(last=False)
            self._count -= len(oldest.spans)

    def latest(self, count: int) -> list[Trace]:
        """The traces that began last, the newest first."""
        newest = list(self._traces.values())[-max(0, count) :] if count > 0 else []
        return newest[::-1]

    def find(self, start: str) -> list[Trace]:
        """The traces whose id starts so; none for a start too short to mean one."""
        wanted = start.lower()
        if len(wanted) < SHORTEST_START:
            return []
        return [trace for name, trace in self._traces.items() if name.startswith(wanted)]
