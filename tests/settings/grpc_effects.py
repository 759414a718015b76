"""What the settings of serving and calling gRPC do."""

import asyncio
import ipaddress
import time
from contextlib import asynccontextmanager, suppress
from random import Random

import grpc
import pydantic
import pytest
from cryptography import x509
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from authority import Authority
from client_kit import Server, Stub, echo, serving, text
from effects import shows
from grpc_common.chain import Chain
from grpc_common.client.clock import Clock
from grpc_common.client.factory import GRPCClientFactory
from grpc_common.client.remote_error import CircuitOpenError, RemoteError
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.server import GRPCServer
from grpc_common.settings import (
    ClientTLSSettings,
    GRPCClientSettings,
    GRPCServerSettings,
    GRPCSettings,
    SettingsError,
    TLSSettings,
)
from localmesh import ports

SERVER, CLIENT = GRPCServerSettings, GRPCClientSettings
PATIENCE = 20.0
NEVER = 600.0
SERVICE = "settings.effects.v1.PlainService"


def _declare():
    """A service without policies, which only servers of others have: there settings say what no policy says."""
    file = descriptor_pb2.FileDescriptorProto(
        name="settings/effects/v1.proto",
        package="settings.effects.v1",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    message = ".google.protobuf.StringValue"
    method = file.service.add(name="PlainService").method.add(name="Get", input_type=message, output_type=message)
    method.options.idempotency_level = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    descriptor_pool.Default().Add(file)


_declare()


def get(channel, **how):
    return channel.unary_unary(f"/{SERVICE}/Get", StringValue.SerializeToString, StringValue.FromString)(text(), **how)


class Plain:
    """A server of the method without a policy; notes the time that each call was given."""

    def __init__(self, behavior=echo):
        self.given = []
        self._behavior = behavior

    async def get(self, request, context):
        self.given.append(context.time_remaining())
        return await self._behavior(request, context)

    def register(self, server):
        handler = grpc.unary_unary_rpc_method_handler(self.get, StringValue.FromString, StringValue.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Get": handler}),))


# The server.


@asynccontextmanager
async def started(register=None, interceptors=None, health=None, **settings):
    """A server as the settings describe it, on a free port unless they say another."""
    described = SERVER(enabled=True, **{"host": "127.0.0.1", "port": 0, **settings})
    server = GRPCServer.from_settings(described, interceptors, health)
    if register is not None:
        register(server)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


async def status_of(channel, service=""):
    """What health says, or the status with which it says nothing."""
    try:
        reply = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE
        )
    except grpc.aio.AioRpcError as error:
        return error.code()
    return reply.status


SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health_at(target):
    async with grpc.aio.insecure_channel(target) as channel:
        return await status_of(channel)


@shows(SERVER, "host", "plaintext")
async def host(folder):
    async with started(host="127.0.0.2", plaintext="behind-mesh") as server:
        assert await health_at(f"127.0.0.2:{server.port}") == SERVING
        assert await health_at(f"127.0.0.1:{server.port}") is StatusCode.UNAVAILABLE
    with pytest.raises(pydantic.ValidationError, match="behind-mesh"):
        SERVER(enabled=True, host="127.0.0.2")
    with pytest.raises(SettingsError, match="behind-mesh"):
        await GRPCServer.from_settings(SERVER(host="127.0.0.2", port=0)).start()


@shows(SERVER, "port")
async def port(folder):
    for wanted in (ports.free_port(), ports.free_port()):
        async with started(port=wanted):
            assert await health_at(f"127.0.0.1:{wanted}") == SERVING


@shows(SERVER, "unix_socket")
async def unix_socket(folder):
    async with started(unix_socket=folder / "s") as server:
        assert server.target == f"unix:{folder / 's'}"
        assert await health_at(server.target) == SERVING


@shows(SERVER, "max_concurrent_rpcs")
async def max_concurrent_rpcs(folder):
    for limit in (1, 3):
        for interceptors in (None, [], [Chain([ErrorInterceptor()])]):
            goes_on = asyncio.Event()

            async def wait(request, context, goes_on=goes_on):
                await goes_on.wait()
                return request

            async with (
                started(Server(Write=wait).register, interceptors, max_concurrent_rpcs=limit) as server,
                grpc.aio.insecure_channel(server.target) as channel,
            ):
                calls = [asyncio.ensure_future(_code(write(channel))) for _ in range(5)]
                async with asyncio.timeout(PATIENCE):
                    while sum(call.done() for call in calls) < 5 - limit:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                goes_on.set()
                codes = await asyncio.gather(*calls)
            assert codes.count(StatusCode.OK) == limit
            assert codes.count(StatusCode.RESOURCE_EXHAUSTED) == 5 - limit


def write(channel):
    """A call of a method that has a policy, which our servers ask for."""
    return Stub(channel).Write(text(), timeout=PATIENCE)


async def _code(call):
    with suppress(grpc.aio.AioRpcError):
        await call
    return await call.code()


@shows(SERVER, "reflection_enabled")
async def reflection_enabled(folder):
    for enabled in (True, False):
        async with started(reflection_enabled=enabled) as server, grpc.aio.insecure_channel(server.target) as channel:
            asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(asked), timeout=PATIENCE)
            with suppress(grpc.aio.AioRpcError):
                async for _ in call:
                    pass
            assert await call.code() is (StatusCode.OK if enabled else StatusCode.UNIMPLEMENTED)


