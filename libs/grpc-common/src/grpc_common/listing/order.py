"""Sorts lists: order_by of AIP-132, ended by a key, and the condition that goes on after a place in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, or_, tuple_

from grpc_common.errors import ValidationError
from grpc_common.listing.condition import bound
from grpc_common.listing.field import Field
from grpc_common.listing.literals import Value

MAX_LENGTH: Final = 500

_PART: Final = re.compile(r"\s*([^\s,]+)(?:\s+(asc|desc))?\s*", re.IGNORECASE)

type Order = tuple[Sorting, ...]
type Position = tuple[Value, ...]
"""Where a row stands in an order: its values of the fields it is sorted by."""


@dataclass(frozen=True, slots=True)
class Sorting:
    """A field to sort by, and which way."""

    field: Field
    descending: bool = False

    def __str__(self) -> str:
        return f"{self.field.name} desc" if self.descending else self.field.name

    @property
    def clause(self) -> ColumnElement[Any]:
        """The part of ORDER BY."""
        return self.field.column.desc() if self.descending else self.field.column.asc()


def read_order(text: str, fields: Mapping[str, Field], key: Field) -> Order:
    """Return the fields to sort by (`name, price desc`), ended by a unique one so that no two rows stand alike.

    Raises:
        ValidationError: for `order_by`, naming what is wrong and what may be written.
    """
    if len(text) > MAX_LENGTH:
        raise ValidationError(f"has {len(text)} characters, and may have {MAX_LENGTH}", field="order_by")
    order: list[Sorting] = []
    for part in text.split(",") if text.strip() else ():
        sorting = _read_part(part, fields)
        if any(sorting.field is earlier.field for earlier in order):
            raise ValidationError(f"names {sorting.field.name} twice", field="order_by")
        order.append(sorting)
    return _ended(order, key)


def _read_part(part: str, fields: Mapping[str, Field]) -> Sorting:
    found = _PART.fullmatch(part)
    field = fields.get(found[1]) if found else None
    if found is None or field is None or not field.sortable:
        sortable = ", ".join(field.name for field in fields.values() if field.sortable)
        what = f"“{part.strip()[:40]}”"
        raise ValidationError(
            f"cannot sort by {what}: expected are fields out of {sortable}, each alone or with desc, between commas",
            field="order_by",
        )
    return Sorting(field, descending=(found[2] or "").lower() == "desc")


def _ended(order: Sequence[Sorting], key: Field) -> Order:
    """After a unique field nothing is left to decide: the key ends an order that has none."""
    for count, sorting in enumerate(order, start=1):
        if sorting.field.unique:
            return tuple(order[:count])
    return (*order, Sorting(key, descending=bool(order) and order[-1].descending))  # one way: an index serves it


def after(order: Order, position: Position) -> ColumnElement[bool]:
    """Return the condition for the rows that stand after `position`; an index on the order's columns serves it."""
    columns = [sorting.field.column for sorting in order]
    values = [bound(sorting.field, value) for sorting, value in zip(order, position, strict=True)]
    if len({sorting.descending for sorting in order}) == 1:
        row, place = tuple_(*columns), tuple_(*values)
        return row < place if order[0].descending else row > place
    return _after_mixed(order, values)


def _after_mixed(order: Sequence[Sorting], values: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
    """Row values go one way only: `a > :a OR (a = :a AND …)`, and `a >= :a` beside it, which an index understands."""
    column, value = order[0].field.column, values[0]
    beyond: ColumnElement[bool] = column < value if order[0].descending else column > value
    if len(order) == 1:
        return beyond
    near: ColumnElement[bool] = column <= value if order[0].descending else column >= value
    return and_(near, or_(beyond, _after_mixed(order[1:], values[1:])))
