"""What callers may filter and sort items by."""

from typing import Final

from grpc_common.listing.field import Field, Kind
from grpc_common.listing.listed import Listed
from items.table import CHANGES, ITEMS

ITEM_LIST: Final = Listed(
    [
        Field(name="id", column=ITEMS.c.id, kind=Kind.TEXT, unique=True),
        Field(name="name", column=ITEMS.c.name, kind=Kind.TEXT, searched=True),
        Field(name="description", column=ITEMS.c.description, kind=Kind.TEXT, searched=True, sortable=False),
        Field(name="sku", column=ITEMS.c.sku, kind=Kind.TEXT, unique=True),
        Field(name="quantity", column=ITEMS.c.quantity, kind=Kind.INTEGER),
        Field(name="price", column=ITEMS.c.price, kind=Kind.NUMBER),
        Field(name="is_active", column=ITEMS.c.is_active, kind=Kind.BOOLEAN, sortable=False),
        Field(name="created_at", column=ITEMS.c.created_at, kind=Kind.TIMESTAMP),
        Field(name="updated_at", column=ITEMS.c.updated_at, kind=Kind.TIMESTAMP),
    ],
    key="id",
)

CHANGE_LIST: Final = Listed(
    [Field(name="position", column=CHANGES.c.position, kind=Kind.INTEGER, unique=True)], key="position"
).query(resource="changes")
"""The one order that changes have."""
