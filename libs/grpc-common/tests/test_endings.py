"""What the log says of how calls end, and the endings that the conformance matrix has no place for."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
import pytest
from grpc import StatusCode
from structlog.testing import capture_logs

from grpc_common import testing
from grpc_common.access_line import SERVER_FAULTS
from grpc_common.conformance.endings import ENDINGS, SECRET, Client, Request, at_once
from grpc_common.conformance.kinds import STYLES, Style
from grpc_common.default_chain import default_interceptors
from meshwork.items.v1 import items_service_pb2 as pb

PATH = "/meshwork.test.Matrix/Call"
PATIENCE = 5.0


@dataclass
class Handler:
    """Takes one request, gives one reply where replies are streamed, and then comes to its end."""

    style: Style
    end: Any
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    reply: Any = field(default_factory=lambda: pb.Item(id="last"))

    def generic(self) -> grpc.GenericRpcHandler:
        make = getattr(grpc, f"{self.style.kind}_rpc_method_handler")
        behavior = {"unary": self.give_one, "generator": self.generate, "write": self.write}[self.style.replies]
        handler = make(behavior, pb.GetItemRequest.FromString, pb.Item.SerializeToString)
        return grpc.method_handlers_generic_handler("meshwork.test.Matrix", {"Call": handler})

    async def take(self, request, context):
        if self.style.requests == "iterator":
            request = await anext(aiter(request))
        elif self.style.requests == "read":
            request = await context.read()
        assert request.id == "1"

    async def give_one(self, request, context):
        try:
            await self.take(request, context)
            self.entered.set()
            await self.end(context)
            return self.reply
        finally:
            self.left.set()

    async def generate(self, request, context):
        try:
            await self.take(request, context)
            yield pb.Item(id="first")
            self.entered.set()
            await self.end(context)
            yield self.reply
        finally:
            self.left.set()

    async def write(self, request, context):
        try:
            await self.take(request, context)
            await context.write(pb.Item(id="first"))
            self.entered.set()
            await self.end(context)
            await context.write(self.reply)
        finally:
            self.left.set()


class Result(NamedTuple):
    status: StatusCode
    text: str
    replies: int


async def invoke(channel, style, request=b"\n\x011", patience=PATIENCE, cancel_after=None):
    """Call with one request, in bytes, and tell all that came back."""
    call_of = getattr(channel, style.kind)(PATH)
    requests = request if style.requests == "unary" else iter([request])
    call = call_of(requests, timeout=patience)
    if cancel_after is not None:
        asyncio.ensure_future(cancel_after.wait()).add_done_callback(lambda _: call.cancel())
    replies = 0
    try:
        if style.replies == "unary":
            await call
            replies = 1
        else:
            async for _ in call:
                replies += 1
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        pass
    text = f"{await call.details()} {await call.trailing_metadata()} {await call.initial_metadata()}"
    return Result(await call.code(), text, replies)


def chained():
    return None


def stacked():
    return default_interceptors()


@pytest.fixture(params=[chained, stacked])
def interceptors(request):
    return request.param()


@pytest.fixture(params=STYLES, ids=lambda style: f"{style.kind}-{style.requests}-{style.replies}")
def style(request):
    return request.param


WAITED_FOR = [
    ending
    for ending in ENDINGS
    if (ending.client, ending.request, ending.reply) == (Client.WAITS, Request.GOOD, "last")
]


async def access_line(logs):
    """Return the one access line of the one call; it may come a moment after the client's answer."""
    async with asyncio.timeout(PATIENCE):
        while not any(line["event"] == "call" for line in logs):  # noqa: ASYNC110  # a list cannot be waited for
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    lines = [line for line in logs if line["event"] == "call"]
    assert len(lines) == 1, lines
    return lines[0]


