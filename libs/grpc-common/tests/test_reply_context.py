"""Whatever a handler tells its caller beside messages: the caller is answered; log, metric and span say the same."""

from contextlib import suppress
from time import perf_counter

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common import errors
from grpc_common.bearable_wait import LONGEST_WAIT
from grpc_common.call_metrics import code_label
from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.error_trailers import retry_delay
from grpc_common.metadata_size import MAX_REPLY
from grpc_common.reply_context import MAX_PAIRS, size_of
from grpc_common.testing import in_process

SERVICE = "meshwork.test.Reply"
ANSWERED_WITHIN = 20
SECRET = "hunter2"


async def taken(call):
    """Read all replies: only then is there a status."""
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass


class Told:
    """What the caller was told of one call, and what everybody else was."""

    def __init__(self):
        self.spans, self.registry, self.logs = InMemorySpanExporter(), CollectorRegistry(), []
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        tracer = provider.get_tracer("test")
        self.chain = Chain(default_interceptors(tracer=tracer, registry=self.registry))

    async def call(self, behavior, *, streams=False):
        async def unary(request, context):
            await behavior(context)
            return b""

        async def stream(request, context):
            await behavior(context)
            yield b""

        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Stream": grpc.unary_stream_rpc_method_handler(stream),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        with capture_logs() as self.logs:
            async with in_process(lambda server: server.add_generic_rpc_handlers((generic,)), [self.chain]) as channel:
                way, name = (channel.unary_stream, "Stream") if streams else (channel.unary_unary, "Unary")
                began = perf_counter()
                call = way(f"/{SERVICE}/{name}")(b"", timeout=ANSWERED_WITHIN)
                if streams:
                    await taken(call)
                self.status = await call.code()
                self.seconds = perf_counter() - began
                self.details = await call.details()
                self.trailers = dict(await call.trailing_metadata() or ())
        return self

    @property
    def logged(self):
        (line,) = (line for line in self.logs if line["event"] == "call")
        return line["status"]

    @property
    def counted(self):
        return [
            sample.labels["grpc_code"]
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "grpc_server_handled_total" and sample.value
        ]

    @property
    def traced(self):
        (span,) = self.spans.get_finished_spans()
        return span.attributes["rpc.status_code"]

    @property
    def failure(self):
        """What the log says of an error of the service."""
        (line,) = (line for line in self.logs if line["event"] == "call failed")
        return line["exc_info"]

    def agrees(self):
        name = self.status.name
        assert (self.logged, self.counted, self.traced) == (name, [code_label(self.status)], name)
        assert self.seconds < ANSWERED_WITHIN
        assert "Unexpected" not in self.details
        assert self.details != "Invalid metadata"


CODES = st.one_of(
    st.sampled_from([*StatusCode, None, 0, 5, 16, 17, 99, -1, True, 5.0, "NOT_FOUND", [], (5, "not found")]),
    st.integers(),
)
KEYS = st.one_of(
    st.sampled_from(
        ["a", "a-bin", "-bin", "A", "a b", "", ":status", "grpc-status", "grpc-message", "grpc-timeout", "grpc-foo",
         "grpc-status-details-bin", "error-detail-bin", "x-correlation-id", "te", "content-type", "connection",
         "grpclb_client_stats", "grpc-retry-pushback-ms", "é", "\ud800"]
    ),
    st.text(max_size=5),
    st.none(),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["\ud800", "é" * 3000, "x" * 9000, "%" * 5000, "\0\n\r", "a\u2028b", " x ", ""]),
)
VALUES = st.one_of(TEXTS, st.binary(max_size=20), st.sampled_from([b"x" * 7000, b"\xff", None, 1, [], "x" * 7900]))
METADATA = st.one_of(
    st.lists(st.tuples(KEYS, VALUES), max_size=4).map(tuple),
    st.sampled_from([None, (), {"a": "b"}, [("a", "b")], ("a", "b"), (("a",),), "ab", 7, (("x", "x" * 90),) * 60]),
)
DETAILS = st.one_of(TEXTS, st.sampled_from([None, b"bytes", 7]))
SECONDS = st.one_of(st.floats(), st.sampled_from([float("inf"), float("nan"), 1e300, -5, 10**30, "soon", None]))