@shows(SERVER, "health_check_enabled")
async def health_check_enabled(folder):
    async with started(health_check_enabled=True) as server:
        assert await health_at(server.target) == SERVING
    async with started(health_check_enabled=False) as server:
        assert await health_at(server.target) is StatusCode.UNIMPLEMENTED


@shows(SERVER, "max_connection_age_seconds")
async def max_connection_age_seconds(folder):
    peers = set()

    async def note(request, context):
        peers.add(context.peer())
        return request

    for age, anew in ((1.0, True), (None, False)):
        peers.clear()
        async with (
            started(Server(Write=note).register, max_connection_age_seconds=age) as server,
            grpc.aio.insecure_channel(server.target) as channel,
        ):
            end = time.monotonic() + 4
            while time.monotonic() < end:
                with suppress(grpc.aio.AioRpcError):  # one that is told to go as the call comes
                    await write(channel)
                await asyncio.sleep(0.05)
        assert (len(peers) > 1) is anew


@shows(SERVER, "lame_duck_seconds")
async def lame_duck_seconds(folder):
    async with (
        started(Server(Write=echo).register, lame_duck_seconds=2.0) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        assert await status_of(channel) == SERVING
        began = time.monotonic()
        stopping = asyncio.ensure_future(server.stop(0))
        async with asyncio.timeout(PATIENCE):
            while await status_of(channel) == SERVING:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if time.monotonic() - began < 1.5:  # where nothing has stalled
            assert (await write(channel)) == text()
        await stopping
        assert time.monotonic() - began >= 2.0
        assert await _code(write(channel)) is not StatusCode.OK


# TLS.

NAMES = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]


class Files:
    """Certificates of two authorities."""

    def __init__(self, folder):
        self._folder = folder
        self.ours, self.theirs = Authority("ours"), Authority("theirs")
        for name, authority in (("ours", self.ours), ("theirs", self.theirs)):
            (folder / f"{name}.ca").write_bytes(authority.pem)
            self.issue(name, authority, NAMES)

    def issue(self, name, authority, names):
        for part, content in zip(("pem", "key"), authority.issue(names), strict=True):
            (self._folder / f"{name}.{part}").write_bytes(content)

    def __call__(self, name):
        return self._folder / name


async def _health_by_tls(target, tls):
    """What health says to a client of these settings."""
    async with GRPCClientFactory(tls=tls, registry=CollectorRegistry()) as factory:
        stub = health_pb2_grpc.HealthStub(await factory.create_channel(target))
        try:
            return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)).status
        except RemoteError as error:
            return error.code()


@shows(SERVER, "tls")
@shows(TLSSettings, "cert", "key")
async def server_tls(folder):
    files = Files(folder)
    for name, other in (("ours", "theirs"), ("theirs", "ours")):
        tls = TLSSettings(cert=files(f"{name}.pem"), key=files(f"{name}.key"))
        async with started(tls=tls) as server:
            assert await _health_by_tls(server.target, ClientTLSSettings(ca=files(f"{name}.ca"))) == SERVING
            wrong = await _health_by_tls(server.target, ClientTLSSettings(ca=files(f"{other}.ca")))
            assert wrong is StatusCode.UNAVAILABLE
    with pytest.raises(SettingsError, match="key"):
        async with started(tls=TLSSettings(cert=files("ours.pem"), key=files("theirs.key"))):
            pass


