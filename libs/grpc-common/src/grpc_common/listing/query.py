"""One list that a caller asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement

from grpc_common.listing.field import Field
from grpc_common.listing.order import Order, Position, after

FINGERPRINT_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows, in which order: `select(…).where(query.condition).order_by(*query.order_by)`."""

    condition: ColumnElement[bool]
    order: Order
    fingerprint: bytes
    """Tells this list from those with another filter, order or resource."""

    @property
    def order_by(self) -> tuple[ColumnElement[Any], ...]:
        """The parts of ORDER BY; no two rows stand alike."""
        return tuple(sorting.clause for sorting in self.order)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields the list is sorted by."""
        return tuple(sorting.field for sorting in self.order)

    def after(self, position: Position) -> ColumnElement[bool]:
        """Return the condition for the rows after the position."""
        return after(self.order, position)

    def position(self, row: Mapping[str, Any]) -> Position:
        """Return where a row stands, which is given as its values by the names of the fields."""
        return tuple(row[field.name] for field in self.fields)