async def check(style, end, interceptors, status, level, **how):
    """Make one call that ends with `end` and check all that every ending must show."""
    handler = Handler(style, end, reply=how.pop("reply", pb.Item(id="last")))
    with capture_logs() as logs:
        async with testing.in_process(lambda s: s.add_generic_rpc_handlers((handler.generic(),)), interceptors) as ch:
            cancel = handler.entered if how.pop("cancel", False) else None
            before = asyncio.all_tasks()
            result = await invoke(ch, style, cancel_after=cancel, **how)
            line = await access_line(logs)
            leaked = {task for task in asyncio.all_tasks() - before if "rpc_task" not in task.get_name()}
    assert result.status is status
    assert (line["status"], line["log_level"]) == (status.name, level)
    assert line["method"] == PATH
    assert line["kind"] == style.kind
    assert SECRET not in result.text
    assert "Traceback" not in result.text
    assert not [task for task in leaked if not task.done() and "Exceptions" in task.get_name()]
    failures = [entry for entry in logs if entry["event"] == "call failed"]
    if status is StatusCode.INTERNAL:
        assert [entry["error_id"] for entry in failures] == [line["error_id"]]
        assert line["error_id"] in result.text
    else:
        assert not failures
    return handler, result, line


@pytest.mark.parametrize("ending", WAITED_FOR, ids=lambda ending: ending.name)
async def test_the_line_of_an_ending(style, ending, interceptors):
    level = "error" if ending.status in SERVER_FAULTS else "info"
    _, result, line = await check(style, ending.end, interceptors, ending.status, level)
    assert line.get("received", 1) == 1
    if style.replies != "unary":
        assert line["sent"] == result.replies == (2 if ending.name in ("return", "status-set") else 1)


async def test_a_status_set_and_no_reply(interceptors):
    async def end(context):
        context.set_code(StatusCode.ABORTED)

    await check(Style("unary", "unary"), end, interceptors, StatusCode.ABORTED, "info", reply=None)


async def test_no_reply(interceptors):
    await check(Style("unary", "unary"), at_once, interceptors, StatusCode.INTERNAL, "error", reply=None)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_an_unknown_method(kind, interceptors):
    with capture_logs() as logs:
        async with testing.in_process(lambda _: None, interceptors) as channel:
            for name in ("A", "B"):
                style = Style(*("unary" if part == "unary" else "read" for part in kind.split("_")))
                call = getattr(channel, kind)(f"/no.such.Service/{name}")
                requests = b"" if style.requests == "unary" else iter([b""])
                reply = call(requests, timeout=PATIENCE)
                assert await reply.code() is StatusCode.UNIMPLEMENTED
            await asyncio.sleep(0.02)
    calls = [(line["method"], line["status"]) for line in logs if line["event"] == "call"]
    assert calls == [("unknown", "UNIMPLEMENTED")] * 2


async def test_a_generator_is_closed_within_its_call(interceptors):
    """Not by the garbage collector, in a task of its own and at a time of its own."""
    tasks = []

    async def generate(request, context):
        tasks.append(asyncio.current_task())
        try:
            yield {"does not": "serialise"}
        finally:
            tasks.append(asyncio.current_task())

    handler = grpc.unary_stream_rpc_method_handler(generate, pb.GetItemRequest.FromString, pb.Item.SerializeToString)
    generic = grpc.method_handlers_generic_handler("meshwork.test.Matrix", {"Call": handler})
    async with testing.in_process(lambda server: server.add_generic_rpc_handlers((generic,)), interceptors) as channel:
        result = await invoke(channel, Style("unary", "generator"))
    assert result.status is StatusCode.INTERNAL
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]


async def cancels(channel, number):
    call = channel.stream_unary(PATH)()
    await call.write(b"")
    await asyncio.sleep(number % 3 / 1000)
    call.cancel()


async def sends_too_much(channel, number):
    call = channel.stream_unary(PATH)(iter([b"", bytes(TOO_LARGE + number)]))
    assert await call.code() is StatusCode.RESOURCE_EXHAUSTED


async def sends_a_bomb(channel, number):
    call = channel.stream_unary(PATH)(iter([b"", bytes(TOO_LARGE + number)]), compression=grpc.Compression.Gzip)
    assert await call.code() is StatusCode.RESOURCE_EXHAUSTED


TOO_LARGE = 5 * 2**20


