"""An item, and what may become one."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from grpc_common.errors import FieldViolation, ValidationError

ID_MAX = 64
SKU_MAX = 64
NAME_MAX = 200
DESCRIPTION_MAX = 2_000
QUANTITY_MAX = 2**31 - 1

_NO_SEGMENTS = frozenset({".", ".."})
"""They lead elsewhere in every URL (RFC 3986 §5.2.4), percent-encoded, too."""
_SKU = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Lone surrogates are no text in UTF-8, and PostgreSQL refuses NUL.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNPRINTABLE_IN_PARAGRAPHS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

_VISIBLE = re.compile(
    r"[^\x00-\x20\x7f-\xa0\xad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u061c\u064b-\u065f\u115f-\u1160\u1680"
    r"\u17b4-\u17b5\u180b-\u180f\u1ab0-\u1aff\u1dc0-\u1dff\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    r"\u20d0-\u20ff\u2800\u3000\u3099-\u309a\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufe20-\ufe2f"
    r"\ufeff\uffa0\ufff0-\ufffb\ufffe-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U0010ffff]"
)
"""Neither a space nor of no width, combining, for private use or unassigned; the protos have the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A thing in stock, as it was when it was read. Times are aware, in UTC, exact to the microsecond."""

    id: str
    name: str
    description: str
    sku: str
    quantity: int
    price: float
    is_active: bool
    created_at: datetime
    updated_at: datetime
    version: int
    """Another one after every change, never one that an item of this id had before; greater than all of those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """What somebody says of an item that is to be. It cannot be made of bad values.

    Raises:
        ValidationError: naming every bad field.
    """

    name: str
    description: str
    sku: str
    quantity: int
    price: float

    def __post_init__(self) -> None:
        _refuse_bad(asdict(self))

    def become(self, item_id: str, now: datetime) -> Item:
        """Returns the item: on sale, created and last changed `now`."""
        return Item(
            id=item_id, **asdict(self), is_active=True, created_at=now, updated_at=now, version=first_version(now)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChange:
    """New values for some fields of one item; None leaves the field as it is. It cannot be made of bad values.

    Raises:
        ValidationError: naming every bad field.
    """

    id: str
    name: str | None = None
    description: str | None = None
    quantity: int | None = None
    price: float | None = None
    etag: str = ""
    """What the item must have; empty: any."""

    def __post_init__(self) -> None:
        _refuse_bad({"id": self.id, **self.values})

    @property
    def values(self) -> dict[str, Any]:
        """The fields that change, by name."""
        fields = {"name": self.name, "description": self.description, "quantity": self.quantity, "price": self.price}
        return {field: value for field, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeItem:
    """All that somebody may say of an item, to be created or replaced. It cannot be made of bad values.

    Raises:
        ValidationError: naming every bad field.
    """

    id: str
    name: str
    description: str
    sku: str
    quantity: int
    price: float
    is_active: bool
    etag: str = ""
    """What the item must have; empty: any, or no such item at all."""

    def __post_init__(self) -> None:
        _refuse_bad({"id": self.id, **self.values, "sku": self.sku})

    @property
    def values(self) -> dict[str, Any]:
        """The fields that may be replaced, by name."""
        texts = {"name": self.name, "description": self.description}
        return {**texts, "quantity": self.quantity, "price": self.price, "is_active": self.is_active}

    def become(self, now: datetime) -> Item:
        """Returns the item, created and last changed `now`."""
        return Item(id=self.id, sku=self.sku, **self.values, created_at=now, updated_at=now, version=first_version(now))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def first_version(now: datetime) -> int:
    """Returns the version of an item created `now`: the microsecond. An item with the id of a deleted one then has a
    greater version than that had, unless it changed every microsecond or the clock went back.
    """
    return (now - _EPOCH) // timedelta(microseconds=1)


def checked_id(value: str) -> str:
    """Returns the id when an item may have it: 1 to 64 printable characters that are not "." or "..".

    Raises:
        ValidationError: naming `id`.
    """
    _refuse_bad({"id": value})
    return value


def _refuse_bad(values: Mapping[str, Any]) -> None:
    violations = [FieldViolation(field, fault) for field, value in values.items() for fault in _faults(field, value)]
    if violations:
        raise ValidationError(violations=violations)


def _faults(field: str, value: Any) -> Iterator[str]:
    match field:
        case "id":
            yield from _text_faults(value, 1, ID_MAX, _UNPRINTABLE)
            if value in _NO_SEGMENTS:
                yield "must not be '.' or '..'"
        case "name":
            yield from tuple(_text_faults(value, 1, NAME_MAX, _UNPRINTABLE)) or _blank_faults(value)
        case "description":
            yield from _text_faults(value, 0, DESCRIPTION_MAX, _UNPRINTABLE_IN_PARAGRAPHS)
        case "sku":
            if not _SKU.fullmatch(value):
                yield "must be 1 to 64 characters out of letters, digits, '.', '_' and '-'"
        case "quantity":
            if not 0 <= value <= QUANTITY_MAX:
                yield f"must be 0 to {QUANTITY_MAX}"
        case "price":
            if not (math.isfinite(value) and value >= 0):
                yield "must be a finite number, 0 or more"


def _blank_faults(text: str) -> Iterator[str]:
    if not _VISIBLE.search(text):
        yield "must have a character that can be seen"


def _text_faults(text: str, least: int, most: int, unprintable: re.Pattern[str]) -> Iterator[str]:
    if not least <= len(text) <= most:
        yield f"must be {least} to {most} characters long, not {len(text)}"
    if found := unprintable.search(text):
        yield f"must not contain the character U+{ord(found[0]):04X}"
