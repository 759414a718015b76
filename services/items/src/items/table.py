"""The tables of the service."""

from datetime import UTC, datetime
from typing import override

from sqlalchemy import CheckConstraint, Column, DateTime, Dialect, Double, MetaData, String, Table
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from items.item import DESCRIPTION_MAX, ID_MAX, NAME_MAX, SKU_MAX

# `driver_errors` reads the field at fault from the name of the constraint.
NAMES = {
    "pk": "pk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, exact to the microsecond, also where the database knows no time zones (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Takes the time to UTC; a naive one would mean another moment on every machine."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value and value.astimezone(UTC)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Gives back the zone that SQLite leaves out."""
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


def _code(length: int) -> String:
    """A text that is compared byte by byte: PostgreSQL then sorts it as SQLite does, and fastest."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class ItemRow(SQLModel, table=True):
    """One item."""

    metadata = MetaData(naming_convention=NAMES)
    __tablename__ = "items"
    __table_args__ = (CheckConstraint("quantity >= 0", name="quantity"), CheckConstraint("price >= 0", name="price"))

    id: str = Field(sa_column=Column(_code(ID_MAX), primary_key=True))
    name: str = Field(sa_type=String(NAME_MAX))
    description: str = Field(sa_type=String(DESCRIPTION_MAX))
    sku: str = Field(sa_column=Column(_code(SKU_MAX), nullable=False, unique=True))
    quantity: int
    price: float = Field(sa_type=Double)
    is_active: bool
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


ITEMS: Table = ItemRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it and does not declare it
