"""What reaches a handler: messages that keep to their constraints, whatever a caller sends. Property R7."""

import asyncio
import math
import unicodedata
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.call import Method
from grpc_common.chain import Chain
from grpc_common.errors import ValidationError
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.validation import ValidationInterceptor
from grpc_common.testing import in_process
from grpc_common.validation.requests import each_request
from grpc_common.validation.validator import validator_of
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import (
    ItemServiceServicer,
    ItemServiceStub,
    add_ItemServiceServicer_to_server,
)

INJECTIONS = [
    "'; DROP TABLE items; --", "\" OR 1=1 --", "%27%20OR%201=1", "${jndi:ldap://x}", "{{7*7}}",
    "<script>alert(1)</script>",
    "../../etc/passwd", "a\x00b", "a\r\nSet-Cookie: x", "\x1b[31mred", "\u202etxt.exe", "\u200b", "A\u030a", "😀",
    "\ufeff", "\x7f",
    "\x85", "`id`", "|| true", "=1+1", "\\", "%s%n", "\t", "\n",
]  # fmt: skip
# Whether these can be seen is a matter of the font; those that are invisible everywhere are drawn apart.
DISPUTED = ("Cf", "Cn", "Co", "Cs", "Mc", "Me", "Mn")
INVISIBLE = "\u00ad\u0301\u200b\u200d\u202e\u2066\ufe0f\ufeff\u115f\u3164\uffa0\u2800"
TEXT = st.one_of(
    st.text(st.sampled_from(INVISIBLE + " \u3000a"), max_size=3),
    st.sampled_from(INJECTIONS),
    st.text(st.characters(exclude_categories=DISPUTED), max_size=20),
    st.text(st.sampled_from("aZ09._- é"), max_size=70),
    st.builds(lambda char, times: char * times, st.sampled_from("aé😀"), st.integers(0, 2_100)),
)
QUANTITY = st.one_of(st.sampled_from([0, -1, 2**31 - 1, -(2**31)]), st.integers(-(2**31), 2**31 - 1))
PRICE = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.5, -1e-300]))
CREATE = st.fixed_dictionaries({"name": TEXT, "description": TEXT, "sku": TEXT, "quantity": QUANTITY, "price": PRICE})
GOOD = {"name": "Teapot", "description": "", "sku": "TEA-1", "quantity": 1, "price": 2.5}


def has_controls(text: str, but: str = "") -> bool:
    return any(unicodedata.category(char) == "Cc" and char not in but for char in text)


def has_visible(text: str) -> bool:
    return any(unicodedata.category(char)[0] in "LNPS" and char not in INVISIBLE for char in text)


def bad_fields(values: dict) -> set[str]:
    """Says what the comments of the proto say, without reading its options."""
    rules = {
        "name": lambda value: 1 <= len(value) <= 200 and not has_controls(value) and has_visible(value),
        "description": lambda value: len(value) <= 2_000 and not has_controls(value, "\t\n\r"),
        "sku": lambda value: (
            1 <= len(value) <= 64 and all(char.isascii() and (char.isalnum() or char in "._-") for char in value)
        ),
        "quantity": lambda value: value >= 0,
        "price": lambda value: math.isfinite(value) and value >= 0,
        "id": lambda value: 1 <= len(value) <= 64 and not has_controls(value) and value not in (".", ".."),
    }
    return {field for field, value in values.items() if not rules[field](value)}


class Recorder(ItemServiceServicer):
    """Keeps the requests its handlers saw."""

    def __init__(self) -> None:
        self.seen: list = []
        self.refused: list[ValidationError] = []

    async def GetItem(self, request, context):
        self.seen.append(request)
        return pb.Item(id=request.id)

    async def CreateItem(self, request, context):
        self.seen.append(request)
        return pb.Item(name=request.name, description=request.description, sku=request.sku)

    async def DeleteItem(self, request, context):
        return Empty()

    async def ListItems(self, request, context):
        self.seen.append(request)
        yield pb.Item()

    async def BatchCreateItems(self, request_iterator, context):
        async for request in each_request(request_iterator):
            (self.refused if isinstance(request, ValidationError) else self.seen).append(request)
        return pb.BatchCreateResponse(created_count=len(self.seen))

    async def SyncItems(self, request_iterator, context):
        async for request in request_iterator:
            self.seen.append(request)
            yield pb.ItemSyncResponse(success=True)


class Reader(Recorder):
    """Reads from the context instead of the iterator."""

    async def BatchCreateItems(self, request_iterator, context):
        while (request := await context.read()) is not grpc.aio.EOF:
            self.seen.append(request)
        return pb.BatchCreateResponse(created_count=len(self.seen))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def items(recorder) -> AsyncIterator[ItemServiceStub]:
    async with serving(recorder) as channel:
        yield ItemServiceStub(channel)


def serving(servicer: Recorder):
    chain = Chain([ErrorInterceptor(), ValidationInterceptor()])
    return in_process(lambda server: add_ItemServiceServicer_to_server(servicer, server), [chain])


def violations(error: grpc.aio.AioRpcError) -> list[tuple[str, str]]:
    trailers = dict(error.trailing_metadata())
    for detail in status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            return [(violation.field, violation.description) for violation in bad.field_violations]
    return []


