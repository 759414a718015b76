"""The chain: order, compilation once per method, interceptors that see messages, and working alone."""

import grpc
import pytest
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.call import Method
from grpc_common.chain import Chain, CompiledHandler, Interceptor
from grpc_common.errors import UnauthorizedError
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.testing import in_process
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc


class Items(rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        return pb.Item(id=request.id)

    async def ListItems(self, request, context):
        for number in range(3):
            yield pb.Item(id=str(number))

    async def SyncItems(self, request_iterator, context):
        async for request in request_iterator:
            yield pb.ItemSyncResponse(id=request.delete_id, success=True)


def register(server):
    rpc.add_ItemServiceServicer_to_server(Items(), server)


class Named(Interceptor):
    """Notes when it is entered and left, and how often it is asked to wrap a method."""

    def __init__(self, name, notes):
        self.name, self.notes, self.wrapped = name, notes, []

    def wrap(self, method, call_next):
        self.wrapped.append(method.path)

        async def run(call, request):
            self.notes.append(f"+{self.name}")
            try:
                return await call_next(call, request)
            finally:
                self.notes.append(f"-{self.name}")

        return run


class Doorman(Interceptor):
    """Lets nobody in."""

    def wrap(self, method, call_next):
        async def run(call, request):
            raise UnauthorizedError("who are you?")

        return run


class Reader(Interceptor):
    """Notes what it sees of a request."""

    def __init__(self, notes):
        self.notes = notes

    def wrap(self, method, call_next):
        async def run(call, request):
            self.notes.append(type(request).__name__)
            return await call_next(call, request)

        return run


class MessageReader(Reader):
    sees_messages = True


@settings(max_examples=100, deadline=None)
@given(names=st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=6), alone=st.booleans())
async def test_interceptors_run_in_the_order_they_are_given(names, alone):
    """**Feature: grpc-microservices-support, Property 5: Interceptor Execution Order**"""
    notes = []
    interceptors = [Named(name, notes) for name in names]
    async with in_process(register, interceptors if alone else [Chain(interceptors)]) as channel:
        await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
    assert notes == [f"+{name}" for name in names] + [f"-{name}" for name in reversed(names)]


@pytest.mark.parametrize("alone", [True, False])
async def test_a_method_is_compiled_once(alone):
    named = Named("a", [])
    async with in_process(register, [named] if alone else [Chain([named])]) as channel:
        for _ in range(3):
            await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
    assert sorted(named.wrapped) == ["/meshwork.items.v1.ItemService/GetItem", "unknown"]


async def test_made_up_method_names_leave_nothing_behind():
    chains = [Chain([Named("a", [])]), Chain([Named("b", [])])]
    async with in_process(register, chains) as channel:
        for number in range(20):
            call = channel.unary_unary(f"/made.up/Name{number}")(b"")
            assert await call.code() is StatusCode.UNIMPLEMENTED
    assert sum(len(chain._compiled) for chain in chains) <= 1


async def test_only_those_who_ask_see_messages():
    notes = []
    chain = Chain([Reader(notes), MessageReader(notes), Reader(notes)])
    async with in_process(register, [chain]) as channel:
        await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
    assert notes == ["bytes", "GetItemRequest", "GetItemRequest"]


async def test_interceptors_given_one_by_one_share_one_codec():
    """However they are nested, those who ask see messages, and the others bytes."""
    notes = []
    interceptors = [Reader(notes), MessageReader(notes), Chain([Reader(notes)])]
    async with in_process(register, interceptors) as channel:
        assert (await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))).id == "1"
    assert notes == ["bytes", "GetItemRequest", "GetItemRequest"]


async def test_a_refused_call_is_not_parsed():
    async with in_process(register, [Chain([ErrorInterceptor(), Doorman(), MessageReader([])])]) as channel:
        call = channel.unary_unary("/meshwork.items.v1.ItemService/GetItem")(b"\xff\xff\xff")
        assert await call.code() is StatusCode.UNAUTHENTICATED


async def test_any_runtime_can_run_a_compiled_handler():
    handler = grpc.unary_unary_rpc_method_handler(
        Items().GetItem, pb.GetItemRequest.FromString, pb.Item.SerializeToString
    )
    method = Method.of("/meshwork.items.v1.ItemService/GetItem", handler)
    compiled = Chain([]).compile(handler, method)
    assert isinstance(compiled, CompiledHandler)
    assert compiled.request_deserializer is compiled.response_serializer is None
    assert method.policy is not None
    assert method.policy.timeout == 2


async def test_an_interceptor_inside_that_changes_the_handler_is_heeded():
    class Alternating(grpc.aio.ServerInterceptor):
        calls = 0

        async def intercept_service(self, continuation, details):
            Alternating.calls += 1
            name = f"call {Alternating.calls}"

            async def answer(request, context):
                return pb.Item(id=name)

            return grpc.unary_unary_rpc_method_handler(answer, pb.GetItemRequest.FromString, pb.Item.SerializeToString)

    async with in_process(register, [Chain([]), Alternating()]) as channel:
        stub = rpc.ItemServiceStub(channel)
        assert [(await stub.GetItem(pb.GetItemRequest())).id for _ in range(2)] == ["call 1", "call 2"]


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.text("abcé世 ", min_size=1, max_size=20), max_size=20))
async def test_streams_keep_their_order(ids):
    """**Feature: grpc-microservices-support, Property 11: Client Streaming Message Reception**"""
    async with in_process(register) as channel:
        call = rpc.ItemServiceStub(channel).SyncItems(pb.ItemSyncRequest(delete_id=each) for each in ids)
        assert [reply.id async for reply in call] == ids
