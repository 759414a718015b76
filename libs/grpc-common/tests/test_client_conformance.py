"""The client's half of the matrix: every kind, however a call is written and read, in every way it can end."""

import asyncio
from collections import Counter
from contextlib import aclosing, suppress
from itertools import product

import grpc
import pytest
from grpc import StatusCode
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from client_kit import METHODS, Server, Stub, make_factory, serving, text
from grpc_common.call_metrics import code_label
from grpc_common.client.remote_error import RemoteError
from grpc_common.conformance.cable import Cable

PATIENCE = 5
ONCE = {"unary_unary": "Write", "unary_stream": "List", "stream_unary": "Pour", "stream_stream": "Chat"}
REPEATED = {"unary_unary": "Put", "unary_stream": "Watch", "stream_unary": "Gather", "stream_stream": "Talk"}
ENDINGS = {
    "reply": StatusCode.OK,
    "error": StatusCode.NOT_FOUND,
    "error-after-a-reply": StatusCode.NOT_FOUND,
    "cancel": StatusCode.CANCELLED,
    "cancelled-task": StatusCode.CANCELLED,
    "cancel-at-once": StatusCode.CANCELLED,
    "deadline": StatusCode.DEADLINE_EXCEEDED,
    "early-break": StatusCode.CANCELLED,
    "server-gone": StatusCode.UNAVAILABLE,
    "server-silent": StatusCode.DEADLINE_EXCEEDED,
    "channel-closed": StatusCode.CANCELLED,
    "source-fails": StatusCode.CANCELLED,
    "server-stops-reading": StatusCode.OK,
}
STYLES = ("iterator", "sequence", "written")


def cases():
    for method, ending, style in product([*ONCE.values(), *REPEATED.values()], ENDINGS, STYLES):
        kind = METHODS[method][0]
        streamed, replies = kind.startswith("stream"), kind.endswith("stream")
        if not streamed and style != "iterator":
            continue
        if ending in ("early-break", "error-after-a-reply") and not replies:
            continue
        if ending in ("source-fails", "server-stops-reading") and (not streamed or style == "sequence"):
            continue
        if ending == "source-fails" and style == "written":
            continue
        yield pytest.param(method, ending, style, id=f"{method}-{ending}-{style}")


class Visit:
    """One call as its handler sees it."""

    def __init__(self, ending):
        self.ending = ending
        self.waits, self.left = asyncio.Event(), asyncio.Event()

    async def end(self, context, reply=None):
        self.waits.set()
        if self.ending in ("reply", "server-stops-reading"):
            return
        if self.ending.startswith("error"):
            await context.abort(StatusCode.NOT_FOUND, "no such thing")
        await asyncio.Event().wait()

    def unary(self, streamed):
        async def behavior(request, context):
            try:
                if streamed and self.ending != "server-stops-reading":
                    async for _ in request:
                        self.waits.set()
                await self.end(context)
                return text("reply")
            finally:
                self.left.set()

        return behavior

    def stream(self, streamed):
        async def behavior(request, context):
            try:
                if self.ending != "error":
                    yield text("first")
                if streamed and self.ending != "server-stops-reading":
                    async for _ in request:
                        self.waits.set()
                await self.end(context)
                yield text("last")
            finally:
                self.left.set()

        return behavior


class SourceError(Exception):
    """What a caller's own generator raises."""


async def source(ending):
    yield text("a")
    if ending == "source-fails":
        raise SourceError
    if ending == "server-stops-reading":
        await asyncio.Event().wait()  # would hold a task for ever
    yield text("b")


async def begin(stub, method, ending, style, visit):
    """Start the call; return it, and the task that writes to it by hand."""
    timeout = 0.3 if ending in ("deadline", "server-silent") else PATIENCE
    if not METHODS[method][0].startswith("stream"):
        return getattr(stub, method)(text("a"), timeout=timeout), None
    if style == "iterator":
        return getattr(stub, method)(source(ending), timeout=timeout), None
    if style == "sequence":
        return getattr(stub, method)([text("a"), text("b")], timeout=timeout), None
    call = getattr(stub, method)(timeout=timeout)

    async def write():
        with suppress(RemoteError, asyncio.InvalidStateError, asyncio.CancelledError):
            await call.write(text("a"))
            if ending != "server-stops-reading":
                await call.write(text("b"))
                await call.done_writing()

    return call, asyncio.create_task(write())


async def take(call, streamed, ending):
    """Read the call to its end, or leave early; return how many replies there were."""
    if not streamed:
        await call
        return 1
    replies = 0
    async for _ in call:
        replies += 1
        if ending == "early-break":
            break
    return replies


def running():
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())


async def eventually(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.005)


