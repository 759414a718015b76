"""A service whose methods differ in their limits, declared and served without generated code."""

import asyncio

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2

from meshwork.policy.v1 import policy_pb2

SERVICE = "grpc_common.tests.limits.v1.LimitedService"
ANYBODY = policy_pb2.Access(mode=policy_pb2.ACCESS_MODE_ANONYMOUS)


def declare(name, *, streams=True, **policies):
    """Put a service into the pool with one method per policy, bidirectional ones or unary ones."""
    package, _, service = name.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto",
        package=package,
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto", "meshwork/policy/v1/policy.proto"],
    )
    methods = file.service.add(name=service).method
    for method, policy in policies.items():
        policy.access.CopyFrom(ANYBODY)
        if not policy.HasField("timeout"):
            policy.timeout.FromSeconds(30)
        message = ".google.protobuf.Int32Value"
        declared = methods.add(
            name=method, input_type=message, output_type=message, client_streaming=streams, server_streaming=streams
        )
        declared.options.Extensions[policy_pb2.policy].CopyFrom(policy)
    descriptor_pool.Default().Add(file)


def short(milliseconds):
    policy = policy_pb2.Policy()
    policy.timeout.FromMilliseconds(milliseconds)
    return policy


declare(
    SERVICE,
    Plain=policy_pb2.Policy(),
    Batch=policy_pb2.Policy(priority=policy_pb2.PRIORITY_BATCH),
    Pair=policy_pb2.Policy(max_concurrent=2),
    Rated=policy_pb2.Policy(rate=policy_pb2.Rate(per_second=10, burst=3)),
    AlsoRated=policy_pb2.Policy(rate=policy_pb2.Rate(per_second=10, burst=3)),
    Short=short(200),
    Long=short(10_000),
)


class Gate:
    """Handlers that run until the gate opens, and how many there were at most."""

    def __init__(self, behavior=None):
        self.open = asyncio.Event()
        self.running = self.most = self.entered = 0
        self._behavior = behavior

    async def handle(self, requests, context):
        self.running += 1
        self.entered += 1
        self.most = max(self.most, self.running)
        try:
            async for request in requests:
                yield request
            if self._behavior is not None:
                await self._behavior(context)
            else:
                await self.open.wait()
        finally:
            self.running -= 1

    def register(self, server):
        handler = grpc.stream_stream_rpc_method_handler(
            self.handle, wrappers_pb2.Int32Value.FromString, wrappers_pb2.Int32Value.SerializeToString
        )
        names = ("Plain", "Batch", "Pair", "Rated", "AlsoRated", "Short", "Long")
        server.add_registered_method_handlers(SERVICE, {})
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, dict.fromkeys(names, handler)),))


def begin(channel, method, **options):
    """Start a call that sends nothing and half-closes."""
    call = channel.stream_stream(
        f"/{SERVICE}/{method}",
        request_serializer=wrappers_pb2.Int32Value.SerializeToString,
        response_deserializer=wrappers_pb2.Int32Value.FromString,
    )
    return call(iter(()), **options)
