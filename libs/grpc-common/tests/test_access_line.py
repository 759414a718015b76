"""The shortcut of the access log past structlog: the same lines, only later and elsewhere."""

import json
import logging
import threading

import grpc
import pytest
import structlog
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common.access_line import AccessLine
from grpc_common.call import Call, Method
from grpc_common.default_chain import default_interceptors
from grpc_common.errors import NotFoundError
from grpc_common.interceptors.logging import LoggingInterceptor
from grpc_common.log_sink import LogSink
from grpc_common.logs import configure_logs, render, shortcut
from grpc_common.testing import in_process
from grpc_common.trace_context import inject
from grpc_common.traces import Tracing
from grpc_common.unkept_span import UnkeptSpan
from meshwork.common.v1 import errors_pb2
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc


class Items(rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        return pb.Item(id=request.id)


def register(server):
    rpc.add_ItemServiceServicer_to_server(Items(), server)


@pytest.fixture
def written():
    """What the sink has written by now, with the logs configured as a service has them; restored afterwards."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    data = []

    def configure(level="info"):
        sink = configure_logs(level, LogSink(data.append, lambda _: b""))

        def lines():
            sink.flush()
            return [json.loads(line) for line in b"".join(data).splitlines()]

        return lines

    yield configure
    structlog.reset_defaults()
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


async def call(channel, **more):
    return await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"), **more)


async def test_a_call_leaves_its_one_line_in_the_sink(written):
    lines = written()
    async with in_process(register) as channel:
        await call(channel, metadata=(("x-correlation-id", "order-17"),))
    (line,) = [line for line in lines() if line["event"] == "call"]
    assert line["method"] == "/meshwork.items.v1.ItemService/GetItem"
    assert (line["status"], line["level"], line["component"]) == ("OK", "info", "access")
    assert line["correlation_id"] == "order-17"


async def test_it_is_rendered_by_another_thread(written, monkeypatch):
    lines = written()
    rendered = []
    whole = AccessLine.__bytes__
    monkeypatch.setattr(
        AccessLine, "__bytes__", lambda self: rendered.append(threading.current_thread()) or whole(self)
    )
    async with in_process(register) as channel:
        await call(channel)
        for _ in range(200):
            if rendered:
                break
            await call(channel)
    assert lines()
    assert rendered[0] is not threading.main_thread()


@pytest.mark.parametrize(("level", "expected"), [("debug", 1), ("info", 1), ("warning", 0)])
async def test_the_level_counts(written, level, expected):
    lines = written(level)
    async with in_process(register) as channel:
        await call(channel)
    assert sum(line["event"] == "call" for line in lines()) == expected


async def test_who_captures_the_logs_gets_the_line(written):
    lines = written()
    interceptor = LoggingInterceptor()
    async with in_process(register, [interceptor]) as channel:
        await call(channel)
        with capture_logs() as captured:
            await call(channel)
        await call(channel)
    assert [line["event"] for line in captured] == ["call"]
    assert sum(line["event"] == "call" for line in lines()) == 2


async def test_who_configures_structlog_otherwise_gets_the_line(written):
    lines, own = written(), []
    structlog.configure(processors=[lambda *event: own.append(event[2]) or event[2], render])
    assert shortcut() is None
    async with in_process(register) as channel:
        await call(channel)
    assert [line["event"] for line in own] == ["call"]
    assert len(lines()) <= 1


class Caller(rpc.ItemServiceServicer):
    """Tells in its reply, and after id "fail" in its error, where in the traces it is."""

    async def GetItem(self, request, context):
        (pair,) = inject()
        seen = trace.get_current_span().get_span_context()
        assert pair == ("traceparent", f"00-{seen.trace_id:032x}-{seen.span_id:016x}-{seen.trace_flags:02x}")
        if request.id == "fail":
            raise NotFoundError(pair[1])
        return pb.Item(id=pair[1])


@pytest.mark.parametrize("ratio", [0.0, 1.0])
async def test_a_call_has_the_same_ids_for_the_log_the_handler_its_callees_and_who_is_told_of_its_error(written, ratio):
    lines = written()
    tracing = Tracing("items", ratio=ratio, exporter=InMemorySpanExporter())
    chain = default_interceptors(tracer=tracing.tracer, registry=CollectorRegistry())
    async with in_process(lambda server: rpc.add_ItemServiceServicer_to_server(Caller(), server), chain) as channel:
        replied = (await call(channel)).id
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="fail"))
    tracing.close()
    detail = errors_pb2.ErrorDetail.FromString(dict(raised.value.trailing_metadata())["error-detail-bin"])
    failed = raised.value.details()
    assert detail.metadata["trace_id"] == failed.split("-")[1] != replied.split("-")[1]
    assert {replied.split("-")[3], failed.split("-")[3]} == {"02" if ratio == 0 else "03"}
    calls = [line for line in lines() if line["event"] == "call"]
    assert [f"{line['trace_id']}-{line['span_id']}" for line in calls] == [replied[3:-3], failed[3:-3]]


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_a_span_that_is_not_kept_tells_what_its_context_tells(trace_id, span_id):
    span = UnkeptSpan(trace_id, span_id)
    context = span.get_span_context()
    assert context == span.get_span_context()
    assert (context.trace_id, context.span_id) == (trace_id, span_id)
    for fact in ("trace_id", "span_id", "is_remote", "is_valid", "trace_flags", "trace_state"):
        assert getattr(span, fact) == getattr(context, fact)
    assert not span.is_recording()
    assert repr(span) == repr(NonRecordingSpan(context))


texts = st.text(max_size=80)


@given(
    st.builds(
        AccessLine,
        method=st.builds(Method, texts, texts, texts, st.booleans(), st.booleans()),
        status=st.sampled_from(StatusCode),
        at=st.floats(0, 4e9),
        seconds=st.floats(0, 1e6),
        correlation_id=texts,
        peer=st.just("ipv4:127.0.0.1:5"),
        principal=st.none() | texts | st.just("eyJhbGciOiJub25lIn0.e30.") | st.just("password=hunter2"),
        left=st.none() | st.floats(-1e6, 1e6),
        received=st.integers(0, 10),
        sent=st.integers(0, 10),
        error_code=st.sampled_from(["", "NOT_FOUND"]),
        error_id=st.sampled_from(["", "0" * 32]),
        span=st.just(SpanContext(5, 6, is_remote=False)),
    )
)
def test_the_line_says_what_structlog_would_have_been_told(line):
    shown = json.loads(bytes(line))
    told = json.loads(render(None, line.level, {"component": "access", **line.fields(), "event": "call"}))
    for key in ("timestamp", "trace_id", "span_id"):
        shown.pop(key, None)
        told.pop(key, None)
    assert shown == told


def test_a_call_has_what_was_sent_by_key():
    class Context:
        def invocation_metadata(self):
            return (("a", "1"), ("b", "2"), ("a", "3"))

    made = Call(Method("/a/b", "a", "b", request_streaming=False, response_streaming=False), Context())
    assert made.headers == {"a": "3", "b": "2"}
    assert made.repeats("a")
    assert not made.repeats("b")
    assert not made.repeats("c")
