"""GRPCServer: where it listens and where not, and how it stops."""

import asyncio
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from grpc_common.chain import Chain, Interceptor
from grpc_common.interceptors.concurrency import ConcurrencyLimitInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.listener import ListenError
from grpc_common.policy import policies_of
from grpc_common.server import GRPCServer
from grpc_common.settings import SettingsError
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

ITEMS = "meshwork.items.v1.ItemService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Items(rpc.ItemServiceServicer):
    def __init__(self):
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cut = False

    async def GetItem(self, request, context):
        self.entered.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cut = True
            raise
        return pb.Item(id=request.id)


@pytest.fixture
def items():
    return Items()


@pytest.fixture
def serve(items):
    """Make a server of the items on loopback."""

    def serve(**how):
        server = GRPCServer(**({"host": "127.0.0.1", "port": 0} | how))
        server.add_servicer(items, rpc.add_ItemServiceServicer_to_server)
        return server

    return serve


@pytest.fixture
def folder():
    """A folder with a short name, as Unix sockets need it."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


async def health(channel, service=ITEMS):
    request = health_pb2.HealthCheckRequest(service=service)
    return (await health_pb2_grpc.HealthStub(channel).Check(request)).status


async def test_it_serves_health_and_reflection(serve):
    server = serve()
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        assert [await health(channel, name) for name in ("", ITEMS)] == [SERVING, SERVING]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel, "no.such.Service")
        assert caught.value.code() is StatusCode.NOT_FOUND
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=ITEMS),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{ITEMS}.GetItem"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{ITEMS}.NoSuchMethod"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Service"),
        ]
        v1 = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed, file, method, *unknown = replies = [reply async for reply in stub.ServerReflectionInfo(iter(asked))]
        assert [reply async for reply in v1(iter(asked))] == replies
        assert ITEMS in [service.name for service in listed.list_services_response.service]
        assert method.file_descriptor_response == file.file_descriptor_response
        assert [reply.error_response.error_code for reply in unknown] == [StatusCode.NOT_FOUND.value[0]] * 2
        found = descriptor_pb2.FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
        assert found.package == "meshwork.items.v1"
    await server.stop(0)


async def test_health_and_reflection_can_be_left_out(serve):
    server = serve(health_check_enabled=False, reflection_enabled=False)
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel)
        assert caught.value.code() is StatusCode.UNIMPLEMENTED
    await server.stop(0)


async def test_a_taken_port(serve):
    first = serve()
    await first.start()
    with pytest.raises(ListenError, match=rf"port {first.port} on 127\.0\.0\.1 is taken"):
        await serve(port=first.port).start()
    await first.stop(0)
    again = serve(port=first.port)
    await again.start()
    await again.stop(0)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_a_host_that_is_not_ours(serve, host):
    with pytest.raises(ListenError, match="not an address of this machine"):
        await serve(host=host, plaintext="behind-mesh").start()


async def test_listening_in_the_open_must_be_meant(serve):
    with pytest.raises(SettingsError, match="behind-mesh"):
        await serve(host="0.0.0.0").start()  # noqa: S104
    server = serve(host="0.0.0.0", plaintext="behind-mesh")  # noqa: S104
    await server.start()
    await server.stop(0)


async def test_a_unix_socket_is_for_its_user_only(serve, folder):
    path = folder / "private" / "items.sock"
    server = serve(unix_socket=path)
    await server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    async with grpc.aio.insecure_channel(server.target) as channel:
        assert await health(channel) == SERVING
    await server.stop(0)
    assert not path.exists()


async def test_the_socket_of_a_dead_process_is_replaced(serve, folder):
    path = folder / "items.sock"
    bind = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()"
    subprocess.run([sys.executable, "-c", bind, path], check=True)  # noqa: ASYNC221, S603
    assert path.is_socket()
    server = serve(unix_socket=path)
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        assert await health(channel) == SERVING
    await server.stop(0)


async def test_the_socket_of_a_living_process_is_left_alone(serve, folder):
    path = folder / "items.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ListenError, match="in use by another process"):
            await serve(unix_socket=path).start()
        assert path.is_socket()


async def test_a_file_is_no_socket(serve, folder):
    path = folder / "items.sock"
    path.write_text("precious")
    with pytest.raises(ListenError, match="is not a socket"):
        await serve(unix_socket=path).start()
    assert path.read_text() == "precious"


async def test_a_path_too_long_for_a_socket(serve, folder):
    with pytest.raises(ListenError, match="107 bytes"):
        await serve(unix_socket=folder / ("x" * 120)).start()


async def test_stopping_finishes_the_calls_there_are(serve, items):
    server = serve(lame_duck_seconds=5, interceptors=[])  # none of which ends the call before
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        entered = asyncio.ensure_future(rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1")))
        await items.entered.wait()
        stopping = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0)  # it begins
        assert await health(channel) == NOT_SERVING  # the lame duck still answers
        await asyncio.sleep(5.5)
        late = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="2"), timeout=20)
        assert await late.code() in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
        assert not stopping.done()
        items.go_on.set()
        assert (await entered).id == "1"
        await asyncio.wait_for(stopping, 20)


async def test_stopping_cuts_calls_that_take_too_long(serve, items):
    server = serve()
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
        waiting = asyncio.ensure_future(call.code())
        await items.entered.wait()
        with capture_logs() as logs:
            await asyncio.wait_for(server.stop(0.1), 20)
            assert await waiting in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
    assert items.cut
    assert [line["status"] for line in logs if line["event"] == "call"] == ["CANCELLED"]


async def test_an_open_watch_does_not_hold_up_the_stop(serve):
    server = serve()
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=ITEMS))
        assert (await watch.read()).status == SERVING
        stopping = asyncio.ensure_future(server.stop(30))
        async with asyncio.timeout(20):
            assert (await watch.read()).status == NOT_SERVING
            assert await watch.code() is StatusCode.UNAVAILABLE
            await stopping


async def test_what_comes_after_the_start_is_refused_and_not_left_out(serve):
    server = serve()
    await server.start()
    with pytest.raises(RuntimeError, match="register all services before"):
        server.add_servicer(Items(), rpc.add_ItemServiceServicer_to_server)
    with pytest.raises(RuntimeError, match="register all services before"):
        server.add_registered_method_handlers("some.Service", {})
    await asyncio.wait_for(server.stop(0), 20)


async def test_a_callback_that_fails_does_not_hold_up_the_stop(serve):
    server, called = serve(), []
    server.on_drain(lambda: called[0])  # an IndexError
    server.on_drain(lambda: called.append("second"))
    await server.start()
    with capture_logs() as logs:
        await asyncio.wait_for(server.stop(0), 20)
    assert called == ["second"]
    assert [line["log_level"] for line in logs if line["event"] == "drain callback failed"] == ["error"]


async def test_it_starts_once(serve):
    server = serve()
    await server.start()
    target = server.target
    with pytest.raises(RuntimeError, match="started already"):
        await server.start()
    async with grpc.aio.insecure_channel(target) as channel:
        assert await health(channel) == SERVING
        await asyncio.wait_for(server.stop(0), 20)
        with pytest.raises(grpc.aio.AioRpcError):
            await health(channel)
    with pytest.raises(RuntimeError, match="make another one"):
        await server.start()


async def test_it_starts_when_the_port_is_free_again(serve):
    first = serve()
    await first.start()
    second = serve(port=first.port)
    with pytest.raises(ListenError):
        await second.start()
    await second.stop(0)
    await first.stop(0)
    await second.start()
    async with grpc.aio.insecure_channel(second.target) as channel:
        assert await health(channel) == SERVING
    await second.stop(0)


@pytest.mark.parametrize("graces", [(60, 0), (0, 60), (60, 60, 0)])
@pytest.mark.parametrize("lame_duck", [0, 60])
async def test_it_may_be_stopped_by_several_at_once(serve, items, graces, lame_duck):
    """All wait for the end, which comes after the shortest time."""
    server = serve(lame_duck_seconds=lame_duck, interceptors=[])
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
        waiting = asyncio.ensure_future(call.code())
        await items.entered.wait()
        async with asyncio.timeout(20), asyncio.TaskGroup() as stops:
            for grace in graces:
                stops.create_task(server.stop(grace))
        assert await waiting in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
    assert items.cut
    await server.stop(0)


async def test_one_who_no_longer_waits_does_not_keep_it_from_stopping(serve, items):
    server = serve()
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"))
        waiting = asyncio.ensure_future(call.code())
        await items.entered.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.stop(60), 0.1)
        async with asyncio.timeout(20):
            await server.stop(0)
            assert await waiting in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}


@pytest.mark.parametrize("half_closed", [True, False])
async def test_calls_without_a_request_do_not_hold_up_the_stop(serve, half_closed):
    server = serve()
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        calls = [
            channel.stream_unary(f"/{service}")()
            for service in (f"{ITEMS}/GetItem", "grpc.health.v1.Health/Check")
            for _ in range(20)
        ]
        for call in calls:
            await call.wait_for_connection()
            if half_closed:
                await call.done_writing()
        await health(channel)
        with capture_logs() as logs:
            async with asyncio.timeout(20):
                await server.stop(120)
                codes = {await call.code() for call in calls}
        if half_closed:
            assert codes == {StatusCode.UNIMPLEMENTED}
        else:
            assert codes <= {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
            assert "UNAVAILABLE" in {line["status"] for line in logs if line["event"] == "call"}


async def test_a_silent_connection_does_not_hold_up_the_stop(serve):
    server = serve()
    await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))  # and empty settings
    await writer.drain()
    await asyncio.sleep(0.5)
    async with asyncio.timeout(20):
        await server.stop(120)
    writer.close()


async def test_a_connection_has_no_more_calls_than_make_sense(serve, items):
    """And those beyond the limit are refused at once, while health checks get through."""
    server = serve(max_concurrent_rpcs=3)
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        calls = [channel.stream_unary(f"/{ITEMS}/GetItem")() for _ in range(300)]
        async with asyncio.timeout(20):
            while sum(call.done() for call in calls) < 297:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert await health(channel) == SERVING
        await server.stop(0)


class Peers(Interceptor):
    def __init__(self, seen):
        self.seen = seen

    def wrap(self, method, call_next):
        async def run(call, request):
            self.seen.add(call.context.peer())
            return await call_next(call, request)

        return run


async def test_clients_connect_anew_after_a_while():
    seen = set()
    server = GRPCServer("127.0.0.1", 0, [Peers(seen)], max_connection_age_seconds=1)
    await server.start()
    end = asyncio.get_running_loop().time() + 4
    async with grpc.aio.insecure_channel(server.target) as channel:
        while asyncio.get_running_loop().time() < end:
            request = health_pb2.HealthCheckRequest()
            assert (await health_pb2_grpc.HealthStub(channel).Check(request, wait_for_ready=True)).status == SERVING
            await asyncio.sleep(0.05)
    await server.stop(0)
    assert len(seen) >= 2


@pytest.mark.parametrize(
    ("how", "age"),
    [
        ({}, 1_800_000),
        ({"plaintext": "behind-mesh"}, None),
        ({"unix_socket": Path("x.sock")}, None),
        ({"plaintext": "behind-mesh", "max_connection_age_seconds": 60}, 60_000),
        ({"max_connection_age_seconds": 60}, 60_000),
    ],
)
def test_connections_age_where_clients_connect_directly(serve, how, age):
    """And no call that keeps to its policy is cut."""
    options = dict(serve(**how)._aging())
    assert options.get("grpc.max_connection_age_ms") == age
    longest = max(policy.timeout for policy in policies_of(ITEMS))
    assert options.get("grpc.max_connection_age_grace_ms", longest * 1000) >= longest * 1000


async def test_waiting_for_the_end_may_be_given_up(serve):
    server = serve()
    await server.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.wait_for_termination(), 0.05)
    await server.stop(0)
    await asyncio.wait_for(server.wait_for_termination(), 20)


class Witness(grpc.aio.ServerInterceptor):
    """Somebody else's interceptor: it notes how each call ends, and what it raises."""

    def __init__(self):
        self.seen = []

    async def intercept_service(self, continuation, details):
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def answer(request, context):
            try:
                return await handler.unary_unary(request, context)
            except BaseException as error:
                self.seen.append((type(error).__name__, context.code()))
                raise

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


