"""Traces and correlation ids go on with calls."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry

from client_kit import METHODS, SERVICE, Server, Stub, make_factory, serving, text
from grpc_common.call import Call, Method, current_call
from grpc_common.client.remote_error import RemoteUnavailableError
from grpc_common.client.target import read_target
from grpc_common.correlation import KEY
from grpc_common.health.servicer import HealthServicer
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
            assert span.name == span.attributes["rpc.method"] == f"{SERVICE}/{name}"
            assert span.attributes["rpc.status_code"] == "OK"
            assert span.status.status_code is trace.StatusCode.UNSET
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
    assert {event.attributes["rpc.status_code"] for event in span.events} == {"UNAVAILABLE"}
    assert span.attributes["meshwork.rpc.attempts"] == 4
    assert span.attributes["meshwork.rpc.deadline.given"] == 20
    assert 0 < span.attributes["meshwork.rpc.deadline.left"] < 20
    assert span.attributes["error.type"] == "UNAVAILABLE"
    assert not span.status.is_ok


@pytest.mark.parametrize("status", [each for each in grpc.StatusCode if each is not grpc.StatusCode.OK])
async def test_for_a_client_every_status_but_ok_is_an_error(status):
    traced = Traced()

    async def refuse(request, context):
        await context.abort(status, "no")

    async with serving(Server(Write=refuse)) as target, make_factory(tracer=traced.tracer()) as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        with pytest.raises(grpc.RpcError):
            await stub.Write(text(), timeout=20)
    (span,) = traced.exporter.get_finished_spans()
    assert (span.attributes["rpc.status_code"], span.attributes["error.type"]) == (status.name, status.name)
    assert span.status.status_code is trace.StatusCode.ERROR


async def test_a_span_says_who_is_called_and_by_which_system(tmp_path):
    traced = Traced()
    server = traced.server()
    async with serving(server) as target, make_factory(tracer=traced.tracer()) as factory:
        port = int(target.rpartition(":")[2])
        for name in (target, f"dns:///localhost:{port}", f"ipv4:{target}"):
            await Stub(await factory.create_channel(name, secure=False)).Write(text())
        path = tmp_path / "s.sock"
        running = grpc.aio.server()
        server.register(running)
        running.add_insecure_port(f"unix:{path}")
        await running.start()
        for name in (f"unix:{path}", f"unix://{path}"):
            await Stub(await factory.create_channel(name, secure=False)).Write(text())
        await running.stop(None)
    found = [
        (span.attributes["server.address"], span.attributes.get("server.port"))
        for span in traced.exporter.get_finished_spans()
    ]
    assert found == [
        ("127.0.0.1", port),
        ("localhost", port),
        ("127.0.0.1", port),
        (str(path), None),
        (str(path), None),
    ]
    assert {span.attributes["rpc.system.name"] for span in traced.exporter.get_finished_spans()} == {"grpc"}


@pytest.mark.parametrize(
    ("target", "server"),
    [
        # The conventions' own examples.
        ("grpc.io:50051", ("grpc.io", 50051)),
        ("dns://1.2.3.4/grpc.io:50051", ("grpc.io", 50051)),
        ("unix:///run/containerd/containerd.sock", ("/run/containerd/containerd.sock", None)),
        (
            "ipv4:198.51.100.123:50051,198.51.100.124:50051",
            ("ipv4:198.51.100.123:50051,198.51.100.124:50051", None),
        ),
        # And others.
        ("[::1]:50051", ("::1", 50051)),
        ("ipv6:[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("unix:run/items.sock", ("run/items.sock", None)),
        ("unix-abstract:items", ("unix-abstract:items", None)),
        ("xds:///items", ("xds:///items", None)),
    ],
)
def test_the_server_of_a_target_is_never_the_target_where_that_can_be_read(target, server):
    assert read_target(target).server == server


async def test_methods_that_no_proto_declares_are_one_name():
    traced, registry = Traced(), CollectorRegistry()
    async with (
        serving(traced.server()) as target,
        make_factory(tracer=traced.tracer(), registry=registry) as factory,
    ):
        channel = await factory.create_channel(target, secure=False)
        for number in range(3):
            with pytest.raises(grpc.RpcError):
                await channel.unary_unary(f"/made.Up/Name{number}?password=hunter2")(b"", timeout=20)
    spans = traced.exporter.get_finished_spans()
    assert {(span.name, span.attributes["rpc.method"]) for span in spans} == {("grpc", "_OTHER")}
    assert [span.attributes["rpc.method_original"] for span in spans] == [f"made.Up/Name{n}" for n in range(3)]
    labels = [sample.labels for family in registry.collect() for sample in family.samples]
    assert {each["grpc_method"] for each in labels if "grpc_method" in each} == {"unknown"}
    assert {each["grpc_path"] for each in labels if "grpc_path" in each} <= {"unknown"}


async def test_health_checks_are_not_traced_and_leave_the_trace_as_it_is():
    traced = Traced()

    def register(server):
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)

    running = grpc.aio.server()
    register(running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    async with make_factory(tracer=traced.tracer()) as factory:
        stub = health_pb2_grpc.HealthStub(await factory.create_channel(f"127.0.0.1:{port}", secure=False))
        await stub.Check(health_pb2.HealthCheckRequest())
    await running.stop(None)
    assert traced.exporter.get_finished_spans() == ()


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
