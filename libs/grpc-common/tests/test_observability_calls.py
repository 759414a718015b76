"""What tracing and metrics record of calls: every kind and style times every ending, and none recorded twice."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from itertools import product
from typing import NamedTuple

import grpc
import pytest
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace import StatusCode as SpanStatus
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common import testing
from grpc_common.call import current_call
from grpc_common.call_metrics import code_label
from grpc_common.chain import Chain
from grpc_common.errors import NotFoundError
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.metrics import MetricsInterceptor
from grpc_common.interceptors.tracing import TracingInterceptor

SERVICE = "meshwork.test.Observed"
SECRET = "hunter2"
PATIENCE = 10.0
STYLES = list(product(("unary", "iterator", "read"), ("unary", "generator", "write")))
TYPES = {
    "unary_unary": "unary",
    "stream_unary": "client_stream",
    "unary_stream": "server_stream",
    "stream_stream": "bidi_stream",
}
ENDINGS = {
    "return": StatusCode.OK,
    "domain_error": StatusCode.NOT_FOUND,
    "abort": StatusCode.FAILED_PRECONDITION,
    "set_code": StatusCode.OUT_OF_RANGE,
    "crash": StatusCode.INTERNAL,
    "unimplemented": StatusCode.UNIMPLEMENTED,
    "own_timeout": StatusCode.DEADLINE_EXCEEDED,
    "lost_future": StatusCode.INTERNAL,
    "cancel": StatusCode.CANCELLED,
    "deadline": StatusCode.DEADLINE_EXCEEDED,
    "unparsable": StatusCode.INVALID_ARGUMENT,
    "unserialisable": StatusCode.INTERNAL,
    "unknown_method": StatusCode.UNIMPLEMENTED,
}


CUT = {StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED}


class Ask(NamedTuple):
    """One call: how it is handled, how many messages go each way where they are streamed, and how it ends."""

    style: tuple[str, str]
    ending: str
    requests: int = 1
    replies: int = 1

    @property
    def kind(self):
        return "_".join("unary" if part == "unary" else "stream" for part in self.style)

    @property
    def name(self):
        return "".join(self.style)

    @property
    def status(self):
        if self.ending == "unserialisable" and self.style[1] != "unary" and self.replies == 0:
            return StatusCode.OK
        if self.ending == "unparsable" and self.style[0] != "unary" and self.requests == 0:
            return StatusCode.OK
        return ENDINGS[self.ending]

    @property
    def seen_by_client(self):
        # A client that still sends when the answer comes may take the end of the stream for an error of the transport.
        early = self.style[0] != "unary" and self.ending in ("unparsable", "unknown_method")
        return {self.status, StatusCode.INTERNAL} if early else {self.status}

    @property
    def recorded(self):
        # Client and server wait for the same moment: the client's cancellation may come first.
        return {self.status, StatusCode.CANCELLED} if self.ending == "deadline" else {self.status}

    @property
    def received(self):
        if self.style[0] == "unary" or self.ending == "unparsable":
            return 1 if self.style[0] == "unary" else min(self.requests, 1)
        return self.requests

    @property
    def sent(self):
        if self.style[1] == "unary":
            return int(self.status is StatusCode.OK)
        if self.ending == "unserialisable" or (self.ending == "unparsable" and self.received):
            return 0
        return self.replies


ASKS = st.builds(
    Ask,
    st.sampled_from(STYLES),
    st.sampled_from([ending for ending in ENDINGS if ending != "deadline"]),
    st.integers(0, 3),
    st.integers(0, 3),
) | st.builds(Ask, st.sampled_from(STYLES), st.just("deadline"), st.just(1), st.integers(0, 3))


class Servicer:
    """Does what the metadata of a call tells it to."""

    def __init__(self):
        self.overtaken = 0  # how many calls did all they had to before their deadline passed
        self.leaks = []
        self.waiting = {}

    def generic(self):
        handlers = {}
        for requests, replies in STYLES:
            kind = "_".join("unary" if part == "unary" else "stream" for part in (requests, replies))
            behavior = getattr(self, replies)
            make = getattr(grpc, f"{kind}_rpc_method_handler")
            handlers[requests + replies] = make(
                lambda request, context, behavior=behavior, requests=requests: behavior(request, context, requests),
                parse,
                str.encode,
            )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def begin(self, request, context, requests):
        told = dict(context.invocation_metadata())
        self.look_for_leaks(told)
        if requests == "iterator":
            async for _ in request:
                pass
        elif requests == "read":
            while await context.read() is not grpc.aio.EOF:
                pass
        return told["ending"], int(told["replies"]), told["id"]

    def look_for_leaks(self, told):
        if baggage.get_baggage("call") != told["id"]:
            self.leaks.append(baggage.get_all())
        context.attach(baggage.set_baggage("left-behind", "1"))  # by a handler that does not tidy up

    async def unary(self, request, context, requests):
        ending, _, name = await self.begin(request, context, requests)
        await self.end(ending, context, name)
        return object() if ending == "unserialisable" else "reply"

    async def generator(self, request, context, requests):
        ending, replies, name = await self.begin(request, context, requests)
        for _ in range(replies):
            yield object() if ending == "unserialisable" else "reply"
        await self.end(ending, context, name)

    async def write(self, request, context, requests):
        ending, replies, name = await self.begin(request, context, requests)
        for _ in range(replies):
            await context.write(object() if ending == "unserialisable" else "reply")
        await self.end(ending, context, name)

    async def end(self, ending, context, name):
        match ending:
            case "domain_error":
                raise NotFoundError("there is no such thing")
            case "abort":
                await context.abort(StatusCode.FAILED_PRECONDITION, "not now")
            case "set_code":
                context.set_code(StatusCode.OUT_OF_RANGE)
            case "crash":
                raise RuntimeError(SECRET)
            case "unimplemented":
                context.set_code(StatusCode.UNIMPLEMENTED)
                raise NotImplementedError(SECRET)
            case "own_timeout":
                raise TimeoutError(SECRET)
            case "lost_future":
                raise asyncio.CancelledError(SECRET)
            case "cancel" | "deadline":
                self.waiting[name].set()
                self.overtaken += ending == "deadline"
                await asyncio.sleep(PATIENCE)


def parse(data):
    if data == b"bad":
        raise ValueError(SECRET)
    return data


class Observed:
    """A server under observation, and what was observed."""

    def __init__(self, *, stacked=False, sampled=True):
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.registry = CollectorRegistry()
        interceptors = [
            TracingInterceptor(provider.get_tracer("test")),
            MetricsInterceptor(self.registry),
            ErrorInterceptor(),
        ]
        self.interceptors = interceptors if stacked else [Chain(interceptors)]
        self.servicer = Servicer()

    @asynccontextmanager
    async def serve(self):
        def register(server):
            server.add_generic_rpc_handlers((self.servicer.generic(),))

        with capture_logs():
            async with testing.in_process(register, self.interceptors) as channel:
                yield channel

    def total(self, name, **labels):
        """Return the sum of a metric over all series that have these labels."""
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    async def settled(self, calls):
        """Wait until the server has done with as many calls."""
        async with asyncio.timeout(PATIENCE):
            while self.total("grpc_server_handled_total") < calls or len(self.spans) < calls:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def invoke(channel, servicer, ask, number=0):
    """Make the call and return its status."""
    name = str(number)
    path = f"/{SERVICE}/{ask.name}" if ask.ending != "unknown_method" else f"/{SERVICE}/Nothing{number}"
    payload = b"bad" if ask.ending == "unparsable" else b"ok"
    waiting = servicer.waiting[name] = asyncio.Event()
    metadata = (("ending", ask.ending), ("replies", str(ask.replies)), ("id", name), ("baggage", f"call={name}"))
    requests = payload if ask.style[0] == "unary" else iter([payload] * ask.requests)
    timeout = 0.15 if ask.ending == "deadline" else PATIENCE
    call = getattr(channel, ask.kind)(path)(requests, timeout=timeout, metadata=metadata)
    if ask.ending == "cancel":
        asyncio.ensure_future(waiting.wait()).add_done_callback(lambda _: call.cancel())
    with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        if ask.style[1] == "unary":
            await call
        else:
            async for _ in call:
                pass
    return await call.code()


def series(ask):
    if ask.ending == "unknown_method":
        return "bidi_stream", "unknown", "unknown"
    return TYPES[ask.kind], SERVICE, ask.name


@settings(max_examples=100, deadline=None)
@given(asks=st.lists(ASKS, min_size=1, max_size=8), stacked=st.booleans())
def test_every_call_is_counted_once_with_its_status_time_and_messages(asks, stacked):
    """**Feature: grpc-microservices-support, Property 12: Metrics Recording Completeness**"""

    async def calls():
        observed = Observed(stacked=stacked)
        servicer = observed.servicer
        async with observed.serve() as channel:
            statuses = await asyncio.gather(*(invoke(channel, servicer, ask, at) for at, ask in enumerate(asks)))
            assert [pair for pair in zip(statuses, asks, strict=True) if pair[0] not in pair[1].seen_by_client] == []
            # A deadline that passes on the way may never be the server's call, or one that got no message.
            late = sum(ask.ending == "deadline" for ask in asks) - servicer.overtaken
            await observed.settled(len(asks) - late)
        assert servicer.leaks == []
        if late:
            return
        for kind, service, method in {series(ask) for ask in asks}:
            mine = [ask for ask in asks if series(ask) == (kind, service, method)]
            labels = {"grpc_type": kind, "grpc_service": service, "grpc_method": method}
            assert observed.total("grpc_server_started_total", **labels) == len(mine)
            for statuses, count in Counter(frozenset(ask.recorded) for ask in mine).items():
                if any(ask.ending == "deadline" for ask in mine) and statuses & CUT:
                    continue
                (status,) = statuses
                assert observed.total("grpc_server_handled_total", **labels, grpc_code=code_label(status)) == count
            assert observed.total("grpc_server_handled_total", **labels) == len(mine)
            assert observed.total("grpc_server_handling_seconds_count", **labels) == len(mine)
            assert observed.total("grpc_server_handling_seconds_bucket", **labels, le="+Inf") == len(mine)
            assert observed.total("grpc_server_handling_seconds_sum", **labels) > 0
            assert observed.total("grpc_server_in_flight", **labels) == 0
            if service == SERVICE:
                assert observed.total("grpc_server_msg_received_total", **labels) == sum(ask.received for ask in mine)
                assert observed.total("grpc_server_msg_sent_total", **labels) == sum(ask.sent for ask in mine)
        assert Counter(span.name for span in observed.spans) == Counter(map(span_name, asks))
        codes = Counter((span.name, code_label_of(span)) for span in observed.spans)
        for family in observed.registry.collect():
            for sample in family.samples:
                if sample.name == "grpc_server_handled_total":
                    labels = sample.labels
                    name = "grpc" if labels["grpc_service"] != SERVICE else f"{SERVICE}/{labels['grpc_method']}"
                    assert codes[name, labels["grpc_code"]] == sample.value

    asyncio.run(calls())


def code_label_of(span):
    return code_label(StatusCode[span.attributes["rpc.status_code"]])


def span_name(ask):
    return "grpc" if ask.ending == "unknown_method" else f"{SERVICE}/{ask.name}"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("style", STYLES, ids="-".join)
async def test_one_span_tells_how_the_call_ended(style, ending):
    observed = Observed()
    ask = Ask(style, ending, 2 if style[0] != "unary" else 1, 2)
    async with observed.serve() as channel:
        assert await invoke(channel, observed.servicer, ask) in ask.seen_by_client
        await observed.settled(1)
    (span,) = observed.spans
    assert span.name == span_name(ask)
    assert span.kind is SpanKind.SERVER
    assert span.end_time > span.start_time
    attributes = dict(span.attributes)
    assert attributes["rpc.system.name"] == "grpc"
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["server.port"] > 0
    if ending == "unknown_method":
        assert attributes["rpc.method"] == "_OTHER"
        assert attributes["rpc.method_original"] == f"{SERVICE}/Nothing0"
    else:
        assert attributes["rpc.method"] == span.name
        assert "rpc.method_original" not in attributes
    status = StatusCode[attributes["rpc.status_code"]]
    assert status in ask.recorded
    # https://opentelemetry.io/docs/specs/semconv/rpc/grpc/#server: those are the server's own doing, and no others.
    own = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
    assert (span.status.status_code is SpanStatus.ERROR) is (status.name in own)
    assert attributes.get("error.type") == (status.name if status.name in own else None)
    old = {"rpc.system", "rpc.service", "rpc.grpc.status_code", "rpc.response.status_code"}
    assert old.isdisjoint(attributes)
    assert SECRET not in span.to_json()
    if ending != "unknown_method":
        assert attributes.get("meshwork.rpc.requests") == (ask.received if style[0] != "unary" else None)
        assert attributes.get("meshwork.rpc.responses") == (ask.sent if style[1] != "unary" else None)


async def test_what_a_crash_was_is_in_the_span_and_its_message_is_not():
    observed = Observed()
    async with observed.serve() as channel:
        await invoke(channel, observed.servicer, Ask(("unary", "unary"), "crash"))
        await observed.settled(1)
    (span,) = observed.spans
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "builtins.RuntimeError"
    assert "in unary" in event.attributes["exception.stacktrace"]
    assert "exception.message" not in event.attributes
    assert len(span.attributes["meshwork.error.id"]) == 32


async def test_nothing_of_a_call_is_left_when_it_is_over():
    observed = Observed()
    seen = []
    real = observed.servicer.begin

    async def look(request, context, requests):
        seen.append((trace.get_current_span().get_span_context(), current_call.get()))
        return await real(request, context, requests)

    observed.servicer.begin = look
    async with observed.serve() as channel:
        for number in range(3):
            await invoke(channel, observed.servicer, Ask(("unary", "generator"), "return"), number)
        await observed.settled(3)
    assert len({span.trace_id for span, _ in seen}) == 3
    assert all(span.parent is None for span in observed.spans)
    assert len({id(call) for _, call in seen}) == 3
    assert not trace.get_current_span().get_span_context().is_valid
    assert current_call.get() is None


async def test_a_stream_that_goes_on_is_seen_in_a_scrape():
    observed = Observed()
    metadata = (("ending", "cancel"), ("replies", "2"), ("id", "0"), ("baggage", "call=0"))
    observed.servicer.waiting["0"] = asyncio.Event()
    async with observed.serve() as channel:
        call = channel.stream_stream(f"/{SERVICE}/iteratorwrite")(iter([b"ok"] * 3), metadata=metadata)
        await observed.servicer.waiting["0"].wait()
        assert observed.total("grpc_server_msg_received_total") == 3
        assert observed.total("grpc_server_msg_sent_total") == 2
        assert observed.total("grpc_server_in_flight") == 1
        assert observed.total("grpc_server_handling_seconds_count") == 0
        call.cancel()
        await observed.settled(1)
    assert observed.total("grpc_server_msg_received_total") == 3
    assert observed.total("grpc_server_msg_sent_total") == 2
    assert observed.total("grpc_server_in_flight") == 0
