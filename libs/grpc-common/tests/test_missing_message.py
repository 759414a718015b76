"""A call whose one request never comes is a call like any other: limited, ended in time, logged and counted."""

import asyncio

import grpc
import pytest
from google.protobuf import wrappers_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common import codec
from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.health.servicer import HealthServicer
from grpc_common.interceptors.concurrency import ConcurrencyLimitInterceptor
from grpc_common.testing import in_process
from limited_service import declare, short
from meshwork.policy.v1 import policy_pb2

SERVICE = "grpc_common.tests.missing.v1.UnaryService"
PATIENCE = 20

declare(SERVICE, streams=False, Short=short(300), Long=policy_pb2.Policy())


class Service:
    """Notes what gets to its handlers."""

    def __init__(self):
        self.entered = 0

    async def one(self, request, context):
        self.entered += 1
        return request

    async def many(self, request, context):
        self.entered += 1
        yield request

    def register(self, server):
        codecs = wrappers_pb2.Int32Value.FromString, wrappers_pb2.Int32Value.SerializeToString
        one = grpc.unary_unary_rpc_method_handler(self.one, *codecs)
        many = grpc.unary_stream_rpc_method_handler(self.many, *codecs)
        table = {"Short": one, "Long": one}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, table),))
        undeclared = {"One": one, "Many": many}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("no.Policy", undeclared),))


def begin(channel, path, **options):
    """Start a call and send nothing, not even the end."""
    return channel.stream_stream(path)(**options)


async def line_of(logs, path, count=1):
    async with asyncio.timeout(PATIENCE):
        while True:
            lines = [line for line in logs if line["event"] == "call" and line["method"] == path]
            if len(lines) >= count:
                return lines
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("alone", [True, False])
async def test_it_ends_at_the_deadline_of_the_policy(alone):
    registry, service, path = CollectorRegistry(), Service(), f"/{SERVICE}/Short"
    parts = default_interceptors(registry=registry)
    with capture_logs() as logs:
        async with in_process(service.register, parts if alone else [Chain(parts)]) as channel:
            call = begin(channel, path)
            async with asyncio.timeout(PATIENCE):
                assert await call.code() is StatusCode.DEADLINE_EXCEEDED
            (line,) = await line_of(logs, path)
    assert (line["status"], line["kind"]) == ("DEADLINE_EXCEEDED", "unary_unary")
    labels = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "Short"}
    handled = registry.get_sample_value("grpc_server_handled_total", {**labels, "grpc_code": "DeadlineExceeded"})
    assert (handled, service.entered) == (1, 0)


@pytest.mark.parametrize("path", ["/no.Policy/One", "/no.Policy/Many", "/grpc.health.v1.Health/Check"])
async def test_without_a_policy_it_ends_too(path, monkeypatch):
    monkeypatch.setattr(codec, "MESSAGE_COMES_WITHIN", 0.3)
    service = Service()

    def register(server):
        service.register(server)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)

    with capture_logs() as logs:
        async with in_process(register) as channel:
            async with asyncio.timeout(PATIENCE):
                assert await begin(channel, path).code() is StatusCode.DEADLINE_EXCEEDED
            (line,) = await line_of(logs, path)
    assert line["status"] == "DEADLINE_EXCEEDED"
    assert not service.entered


@pytest.mark.parametrize("path", [f"/{SERVICE}/Long", "/no.Policy/One", "/no.Policy/Many"])
async def test_a_caller_that_finishes_without_one_is_told_so(path):
    """As gRPC's document of status codes has it, "request cardinality violation"."""
    service = Service()
    with capture_logs() as logs:
        async with in_process(service.register) as channel:
            call = begin(channel, path, timeout=PATIENCE)
            await call.done_writing()
            assert await call.code() is StatusCode.UNIMPLEMENTED
            assert "none came" in await call.details()
            (line,) = await line_of(logs, path)
    assert line["status"] == "UNIMPLEMENTED"
    assert not service.entered


async def test_it_takes_a_place_of_the_limit():
    service, limit = Service(), 3
    parts = default_interceptors(max_concurrent_rpcs=limit, registry=CollectorRegistry())
    limiter = next(part for part in parts if isinstance(part, ConcurrencyLimitInterceptor))
    async with in_process(service.register, [Chain(parts)]) as channel:
        calls = [begin(channel, f"/{SERVICE}/Long") for _ in range(limit + 4)]
        async with asyncio.timeout(PATIENCE):
            while sum(call.done() for call in calls) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert {await call.code() for call in calls if call.done()} == {StatusCode.RESOURCE_EXHAUSTED}
        assert limiter.running == limit
        for call in calls:
            call.cancel()
        async with asyncio.timeout(PATIENCE):
            while limiter.running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_caller_that_leaves_is_not_told_of_a_missing_request():
    service, path = Service(), f"/{SERVICE}/Long"
    with capture_logs() as logs:
        async with in_process(service.register) as channel:
            for number in range(40):
                call = begin(channel, path)
                await call.wait_for_connection()
                await asyncio.sleep(number % 4 / 1000)
                call.cancel()
            lines = await line_of(logs, path, 30)  # core may not have begun the others
    assert {line["status"] for line in lines} == {"CANCELLED"}
    assert not service.entered
