"""Which traces are kept."""

import threading
from random import getrandbits
from typing import Final, Self

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Tracer

from grpc_common.unkept_span import UnkeptSpan


class CallersChoice(ParentBased):
    """Samples what the caller samples and nothing that it does not, and `ratio` of the traces that begin here."""

    def __init__(self, ratio: float) -> None:
        chosen = TraceIdRatioBased(ratio)
        super().__init__(chosen)
        self.below: Final = chosen.bound
        """A trace that begins here is kept when the lower 64 bits of its id are below."""


class ForetoldIds(RandomIdGenerator):
    """Random ids; the next trace id of this thread can be told beforehand."""

    def __init__(self) -> None:
        self._next = threading.local()

    def foretell(self, trace_id: int) -> None:
        """Give the trace that this thread begins next the id `trace_id`."""
        self._next.trace_id = trace_id

    def generate_trace_id(self) -> int:
        """Return the foretold id once, and random ones else."""
        trace_id: int = self._next.__dict__.pop("trace_id", 0)
        return trace_id or super().generate_trace_id()


class Lot:
    """Draws whether a trace that begins here is kept before a span is made of it.

    The SDK decides the same, but for the many that are not kept its way costs several times as much.
    """

    def __init__(self, sampler: CallersChoice, ids: ForetoldIds) -> None:
        self._below = sampler.below
        self._ids = ids

    @classmethod
    def of(cls, tracer: Tracer) -> Self | None:
        """Return the lot of a tracer that `grpc_common.traces` has set up; of any other, None."""
        sampler, ids = getattr(tracer, "sampler", None), getattr(tracer, "id_generator", None)
        return cls(sampler, ids) if isinstance(sampler, CallersChoice) and isinstance(ids, ForetoldIds) else None

    def draw(self) -> UnkeptSpan | None:
        """Return the first span of a new trace that is not kept, or None: then the next that the tracer begins is."""
        trace_id = getrandbits(128)
        if trace_id & 0xFFFF_FFFF_FFFF_FFFF < self._below:
            self._ids.foretell(trace_id)
            return None
        return UnkeptSpan(trace_id or 1, getrandbits(64) or 1)
