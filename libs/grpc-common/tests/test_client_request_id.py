"""Writes that are safe to repeat only by their `request_id` (AIP-155) have one, the same in all attempts."""

import uuid

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from client_kit import make_factory
from grpc_common.client.call_plan import plan_of
from grpc_common.client.retry_config import RetryConfig
from grpc_common.testing import in_process
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc
from meshwork.policy.v1 import policy_pb2

ATTEMPTS = 3
SERVICE = "grpc_common.tests.orders.v1.OrderService"


def declare():
    """Put a service into the pool whose requests have a request_id, as a plain field or one that knows its presence."""
    package, _, service = SERVICE.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name="grpc_common/tests/orders/v1.proto",
        package=package,
        syntax="proto3",
        dependency=["meshwork/policy/v1/policy.proto"],
    )
    string, single = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    for name, number, optional in (("Plain", 6, False), ("Optional", 2000, True)):
        message = file.message_type.add(name=name)
        message.field.add(name="what", number=1, type=string, label=single)
        field = message.field.add(name="request_id", number=number, type=string, label=single)
        if optional:
            field.proto3_optional, field.oneof_index = True, 0
            message.oneof_decl.add(name="_request_id")
    methods = file.service.add(name=service).method
    for name in ("Plain", "Optional"):
        for streaming in (False, True):
            method = methods.add(
                name=f"{name}Stream" if streaming else name,
                input_type=f".{package}.{name}",
                output_type=f".{package}.{name}",
                client_streaming=streaming,
            )
            policy = method.options.Extensions[policy_pb2.policy]
            policy.access.mode = policy_pb2.ACCESS_MODE_ANONYMOUS
            policy.timeout.FromSeconds(30)
            policy.retry.owner = policy_pb2.RETRY_OWNER_CLIENT
            policy.retry.max_attempts = ATTEMPTS
            policy.retry.backoff.initial.FromMilliseconds(1)
            policy.retry.backoff.max.FromMilliseconds(1)
    descriptor_pool.Default().Add(file)
    return {
        name: message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(f"{package}.{name}"))
        for name in ("Plain", "Optional")
    }


MESSAGES = declare()


class Shop:
    """Fails all attempts of a call but the last, and notes the requests of each."""

    def __init__(self, refusals=ATTEMPTS - 1):
        self.attempts = []
        self._refusals = refusals

    def register(self, server):
        handlers = {}
        for name, message in MESSAGES.items():
            codec = {"request_deserializer": message.FromString, "response_serializer": message.SerializeToString}
            handlers[name] = grpc.unary_unary_rpc_method_handler(self._one, **codec)
            handlers[f"{name}Stream"] = grpc.stream_unary_rpc_method_handler(self._many, **codec)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _one(self, request, context):
        return await self._answer([request], context)

    async def _many(self, requests, context):
        return await self._answer([request async for request in requests], context)

    async def _answer(self, requests, context):
        self.attempts.append(requests)
        if len(self.attempts) % (self._refusals + 1):
            await context.abort(StatusCode.UNAVAILABLE, "again")
        return requests[0]

    def ids(self):
        """The ids of the requests of each attempt."""
        return [[request.request_id for request in requests] for requests in self.attempts]


async def bought(behavior):
    """Run `behavior` with a channel to a shop, and return the shop."""
    shop = Shop()
    server = grpc.aio.server()
    shop.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with make_factory() as factory:
            await behavior(await factory.create_channel(f"127.0.0.1:{port}", secure=False))
    finally:
        await server.stop(None)
    return shop


def method(channel, name, *, serialize=None):
    message = MESSAGES[name.removesuffix("Stream")]
    make = channel.stream_unary if name.endswith("Stream") else channel.unary_unary
    return make(f"/{SERVICE}/{name}", serialize or message.SerializeToString, message.FromString)


def is_random(text):
    return str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4


@pytest.mark.parametrize("name", MESSAGES)
async def test_an_empty_id_is_filled_once_per_call(name):
    given_ = [MESSAGES[name](what="x"), MESSAGES[name](what="x", request_id="")]
    before = [request.SerializeToString() for request in given_]

    async def buy(channel):
        for request in given_:
            assert (await method(channel, name)(request)).what == "x"

    shop = await bought(buy)
    first, second = shop.ids()[:ATTEMPTS], shop.ids()[ATTEMPTS:]
    assert len(first) == len(second) == ATTEMPTS
    assert first[0] * ATTEMPTS == [one for [one] in first]
    assert second[0] * ATTEMPTS == [one for [one] in second]
    assert first[0] != second[0]
    assert is_random(first[0][0])
    assert is_random(second[0][0])
    assert [request.SerializeToString() for request in given_] == before  # the caller's own


