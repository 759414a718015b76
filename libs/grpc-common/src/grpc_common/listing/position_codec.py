"""Positions in an order as few bytes, so that they fit a page token."""

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

from grpc_common.listing.field import Field, Kind
from grpc_common.listing.literals import Value

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BITS: Final = 21  # of a code point
_UTF8, _PACKED = b"u", b"p"
_LENGTH: Final = struct.Struct(">H")


def encode_position(fields: Sequence[Field], position: Sequence[Value]) -> bytes:
    """Return the values, which are of these fields, one after the other."""
    return b"".join(_encode(field.kind, value) for field, value in zip(fields, position, strict=True))


def decode_position(fields: Sequence[Field], data: bytes) -> tuple[Value, ...]:
    """Return what `encode_position` was given; raise ValueError when it did not make `data` for these fields."""
    position = tuple(_decode(fields, memoryview(data)))
    if encode_position(fields, position) != data:
        raise ValueError("more than a position")
    return position


def most_bytes(field: Field) -> int:
    """Return how many bytes a value of the field takes at most."""
    if field.kind is not Kind.TEXT:
        return 8
    return _LENGTH.size + 1 + ((field.longest or 0) * _BITS + 8) // 8


def _encode(kind: Kind, value: Any) -> bytes:
    match kind:
        case Kind.TEXT:
            utf8, packed = value.encode(), _pack(value)
            form, text = (_UTF8, utf8) if len(utf8) <= len(packed) else (_PACKED, packed)
            return _LENGTH.pack(len(text)) + form + text
        case Kind.INTEGER | Kind.BOOLEAN:
            return struct.pack(">q", value)
        case Kind.NUMBER:
            return struct.pack(">d", value)
        case Kind.TIMESTAMP:
            return struct.pack(">q", (value - _EPOCH) // timedelta(microseconds=1))
    assert_never(kind)


def _decode(fields: Sequence[Field], data: memoryview) -> Iterator[Value]:
    for field in fields:
        size = 8
        if field.kind is Kind.TEXT:
            size, data = _LENGTH.unpack(data[: _LENGTH.size])[0] + 1, data[_LENGTH.size :]
        yield _value(field.kind, bytes(data[:size]))
        data = data[size:]


def _value(kind: Kind, data: bytes) -> Value:
    match kind:
        case Kind.TEXT:
            return data[1:].decode() if data[:1] == _UTF8 else _unpack(data[1:])
        case Kind.INTEGER:
            return int(struct.unpack(">q", data)[0])
        case Kind.BOOLEAN:
            return bool(struct.unpack(">q", data)[0])
        case Kind.NUMBER:
            return float(struct.unpack(">d", data)[0])
        case Kind.TIMESTAMP:
            return _EPOCH + timedelta(microseconds=struct.unpack(">q", data)[0])
    assert_never(kind)


def _pack(text: str) -> bytes:
    """A character has 21 bits, for which UTF-8 can take 32: with this, the longest string takes a third less room."""
    number = 1
    for character in text:
        number = number << _BITS | ord(character)
    return number.to_bytes((number.bit_length() + 7) // 8)


def _unpack(data: bytes) -> str:
    number, characters = int.from_bytes(data), list[str]()
    while number > 1:
        characters.append(chr(number & (1 << _BITS) - 1))
        number >>= _BITS
    return "".join(reversed(characters))
