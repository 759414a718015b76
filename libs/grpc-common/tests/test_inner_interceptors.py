"""Interceptors of another make inside of a chain that fail, or answer in the place of a handler."""

import grpc
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.testing import in_process
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

PATIENCE = 20
SECRET = "password=hunter2"


class Raises(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation, details):
        raise RuntimeError(SECRET)


class Wrong(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation, details):
        return SECRET


class Refuses(grpc.aio.ServerInterceptor):
    """As many do: whatever the method's kind is, by a handler of one request and one reply."""

    async def intercept_service(self, continuation, details):
        async def abort(request, context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

        return grpc.unary_unary_rpc_method_handler(abort)


@pytest.mark.parametrize(
    ("interceptor", "status"), [(Raises, "INTERNAL"), (Wrong, "INTERNAL"), (Refuses, "UNAUTHENTICATED")]
)
@pytest.mark.parametrize("chains", [1, 2])
@pytest.mark.parametrize("name", ["GetItem", "ListItems", "SyncItems", "CreateItem", "NoSuchMethod"])
async def test_the_call_ends_for_all_who_observe_it(interceptor, status, chains, name):
    def register(server):
        rpc.add_ItemServiceServicer_to_server(rpc.ItemServiceServicer(), server)

    registry = CollectorRegistry()
    parts = default_interceptors(registry=registry)
    stack = [Chain(parts)] if chains == 1 else [Chain(parts[:4]), Chain(parts[4:])]
    path = f"/{pb.DESCRIPTOR.services_by_name['ItemService'].full_name}/{name}"
    with capture_logs() as logs:
        async with in_process(register, [*stack, interceptor()]) as channel:
            for _ in range(3):
                call = channel.unary_unary(path)(b"", timeout=PATIENCE)
                assert (await call.code()).name == status
                assert SECRET not in await call.details()

    lines = [line for line in logs if line["event"] == "call"]
    assert [(line["method"], line["status"]) for line in lines] == [(path, status)] * 3
    handled = [sample for metric in registry.collect() for sample in metric.samples if "handled" in sample.name]
    codes = {sample.labels["grpc_code"].upper(): sample.value for sample in handled if sample.value}
    assert codes == {status: 3}