@pytest.mark.parametrize("requests", ["iterator", "read"])
@pytest.mark.parametrize(
    ("end", "status"),
    [(cancels, "CANCELLED"), (sends_too_much, "RESOURCE_EXHAUSTED"), (sends_a_bomb, "RESOURCE_EXHAUSTED")],
)
async def test_a_stream_that_is_cut_is_not_taken_for_the_whole(requests, end, status):
    taken_for_whole = []

    async def iterate(request_iterator, context):
        async for _ in request_iterator:
            pass
        taken_for_whole.append(True)
        return pb.Item()

    async def read(request_iterator, context):
        while await context.read() is not grpc.aio.EOF:
            pass
        taken_for_whole.append(True)
        return pb.Item()

    behavior = {"iterator": iterate, "read": read}[requests]
    handler = grpc.stream_unary_rpc_method_handler(behavior, pb.GetItemRequest.FromString, pb.Item.SerializeToString)
    generic = grpc.method_handlers_generic_handler("meshwork.test.Matrix", {"Call": handler})
    with capture_logs() as logs:
        async with testing.in_process(lambda server: server.add_generic_rpc_handlers((generic,))) as channel:
            for number in range(60):
                await end(channel, number)
            await asyncio.sleep(0.1)
    assert not taken_for_whole
    assert {line["status"] for line in logs} == {status}
    if status != "CANCELLED":
        assert len(logs) == 60


async def test_a_request_that_core_refuses_is_told_of(interceptors):
    """One that is no stream. A reply that core refuses to the handler, as a client, says nothing of its requests."""
    with capture_logs() as logs:

        async def ask(request, context):
            async with grpc.aio.insecure_channel(target, [("grpc.max_receive_message_length", 10)]) as channel:
                with suppress(grpc.aio.AioRpcError):
                    await channel.unary_unary("/a.B/Large")(b"")
                async for _ in channel.unary_stream("/a.B/Many")(b""):
                    pass
            return pb.Item()

        async def large(request, context):
            return bytes(100)

        async def many(request, context):
            yield bytes(100)

        async def up(requests, context):
            first = await anext(aiter(requests))
            with suppress(grpc.aio.AioRpcError):
                await ask(first, context)
            async for _ in requests:
                pass
            return pb.Item()

        other = grpc.aio.server()
        replies = {
            "Large": grpc.unary_unary_rpc_method_handler(large),
            "Many": grpc.unary_stream_rpc_method_handler(many),
        }
        other.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", replies),))
        target = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
        await other.start()
        codecs = pb.GetItemRequest.FromString, pb.Item.SerializeToString
        handlers = {
            "Call": grpc.unary_unary_rpc_method_handler(large, *codecs),
            "Up": grpc.stream_unary_rpc_method_handler(up, *codecs),
        }
        generic = grpc.method_handlers_generic_handler("meshwork.test.Matrix", handlers)
        async with testing.in_process(lambda s: s.add_generic_rpc_handlers((generic,)), interceptors) as channel:
            call = channel.unary_unary(PATH)(bytes(TOO_LARGE))
            assert await call.code() is StatusCode.RESOURCE_EXHAUSTED
            line = await access_line(logs)
            await channel.stream_unary("/meshwork.test.Matrix/Up")(iter([b"", b""]))
        await other.stop(0)
    assert (line["status"], line["method"]) == ("RESOURCE_EXHAUSTED", PATH)
    assert [line["status"] for line in logs if line["event"] == "call"] == ["RESOURCE_EXHAUSTED", "OK"]


@pytest.mark.parametrize("client", ["cancels", "runs out of time"])
async def test_an_abort_that_comes_too_late_is_no_failure(style, client, caplog):
    """Core has nobody to send it to, which is neither a second answer to give nor a fault of the service."""

    async def end(context):
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            await context.abort(StatusCode.FAILED_PRECONDITION, "too late")

    handler = Handler(style, end)
    how = {"cancel_after": handler.entered} if client == "cancels" else {"patience": 0.1}
    with capture_logs() as logs:
        async with testing.in_process(lambda s: s.add_generic_rpc_handlers((handler.generic(),))) as channel:
            await invoke(channel, style, **how)
            line = await access_line(logs)
    assert line["status"] in ("CANCELLED", "DEADLINE_EXCEEDED")
    assert "UsageError" not in caplog.text
    assert not [entry for entry in logs if entry["event"] == "call failed"]
