"""What has no policy, or one that makes no sense, is refused when it is registered and not when it is called."""

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2
from grpc import StatusCode

from grpc_common.policy import PolicyError
from grpc_common.registration import has_no_policy
from grpc_common.server import GRPCServer
from grpc_common.testing import in_process
from meshwork.items.v1 import items_service_pb2
from meshwork.policy.v1 import policy_pb2

ACCESS = policy_pb2.Access(mode=policy_pb2.ACCESS_MODE_ANONYMOUS)
GOOD = policy_pb2.Policy(access=ACCESS, timeout={"seconds": 5})
PACKAGE = "grpc_common.tests.registration.v1"
FOREIGN = "grpc.of.others.v1.Their"
HALF, NONE, BAD, NEVER = (f"{PACKAGE}.{name}" for name in ("Half", "None", "Bad", "Never"))
FEWER = f"{PACKAGE}.Fewer"
NEITHER = f"{PACKAGE}.NeitherDeclaredNorGenerated"
EMPTY = ".google.protobuf.Empty"


def declare(name, **policies):
    package, _, service = name.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto", package=package, syntax="proto3", dependency=["google/protobuf/empty.proto"]
    )
    if any(policies.values()):
        file.dependency.append("meshwork/policy/v1/policy.proto")
    methods = file.service.add(name=service).method
    for each, policy in policies.items():
        method = methods.add(name=each, input_type=EMPTY, output_type=EMPTY)
        if policy is not None:
            method.options.Extensions[policy_pb2.policy].CopyFrom(policy)
    descriptor_pool.Default().Add(file)


declare(HALF, First=GOOD, Second=None)
declare(NONE, First=None, Second=None)
declare(BAD, First=GOOD, Second=policy_pb2.Policy(access=ACCESS))
declare(FOREIGN, First=None, Second=None)
declare(FEWER, First=GOOD)


def handlers():
    async def answer(request, context):
        return request

    handler = grpc.unary_unary_rpc_method_handler(answer, empty_pb2.Empty.FromString, empty_pb2.Empty.SerializeToString)
    return {"First": handler, "Second": handler}


def generic(service):
    """Register as older generated code does."""
    return lambda server: server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers()),))


def registered(service):
    """Register as newer generated code does, besides."""
    return lambda server: server.add_registered_method_handlers(service, handlers())


async def by_server(register, **how):
    register(GRPCServer("127.0.0.1", 0, **how))


async def by_test_kit(register, **how):
    async with in_process(register, **how):
        pass


BOTH = pytest.mark.parametrize("served", [by_server, by_test_kit])


@BOTH
@pytest.mark.parametrize("way", [generic, registered])
@pytest.mark.parametrize(
    ("service", "sentences"),
    [
        (HALF, [f"/{HALF}/Second has no policy: give it `option (meshwork.policy.v1.policy)`"]),
        (NONE, [f"/{NONE}/First has no policy", f"/{NONE}/Second has no policy"]),
        (BAD, [f"/{BAD}/Second has no timeout: say how long a call may take"]),
        (FOREIGN, [f"/{FOREIGN}/First has no policy", f"/{FOREIGN}/Second has no policy"]),
        (FEWER, [f"/{FEWER}/Second is no method of its proto, so it can have no policy"]),
    ],
)
async def test_each_method_without_a_good_policy_is_named(served, way, service, sentences):
    with pytest.raises(PolicyError) as caught:
        await served(way(service))
    said = str(caught.value).split("\n")
    assert [line[: len(sentence)] for line, sentence in zip(said, sentences, strict=True)] == sentences


@BOTH
@pytest.mark.parametrize("way", [generic, registered])
@pytest.mark.parametrize("service", [HALF, NONE, FOREIGN, FEWER])
async def test_what_is_meant_to_have_none_needs_none(served, way, service):
    await served(way(service), without_policy=[service])


@BOTH
async def test_a_bad_policy_is_bad_there_too(served):
    with pytest.raises(PolicyError, match=r"Second has no timeout"):
        await served(generic(BAD), without_policy=[BAD])


@BOTH
async def test_that_of_another_service_is_not_meant(served):
    with pytest.raises(PolicyError, match=rf"or name {NONE} in `without_policy`"):
        await served(generic(NONE), without_policy=[FOREIGN, NONE.lower()])


async def test_a_foreign_service_is_served_where_it_is_meant():
    server = GRPCServer("127.0.0.1", 0, without_policy=[FOREIGN])
    registered(FOREIGN)(server)
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:
        assert await channel.unary_unary(f"/{FOREIGN}/First")(b"") == b""
        call = channel.unary_unary(f"/{FOREIGN}/Third")(b"")
        assert await call.code() is StatusCode.UNIMPLEMENTED
    await server.stop(0)


@BOTH
async def test_what_has_no_descriptor_can_have_none(served):
    await served(generic(NEITHER))


def test_what_is_served_without_is_known():
    (items,) = (each.full_name for each in items_service_pb2.DESCRIPTOR.services_by_name.values())
    served = [HALF, NONE, FOREIGN, NEITHER, items, "grpc.health.v1.Health"]
    assert [name for name in served if has_no_policy(name)] == [HALF, NONE, FOREIGN, NEITHER]
