"""The messages of the project keep everything on their way through bytes."""

import struct

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor as Field
from hypothesis import given, settings
from hypothesis import strategies as st

import meshwork.auth.v1.auth_service_pb2
import meshwork.common.v1.errors_pb2
import meshwork.items.v1.items_service_pb2
import meshwork.policy.v1.policy_pb2

FILES = [
    meshwork.auth.v1.auth_service_pb2,
    meshwork.common.v1.errors_pb2,
    meshwork.items.v1.items_service_pb2,
    meshwork.policy.v1.policy_pb2,
]
MESSAGES = [message for file in FILES for message in file.DESCRIPTOR.message_types_by_name.values()]

FLOATS = st.floats(allow_nan=False, width=32)
SCALARS = {
    Field.TYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    Field.TYPE_BYTES: st.binary(max_size=30),
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_DOUBLE: st.floats(allow_nan=False),
    Field.TYPE_FLOAT: FLOATS,
    Field.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    Field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    Field.TYPE_UINT32: st.integers(0, 2**32 - 1),
    Field.TYPE_UINT64: st.integers(0, 2**64 - 1),
}


def values(field):
    if field.type == Field.TYPE_MESSAGE:
        return messages(field.message_type)
    if field.type == Field.TYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.type]


def messages(descriptor):
    kind = message_factory.GetMessageClass(descriptor)
    fields = {}
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            fields[field.name] = st.dictionaries(values(key), values(value), max_size=3)
        elif field.is_repeated:
            fields[field.name] = st.lists(values(field), max_size=3)
        else:
            fields[field.name] = values(field)
    return st.fixed_dictionaries({}, optional=fields).map(lambda given_fields: kind(**given_fields))


def test_there_are_messages():
    assert {message.name for message in MESSAGES} >= {"Item", "ErrorDetail", "ErrorResponse", "Policy"}


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
    item = meshwork.items.v1.items_service_pb2.Item(price=-0.0)
    again = type(item).FromString(item.SerializeToString())
    assert struct.pack("d", again.price) == struct.pack("d", -0.0)
