"""A service of all four kinds with the policies a client cares about, and what makes calls of it."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from random import Random

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from grpc_common.client.calling import Calling
from grpc_common.client.channel import ClientChannel
from grpc_common.client.client_metrics import ClientMetrics
from grpc_common.client.connection import Connection
from grpc_common.client.factory import GRPCClientFactory
from grpc_common.client.retry_config import RetryConfig
from meshwork.policy.v1 import policy_pb2
from virtual_time import CLOCK

SERVICE = "grpc_common.tests.client.v1.ClientService"
CLIENT, MESH = policy_pb2.RETRY_OWNER_CLIENT, policy_pb2.RETRY_OWNER_MESH
READ, WRITE = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS, descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN
AGAIN = descriptor_pb2.MethodOptions.IDEMPOTENT

METHODS = {
    "Read": ("unary_unary", READ, CLIENT),
    "Put": ("unary_unary", AGAIN, CLIENT),
    "Write": ("unary_unary", WRITE, None),
    "MeshRead": ("unary_unary", READ, MESH),
    "Watch": ("unary_stream", READ, CLIENT),
    "Gather": ("stream_unary", AGAIN, CLIENT),
    "Talk": ("stream_stream", AGAIN, CLIENT),
    "Pour": ("stream_unary", WRITE, None),
    "Chat": ("stream_stream", WRITE, None),
    "List": ("unary_stream", READ, None),
}
ATTEMPTS = 4
TIMEOUT = 5.0


def path(name):
    return f"/{SERVICE}/{name}"


def declare():
    """Put the service into the pool."""
    package, _, service = SERVICE.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto",
        package=package,
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto", "meshwork/policy/v1/policy.proto"],
    )
    methods = file.service.add(name=service).method
    for name, (kind, level, owner) in METHODS.items():
        requests, _, replies = kind.partition("_")
        message = ".google.protobuf.StringValue"
        method = methods.add(
            name=name,
            input_type=message,
            output_type=message,
            client_streaming=requests == "stream",
            server_streaming=replies == "stream",
        )
        method.options.idempotency_level = level
        policy = method.options.Extensions[policy_pb2.policy]
        policy.access.mode = policy_pb2.ACCESS_MODE_ANONYMOUS
        policy.timeout.FromSeconds(int(TIMEOUT))
        if owner is not None:
            policy.retry.owner = owner
            policy.retry.max_attempts = ATTEMPTS
            policy.retry.backoff.initial.FromMilliseconds(10)
            policy.retry.backoff.max.FromMilliseconds(40)
    descriptor_pool.Default().Add(file)


declare()


class Stub:
    """What protoc would have generated."""

    def __init__(self, channel):
        for name, (kind, *_) in METHODS.items():
            make = getattr(channel, kind)
            setattr(self, name, make(path(name), StringValue.SerializeToString, StringValue.FromString))


class Server:
    """Serves the methods by `behaviors`, coroutine functions or generators by name, and counts what is entered."""

    def __init__(self, **behaviors):
        self.entered = Counter()
        self._behaviors = behaviors

    def register(self, server):
        handlers = {name: self._handler(name, behavior) for name, behavior in self._behaviors.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    def _handler(self, name, behavior):
        kind = METHODS[name][0]

        async def unary(request, context):
            self.entered[name] += 1
            return await behavior(request, context)

        async def stream(request, context):
            self.entered[name] += 1
            async for reply in behavior(request, context):
                yield reply

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            stream if kind.endswith("_stream") else unary, StringValue.FromString, StringValue.SerializeToString
        )


async def echo(request, context):
    return request


@asynccontextmanager
async def serving(server, *, port=0, interceptors=(), options=(), credentials=None):
    """Serve on loopback without our chain, so that statuses are what the behaviors say; yields the target."""
    running = grpc.aio.server(interceptors=list(interceptors), options=[("grpc.so_reuseport", 0), *options])
    server.register(running)
    address = f"127.0.0.1:{port}"
    taken = running.add_secure_port(address, credentials) if credentials else running.add_insecure_port(address)
    await running.start()
    try:
        yield f"localhost:{taken}" if credentials else f"127.0.0.1:{taken}"
    finally:
        await running.stop(None)


def make_factory(**arguments):
    """Return a factory with metrics of its own and pauses that are drawn the same each time."""
    return GRPCClientFactory(**{"registry": CollectorRegistry(), "random": Random(1), **arguments})  # noqa: S311


def over_script(channel, **retry):
    """Return a stub that calls `channel` in virtual time, and its connection."""
    metrics = ClientMetrics()
    retry = {"hedge_ratio": 0.0, **retry}
    breaker = retry.pop("breaker", None)
    more = {} if breaker is None else {"breaker": breaker}
    seed = retry.pop("seed", 1)
    calling = Calling(
        retry=RetryConfig(**retry),
        metrics=metrics,
        clock=CLOCK,
        random=Random(seed),  # noqa: S311  # to be repeated
        **more,
    )
    connection = Connection("scripted", channel, calling)

    async def release(grace):
        await connection.close(grace)

    return Stub(ClientChannel(connection, release)), connection


def text(value="x"):
    return StringValue(value=value)


async def settled(rounds=5):
    """Let what is ready run."""
    for _ in range(rounds):
        await asyncio.sleep(0)
