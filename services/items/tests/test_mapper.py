"""Items keep every field on the way to the wire and back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.errors import ValidationError
from items.item import Item, ItemChange, NewItem
from items.mapper import ItemMapper
from meshwork.items.v1 import items_service_pb2 as pb

texts = st.text(st.characters(codec="utf-8"))
times = st.datetimes(timezones=st.just(UTC))
entities = st.builds(
    Item,
    id=texts,
    name=texts,
    description=texts,
    sku=texts,
    quantity=st.integers(-(2**31), 2**31 - 1),
    price=st.floats(allow_nan=False),
    is_active=st.booleans(),
    created_at=times,
    updated_at=times,
    version=st.integers(-(2**63), 2**63 - 1),
)


@given(entities)
@settings(max_examples=300, deadline=None)
def test_an_item_survives_the_wire(item: Item) -> None:
    """**Feature: grpc-microservices-support, Property 2: Entity-Protobuf Mapper Consistency**"""
    mapper = ItemMapper()

    wire = mapper.to_proto(item).SerializeToString()

    assert mapper.from_proto(pb.Item.FromString(wire)) == item


@given(st.lists(entities, max_size=5))
@settings(max_examples=100, deadline=None)
def test_lists_keep_their_order(several: list[Item]) -> None:
    """**Feature: grpc-microservices-support, Property 2: Entity-Protobuf Mapper Consistency**"""
    mapper = ItemMapper()

    assert mapper.from_proto_list(mapper.to_proto_list(several)) == several


def test_every_field_of_the_message_is_mapped() -> None:
    fields = {field.name for field in pb.Item.DESCRIPTOR.fields}
    assert fields == {"etag" if field == "version" else field for field in Item.__dataclass_fields__}


def test_times_are_utc_to_the_microsecond() -> None:
    message = pb.Item()
    message.created_at.FromJsonString("2026-01-02T03:04:05.678901999+01:00")

    created_at = ItemMapper().from_proto(message).created_at

    assert created_at == datetime(2026, 1, 2, 2, 4, 5, 678901, tzinfo=UTC)
    assert created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("field", ["created_at", "updated_at"])
@pytest.mark.parametrize("seconds", [2**62, -(2**62), 253402300800])
def test_a_time_that_no_calendar_has_is_refused_by_its_name(field: str, seconds: int) -> None:
    message = pb.Item()
    getattr(message, field).seconds = seconds

    with pytest.raises(ValidationError) as refused:
        ItemMapper().from_proto(message)

    assert refused.value.field == field


def test_a_creation_says_all_that_the_request_says() -> None:
    request = pb.CreateItemRequest(name="Lamp", description="of brass", sku="L-1", quantity=3, price=9.5)

    assert ItemMapper().new_item(request) == NewItem(
        name="Lamp", description="of brass", sku="L-1", quantity=3, price=9.5
    )


def test_a_change_has_only_the_fields_that_are_present() -> None:
    mapper = ItemMapper()

    assert mapper.change(pb.UpdateItemRequest(id="1")) == ItemChange(id="1")
    assert mapper.change(pb.UpdateItemRequest(id="1", description="", quantity=0, price=0)) == ItemChange(
        id="1", description="", quantity=0, price=0.0
    )
    assert mapper.change(pb.UpdateItemRequest(id="1", name="Lamp")) == ItemChange(id="1", name="Lamp")
