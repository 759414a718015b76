"""Metadata of a size that is allowed arrives, always, and a size that is not is refused, always."""

import asyncio

import grpc
import pytest
from grpc import StatusCode

from grpc_common.chain import Chain
from grpc_common.client.factory import GRPCClientFactory
from grpc_common.default_chain import default_interceptors
from grpc_common.jwks import StaticJWKS
from grpc_common.metadata_size import MAX_BAGGAGE, MAX_METADATA, MAX_TOKEN
from grpc_common.server import GRPCServer
from grpc_common.testing import bearer, in_process
from grpc_common.token_maker import TokenMaker
from grpc_common.token_verifier import Issuer, TokenVerifier
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

MAKER = TokenMaker()
CALLS = 100


def longest_token():
    """A good token with as many characters as one may have, or one less: base64 has no text of every length."""
    padding = MAX_TOKEN * 3 // 4
    while len(token := MAKER.sign(MAKER.header(), MAKER.claims("alice") | {"padding": "x" * padding})) > MAX_TOKEN:
        padding -= 1
    assert len(token) >= MAX_TOKEN - 1
    return token


class Items(rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        if request.id:
            context.set_trailing_metadata((("size", "x" * int(request.id)),))
        return pb.Item(id=str(len(dict(context.invocation_metadata()).get("baggage", ""))))


def register(server):
    rpc.add_ItemServiceServicer_to_server(Items(), server)


@pytest.fixture
async def server():
    trusted = Issuer(MAKER.issuer, MAKER.audience, StaticJWKS(MAKER.jwks()))
    chain = Chain(default_interceptors(jwt_service=TokenVerifier([trusted])))
    server = GRPCServer("127.0.0.1", 0, chain)
    register(server)
    await server.start()
    yield server
    await server.stop(0)


@pytest.fixture(params=["a plain channel", "our own", "in process"])
async def stub(request, server):
    if request.param == "in process":
        async with in_process(register, issuer=MAKER) as channel:
            yield rpc.ItemServiceStub(channel)
    elif request.param == "our own":
        async with GRPCClientFactory() as factory:
            yield factory.create_stub(rpc.ItemServiceStub, server.target, secure=False)
    else:
        async with grpc.aio.insecure_channel(server.target) as channel:
            yield rpc.ItemServiceStub(channel)


async def codes(stub, metadata):
    calls = [stub.GetItem(pb.GetItemRequest(id="1"), metadata=metadata, timeout=30) for _ in range(CALLS)]
    return {await call.code() for call in calls}


async def test_the_longest_token_always_arrives(stub):
    assert await codes(stub, bearer(longest_token())) == {StatusCode.OK}


async def test_and_the_longest_baggage_beside_it(stub):
    metadata = (*bearer(longest_token()), ("baggage", "x" * MAX_BAGGAGE), ("tracestate", "x" * 512))
    assert await codes(stub, metadata) == {StatusCode.OK}


async def test_too_much_is_always_refused(server):
    async with grpc.aio.insecure_channel(server.target) as channel:
        metadata = (*bearer(longest_token()), ("much", "x" * (MAX_METADATA - MAX_TOKEN)))
        assert await codes(rpc.ItemServiceStub(channel), metadata) == {StatusCode.RESOURCE_EXHAUSTED}


@pytest.mark.parametrize("size", [9_000, 15_000])
async def test_our_own_clients_take_what_other_servers_send(size):
    """A server that is not ours may send more than a client takes unless it is told otherwise."""
    foreign = grpc.aio.server()
    register(foreign)
    port = foreign.add_insecure_port("127.0.0.1:0")
    await foreign.start()
    async with GRPCClientFactory() as factory:
        items = factory.create_stub(rpc.ItemServiceStub, f"127.0.0.1:{port}", secure=False)
        calls = [items.GetItem(pb.GetItemRequest(id=str(size)), timeout=30) for _ in range(CALLS)]
        await asyncio.gather(*calls)
        assert {len(dict(await call.trailing_metadata())["size"]) for call in calls} == {size}
    await foreign.stop(0)
