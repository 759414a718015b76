"""Callers that are there, answer pings and take nothing of what they are sent."""

import asyncio
import gc
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import wrappers_pb2
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common import unread
from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.server import GRPCServer
from limited_service import declare, short
from meshwork.policy.v1 import policy_pb2

SERVICE, STREAMS = "grpc_common.tests.unread.v1.UnaryService", "grpc_common.tests.unread.v2.StreamService"
PATIENCE = 20
WAVES = 5
MANY = 2 * 2**20
# A caller's window does not open, because it does not ask how fast the connection is, and reads nothing.
CLOSED = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]

declare(SERVICE, streams=False, Short=short(500), Plain=policy_pb2.Policy())
declare(STREAMS, Short=short(500), Long=policy_pb2.Policy())


async def much(request, context):
    return bytes(MANY)


async def written(requests, context):
    await context.write(bytes(MANY))


async def generated(requests, context):
    for _ in range(4):
        yield bytes(MANY)


async def gives_up_itself(requests, context):
    try:
        async with asyncio.timeout(0.3):
            await context.write(bytes(MANY))
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")


@asynccontextmanager
async def served(behavior, registry, method):
    """Serve `behavior` and give its path and a channel with a closed window."""
    kind = "unary_unary" if behavior is much else "stream_stream"
    service = SERVICE if behavior is much else STREAMS
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(behavior)
    server = GRPCServer("127.0.0.1", 0, [Chain(default_interceptors(registry=registry))])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    await server.start()
    async with grpc.aio.insecure_channel(server.target, CLOSED) as channel:
        yield server, channel, f"/{service}/{method}"
    await server.stop(0)


def begin(channel, path):
    return channel.unary_stream(path)(wrappers_pb2.Int32Value(value=1).SerializeToString())


async def lines(logs, event, count):
    async with asyncio.timeout(PATIENCE):
        while len(found := [line for line in logs if line["event"] == event]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize(("behavior", "method"), [(written, "Short"), (generated, "Short"), (gives_up_itself, "Long")])
async def test_it_is_ended_and_logged_as_late(behavior, method):
    registry = CollectorRegistry()
    with capture_logs() as logs:
        async with served(behavior, registry, method) as (_, channel, path):
            call = begin(channel, path)
            (line,) = await lines(logs, "call", 1)
            (warning,) = await lines(logs, "caller took no reply", 1)
            await asyncio.sleep(0)
            call.cancel()
    assert (line["method"], line["status"]) == (path, "DEADLINE_EXCEEDED")
    assert warning["method"] == path
    labels = {"grpc_type": "bidi_stream", "grpc_service": STREAMS, "grpc_method": method}
    assert registry.get_sample_value("grpc_server_handled_total", labels | {"grpc_code": "DeadlineExceeded"}) == 1


@pytest.mark.parametrize(("behavior", "method"), [(written, "Short"), (much, "Short")])
async def test_its_reply_is_let_go(behavior, method, monkeypatch):
    """And the server's end is not held up: nothing is left of the calls."""
    monkeypatch.setattr(unread, "TAKEN_WITHIN", 1.0)
    calls = 50
    with capture_logs() as logs:
        async with served(behavior, CollectorRegistry(), method) as (server, channel, path):
            waves = []
            for wave in range(WAVES):
                held = [begin(channel, path) for _ in range(calls)]
                await lines(logs, "caller took no reply", calls * (wave + 1))
                for call in held:
                    call.cancel()
                await asyncio.sleep(0.2)
                gc.collect()
                waves.append(memory())
            async with asyncio.timeout(PATIENCE / 2):
                await server.stop(10 * PATIENCE)
    # The first waves make room that the later ones use again; kept, the last two would take four times that.
    assert waves[-1] - waves[-3] < calls * MANY / 2**21


async def test_the_end_of_the_server_waits_a_little_for_it_and_no_more():
    with capture_logs() as logs:
        async with served(much, CollectorRegistry(), "Plain") as (server, channel, path):
            call = begin(channel, path)
            await lines(logs, "call", 1)
            async with asyncio.timeout(PATIENCE):
                await server.stop(10 * PATIENCE)
            assert not call.done() or await call.code() is not grpc.StatusCode.OK


@pytest.mark.parametrize("behavior", [generated, much])
async def test_one_that_reads_slowly_gets_it_all(behavior):
    with capture_logs() as logs:
        async with served(behavior, CollectorRegistry(), "Plain" if behavior is much else "Long") as (_, channel, path):
            call = begin(channel, path)
            await asyncio.sleep(2)
            replies = [reply async for reply in call]
    assert {len(reply) for reply in replies} == {MANY}
    assert not [line for line in logs if line["event"] == "caller took no reply"]


def memory():
    """Return how many MiB of this process are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
