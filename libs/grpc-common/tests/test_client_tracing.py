"""Traces and correlation ids go on with calls."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from client_kit import METHODS, Server, Stub, make_factory, serving, text
from grpc_common.call import Call, Method, current_call
from grpc_common.client.remote_error import RemoteUnavailableError
from grpc_common.correlation import KEY
from grpc_common.sampling import CallersChoice, ForetoldIds
from grpc_common.trace_context import extract

ids = st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())


class Traced:
    """A server that remembers what its calls came with, and a stub that traces."""

    def __init__(self):
        self.seen = []
        self.exporter = InMemorySpanExporter()

    def tracer(self, sampler=None):
        ids = ForetoldIds() if sampler is not None else None
        provider = TracerProvider(shutdown_on_exit=False, sampler=sampler, id_generator=ids)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        return provider.get_tracer("test")

    async def unary(self, request, context):
        self.seen.append(tuple(context.invocation_metadata()))
        return text()

    async def stream(self, request, context):
        yield await self.unary(request, context)

    def server(self):
        names = ("Write", "List", "Pour", "Chat", "Read", "Watch", "Gather", "Talk")
        return Server(**{name: self.stream if METHODS[name][0].endswith("stream") else self.unary for name in names})


async def make(stub, name):
    kind = METHODS[name][0]
    call = getattr(stub, name)([text()] if kind.startswith("stream") else text())
    if kind.endswith("stream"):
        assert len([reply async for reply in call]) == 1
    else:
        await call


@pytest.mark.parametrize("follows", [True, False])
def test_the_trace_goes_on_with_every_call(follows):
    """P13: for any trace, sampled or not, and all kinds of calls."""
    traced = Traced()

    @settings(max_examples=100, deadline=None)
    @given(context=st.none() | ids, name=st.sampled_from(["Read", "Write", "List", "Watch", "Pour", "Gather", "Talk"]))
    def check(context, name):
        runner.run(once(context, name))

    async def once(context, name):
        traced.seen.clear()
        traced.exporter.clear()
        token = None
        if context is not None:
            trace_id, span_id, sampled = context
            parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(sampled))
            token = attach(trace.set_span_in_context(NonRecordingSpan(parent)))
        try:
            await make(stub, name)
        finally:
            if token is not None:
                detach(token)
        (metadata,) = traced.seen
        sent = trace.get_current_span(extract(metadata)).get_span_context()
        spans = traced.exporter.get_finished_spans()
        assert sent.is_valid
        if context is not None:
            assert sent.trace_id == context[0]
            assert bool(sent.trace_flags & 1) == context[2]
        assert len(spans) == sent.trace_flags & 1
        for span in spans:
            assert (span.context.trace_id, span.context.span_id) == (sent.trace_id, sent.span_id)
            assert span.attributes["rpc.method"] == name
            if context is not None:
                assert span.parent.span_id == context[1]

    async def open_all():
        tracer = traced.tracer(CallersChoice(0.5) if follows else None)
        opened = serving(traced.server())
        target = await opened.__aenter__()
        factory = make_factory(tracer=tracer)
        return opened, factory, Stub(await factory.create_channel(target, secure=False))

    with asyncio.Runner() as runner:
        opened, factory, stub = runner.run(open_all())
        check()
        runner.run(factory.close())
        runner.run(opened.__aexit__(None, None, None))


async def test_one_span_per_call_with_its_attempts_as_events():
    traced = Traced()

    async def refuse(request, context):
        await context.abort(14, "down")

    async with serving(Server(Put=refuse)) as target, make_factory(tracer=traced.tracer()) as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        with pytest.raises(RemoteUnavailableError):
            await stub.Put(text(), timeout=20)
    (span,) = traced.exporter.get_finished_spans()
    assert span.kind is trace.SpanKind.CLIENT
    assert [event.name for event in span.events] == ["attempt failed"] * 3
    assert span.attributes["rpc.attempts"] == 4
    assert span.attributes["rpc.deadline.given"] == 20
    assert 0 < span.attributes["rpc.deadline.left"] < 20
    assert span.attributes["error.type"] == "UNAVAILABLE"
    assert not span.status.is_ok


async def test_baggage_and_the_correlation_id_go_along_and_a_callers_own_stays():
    traced = Traced()
    outer = Call(Method("/a.B/C", "a.B", "C", request_streaming=False, response_streaming=False), None)
    outer.correlation_id = "abc-1"
    async with serving(traced.server()) as target, make_factory() as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        token, carried = current_call.set(outer), attach(baggage.set_baggage("tenant", "blue"))
        try:
            await stub.Write(text(), metadata=(("k", "v"),))
            await stub.Write(text(), metadata=((KEY, "own"),))
        finally:
            detach(carried)
            current_call.reset(token)
        await stub.Write(text())
    first, second, third = map(dict, traced.seen)
    assert (first[KEY], first["baggage"], first["k"]) == ("abc-1", "tenant=blue", "v")
    assert second[KEY] == "own"
    assert KEY not in third
