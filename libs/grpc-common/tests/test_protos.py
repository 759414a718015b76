"""The messages of the project keep everything on their way through bytes."""

import importlib
import struct
from pathlib import Path

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor as Field
from hypothesis import given, settings
from hypothesis import strategies as st

import meshwork
from meshwork.items.v1 import items_service_pb2

FILES = [
    importlib.import_module(".".join(("meshwork", *path.relative_to(root).with_suffix("").parts))).DESCRIPTOR
    for root in map(Path, meshwork.__path__)
    for path in sorted(root.rglob("*_pb2.py"))
]
"""Every generated module there is: a new one needs no line here."""


def with_nested(descriptor):
    yield descriptor
    for nested in descriptor.nested_types:
        if not nested.GetOptions().map_entry:
            yield from with_nested(nested)


MESSAGES = [each for file in FILES for message in file.message_types_by_name.values() for each in with_nested(message)]

FLOATS = st.floats(allow_nan=False, width=32)
INT32, UINT32 = st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)
INT64, UINT64 = st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1)
SCALARS = {
    Field.TYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    Field.TYPE_BYTES: st.binary(max_size=30),
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_DOUBLE: st.floats(allow_nan=False),
    Field.TYPE_FLOAT: FLOATS,
    Field.TYPE_INT32: INT32,
    Field.TYPE_SINT32: INT32,
    Field.TYPE_SFIXED32: INT32,
    Field.TYPE_INT64: INT64,
    Field.TYPE_SINT64: INT64,
    Field.TYPE_SFIXED64: INT64,
    Field.TYPE_UINT32: UINT32,
    Field.TYPE_FIXED32: UINT32,
    Field.TYPE_UINT64: UINT64,
    Field.TYPE_FIXED64: UINT64,
    Field.TYPE_ENUM: INT32,  # enums are open: a later version may send more
}


def values(field):
    return SCALARS[field.type] if field.message_type is None else messages(field.message_type)


def field_values(field):
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return st.dictionaries(values(key), values(value), max_size=3)
    return st.lists(values(field), max_size=3) if field.is_repeated else values(field)


def messages(descriptor):
    """Any of the fields set to anything; of those that exclude each other, at most one."""
    kind = message_factory.GetMessageClass(descriptor)
    groups = [group.fields for group in descriptor.oneofs if len(group.fields) > 1]
    exclusive = {field.name for group in groups for field in group}
    free = {field.name: field_values(field) for field in descriptor.fields if field.name not in exclusive}
    choices = [
        st.one_of(st.just({}), *(st.fixed_dictionaries({field.name: field_values(field)}) for field in group))
        for group in groups
    ]
    return st.tuples(st.fixed_dictionaries({}, optional=free), *choices).map(
        lambda parts: kind(**{name: value for part in parts for name, value in part.items()})
    )


def test_there_are_messages():
    assert {message.name for message in MESSAGES} >= {"Item", "ErrorDetail", "ErrorResponse", "Policy", "LoginRequest"}


@pytest.mark.parametrize("descriptor", MESSAGES, ids=lambda descriptor: descriptor.full_name)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_message_survives_bytes(descriptor, data):
    """**Feature: grpc-microservices-support, Property 1: Protobuf Message Round-Trip**"""
    message = data.draw(messages(descriptor))
    again = type(message).FromString(message.SerializeToString())
    assert again == message
    assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


def test_the_negative_zero_of_a_price_survives():
    item = items_service_pb2.Item(price=-0.0)
    again = type(item).FromString(item.SerializeToString())
    assert struct.pack("d", again.price) == struct.pack("d", -0.0)
