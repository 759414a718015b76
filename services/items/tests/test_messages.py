"""Every message of the items API survives its own wire format."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwork.items.v1 import items_service_pb2

KINDS: dict[str, Descriptor] = dict(items_service_pb2.DESCRIPTOR.message_types_by_name)
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: st.text(st.characters(codec="utf-8")),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1),  # enums are open: a later version may send more
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
}


def messages(kind: Descriptor) -> st.SearchStrategy[Message]:
    """Messages of a kind with any of its fields set to anything."""
    fields = {field.name: values(field) for field in kind.fields if field.containing_oneof is None or optional(field)}
    one_of = [
        st.fixed_dictionaries({}, optional={field.name: values(field)})
        for group in kind.oneofs
        for field in group.fields
        if not optional(field)
    ]
    build: Callable[..., Message] = GetMessageClass(kind)
    chosen = st.one_of(one_of) if one_of else st.just({})
    return st.builds(lambda some, one: build(**some, **one), st.fixed_dictionaries({}, optional=fields), chosen)


def optional(field: FieldDescriptor) -> bool:
    return field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        return st.dictionaries(values(key), values(value), max_size=3)
    one = SCALARS[field.type] if field.message_type is None else messages(field.message_type)
    return st.lists(one, max_size=3) if field.is_repeated else one


@pytest.mark.parametrize(
    "kind", items_service_pb2.DESCRIPTOR.message_types_by_name.values(), ids=lambda kind: kind.name
)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_message_survives_the_wire(kind: Descriptor, data: st.DataObject) -> None:
    """**Feature: grpc-microservices-support, Property 1: Protobuf Message Round-Trip**"""
    message = data.draw(messages(kind))

    assert type(message).FromString(message.SerializeToString()) == message