def ended(registry):
    return {
        sample.labels["grpc_code"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "grpc_client_handled_total" and sample.value
    }


@pytest.mark.parametrize(("method", "ending", "style"), list(cases()))
async def test_every_call_ends_once_and_leaves_nothing(method, ending, style):
    kind = METHODS[method][0]
    streamed = kind.endswith("stream")
    visit = Visit(ending)
    server = Server(**{method: (visit.stream if streamed else visit.unary)(kind.startswith("stream"))})
    registry, exporter = CollectorRegistry(), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with (
        serving(server) as target,
        Cable(int(target.rpartition(":")[2])) as cable,
        make_factory(registry=registry, tracer=provider.get_tracer("test")) as factory,
    ):
        channel = await factory.create_channel(f"127.0.0.1:{cable.port}", secure=False)
        stub = Stub(channel)
        await channel.channel_ready()
        before = running()
        call, writer = await begin(stub, method, ending, style, visit)
        raised = await _act(call, streamed, ending, visit, cable, channel)
        if ending == "early-break":
            del call  # the last that held it
        else:
            assert await call.code() is ENDINGS[ending]
            del call
        if writer is not None:
            await writer
        await eventually(lambda: ended(registry))
        if visit.waits.is_set():
            await asyncio.wait_for(visit.left.wait(), PATIENCE)
        expected = ENDINGS[ending]
        assert ended(registry) == {code_label(expected): 1}
        (span,) = exporter.get_finished_spans()
        assert span.attributes["rpc.status_code"] == expected.name
        if ending not in ("channel-closed", "server-silent", "server-gone"):
            await eventually(lambda: not running() - before)
        else:
            await eventually(lambda: not [name for name in running() - before if "Requests." in name or "open" in name])
        in_flight = [
            sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "grpc_client_in_flight"
        ]
        assert set(in_flight) == {0}
        _check(raised, ending, expected)


async def _act(call, streamed, ending, visit, cable, channel):
    """Let the call end as it is to; return what its caller was raised."""
    if ending == "cancel-at-once":
        call.cancel()
    taking = asyncio.create_task(take(call, streamed, ending))
    del call
    if ending in ("cancel", "cancelled-task", "server-gone", "server-silent", "channel-closed"):
        await asyncio.wait_for(visit.waits.wait(), PATIENCE)
        if ending == "cancelled-task":
            taking.cancel()
        elif ending == "server-gone":
            cable._server.close()  # nor is there another for those who try again
            cable.cut()
        elif ending == "server-silent":
            cable.hold()
        elif ending == "channel-closed":
            await channel.close()
        else:
            _calls_of(taking).cancel()
    try:
        await asyncio.wait_for(taking, PATIENCE)
    except (RemoteError, SourceError, asyncio.CancelledError) as error:
        return error
    return None


def _calls_of(task):
    return task.get_coro().cr_frame.f_locals["call"]


def _check(raised, ending, expected):
    if ending in ("reply", "early-break", "server-stops-reading"):
        assert raised is None
    elif ending in ("cancel", "cancelled-task", "cancel-at-once"):
        assert isinstance(raised, asyncio.CancelledError)
    elif ending == "source-fails":
        assert isinstance(raised, SourceError)
    else:
        assert isinstance(raised, RemoteError)
        assert raised.status is expected
        assert isinstance(raised, TimeoutError) == (expected is StatusCode.DEADLINE_EXCEEDED)


async def test_a_stream_is_read_by_hand_or_in_a_loop():
    async def three(request, context):
        for number in range(3):
            yield text(str(number))

    async with make_factory() as factory, serving(Server(Watch=three, List=three)) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        for method in (stub.Watch, stub.List):
            assert [reply.value async for reply in method(text())] == ["0", "1", "2"]
            call = method(text())
            assert [(await call.read()).value for _ in range(3)] == ["0", "1", "2"]
            assert await call.read() is grpc.aio.EOF
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is StatusCode.OK
            async with method(text()) as call:
                assert (await anext(call)).value == "0"
            assert call.cancelled()


async def test_what_a_server_says_first_is_read_before_any_message():
    go = asyncio.Event()

    async def behavior(requests, context):
        await context.send_initial_metadata((("k", "v"),))
        async for request in requests:
            yield request
        context.set_trailing_metadata((("t", "w"),))

    async with make_factory() as factory, serving(Server(Talk=behavior, Chat=behavior)) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        for method in (stub.Talk, stub.Chat):
            call = method()
            assert dict(await call.initial_metadata())["k"] == "v"
            await call.write(text("a"))
            assert await call.read() == text("a")
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert dict(await call.trailing_metadata())["t"] == "w"
    go.set()


async def test_both_ways_at_once():
    async def behavior(requests, context):
        async for request in requests:
            yield request

    async def numbers():
        for number in range(200):
            yield text(str(number))

    async with make_factory() as factory, serving(Server(Talk=behavior, Chat=behavior)) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        for method in (stub.Talk, stub.Chat):
            async with aclosing(numbers()) as requests:
                assert [int(reply.value) async for reply in method(requests)] == list(range(200))
