"""The kit for tests: a server that asks for tokens, and one where calls go wrong."""

import time
from random import Random

import grpc
import pytest
import structlog
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.chain import Chain
from grpc_common.errors import NotFoundError
from grpc_common.fault import DETAILS, Fault, FaultInterceptor
from grpc_common.fixed_clock import FixedClock
from grpc_common.principal import current_principal
from grpc_common.testing import bearer, in_process
from grpc_common.token_maker import TokenMaker
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

GET, LIST = "/meshwork.items.v1.ItemService/GetItem", "/meshwork.items.v1.ItemService/ListItems"


class Items(rpc.ItemServiceServicer):
    def __init__(self):
        self.entered = self.left = 0

    async def GetItem(self, request, context):
        self.entered += 1
        principal = current_principal()
        return pb.Item(id=request.id, name=principal.subject if principal else "")

    async def DeleteItem(self, request, context):
        raise NotFoundError("no such item")

    async def ListItems(self, request, context):
        self.entered += 1
        try:
            for number in range(5):
                yield pb.Item(id=str(number))
        finally:
            self.left += 1

    def register(self, server):
        rpc.add_ItemServiceServicer_to_server(self, server)


@pytest.fixture
def items():
    return Items()


def get(channel, metadata=None):
    return rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="7"), metadata=metadata)


async def read(channel):
    """Return how many items came, and how the stream ended."""
    call, count = rpc.ItemServiceStub(channel).ListItems(pb.ListItemsRequest()), 0
    try:
        async for _ in call:
            count += 1
    except grpc.aio.AioRpcError as error:
        assert error.details() == DETAILS
    return count, await call.code()


async def test_without_an_issuer_anybody_may_call(items):
    async with in_process(items.register) as channel:
        assert (await get(channel)).name == ""


async def test_an_issuer_whose_tokens_are_asked_for(items):
    clock = FixedClock()
    issuer = TokenMaker(clock=clock)
    async with in_process(items.register, issuer=issuer) as channel:
        assert await get(channel).code() is StatusCode.UNAUTHENTICATED
        assert await get(channel, bearer(TokenMaker().token("mallory"))).code() is StatusCode.UNAUTHENTICATED
        alice = bearer(issuer.token("alice", lifetime=60))
        assert (await get(channel, alice)).name == "alice"
        delete = rpc.ItemServiceStub(channel).DeleteItem
        assert await delete(pb.DeleteItemRequest(id="7"), metadata=alice).code() is StatusCode.PERMISSION_DENIED
        editor = bearer(issuer.token("bob", roles=["editor"]))
        assert await delete(pb.DeleteItemRequest(id="7"), metadata=editor).code() is StatusCode.NOT_FOUND
        clock.advance(600)
        assert await get(channel, alice).code() is StatusCode.UNAUTHENTICATED


async def test_an_issuer_does_not_go_with_other_interceptors(items):
    with pytest.raises(ValueError, match="belong to the default chain"):
        async with in_process(items.register, [], issuer=TokenMaker()):
            pass


@pytest.mark.parametrize("status", [code for code in StatusCode if code is not StatusCode.OK])
async def test_a_status_in_place_of_the_handler(items, status):
    faults = FaultInterceptor([Fault(status=status, methods=frozenset({GET}))])
    async with in_process(items.register, inside=[faults]) as channel:
        call = get(channel)
        assert (await call.code(), await call.details()) == (status, DETAILS)
        assert items.entered == 0
        assert await read(channel) == (5, StatusCode.OK)


async def test_latency(items):
    async with in_process(items.register, inside=[FaultInterceptor([Fault(latency=0.2)])]) as channel:
        started = time.monotonic()
        await get(channel)
        assert time.monotonic() - started >= 0.2
    async with in_process(items.register, inside=[FaultInterceptor([Fault(latency=30)])]) as channel:
        late = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="7"), timeout=0.1)
        assert await late.code() is StatusCode.DEADLINE_EXCEEDED
    assert items.entered == 1


@pytest.mark.parametrize("sent", range(7))
async def test_a_stream_that_is_cut(items, sent):
    async with in_process(items.register, inside=[FaultInterceptor([Fault(cut_after=sent)])]) as channel:
        expected = (sent, StatusCode.UNAVAILABLE) if sent < 5 else (5, StatusCode.OK)
        assert await read(channel) == expected
        assert await get(channel).code() is StatusCode.OK
    assert items.left == 1


async def test_alone_on_a_plain_server_and_with_a_status_of_its_own(items):
    faults = FaultInterceptor([Fault(cut_after=2, status=StatusCode.DATA_LOSS)])
    for interceptors in ([faults], [Chain([faults])]):
        async with in_process(items.register, interceptors) as channel:
            assert await read(channel) == (2, StatusCode.DATA_LOSS)


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_same_seed_draws_the_same_calls(items, seed):
    async def drawn():
        faults = FaultInterceptor([Fault(status=StatusCode.ABORTED, probability=0.3)], Random(seed))  # noqa: S311
        async with in_process(items.register, inside=[faults]) as channel:
            return [await get(channel).code() for _ in range(100)]

    first = await drawn()
    assert first == await drawn()
    assert 15 < first.count(StatusCode.ABORTED) < 45


@settings(max_examples=100)
@given(st.floats(max_value=-0.01) | st.floats(min_value=1.01) | st.just(float("nan")))
def test_what_is_no_probability(probability):
    with pytest.raises(ValueError, match="a probability is 0 to 1"):
        Fault(probability=probability)


@pytest.mark.parametrize("wrong", [{"latency": -1}, {"cut_after": -1}, {"status": StatusCode.OK}])
def test_what_is_no_fault(wrong):
    with pytest.raises(ValueError, match=r"negative|no fault"):
        Fault(**wrong)


async def test_an_error_is_printed_as_python_prints_it(capsys):
    """And not with all variables of all frames, as structlog does by itself where rich is installed."""

    def loud(out, failure):
        out.write("a line\n" * 1000)

    class Broken(rpc.ItemServiceServicer):
        async def GetItem(self, request, context):
            raise RuntimeError("broken")

    configured = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    structlog.get_config()["processors"][-1] = structlog.dev.ConsoleRenderer(exception_formatter=loud)
    try:
        async with in_process(lambda server: rpc.add_ItemServiceServicer_to_server(Broken(), server)) as channel:
            call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
            assert await call.code() is StatusCode.INTERNAL
        printed = capsys.readouterr().out
    finally:
        structlog.reset_defaults()
        if configured is not None:
            structlog.configure(**configured)
    assert "RuntimeError: broken" in printed
    assert "in GetItem" in printed
    assert len(printed.splitlines()) < 100
