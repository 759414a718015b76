"""Traces that go on from a caller through one service into the next."""

import asyncio
import socket
import string
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.testing import capture_logs

from grpc_common import testing
from grpc_common.chain import Chain
from grpc_common.health.servicer import HealthServicer
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.logging import LoggingInterceptor
from grpc_common.interceptors.tracing import TracingInterceptor
from grpc_common.sampling import CallersChoice
from grpc_common.server import GRPCServer
from grpc_common.trace_context import extract, inject

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"
HEX = "0123456789abcdef"


def hexes(length):
    return st.text(HEX, min_size=length, max_size=length)


valid_parents = st.builds(
    "00-{}-{}-{}".format,
    hexes(32).filter(lambda text: text.strip("0")),
    hexes(16).filter(lambda text: text.strip("0")),
    st.sampled_from(["00", "01", "02", "03"]),
)
later_parents = st.builds(
    lambda version, parent, more: f"{version}{parent[2:]}{more}",
    hexes(2).filter(lambda version: version not in ("00", "ff")),
    valid_parents,
    st.sampled_from(["", "-", "-00ab", "-x-y"]),
)
broken_parents = st.one_of(
    st.text(string.ascii_letters + string.digits + "-", max_size=80).filter(lambda text: len(text) != 55),
    st.builds(lambda parent: f"ff{parent[2:]}", valid_parents),
    st.builds(lambda parent: f"{parent}-00", valid_parents),
    st.builds(lambda parent: f"00-{'0' * 32}{parent[35:]}", valid_parents),
    st.builds(lambda parent: f"{parent[:36]}{'0' * 16}{parent[52:]}", valid_parents),
    st.builds(lambda parent, at: parent[:at] + "g" + parent[at + 1 :], valid_parents, st.integers(0, 54)),
    st.builds(lambda parent, at: parent[:at] + parent[at + 1 :], valid_parents, st.integers(0, 54)),
    st.just(VALID.upper()),
    st.just(VALID.replace("-", "_")),
)
states = st.dictionaries(
    st.text(string.ascii_lowercase, min_size=1, max_size=8),
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=8),
    max_size=4,
)


def span_context(found):
    return trace.get_current_span(found).get_span_context()


@settings(max_examples=300)
@given(parent=st.one_of(valid_parents, later_parents, broken_parents), state=states, padding=st.sampled_from(["", " "]))
def test_headers_are_read_as_the_stock_propagator_reads_them(parent, state, padding):
    header = ",".join(f"{key}={value}" for key, value in state.items())
    carrier = {"traceparent": padding + parent} | ({"tracestate": header} if state else {})
    stock = span_context(TraceContextTextMapPropagator().extract(carrier, context.Context()))
    ours = span_context(extract(tuple(carrier.items())))
    assert ours == stock
    assert ours.is_remote == stock.is_remote
    assert ours.trace_state == stock.trace_state


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        (),
        (("traceparent", VALID), ("traceparent", VALID)),
        (("traceparent", ""),),
        (("traceparent", VALID + "x"),),
        (("traceparent", VALID + "\n"),),
        (("tracestate", "a=b"),),
    ],
)
def test_no_one_parent_means_no_parent(metadata):
    assert not span_context(extract(metadata)).is_valid


def test_several_tracestate_headers_are_one():
    found = span_context(extract((("tracestate", "a=1"), ("traceparent", VALID), ("tracestate", "b=2"))))
    assert dict(found.trace_state) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("state", ["no pair", "a=1,a=2", "a=" + "x" * 9000])
def test_a_bad_tracestate_does_not_cost_the_parent(state):
    found = span_context(extract((("traceparent", VALID), ("tracestate", state))))
    assert trace.format_trace_id(found.trace_id) == TRACE
    assert not found.trace_state


def test_injection_replaces_what_there_was_and_keeps_the_rest():
    token = context.attach(extract((("traceparent", VALID), ("tracestate", "a=1"), ("baggage", "user=7"))))
    try:
        metadata = inject((("x-own", "1"), ("traceparent", "other"), ("data-bin", b"\0")))
    finally:
        context.detach(token)
    assert metadata == (
        ("x-own", "1"),
        ("data-bin", b"\0"),
        ("traceparent", VALID),
        ("tracestate", "a=1"),
        ("baggage", "user=7"),
    )


