"""Spans on their way to a collector, and messages in the log."""

import asyncio
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs

from grpc_common import testing
from grpc_common.chain import Chain
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.payload import PayloadInterceptor
from grpc_common.traces import Tracing, endpoint_of, exporter_to
from meshwork.items.v1 import items_service_pb2 as pb


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent, as a collector of OpenTelemetry would take it."""

    def __init__(self):
        self.requests = []

    def Export(self, request, context):
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector():
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield collector
    server.stop(0).wait()


def facts(attributes):
    return {pair.key: pair.value.string_value for pair in attributes}


def test_spans_reach_the_collector_with_what_they_are_from(collector):
    tracing = Tracing("items", exporter=exporter_to(collector.endpoint), version="1.2.3", instance="pod-1")
    for number in range(5):
        tracing.tracer.start_span(f"s{number}", kind=SpanKind.SERVER).end()
    assert collector.requests == []  # in batches
    assert tracing.close()
    (request,) = collector.requests
    (sent,) = request.resource_spans
    assert facts(sent.resource.attributes).items() >= {
        ("service.name", "items"),
        ("service.version", "1.2.3"),
        ("service.instance.id", "pod-1"),
    }
    assert [span.name for span in sent.scope_spans[0].spans] == [f"s{number}" for number in range(5)]


def test_a_collector_that_is_not_there_does_not_hold_up_the_end():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        tracing = Tracing("items", exporter=exporter_to(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        tracing.tracer.start_span("lost").end()
        began = time.monotonic()
        assert not tracing.close(0.3)
        assert time.monotonic() - began < 6  # it would try for 10 seconds


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.5, 350, 650), (1.0, 1000, 1000)])
def test_the_ratio_of_traces_that_begin_here_is_kept(ratio, least, most):
    tracing = Tracing("items", ratio=ratio, exporter=InMemorySpanExporter())
    assert least <= sum(tracing.tracer.start_span("s").is_recording() for _ in range(1000)) <= most
    tracing.close()


def test_without_an_exporter_there_are_ids_and_no_records():
    span = Tracing("items", ratio=1.0).tracer.start_span("s")
    assert span.get_span_context().is_valid
    assert not span.is_recording()


def test_the_settings_endpoint_wins_over_the_standard_variables():
    both = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4317", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}
    assert endpoint_of("http://a:4317", both) == "http://a:4317"
    assert endpoint_of(None, both) == "http://c:4317"
    assert endpoint_of(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4317"}) == "http://b:4317"
    assert endpoint_of(None, {}) is None
    assert endpoint_of(None, {**both, "OTEL_SDK_DISABLED": "true"}) is None


PROGRAM = """
import sys
from opentelemetry import trace
from grpc_common.traces import configure_tracing
environ = {"OTEL_SERVICE_NAME": "shop", "OTEL_EXPORTER_OTLP_ENDPOINT": sys.argv[1]}
tracing = configure_tracing("items", ratio=0.5, environ=environ)
assert trace.get_tracer_provider() is tracing.provider
while not (span := trace.get_tracer("library").start_span("theirs")).is_recording():
    pass
span.end()
assert tracing.close()
"""


def test_a_process_follows_the_standard_variables(collector):
    subprocess.run([sys.executable, "-c", PROGRAM, collector.endpoint], timeout=60, check=True)  # noqa: S603
    (request,) = collector.requests
    assert facts(request.resource_spans[0].resource.attributes)["service.name"] == "shop"


class Echo:
    """Every kind of call, in both styles."""

    async def unary(self, request, context):
        return pb.Item(id=request.id, name="reply")

    async def generate(self, request, context):
        for number in range(2):
            yield pb.Item(id=str(number))

    async def write(self, request, context):
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(pb.Item(id=message.id))

    async def collect(self, requests, context):
        return pb.Item(id="".join([request.id async for request in requests]))


async def test_payloads_are_logged_where_asked_for_and_without_secrets():
    echo = Echo()
    serde = pb.GetItemRequest.FromString, pb.Item.SerializeToString
    handler = grpc.method_handlers_generic_handler(
        "meshwork.test.Echo",
        {
            "unary_unary": grpc.unary_unary_rpc_method_handler(echo.unary, *serde),
            "unary_stream": grpc.unary_stream_rpc_method_handler(echo.generate, *serde),
            "stream_unary": grpc.stream_unary_rpc_method_handler(echo.collect, *serde),
            "stream_stream": grpc.stream_stream_rpc_method_handler(echo.write, *serde),
        },
    )
    chain = Chain([ErrorInterceptor(), PayloadInterceptor()])
    seen = {}
    async with testing.in_process(lambda server: server.add_generic_rpc_handlers((handler,)), [chain]) as channel:
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            with capture_logs() as logs:
                requests = [pb.GetItemRequest(id=text).SerializeToString() for text in ("1", "token=abc")]
                call = getattr(channel, kind)(f"/meshwork.test.Echo/{kind}")(
                    requests[1] if kind.startswith("unary") else iter(requests)
                )
                if kind.endswith("unary"):
                    await call
                else:
                    assert [reply async for reply in call]
                await asyncio.sleep(0.02)
            seen[kind] = [(line["direction"], line["message"].get("id")) for line in logs]
    hidden = "token=[redacted]"
    assert seen == {
        "unary_unary": [("received", hidden), ("sent", hidden)],
        "unary_stream": [("received", hidden), ("sent", "0"), ("sent", "1")],
        "stream_unary": [("received", "1"), ("received", hidden), ("sent", "1token=[redacted]")],
        "stream_stream": [("received", "1"), ("sent", "1"), ("received", hidden), ("sent", hidden)],
    }