class Status(grpc.Status):
    def __init__(self, code, details, trailing_metadata):
        self.code, self.details, self.trailing_metadata = code, details, trailing_metadata


def rate_limited(message, seconds, metadata):
    return errors.RateLimitError(message, retry_after=seconds, metadata=metadata)


STEPS = st.one_of(
    st.tuples(st.just("set_trailing_metadata"), METADATA),
    st.tuples(st.just("send_initial_metadata"), METADATA),
    st.tuples(st.just("set_code"), CODES),
    st.tuples(st.just("set_details"), DETAILS),
    st.tuples(st.just("abort"), CODES, DETAILS, METADATA),
    st.tuples(st.just("abort_with_status"), st.builds(Status, CODES, DETAILS, METADATA)),
    st.tuples(st.just("raise"), st.builds(errors.NotFoundError, TEXTS, field=TEXTS)),
    st.tuples(
        st.just("raise"),
        st.builds(rate_limited, TEXTS, SECONDS, st.dictionaries(TEXTS, TEXTS, max_size=3)),
    ),
    st.tuples(st.just("raise"), st.builds(RuntimeError, TEXTS)),
    st.tuples(st.just("raise"), st.builds(errors.ValidationError, TEXTS, field=TEXTS)),
)


async def take(step, context):
    name, *arguments = step
    if name == "raise":
        raise arguments[0]
    done = getattr(context, name)(*arguments)
    if done is not None:
        await done


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=1, max_size=4), streams=st.booleans(), stubborn=st.booleans())
@example(steps=[("abort", StatusCode.NOT_FOUND, "gone", (("X", "y"),))], streams=False, stubborn=False)
@example(steps=[("abort", StatusCode.NOT_FOUND, "gone", ()), ("set_code", StatusCode.OK)], streams=False, stubborn=True)
@example(steps=[("set_code", None)], streams=False, stubborn=False)
@example(steps=[("set_code", 5.0)], streams=True, stubborn=False)
async def test_the_caller_is_answered_and_all_say_the_same(steps, streams, stubborn):
    """`stubborn` handlers go on after each step that fails."""

    async def behavior(context):
        for step in steps:
            try:
                await take(step, context)
            except Exception:
                if not stubborn:
                    raise

    told = await Told().call(behavior, streams=streams)
    told.agrees()