@shows(TLSSettings, "client_ca")
@shows(ClientTLSSettings, "cert", "key")
@shows(CLIENT, "tls")
async def mutual_tls(folder):
    files = Files(folder)
    tls = TLSSettings(cert=files("ours.pem"), key=files("ours.key"), client_ca=files("theirs.ca"))
    async with started(tls=tls) as server:
        for name, expected in (("theirs", SERVING), ("ours", StatusCode.UNAVAILABLE), (None, StatusCode.UNAVAILABLE)):
            own = {"cert": files(f"{name}.pem"), "key": files(f"{name}.key")} if name else {}
            settings = CLIENT(tls=ClientTLSSettings(ca=files("ours.ca"), **own))
            async with from_settings(settings) as factory:
                channel = await factory.create_channel(server.target)
                assert await _remote_status(channel) == expected


async def _remote_status(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)).status
    except RemoteError as error:
        return error.code()


@shows(ClientTLSSettings, "ca")
async def client_ca(folder):
    files = Files(folder)
    async with started(tls=TLSSettings(cert=files("ours.pem"), key=files("ours.key"))) as server:
        assert await _health_by_tls(server.target, ClientTLSSettings(ca=files("ours.ca"))) == SERVING
        assert await _health_by_tls(server.target, ClientTLSSettings(ca=files("theirs.ca"))) is StatusCode.UNAVAILABLE
        assert await _health_by_tls(server.target, ClientTLSSettings()) is StatusCode.UNAVAILABLE


@shows(ClientTLSSettings, "server_name")
async def server_name(folder):
    files = Files(folder)
    files.issue("named", files.ours, [x509.DNSName("items.mesh")])
    async with started(tls=TLSSettings(cert=files("named.pem"), key=files("named.key"))) as server:
        named = ClientTLSSettings(ca=files("ours.ca"), server_name="items.mesh")
        assert await _health_by_tls(server.target, named) == SERVING
        assert await _health_by_tls(server.target, ClientTLSSettings(ca=files("ours.ca"))) is StatusCode.UNAVAILABLE


# The client.


def from_settings(settings, **more):
    return GRPCClientFactory.from_settings(settings, **{"registry": CollectorRegistry(), **more})


@asynccontextmanager
async def calling(register, settings, **more):
    """A channel as the settings describe it, to a server of what `register` adds."""
    running = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    register(running)
    target = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    await running.start()
    async with from_settings(settings, **more) as factory:
        yield await factory.create_channel(target, secure=False)
    await running.stop(None)


async def refuse(request, context):
    await context.abort(StatusCode.UNAVAILABLE, "down")


@shows(CLIENT, "default_timeout")
async def default_timeout(folder):
    for seconds in (50.0, 500.0):
        plain = Plain()
        async with calling(plain.register, CLIENT(default_timeout=seconds)) as channel:
            await get(channel)
        assert seconds - PATIENCE < plain.given[0] <= seconds + 1  # core rounds up


@shows(CLIENT, "max_retries")
async def max_retries(folder):
    for retries in (0, 1, 3):
        plain = Plain(refuse)
        settings = CLIENT(max_retries=retries, retry_backoff_base=0.001, retry_backoff_max=0.002)
        async with calling(plain.register, settings) as channel:
            with pytest.raises(RemoteError):
                await get(channel, timeout=PATIENCE)
        assert len(plain.given) == 1 + retries


class Widest(Random):
    """Draws the upper bound."""

    def uniform(self, a, b):
        return b


@shows(CLIENT, "retry_backoff_base", "retry_backoff_max")
async def retry_backoff(folder):
    for base, most, expected in ((0.5, 10.0, [0.5, 1.0, 2.0]), (3.0, 10.0, [3, 6, 10]), (3.0, 4.0, [3, 4, 4])):
        pauses = []

        async def sleep(seconds, pauses=pauses):
            pauses.append(seconds)

        settings = CLIENT(retry_backoff_base=base, retry_backoff_max=most)
        more = {"clock": Clock(sleep=sleep), "random": Widest()}
        async with calling(Plain(refuse).register, settings, **more) as channel:
            with pytest.raises(RemoteError):
                await get(channel, timeout=NEVER)
        assert pauses == expected