async def refused(call) -> list[tuple[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    return violations(caught.value)


async def drain(call) -> list:
    return [message async for message in call]


@settings(max_examples=400, deadline=None)
@given(CREATE)
def test_r7_exactly_the_bad_fields_are_refused(values):
    validator = validator_of(pb.CreateItemRequest.DESCRIPTOR)
    request = pb.CreateItemRequest.FromString(pb.CreateItemRequest(**values).SerializeToString())
    found = validator.violations(request)
    assert {violation.field for violation in found} == bad_fields(values)
    for violation in found:
        assert violation.message.isprintable()


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {"id": TEXT}, optional={"name": TEXT, "description": TEXT, "quantity": QUANTITY, "price": PRICE}
    )
)
def test_r7_a_field_that_is_not_present_is_not_checked(values):
    found = validator_of(pb.UpdateItemRequest.DESCRIPTOR).violations(pb.UpdateItemRequest(**values))
    assert {violation.field for violation in found} == bad_fields(values)


def test_r7_injections_arrive_as_they_were_sent_or_not_at_all():
    """**Feature: grpc-code-review, Property 10: Protobuf Message Validation**"""

    async def send(values):
        try:
            reply = await stub.CreateItem(pb.CreateItemRequest(**values))
        except grpc.aio.AioRpcError as error:
            assert error.code() is StatusCode.INVALID_ARGUMENT
            assert {field for field, _ in violations(error)} == bad_fields(values)
            assert bad_fields(values)
            assert not servicer.seen
        else:
            assert not bad_fields(values)
            assert (reply.name, reply.description, reply.sku) == (values["name"], values["description"], values["sku"])
            assert servicer.seen.pop() == pb.CreateItemRequest(**values)

    @settings(max_examples=200, deadline=None)
    @given(CREATE)
    def property_(values):
        runner.run(send(values))

    servicer = Recorder()
    with asyncio.Runner() as runner:
        server = serving(servicer)
        stub = ItemServiceStub(runner.run(server.__aenter__()))
        property_()
        runner.run(server.__aexit__(None, None, None))


async def test_all_violations_are_told_at_once(items, recorder):
    found = await refused(items.CreateItem(pb.CreateItemRequest(sku="a b", quantity=-1, price=math.inf)))
    assert found == [
        ("name", "must be 1 to 200 characters long, not 0"),
        ("sku", "must contain only 'A' to 'Z', 'a' to 'z', '0' to '9', '.', '_' and '-'"),
        ("quantity", "must be 0 or more"),
        ("price", "must be a finite number"),
    ]
    assert not recorder.seen


async def test_the_value_is_not_repeated(items):
    secret = "hunter2\x00" * 40
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await items.CreateItem(pb.CreateItemRequest(**(GOOD | {"name": secret, "sku": secret})))
    assert "hunter2" not in repr(caught.value)
    assert not any(b"hunter2" in value for _, value in caught.value.trailing_metadata() if isinstance(value, bytes))


async def test_a_server_stream_is_refused_before_it_begins(items, recorder):
    assert await refused(drain(items.ListItems(pb.ListItemsRequest(page_size=-1)))) == [
        ("page_size", "must be 0 or more")
    ]
    assert not recorder.seen
    assert len(await drain(items.ListItems(pb.ListItemsRequest()))) == 1


async def test_a_bad_message_of_a_stream_is_named_by_its_place_and_ends_the_call(items, recorder):
    requests = [
        pb.ItemSyncRequest(delete_id="a"),
        pb.ItemSyncRequest(upsert=pb.Item(sku="a", price=-1)),
        pb.ItemSyncRequest(),
    ]
    assert await refused(drain(items.SyncItems(iter(requests)))) == [
        ("[1].upsert.name", "must be 1 to 200 characters long, not 0"),
        ("[1].upsert.price", "must be 0 or more"),
    ]
    assert recorder.seen == requests[:1]


async def test_a_oneof_without_a_choice_is_named(items):
    assert await refused(drain(items.SyncItems(iter([pb.ItemSyncRequest()])))) == [
        ("[0].action", "one of upsert, delete_id must be given")
    ]


async def test_a_handler_may_answer_each_bad_message_and_read_on(items, recorder):
    good, bad = pb.CreateItemRequest(**GOOD), pb.CreateItemRequest(**(GOOD | {"price": -1}))
    reply = await items.BatchCreateItems(iter([bad, good, bad, good]))
    assert reply.created_count == 2
    assert [error.field for error in recorder.refused] == ["[0].price", "[2].price"]


async def test_messages_read_from_the_context_are_checked_too():
    async with serving(Reader()) as channel:
        items = ItemServiceStub(channel)
        good, bad = pb.CreateItemRequest(**GOOD), pb.CreateItemRequest(**(GOOD | {"price": -1}))
        assert (await items.BatchCreateItems(iter([good, good]))).created_count == 2
        assert await refused(items.BatchCreateItems(iter([good, bad]))) == [("[1].price", "must be 0 or more")]


def test_a_method_without_constraints_is_left_as_it_is():
    method = Method("/nobody.Knows/It", "nobody.Knows", "It", request_streaming=False, response_streaming=False)
    assert ValidationInterceptor().wrap(method, bad_fields) is bad_fields
