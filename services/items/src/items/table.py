"""The tables of the service."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from grpc_common.database.column_types import UtcDateTime, code
from grpc_common.database.constraint_names import NAMES
from grpc_common.listing.page_token_secrets import page_token_secrets
from grpc_common.outbox.table import outbox_table
from items.item import DESCRIPTION_MAX, ID_MAX, NAME_MAX, SKU_MAX, Item


class ItemRow(SQLModel, table=True):
    """One item."""

    metadata = MetaData(naming_convention=NAMES)
    __tablename__ = "items"
    __table_args__ = (CheckConstraint("quantity >= 0", name="quantity"), CheckConstraint("price >= 0", name="price"))

    id: str = Field(sa_column=Column(code(ID_MAX), primary_key=True))
    name: str = Field(sa_type=String(NAME_MAX))
    description: str = Field(sa_type=String(DESCRIPTION_MAX))
    sku: str = Field(sa_column=Column(code(SKU_MAX), nullable=False, unique=True))
    quantity: int
    price: float = Field(sa_type=Double)
    is_active: bool
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    version: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("0")))


ITEMS: Table = ItemRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it and does not declare it


def row_of(item: Item) -> dict[str, Any]:
    """Returns the values of the item's row by column."""
    return {field: getattr(item, field) for field in _FIELDS}


def item_of(row: Row[Any]) -> Item:
    """Returns the item of a row with all columns of the table."""
    return Item(**row._mapping)  # noqa: SLF001  # a public name that cannot clash with a column


_FIELDS = tuple(Item.__dataclass_fields__)

CHANGES = Table(
    "item_changes",
    ItemRow.metadata,
    # Numbers are given when a change is written, positions once it is committed: see `changes`.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("position", BigInteger),
    Column("kind", String(8), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("item_id", code(ID_MAX), nullable=False),
    Column("name", String(NAME_MAX), nullable=False),
    Column("description", String(DESCRIPTION_MAX), nullable=False),
    Column("sku", code(SKU_MAX), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("price", Double, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("version", BigInteger, nullable=False),
    UniqueConstraint("position"),
    sqlite_autoincrement=True,  # a number is never given twice, also when the rows are gone
)
"""What happened to items, with each item as it was then."""

Index(
    "ix_item_changes_unplaced",
    CHANGES.c.number,
    postgresql_where=CHANGES.c.position.is_(None),
    sqlite_where=CHANGES.c.position.is_(None),
)

HEAD = Table(
    "item_changes_head",
    ItemRow.metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("placed", BigInteger, nullable=False),
    Column("trimmed", BigInteger, nullable=False),
)
"""One row: the last position given to a change, and the last one whose change is no longer kept."""

REQUESTS = Table(
    "item_requests",
    ItemRow.metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("body", LargeBinary(32), nullable=False),
    Column("item_id", code(ID_MAX), nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)
"""The requests to create an item that a repeat is known by, and which item each created, when."""

TOKEN_SECRETS = page_token_secrets("item_token_secrets", ItemRow.metadata)

OUTBOX = outbox_table("item_outbox", ItemRow.metadata, subject="item_id")
"""Events to be told to others, and those that were told a while ago."""
