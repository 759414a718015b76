"""Items as bytes for the cache."""

from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from items.item import Item

_FORM: Final = b"1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TIMES: Final = ("created_at", "updated_at")
_FIELDS: Final = tuple(Item.__dataclass_fields__)

NOTHING: Final = _FORM
"""Stands for: there is no such item."""


def encode(item: Item) -> bytes:
    """Returns the item as bytes, without loss."""
    values = dict(zip(_FIELDS, astuple(item), strict=True))
    for name in _TIMES:
        values[name] = (values[name] - _EPOCH) // _MICROSECOND
    return _FORM + orjson.dumps(values)


def decode(item_id: str, data: bytes) -> Item | None:
    """Returns the item, or None when the data say that there is none.

    Raises:
        ValueError: another version of the service wrote the data, or they are about another item.
    """
    if data == NOTHING:
        return None
    if not data.startswith(_FORM):
        raise ValueError("written by another version")
    values = orjson.loads(data[len(_FORM) :])
    if set(values) != set(_FIELDS) or values["id"] != item_id:
        raise ValueError("not this item, as it is here")
    for name in _TIMES:
        values[name] = _EPOCH + values[name] * _MICROSECOND
    return Item(**values)
