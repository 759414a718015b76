"""The access log and the correlation id."""

import re

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from grpc_common.chain import Chain
from grpc_common.correlation import correlation_id
from grpc_common.health.servicer import HealthServicer
from grpc_common.interceptors.auth import AuthInterceptor
from grpc_common.interceptors.deadline import DeadlineInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.logging import LoggingInterceptor
from grpc_common.jwt_service import JWTService
from grpc_common.principal import Principal
from grpc_common.testing import in_process
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc


class Items(rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        return pb.Item(id=correlation_id())

    async def ListItems(self, request, context):
        for number in range(request.page_size):
            yield pb.Item(id=str(number))

    async def BatchCreateItems(self, request_iterator, context):
        return pb.BatchCreateResponse(created_count=len([None async for _ in request_iterator]))


def register(server):
    rpc.add_ItemServiceServicer_to_server(Items(), server)


async def get(channel, metadata=()):
    call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="a-secret-id"), metadata=metadata)
    return (await call).id, dict(await call.trailing_metadata())["x-correlation-id"]


async def test_one_line_says_who_called_what_and_nothing_of_the_content():
    with capture_logs() as logs:
        async with in_process(register) as channel:
            await get(channel, (("authorization", "Bearer a-secret-token"),))
    (line,) = logs
    assert line["method"] == "/meshwork.items.v1.ItemService/GetItem"
    assert (line["kind"], line["status"], line["log_level"]) == ("unary_unary", "OK", "info")
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert 0 <= line["duration_ms"] < 5000
    assert "a-secret" not in str(line)


@pytest.mark.parametrize("alone", [True, False])
async def test_streams_are_counted(alone):
    with capture_logs() as logs:
        async with in_process(register, [LoggingInterceptor()] if alone else None) as channel:
            stub = rpc.ItemServiceStub(channel)
            assert len([item async for item in stub.ListItems(pb.ListItemsRequest(page_size=7))]) == 7
            assert (
                await stub.BatchCreateItems(pb.CreateItemRequest(name="x", sku="x") for _ in range(5))
            ).created_count == 5
    assert [line.get("sent") for line in logs] == [7, None]
    assert [line.get("received") for line in logs] == [None, 5]


@pytest.mark.parametrize("key", ["x-correlation-id", "x-request-id"])
async def test_a_sane_correlation_id_is_kept(key):
    with capture_logs() as logs:
        async with in_process(register) as channel:
            assert await get(channel, ((key, "order-17"),)) == ("order-17", "order-17")
    assert logs[0]["correlation_id"] == "order-17"


@settings(max_examples=100, deadline=None)
@given(offered=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300))
async def test_any_other_is_replaced(offered):
    async with in_process(register) as channel:
        inside, outside = await get(channel, (("x-correlation-id", offered),))
    assert inside == outside
    assert re.fullmatch(r"[A-Za-z0-9._:/+=@-]{1,128}", inside)
    assert inside == offered.strip() or re.fullmatch(r"[0-9a-f]{32}", inside)


async def test_a_binary_or_empty_offer_is_no_offer():
    async with in_process(register) as channel:
        for metadata in ((("x-correlation-id", ""),), (("x-correlation-id-bin", b"x"),), ()):
            inside, _ = await get(channel, metadata)
            assert re.fullmatch(r"[0-9a-f]{32}", inside)


async def test_the_line_shows_the_budget_and_who_called():
    class Known(JWTService):
        def cached(self, token):
            return Principal(subject="alice", issuer="test", expires_at=float("inf"))

    chain = Chain([LoggingInterceptor(), ErrorInterceptor(), DeadlineInterceptor(), AuthInterceptor(Known())])
    with capture_logs() as logs:
        async with in_process(register, [chain]) as channel:
            alice = (("authorization", "Bearer alice"),)
            await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"), timeout=1.8, metadata=alice)
    (line,) = logs
    assert line["principal"] == "alice"
    # Core rounds up what it tells the server, and a busy machine takes its time.
    assert 0 < line["left_ms"] < line["budget_ms"] < 1_900  # the policy gives 2000


async def test_health_checks_that_go_well_are_worth_a_debug_line_only():
    health = HealthServicer()
    chain = Chain([LoggingInterceptor(), ErrorInterceptor()])
    with capture_logs() as logs:
        async with in_process(lambda s: health_pb2_grpc.add_HealthServicer_to_server(health, s), [chain]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest())
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert [(line["status"], line["log_level"]) for line in logs if line["event"] == "call"] == [
        ("OK", "debug"),
        ("NOT_FOUND", "info"),
    ]