BAD = [
    (("x-text-bin", SECRET), "x-text-bin"),
    (("x-surrogate", SECRET + "\ud800"), "x-surrogate"),
    (("X-Upper", SECRET), "X-Upper"),
    (("x-accent", SECRET + "é"), "x-accent"),
    (("x-newline", SECRET + "\n"), "x-newline"),
    (("x-none", None), "x-none"),
    (("grpc-status", "0"), "grpc-status"),
    (("grpc-timeout", "1S"), "grpc-timeout"),
    (("content-type", "text/html"), "content-type"),
    (("x-much", SECRET + "x" * MAX_REPLY), "x-much"),
    (("x-much-bin", b"x" * MAX_REPLY), "x-much-bin"),
]
WAYS = {
    "set": lambda context, pair: take(("set_trailing_metadata", (pair,)), context),
    "initial": lambda context, pair: take(("send_initial_metadata", (pair,)), context),
    "abort": lambda context, pair: context.abort(StatusCode.NOT_FOUND, "the original", (pair,)),
    "status": lambda context, pair: context.abort_with_status(Status(StatusCode.NOT_FOUND, "the original", (pair,))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("pair", "key"), BAD, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_bad_trailer_is_internal_and_named_in_the_log(way, pair, key):
    told = await Told().call(lambda context: WAYS[way](context, pair))
    told.agrees()
    assert told.status is StatusCode.INTERNAL
    assert "error id" in told.details
    said = str(told.failure)
    assert key in said
    assert SECRET not in said
    if way in {"abort", "status"}:
        assert "NOT_FOUND, 'the original'" in said


async def test_an_error_is_not_lost_to_a_bad_trailer_set_after_it():
    async def behavior(context):
        try:
            raise errors.NotFoundError("the original")
        finally:
            context.set_trailing_metadata((("X", "y"),))

    told = await Told().call(behavior)
    told.agrees()
    assert isinstance(told.failure.__context__, errors.NotFoundError)


async def test_trailers_before_an_error_leave_room_for_its_details():
    async def behavior(context):
        context.set_trailing_metadata((("x-much", "x" * (MAX_PAIRS - 100)),))
        raise errors.NotFoundError("é" * 2000)

    told = await Told().call(behavior)
    told.agrees()
    assert told.status is StatusCode.NOT_FOUND
    assert "grpc-status-details-bin" in told.trailers
    assert "x-much" not in told.trailers
    (line,) = (line for line in told.logs if line["event"] == "trailers left out")
    assert line["keys"] == ["x-much"]


async def test_as_much_as_may_be_arrives_always():
    async def behavior(context):
        pair = ("x-much", "x" * (MAX_PAIRS - size_of((("x-much", ""),))))
        context.set_trailing_metadata((pair,))
        await context.abort(StatusCode.NOT_FOUND, "é%" * 3000)

    for _ in range(20):
        told = await Told().call(behavior)
        told.agrees()
        assert told.status is StatusCode.NOT_FOUND
        assert told.details.startswith("é%é%")
        assert told.details.endswith("…")
        assert "x-much" in told.trailers


@pytest.mark.parametrize("code", [StatusCode.OK, 0])
async def test_an_abort_with_ok_is_a_fault(code):
    told = await Told().call(lambda context: context.abort(code, "fine"))
    told.agrees()
    assert told.status is StatusCode.INTERNAL
    assert "OK is no failure" in str(told.failure)


async def test_what_was_sent_stays_sent():
    async def behavior(context):
        try:
            await context.abort(StatusCode.NOT_FOUND, "gone")
        finally:
            context.set_code(StatusCode.OK)

    told = await Told().call(behavior)
    told.agrees()
    assert told.status is StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (2.5, 2.5),
        (0, 0.0),
        (-5, 0.0),
        (float("-inf"), 0.0),
        (float("inf"), LONGEST_WAIT),
        (1e300, LONGEST_WAIT),
        pytest.param(10**400, LONGEST_WAIT, id="10**400"),
        (float("nan"), None),
        ("soon", None),
    ],
)
async def test_when_to_come_back_is_within_what_can_be_waited(seconds, told):
    async def behavior(context):
        raise errors.RateLimitError("too much", retry_after=seconds)

    call = await Told().call(behavior)
    call.agrees()
    assert call.status is StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status.FromString(call.trailers["grpc-status-details-bin"])
    info = error_details_pb2.RetryInfo()
    found = [info.retry_delay.ToTimedelta().total_seconds() for detail in status.details if detail.Unpack(info)]
    assert found == ([] if told is None else [told])


class Unspeakable:
    def __str__(self):
        raise RuntimeError("nobody may know")


async def test_details_that_cannot_be_made_do_not_change_the_status():
    async def behavior(context):
        raise errors.NotFoundError("gone", metadata={"who": Unspeakable()})

    told = await Told().call(behavior)
    told.agrees()
    assert (told.status, told.details) == (StatusCode.NOT_FOUND, "gone")
    assert "x-correlation-id" in told.trailers
    assert [line["event"] for line in told.logs if line["log_level"] == "error"] == ["error details left out"]


class Odd(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    "kind", [grpc.aio.AbortError, grpc.aio.InternalError, grpc.aio.UsageError, grpc.RpcError, StopIteration, Odd]
)
async def test_errors_that_core_has_uses_for_are_internal_when_a_handler_raises_them(kind, streams):
    async def behavior(context):
        raise kind(SECRET)

    told = await Told().call(behavior, streams=streams)
    told.agrees()
    assert told.status is StatusCode.INTERNAL
    assert SECRET not in told.details
    assert told.failure is not None


def test_a_delay_is_a_duration():
    assert retry_delay(1.25) == duration_pb2.Duration(seconds=1, nanos=250_000_000)
