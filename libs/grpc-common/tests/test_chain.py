"""The chain: order, compilation once per method, interceptors that see messages, and working alone."""

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
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

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


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


class Signing(Interceptor):
    """Adds its name to each request on the way in, and to each reply on the way out."""

    sees_messages = True

    def __init__(self, name):
        self.name = name

    def wrap(self, method, call_next):
        async def run(call, request):
            if method.request_streaming:
                request = self.each(request)
            else:
                request.value += self.name
            if method.response_streaming:
                call.context = SigningContext(call.context, self.name)
            reply = await call_next(call, request)
            if not method.response_streaming:
                reply.value += self.name
            return reply

        return run

    async def each(self, requests):
        async for request in requests:
            request.value += self.name
            yield request


class SigningContext:
    def __init__(self, context, name):
        self.context, self.name = context, name

    def __getattr__(self, attribute):
        return getattr(self.context, attribute)

    async def write(self, message):
        message.value += self.name
        await self.context.write(message)


class Echo:
    """A method of each kind that answers with what it was sent, and keeps it."""

    def __init__(self):
        self.received = []

    def heard(self, request):
        self.received.append(request.value)
        return StringValue(value=request.value + "|")

    async def unary_unary(self, request, context):
        return self.heard(request)

    async def unary_stream(self, request, context):
        yield self.heard(request)

    async def stream_unary(self, requests, context):
        return [self.heard(request) async for request in requests][-1]

    async def stream_stream(self, requests, context):
        async for request in requests:
            yield self.heard(request)

    def register(self, server):
        handlers = {
            kind: getattr(grpc, f"{kind}_rpc_method_handler")(
                getattr(self, kind), StringValue.FromString, StringValue.SerializeToString
            )
            for kind in KINDS
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))


async def echoed(channel, kind, text):
    method = getattr(channel, kind)(f"/test.Echo/{kind}", StringValue.SerializeToString, StringValue.FromString)
    call = method(iter([StringValue(value=text)]) if kind.startswith("stream") else StringValue(value=text))
    if kind.endswith("stream"):
        return [reply.value async for reply in call]
    return [(await call).value]


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=6),
    kind=st.sampled_from(KINDS),
    how=st.sampled_from(["one chain", "one by one", "two chains"]),
)
async def test_interceptors_run_in_the_order_they_are_given(names, kind, how):
    """Each is entered and left in its order, and receives what the one before it made, requests and replies alike.

    **Feature: grpc-microservices-support, Property 5: Interceptor Execution Order**
    **Feature: grpc-code-review, Property 2: Interceptor Chain Execution Order**
    """
    notes, echo = [], Echo()
    parts = [part for name in names for part in (Named(name, notes), Signing(name))]
    cut = len(parts) // 2
    interceptors = {
        "one chain": [Chain(parts)],
        "one by one": parts,
        "two chains": [Chain(parts[:cut]), Chain(parts[cut:])],
    }[how]
    async with in_process(echo.register, interceptors) as channel:
        replies = await echoed(channel, kind, ">")
    assert notes == [f"+{name}" for name in names] + [f"-{name}" for name in reversed(names)]
    assert echo.received == [">" + "".join(names)]
    assert replies == [">" + "".join(names) + "|" + "".join(reversed(names))]


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
    assert sum(len(chain._declared) + len(chain._undeclared) for chain in chains) <= 1


async def test_only_those_who_ask_see_messages():
    notes = []
    chain = Chain([Reader(notes), MessageReader(notes), Reader(notes)])
    async with in_process(register, [chain]) as channel:
        await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
    assert [note for note in notes if note == "GetItemRequest"] == notes[1:]
    assert len(notes) == 3


async def test_interceptors_given_one_by_one_share_one_codec():
    """However they are nested, those who ask see messages, and the others a request that nobody has read yet."""
    notes = []
    interceptors = [Reader(notes), MessageReader(notes), Chain([Reader(notes)])]
    async with in_process(register, interceptors) as channel:
        assert (await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))).id == "1"
    assert [note for note in notes if note == "GetItemRequest"] == notes[1:]
    assert len(notes) == 3


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


class Inner(Named):
    pass


class Other(Interceptor):
    def wrap(self, method, call_next):
        return call_next


def order(chain):
    return [getattr(each, "name", "other") for each in chain.interceptors]


CHAIN = Chain([Named("a", []), Other(), Named("b", [])])


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (lambda: CHAIN.before(Other, Named("x", []), Named("y", [])), ["a", "x", "y", "other", "b"]),
        (lambda: CHAIN.after(Other, Named("x", []), Named("y", [])), ["a", "other", "x", "y", "b"]),
        (lambda: CHAIN.replace(Other, Named("x", []), Named("y", [])), ["a", "x", "y", "b"]),
        (lambda: CHAIN.replace(Other), ["a", "b"]),
        (lambda: Chain([Inner("a", [])]).after(Named, Named("x", [])), ["a", "x"]),
        (lambda: CHAIN.replace(Other).before(Other), LookupError),
        (lambda: CHAIN.before(Named), LookupError),
        (lambda: CHAIN.replace(Inner), LookupError),
    ],
)
def test_a_chain_is_changed_by_type(changed, names):
    if names is LookupError:
        with pytest.raises(LookupError, match=r"the chain has [02] of (Other|Named|Inner), which must be there once"):
            changed()
    else:
        assert order(changed()) == names
    assert order(CHAIN) == ["a", "other", "b"]


async def test_what_is_changed_runs_in_its_new_order():
    notes = []
    chain = Chain([Inner("a", notes), Other()]).replace(Other, Named("x", notes)).before(Inner, Named("0", notes))
    async with in_process(register, [chain]) as channel:
        await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
    assert notes == ["+0", "+a", "+x", "-x", "-a", "-0"]