@pytest.mark.parametrize("one", [lambda witness: [witness], lambda witness: [witness, Chain([])]])
async def test_nothing_stands_before_interceptors_of_ones_own_and_the_limit_holds(serve, items, one):
    witness = Witness()
    server = serve(max_concurrent_rpcs=2, interceptors=one(witness))
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = rpc.ItemServiceStub(channel)
        calls = [stub.GetItem(pb.GetItemRequest(id=str(number))) for number in range(5)]
        refused = [call for call in calls if await asyncio.wait_for(settled(call, 3, calls), 20)]
        assert witness.seen == [("AbortError", StatusCode.RESOURCE_EXHAUSTED)] * 3
        assert {await call.code() for call in refused} == {StatusCode.RESOURCE_EXHAUSTED}
        assert {await call.details() for call in refused} == {"the server is at its limit of concurrent calls"}
        assert await health(channel) == SERVING
        items.go_on.set()
        await asyncio.gather(*(call for call in calls if call not in refused))
    await server.stop(0)


async def settled(call, many, calls):
    """Say whether `call` has ended, once `many` of `calls` have."""
    while sum(each.done() for each in calls) < many:
        await asyncio.wait(
            [asyncio.ensure_future(each.code()) for each in calls if not each.done()], return_when="FIRST_COMPLETED"
        )
    return call.done()