@pytest.mark.parametrize("name", MESSAGES)
async def test_an_id_of_the_callers_own_stays(name):
    async def buy(channel):
        await method(channel, name)(MESSAGES[name](what="x", request_id="mine"))

    assert (await bought(buy)).ids() == [["mine"]] * ATTEMPTS


@pytest.mark.parametrize("name", MESSAGES)
async def test_bytes_are_filled_as_well(name):
    async def buy(channel):
        plain = channel.unary_unary(f"/{SERVICE}/{name}")
        await plain(MESSAGES[name](what="x").SerializeToString())
        await plain(MESSAGES[name](what="x", request_id="mine").SerializeToString())
        with pytest.raises(ValueError, match=f"does not parse as {SERVICE.rpartition('.')[0]}.{name}"):
            await plain(b"\xff")

    ids = (await bought(buy)).ids()
    assert is_random(ids[0][0])
    assert ids == [ids[0]] * ATTEMPTS + [["mine"]] * ATTEMPTS


@pytest.mark.parametrize("form", ["list", "tuple", "iterator", "generator"])
@pytest.mark.parametrize("name", MESSAGES)
async def test_each_request_of_a_stream_has_its_own(name, form):
    given_ = [MESSAGES[name](what="a"), MESSAGES[name](what="b", request_id="mine"), MESSAGES[name](what="c")]

    async def generator():
        for request in given_:
            yield request

    async def buy(channel):
        source = {"list": given_, "tuple": tuple(given_), "iterator": iter(given_), "generator": generator()}[form]
        await method(channel, f"{name}Stream")(source)

    shop = await bought(buy)
    assert len(shop.attempts) == ATTEMPTS
    assert shop.ids() == [shop.ids()[0]] * ATTEMPTS
    first, second, third = shop.ids()[0]
    assert second == "mine"
    assert is_random(first)
    assert is_random(third)
    assert first != third
    assert [request.request_id for request in given_] == ["", "mine", ""]


async def test_the_items_service_never_creates_twice():
    """The policy of the real method: CreateItem without an id, over a server that loses its answer twice."""
    created = []

    class Losing(rpc.ItemServiceServicer):
        async def CreateItem(self, request, context):
            created.append(request.request_id)
            if len(created) < 3:
                await context.abort(StatusCode.UNAVAILABLE, "the answer is lost")
            return pb.Item(id="1", sku=request.sku)

    request = pb.CreateItemRequest(name="Mug", sku="mug")
    async with in_process(lambda server: rpc.add_ItemServiceServicer_to_server(Losing(), server)) as channel:
        item = await make_factory().create_stub(rpc.ItemServiceStub, channel).CreateItem(request)
    assert item.sku == "mug"
    assert created == [created[0]] * 3
    assert is_random(created[0])
    assert not request.request_id


@settings(max_examples=200)
@given(what=st.text(), own=st.text(), name=st.sampled_from(list(MESSAGES)), as_bytes=st.booleans())
def test_nothing_but_an_empty_id_is_touched(what, own, name, as_bytes):
    plan = plan_of(
        f"/{SERVICE}/{name}", request_streaming=False, response_streaming=False, default_timeout=1, retry=RetryConfig()
    )
    request = MESSAGES[name](what=what, request_id=own)
    raw = request.SerializeToString()
    filled = MESSAGES[name].FromString(plan.request_id.fill(raw if as_bytes else request, raw))
    assert filled.what == what
    assert filled.request_id == own if own else is_random(filled.request_id)


def test_only_what_is_repeated_and_not_idempotent_is_filled():
    def fills(path, **retry):
        kinds = {"request_streaming": False, "response_streaming": False}
        return plan_of(path, **kinds, default_timeout=1, retry=RetryConfig(**retry)).request_id is not None

    items = "/meshwork.items.v1.ItemService"
    assert fills(f"{items}/CreateItem")
    assert not fills(f"{items}/GetItem")
    assert not fills(f"{items}/UpdateItem")
    assert not fills(f"{items}/BatchCreateItems")  # has the field, and nobody repeats it
    assert not fills("/no.such/Method")
