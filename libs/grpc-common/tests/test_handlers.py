"""Handlers written the wrong way: told where they are registered, and else by one line of the log."""

import asyncio
from contextlib import suppress
from functools import partial

import grpc
import pytest
from google.protobuf import wrappers_pb2
from grpc import StatusCode
from structlog.testing import capture_logs

from grpc_common.default_chain import default_chain
from grpc_common.handlers import HandlerError
from grpc_common.server import GRPCServer
from grpc_common.testing import in_process
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

ITEMS = "meshwork.items.v1.ItemService"
PATIENCE = 20


class Right(rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        return pb.Item(id=request.id)

    async def ListItems(self, request, context):
        yield pb.Item(id="1")

    async def SyncItems(self, request_iterator, context):
        await context.write(pb.ItemSyncResponse(id="1"))


class Plain(Right):
    def GetItem(self, request, context):
        return pb.Item(id=request.id)


class PlainGenerator(Right):
    def ListItems(self, request, context):
        yield pb.Item(id="1")


class PlainReturn(Right):
    def ListItems(self, request, context):
        return [pb.Item(id="1")]


class Yielding(Right):
    async def GetItem(self, request, context):
        yield pb.Item(id=request.id)


class Callable(Right):
    class Answer:
        def __call__(self, request, context):
            return pb.Item()

    GetItem = Answer()


class Given(Right):
    def __init__(self):
        self.GetItem = partial(self.answer, "1")

    def answer(self, name, request, context):
        return pb.Item(id=name)


REFUSED = {
    Plain: "ItemService/GetItem is served by Plain.GetItem, which is not an `async def`",
    PlainGenerator: "ItemService/ListItems is served by PlainGenerator.ListItems, which is not an `async def`",
    PlainReturn: "ItemService/ListItems is served by PlainReturn.ListItems, .* replies by `yield`",
    Yielding: "ItemService/GetItem is served by Yielding.GetItem, which yields",
    Callable: "ItemService/GetItem is served by Answer, which is not an `async def`",
    Given: "ItemService/GetItem is served by partial, which is not an `async def`",
}


class AsyncCallable(Right):
    class Answer:
        async def __call__(self, request, context):
            return pb.Item()

    GetItem = Answer()


class AsyncGiven(Right):
    def __init__(self):
        self.GetItem = partial(self.answer, "1")

    async def answer(self, name, request, context):
        return pb.Item(id=name)


@pytest.mark.parametrize("servicer", REFUSED)
async def test_it_is_refused_by_name_where_it_is_registered(servicer):
    server = GRPCServer("127.0.0.1", 0)
    with pytest.raises(HandlerError, match=REFUSED[servicer]):
        server.add_servicer(servicer(), rpc.add_ItemServiceServicer_to_server)
    with pytest.raises(HandlerError, match=REFUSED[servicer]):
        async with in_process(partial(rpc.add_ItemServiceServicer_to_server, servicer())):
            pass


@pytest.mark.parametrize("servicer", [Right, AsyncCallable, AsyncGiven, rpc.ItemServiceServicer])
async def test_what_works_is_taken(servicer):
    """Methods that nobody has written are, too: generated code has them as plain functions."""
    async with in_process(partial(rpc.add_ItemServiceServicer_to_server, servicer())) as channel:
        code = await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"), timeout=PATIENCE).code()
    assert code is (StatusCode.UNIMPLEMENTED if servicer is rpc.ItemServiceServicer else StatusCode.OK)


def test_a_handler_of_another_kind_than_its_method_is_refused():
    handler = grpc.unary_unary_rpc_method_handler(Right().GetItem, pb.ListItemsRequest.FromString)
    server = GRPCServer("127.0.0.1", 0)
    with pytest.raises(HandlerError, match="registered as unary_unary, and its proto makes it unary_stream"):
        server.add_registered_method_handlers(ITEMS, {"ListItems": handler})


async def plain(request, context):
    return pb.ListItemsRequest(page_token="hunter2")


async def nothing(request, context):
    return None


async def listed(request, context):
    return [pb.Item(id="1")]


async def generator_returned(request, context):
    async def replies():
        yield pb.Item(id="1")

    return replies()


async def wrong_inside(request, context):
    yield pb.Item(id="1")
    yield pb.GetItemRequest(id="1")


async def wrong_written(request, context):
    await context.write(wrappers_pb2.StringValue(value="1"))


def unseen(request, context):
    return pb.Item(id="1")


WRONG = {
    plain: (
        "GetItem",
        r"replied with meshwork\.items\.v1\.ListItemsRequest; its proto says meshwork\.items\.v1\.Item$",
    ),
    nothing: ("GetItem", r"replied with NoneType; its proto says meshwork\.items\.v1\.Item$"),
    unseen: ("GetItem", r"the handler of .*GetItem gave Item; a right one is an `async def` that returns its reply$"),
    listed: ("ListItems", r"the handler of .*ListItems gave list; a right one gives its replies by `yield`"),
    generator_returned: ("ListItems", r"gave async_generator; a right one gives its replies by `yield`"),
    wrong_inside: ("ListItems", r"replied with .*GetItemRequest; its proto says .*Item$"),
    wrong_written: ("ListItems", r"replied with google.protobuf.StringValue; its proto says .*Item$"),
}


class Hidden(grpc.GenericRpcHandler):
    """Tells nothing of its handlers before a call."""

    def __init__(self, handlers):
        self._handlers = handlers

    def service(self, details):
        return self._handlers.get(details.method)


@pytest.mark.parametrize("behavior", WRONG)
async def test_it_is_internal_with_one_line_that_says_what_is_wrong(behavior):
    name, text = WRONG[behavior]
    path, streams = f"/{ITEMS}/{name}", name == "ListItems"
    make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    parse = (pb.ListItemsRequest if streams else pb.GetItemRequest).FromString
    request = b"" if streams else pb.GetItemRequest(id="1").SerializeToString()
    hidden = Hidden({path: make(behavior, parse, pb.Item.SerializeToString)})
    with capture_logs() as logs:
        async with in_process(lambda s: s.add_generic_rpc_handlers((hidden,)), [default_chain()]) as channel:
            call = (channel.unary_stream if streams else channel.unary_unary)(path)(request, timeout=PATIENCE)
            if streams:
                with suppress(grpc.aio.AioRpcError):
                    async for _ in call:
                        pass
            assert await call.code() is StatusCode.INTERNAL
            assert "hunter2" not in await call.details()
            async with asyncio.timeout(PATIENCE):
                while not any(line["event"] == "call" for line in logs):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    (failure,) = [line for line in logs if line["event"] == "call failed"]
    (line,) = [line for line in logs if line["event"] == "call"]
    assert (failure["method"], line["status"]) == (path, "INTERNAL")
    with pytest.raises(type(failure["exc_info"]), match=text):
        raise failure["exc_info"]