def test_without_a_span_nothing_is_injected():
    assert inject((("x-own", "1"),)) == (("x-own", "1"),)
    assert inject() == ()


@pytest.mark.parametrize("key", ["traceparent", "tracestate", "baggage"])
def test_what_a_caller_writes_itself_stays_where_nobody_traces(key):
    assert inject(((key, "a=1"), ("x-own", "1"))) == ((key, "a=1"), ("x-own", "1"))


class Service:
    """One hop of a chain of services: calls the next one, if there is one, and tells which contexts it was in."""

    def __init__(self, sampler, next_channel=None):
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.chain = Chain([TracingInterceptor(provider.get_tracer("test")), LoggingInterceptor(), ErrorInterceptor()])
        self.next_channel = next_channel
        self.current = None
        self.baggage = {}

    async def work(self):
        self.current = trace.get_current_span().get_span_context()
        self.baggage = dict(baggage.get_all())
        if self.next_channel is not None:
            await call(self.next_channel, "unary_unary", inject())

    async def one(self, request, context):
        await self.work()
        return b""

    async def several(self, request, context):
        yield b"before"
        await self.work()
        yield b"after"
        assert trace.get_current_span().get_span_context() == self.current

    @asynccontextmanager
    async def serve(self):
        handlers = {
            kind: getattr(grpc, f"{kind}_rpc_method_handler")(self.one if kind.endswith("unary") else self.several)
            for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        }
        handler = grpc.method_handlers_generic_handler("meshwork.test.Hop", handlers)
        async with testing.in_process(
            lambda server: server.add_generic_rpc_handlers((handler,)), [self.chain]
        ) as channel:
            yield channel

    async def span(self):
        async with asyncio.timeout(5):
            while not self.exporter.get_finished_spans():  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        (span,) = self.exporter.get_finished_spans()
        return span


async def call(channel, kind, metadata):
    requests = b"" if kind.startswith("unary") else iter([b""])
    ongoing = getattr(channel, kind)(f"/meshwork.test.Hop/{kind}")(requests, metadata=metadata, timeout=10)
    if kind.endswith("unary"):
        await ongoing
    else:
        async for _ in ongoing:
            pass


kinds = st.sampled_from(["unary_unary", "unary_stream", "stream_unary", "stream_stream"])


@settings(max_examples=100, deadline=None)
@given(kind=kinds, parent=st.one_of(valid_parents, later_parents, broken_parents), state=states, ratio=st.booleans())
@example(kind="unary_stream", parent=VALID, state={"a": "1"}, ratio=False)
def test_a_trace_goes_on_across_services(kind, parent, state, ratio):
    """A trace goes over two hops, for all four kinds of RPC.

    **Feature: grpc-microservices-support, Property 13: Trace Context Propagation**
    **Feature: grpc-code-review, Property 7: Trace Context Propagation**
    """
    header = ",".join(f"{key}={value}" for key, value in state.items())
    metadata = (("traceparent", parent), *([("tracestate", header)] if state else ()), ("baggage", "tenant=blue"))
    sent = span_context(TraceContextTextMapPropagator().extract(dict(metadata), context.Context()))

    async def hops():
        sampler = CallersChoice(float(ratio))
        back = Service(sampler)
        with capture_logs():
            async with back.serve() as channel:
                front = Service(sampler, channel)
                async with front.serve() as entrance:
                    await call(entrance, kind, metadata)
        assert front.current.trace_id == back.current.trace_id
        assert front.baggage == back.baggage == {"tenant": "blue"}
        sampled = sent.trace_flags.sampled if sent.is_valid else ratio
        assert front.current.trace_flags.sampled is back.current.trace_flags.sampled is sampled
        if sent.is_valid:
            assert front.current.trace_id == sent.trace_id
            assert front.current.trace_state == back.current.trace_state == sent.trace_state
        if sampled:
            outer, inner = await front.span(), await back.span()
            assert inner.parent.span_id == outer.context.span_id == front.current.span_id
            assert (outer.parent.span_id if outer.parent else 0) == (sent.span_id if sent.is_valid else 0)
        else:
            assert not front.exporter.get_finished_spans()
            assert not back.exporter.get_finished_spans()

    asyncio.run(hops())