async def test_a_limit_of_ones_own_counts_and_is_the_only_one(serve, items):
    chain = Chain([ErrorInterceptor(), ConcurrencyLimitInterceptor(1)])
    server = serve(max_concurrent_rpcs=50, interceptors=chain)
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = rpc.ItemServiceStub(channel)
        calls = [stub.GetItem(pb.GetItemRequest(id=str(number))) for number in range(5)]
        assert sum([await asyncio.wait_for(settled(call, 4, calls), 20) for call in calls]) == 4
        items.go_on.set()
        await asyncio.gather(*calls, return_exceptions=True)
    await server.stop(0)


@pytest.mark.parametrize("workers", [1, 3])
async def test_blocking_work_has_as_many_threads_as_it_is_told(serve, workers):
    """What waits for a thread runs as soon as another is done, and no sooner."""
    server = serve(max_workers=workers)
    await server.start()
    go_on, entered = threading.Event(), []

    def block():
        entered.append(threading.current_thread())
        go_on.wait(30)

    tasks = [asyncio.create_task(asyncio.to_thread(block)) for _ in range(5)]
    try:
        async with asyncio.timeout(30):
            while len(entered) < workers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert len(entered) == workers
    finally:
        go_on.set()
        await asyncio.gather(*tasks)
        await server.stop(0)
    assert len(set(entered)) == workers