@shows(CLIENT, "retry_budget_ratio")
async def retry_budget_ratio(folder):
    attempts = {}
    for ratio in (0.0, 1.0):
        calls = 0

        async def every_other(request, context):
            nonlocal calls
            calls += 1
            if calls % 2:
                await refuse(request, context)
            return request

        settings = CLIENT(
            max_retries=1,
            retry_budget_ratio=ratio,
            retry_backoff_base=0.001,
            retry_backoff_max=0.001,
            circuit_breaker_threshold=1000,
        )
        async with calling(Plain(every_other).register, settings) as channel:
            for _ in range(300):
                with suppress(RemoteError):
                    await get(channel, timeout=PATIENCE)
        attempts[ratio] = calls
    # Each call fails once and is repeated as long as the budget lasts: for ever where answers fill it again.
    assert attempts[1.0] == 600
    assert attempts[0.0] < 600


@shows(CLIENT, "hedge_ratio", "hedge_delay")
async def hedging(folder):
    for ratio, delay, hedged in ((1.0, 0.01, True), (0.0, 0.01, False), (1.0, NEVER, False)):
        first, entered = asyncio.Event(), []

        async def slow_first(request, context, first=first, entered=entered):
            entered.append(request)
            if len(entered) == 1:
                await first.wait()
            return request

        kit = Server(Read=slow_first)
        settings = CLIENT(hedge_ratio=ratio, hedge_delay=delay)
        async with serving(kit) as target, from_settings(settings) as factory:
            stub = Stub(await factory.create_channel(target, secure=False))
            call = asyncio.ensure_future(stub.Read(text(), timeout=PATIENCE))
            done, _ = await asyncio.wait([call], timeout=PATIENCE / 2 if hedged else 1.0)
            assert bool(done) is hedged
            assert len(entered) == 1 + hedged
            first.set()
            await call


@shows(CLIENT, "circuit_breaker_threshold", "circuit_breaker_timeout")
async def circuit_breaker(folder):
    for threshold, timeout in ((2, 50.0), (4, 500.0)):
        now = 1000.0
        plain = Plain(refuse)
        settings = CLIENT(max_retries=0, circuit_breaker_threshold=threshold, circuit_breaker_timeout=timeout)
        async with calling(plain.register, settings, clock=Clock(now=lambda: now)) as channel:  # noqa: B023
            for _ in range(threshold + 2):
                with pytest.raises(RemoteError) as caught:
                    await get(channel, timeout=PATIENCE)
            assert isinstance(caught.value, CircuitOpenError)
            assert len(plain.given) == threshold
            now += timeout - 1
            with pytest.raises(CircuitOpenError):
                await get(channel, timeout=PATIENCE)
            now += 2
            with pytest.raises(RemoteError):
                await get(channel, timeout=PATIENCE)
            assert len(plain.given) == threshold + 1


@shows(CLIENT, "behind_sidecar")
async def behind_sidecar(folder):
    for behind, reached in ((False, 2), (True, 1)):
        one, two = Plain(), Plain()
        async with (
            serving(one) as first,
            serving(two) as second,
            from_settings(CLIENT(behind_sidecar=behind)) as factory,
        ):
            channel = await factory.create_channel(f"ipv4:{first},{second}", secure=False)
            async with asyncio.timeout(PATIENCE):
                for _ in range(200):
                    await get(channel, timeout=PATIENCE)
                    if one.given and two.given:
                        break
        assert sum(bool(each.given) for each in (one, two)) == reached


@shows(CLIENT, "health_check")
async def health_check(folder):
    for minds in (False, True):
        plain, health = Plain(), health_pb2_grpc

        class Ill(health_pb2_grpc.HealthServicer):
            async def Watch(self, request, context):
                yield health_pb2.HealthCheckResponse(status=NOT_SERVING)
                await asyncio.Event().wait()

        def register(server, plain=plain, health=health, ill=Ill):
            plain.register(server)
            health.add_HealthServicer_to_server(ill(), server)

        async with calling(register, CLIENT(health_check=minds, max_retries=0)) as channel:
            with suppress(RemoteError):
                await get(channel, timeout=2.0 if minds else PATIENCE)
        assert bool(plain.given) is not minds


@shows(GRPCSettings, "server", "client")
async def both_sides(folder):
    settings = GRPCSettings(
        server={"health_check_enabled": False, "host": "127.0.0.1", "port": 0}, client={"default_timeout": 500}
    )
    server = GRPCServer.from_settings(settings.server)
    await server.start()
    assert await health_at(server.target) is StatusCode.UNIMPLEMENTED
    await server.stop(0)
    plain = Plain()
    async with calling(plain.register, settings.client) as channel:
        await get(channel)
    assert plain.given[0] > 400