async def test_a_stock_parent_based_sampler_serves_as_well():
    service = Service(None)
    with capture_logs():
        async with service.serve() as channel:
            await call(channel, "unary_unary", (("traceparent", VALID),))
            span = await service.span()
    assert trace.format_trace_id(span.context.trace_id) == TRACE


async def test_the_caller_can_find_span_and_log_line_by_its_correlation_id():
    service = Service(None)
    with capture_logs():
        async with service.serve() as channel:
            await call(channel, "unary_stream", (("x-correlation-id", "order-17"),))
            span = await service.span()
    assert span.attributes["meshwork.correlation_id"] == "order-17"


@pytest.mark.parametrize("metadata", [(), (("traceparent", "bad"),), (("baggage", "a=b"),)])
async def test_a_server_started_inside_a_span_does_not_make_all_calls_its_children(metadata):
    provider = TracerProvider(shutdown_on_exit=False)
    service = Service(None)
    with capture_logs(), provider.get_tracer("test").start_as_current_span("start-up"):
        async with service.serve() as channel:
            await call(channel, "unary_unary", metadata)
            span = await service.span()
    assert span.parent is None


async def test_without_tracing_set_up_the_callers_trace_is_passed_on():
    service = Service(None)
    service.chain = Chain([TracingInterceptor(trace.NoOpTracer())])
    async with service.serve() as channel:
        await call(channel, "unary_unary", (("traceparent", VALID),))
    assert trace.format_trace_id(service.current.trace_id) == TRACE
    assert service.current.trace_flags.sampled


def health(server):
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)


@pytest.mark.parametrize("metadata", [(), (("traceparent", VALID),)])
async def test_health_checks_are_not_traced(metadata):
    service = Service(None)
    with capture_logs() as lines:
        async with testing.in_process(health, [service.chain]) as channel:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), metadata=metadata)
    assert [line["method"] for line in lines] == ["/grpc.health.v1.Health/Check"]
    assert service.exporter.get_finished_spans() == ()


async def test_names_that_callers_make_up_are_one_name():
    service = Service(None)
    with capture_logs():
        async with service.serve() as channel:
            for path in ("/meshwork.test.Hop/Nothing", "/no.Such/Method?token=hunter2", "/" + "x" * 4000):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(path)(b"", timeout=10)
    async with asyncio.timeout(5):
        while len(spans := service.exporter.get_finished_spans()) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert {(span.name, span.attributes["rpc.method"]) for span in spans} == {("grpc", "_OTHER")}
    assert [span.attributes["rpc.method_original"] for span in spans] == [
        "meshwork.test.Hop/Nothing",
        "no.Such/Method",
        "x" * 255 + "…",
    ]


@pytest.mark.parametrize("where", ["port", "any address", "socket"])
async def test_spans_say_where_the_server_listens(where, tmp_path):
    service = Service(None)
    path = tmp_path / "hop.sock"
    settings = {
        "port": {"host": "127.0.0.1", "port": 0},
        "any address": {"host": "0.0.0.0", "port": 0, "plaintext": "behind-mesh"},  # noqa: S104
        "socket": {"unix_socket": path},
    }[where]
    server = GRPCServer(interceptors=[service.chain], **settings)
    handlers = {"unary_unary": grpc.unary_unary_rpc_method_handler(service.one)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("meshwork.test.Hop", handlers),))
    with capture_logs():
        await server.start()
        target = server.target.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        async with grpc.aio.insecure_channel(target) as channel:
            await call(channel, "unary_unary", ())
            attributes = (await service.span()).attributes
        await server.stop(1)
    expected = {
        "port": ("127.0.0.1", server.port),
        "any address": (socket.gethostname(), server.port),
        "socket": (str(path), None),
    }
    assert (attributes["server.address"], attributes.get("server.port")) == expected[where]
